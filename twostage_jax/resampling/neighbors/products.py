"""Inner products of all pairs of rows: exact for pixels, with a known error for real numbers.

Pixels shifted to int8 have products of at most 2^14, so that their sums are exact in int32
(67,500 x 2^14 < 2^31) and, 1,024 columns at a time, in float32 (1,024 x 2^14 = 2^24, the last
integer up to which float32 counts). Accelerators multiply int8, CPUs are faster at float32. Sums of
real numbers go through the same blocks of columns, which bounds how their rounding errors add up.
"""

import threading

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int, Int8, Int32, Shaped, UInt8
from sklearn.metrics.pairwise import euclidean_distances

from twostage_jax.support.threads import cores, for_row_blocks

# Numbers of products of two int8 numbers, at most 2^14 each, whose sum is exact.
COLUMNS_IN_FLOAT32 = 2**24 // 2**14
COLUMNS_IN_INT32 = 2**31 // 2**14 - 1


def _in_blocks(
    a: Shaped[Array, "n d"], b: Shaped[Array, "m d"], dtype: type
) -> Shaped[Array, "n m"]:
    """Float32 products of at most 1,024 columns at a time, summed in `dtype`."""
    columns = a.shape[1]
    blocks = max(1, -(-columns // COLUMNS_IN_FLOAT32))
    width = -(-columns // blocks)
    padding = ((0, 0), (0, blocks * width - columns))
    a, b = jnp.pad(a, padding), jnp.pad(b, padding)

    def product_of(block):
        left, right = (
            jax.lax.dynamic_slice_in_dim(rows, block * width, width, axis=1).astype(jnp.float32)
            for rows in (a, b)
        )
        return jnp.matmul(left, right.T, precision="highest").astype(dtype)

    return jax.lax.fori_loop(
        1, blocks, lambda block, total: total + product_of(block), product_of(0)
    )


def integers_by_float32(a: Int8[Array, "n d"], b: Int8[Array, "m d"]) -> Int32[Array, "n m"]:
    """`integer_products` for CPUs, which multiply float32 faster than int8."""
    return _in_blocks(a, b, jnp.int32)


def integers_by_int8(a: Int8[Array, "n d"], b: Int8[Array, "m d"]) -> Int32[Array, "n m"]:
    """`integer_products` for accelerators, which multiply int8."""
    return jnp.matmul(a, b.T, preferred_element_type=jnp.int32)


def integer_products(a: Int8[Array, "n d"], b: Int8[Array, "m d"]) -> Int32[Array, "n m"]:
    """Exact inner products of all pairs of rows, of at most 131,071 columns. Traceable."""
    return jax.lax.platform_dependent(a, b, cpu=integers_by_float32, default=integers_by_int8)


def real_products(a: Float32[Array, "n d"], b: Float32[Array, "m d"]) -> Float32[Array, "n m"]:
    """Inner products of all pairs, with an error of at most `product_error` |a| |b|. Traceable."""
    return _in_blocks(a, b, jnp.float32)


def product_error(columns: int) -> float:
    """Bound of the rounding error of `real_products`, relative to the product of the norms.

    It is the bound for sums in any order (Higham, Accuracy and Stability of Numerical Algorithms,
    3.1) with an error of 2^-22 per operation. That is four times float32's, because TPUs compose
    float32 products of bfloat16 ones.
    """
    blocks = -(-columns // COLUMNS_IN_FLOAT32)
    return (min(columns, COLUMNS_IN_FLOAT32) + blocks + 2) * 2.0**-22


def to_int8(pixels: UInt8[np.ndarray, "n *pixel"]) -> Int8[np.ndarray, "n d"]:
    """Pixels minus 128, in rows: distances stay the same, and products are at most 2^14."""
    return (pixels.reshape(len(pixels), -1) ^ 0x80).view(np.int8)


_integer_products = jax.jit(integer_products)


def squared_distances(
    a: Shaped[np.ndarray, "n *shape"], b: Shaped[np.ndarray, "m *shape"]
) -> Float64[np.ndarray, "n m"]:
    """Squared Euclidean distances of all pairs of rows.

    They are exact for uint8 of any size, and scikit-learn's float64 ones for other dtypes. Beside
    the result, uint8 takes 8 bytes per pair, and 4 per pair and core.
    """
    if not a.dtype == b.dtype == np.uint8:
        flat = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (a, b))
        return euclidean_distances(*flat, squared=True)
    x = to_int8(a)
    y = x if b is a else to_int8(b)
    squared = _integer_products_of_all(x, y)
    squared *= -2
    squared += squared_norms(x)[:, None]
    squared += squared_norms(y)
    return squared.astype(np.float64)


def _integer_products_of_all(
    a: Int8[np.ndarray, "n d"], b: Int8[np.ndarray, "m d"]
) -> Int[np.ndarray, "n m"]:
    """Exact inner products of rows of any length, int64. On a CPU, half the work if b is a."""
    if jax.default_backend() == "cpu":
        return _integer_products_by_blas(a, b)
    total = np.zeros((len(a), len(b)), np.int64)
    for start in range(0, a.shape[1], COLUMNS_IN_INT32):
        part = slice(start, start + COLUMNS_IN_INT32)
        total += np.asarray(_integer_products(a[:, part], b[:, part]))
    return total


def _integer_products_by_blas(
    a: Int8[np.ndarray, "n d"], b: Int8[np.ndarray, "m d"]
) -> Int[np.ndarray, "n m"]:
    blocks = -(-a.shape[1] // COLUMNS_IN_FLOAT32)
    total, turn = np.zeros((len(a), len(b)), np.int64), threading.Lock()

    def multiply(share: slice) -> None:
        for block in range(share.start, share.stop):
            columns = slice(block * COLUMNS_IN_FLOAT32, (block + 1) * COLUMNS_IN_FLOAT32)
            x = a[:, columns].astype(np.float32)
            # For a product of a matrix with itself BLAS computes one half of the result.
            y = x if b is a else b[:, columns].astype(np.float32)
            product = x @ y.T
            with turn:
                np.add(total, product, out=total, casting="unsafe")  # integers, in either dtype

    for_row_blocks(multiply, blocks, -(-blocks // cores()))
    return total


def squared_norms(rows: Int8[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
    """Exact squared norms, int64."""
    return np.einsum("ij,ij->i", rows, rows, dtype=np.int64)
