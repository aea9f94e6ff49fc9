"""Resampling plans: a sampler decides on a table with one row per output sample.

A row stands for the sample X[base] + step (X[neighbor] - X[base]). A kept or duplicated sample has
`neighbor == base` and `step == 0`. The same plan works on images and on features. Synthetic samples
exist only inside the training step that reads them.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped
from scipy.sparse import issparse
from sklearn.utils import check_array

from twostage_jax.resampling.inputs import (
    as_numbers,
    as_table,
    in_form_of,
    is_small_float,
    require_between,
)
from twostage_jax.resampling.interpolation import Interpolation, write_rows
from twostage_jax.resampling.mixing import Mixture, draw_balanced
from twostage_jax.support.errors import InputError
from twostage_jax.support.threads import for_row_blocks


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """The decision of a sampler, one row per output sample.

    Attributes:
        base: row of X that the sample starts from.
        neighbor: row of X that it moves toward.
        step: share of the way, in float64 as in imbalanced-learn; float32 on the device. It is 0 to
            1, or below 0 for a sample that moves away.
        label: class of the sample.
        total: number of rows of the X that the plan was made for; None if that is not known, as of
            a plan made by hand. Then `materialize` only checks that X has every row of the plan.
    """

    base: Int[np.ndarray, " m"]
    neighbor: Int[np.ndarray, " m"]
    step: Float[np.ndarray, " m"]
    label: Shaped[np.ndarray, " m"]
    total: int | None = None

    @classmethod
    def of_kept(cls, y: Shaped[np.ndarray, " n"], rows: Int[np.ndarray, " m"]) -> "Plan":
        """The plan that takes some rows of X as they are, in the order of the output."""
        return cls(rows, rows, np.zeros(len(rows)), y[rows], len(y))

    @classmethod
    def of_all(cls, y: Shaped[np.ndarray, " n"]) -> "Plan":
        """The plan that resamples nothing."""
        return cls.of_kept(y, np.arange(len(y)))

    def __len__(self) -> int:
        """Number of output samples."""
        return len(self.base)

    @classmethod
    def concatenate(cls, plans: Sequence["Plan"]) -> "Plan":
        """The rows of several plans on the same X, one plan after another.

        Raises:
            InputError: the plans were made for X of different numbers of rows.
        """
        totals = sorted({plan.total for plan in plans if plan.total is not None})
        if len(totals) > 1:
            raise InputError(
                f"plans for X of {totals[0]} and of {totals[-1]} rows found, plans for one X "
                "expected; bring them to one table with of_rows"
            )
        names = ("base", "neighbor", "step", "label")
        columns = (np.concatenate([getattr(plan, name) for plan in plans]) for name in names)
        return cls(*columns, total=totals[0] if totals else None)

    def take(self, rows: Int[np.ndarray, " l"]) -> "Plan":
        """The plan of some of the output samples."""
        names = ("base", "neighbor", "step", "label")
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in names})

    def of_rows(self, rows: Int[np.ndarray, " n"]) -> "Plan":
        """The same plan on the table that X was selected from, by `rows`.

        The plan no longer knows its number of rows: the table may have more than `rows` names.

        Raises:
            InputError: `rows` has another length than the X that the plan was made for.
        """
        rows = np.asarray(rows)
        self._require_rows("rows", len(rows))
        base, neighbor = rows[self.base], rows[self.neighbor]
        return dataclasses.replace(self, base=base, neighbor=neighbor, total=None)

    def _require_rows(self, name: str, count: int) -> None:
        if self.total not in (None, count):
            raise InputError(
                f"{name} of {count} rows found, the plan was made for {self.total} rows; pass the "
                "one that it was made for"
            )
        columns = [self.base] if self.neighbor is self.base else [self.base, self.neighbor]
        for column in columns:
            if len(column) and not 0 <= column.min() <= column.max() < count:
                row = column.min() if column.min() < 0 else column.max()
                raise InputError(
                    f"{name} of {count} rows found, the plan takes row {row}; pass the one that it "
                    "was made for"
                )

    def materialize(self, x: Any, out: Shaped[np.ndarray, "m *shape"] | None = None) -> Any:
        """The resampled X, as `fit_resample` returns it, in x's dtype; integers are rounded.

        Beside the result, an array in the machine's byte order takes no memory of its size. In a
        data frame of several dtypes integers are cut off, as imbalanced-learn does.

        Args:
            x: the X that the plan was made for, or its samples in another dtype, size or form: n
                rows in any form that `plan` takes.
            out: where the result is written, such as a `numpy.memmap`, for x that is an array.

        Returns:
            m rows: `out` if there is one, a data frame with a new index for a data frame, a list
            for a list, else a NumPy array.

        Raises:
            InputError: x has another number of rows; or it has no numbers, between which samples
                could lie: bools, dates, text; or `out` is no writable array of the result's shape
                and dtype.
            TypeError: x is sparse.
        """
        table = self._table(x)
        if out is not None:
            return self._fill(table, out)
        moved = self._moves()
        if hasattr(table, "iloc"):
            return self._of_frame(table, moved)
        if moved and (table.dtype.kind not in "uif" or table.dtype.isbuiltin != 1):
            made = self._of_array(_numbers(table))
            return in_form_of(x, made.astype(table.dtype) if is_small_float(table.dtype) else made)
        return in_form_of(x, self._of_array(table))

    def _of_frame(self, frame: Any, moved: bool) -> Any:
        if not moved:
            return frame.iloc[self.base].reset_index(drop=True)
        made = self._of_array(_numbers(as_numbers(frame)))
        return type(frame)(made, columns=frame.columns).astype(frame.dtypes)

    def batches(
        self, x: Any, size: int, *, seed: int | None = None
    ) -> Iterator[tuple[Shaped[np.ndarray, "b *shape"], Shaped[np.ndarray, " b"]]]:
        """The resampled X and its labels, batch by batch; each is made when it is asked for.

        Args:
            x: as for `materialize`, no data frame.
            size: samples per batch; the last batch has what is left.
            seed: of the order, for one epoch; None keeps the plan's order.

        Yields:
            samples and their labels.

        Raises:
            InputError: size is below 1, x is a data frame, and as `materialize`.
        """
        table = self._table(x)
        if not isinstance(size, numbers.Integral) or size < 1:
            raise InputError(f"batches of {size} samples asked for, a whole number from 1 expected")
        if hasattr(table, "iloc"):
            raise InputError("X is a data frame, an array is expected; pass X.to_numpy()")
        order = np.arange(len(self))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        for start in range(0, len(self), size):
            part = self.take(order[start : start + size])
            yield part.materialize(table), part.label

    def _table(self, x: Any) -> Any:
        """x as an array or a data frame, with the rows that the plan was made for."""
        table = as_table(x)
        if issparse(table):
            raise TypeError("X is sparse, a dense array is expected; pass X.toarray()")
        if not np.ndim(table):
            raise InputError(f"X is {x!r}, an array with one row per sample is expected")
        self._require_rows("X", len(table))
        return table

    def _moves(self) -> bool:
        """Whether some samples are no rows of X."""
        return self.neighbor is not self.base and bool((self.neighbor != self.base).any())

    def _fill(self, table: Any, out: Shaped[np.ndarray, "m *shape"]) -> Any:
        if hasattr(table, "iloc") or not isinstance(out, np.ndarray):
            raise InputError(
                f"X of type {type(table).__name__} and out of type {type(out).__name__} found, "
                "NumPy arrays expected; pass X.to_numpy(), or leave out away"
            )
        expected = (len(self), *table.shape[1:]), table.dtype
        flags = out.flags
        if (out.shape, out.dtype) != expected or not (flags.c_contiguous and flags.writeable):
            raise InputError(
                f"out of shape {out.shape} and dtype {out.dtype} found, {expected[0]} and "
                f"{expected[1]} expected, writable and in contiguous rows; make one with "
                "numpy.empty, or with numpy.memmap or numpy.lib.format.open_memmap on disk"
            )
        if self._moves():
            _numbers(table[:1])  # which refuses what has no numbers
        return self._of_array(table, out)

    def _of_array(
        self, x: Shaped[np.ndarray, "n *shape"], made: Shaped[np.ndarray, "m *shape"] | None = None
    ) -> Shaped[np.ndarray, "m *shape"]:
        if made is None:
            made = np.empty((len(self), *x.shape[1:]), x.dtype)
        out = made.reshape(len(self), math.prod(x.shape[1:]), copy=False)
        if out.size <= 2**20 and not self._moves():
            write_rows(x, self.base, out)
            return made
        in_cache = max(1, 2**16 // max(1, out.shape[1]))

        def fill(rows: slice) -> None:
            interpolate = None
            for start in range(rows.start, rows.stop, in_cache):
                block = slice(start, min(start + in_cache, rows.stop))
                base, neighbor = self.base[block], self.neighbor[block]
                moved = np.flatnonzero(neighbor != base)
                if len(moved) < len(base):
                    write_rows(x, base, out[block])
                if len(moved):
                    # Only made where needed: text and dates can be picked, but not interpolated.
                    interpolate = interpolate or Interpolation(x, in_cache)
                    if len(moved) == len(base):
                        interpolate(base, neighbor, self.step[block], out[block])
                    else:
                        some = np.empty((len(moved), out.shape[1]), out.dtype)
                        interpolate(base[moved], neighbor[moved], self.step[block][moved], some)
                        out[block][moved] = some

        for_row_blocks(fill, len(self), 32 * in_cache)
        return made


def _numbers(table: Any) -> Shaped[np.ndarray, "n *shape"]:
    """The array of numbers that samplers compute with, of an array or a data frame."""
    given = as_numbers(table)
    if given.ndim == 1:
        return _numbers(given[:, None])[:, 0]
    checked = check_array(given, allow_nd=True, ensure_all_finite=False)
    require_between(checked)
    return checked


class DevicePlan(NamedTuple):
    """A plan as compiled programs take it, padded to a fixed size.

    The columns hold the rows of one plan, or one epoch of it in `steps` batches.

    Attributes:
        base, neighbor, step: as in a `Plan`; int32, int32, float32.
        label: int32; -1 for padding.
        other: second label of a mixture, int32; None where nothing is mixed.
        weight: of the second label, float32; likewise.
    """

    base: Int[Array | np.ndarray, "*steps rows"]
    neighbor: Int[Array | np.ndarray, "*steps rows"]
    step: Float[Array | np.ndarray, "*steps rows"]
    label: Int[Array | np.ndarray, "*steps rows"]
    other: Int[Array | np.ndarray, "*steps rows"] | None = None
    weight: Float[Array | np.ndarray, "*steps rows"] | None = None

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


def epoch_batches(
    plan: Plan,
    batch_size: int,
    steps: int,
    stream: int,
    *,
    balanced: bool = False,
    mix: Callable[[Shaped[np.ndarray, " m"]], Mixture] | None = None,
) -> DevicePlan:
    """Shuffles a plan of at most `steps * batch_size` rows and cuts it into batches.

    The last batch of the plan may be partial, and those after it are all padding.

    Args:
        plan: the samples of an epoch.
        batch_size: rows of a batch.
        steps: number of batches that there is room for.
        stream: seeds the shuffle, or the draw; it comes from `streams.derive`.
        balanced: draw as many samples as there are with equal classes (`mixing.draw_balanced`)
            instead of each once.
        mix: decides on the partner of each row of the plan by their labels; None mixes nothing.

    Raises:
        InputError: as `require_unmoved`, if samples are to be mixed.
    """
    rng = np.random.default_rng(stream)
    order = draw_balanced(plan.label, rng) if balanced else rng.permutation(len(plan))

    def cut(column: np.ndarray, dtype: type, padding: int | None = None) -> np.ndarray:
        # Padding repeats a sample of the plan's own: another network's row may not be finite.
        if padding is None:
            padding = column[0] if len(column) else 0
        padded = np.full(steps * batch_size, padding, dtype)
        padded[: len(order)] = column[order]
        return padded.reshape(steps, batch_size)

    label = cut(plan.label, np.int32, padding=-1)
    if mix is None:
        pairs = cut(plan.neighbor, np.int32), cut(plan.step, np.float32)
        return DevicePlan(cut(plan.base, np.int32), *pairs, label)
    require_unmoved(plan)
    mixture = mix(plan.label)
    return DevicePlan(
        cut(plan.base, np.int32),
        cut(plan.base[mixture.partner], np.int32),
        cut(mixture.share, np.float32),
        label,
        cut(plan.label[mixture.partner], np.int32),
        cut(mixture.weight, np.float32),
    )


def require_unmoved(plan: Plan) -> None:
    """Checks that the samples of a plan can be mixed.

    Raises:
        InputError: some are synthetic: a batch has no third image.
    """
    if (plan.neighbor != plan.base).any():
        raise InputError(
            "mixing found synthetic samples of an over-sampler, samples as they are expected; "
            "choose a sampler that makes none, such as ros"
        )
