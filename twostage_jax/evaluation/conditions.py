"""Calibration of a study's approaches under four conditions: two class distributions, corrected.

Approaches that resample learn other class frequencies than those of the training data, and their
probabilities hold under these. `study.corrections` turns them into those under the frequencies of
the test samples, which is fair to every approach.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64, Integer

from twostage_jax.evaluation.calibration import (
    Bins,
    Calibration,
    bin_samples,
    correct_prior,
    sample_weights,
    summarize,
)
from twostage_jax.evaluation.intervals import Interval, draw_folds, pooled_over_folds
from twostage_jax.study.approaches import Approach
from twostage_jax.study.corrections import change_prior
from twostage_jax.study.record import Record, known_prior

Frequencies = Float64[np.ndarray, " classes"]


class Condition(NamedTuple):
    """What test samples stand for, and what is done to the probabilities."""

    distribution: str
    """`own`: the samples that the imbalanced test fold keeps, which has the class frequencies of
    the training data. `balanced`: the whole test fold, weighted so that all classes count alike;
    where test folds are whole anyway, these are the same samples."""
    corrected: bool
    """Whether probabilities are corrected to the class frequencies of the distribution."""


CONDITIONS = tuple(
    Condition(name, corrected) for name in ("own", "balanced") for corrected in (False, True)
)
"""In the order of a report."""


class Calibrated(NamedTuple):
    """One approach under one condition, over the samples of all folds."""

    scores: Calibration
    bins: Bins
    nll: Interval
    ece: Interval


def complete_records(records: Iterable[Record], frame: pd.DataFrame) -> dict[str, list[Record]]:
    """Returns the records of each approach in the partitions that all approaches have.

    These count in Table II, too: all approaches have the same samples.

    Args:
        records: finished records.
        frame: the rows that count, as `counting.counted` returns them.

    Returns:
        Records by approach, in the order of `records`; nothing if no partition is complete.
    """
    cell = ["scenario", "ratio", "fold"]
    there = Counter(frame[cell].itertuples(index=False, name=None))
    complete = {own for own, count in there.items() if count == frame["approach"].nunique()}
    parts: dict[str, list[Record]] = {}
    for record in records:
        key = record.key
        if (key.scenario, key.ratio, key.fold) in complete:
            parts.setdefault(key.approach, []).append(record)
    return parts


def calibrate_study(
    records: Iterable[Record], frame: pd.DataFrame, approaches: Mapping[str, Approach]
) -> dict[str, dict[Condition, Calibrated]]:
    """Scores the probabilities of each approach under each condition.

    Args:
        records: finished records.
        frame: the rows that count, as `counting.counted` returns them.
        approaches: the approaches of `frame`, by name.

    Returns:
        By approach, in the order of `records`; conditions with a correction are absent where the
        frequencies that the approach learned are not known. Nothing if no partition is complete.
    """
    parts = complete_records(records, frame)
    found: dict[str, dict[Condition, Calibrated]] = {}
    if not parts:
        return found
    draws = draw_folds(len({record.key.fold for own in parts.values() for record in own}))
    for name, own in parts.items():
        priors = [known_prior(record, approaches[name]) for record in own]
        known = [prior for prior in priors if prior is not None]
        found[name] = {
            condition: _calibrate(own, known, condition, draws)
            for condition in CONDITIONS
            if len(known) == len(own) or not condition.corrected
        }
    return found


def corrected(record: Record, prior: Frequencies, distribution: str) -> Float32[np.ndarray, "n k"]:
    """Returns the probabilities of a record under the class frequencies of a distribution.

    Args:
        record: a finished one.
        prior: class frequencies under which its probabilities hold.
        distribution: `own` or `balanced`, see `Condition`.
    """
    if distribution == "balanced":
        return correct_prior(record.probabilities, prior)
    counts = np.maximum(record.class_counts, 1)  # as `Approach.learned_prior` counts
    return change_prior(record.probabilities, prior, counts / counts.sum())


def _calibrate(
    records: list[Record],
    priors: list[Frequencies],
    condition: Condition,
    draws: Int64[np.ndarray, "resamples folds"],
) -> Calibrated:
    own = condition.distribution == "own"
    scored = [record.kept if own else np.ones_like(record.kept) for record in records]
    predicted = [record.probabilities for record in records]
    if condition.corrected:
        pairs = zip(records, priors, strict=True)
        predicted = [corrected(record, prior, condition.distribution) for record, prior in pairs]
    probabilities = np.concatenate([p[s] for p, s in zip(predicted, scored, strict=True)])
    labels = np.concatenate([r.label[s] for r, s in zip(records, scored, strict=True)])
    folds = np.repeat([r.key.fold for r in records], [np.count_nonzero(s) for s in scored])
    classes = probabilities.shape[1]
    equal = np.full(classes, 1 / classes)
    weights = np.ones(len(labels)) if own else sample_weights(labels, equal)
    return _over_folds(probabilities, labels, weights, folds, draws)


def _over_folds(
    probabilities: Float32[np.ndarray, "n classes"],
    labels: Integer[np.ndarray, "n"],
    weights: Float64[np.ndarray, "n"],
    folds: Integer[np.ndarray, "n"],
    draws: Int64[np.ndarray, "resamples folds"],
) -> Calibrated:
    by_fold = [
        bin_samples(probabilities[rows], labels[rows], weights=weights[rows])
        for rows in (folds == fold for fold in np.unique(folds))
    ]
    stacked = Bins(*map(np.stack, zip(*by_fold, strict=True)))
    bins = Bins(*(entry.sum(axis=0) for entry in stacked))
    nll, ece = pooled_over_folds(stacked, draws)
    return Calibrated(summarize(bins), bins, nll, ece)
