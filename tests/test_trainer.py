"""The trainer: how long its calls are, and plans of any size."""

import dataclasses
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textures import textures
from tiny_network import TINY

from twostage_jax.resampling.plan import Plan
from twostage_jax.support.streams import derive
from twostage_jax.training.objective import PLAIN
from twostage_jax.training.protocol import Protocol, complete_settings
from twostage_jax.training.trainer import CallLength, Trainer

pytestmark = pytest.mark.integration


def test_calls_grow_and_shrink_towards_a_duration():
    length = CallLength(seconds=4.0, first=4)
    length.took(4, elapsed=40.0)  # the first call also compiles
    assert length.steps == 1
    for expected in (4, 16, 64, 100, 100):
        length.took(length.steps, elapsed=0.04 * length.steps)
        assert length.steps == expected
    length.took(100, elapsed=400.0)
    assert length.steps == 1


@given(st.lists(st.floats(1e-3, 1e3), max_size=20))
def test_a_call_has_at_least_one_step_and_grows_at_most_fourfold(times):
    length = CallLength()
    for elapsed in times:
        before = length.steps
        length.took(before, elapsed)
        assert 1 <= length.steps <= 4 * before


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    own, protocol = textures(images_per_class=12), Protocol(network=TINY, epochs=1, batch_size=8)
    return Trainer(protocol, own.class_counts, own.images)


def test_a_plan_larger_than_balanced_classes_trains_all_its_rows(trainer, tmp_path):
    """ADASYN's and others' may be; the programs of usual plans stay what they are."""
    rows = np.arange(96)
    usual = Plan.of_kept(rows // 12, rows[:80])
    larger = Plan.of_kept(rows // 12, np.tile(rows, 2))
    streams = [partial(derive, 0, "network")]
    first = trainer.train_networks([usual], streams, tmp_path / "a")
    programs = trainer.trainers(PLAIN).network.compiled
    seen = []
    trained = trainer.train_networks([larger], streams, tmp_path / "b", seen.append)
    assert sum(advance.images for advance in seen) == len(larger)
    assert np.isfinite(trained.curves).all()
    again = trainer.train_networks([usual], streams, tmp_path / "c")
    assert np.array_equal(first.curves, again.curves)
    assert trainer.trainers(PLAIN).network.compiled == programs + 1


def test_settings_that_are_younger_than_records_are_written_only_where_they_differ():
    assert "network" not in Protocol().to_settings()
    assert Protocol(network="mobilenet_v2").to_settings()["network"] == "mobilenet_v2"
    old = Protocol(epochs=3).to_settings()
    assert "head_epochs" not in old
    assert Protocol(head_epochs=2).to_settings()["head_epochs"] == 2
    del old["epsilon_in_root"]
    usual = {"splits": 10, "groups": "none"}
    assert complete_settings(old) == dataclasses.asdict(Protocol(epochs=3)) | usual
    assert complete_settings({"dataset": "x"})["dataset"] == "x"
