"""Screens on the host: by a tree for few columns, and by float64 products.

The latter are for small problems, and for queries whose answers float32 products do not prove.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.neighbors import KDTree

from twostage_jax.resampling.neighbors.problem import LEAST, Problem, Screened, quietly
from twostage_jax.support.threads import cores, for_row_blocks

_FLOAT64 = 2.0**-52
# scikit-learn's own rule for when a tree beats brute force.
_COLUMNS_OF_A_TREE = 15


@quietly
def suits_a_tree(problem: Problem) -> bool:
    """Whether `screen_by_tree` is right, and quicker than products of all pairs that are many.

    The tree finds the nearest only, and nothing where squared distances may overflow.
    """
    if problem.farthest or problem.points.shape[1] > _COLUMNS_OF_A_TREE:
        return False
    both = problem.points, problem.queries
    ends = [end(axis=0).astype(float) for x in both for end in (x.min, x.max)]
    return bool(np.isfinite(np.square(np.ptp(ends, axis=0)).sum()))


def screen_by_tree(problem: Problem, wanted: int) -> Screened:
    """Candidates from scikit-learn's k-d tree, of a problem that suits it."""
    tree = KDTree(problem.points)
    distance = np.empty((len(problem.queries), wanted))
    rows = np.empty(distance.shape, np.intp)

    def ask(block: slice) -> None:
        distance[block], rows[block] = tree.query(problem.queries[block], wanted)

    for_row_blocks(ask, len(rows), 2**10)
    squared, slack = distance**2, 4 * (problem.points.shape[1] + 4) * _FLOAT64
    lower, upper = squared * (1 - slack) - LEAST, squared * (1 + slack) + LEAST
    return Screened(rows, lower[:, -1], lower, upper)


def screen_on_host(problem: Problem, wanted: int, memory: int = 2**30) -> Screened:
    """Candidates from float64 products of all pairs, in at most `memory` bytes.

    Real numbers are centered: smaller norms mean smaller rounding errors. Products of pixels are
    integers and exact.
    """
    points, queries, own, farthest = problem
    pixels = points.dtype == np.uint8
    error, least = (0.0, 0.0) if pixels else (4 * (points.shape[1] + 8) * _FLOAT64, LEAST)
    rows = np.empty((len(queries), wanted), np.intp)
    beyond = np.empty(len(queries))
    lower, upper = np.empty((2, *rows.shape))
    threads = cores() if problem.work > 2**24 else 1  # below, starting threads takes longer
    share = memory // (2 * threads)  # for the bounds of pairs, and as much for converted rows
    # All pairs of the points take half of the products, where many of them are queries.
    many = (own >= 0).all() and 2 * len(queries) > len(points)
    fit = 16 * (points.size + len(points) ** 2) <= memory
    pairs = _pairs_with_itself(points, centered=not pixels) if many and fit else None

    @quietly
    def screen(block: slice) -> None:
        if pairs is None:
            asking = queries[block]
            norms, squared = _norms_and_squares(points, asking, share, centered=not pixels)
        else:
            asking = own[block]
            norms, squared = np.add.outer(pairs.norms[asking], pairs.norms), pairs.squared[asking]
        norms *= error
        norms += least
        bounds = -squared - norms if farthest else squared - norms
        bounds[np.isnan(bounds)] = -np.inf
        asked = np.flatnonzero(own[block] >= 0)
        bounds[asked, own[block][asked]] = np.inf
        found = rows[block] = np.argpartition(bounds, wanted - 1, axis=1)[:, :wanted]
        take = partial(np.take_along_axis, indices=found, axis=1)
        last = take(bounds).max(axis=1)
        beyond[block] = -last if farthest else last
        lower[block], upper[block] = take(squared) - take(norms), take(squared) + take(norms)

    # The bounds of a block fit the cache; at least 256 queries are worth converting the points.
    block = min(max(256, 2**18 // len(points)), -(-len(queries) // threads))
    for_row_blocks(screen, len(queries), max(1, min(block, share // (48 * len(points)))))
    return Screened(rows, beyond, lower, lower if pixels else upper)


class _Pairs(NamedTuple):
    """Squared norms of rows, and the squared distances of all pairs."""

    norms: Float[np.ndarray, " n"]
    squared: Float[np.ndarray, "n n"]


def _pairs_with_itself(points: Shaped[np.ndarray, "n d"], *, centered: bool) -> _Pairs:
    """All pairs of the points, from half of the products."""
    x = points.astype(np.float64)
    if centered:
        x -= _center(x)
    norms = _squared_norms(x)
    squared = np.empty((len(x), len(x)))
    size = -(-len(x) // (1 if x.size * len(x) <= 2**24 else cores()))
    starts = range(0, len(x), size)
    tiles = [(i, j) for i in starts for j in starts if i <= j]

    @quietly
    def multiply(share: slice) -> None:
        for i, j in tiles[share]:
            left, right = slice(i, i + size), slice(j, j + size)
            # NumPy computes half of a product of an array with its own transpose.
            tile = x[left] @ x[left].T if i == j else x[left] @ x[right].T
            tile *= -2
            tile += norms[left, None]
            tile += norms[right]
            squared[left, right] = tile
            if i < j:
                squared[right, left] = tile.T

    for_row_blocks(multiply, len(tiles), 1)
    return _Pairs(norms, squared)


def _squared_norms(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    return np.einsum("ij,ij->i", x, x)


def _center(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " d"]:
    """A median of few rows, which huge numbers in some rows do not move."""
    few = x[:: len(x) // 8 + 1]
    return np.partition(few, len(few) // 2, axis=0)[len(few) // 2]


def _norms_and_squares(
    points: Shaped[np.ndarray, "n d"],
    queries: Shaped[np.ndarray, "q d"],
    memory: int,
    *,
    centered: bool,
) -> tuple[Float[np.ndarray, "q n"], Float[np.ndarray, "q n"]]:
    """The sum of both squared norms of each pair, and its squared distance."""
    norms, products = np.zeros((2, len(queries), len(points)))
    # Columns that fit the cache and, in float64 beside the columns before, the memory.
    width = max(1, min(2**21, memory // 16) // (len(points) + len(queries)))
    for start in range(0, points.shape[1], width):
        part = slice(start, start + width)
        x, y = points[:, part].astype(np.float64), queries[:, part].astype(np.float64)
        if centered:
            center = _center(x)
            x -= center
            y -= center
        norms += np.add.outer(_squared_norms(y), _squared_norms(x))
        products += y @ x.T
    return norms, norms - 2 * products
