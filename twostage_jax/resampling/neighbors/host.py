"""Screens on the host: by float64 products for small problems, by a tree for few columns."""

import os

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.neighbors import KDTree

from twostage_jax.resampling.neighbors.problem import Problem, Screened
from twostage_jax.support.threads import for_row_blocks

_FLOAT64 = 2.0**-52


def screen_by_tree(problem: Problem, wanted: int) -> Screened:
    """Candidates from scikit-learn's k-d tree, which is quick in few columns; nearest only."""
    tree = KDTree(problem.points)
    distance = np.empty((len(problem.queries), wanted))
    rows = np.empty(distance.shape, np.intp)

    def ask(block: slice) -> None:
        distance[block], rows[block] = tree.query(problem.queries[block], wanted)

    for_row_blocks(ask, len(rows), 2**10)
    slack = 1 - 4 * (problem.points.shape[1] + 4) * _FLOAT64
    return Screened(rows, distance[:, -1] ** 2 * slack)


def screen_on_host(problem: Problem, wanted: int, memory: int = 2**30) -> Screened:
    """Candidates from float64 products of all pairs, in at most `memory` bytes.

    Real numbers are centered: smaller norms mean smaller rounding errors. Products of pixels are
    integers and exact.
    """
    points, queries, own, farthest = problem
    pixels = points.dtype == np.uint8
    error = 0.0 if pixels else 4 * (points.shape[1] + 8) * _FLOAT64
    rows = np.empty((len(queries), wanted), np.intp)
    beyond = np.empty(len(queries))
    exact = np.empty(rows.shape) if pixels else None

    def screen(block: slice) -> None:
        norms, squared = _norms_and_squares(points, queries[block], centered=not pixels)
        bounds = -squared - error * norms if farthest else squared - error * norms
        bounds[np.isnan(bounds)] = -np.inf
        asked = np.flatnonzero(own[block] >= 0)
        bounds[asked, own[block][asked]] = np.inf
        rows[block] = np.argpartition(bounds, wanted - 1, axis=1)[:, :wanted]
        last = np.take_along_axis(bounds, rows[block], axis=1).max(axis=1)
        beyond[block] = -last if farthest else last
        if exact is not None:
            exact[block] = np.take_along_axis(squared, rows[block], axis=1)

    # The bounds of a block fit the cache; at least 64 queries are worth converting the points.
    block = max(64, 2**18 // len(points))
    if problem.work > 2**24:  # enough to be worth starting threads
        threads = os.cpu_count() or 1
        block = min(block, -(-len(queries) // threads))
        block = max(1, min(block, memory // (48 * threads * len(points))))
    for_row_blocks(screen, len(queries), block)
    return Screened(rows, beyond, exact)


def _norms_and_squares(
    points: Shaped[np.ndarray, "n d"], queries: Shaped[np.ndarray, "q d"], *, centered: bool
) -> tuple[Float[np.ndarray, "q n"], Float[np.ndarray, "q n"]]:
    """The sum of both squared norms of each pair, and its squared distance."""
    norms, products = np.zeros((2, len(queries), len(points)))
    width = max(1, 2**18 // (len(points) + len(queries)))  # columns that fit the cache
    for start in range(0, points.shape[1], width):
        part = slice(start, start + width)
        x, y = points[:, part].astype(np.float64), queries[:, part].astype(np.float64)
        if centered:
            center = np.median(x[:: len(x) // 64 + 1], axis=0)
            x -= center
            y -= center
        norms += np.add.outer(np.square(y).sum(1), np.square(x).sum(1))
        products += y @ x.T
    return norms, norms - 2 * products
