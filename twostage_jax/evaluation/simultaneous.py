"""Intervals that hold for all rivals of an approach at once.

Where one approach is compared with many, the interval of one comparison is too sure: among 28
rivals that are equally good, one or two look worse or better by chance. The single-step max-T
method asks how large the largest of all t-values becomes where no rival differs. It accounts for
the correlation of rivals, such as those that share a network, and is therefore less strict than
Bonferroni's correction. Sources: P. Westfall and S. Young, *Resampling-Based Multiple Testing*,
1993, section 2.3; J. Romano and M. Wolf, *Exact and approximate stepdown methods for multiple
hypothesis testing*, JASA 100, 2005.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64

from twostage_jax.evaluation.counting import counted
from twostage_jax.evaluation.statistics import CONFIDENCE, FEWEST_FOLDS, Difference
from twostage_jax.study.approaches import position

MOST_LISTED = 12
"""The most folds whose flips of signs are all listed; with more, flips are drawn."""
DRAWN = 4095
"""Flips that are drawn; the one that changes nothing is added."""

_LEAST = 1e-10  # below it, a standard deviation is the rounding of equal differences


def with_all_rivals(
    frame: pd.DataFrame, differences: Iterable[Difference], *, own: str
) -> list[Difference]:
    """Adds to differences of one approach the intervals that hold for all of its rivals.

    The rivals are all other approaches that have a partition with it in common, and not only those
    of `differences`: the best of a family is chosen from its members.

    Args:
        frame: as `tables.metrics_frame` returns it; only the rows that count are used.
        differences: of `own` and some of its rivals.
        own: the approach.

    Returns:
        The differences, with `low_all`, `high_all` and `rivals`. A single rival stays as it is.
    """
    found, bounds = list(differences), {}
    for metric in {one.metric for one in found}:
        by_fold = differences_by_fold(frame, metric, own=own)
        bounds[metric] = simultaneous_intervals(by_fold.to_numpy(np.float64)), list(by_fold)
    made = []
    for one in found:
        (low, high), rivals = bounds[one.metric]
        if len(rivals) > 1:
            i = rivals.index(one.rival)
            judged = int(np.count_nonzero(~np.isnan(low)))
            many = {"low_all": float(low[i]), "high_all": float(high[i]), "rivals": judged}
            one = one._replace(**many)
        made.append(one)
    return made


def differences_by_fold(frame: pd.DataFrame, metric: str, *, own: str) -> pd.DataFrame:
    """Returns how far an approach is above each rival in each fold, as `paired_difference` does.

    Args:
        frame: as for `with_all_rivals`.
        metric: a column of `frame`.
        own: the approach.

    Returns:
        One row per fold and one column per rival, in the order of tables: means over the fold's
        partitions in which both have a score, NaN where there are none. Rivals without any are
        left out.
    """
    wide = counted(frame).pivot(
        index=["scenario", "ratio", "fold"], columns="approach", values=metric
    )
    rivals = sorted((name for name in wide if name != own), key=position)
    pairs = wide[rivals].rsub(wide[own], axis=0).round(12)
    return pd.DataFrame(pairs.groupby(level="fold").mean()).dropna(axis="columns", how="all")


def simultaneous_intervals(
    by_fold: Float[np.ndarray, "folds rivals"],
) -> tuple[Float64[np.ndarray, " rivals"], Float64[np.ndarray, " rivals"]]:
    """Returns intervals that all hold at once with a probability of `CONFIDENCE`.

    They are mean +- c * standard error. c is the quantile of the largest |t| of all rivals, if the
    signs of their centered differences are flipped fold by fold, for all rivals alike. The
    standard error in t is that of the flipped differences: with the one before the flips, all
    intervals of 28 rivals over ten folds held in 62 % of simulated studies, and not in 95 %. Where
    differences have a skewness of one, all hold in 90 %. Up to `MOST_LISTED` folds all flips are
    listed, else `DRAWN` are drawn from a fixed seed.

    Args:
        by_fold: differences; NaN where a fold has none.

    Returns:
        The lower and the upper ends. They are NaN for rivals with fewer than `FEWEST_FOLDS` folds.
        Where all folds agree, both are the mean, and c does not depend on that rival. They are
        infinite where so few flips say nothing at this confidence.
    """
    there = ~np.isnan(by_fold)
    folds = there.sum(axis=0)
    judged = folds >= FEWEST_FOLDS
    count = np.maximum(folds, 2)  # the others are not judged
    mean = np.where(there, by_fold, 0).sum(axis=0) / count
    centered = np.where(there, by_fold - mean, 0)
    squares = (centered**2).sum(axis=0)
    error = np.sqrt(squares / (count - 1) / count)
    varied = judged & (error * np.sqrt(count) > _LEAST)
    reach = np.zeros(len(mean))
    if varied.any():
        flipped = _signs(len(by_fold)) @ centered[:, varied]
        # Flips keep the sum of squares, and so the variance follows from the mean.
        share = np.minimum(flipped**2 / (count[varied] * squares[varied]), 1)
        with np.errstate(divide="ignore"):  # all flipped differences are equal: t is infinite
            largest = ((count[varied] - 1) * share / (1 - share)).max(axis=1)
        square = np.quantile(largest, CONFIDENCE, method="inverted_cdf")
        reach[varied] = np.sqrt(square) * error[varied]
    return np.where(judged, mean - reach, np.nan), np.where(judged, mean + reach, np.nan)


def _signs(folds: int) -> Float64[np.ndarray, "flips folds"]:
    """The flips, as factors 1 and -1; the first changes nothing."""
    if folds <= MOST_LISTED:
        bits = np.arange(2**folds)[:, None] >> np.arange(folds) & 1
    else:
        drawn = np.random.default_rng(0).integers(0, 2, (DRAWN, folds))
        bits = np.concatenate([np.zeros((1, folds), np.int64), drawn])
    return 1.0 - 2.0 * bits
