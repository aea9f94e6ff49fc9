"""Which approach suits the user's own data: the best, or the simplest that is not told from it."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from twostage_jax.evaluation.statistics import (
    CONFIDENCE,
    FEWEST_FOLDS,
    Difference,
    paired_difference,
    scores_by_partition,
)
from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.study.approaches import Approach

METRIC = "AvAcc"

_SIMPLICITY = {
    "baseline": 0,
    "correction": 1,
    "loss": 2,
    "mixing": 3,
    "image": 4,
    "feature": 4,
    "head": 5,
    "two-stage": 6,
    "other": 7,
}
"""Families by what they ask of a user: nothing; a division after training; another line in the same
training; batches that are mixed in it; one set of samples that is resampled; a second training by
rules of its own; two sets that are resampled and a second training; anything."""

_MEANING = {
    "baseline": ", training on the images as they are",
    "correction": ", which trains on the images as they are and corrects the probabilities",
    "loss": ", which trains on the images as they are with another loss",
    "mixing": ", which trains on mixtures of the images",
    "image": ", which resamples the images",
    "feature": ", which resamples the features and retrains the head on them",
    "head": ", which trains the network and then its head once more by other rules",
    "two-stage": ", which resamples the images, and then the features to retrain the head",
    "other": "",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Recommendation:
    """An approach to train on all images, and why."""

    best: str
    """The approach with the highest mean AvAcc over the complete partitions."""
    recommended: str
    """The simplest approach whose difference from the best may be chance; else the best."""
    mean: float
    """Mean AvAcc of the best."""
    folds: int
    """Number of folds (splits), at least two."""
    behind: tuple[Difference, ...]
    """The best minus each simpler approach up to the recommended one, in the order of simplicity.
    All but the last one are told from the best; so is the last where the best is recommended."""

    @property
    def difference(self) -> Difference | None:
        """The best minus the recommended approach; None where they are the same."""
        return None if self.recommended == self.best else self.behind[-1]


def recommend(frame: pd.DataFrame, approaches: Mapping[str, Approach]) -> Recommendation | None:
    """Recommends an approach; None with one approach or fewer than two folds to judge by.

    From simple to complex come the baseline, a correction, another loss, mixing, one stage
    resampled, a head retrained, two stages, and all others; approaches of one step keep the order
    of tables, and a corrected one follows all of the step that it corrects. The recommended one is
    the first
    that the paired bootstrap interval of the best minus it does not tell from the best. Its lower
    end counts as printed, with three decimals: an end that prints as 0.000 does not exclude zero.
    Below six folds this is a guess where the verdict (`Difference.verdict`) would be silent.

    Args:
        frame: as `tables.metrics_frame` returns it; only complete partitions that count are used.
        approaches: the approaches of `frame`, by name, in the order of tables.
    """
    scores = scores_by_partition(frame, METRIC)
    folds = scores.index.unique("fold")
    if scores.shape[1] < 2 or len(folds) < 2:
        return None
    # Equal scores that were summed in another order differ in the last bit; they are ties.
    means = {str(name): round(float(mean), 12) for name, mean in scores.mean().items()}
    order = sorted(means, key=lambda name: _simplicity(approaches[name], approaches))
    best = max(order, key=means.__getitem__)  # among equals, the simplest
    keys = [*scores.index.names, "approach"]
    complete = frame.set_index(keys).loc[lambda own: own.index.droplevel(-1).isin(scores.index)]
    complete, behind = complete.reset_index(), []
    for name in order[: order.index(best)]:
        difference = paired_difference(complete, METRIC, name, own=best)
        assert difference is not None, "both have a score in every complete partition"
        behind.append(difference)
        if round(difference.low, 3) <= 0:
            break
    undecided = behind and round(behind[-1].low, 3) <= 0
    recommended = behind[-1].rival if undecided else best
    return Recommendation(best, recommended, means[best], len(folds), tuple(behind))


def _simplicity(approach: Approach, others: Mapping[str, Approach]) -> tuple[int, bool]:
    """The sort key of an approach: its step, and whether its probabilities are corrected."""
    base = approach.base_name
    family = find_approaches([base], others)[base].family
    return _SIMPLICITY[family], base != approach.name


def _meaning(approach: Approach) -> str:
    if approach.base_name != approach.name:
        return ", which corrects the probabilities afterwards"
    return _MEANING[approach.family]


def explain(frame: pd.DataFrame, approaches: Mapping[str, Approach]) -> list[str]:
    """Returns the recommendation for data as they are in sentences, or why there is none.

    Args:
        frame: as for `recommend`.
        approaches: as for `recommend`.
    """
    found = recommend(frame, approaches)
    if found is None:
        return [_why_none(frame)]
    return [*_reasons(found, approaches), *_cautions(found)]


def recommendation_lines(
    frame: pd.DataFrame, approaches: Mapping[str, Approach], fit: str = ""
) -> list[str]:
    """Returns the recommendation as lines for a terminal; the last is the command that fits it.

    Args:
        frame: as for `recommend`.
        approaches: as for `recommend`.
        fit: the command that fits an approach on all images, with `{approach}` in place of its
            name; empty for no such line.
    """
    found = recommend(frame, approaches)
    lines = explain(frame, approaches)
    if found is not None and fit:
        lines += ["Fit it on all images:", f"  {fit_command(fit, found.recommended)}"]
    return lines


def fit_command(fit: str, approach: str) -> str:
    """Returns the command of a study that fits one approach; its paths may hold braces."""
    return fit.replace("{approach}", approach)


def _why_none(frame: pd.DataFrame) -> str:
    scores = scores_by_partition(frame, METRIC)
    if len(set(frame["approach"])) == 1:
        return "No recommendation: one approach alone has scores, and none to compare it with."
    if len(scores) == 0:
        return "No recommendation yet: there is no split on which all approaches have scores."
    return (
        "No recommendation: one split on which all approaches have scores says nothing about "
        "chance. It needs at least two."
    )


def _reasons(found: Recommendation, approaches: Mapping[str, Approach]) -> list[str]:
    best, chosen = (approaches[name].title for name in (found.best, found.recommended))
    first = [
        f"Recommended: {chosen}{_meaning(approaches[found.recommended])}.",
        f"{best} has the highest mean {METRIC} (mean recall of the classes): {found.mean:.3f} over "
        f"{found.folds} splits. It was found on these same splits, which favors it.",
    ]
    if not found.behind:
        return [*first, f"No approach here is simpler than {best}."]
    # The one that it is not told from, or the nearest of those that it is told from.
    rival = found.difference or min(found.behind, key=lambda difference: difference.mean)
    name, level = approaches[rival.rival].title, round(rival.mean, 3) == 0
    told = (
        f"{best} is {'level with' if level else f'{rival.mean:.3f} above'} {name} "
        f"({CONFIDENCE:.0%} interval {rival.low:+.3f} to {rival.high:+.3f} over {found.folds} "
        "splits)."
    )
    if found.difference is not None:
        why = f"The interval holds zero: the two are not told apart, and {name} is the simpler one."
    elif len(found.behind) == 1:
        why = "The interval lies above zero: the two are told apart."
    else:
        why = f"All {len(found.behind)} simpler approaches are told from it; this one is nearest."
    return [*first, f"{told} {why}"]


def _cautions(found: Recommendation) -> list[str]:
    if found.folds >= FEWEST_FOLDS:
        return []
    chance = 2.0 ** (1 - found.folds)
    return [
        f"Caution: {found.folds} splits are few, and an interval over them is narrower than the "
        f"truth. If two approaches were equally good, all {found.folds} splits would still lean "
        f"one way with probability {chance:.0%}. Take this as the best guess; {FEWEST_FOLDS} or "
        "more splits would support it."
    ]
