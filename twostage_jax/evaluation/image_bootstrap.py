"""Scores of one model on labeled images, with bootstrap intervals over the images."""

import numpy as np
from jaxtyping import Float64, Int64

from twostage_jax.evaluation.intervals import Interval, percentile_interval
from twostage_jax.evaluation.metrics import Matrix, Scores
from twostage_jax.evaluation.statistics import RESAMPLES
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive


def bootstrap_scores(
    matrix: Matrix, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Returns the four scores, and percentile intervals over images, stratified by true class.

    Each resample draws as many images of each class as there are, with replacement. Only the
    predicted classes of these images matter, so that a resample of a class is one multinomial
    draw. A class without images has no recall: AvAcc, CBA and MAvG are over the others, as if it
    were not there, and an image that is predicted as it is a mistake like any other.

    The interval says how sure a score of this one model is, for images such as these. How another
    training would do is not in it.

    Args:
        matrix: counts of each (true class, predicted class).
        resamples: number of resamples.
        seed: of the stream of resamples.

    Returns:
        The interval of each score by its name, in the order of `Scores`.

    Raises:
        InputError: the matrix counts no image.
    """
    if not matrix.any():
        raise InputError("found no labeled images to score; expected at least one; add images")
    there = np.flatnonzero(matrix.sum(axis=1))
    samples = matrix.sum(axis=1)[there]
    rng = np.random.default_rng(derive(seed, "evaluation", "bootstrap"))
    # The matrix itself comes first, before the resamples.
    right = np.empty((1 + resamples, len(there)), np.int64)
    predicted = np.zeros((1 + resamples, len(matrix)), np.int64)
    for place, label in enumerate(there):
        row = matrix[label]
        drawn = rng.multinomial(row.sum(), row / row.sum(), size=resamples)
        counts = np.concatenate([row[None], drawn])
        right[:, place] = counts[:, label]
        predicted += counts
    return {
        name: percentile_interval(float(own[0]), own[1:])
        for name, own in zip(
            Scores._fields, _scores(right, predicted[:, there], samples), strict=True
        )
    }


def _scores(
    right: Int64[np.ndarray, "n classes"],
    predicted: Int64[np.ndarray, "n classes"],
    samples: Int64[np.ndarray, "classes"],
) -> tuple[Float64[np.ndarray, "n"], ...]:
    """Returns the four scores of n confusion matrices, as `metrics.scores` does of one.

    Args:
        right: images of each class that were predicted correctly.
        predicted: images that were predicted as each class.
        samples: images of each class, at least one.
    """
    recalls = right / samples
    with np.errstate(divide="ignore"):  # log 0 = -inf, and exp(-inf) = 0 is the result
        geometric = np.exp(np.log(recalls).mean(axis=1))
    balance = (right / np.maximum(samples, predicted)).mean(axis=1)
    return recalls.mean(axis=1), balance, geometric, right.sum(axis=1) / samples.sum()
