"""Corrections of predicted probabilities, by name; none of them trains anything."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int


def correct_prior(
    probabilities: Float32[np.ndarray, "n classes"], class_counts: Int[np.ndarray, " classes"]
) -> Float32[np.ndarray, "n classes"]:
    """Divides by the class frequencies of the training data, and normalizes to a sum of 1.

    The result is the posterior under equal class frequencies: the thresholding of M. Buda et al.,
    *A systematic study of the class imbalance problem in convolutional neural networks*, 2018, and
    the post-hoc logit adjustment of A. K. Menon et al., 2021, at tau 1.

    Args:
        probabilities: of a network that was trained on the classes as they are.
        class_counts: training samples of each class, before resampling; each above 0.
    """
    odds = probabilities.astype(np.float64) / class_counts
    return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)


CORRECTIONS: dict[str, Callable] = {"prior": correct_prior}
