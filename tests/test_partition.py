"""Partitions: which images a scenario, an imbalance ratio and a fold keep."""

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import (
    FOLDS,
    ORIGINAL,
    RATIOS,
    SCENARIOS,
    PartitionKey,
    Partitions,
    imbalance_ratios,
    partition_keys,
)
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive

CLASSES = 8
KEYS = [PartitionKey(*key) for key in itertools.product(SCENARIOS, RATIOS, range(FOLDS))]


def make_image_set(counts, read_order=None):
    """Images of one pixel; partitions look at labels and names alone."""
    labels = np.repeat(np.arange(len(counts)), counts)
    order = np.arange(len(labels)) if read_order is None else read_order
    return ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels[order],
        class_names=[f"class{i}" for i in range(len(counts))],
        names=[f"{row:06d}" for row in order],
        source="test",
    )


@pytest.fixture(scope="module")
def balanced():
    """As large as the paper's image set."""
    return make_image_set([625] * CLASSES)


@pytest.fixture(scope="module")
def partitions(balanced):
    """All 160 partitions of the paper, by key; the 40 of ratio 1 are 10."""
    made = Partitions(balanced, seed=0)
    return {key: made.make(key) for key in KEYS}


def counts_of(image_set, rows):
    return np.bincount(image_set.labels[rows], minlength=CLASSES)


def class_order(image_set, partitions, fold):
    """Classes from the largest to the smallest of the linear scenario, whose sizes all differ."""
    counts = counts_of(image_set, partitions["linear", 10.0, fold].train)
    assert len(set(counts)) == CLASSES
    return np.argsort(-counts)


def ratio_by_hand(scenario, ratio, position):
    """Equations 1 and 2 of the paper."""
    if scenario == "linear":
        return 1 + (ratio - 1) / (CLASSES - 1) * position
    first_minority = {"single_majority": 1, "single_minority": CLASSES - 1, "half_minority": 4}
    return ratio if position >= first_minority[scenario] else 1.0


def test_class_sizes_follow_the_equations(balanced, partitions):
    """In train and in the kept part of test; also: one class order a fold, for all partitions."""
    for key, partition in partitions.items():
        whole_train = np.setdiff1d(np.arange(len(balanced)), partition.test)
        for whole, kept in (
            (whole_train, partition.train),
            (partition.test, partition.test[partition.kept]),
        ):
            order = class_order(balanced, partitions, key.fold)
            before, after = counts_of(balanced, whole)[order], counts_of(balanced, kept)[order]
            ratios = [ratio_by_hand(key.scenario, key.ratio, i) for i in range(CLASSES)]
            assert np.abs(after - before / ratios).max() <= 0.5 + 1e-9, key


def test_folds_are_a_stratified_partition_of_all_images(balanced, partitions):
    tests = [partitions["linear", 10.0, fold].test for fold in range(FOLDS)]
    np.testing.assert_array_equal(np.sort(np.concatenate(tests)), np.arange(len(balanced)))
    for test in tests:
        assert set(counts_of(balanced, test)) <= {62, 63}


def test_test_fold_is_the_same_for_all_scenarios_and_ratios(partitions):
    for key, partition in partitions.items():
        np.testing.assert_array_equal(partition.test, partitions["linear", 1.0, key.fold].test)


def test_train_and_test_are_disjoint_and_ascending(partitions):
    for partition in partitions.values():
        assert np.intersect1d(partition.train, partition.test).size == 0
        assert np.all(np.diff(partition.train) > 0)
        assert np.all(np.diff(partition.test) > 0)
        assert partition.kept.shape == partition.test.shape


def test_higher_ratios_keep_a_subset_of_lower_ones(partitions):
    for scenario, fold in itertools.product(SCENARIOS, range(FOLDS)):
        for low, high in itertools.pairwise(RATIOS):
            larger = partitions[scenario, low, fold]
            smaller = partitions[scenario, high, fold]
            assert set(smaller.train) < set(larger.train)
            assert not np.any(smaller.kept & ~larger.kept)


def test_scenarios_keep_the_same_images_of_classes_of_equal_size(balanced, partitions):
    """The order of a class's images is shared too: minorities of two scenarios are the same."""
    for fold in range(FOLDS):
        last = class_order(balanced, partitions, fold)[-1]
        minorities = [
            [row for row in partitions[scenario, 10.0, fold].train if balanced.labels[row] == last]
            for scenario in SCENARIOS
        ]
        assert all(minority == minorities[0] for minority in minorities)


def test_folds_differ_in_class_order_and_image_order(balanced, partitions):
    orders = {tuple(class_order(balanced, partitions, fold)) for fold in range(FOLDS)}
    assert len(orders) == FOLDS
    # The 56 of 625 images that each fold keeps of a class would nearly coincide.
    kept = set.union(*(set(partitions["linear", 10.0, fold].train) for fold in range(FOLDS)))
    assert len(kept) > 4500


def test_ratio_one_keeps_everything_in_all_scenarios(balanced):
    partitions = Partitions(balanced, seed=0)
    for scenario, fold in itertools.product((*SCENARIOS, ORIGINAL), range(FOLDS)):
        partition = partitions.make(PartitionKey(scenario, 1.0, fold))
        rest = np.setdiff1d(np.arange(len(balanced)), partition.test)
        np.testing.assert_array_equal(partition.train, rest)
        assert partition.kept.all()


def test_read_order_does_not_matter():
    counts = [30, 41, 25]
    given_order = make_image_set(counts)
    shuffled = make_image_set(counts, np.random.default_rng(1).permutation(sum(counts)))
    for key in (PartitionKey("linear", 5.0, 0), PartitionKey("half_minority", 2.0, 9)):
        a, b = (Partitions(images, seed=3).make(key) for images in (given_order, shuffled))
        for rows_a, rows_b in ((a.train, b.train), (a.test, b.test)):
            assert [given_order.names[i] for i in rows_a] == [shuffled.names[i] for i in rows_b]
        np.testing.assert_array_equal(a.kept, b.kept)


def test_seeds_differ_in_folds_and_class_order(balanced):
    key = PartitionKey("linear", 10.0, 0)
    a, b = (Partitions(balanced, seed).make(key) for seed in (0, 1))
    assert not np.array_equal(a.test, b.test)
    assert list(counts_of(balanced, a.train)) != list(counts_of(balanced, b.train))


@pytest.mark.parametrize(
    ("names", "value"),
    [
        ((), 2_607_350_393),
        (("fold", 3, "class order"), 147_411_505),
        (("linear", 10.0, 0, "smote", "epoch", 3), 3_481_917_376),
        (("linear", 1.5, 0), 1_886_012_642),
    ],
)
def test_derived_seeds_are_the_same_in_every_process(names, value):
    """Records are recomputed from these: a change here makes every record unrepeatable."""
    assert derive(7, *names) == value


def test_streams_of_other_names_differ():
    names = [(), ("a",), ("b",), ("a", "b"), ("b", "a"), ("a", 1), ("a", 2), ("a", 1.5)]
    assert len({derive(seed, *name) for seed in (0, 1) for name in names}) == 2 * len(names)


def test_partitions_of_earlier_studies_stay(balanced, partitions):
    digest = hashlib.sha256()
    for partition in partitions.values():
        for rows in (partition.train, partition.test, partition.kept):
            digest.update(rows.astype("<i4").tobytes())
    assert digest.hexdigest()[:16] == "fc3c057bd3a6ed78"


@given(
    st.sampled_from(SCENARIOS),
    st.floats(1, 1e6),
    st.integers(2, 30),
)
def test_imbalance_ratios_run_from_one_to_the_ratio(scenario, ratio, classes):
    ratios = imbalance_ratios(scenario, ratio, classes)
    assert ratios.shape == (classes,)
    assert ratios[0] == 1
    assert ratios[-1] == pytest.approx(ratio)
    assert np.all(np.diff(ratios) >= 0)
    minorities = {"single_majority": classes - 1, "single_minority": 1}
    minorities["half_minority"] = classes - classes // 2
    if ratio > 1 and scenario != "linear":
        assert np.sum(ratios > 1) == minorities[scenario]


def test_linear_ratios_of_the_paper():
    np.testing.assert_allclose(imbalance_ratios("linear", 8.0, 8), np.arange(1, 9))


def test_a_class_keeps_at_least_one_image():
    partition = Partitions(make_image_set([20, 20]), seed=0).make(PartitionKey("linear", 1e9, 0))
    assert sorted(np.bincount(partition.train // 20)) == [1, 18]


def test_keys_of_the_paper():
    keys = partition_keys(SCENARIOS, RATIOS, FOLDS)
    assert len(keys) == len(set(keys)) == 120 + 10
    assert [key for key in keys if key.ratio == 1] == [(ORIGINAL, 1.0, i) for i in range(FOLDS)]


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (("half_minorty", 2.0, 0), "unknown scenario 'half_minorty'; did you mean half_minority"),
        (("linear", 0.5, 0), "imbalance ratio 0.5 found, a number from 1 up expected"),
        (("linear", float("nan"), 0), "imbalance ratio nan found"),
        (("linear", float("inf"), 0), "imbalance ratio inf found"),
        (("linear", 2.0, 10), "fold 10 found, 0 to 9 expected"),
        (("linear", 2.0, -1), "fold -1 found, 0 to 9 expected"),
    ],
)
def test_bad_keys_are_refused(key, message):
    with pytest.raises(InputError, match=message) as error:
        Partitions(make_image_set([10, 10]), seed=0).make(PartitionKey(*key))
    assert "\n" not in str(error.value)


def test_a_class_smaller_than_the_folds_is_refused():
    with pytest.raises(InputError, match="class 'class1' has 9 images, at least 10 expected"):
        Partitions(make_image_set([10, 9, 8]), seed=0).make(PartitionKey("linear", 2.0, 0))


def test_images_are_dealt_to_folds_once(monkeypatch):
    """The paper's study makes 2,800 partitions."""
    splits, split = [], StratifiedKFold.split

    def counted(*args):
        splits.append(args)
        return split(*args)

    monkeypatch.setattr(StratifiedKFold, "split", counted)
    partitions = Partitions(make_image_set([20, 20]), seed=0)
    assert not splits
    for key in KEYS:
        partitions.make(key)
    assert len(splits) == 1
