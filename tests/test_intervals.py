"""Intervals over folds: against SciPy's bootstrap, and what they hold."""

import numpy as np
import pytest
import scipy.stats

from twostage_jax.evaluation import intervals
from twostage_jax.evaluation.calibration import (
    Bins,
    bin_samples,
    expected_calibration_error,
    negative_log_likelihood,
)


def folds_of(seed, temperature, folds=10, samples=100):
    """Samples of each fold whose labels follow softmax outputs, and predictions that sharpen them.

    At temperature 1 the predictions are calibrated.
    """
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(4, 0.7), (folds, samples))
    labels = (true.cumsum(axis=2) > rng.random((folds, samples, 1))).argmax(axis=2)
    predicted = true ** (1 / temperature)
    return predicted / predicted.sum(axis=2, keepdims=True), labels


def stack(predicted, labels):
    pairs = zip(predicted, labels, strict=True)
    return Bins(*map(np.stack, zip(*(bin_samples(*own) for own in pairs), strict=True)))


def test_means_over_folds_have_the_intervals_of_scipy():
    scores = np.random.default_rng(0).random(10)
    found = intervals.mean_over_folds(scores, intervals.draw_folds(10))
    theirs = scipy.stats.bootstrap(
        (scores,), np.mean, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(scores.mean())
    assert found[1:] == pytest.approx(tuple(theirs), abs=0.01)


def test_a_resample_is_of_as_many_folds_and_the_stream_has_a_name():
    draws = intervals.draw_folds(7, resamples=2000)
    assert draws.shape == (2000, 7)
    assert (draws.sum(axis=1) == 7).all()
    np.testing.assert_allclose(draws.mean(axis=0), 1, atol=0.1)
    assert np.array_equal(draws, intervals.draw_folds(7, resamples=2000))
    assert not np.array_equal(draws, intervals.draw_folds(7, resamples=2000, seed=1))


def test_folds_are_pooled_before_the_scores_are_taken():
    predicted, labels = folds_of(0, 0.6)
    nll, ece = intervals.pooled_over_folds(stack(predicted, labels), intervals.draw_folds(10))
    pooled = predicted.reshape(-1, 4), labels.ravel()
    assert nll.value == pytest.approx(negative_log_likelihood(*pooled))
    assert ece.value == pytest.approx(expected_calibration_error(*pooled))
    # SciPy resamples the folds themselves.
    theirs = scipy.stats.bootstrap(
        (np.arange(10),),
        lambda own: negative_log_likelihood(predicted[own].reshape(-1, 4), labels[own].ravel()),
        n_resamples=500,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert nll[1:] == pytest.approx(tuple(theirs), abs=0.1 * (nll.high - nll.low))


def test_the_interval_of_an_ece_allows_for_what_chance_adds():
    """Percentile intervals of calibrated predictions lie above the truth, which is 0."""
    draws = intervals.draw_folds(10, resamples=500)
    held = []
    for seed in range(40):
        bins = stack(*folds_of(seed, 1.0))
        _, ece = intervals.pooled_over_folds(bins, draws)
        gaps = np.abs(draws @ (bins.right - bins.top)).sum(axis=1) / 1000
        assert intervals.percentile_interval(ece.value, gaps).low > 0
        assert 0 <= ece.low <= ece.value <= ece.high
        held.append(ece.low == 0)
    assert np.mean(held) > 0.7


def test_large_eces_keep_their_percentile_interval():
    bins = stack(*folds_of(0, 0.2, samples=2000))
    draws = intervals.draw_folds(10)
    _, ece = intervals.pooled_over_folds(bins, draws)
    gaps = np.abs(draws @ (bins.right - bins.top)).sum(axis=1) / 20000
    percentile = intervals.percentile_interval(ece.value, gaps)
    assert tuple(ece) == pytest.approx(tuple(percentile), abs=1e-3)
    assert ece.high - ece.low > 5e-3


def test_one_fold_has_no_interval():
    draws = intervals.draw_folds(1)
    nll, ece = intervals.pooled_over_folds(stack(*folds_of(0, 0.6, folds=1)), draws)
    for found in (nll, ece, intervals.mean_over_folds(np.array([0.5]), draws)):
        assert found.value > 0
        assert np.isnan(found[1:]).all()
