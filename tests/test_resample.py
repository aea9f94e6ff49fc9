"""Resamplers, against imbalanced-learn's: the same rows, steps and samples in the same order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.under_sampling import RandomUnderSampler

from twostage_jax.errors import InputError
from twostage_jax.neighbors import feature_neighbors, rank_neighbors, subset_neighbors
from twostage_jax.resample import keep_all, random_oversample, random_undersample, resample, smote

K = 5


@st.composite
def labels_of_classes(draw, smallest=1):
    """Labels in any order, of two to six classes, the first of them not always 0."""
    counts = draw(st.lists(st.integers(smallest, smallest + 25), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts)) + draw(st.integers(0, 2)), counts)
    return np.random.default_rng(draw(st.integers(0, 99))).permutation(labels).astype(np.int32)


seeds = st.integers(0, 2**32 - 1)


def features_of(labels, seed=0, width=20):
    return np.random.default_rng(seed).standard_normal((len(labels), width))


def never():
    raise AssertionError("neighbours are not needed")


def counts_of(labels):
    return np.unique(labels, return_counts=True)[1]


# --- Random samplers ---


@given(labels_of_classes(), seeds)
def test_undersampling_equals_imbalanced_learn(labels, seed):
    """Also where several classes are the smallest."""
    reference = RandomUnderSampler(random_state=seed)
    reference.fit_resample(labels[:, None], labels)
    plan = random_undersample(labels, seed)
    np.testing.assert_array_equal(plan.base, reference.sample_indices_)


@given(labels_of_classes(), seeds)
def test_oversampling_equals_imbalanced_learn(labels, seed):
    reference = RandomOverSampler(random_state=seed)
    _, label = reference.fit_resample(labels[:, None], labels)
    plan = random_oversample(labels, seed)
    np.testing.assert_array_equal(plan.base, reference.sample_indices_)
    np.testing.assert_array_equal(plan.label, label)


# --- SMOTE ---


@settings(max_examples=40, deadline=None)
@given(
    labels_of_classes(smallest=K + 1),
    seeds,
    st.sampled_from([np.float32, np.float64]),
    st.integers(1, K),
)
def test_smote_equals_imbalanced_learn_bit_for_bit(labels, seed, dtype, k):
    features = features_of(labels).astype(dtype)
    expected, label = SMOTE(random_state=seed, k_neighbors=k).fit_resample(features, labels)
    plan = smote(labels, seed, feature_neighbors(features, labels, k))
    found = plan.materialize(features)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(plan.label, label)


@settings(deadline=None)
@given(labels_of_classes(smallest=K + 1), seeds)
def test_synthetic_samples_lie_between_neighbors_of_one_class(labels, seed):
    features = features_of(labels)
    neighbors = feature_neighbors(features, labels, K)
    plan = smote(labels, seed, neighbors)
    new = slice(len(labels), None)
    np.testing.assert_array_equal(labels[plan.base], plan.label)
    np.testing.assert_array_equal(labels[plan.neighbor], plan.label)
    assert np.all(plan.neighbor[new] != plan.base[new])
    assert all(n in neighbors[b] for b, n in zip(plan.base[new], plan.neighbor[new], strict=True))
    assert np.all((plan.step[new] >= 0) & (plan.step[new] < 1))
    ends = features[plan.base], features[plan.neighbor]
    found = plan.materialize(features)
    slack = 1e-12
    assert np.all((np.minimum(*ends) - slack <= found) & (found <= np.maximum(*ends) + slack))


@pytest.fixture(scope="module")
def images():
    """150 images of 8 x 8 pixels, of three classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [90, 45, 15])
    return rng.integers(0, 256, (150, 8, 8, 3), np.uint8), labels


def image_plan(images, labels, seed):
    rows = np.arange(len(labels))
    return smote(labels, seed, subset_neighbors(rank_neighbors(images, labels), rows, labels, K))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_smote_of_images_equals_imbalanced_learn_on_numbers(images, seed):
    x, labels = images
    flat = x.reshape(len(x), -1)
    expected, label = SMOTE(random_state=seed).fit_resample(flat.astype(np.float64), labels)
    plan = image_plan(x, labels, seed)
    found = plan.materialize(x).reshape(len(plan), -1)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(plan.label, label)
    assert np.abs(found - expected).max() <= 0.5


def test_smote_of_images_does_not_wrap_around(images):
    """As imbalanced-learn's does on uint8: half of the differences are negative, modulo 256."""
    x, labels = images
    flat = x.reshape(len(x), -1)
    numbers, _ = SMOTE(random_state=0).fit_resample(flat.astype(np.float64), labels)
    wrapped, _ = SMOTE(random_state=0).fit_resample(flat, labels)
    found = image_plan(x, labels, 0).materialize(x).reshape(len(numbers), -1)
    new = slice(len(x), None)
    assert wrapped.dtype == np.uint8
    assert np.mean(np.abs(wrapped - numbers)[new] > 20) > 0.3
    assert np.abs(found - numbers)[new].max() <= 0.5


def test_a_class_too_small_for_smote_is_refused():
    labels = np.repeat([0, 1, 2], [20, K + 1, K])
    message = f"class 2 has {K} samples, SMOTE with {K} neighbours expects at least {K + 1}; lower"
    with pytest.raises(InputError, match=message):
        smote(labels, 0, feature_neighbors(features_of(labels), labels, K))


def test_the_largest_class_may_be_smaller_than_the_neighborhood():
    """It is not resampled, and so needs no neighbours."""
    labels = np.repeat([0, 1], [K, K])
    plan = smote(labels, 0, feature_neighbors(features_of(labels), labels, K))
    np.testing.assert_array_equal(plan.base, np.arange(2 * K))


# --- All samplers ---


@settings(deadline=None)
@given(labels_of_classes(smallest=K + 1), seeds, st.sampled_from(["rus", "ros", "smote"]))
def test_all_classes_become_equally_large(labels, seed, sampler):
    neighbors = feature_neighbors(features_of(labels), labels, K)
    plan = resample(sampler, labels, seed, lambda: neighbors)
    size = counts_of(labels).min() if sampler == "rus" else counts_of(labels).max()
    assert set(counts_of(plan.label)) == {size}
    np.testing.assert_array_equal(plan.label, labels[plan.base])
    if sampler != "rus":
        np.testing.assert_array_equal(plan.base[: len(labels)], np.arange(len(labels)))
    copies = plan.neighbor == plan.base
    assert np.all(plan.step[copies] == 0)
    assert copies.all() or sampler == "smote"


@pytest.mark.parametrize("sampler", ["rus", "ros", "smote"])
def test_a_seed_gives_one_plan(sampler):
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    neighbors = feature_neighbors(features_of(labels), labels, K)
    a, again, b = (resample(sampler, labels, seed, lambda: neighbors) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a.base, again.base)
    np.testing.assert_array_equal(a.neighbor, again.neighbor)
    np.testing.assert_array_equal(a.step, again.step)
    assert not np.array_equal(a.base, b.base)


def test_neighbors_are_computed_for_smote_alone():
    labels = np.repeat([0, 1], [9, 7])
    assert len(resample("rus", labels, 0, never)) == 14
    assert len(resample("ros", labels, 0, never)) == 18
    np.testing.assert_array_equal(resample(None, labels, 0, never).base, keep_all(labels).base)
    with pytest.raises(AssertionError, match="not needed"):
        resample("smote", labels, 0, never)


def test_an_unknown_sampler_is_refused():
    with pytest.raises(InputError, match="sampler 'adasyn' found, 'rus', 'ros', 'smote' or None"):
        resample("adasyn", np.array([0, 1]), 0, never)
