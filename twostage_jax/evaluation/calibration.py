"""Whether predicted probabilities can be taken at their word: log loss, Brier score, ECE.

Probabilities are of N samples and K classes, one row per sample; labels are the true classes in
[0, K). All sums are in float64.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64, Integer

from twostage_jax.study.record import Record
from twostage_jax.support.errors import InputError

BINS = 15
"""Bins of the top probability, as in Guo et al. (2017)."""

_LEAST = float(np.finfo(np.float32).eps)  # that of scikit-learn for float32

Probabilities = Float[np.ndarray, "n classes"]
Labels = Integer[np.ndarray, "n"]


class Bins(NamedTuple):
    """Samples by their top probability, in bins of equal width over (0, 1]."""

    count: Int64[np.ndarray, "bins"]
    """Samples in each bin."""
    confidence: Float64[np.ndarray, "bins"]
    """Their mean top probability; NaN in an empty bin."""
    accuracy: Float64[np.ndarray, "bins"]
    """Share of them whose top class is the true one; NaN in an empty bin."""


class Calibration(NamedTuple):
    """The scores of one set of probabilities. Lower is better in the first three."""

    log_loss: float
    """Nats per sample."""
    brier: float
    """In [0, 2]."""
    ece: float
    """Expected calibration error, in [0, 1]."""
    confidence: float
    """Mean top probability. Above `accuracy`, the network is too sure of itself."""
    accuracy: float
    """Share of samples whose top class is the true one."""
    samples: int
    """Number of samples."""


def log_loss(probabilities: Probabilities, labels: Labels) -> float:
    """Returns the mean of -ln p(true class), in nats.

    A probability below the spacing of float32 at 1 (1.2e-7) counts as that much: one mistake of
    complete certainty costs 15.9 nats and not infinity. scikit-learn does the same to float32.

    Raises:
        InputError: no samples, or not one label in [0, K) per row.
    """
    own = np.take_along_axis(*_checked(probabilities, labels), axis=1)
    return float(-np.log(np.clip(own, _LEAST, 1 - _LEAST)).mean())


def brier_score(probabilities: Probabilities, labels: Labels) -> float:
    """Returns the mean over samples of the sum over classes of (p_k - [k is true])^2.

    It is 0 for certainty that is right and 2 for certainty that is wrong. Source: G. Brier,
    *Verification of forecasts expressed in terms of probability*, Monthly Weather Review 78 (1950).

    Raises:
        InputError: as `log_loss`.
    """
    p, column = _checked(probabilities, labels)
    # The square of p - 1 instead of that of p, where the class is the true one.
    own = np.take_along_axis(p, column, axis=1)
    return float(((p**2).sum(axis=1, keepdims=True) - 2 * own + 1).mean())


def bin_samples(probabilities: Probabilities, labels: Labels, bins: int = BINS) -> Bins:
    """Sorts samples into bins of the top probability.

    Bin m of M holds the samples with a top probability in ((m - 1) / M, m / M].

    Raises:
        InputError: as `log_loss`.
    """
    p, column = _checked(probabilities, labels)
    top, right = p.max(axis=1), p.argmax(axis=1) == column[:, 0]
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin is NaN
        confidence = np.bincount(place, top, bins) / count
        accuracy = np.bincount(place, right, bins) / count
    return Bins(count, confidence, accuracy)


def expected_calibration_error(bins: Bins) -> float:
    """Returns the sum over bins of (samples of the bin / all samples) |accuracy - confidence|.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, *On calibration of modern neural
    networks*, ICML (2017), equations 2, 3 and 5, after M. Naeini et al., AAAI (2015).
    """
    gaps = np.nan_to_num(np.abs(bins.accuracy - bins.confidence))
    return float((bins.count * gaps).sum() / bins.count.sum())


def calibrate(probabilities: Probabilities, labels: Labels) -> Calibration:
    """Returns all scores of some probabilities.

    Raises:
        InputError: as `log_loss`.
    """
    p, column = _checked(probabilities, labels)
    return Calibration(
        log_loss(probabilities, labels),
        brier_score(probabilities, labels),
        expected_calibration_error(bin_samples(probabilities, labels)),
        float(p.max(axis=1).mean()),
        float((p.argmax(axis=1) == column[:, 0]).mean()),
        len(p),
    )


def pool(records: Iterable[Record], frame: pd.DataFrame) -> dict[str, tuple[Probabilities, Labels]]:
    """Pools the scored test samples of each approach: those that the imbalanced test fold keeps.

    Only complete partitions are used, as in Table II, so that all approaches have the same
    samples.

    Args:
        records: finished records.
        frame: the rows that count, as `counting.counted` returns them.

    Returns:
        Probabilities and labels of each approach of `frame`, in the order of `records`; nothing if
        no partition is complete.
    """
    cell = ["scenario", "ratio", "fold"]
    there = Counter(frame[cell].itertuples(index=False, name=None))
    complete = {own for own, count in there.items() if count == frame["approach"].nunique()}
    parts: dict[str, list[Record]] = {}
    for record in records:
        key = record.key
        if (key.scenario, key.ratio, key.fold) in complete:
            parts.setdefault(key.approach, []).append(record)
    return {
        name: (
            np.concatenate([record.probabilities[record.kept] for record in own]),
            np.concatenate([record.label[record.kept] for record in own]),
        )
        for name, own in parts.items()
    }


def _checked(
    probabilities: Probabilities, labels: Labels
) -> tuple[Float64[np.ndarray, "n classes"], Integer[np.ndarray, "n 1"]]:
    """Returns probabilities in float64 and labels as a column."""
    if len(labels) == 0 or len(labels) != len(probabilities):
        raise InputError(
            f"found {len(labels)} labels and {len(probabilities)} rows of probabilities; expected "
            "one row per label, and at least one; pass both for the same samples"
        )
    classes = probabilities.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"found labels from {labels.min()} to {labels.max()}; expected 0 to {classes - 1}; "
            "check the number of classes"
        )
    return probabilities.astype(np.float64), labels[:, None]
