"""Resampling plans: a resampler returns a table with a row per output sample, not data.

Row i stands for the sample x = X[base] + step (X[neighbor] - X[base]). A kept or duplicated sample
has `neighbor == base` and `step == 0`. The same plan works on images and on features; synthetic
samples exist only inside the training step that reads them.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a resampler decided, one row per output sample.

    Attributes:
        base: row of X that the sample starts from.
        neighbor: row of X that it moves towards.
        step: how far, 0 to 1, float64 (imbalanced-learn's precision; float32 on the device).
        label: class of the sample.
    """

    base: Int[np.ndarray, " m"]
    neighbor: Int[np.ndarray, " m"]
    step: Float[np.ndarray, " m"]
    label: Int[np.ndarray, " m"]

    def __len__(self) -> int:
        """Number of output samples."""
        return len(self.base)

    @classmethod
    def concatenate(cls, plans: Sequence["Plan"]) -> "Plan":
        """The rows of several plans on the same X, one after another."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(*(np.concatenate([getattr(plan, name) for plan in plans]) for name in names))

    def of_rows(self, rows: Int[np.ndarray, " n"]) -> "Plan":
        """The same plan on a table of which X was the selection `rows`."""
        return dataclasses.replace(self, base=rows[self.base], neighbor=rows[self.neighbor])

    def materialize(self, x: Shaped[np.ndarray, "n *shape"]) -> Shaped[np.ndarray, "m *shape"]:
        """The resampled array, in x's dtype. Integers are rounded, so that they do not wrap."""
        out = x[self.base]
        moved = np.flatnonzero(self.neighbor != self.base)
        start = out[moved]
        exact = np.result_type(x.dtype, np.float32)
        difference = x[self.neighbor[moved]].astype(exact) - start.astype(exact)
        step = self.step[moved].reshape(-1, *(1,) * (x.ndim - 1))
        synthetic = start + step * difference
        if np.issubdtype(x.dtype, np.integer):
            synthetic = np.rint(synthetic)
        out[moved] = synthetic.astype(x.dtype)
        return out


class Batches(NamedTuple):
    """An epoch of a plan: `steps` batches of `batch` rows each, padded where the plan ends.

    Attributes:
        base, neighbor, step: as in a plan, int32, int32, float32.
        label: int32, -1 for padding.
    """

    base: Int[Array | np.ndarray, "*steps batch"]
    neighbor: Int[Array | np.ndarray, "*steps batch"]
    step: Float[Array | np.ndarray, "*steps batch"]
    label: Int[Array | np.ndarray, "*steps batch"]

    @property
    def valid(self) -> Bool[Array | np.ndarray, "*steps batch"]:
        """Which rows are samples and not padding."""
        return self.label >= 0

    def gather(self, table: Shaped[Array, "n *shape"]) -> Float[Array, "batch *shape"]:
        """The samples of one batch, float32, interpolated on the device."""
        base = table[self.base].astype(jnp.float32)
        neighbor = table[self.neighbor].astype(jnp.float32)
        step = self.step.reshape(-1, *(1,) * (table.ndim - 1))
        return base + step * (neighbor - base)


def epoch_batches(plan: Plan, batch_size: int, steps: int, stream: int) -> Batches:
    """Shuffles a plan and cuts it into batches; the last, partial one is kept.

    Args:
        plan: of at most `steps * batch_size` rows.
        batch_size: rows a batch.
        steps: batches of the result; those after the plan's end are all padding.
        stream: seed of the shuffle, from `streams.derive`.
    """
    order = np.random.default_rng(stream).permutation(len(plan))

    def cut(column: np.ndarray, dtype: type, padding: int) -> np.ndarray:
        padded = np.full(steps * batch_size, padding, dtype)
        padded[: len(order)] = column[order]
        return padded.reshape(steps, batch_size)

    return Batches(
        cut(plan.base, np.int32, 0),
        cut(plan.neighbor, np.int32, 0),
        cut(plan.step, np.float32, 0),
        cut(plan.label, np.int32, -1),
    )
