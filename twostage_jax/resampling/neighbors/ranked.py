"""Same-class neighbors within subsets of one image set, read off lists that are ranked once.

Every partition of a study is a subset of its image set. Distances within a class of n_c images are
computed once per image set: n_c^2 x d multiplications and 4 n_c^2 bytes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from twostage_jax.resampling.neighbors.products import squared_distances


class ClassNeighbors(NamedTuple):
    """All neighbors of each image of one class.

    Attributes:
        rows: rows of the image set, ascending.
        order: positions in `rows`, nearest first: one row per image, without the image itself.
    """

    rows: Int[np.ndarray, " n"]
    order: Int[np.ndarray, "n n-1"]


def rank_neighbors(
    images: UInt8[np.ndarray, "n h w c"], labels: Int[np.ndarray, " n"]
) -> dict[int, ClassNeighbors]:
    """Ranks the same-class neighbors of every image, by label: exact, ties by the smaller row."""
    table = {}
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        members = images[rows]
        distances = squared_distances(members, members)
        np.fill_diagonal(distances, -1)  # sorts an image before its duplicates
        order = np.argsort(distances, axis=1, kind="stable")[:, 1:]
        table[int(label)] = ClassNeighbors(rows, order.astype(np.int32))
    return table


def subset_neighbors(
    table: dict[int, ClassNeighbors],
    rows: Int[np.ndarray, " n"],
    labels: Int[np.ndarray, " n"],
    k: int,
) -> Int[np.ndarray, "n k"]:
    """The k nearest same-class neighbors of each image within a subset of the image set.

    Args:
        table: of the whole image set, from `rank_neighbors`.
        rows: the subset, each row once.
        labels: classes of the subset.
        k: neighbors per image.

    Returns:
        positions in `rows`, nearest first; -1 in classes with k or fewer images in the subset.
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
