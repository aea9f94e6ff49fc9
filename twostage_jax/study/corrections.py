"""Corrections of predicted probabilities, by name; none of them trains anything."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Num

Probabilities = Float[np.ndarray, "n classes"]


def correct_prior(
    probabilities: Probabilities, prior: Num[np.ndarray, " classes"]
) -> Probabilities:
    """Divides by the class frequencies that were learned, and normalizes to a sum of 1.

    The result is the posterior under equal class frequencies: the thresholding of M. Buda et al.,
    *A systematic study of the class imbalance problem in convolutional neural networks*, 2018, and
    the post-hoc logit adjustment of A. K. Menon et al., 2021, at tau 1.

    Args:
        probabilities: as predicted.
        prior: class frequencies under which they hold, each above 0; or numbers in that proportion,
            such as class counts.
    """
    odds = probabilities.astype(np.float64) / prior
    return (odds / odds.sum(axis=1, keepdims=True)).astype(probabilities.dtype)


def change_prior(
    probabilities: Probabilities,
    trained: Float64[np.ndarray, " classes"],
    wanted: Float[np.ndarray, " classes"],
) -> Probabilities:
    """Probabilities under other class frequencies than those that were learned (Bayes' rule).

    Source: M. Saerens et al., *Adjusting the outputs of a classifier to new a priori
    probabilities*, 2002, equation 2.4.

    Args:
        probabilities: as predicted.
        trained: class frequencies under which they hold, each above 0.
        wanted: class frequencies to correct to; 0 marks a class that cannot occur.
    """
    odds = probabilities.astype(np.float64) * (wanted / trained)
    total = odds.sum(axis=1, keepdims=True)
    # Where all probability lies on such classes, the wanted frequencies are returned.
    found = np.where(total > 0, odds / np.where(total > 0, total, 1), wanted)
    return found.astype(probabilities.dtype)


CORRECTIONS: dict[str, Callable] = {"prior": correct_prior}
