"""What there is to do: networks, groups, records; and groups that do not fit into memory."""

import dataclasses

import jax
import numpy as np
import pytest

from twostage_jax.data.image_set import ImageSet
from twostage_jax.study import jobs
from twostage_jax.study.approaches import PAPER, Stage1, find
from twostage_jax.study.halving import run_halving
from twostage_jax.study.jobs import Scope
from twostage_jax.study.plans import Plans
from twostage_jax.study.record import RecordKey
from twostage_jax.study.run import GroupResult
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

NINE = tuple(map(find, PAPER))
FOUR = ("linear", "single_majority", "single_minority", "half_minority")
EVERYTHING = Scope(FOUR, (1.0, 2.0, 5.0, 10.0), 10, NINE)


def blank_plans(counts: list[int], protocol=Protocol()) -> Plans:  # noqa: B008
    labels = np.repeat(np.arange(len(counts)), counts)
    image_set = ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels,
        class_names=[f"class{label}" for label in range(len(counts))],
        names=[f"{row:05d}" for row in range(len(labels))],
        source="blank",
    )
    return Plans(image_set, protocol)


@pytest.fixture(scope="module")
def papers_networks() -> list[jobs.Network]:
    return jobs.list_networks(blank_plans([625] * 8), EVERYTHING)


def test_the_papers_study_is_490_networks_and_1090_records(papers_networks):
    groups = jobs.make_groups(papers_networks, 10, 32)
    assert len(papers_networks) == sum(map(len, groups)) == 490
    keys = jobs.record_keys(papers_networks)
    assert len(keys) == len(set(keys)) == 1090
    # 31.8 million by DESIGN's count, at 562.5 training images a class.
    assert jobs.image_passes(groups, 20) == pytest.approx(31.8e6, rel=0.005)


@pytest.mark.parametrize(("members", "count"), [(4, 147), (10, 49), (20, 30), (40, 22), (1000, 16)])
def test_groups_have_room_for_whole_cells_of_equal_steps(papers_networks, members, count):
    """Every network once, none waiting for another by more than a batch."""
    groups = jobs.make_groups(papers_networks, members, 32)
    networks = [network for group in groups for network in group]
    assert len({(net.partition, net.stage1) for net in networks}) == len(networks) == 490
    assert max(map(len, groups)) <= members
    assert len(groups) == count
    for group in groups:
        sizes = [network.images for network in group]
        assert max(sizes) - min(sizes) < 32


def test_a_partition_that_is_balanced_has_the_baseline_only_and_one_that_is_not_has_all():
    corrected = (*NINE, find("post_prior"))
    scope = Scope(("linear", "half_minority"), (1.0,), 2, corrected)
    balanced = jobs.list_networks(blank_plans([40] * 3), scope)
    assert [(key.scenario, key.approach) for key in jobs.record_keys(balanced)] == [
        ("original", "baseline")
    ] * 2
    natural = jobs.list_networks(blank_plans([90, 30, 20]), scope)
    assert len(jobs.record_keys(natural)) == 2 * len(corrected)


def test_approaches_with_an_equal_stage_1_share_a_network():
    names = ("baseline", "fs_enn", "post_prior", "ts_ros_tomek", "is_ros", "ts_ros_adasyn")
    scope = Scope(("linear",), (5.0,), 1, tuple(map(find, names)))
    networks = jobs.list_networks(blank_plans([100] * 3), scope)
    shared = {net.stage1: [own.name for own in net.approaches] for net in networks}
    assert shared == {
        Stage1(): ["baseline", "fs_enn", "post_prior"],
        Stage1("ros"): ["ts_ros_tomek", "is_ros", "ts_ros_adasyn"],
    }


def test_the_images_of_a_network_are_the_rows_of_its_plan():
    """Also where no rule of thumb knows how many a sampler leaves."""
    plans = blank_plans([80, 80, 80])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (240, 4, 4, 3)).astype(np.uint8)
    plans = Plans(dataclasses.replace(plans.image_set, images=images), Protocol())
    scope = Scope(("linear",), (5.0,), 1, tuple(map(find, ("is_adasyn", "is_enn", "is_tomek"))))
    for network in jobs.list_networks(plans, scope):
        assert network.images == len(plans.of_images(network.partition, network.stage1))


@pytest.mark.parametrize("approach", ["is_smote", "fs_smote", "fs_adasyn", "ts_rus_smote"])
def test_a_class_too_small_for_the_neighbors_is_named_before_anything_is_trained(approach):
    plans = blank_plans([20] * 8)
    scope = Scope(("half_minority",), (5.0,), 1, (find(approach),))
    with pytest.raises(
        InputError,
        match=r"on half_minority ratio 5 fold 0: class class\d has 4 samples.*at least 6.*"
        r"--k-neighbors",
    ):
        jobs.list_networks(plans, scope)
    without = dataclasses.replace(scope, approaches=tuple(map(find, ("is_rus", "fs_ros"))))
    assert len(jobs.list_networks(plans, without)) == 2


def test_nothing_to_train_is_an_error():
    scope = Scope(("linear",), (1.0,), 1, (find("is_rus"),))
    with pytest.raises(InputError, match="nothing to train"):
        jobs.list_networks(blank_plans([20] * 3), scope)


def test_the_record_to_show_is_ts_smote_rus_at_the_highest_ratio_of_the_first_fold():
    scope = dataclasses.replace(EVERYTHING, ratios=(2.0, 5.0), folds=2)
    networks = jobs.list_networks(blank_plans([100] * 3), scope)
    assert jobs.shown_record(networks) == RecordKey("linear", 5.0, 0, "ts_smote_rus")
    others = tuple(map(find, ("baseline", "fs_tomek", "ts_ros_enn", "ts_ros_tomek", "is_rus")))
    networks = jobs.list_networks(
        blank_plans([100] * 3), dataclasses.replace(scope, approaches=others)
    )
    assert jobs.shown_record(networks).approach == "ts_ros_enn"
    assert jobs.shown_record([net for net in networks if net.stage1 == Stage1("rus")]) is None


def out_of_memory(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_groups_that_do_not_fit_into_memory_run_in_halves_and_so_do_the_following(papers_networks):
    groups = [tuple(papers_networks[:3]), tuple(papers_networks[3:6])]
    asked = []

    def run(group):
        asked.append(len(group))
        return out_of_memory() if len(group) > 1 else GroupResult(list(group))

    with pytest.warns(UserWarning, match="too little memory for 3 networks .* goes on with 1"):
        done = list(run_halving(groups, run))
    assert asked == [3, 1, 1, 1, 1, 1, 1]
    assert [group for group, _, _ in done] == [(network,) for network in papers_networks[:6]]


def test_a_device_without_memory_for_one_network_ends_the_study(papers_networks):
    with pytest.raises(jax.errors.JaxRuntimeError):
        list(run_halving([tuple(papers_networks[:1])], out_of_memory))
