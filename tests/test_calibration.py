"""Calibration against published formulas, scikit-learn, and numbers made by hand."""

import math

import numpy as np
import pytest
import scipy.special
import sklearn.calibration
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from twostage_jax.evaluation import calibration
from twostage_jax.support.errors import InputError

# Three samples of four classes, and what the published formulas make of them in float64.
LOGITS = np.array([[2.0, 0.5, -1.0, 0.0], [0.1, 0.2, 0.3, 0.4], [-1.0, 3.0, 1.0, 0.5]])
LABELS = np.array([0, 3, 2])
COUNTS = np.array([1000.0, 100.0, 50.0, 10.0])
CORRECTED = [
    [0.056304495138741605, 0.125632310173839, 0.05606471497781181, 0.7619984797096077],
    [0.005832072071391875, 0.06445436445423501, 0.1424661782757386, 0.7872473851986345],
    [0.0008749430515527769, 0.4777027199913554, 0.1293000658258607, 0.3921222711312311],
]
ADJUSTED = [
    [2.148420005118273, 2.951005098112319, 2.144152278672264, 4.7535901911063645],
    [0.24842000511827333, 2.651005098112319, 3.444152278672264, 5.153590191106365],
    [-0.8515799948817266, 5.451005098112319, 4.144152278672264, 5.2535901911063645],
]


def test_scores_are_those_of_the_published_formulas():
    probabilities = scipy.special.softmax(LOGITS, axis=1)
    ece = calibration.expected_calibration_error(probabilities, LABELS)
    brier = calibration.brier_score(probabilities, LABELS)
    nll = calibration.negative_log_likelihood(probabilities, LABELS)
    assert ece == pytest.approx(0.6034943528987795, rel=1e-6)
    assert brier == pytest.approx(0.7492978671751779, rel=1e-6)
    assert nll == pytest.approx(1.2655172639003238, rel=1e-6)


def test_the_prior_s_correction_is_that_of_buda_and_of_menon():
    found = calibration.correct_prior(scipy.special.softmax(LOGITS, axis=1), COUNTS)
    np.testing.assert_allclose(found, CORRECTED, rtol=1e-6)
    np.testing.assert_allclose(found, scipy.special.softmax(ADJUSTED, axis=1), rtol=1e-6)


@pytest.fixture(scope="module")
def drawn():
    """Probabilities of 400 samples and 5 classes, and labels that follow them loosely."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(5, 0.4), 400).astype(np.float32)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    return probabilities, labels


def test_the_nll_is_the_log_loss_of_scikit_learn(drawn):
    probabilities, labels = drawn
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(5))
    assert calibration.negative_log_likelihood(probabilities, labels) == pytest.approx(
        expected, rel=1e-6
    )


def test_the_brier_score_is_that_of_scikit_learn_summed_over_classes(drawn):
    probabilities, labels = drawn
    by_class = [
        sklearn.metrics.brier_score_loss(labels == k, probabilities[:, k]) for k in range(5)
    ]
    found = calibration.brier_score(probabilities, labels)
    assert found == pytest.approx(sum(by_class), rel=1e-6)


def test_bins_are_those_of_scikit_learn(drawn):
    probabilities, labels = drawn
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = sklearn.calibration.calibration_curve(
        right, probabilities.max(axis=1), n_bins=calibration.BINS
    )
    bins = calibration.bin_samples(probabilities, labels)
    there = bins.count > 0
    assert bins.count.sum() == 400
    assert not there[:3].any(), "the top of five probabilities is at least 0.2"
    np.testing.assert_allclose(bins.accuracy[there], accuracy)
    np.testing.assert_allclose(bins.confidence[there], confidence, rtol=1e-6)
    weights = bins.count[there] / 400
    expected = (weights * np.abs(accuracy - confidence)).sum()
    ece = calibration.expected_calibration_error(probabilities, labels)
    assert ece == pytest.approx(expected, rel=1e-6)


def test_all_scores_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    found = calibration.calibrate(probabilities, np.array([0, 1, 1, 0]))
    losses = [math.log(0.9), math.log(0.1), math.log(0.6), math.log(0.5)]
    assert found.nll == pytest.approx(-sum(losses) / 4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.5) / 4)
    # The bins of 0.9 (two samples, one right), of 0.6 and of 0.5 (one sample each, both right).
    assert found.ece == pytest.approx((2 * 0.4 + 0.4 + 0.5) / 4)
    assert found.confidence == pytest.approx((0.9 + 0.9 + 0.6 + 0.5) / 4)
    assert (found.accuracy, found.samples) == (0.75, 4)


def test_certainty_costs_nothing_where_it_is_right_and_a_bounded_loss_where_it_is_wrong():
    sure = np.eye(3, dtype=np.float32)
    right = calibration.calibrate(sure, np.arange(3))
    wrong = calibration.calibrate(sure, np.array([1, 2, 0]))
    assert right[:3] == pytest.approx((0, 0, 0), abs=2e-7)
    assert wrong[:3] == pytest.approx((23 * math.log(2), 2, 1))


def test_a_probability_on_an_edge_belongs_to_the_lower_bin():
    for bins, place in ((2, 0), (4, 1)):
        found = calibration.bin_samples(np.array([[0.5, 0.5]]), np.array([0]), bins)
        assert found.count.tolist() == [int(i == place) for i in range(bins)]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("labels", [[], [0], [0, 2], [-1, 0]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match=r"expected (one row per label|0 to 1)"):
        calibration.negative_log_likelihood(np.full((2, 2), 0.5), np.array(labels, np.int64))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]]
)
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match="expected one weight of 0 or more per sample"):
        calibration.calibrate(np.full((2, 2), 0.5), np.array([0, 1]), np.array(weights))


@st.composite
def samples(draw):
    """Probabilities, labels and small whole weights."""
    n, classes = draw(st.integers(1, 30)), draw(st.integers(2, 5))
    logits = draw(arrays.arrays(np.float64, (n, classes), elements=st.floats(-9, 9)))
    labels = draw(arrays.arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    weights = draw(arrays.arrays(np.int64, n, elements=st.integers(1, 3)))
    return scipy.special.softmax(logits, axis=1), labels, weights


@given(samples(), st.floats(1e-3, 1e3))
def test_equal_weights_change_nothing(drawn, weight):
    probabilities, labels, _ = drawn
    plain = calibration.calibrate(probabilities, labels)
    found = calibration.calibrate(probabilities, labels, np.full(len(labels), weight))
    assert found == pytest.approx(plain, rel=1e-9, abs=1e-12)


@given(samples())
def test_a_weight_of_two_is_a_sample_that_is_there_twice(drawn):
    probabilities, labels, weights = drawn
    w = weights.astype(np.float64)
    many = np.repeat(probabilities, weights, axis=0), np.repeat(labels, weights)
    found, repeated = calibration.calibrate(probabilities, labels, w), calibration.calibrate(*many)
    assert found[:-1] == pytest.approx(repeated[:-1], rel=1e-9, abs=1e-12)
    assert (found.samples, repeated.samples) == (len(labels), weights.sum())
    # Each score alone is that of all together.
    for own, function in (
        (found.nll, calibration.negative_log_likelihood),
        (found.brier, calibration.brier_score),
        (found.ece, calibration.expected_calibration_error),
    ):
        assert function(probabilities, labels, weights=w) == pytest.approx(own, rel=1e-9, abs=1e-12)


def test_samples_stand_for_other_class_frequencies():
    labels = np.array([0, 0, 0, 1])
    weights = calibration.sample_weights(labels, np.array([0.5, 0.5]))
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])
    same = calibration.sample_weights(labels, np.array([0.75, 0.25, 0.0]))
    np.testing.assert_allclose(same, np.ones(4))
    with pytest.raises(InputError, match="found no samples of class 2; expected one of each"):
        calibration.sample_weights(labels, np.full(3, 1 / 3))
