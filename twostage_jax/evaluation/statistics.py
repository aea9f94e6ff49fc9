"""How certain a difference between approaches is: bootstrap over folds, and tests on ranks."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import scikit_posthocs
import scipy.stats
from jaxtyping import Float

from twostage_jax.evaluation import paper
from twostage_jax.evaluation.counting import counted, is_as_found
from twostage_jax.study.approaches import FAMILIES, Approach, position

CONFIDENCE = 0.95
RESAMPLES = 9999
BOOTSTRAP = f"{CONFIDENCE:.0%} percentile bootstrap over folds ({RESAMPLES:,} resamples)"
# If two approaches are equally good, all n folds lean one way with probability 2^(1 - n). That
# falls below 5 % at six folds; fewer folds cannot decide anything, whatever their interval.
FEWEST_FOLDS = 6

# How a text refers to the best approach of a family.
_BEST = {
    "baseline": "the baseline",
    "image": "the best in image space",
    "feature": "the best in feature space",
    "two-stage": "the best in two stages",
    "loss": "the best loss",
    "mixing": "the best mixing approach",
    "head": "the best head",
    "correction": "the best correction",
    "other": "the best of the others",
}


def scores_by_partition(
    frame: pd.DataFrame, metric: str, approaches: Iterable[str] | None = None
) -> pd.DataFrame:
    """Returns the scores of a metric in the partitions where all approaches have one.

    Args:
        frame: as `tables.metrics_frame` returns it; only the rows that count are used
            (`counting.counted`).
        metric: a column of `frame`.
        approaches: names of the approaches to compare; by default all of `frame`, in the order of
            tables.

    Returns:
        One row per (scenario, ratio, fold), one column per approach that `frame` has.
    """
    wide = counted(frame).pivot(
        index=["scenario", "ratio", "fold"], columns="approach", values=metric
    )
    wanted = sorted(wide, key=position) if approaches is None else approaches
    return wide.reindex(columns=[name for name in wanted if name in wide]).dropna()


def scores_by_fold(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns the means over the partitions of each fold: one row per fold.

    The partitions of one fold share images and are nested in one another. Folds share training
    images but no test images, so that they come closest to independent units.
    """
    return pd.DataFrame(scores.groupby(level="fold").mean())


class Difference(NamedTuple):
    """How far one approach is above a rival in one metric."""

    metric: str
    rival: str
    by_fold: Float[np.ndarray, "folds"]
    """Mean difference over the partitions of each fold."""
    mean: float
    """Mean over the folds."""
    low: float
    """Lower end of the interval; NaN with fewer than two folds."""
    high: float
    """Upper end of the interval, likewise."""
    partitions: int
    """Number of partitions in which both have a score."""
    ahead: int
    """Number of them in which the approach scores higher than the rival; ties do not count."""
    low_all: float = np.nan
    """Lower end of the interval that holds for all rivals at once (`simultaneous_intervals`); NaN
    where there is none."""
    high_all: float = np.nan
    """Upper end, likewise."""
    rivals: int = 1
    """Number of rivals that it holds for."""

    @property
    def verdict(self) -> str:
        """What the interval supports: `better`, `worse`, `undecided` or `too few folds`."""
        if len(self.by_fold) < FEWEST_FOLDS:
            return "too few folds"
        return supported(self.low, self.high)

    @property
    def verdict_all(self) -> str | None:
        """What the interval for all rivals supports: likewise; None where there is none."""
        return None if np.isnan(self.low_all) else supported(self.low_all, self.high_all)


def supported(low: float, high: float) -> str:
    """Returns what an interval of a difference supports: `better`, `worse` or `undecided`."""
    # Rounded as printed: an interval whose end prints as 0.000 does not exclude zero.
    if round(low, 3) > 0:
        return "better"
    return "worse" if round(high, 3) < 0 else "undecided"


def paired_difference(
    frame: pd.DataFrame, metric: str, rival: str, *, own: str
) -> Difference | None:
    """Compares the approach `own` with a rival; None if they have no partition in common.

    The interval is the percentile bootstrap over folds (B. Efron and R. Tibshirani, *An
    Introduction to the Bootstrap*, 1993, chapter 13). BCa intervals are undefined where all folds
    agree, and their acceleration is noise at ten values.
    """
    scores = scores_by_partition(frame, metric, [own, rival])
    if scores.empty or scores.shape[1] < 2:
        return None
    # Equal scores that were summed in another order differ in the last bit; they are ties.
    pairs = (scores[own] - scores[rival]).round(12)
    by_fold = np.asarray(pairs.groupby(level="fold").mean(), np.float64)
    low = high = np.nan
    if len(by_fold) > 1:
        low, high = scipy.stats.bootstrap(
            (by_fold,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
    ahead = int(np.count_nonzero(pairs > 0))
    mean = float(by_fold.mean())
    return Difference(metric, rival, by_fold, mean, float(low), float(high), len(pairs), ahead)


def differences_frame(differences: Iterable[Difference]) -> pd.DataFrame:
    """Returns one row per difference: metric, rival, difference, low, high, folds, ...

    The columns after `folds` are the others of `Difference`. `difference` is the mean.
    """
    frame = pd.DataFrame(list(differences)).rename(columns={"mean": "difference"})
    frame.insert(6, "folds", frame["by_fold"].map(len))
    return frame.drop(columns="by_fold")


def find_proposed(frame: pd.DataFrame) -> str | None:
    """Returns the approach that a verdict is about; None if no approach can be chosen.

    It is the paper's where that one has a score above ratio 1. Otherwise, and for data as they
    are, it is the approach with the highest mean AvAcc over the partitions in which all approaches
    have a score.
    """
    if not is_as_found(frame) and paper.PROPOSED in set(counted(frame)["approach"]):
        return paper.PROPOSED
    scores = scores_by_partition(frame, "AvAcc")
    return None if scores.empty else str(scores.mean().idxmax())


def find_rivals(
    frame: pd.DataFrame, approaches: Mapping[str, Approach], own: str
) -> dict[str, str]:
    """Returns the rivals of the approach `own`: a description and the name of each.

    They are the baseline and the best approach of every other family by mean AvAcc over the
    partitions in which all approaches have a score. Choosing the best on the same partitions is a
    bias in the rival's favor. If there is no other family, the rival is the best of its own.

    Args:
        frame: as `tables.metrics_frame` returns it.
        approaches: the approaches of `frame`, by name.
        own: the approach to compare with the rivals.
    """
    scores = scores_by_partition(frame, "AvAcc")
    means = {str(name): mean for name, mean in scores.mean().items() if name != own}
    chosen = {}
    for family in FAMILIES:
        members = [name for name in means if approaches[name].family == family]
        # A single member needs no partition in which all approaches have a score.
        if family != approaches[own].family and members and (len(members) == 1 or len(scores)):
            chosen[_BEST[family]] = max(members, key=means.__getitem__)
    if not chosen and means and len(scores):
        chosen["the next in its family"] = max(means, key=means.__getitem__)
    return chosen


class RankTest(NamedTuple):
    """Friedman's test, and Nemenyi's test of all pairs."""

    ranks: pd.Series
    """Average rank of each approach; 1 is best."""
    p_values: pd.DataFrame
    """Nemenyi's p-value of each pair."""
    friedman: float
    """p-value that all approaches are alike; NaN if every block is one tie."""
    blocks: int
    """Number of blocks."""


def rank_test(scores: pd.DataFrame) -> RankTest | None:
    """Compares approaches by their ranks in each block.

    Returns None with fewer than two blocks or three approaches; Friedman's test needs as many.

    Args:
        scores: one row per block (a partition or a fold), one column per approach.
    """
    if len(scores) < 2 or scores.shape[1] < 3:
        return None
    scores = scores.round(12)
    ties_only = bool((scores.nunique(axis=1) == 1).all())
    return RankTest(
        scores.rank(axis=1, ascending=False).mean(),
        scikit_posthocs.posthoc_nemenyi_friedman(scores.reset_index(drop=True)),
        np.nan if ties_only else float(scipy.stats.friedmanchisquare(*scores.to_numpy().T).pvalue),
        len(scores),
    )


def critical_difference(approaches: int, blocks: int, alpha: float = 0.05) -> float:
    """Returns the least difference of two average ranks that Nemenyi's test calls significant.

    Args:
        approaches: number of approaches.
        blocks: number of blocks.
        alpha: level of the test.

    Source: J. Demšar, *Statistical comparisons of classifiers over multiple data sets*, JMLR 7
    (2006), section 3.2.2.
    """
    q = scipy.stats.studentized_range.ppf(1 - alpha, approaches, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(approaches * (approaches + 1) / (6 * blocks)))
