"""A search for neighbors, as samplers take it: a number of neighbors, or a searching object.

As in imbalanced-learn, the object has scikit-learn's `fit`, `kneighbors` and `n_neighbors`. Asked
for the neighbors of samples that it was fitted on, it finds each sample itself first.
"""

import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from sklearn.base import clone

from twostage_jax.resampling.neighbors import nearest
from twostage_jax.support.errors import InputError


def found_by(search: Any) -> int:
    """How many neighbors a search finds."""
    return int(search) if isinstance(search, numbers.Integral) else search.n_neighbors


def list_length(search: Any) -> int:
    """Length of the lists of `neighbor_lists`: an object finds one more, the sample itself.

    Raises:
        InputError: an object finds nothing else.
    """
    if isinstance(search, numbers.Integral):
        return int(search)
    if search.n_neighbors < 2:
        raise InputError(
            f"{search!r} found, which finds the sample itself alone; pass 2 or more n_neighbors"
        )
    return search.n_neighbors - 1


def neighbor_lists(
    x: Shaped[np.ndarray, "n *shape"], search: Any, rows: Int[np.ndarray, " q"] | None = None
) -> Int[np.ndarray, "q k"]:
    """The nearest neighbors within x of some of its rows; of all by default.

    A number is for the exact search of this package.
    """
    if isinstance(search, numbers.Integral):
        return nearest(x, int(search), rows=rows, distances=False).rows
    flat = x.reshape(len(x), -1)
    asking = flat if rows is None else flat[rows]
    searcher: Any = clone(search)
    return searcher.fit(flat).kneighbors(asking, return_distance=False)[:, 1:]


def class_neighbor_lists(
    x: Shaped[np.ndarray, "n *shape"],
    y: Shaped[np.ndarray, " n"],
    search: Any,
    classes: Iterable[Any],
) -> Int[np.ndarray, "n k"]:
    """What `subset_neighbors` gives, by a search among the samples of each of some classes."""
    lists = np.full((len(x), list_length(search)), -1, np.int32)
    for label in classes:
        members = np.flatnonzero(y == label)
        if len(members) > lists.shape[1]:
            lists[members] = members[neighbor_lists(x[members], search)]
    return lists
