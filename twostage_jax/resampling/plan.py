"""Resampling plans: a sampler decides on a table with one row per output sample.

A row stands for the sample X[base] + step (X[neighbor] - X[base]). A kept or duplicated sample has
`neighbor == base` and `step == 0`. The same plan works on images and on features. Synthetic samples
exist only inside the training step that reads them.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from twostage_jax.support.threads import for_row_blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The decision of a sampler, one row per output sample.

    Attributes:
        base: row of X that the sample starts from.
        neighbor: row of X that it moves toward.
        step: share of the way, 0 to 1, in float64 as in imbalanced-learn; float32 on the device.
        label: class of the sample.
    """

    base: Int[np.ndarray, " m"]
    neighbor: Int[np.ndarray, " m"]
    step: Float[np.ndarray, " m"]
    label: Shaped[np.ndarray, " m"]

    @classmethod
    def of_kept(cls, y: Shaped[np.ndarray, " n"], rows: Int[np.ndarray, " m"]) -> "Plan":
        """The plan that takes some rows of X as they are, in the order of the output."""
        return cls(rows, rows, np.zeros(len(rows)), y[rows])

    @classmethod
    def of_all(cls, y: Shaped[np.ndarray, " n"]) -> "Plan":
        """The plan that resamples nothing."""
        return cls.of_kept(y, np.arange(len(y)))

    def __len__(self) -> int:
        """Number of output samples."""
        return len(self.base)

    @classmethod
    def concatenate(cls, plans: Sequence["Plan"]) -> "Plan":
        """The rows of several plans on the same X, one plan after another."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(plan, name) for plan in plans]) for name in names))

    def of_rows(self, rows: Int[np.ndarray, " n"]) -> "Plan":
        """The same plan on the table that X was selected from, by `rows`."""
        return dataclasses.replace(self, base=rows[self.base], neighbor=rows[self.neighbor])

    def materialize(self, x: Shaped[np.ndarray, "n *shape"]) -> Shaped[np.ndarray, "m *shape"]:
        """The resampled array, in x's dtype; integers are rounded.

        No other array of the size of the result is allocated.
        """
        table = x.reshape(len(x), math.prod(x.shape[1:]))
        out = np.empty((len(self), table.shape[1]), x.dtype)
        in_cache = max(1, 2**16 // max(1, table.shape[1]))

        def fill(rows: slice) -> None:
            interpolate = None
            for start in range(rows.start, rows.stop, in_cache):
                block = slice(start, min(start + in_cache, rows.stop))
                base, neighbor = self.base[block], self.neighbor[block]
                moved = np.flatnonzero(neighbor != base)
                if len(moved) < len(base):
                    np.take(table, base, axis=0, out=out[block], mode="clip")
                if len(moved):
                    # Only made where needed: text and dates can be picked, but not interpolated.
                    interpolate = interpolate or _Interpolation(table, in_cache)
                    step = self.step[block][moved]
                    out[block][moved] = interpolate(base[moved], neighbor[moved], step)

        for_row_blocks(fill, len(self), 32 * in_cache)
        return out.reshape(len(self), *x.shape[1:])


class _Interpolation:
    """Interpolates rows of a table, in arrays that are allocated once for all blocks."""

    def __init__(self, table: Shaped[np.ndarray, "n d"], most: int):
        self._table = table
        self._rounded = table.dtype.kind in "iu"
        self._ends = np.empty((2, most, table.shape[1]), table.dtype)
        # Differences are exact for pixels; for real numbers they have the precision of x.
        exact = np.result_type(table.dtype, np.float32)
        self._difference = np.empty(self._ends.shape[1:], exact)
        self._exact = np.empty(self._ends.shape[1:])

    def __call__(
        self,
        base: Int[np.ndarray, " b"],
        neighbor: Int[np.ndarray, " b"],
        step: Float[np.ndarray, " b"],
    ) -> Float[np.ndarray, "b d"]:
        count = len(base)
        start, end = self._ends[:, :count]
        difference, exact = self._difference[:count], self._exact[:count]
        np.take(self._table, base, axis=0, out=start, mode="clip")
        np.take(self._table, neighbor, axis=0, out=end, mode="clip")
        np.subtract(end, start, out=difference, dtype=difference.dtype)
        np.multiply(difference, step[:, None], out=exact)
        np.add(exact, start, out=exact)
        return np.rint(exact, out=exact) if self._rounded else exact


class DevicePlan(NamedTuple):
    """A plan as compiled programs take it, padded to a fixed size.

    The columns hold the rows of one plan, or one epoch of it in `steps` batches.

    Attributes:
        base, neighbor, step: as in a `Plan`; int32, int32, float32.
        label: int32; -1 for padding.
    """

    base: Int[Array | np.ndarray, "*steps rows"]
    neighbor: Int[Array | np.ndarray, "*steps rows"]
    step: Float[Array | np.ndarray, "*steps rows"]
    label: Int[Array | np.ndarray, "*steps rows"]

    @property
    def valid(self) -> Bool[Array | np.ndarray, "*steps rows"]:
        """Whether each row is a sample and not padding."""
        return self.label >= 0

    def gather(self, table: Shaped[Array, "n *shape"]) -> Float[Array, "rows *shape"]:
        """The samples of one batch or plan, float32, interpolated on the device."""
        base = table[self.base].astype(jnp.float32)
        neighbor = table[self.neighbor].astype(jnp.float32)
        step = self.step.reshape(-1, *(1,) * (table.ndim - 1))
        return base + step * (neighbor - base)


def epoch_batches(plan: Plan, batch_size: int, steps: int, stream: int) -> DevicePlan:
    """Shuffles a plan of at most `steps * batch_size` rows and cuts it into batches.

    The last batch of the plan may be partial, and those after it are all padding. `stream` seeds
    the shuffle; it comes from `streams.derive`.
    """
    order = np.random.default_rng(stream).permutation(len(plan))

    def cut(column: np.ndarray, dtype: type, padding: int = 0) -> np.ndarray:
        padded = np.full(steps * batch_size, padding, dtype)
        padded[: len(order)] = column[order]
        return padded.reshape(steps, batch_size)

    return DevicePlan(
        cut(plan.base, np.int32),
        cut(plan.neighbor, np.int32),
        cut(plan.step, np.float32),
        cut(plan.label, np.int32, padding=-1),
    )
