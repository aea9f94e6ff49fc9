"""The forms in which X and y come: arrays of any library, lists of images, and data frames."""

import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.sparse import issparse

from twostage_jax.support.errors import InputError


def as_table(x: Any) -> Any:
    """X as a NumPy array in the machine's byte order; data frames and sparse X stay what they are.

    Args:
        x: an array of any library that NumPy reads, a list or tuple of images or rows, or a data
            frame of pandas, or of polars, which becomes an array.

    Raises:
        InputError: images differ in size, or x is a data frame of another library.
    """
    if hasattr(x, "iloc"):
        return _native_frame(x)
    x = _without_polars(x)
    if issparse(x) or isinstance(x, np.matrix):  # scikit-learn says what is wrong with them
        return x
    _require_known_frame(x, "X")
    try:
        table = np.asarray(x)
    except ValueError:
        _require_one_size(x)
        raise
    if table.dtype == object and table.ndim == 1 and any(_is_array(item) for item in table):
        _require_one_size(table)
        table = np.stack([np.asarray(item) for item in table])
    return _native(table)


def as_labels(y: Any) -> Any:
    """y in the machine's byte order, arrays of other libraries as NumPy's; lists stay lists."""
    if isinstance(y, list | tuple):
        return y
    if hasattr(y, "iloc"):
        return _native_frame(y)
    y = _without_polars(y)
    _require_known_frame(y, "y")
    return _native(np.asarray(y)) if _is_array(y) else y


def as_numbers(table: Any) -> Any:
    """A table that can be computed with: float32 instead of JAX's small floats, else unchanged.

    Raises:
        InputError: the table is an array of a dtype that NumPy cannot compute with.
    """
    dtype = getattr(table, "dtype", None)
    if is_small_float(dtype):
        return table.astype(np.float32)
    if getattr(dtype, "isbuiltin", None) == 2 or getattr(dtype, "kind", None) in tuple("VMm"):
        raise _no_number(dtype, "float32")
    return table


def require_between(table: np.ndarray) -> None:
    """Checks that samples can lie between those of a table.

    Raises:
        InputError: it holds bools alone. In a data frame these count as 0 and 1 beside numbers.
    """
    if table.dtype.kind == "b":
        raise _no_number(table.dtype, "uint8")


def is_small_float(dtype: Any) -> bool:
    """Whether a dtype is bfloat16 or another float of JAX that NumPy itself does not have."""
    foreign = getattr(dtype, "isbuiltin", None) == 2  # registered with NumPy by another library
    return foreign and jnp.issubdtype(dtype, jnp.floating)


def in_form_of(x: Any, made: Any) -> Any:
    """Resampled rows, an array, in the form of the X that they were made from.

    A list of rows of numbers gives such a list, and a list of arrays or images a list of arrays.
    Arrays of other libraries give NumPy arrays.
    """
    if not isinstance(x, list) or not isinstance(made, np.ndarray):
        return made
    plain = isinstance(x[0], list | tuple | numbers.Number | str)
    return made.tolist() if plain else list(made)


def _no_number(dtype: Any, remedy: str) -> InputError:
    return InputError(
        f"X of dtype {dtype} found, numbers to compute with expected; pass X.astype('{remedy}')"
    )


def _native(table: np.ndarray) -> np.ndarray:
    return table if table.dtype.isnative else table.astype(table.dtype.newbyteorder("="))


def _native_frame(frame: Any) -> Any:
    dtypes: Any = getattr(frame, "dtypes", None)
    if not hasattr(dtypes, "items"):  # a series
        swapped = isinstance(dtypes, np.dtype) and not dtypes.isnative
        return frame.astype(dtypes.newbyteorder("=")) if swapped else frame
    swapped = {
        name: dtype.newbyteorder("=")
        for name, dtype in dtypes.items()
        if isinstance(dtype, np.dtype) and not dtype.isnative
    }
    return frame.astype(swapped) if swapped else frame


def _without_polars(x: Any) -> Any:
    """The array of a data frame or a series of polars; all else as it is."""
    polars = type(x).__module__.split(".")[0] == "polars"
    return x.to_numpy() if polars and hasattr(x, "to_numpy") else x


def _require_known_frame(x: Any, name: str) -> None:
    kind = type(x).__name__
    if kind in ("DataFrame", "LazyFrame", "Series") or hasattr(x, "__dataframe__"):
        library = type(x).__module__.split(".")[0]
        raise InputError(
            f"{name} is a {kind} of {library}, an array or a data frame of pandas or polars is "
            f"expected; pass {name}.{'collect' if kind == 'LazyFrame' else 'to_pandas'}()"
        )


def _is_array(item: Any) -> bool:
    """Whether an object holds an array, as those of NumPy, JAX, PyTorch and Pillow do."""
    return hasattr(item, "__array__") or hasattr(item, "__array_interface__")


def _shape_of(item: Any) -> tuple[int, ...] | None:
    if hasattr(item, "shape"):
        return tuple(item.shape)
    try:
        return np.shape(np.asarray(item))
    except ValueError:  # its own rows differ in length
        return None


def _require_one_size(rows: Any) -> None:
    """Raises a clear error if rows differ in size; NumPy's speaks of inhomogeneous sequences."""
    shapes = [_shape_of(row) for row in rows]
    other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise InputError(
            f"X holds arrays of different sizes: {shapes[0]} in row 0 and {shapes[other]} in "
            f"row {other}; bring all images to one size"
        )
