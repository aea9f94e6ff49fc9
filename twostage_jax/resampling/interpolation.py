"""Output samples from rows of X: picked, or interpolated between two, in x's dtype."""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped


def write_rows(
    x: Shaped[np.ndarray, "n *shape"], rows: Int[np.ndarray, " b"], out: Shaped[np.ndarray, "b d"]
) -> None:
    """Writes some rows of x into `out`."""
    if x.flags.c_contiguous:
        np.take(x.reshape(len(x), out.shape[1]), rows, axis=0, out=out, mode="clip")
    else:  # `take` would first copy all of x
        out[...] = x[rows].reshape(out.shape)


def round_for(
    numbers: Float[np.ndarray, "*shape"], dtype: Any, *, clip: bool = True
) -> Float[np.ndarray, "*shape"]:
    """Rounds numbers, in place, for a dtype of integers, and brings them into its range.

    `clip=False`: they are known to be in range. This is never known of integers of 64 bits, whose
    largest is no float64: they round to one that is out of range.
    """
    if dtype.kind in "iu":
        np.rint(numbers, out=numbers)
        if clip or dtype.itemsize == 8:
            limits = np.iinfo(dtype)
            largest = float(limits.max)
            if largest > limits.max:
                largest = np.nextafter(largest, 0)
            np.clip(numbers, limits.min, largest, out=numbers)
    return numbers


class Interpolation:
    """Interpolates rows of x, in arrays that are allocated once for all blocks."""

    def __init__(self, x: Shaped[np.ndarray, "n *shape"], most: int):
        self._x = x
        self._ends = np.empty((2, most, math.prod(x.shape[1:])), x.dtype)
        # Differences are exact for pixels; for real numbers they have the precision of x.
        exact = x.dtype if x.dtype.kind == "f" else np.result_type(x.dtype, np.float32)
        self._difference = np.empty(self._ends.shape[1:], exact)
        self._exact = np.empty(self._ends.shape[1:], np.result_type(exact, np.float64))

    def __call__(
        self,
        base: Int[np.ndarray, " b"],
        neighbor: Int[np.ndarray, " b"],
        step: Float[np.ndarray, " b"],
        out: Shaped[np.ndarray, "b d"],
    ) -> None:
        """Writes the samples into `out`."""
        count = len(base)
        start, end = self._ends[:, :count]
        difference, exact = self._difference[:count], self._exact[:count]
        write_rows(self._x, base, start)
        write_rows(self._x, neighbor, end)
        np.subtract(end, start, out=difference, dtype=difference.dtype)
        np.multiply(difference, step[:, None], out=exact)
        if out.dtype.kind == "f":
            np.add(exact, start, out=out, casting="same_kind")
            return
        np.add(exact, start, out=exact)
        # Between two samples numbers are in range.
        out[...] = round_for(exact, out.dtype, clip=bool((step < 0).any()))
