"""Whether predicted probabilities can be taken at their word: NLL, Brier score, ECE.

Probabilities are of N samples and K classes, one row per sample; labels are the true classes in
[0, K). All sums are in float64.

Every function takes weights of the samples, by which the same samples stand for other class
frequencies (`sample_weights`). Equal weights change nothing, and a weight of 2 is that of a sample
that is there twice. None: all weigh 1.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer

from twostage_jax.study.corrections import correct_prior
from twostage_jax.support.errors import InputError

__all__ = [
    "BINS",
    "Bins",
    "Calibration",
    "bin_samples",
    "brier_score",
    "calibrate",
    "correct_prior",
    "expected_calibration_error",
    "negative_log_likelihood",
    "sample_weights",
    "summarize",
]

BINS = 15
"""Bins of the top probability, as in Guo et al. (2017)."""

_LEAST = float(np.finfo(np.float32).eps)  # that of scikit-learn for float32

Probabilities = Float[np.ndarray, "n classes"]
Labels = Integer[np.ndarray, "n"]
Weights = Float[np.ndarray, "n"]


class Bins(NamedTuple):
    """Sums over the samples of each bin of the top probability.

    The bins have equal width over (0, 1]. Those of two sets of samples add up entry by entry. The
    bins of several folds have a leading axis for them.
    """

    count: Int64[np.ndarray, "*folds bins"]
    """Number of samples."""
    weight: Float64[np.ndarray, "*folds bins"]
    """Sum of their weights; the entries below are of values times weights."""
    top: Float64[np.ndarray, "*folds bins"]
    """Sum of the top probabilities."""
    right: Float64[np.ndarray, "*folds bins"]
    """Sum over the samples whose top class is the true one."""
    loss: Float64[np.ndarray, "*folds bins"]
    """Sum of -ln p(true class)."""
    squares: Float64[np.ndarray, "*folds bins"]
    """Sum of the squared differences between the probabilities and the truth."""

    @property
    def confidence(self) -> Float64[np.ndarray, "*folds bins"]:
        """Mean top probability; NaN in a bin without weight."""
        return self.top / np.where(self.weight > 0, self.weight, np.nan)

    @property
    def accuracy(self) -> Float64[np.ndarray, "*folds bins"]:
        """Share of samples whose top class is the true one; NaN in a bin without weight."""
        return self.right / np.where(self.weight > 0, self.weight, np.nan)


class Calibration(NamedTuple):
    """The scores of one set of probabilities. Lower is better in the first three."""

    nll: float
    """Negative log-likelihood, in nats per sample."""
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


def negative_log_likelihood(
    probabilities: Probabilities, labels: Labels, weights: Weights | None = None
) -> float:
    """Returns the mean of -ln p(true class), in nats.

    A probability below the spacing of float32 at 1 (1.2e-7) counts as that much: one mistake of
    complete certainty costs 15.9 nats and not infinity. scikit-learn does the same to float32, but
    adds up in float32, too, and warns of float32 rows in float64: hence this function.

    Raises:
        InputError: no samples, not one label in [0, K) per row, or not one weight of 0 or more per
            row, or all of them 0.
    """
    p, column, w = _checked(probabilities, labels, weights)
    return float(np.average(_losses(p, column), weights=w))


def brier_score(
    probabilities: Probabilities, labels: Labels, weights: Weights | None = None
) -> float:
    """Returns the mean over samples of the sum over classes of (p_k - [k is true])^2.

    It is 0 for certainty that is right and 2 for certainty that is wrong, with two classes, too.
    scikit-learn has this for more than two classes since its version 1.7; we run with older ones.
    Source: G. Brier, *Verification of forecasts expressed in terms of probability*, Monthly Weather
    Review 78 (1950).

    Raises:
        InputError: as `negative_log_likelihood`.
    """
    p, column, w = _checked(probabilities, labels, weights)
    return float(np.average(_squares(p, column), weights=w))


def expected_calibration_error(
    probabilities: Probabilities,
    labels: Labels,
    bins: int = BINS,
    weights: Weights | None = None,
) -> float:
    """Returns the sum over bins of (weight of the bin / all weight) |accuracy - confidence|.

    Bin m of M holds the samples with a top probability in ((m - 1) / M, m / M]. scikit-learn and
    SciPy have no such function. Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, *On
    calibration of modern neural networks*, ICML (2017), equations 2, 3 and 5, after M. Naeini et
    al., AAAI (2015).

    Raises:
        InputError: as `negative_log_likelihood`.
    """
    return summarize(bin_samples(probabilities, labels, bins, weights)).ece


def bin_samples(
    probabilities: Probabilities,
    labels: Labels,
    bins: int = BINS,
    weights: Weights | None = None,
) -> Bins:
    """Sorts samples into bins of the top probability.

    Bin m of M holds the samples with a top probability in ((m - 1) / M, m / M].

    Raises:
        InputError: as `negative_log_likelihood`.
    """
    p, column, w = _checked(probabilities, labels, weights)
    top, right = p.max(axis=1), p.argmax(axis=1) == column[:, 0]
    place = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], top)
    values = (np.ones(len(p)), top, right, _losses(p, column), _squares(p, column))
    sums = (np.bincount(place, w * value, bins) for value in values)
    return Bins(np.bincount(place, minlength=bins), *sums)


def summarize(bins: Bins) -> Calibration:
    """Returns all scores of the samples of some bins."""
    weight = bins.weight.sum()
    return Calibration(
        nll=float(bins.loss.sum() / weight),
        brier=float(bins.squares.sum() / weight),
        ece=float(np.abs(bins.right - bins.top).sum() / weight),
        confidence=float(bins.top.sum() / weight),
        accuracy=float(bins.right.sum() / weight),
        samples=int(bins.count.sum()),
    )


def calibrate(
    probabilities: Probabilities, labels: Labels, weights: Weights | None = None
) -> Calibration:
    """Returns all scores of some probabilities.

    Raises:
        InputError: as `negative_log_likelihood`.
    """
    return summarize(bin_samples(probabilities, labels, weights=weights))


def sample_weights(
    labels: Labels, wanted: Float[np.ndarray, "classes"]
) -> Float64[np.ndarray, "n"]:
    """Returns weights by which samples stand for other class frequencies than their own.

    The weight of a sample is the wanted frequency of its class over that among the samples. Their
    mean is 1.

    Args:
        labels: classes in [0, K).
        wanted: class frequencies to stand for, which add up to 1.

    Raises:
        InputError: a class that is wanted has no sample.
    """
    counts = np.bincount(labels, minlength=len(wanted))
    absent = np.flatnonzero((counts == 0) & (wanted > 0))
    if len(absent):
        raise InputError(
            f"found no samples of class {', '.join(map(str, absent))}; expected one of each class "
            "that is wanted; add samples or want other frequencies"
        )
    return (wanted * len(labels) / np.maximum(counts, 1))[labels]


def _losses(
    p: Float64[np.ndarray, "n classes"], column: Integer[np.ndarray, "n 1"]
) -> Float64[np.ndarray, "n"]:
    own = np.take_along_axis(p, column, axis=1)[:, 0]
    return -np.log(np.clip(own, _LEAST, 1 - _LEAST))


def _squares(
    p: Float64[np.ndarray, "n classes"], column: Integer[np.ndarray, "n 1"]
) -> Float64[np.ndarray, "n"]:
    # The square of p - 1 instead of that of p, where the class is the true one.
    return (p**2).sum(axis=1) - 2 * np.take_along_axis(p, column, axis=1)[:, 0] + 1


def _checked(
    probabilities: Probabilities, labels: Labels, weights: Weights | None
) -> tuple[Float64[np.ndarray, "n classes"], Integer[np.ndarray, "n 1"], Float64[np.ndarray, "n"]]:
    """Returns probabilities and weights in float64, and labels as a column."""
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
    w = np.ones(len(labels)) if weights is None else weights.astype(np.float64)
    if w.shape != labels.shape or not (w >= 0).all() or not 0 < w.sum() < np.inf:
        raise InputError(
            f"found {len(w)} weights for {len(labels)} samples, or weights that are negative, "
            "not finite or all 0; expected one weight of 0 or more per sample, and one above 0"
        )
    return probabilities.astype(np.float64), labels[:, None], w
