"""Values of `sampling_strategy` that hold for any y, as cross-validation needs them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Shaped

from twostage_jax.support.errors import InputError


def at_least(share: float | int) -> Callable[[Shaped[np.ndarray, " n"]], dict[Any, int]]:
    """A `sampling_strategy` of over-samplers: no class is smaller than a share of the largest.

    imbalanced-learn's own `sampling_strategy=0.5` is for two classes only, and a dict of numbers
    fits one y: the training parts of cross-validation differ in size.

    Args:
        share: above 0, up to 1.

    Raises:
        InputError: the share is outside of this.
    """
    if not 0 < share <= 1:
        raise InputError(f"at_least({share}) found, a share above 0 and up to 1 expected")
    return partial(_grow, share)


def _grow(share: float | int, y: Shaped[np.ndarray, " n"]) -> dict[Any, int]:
    classes, counts = np.unique(y, return_counts=True)
    # In binary 0.55 * 100 is a little more than 55.
    least = int(np.ceil(np.round(share * counts.max(), 9)))
    return {label: least for label, n in zip(classes, counts, strict=True) if n < least}
