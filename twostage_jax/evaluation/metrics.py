"""Scores for imbalanced classes (paper, section IV-B, eq. 4 to 6), from a confusion matrix.

All functions take counts: `matrix[i, j]` is the number of samples of true class i that were
predicted as class j. A class without a test sample has no recall. It is an error here, because a
NaN or a zero would pass unnoticed into a mean over folds. The study's test folds keep at least one
sample of each class.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Integer

from twostage_jax.support.errors import InputError

Matrix = Integer[np.ndarray, "classes classes"]


class Scores(NamedTuple):
    """The paper's four scores of one set of predictions, each in [0, 1]; higher is better."""

    AvAcc: float
    """Mean of the recalls (eq. 4)."""
    CBA: float
    """Mean of m_ii / max(samples of class i, predictions of class i) (eq. 5)."""
    MAvG: float
    """Geometric mean of the recalls (eq. 6)."""
    Acc: float
    """Share of all samples that were predicted correctly."""


def confusion_matrix(
    labels: Integer[np.ndarray, "n"], predictions: Integer[np.ndarray, "n"], classes: int
) -> Matrix:
    """Counts the samples of each (true class, predicted class).

    Args:
        labels: true classes in [0, classes).
        predictions: predicted classes in [0, classes).
        classes: number of classes, whether or not they all occur.

    Raises:
        InputError: no samples, unequal lengths, or a class outside [0, classes).
    """
    if len(labels) != len(predictions) or len(labels) == 0:
        raise InputError(
            f"found {len(labels)} labels and {len(predictions)} predictions; "
            "expected one prediction per label, and at least one; pass both for the same samples"
        )
    for name, values in (("labels", labels), ("predictions", predictions)):
        if values.min() < 0 or values.max() >= classes:  # would be counted as other pairs
            raise InputError(
                f"found {name} from {values.min()} to {values.max()}; "
                f"expected 0 to {classes - 1}; check the number of classes"
            )
    # scikit-learn's function gives the same but takes 1 ms, and a report calls this 2,180 times.
    pairs = labels.astype(np.int64) * classes + predictions
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def recalls(matrix: Matrix) -> Float64[np.ndarray, "classes"]:
    """Returns the share of each class's samples that were predicted correctly, in [0, 1].

    Raises:
        InputError: a class has no samples.
    """
    samples = matrix.sum(axis=1)
    if not samples.all():
        empty = ", ".join(map(str, np.flatnonzero(samples == 0)))
        raise InputError(
            f"found no test samples of class {empty}; expected at least one of each class; "
            "use fewer folds, a lower imbalance ratio or more images"
        )
    return matrix.diagonal() / samples


def scores(matrix: Matrix) -> Scores:
    """Returns the four scores of one confusion matrix.

    The printed equation of CBA sums over i inside and outside. Here the inner sums run over j, as
    in the definition that the paper cites: CBA is at most the mean recall and at most the mean
    precision. MAvG is 0 when one recall is 0.

    Raises:
        InputError: a class has no samples.
    """
    own = recalls(matrix)  # refuses empty classes: no divisor below is 0
    larger = np.maximum(matrix.sum(axis=1), matrix.sum(axis=0))
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the result
        geometric_mean = np.exp(np.log(own).mean())
    return Scores(
        AvAcc=float(own.mean()),
        CBA=float((matrix.diagonal() / larger).mean()),
        MAvG=float(geometric_mean),
        Acc=float(matrix.trace() / matrix.sum()),
    )
