"""The simulation of a study on a cluster: what follows from arithmetic."""

import numpy as np
import pytest

from experiments.simulate_cluster import (
    CPU,
    RATE,
    Device,
    Options,
    duration,
    find_device,
    main,
    paper_networks,
    simulate,
)
from twostage_jax.study.jobs import make_groups
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

START = 100.0


@pytest.fixture(scope="module")
def groups():
    return make_groups(paper_networks(["baseline", "is_rus"])[:40], 4, 32)


@pytest.fixture(scope="module")
def seconds(groups):
    return {own: duration(own, CPU, Protocol(), 10.0) for own in groups}


def finish(groups, seconds, devices, **options) -> float:
    return simulate(groups, seconds, devices, 20, start=START, **options)


def test_a_device_does_one_group_after_another_and_many_are_bound_by_the_longest(groups, seconds):
    total, longest = sum(seconds.values()), max(seconds.values())
    assert finish(groups, seconds, 1) == pytest.approx(START + total)
    assert finish(groups, seconds, 1000) == pytest.approx(START + longest)
    assert START + total / 3 <= finish(groups, seconds, 3) <= START + total / 3 + longest


def test_losses_cost_time_and_checkpoints_win_some_back(groups, seconds):
    none, resumed, anew = (
        np.mean([finish(groups, seconds, 4, seed=seed, **own) for seed in range(30)])
        for own in ({}, {"losses": 0.5}, {"losses": 0.5, "resume": False})
    )
    assert none < resumed < anew


def test_a_device_that_is_lost_often_ends_all_the_same(groups, seconds):
    longest = max(seconds.values())
    assert finish(groups, seconds, 2, losses=3600 / longest) > finish(groups, seconds, 2)


def test_a_table_is_written(tmp_path):
    arguments = "--kinds cpu --devices 1 4 --members 10 --approaches baseline --repeats 2"
    assert main([*arguments.split(), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "simulation.md").read_text().count("| cpu ") == 1
    assert len((tmp_path / "simulation.csv").read_text().splitlines()) == 3


def test_the_speed_of_a_device_is_that_of_its_forecast(tmp_path):
    rows = [
        f"target,precision,program,members,{RATE}",
        "h100,float32,stage1,1,100",
        "h100,float32,stage1,10,400",
        "h100,float32,stage1,40,",  # does not compile
        "h100,bfloat16,stage1,10,900",
        "h100,float32,features,10,50",
        "v5e,float32,stage1,10,100",
    ]
    (tmp_path / "forecast.csv").write_text("\n".join(rows))
    device = find_device("h100", tmp_path)
    assert device == Device({1: 100, 10: 400}, 5000 / 50)
    assert [device.rate(members) for members in (1, 4, 9, 10, 40)] == [100, 100, 400, 400, 400]
    with pytest.raises(InputError, match=r"has no rows in float32 .* for v5e; python -m"):
        find_device("v5e", tmp_path)
    with pytest.raises(InputError, match=r"cannot be read .*--forecast"):
        find_device("h100", tmp_path / "none")


def test_numbers_that_cannot_be_are_one_line():
    with pytest.raises(InputError, match=r"^--devices 0 found, above 0 expected"):
        Options(devices=(0,)).require_valid()
