"""Percentile intervals of scores, and the resamples of folds that they come from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64

from twostage_jax.evaluation.calibration import Bins
from twostage_jax.evaluation.statistics import CONFIDENCE, RESAMPLES
from twostage_jax.support.streams import derive


class Interval(NamedTuple):
    """A score and the ends of its interval."""

    value: float
    low: float
    """NaN where there is no interval, like `high`."""
    high: float


def percentile_interval(value: float, resampled: Float[np.ndarray, "resamples"]) -> Interval:
    """Returns the interval that holds the middle 95 % of the resamples' values.

    Source: B. Efron and R. Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13.
    """
    ends = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(value, *map(float, ends))


def draw_folds(
    folds: int, *, resamples: int = RESAMPLES, seed: int = 0
) -> Int64[np.ndarray, "resamples folds"]:
    """Returns how often each resample has each fold: as many folds as there are, put back each.

    Sums over the folds of all resamples are then one matrix product, where `scipy.stats.bootstrap`
    would gather the bins of every resample.
    """
    rng = np.random.default_rng(derive(seed, "evaluation", "bootstrap", "folds"))
    return rng.multinomial(folds, np.full(folds, 1 / folds), size=resamples)


def mean_over_folds(
    by_fold: Float64[np.ndarray, "folds"], draws: Int64[np.ndarray, "resamples folds"]
) -> Interval:
    """Returns the mean of a score over the folds; with one fold, it has no interval.

    Args:
        by_fold: score of each fold.
        draws: as `draw_folds` returns them.
    """
    value = float(by_fold.mean())
    if len(by_fold) < 2:
        return Interval(value, np.nan, np.nan)
    return percentile_interval(value, draws @ by_fold / len(by_fold))


def pooled_over_folds(
    by_fold: Bins, draws: Int64[np.ndarray, "resamples folds"]
) -> tuple[Interval, Interval]:
    """Returns NLL and ECE of the samples of all folds; with one fold, they have no interval.

    A resample pools the samples of its folds before it takes the ECE. The mean of the ECE of single
    folds would be too high: the fewer samples a bin has, the farther chance drives its accuracy
    from its confidence.

    Args:
        by_fold: bins of each fold, along a leading axis of all entries.
        draws: as `draw_folds` returns them.
    """

    def scores(times: Int64[np.ndarray, "n folds"]) -> list[Float64[np.ndarray, "n"]]:
        weight = times @ by_fold.weight.sum(axis=1)
        gaps = np.abs(times @ (by_fold.right - by_fold.top)).sum(axis=1)
        return [times @ by_fold.loss.sum(axis=1) / weight, gaps / weight]

    folds = len(by_fold.weight)
    nll, ece = (float(own[0]) for own in scores(np.ones((1, folds), np.int64)))
    if folds < 2:
        return Interval(nll, np.nan, np.nan), Interval(ece, np.nan, np.nan)
    of_nll, of_ece = scores(draws)
    return percentile_interval(nll, of_nll), ece_interval(ece, of_ece)


def ece_interval(value: float, resampled: Float[np.ndarray, "resamples"]) -> Interval:
    """Returns an interval of an ECE that allows for what chance adds to it.

    Gaps have no sign, so that chance makes every ECE too high, and that of a resample still higher:
    it holds some folds twice, with about twice the variance per bin. A percentile interval of small
    ECEs often lies above the value itself. In our simulation of ten folds of 276 samples it held
    the true ECE in 0, 67 and 91 of 100 cases where that was 0.001, 0.03 and 0.08; this one held it
    in 83, 98 and 92.

    Let the mean of the resamples be d above the value. Where chance alone makes the gaps, they grow
    with its standard deviation, and the value is too high by d / (sqrt(2) - 1). Where they are
    large, what chance adds grows with its variance, and that is about d. The interval is as wide as
    the percentile one, but goes from where the first would put it, at least 0, to where no excess
    would.

    Args:
        value: the ECE of all samples.
        resampled: the ECE of each resample.
    """
    percentiles, mean = percentile_interval(value, resampled), resampled.mean()
    excess = max(0.0, float(mean - value)) / (np.sqrt(2) - 1)
    low = value - excess + percentiles.low - mean
    return Interval(value, max(0.0, float(low)), float(value + percentiles.high - mean))
