"""How sure a difference between approaches is: bootstrap over folds, and tests on ranks."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import scikit_posthocs
import scipy.stats
from jaxtyping import Float

from twostage_jax.study.approaches import APPROACHES

PROPOSED = "ts_smote_rus"
CONFIDENCE = 0.95
RESAMPLES = 9999
# Without any difference, n folds all lean one way with probability 2^(1 - n), which falls below
# 5 % at six folds: fewer cannot decide anything, whatever their interval.
FEWEST_FOLDS = 6


def scores_by_partition(
    frame: pd.DataFrame, metric: str, approaches: list[str] | None = None
) -> pd.DataFrame:
    """Scores of a metric where all approaches have one; ratio 1 does not count.

    Args:
        frame: as `tables.metrics_frame` returns it.
        metric: a column of it.
        approaches: those to compare; by default all that the frame has.

    Returns:
        A row a (scenario, ratio, fold), a column an approach in the paper's order.
    """
    wide = frame[frame["ratio"] > 1].pivot(
        index=["scenario", "ratio", "fold"], columns="approach", values=metric
    )
    wanted = APPROACHES if approaches is None else approaches
    return wide.reindex(columns=[name for name in wanted if name in wide]).dropna()


def scores_by_fold(scores: pd.DataFrame) -> pd.DataFrame:
    """Means over the partitions of each fold: a row a fold.

    The partitions of a fold share its images and are nested in one another; folds share training
    images, but no test image. The fold is the unit that comes closest to independent.
    """
    return scores.groupby(level="fold").mean()


class Difference(NamedTuple):
    """By how much an approach (the proposed one) is above a rival in one metric, by partition."""

    metric: str
    rival: str
    by_fold: Float[np.ndarray, "folds"]
    """Mean over each fold's partitions."""
    mean: float
    """Mean over the folds."""
    low: float
    """Lower end of the interval; NaN with fewer than two folds."""
    high: float
    """Its upper end."""
    partitions: int
    ahead: int
    """Partitions in which it scores higher than the rival."""

    @property
    def verdict(self) -> str:
        """What the interval allows to say: `better`, `worse`, `undecided` or `too few folds`."""
        if len(self.by_fold) < FEWEST_FOLDS:
            return "too few folds"
        # As printed: an end that prints as 0.000 does not leave out zero.
        if round(self.low, 3) > 0:
            return "better"
        return "worse" if round(self.high, 3) < 0 else "undecided"


def paired_difference(
    frame: pd.DataFrame, metric: str, rival: str, *, own: str = PROPOSED
) -> Difference | None:
    """Compares an approach, `own`, with a rival; None where they have no partition in common.

    The interval is the percentile bootstrap over folds (Efron and Tibshirani, 1993, chapter 13).
    Percentile and not BCa: BCa is undefined where all folds agree, and its acceleration is
    noise at ten values.
    """
    scores = scores_by_partition(frame, metric, [own, rival])
    if scores.empty or scores.shape[1] < 2:
        return None
    # Rounded as for ranks: scores equal but for the last bit are equal.
    pairs = (scores[own] - scores[rival]).round(12)
    by_fold = pairs.groupby(level="fold").mean().to_numpy()
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
    return Difference(
        metric,
        rival,
        by_fold,
        float(by_fold.mean()),
        float(low),
        float(high),
        len(pairs),
        int((pairs > 0).sum()),
    )


def rivals(frame: pd.DataFrame) -> dict[str, str]:
    """Whom to compare the proposed approach with: a description, and the approach.

    The best of a space has the highest mean AvAcc over the same partitions; to choose it there
    favours it, and not the proposed approach.
    """
    means = scores_by_partition(frame, "AvAcc").mean()
    chosen = {"the baseline": "baseline"} if "baseline" in means else {}
    for prefix, space in (("is_", "image space"), ("fs_", "feature space")):
        own = means[[name for name in means.index if name.startswith(prefix)]]
        if own.notna().any():
            chosen[f"the best in {space}"] = own.idxmax()
    return chosen


class RankTest(NamedTuple):
    """Friedman's test and Nemenyi's comparisons of all pairs."""

    ranks: pd.Series
    """Average rank of each approach, 1 is best."""
    p_values: pd.DataFrame
    """Of each pair (Nemenyi)."""
    friedman: float
    """p-value that all are alike; NaN where every block is one tie."""
    blocks: int


def rank_test(scores: pd.DataFrame) -> RankTest | None:
    """Compares approaches by their ranks in each block; None with too few of either.

    Args:
        scores: a row a block (partitions, or folds), a column an approach.
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
    """The difference of average ranks from which Nemenyi's test tells two approaches apart.

    Source: J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7
    (2006), section 3.2.2.
    """
    q = scipy.stats.studentized_range.ppf(1 - alpha, approaches, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(approaches * (approaches + 1) / (6 * blocks)))
