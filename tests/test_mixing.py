"""Mixing: which samples meet, at which shares, with which labels."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.resampling.mixing import (
    MIXINGS,
    balanced_mixup,
    draw_balanced,
    mixup,
    remix,
)

COUNTS = np.array([60, 0, 30, 7, 3])
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), COUNTS))
MANY = np.tile(LABELS, 2000)
each = pytest.mark.parametrize("name", MIXINGS)


def rng(seed=0):
    return np.random.default_rng(seed)


# --- Balanced draws ---


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
def test_draws_are_as_many_samples_of_the_classes_that_there_are(labels, seed):
    drawn = draw_balanced(np.array(labels), rng(seed))
    assert drawn.shape == (len(labels),)
    assert drawn.dtype == np.int64
    assert set(drawn) <= set(range(len(labels)))


def test_classes_are_equally_likely_and_so_are_the_samples_of_a_class():
    """Within four standard deviations of their frequencies, of one fixed stream."""
    drawn = draw_balanced(MANY, rng()) % len(LABELS)
    total, likely = len(drawn), 1 / (4 * COUNTS[LABELS])
    found = np.bincount(drawn, minlength=len(LABELS))
    assert found.all()
    assert (np.abs(found - total * likely) < 4 * np.sqrt(total * likely)).all()
    of_classes = np.bincount(LABELS[drawn], minlength=5)[COUNTS > 0]
    statistic = ((of_classes - total / 4) ** 2 / (total / 4)).sum()
    assert statistic < 16.27  # of three degrees of freedom, once in a thousand


# --- What all ways of mixing promise ---


@each
def test_recipes_and_functions_have_the_same_parameters(name):
    entry, parameters = MIXINGS[name], inspect.signature(MIXINGS[name].function).parameters
    assert list(parameters)[:3] == ["labels", "counts", "rng"]
    own = {key: value for key, value in parameters.items() if value.kind == value.KEYWORD_ONLY}
    assert len(own) == len(parameters) - 3
    assert own.keys() == entry.ranges.keys()
    assert all(value.default in entry.ranges[key] for key, value in own.items())
    taught = list(inspect.signature(entry.learned).parameters.values())[1:]
    for value in taught:
        assert value.kind == value.VAR_KEYWORD or value.default == own[value.name].default


@each
@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 0.2, 1, 5.0]))
def test_shares_and_weights_are_shares(name, seed, alpha):
    mixture = MIXINGS[name].function(LABELS, COUNTS, rng(seed), alpha=alpha)
    for column in (mixture.share, mixture.weight):
        assert column.dtype == np.float64
        assert column.shape == LABELS.shape
        assert ((column >= 0) & (column <= 1)).all()
    assert mixture.partner.dtype == np.int64
    if name != "balanced":
        np.testing.assert_array_equal(np.sort(mixture.partner), np.arange(len(LABELS)))
    if name != "remix":
        np.testing.assert_array_equal(mixture.weight, mixture.share)
    if alpha == 0:
        assert not mixture.share.any()
        assert not mixture.weight.any()
    again = MIXINGS[name].function(LABELS, COUNTS, rng(seed), alpha=alpha)
    np.testing.assert_array_equal(again.share, mixture.share)


@each
@pytest.mark.parametrize("parameters", [{}, {"alpha": 1, "kappa": 2, "tau": 0.8}, {"alpha": 0}])
def test_labels_have_the_class_frequencies_that_records_say(name, parameters):
    entry = MIXINGS[name]
    own = {key: value for key, value in parameters.items() if key in entry.ranges}
    mixture = entry.function(MANY, COUNTS, rng(), **own)
    total = np.bincount(MANY, 1 - mixture.weight, 5)
    total += np.bincount(MANY[mixture.partner], mixture.weight, 5)
    expected = entry.learned(COUNTS, **own)
    assert expected.sum() == pytest.approx(1)
    np.testing.assert_allclose(total / total.sum(), expected, atol=0.003)


# --- Their shares and labels ---


def test_mixup_draws_from_a_beta_distribution():
    """Its mean is 1/2 and its variance 1 / (4 (2 alpha + 1))."""
    for alpha in (0.2, 1.0):
        share = mixup(MANY, COUNTS, rng(), alpha=alpha).share
        assert share.mean() == pytest.approx(0.5, abs=0.005)
        assert share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_balanced_samples_have_the_papers_share_on_average(alpha):
    share = balanced_mixup(MANY, COUNTS, rng(), alpha=alpha).share
    assert share.mean() == pytest.approx(alpha / (1 + alpha), abs=0.005)


class Fixed:
    """Draws a known partner and a known lambda."""

    def __init__(self, partner, kept):
        self._partner, self._kept = np.array(partner), kept

    def permutation(self, size):
        assert size == len(self._partner)
        return self._partner

    def beta(self, a, b, size):
        return np.full(size, self._kept)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("kept", "parameters", "weights"),
    [
        # Sample 0 is of a class of 30, 1 of a class of 10, 2 of a class of 11.
        # Pairs: 0 with 1 (3 times as many), 1 with 2, 2 with 0 (less than a third).
        (0.25, {}, (1, 0.75, 0.75)),  # 0 is frequent and has less than tau: 1's label
        (0.75, {}, (0.25, 0.25, 0.25)),
        (0.5, {}, (0.5, 0.5, 0.5)),  # less than tau, not tau
        (0.5, {"tau": 0.625}, (1, 0.5, 0.5)),
        (0.25, {"tau": 0}, (0.75, 0.75, 0.75)),
        (0.25, {"kappa": 3.25}, (0.75, 0.75, 0.75)),
        (0.75, {"kappa": 2}, (0.25, 0.25, 0)),  # 0 is 2's partner, frequent, and has 0.25
        (0.25, {"kappa": 2}, (1, 0.75, 0.75)),
        (0.5, {"kappa": 2, "tau": 0.625}, (1, 0.5, 0)),
    ],
)
def test_remix_by_hand(kept, parameters, weights):
    counts = np.array([30, 10, 11])
    mixture = remix(np.arange(3), counts, Fixed([1, 2, 0], kept), **parameters)
    assert mixture.share.tolist() == [1 - kept] * 3
    assert mixture.weight.tolist() == list(weights)


@pytest.mark.usefixtures("unchecked_types")
def test_remix_takes_its_first_case_first():
    """Both hold for classes of equal size if kappa is 1 and tau above one half."""
    mixture = remix(np.arange(2), np.array([5, 5]), Fixed([1, 0], 0.5), kappa=1, tau=0.75)
    assert mixture.weight.tolist() == [1, 1]
