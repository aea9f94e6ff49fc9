"""Exact nearest neighbours of the same class: what SMOTE needs.

Distances between uint8 images are integers. Pixels shifted to int8 have products of at most
2^14, so a Gram matrix accumulates exactly, in int32 on an accelerator (67,500 x 2^14 < 2^31) and,
1,024 columns at a time, in float32 on a CPU (1,024 x 2^14 = 2^24, the last integer up to which
float32 counts). Squared distances are formed in 64 bits. The lists are then those of a
float64 reference, ties by the smaller row; plain float32, TF32 and bfloat16 products lose 0.1 to
1 % of the neighbours at 67,500 dimensions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8, Int32, UInt8

# So many products of two int8 numbers, each of at most 2^14, are added without error.
_COLUMNS_IN_FLOAT32 = 2**24 // 2**14
_COLUMNS_IN_INT32 = 2**31 // 2**14 - 1


def _gram_in_int32(rows: Int8[Array, "n d"]) -> Int32[Array, "n n"]:
    return jnp.matmul(rows, rows.T, preferred_element_type=jnp.int32)


def _gram_in_float32(rows: Int8[Array, "n d"]) -> Int32[Array, "n n"]:
    """The same integers from float32 products, which CPUs are fast at and int8 ones are not."""
    count, columns = rows.shape
    width = _COLUMNS_IN_FLOAT32
    blocks = -(-columns // width)
    padded = jnp.pad(rows, ((0, 0), (0, blocks * width - columns)))

    def add_block(block, total):
        part = jax.lax.dynamic_slice_in_dim(padded, block * width, width, axis=1)
        part = part.astype(jnp.float32)
        return total + jnp.matmul(part, part.T, precision="highest").astype(jnp.int32)

    return jax.lax.fori_loop(0, blocks, add_block, jnp.zeros((count, count), jnp.int32))


@jax.jit
def gram(rows: Int8[Array, "n d"]) -> Int32[Array, "n n"]:
    """Exact inner products of all pairs of int8 rows of at most 131,071 columns."""
    return jax.lax.platform_dependent(rows, cpu=_gram_in_float32, default=_gram_in_int32)


def squared_distances(images: UInt8[np.ndarray, "n *pixel"]) -> Int[np.ndarray, "n n"]:
    """Exact squared Euclidean distances between uint8 images of any size, int64."""
    shifted = (images.reshape(len(images), -1) ^ 0x80).view(np.int8)
    products = np.zeros((len(images), len(images)), np.int64)
    for start in range(0, shifted.shape[1], _COLUMNS_IN_INT32):
        products += np.asarray(gram(jnp.asarray(shifted[:, start : start + _COLUMNS_IN_INT32])))
    norms = np.diagonal(products)
    return norms[:, None] + norms[None, :] - 2 * products


class ClassNeighbors(NamedTuple):
    """All neighbours of each image of one class.

    Attributes:
        rows: rows of the image set, ascending.
        order: positions in `rows`, nearest first, a row an image, itself left out.
    """

    rows: Int[np.ndarray, " n"]
    order: Int[np.ndarray, "n n-1"]


def rank_neighbors(
    images: UInt8[np.ndarray, "n h w c"], labels: Int[np.ndarray, " n"]
) -> dict[int, ClassNeighbors]:
    """Ranks, once a data set, the same-class neighbours of every image, by label.

    Every partition is a subset of the image set, so that its neighbour lists are read off these.
    Costs n_c^2 x d multiply-adds a class and keeps 4 n_c^2 bytes.
    """
    table = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        distances = squared_distances(images[rows])
        np.fill_diagonal(distances, -1)  # itself comes first, also among duplicates
        order = np.argsort(distances, axis=1, kind="stable")[:, 1:]
        table[int(label)] = ClassNeighbors(rows, order.astype(np.int32))
    return table


def subset_neighbors(
    table: dict[int, ClassNeighbors],
    rows: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    k: int,
) -> Int[np.ndarray, "n k"]:
    """The k nearest same-class neighbours of each image within a subset of the image set.

    Args:
        table: of the whole image set, from `rank_neighbors`.
        rows: the subset, each row once.
        labels: of the subset.
        k: neighbours an image.

    Returns:
        positions in `rows`, nearest first. Images of a class with k or fewer images in the subset
        have too few neighbours: their lists are filled with -1.
    """
    neighbors = np.full((len(rows), k), -1, np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= k:
            continue
        whole = table[int(label)]
        here = np.searchsorted(whole.rows, rows[members])
        position = np.full(len(whole.rows), -1, np.int32)
        position[here] = members
        candidates = position[whole.order[here]]
        found = candidates >= 0
        first = found & (np.cumsum(found, axis=1) <= k)
        neighbors[members] = candidates[first].reshape(len(members), k)
    return neighbors


def feature_neighbors(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], k: int
) -> Int[np.ndarray, "n k"]:
    """The k nearest same-class neighbours of each row of real-valued features.

    A float64 Gram matrix tells which rows may be among the k nearest, its rounding errors allowed
    for; these are ranked by the sums of their squared differences, in float64, ties by the smaller
    row. Result as `subset_neighbors`.
    """
    rounding = 8 * (features.shape[1] + 4) * np.finfo(np.float64).eps  # in parts of the norms
    neighbors = np.full((len(features), k), -1, np.int32)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) <= k:
            continue
        x = features[members].astype(np.float64)
        centered = x - x.mean(axis=0)  # smaller norms, and so fewer rows in doubt
        products = centered @ centered.T
        norms = np.diagonal(products)
        distances = norms[:, None] + norms[None, :] - 2 * products
        np.fill_diagonal(distances, np.inf)
        reach = np.partition(distances, k - 1, axis=1)[:, k - 1] + rounding * norms.max()
        for row, member in enumerate(members):
            # Not `<=`: among NaN, of a network that diverged, all rows are candidates.
            candidates = np.flatnonzero(~(distances[row] > reach[row]))
            exact = ((x[candidates] - x[row]) ** 2).sum(-1)
            neighbors[member] = members[candidates[np.argsort(exact, kind="stable")[:k]]]
    return neighbors
