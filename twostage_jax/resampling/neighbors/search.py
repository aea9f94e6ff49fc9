"""Exact nearest (or farthest) neighbors in bounded memory, on any backend.

The search screens and then ranks. Screening finds, for each query, the few points with the smallest
*lower bound* of their distance: an approximate distance minus the largest possible rounding error.
All other points have a lower bound of at least `beyond`. Ranking computes the exact distances of
the few (float64, by differences). If the k-th of them is below `beyond`, no other point can be
among the k nearest, and the answer is proven. Otherwise the query is screened again for more.

Where many points are equal, the search goes over distinct rows. The nearest k + 1 distinct rows
hold the k nearest points: a point is never nearer than an equal one of a smaller row number.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from twostage_jax.resampling.neighbors.device import screen_on_device
from twostage_jax.resampling.neighbors.equal import Groups, groups_of
from twostage_jax.resampling.neighbors.host import screen_by_tree, screen_on_host, suits_a_tree
from twostage_jax.resampling.neighbors.problem import Problem, Screen, Screened, quietly
from twostage_jax.support.errors import InputError
from twostage_jax.support.threads import for_row_blocks

MEMORY = 2**30

# Below both sizes NumPy is done before a program would be compiled, which takes about 0.1 s.
_SMALL_PRODUCTS = 2 * 10**9
_SMALL_PAIRS = 2**22
# Candidates beside the k that are wanted: with fewer, `beyond` is often too near for a proof.
SPARE = 11


class Neighbors(NamedTuple):
    """Neighbors of each query, nearest first (or farthest first), ties by the smaller row.

    Attributes:
        rows: rows of the points.
        squared: squared Euclidean distances, as sums of squared differences in float64; or, where
            they are not wanted, about these. Points at an infinite one, or at NaN, are equally far.
    """

    rows: Int[np.ndarray, "queries k"]
    squared: Float[np.ndarray, "queries k"]


@quietly
def nearest(
    points: Shaped[np.ndarray, "n *shape"],
    k: int,
    *,
    rows: Int[np.ndarray, " q"] | None = None,
    queries: Shaped[np.ndarray, "q *shape"] | None = None,
    farthest: bool = False,
    distances: bool = True,
    memory: int = MEMORY,
    screen: Screen | None = None,
) -> Neighbors:
    """The k nearest points in Euclidean distance, exactly, of some points or of other rows.

    Args:
        points: rows of any shape and real dtype. uint8 is searched by exact integer products.
        k: number of neighbors per query.
        rows: the points whose neighbors are wanted; all by default. No point is its own neighbor,
            but an equal point at another row is.
        queries: rows of the points' shape whose neighbors are wanted, instead of `rows`.
        farthest: whether to look for the k farthest points instead.
        distances: whether the exact distances are wanted. The rows alone take less time: most
            distances need not be known exactly to tell which is the smaller one.
        memory: bytes that the search may take, on the host and on the device together, beside the
            data, a copy of `rows` and the result; and, where many points are equal, a copy of the
            distinct ones. Whatever is given, blocks of rows take about 2 kB per column and 4 MB per
            core.
        screen: how to find candidates, from `host` or `device`; chosen by size by default. The
            result is the same.

    Raises:
        InputError: there are fewer than k points to be found.
    """
    available = len(points) - (queries is None)
    if not 1 <= k <= available:
        raise InputError(
            f"{k} neighbors requested of {available} points, 1 to {available} expected; lower the "
            "number of neighbors"
        )
    problem = _problem_of(points, rows, queries, farthest)
    groups = groups_of(problem.points, SPARE)
    if groups is None:
        return _search(problem, k, distances, memory, screen)
    return _search_groups(problem, groups, k, memory, screen)


def _search_groups(
    problem: Problem, groups: Groups, k: int, memory: int, screen: Screen | None
) -> Neighbors:
    """The same by a search among the distinct points, whose rows are then counted out."""
    distinct = problem.points[groups.first]
    inside = (problem.own >= 0).all()
    if inside:
        asked, queries = np.unique(groups.group[problem.own], return_inverse=True)
        whole = len(asked) == len(distinct)
        asking = distinct if whole else distinct[asked]
    else:
        same = groups_of(problem.queries, SPARE)
        queries = np.arange(len(problem.queries)) if same is None else same.group
        asking = problem.queries if same is None else problem.queries[same.first]
    nobody = np.full(len(asking), -1)
    few = Problem(distinct, asking, nobody, problem.farthest)
    found = _search(few, min(k + 1, len(distinct)), True, memory, screen)
    key = _sort_key(found.squared, problem.farthest)
    return Neighbors(*groups.expand(found, queries, problem.own, k, key))


def _search(
    problem: Problem, k: int, distances: bool, memory: int, screen: Screen | None
) -> Neighbors:
    count, asked, again = len(problem.points), len(problem.queries), False
    result = Neighbors(np.empty((asked, k), np.intp), np.empty((asked, k)))
    pending, wanted = np.arange(asked), k + SPARE
    copied = problem.queries.itemsize * problem.queries.shape[1]  # bytes per pending query
    while len(pending):
        wanted = min(wanted, count)
        # Candidates, their distances and the temporaries of sorting take a quarter of the memory,
        # together with copies of the queries that are asked again.
        portion = max(1, memory // (4 * (48 * wanted + again * copied)))
        unproven = []
        for start in range(0, len(pending), portion):
            part = pending[start : start + portion]
            asking = problem
            if len(part) < asked:
                asking = problem.of_queries(part if again else slice(start, start + portion))
            chosen = screen or screen_by_size(asking, memory, again)
            screened = chosen(asking, wanted)
            result.rows[part], result.squared[part], last = _rank(asking, screened, k, distances)
            beyond = screened.beyond
            proven = last > beyond if problem.farthest else last < beyond
            unproven.append(part[~proven & (wanted < count)])
        pending, again = np.concatenate(unproven), True
        wanted *= 8
    return result


def _problem_of(points, rows, queries, farthest) -> Problem:
    x = points.reshape(len(points), -1)
    y = None if queries is None else queries.reshape(len(queries), -1)
    if x.dtype not in (np.uint8, np.float32) or (y is not None and y.dtype != x.dtype):
        x = x.astype(np.float64, copy=False)
        y = None if y is None else y.astype(np.float64, copy=False)
    if y is not None:
        return Problem(x, y, np.full(len(y), -1), farthest)
    if rows is None:
        return Problem(x, x, np.arange(len(x)), farthest)
    return Problem(x, x[rows], rows, farthest)


def screen_by_size(problem: Problem, memory: int, again: bool) -> Screen:
    """The quickest screen.

    Args:
        problem: what is searched.
        memory: bytes that the screen may take.
        again: whether the queries are those whose answers are not proven yet.
    """
    small = problem.pairs <= _SMALL_PAIRS
    if not small and suits_a_tree(problem):
        return screen_by_tree
    # float32 products cannot tell apart rows that are near to each other and far from the rest: a
    # second cluster, or rows with one huge number. More candidates would not help.
    precise = again and problem.points.dtype != np.uint8
    if precise or (small and problem.work <= _SMALL_PRODUCTS):
        return partial(screen_on_host, memory=memory)
    return partial(screen_on_device, memory=memory)


def _rank(
    problem: Problem, screened: Screened, k: int, distances: bool
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"], Float[np.ndarray, " q"]]:
    """The k nearest of the candidates, their squared distances, and a bound of the last one's.

    Distances are computed only where their bounds do not tell in which order candidates are.
    """
    rows, lower, upper = screened.rows, screened.lower, screened.upper
    left_out = (rows < 0) | (rows == problem.own[:, None])
    if lower is upper:
        squared, known = lower, np.ones(rows.shape, bool)
    else:
        known = _unsure(lower, upper, left_out, k, problem.farthest)
        squared = lower / 2 + upper / 2  # the sum of both may overflow
        asked = np.nonzero(known & ~left_out)
        squared[asked] = _squared_differences(problem, asked[0], rows[asked])
    key = _sort_key(squared, problem.farthest)
    key[left_out] = np.nan  # NaN sorts last
    order = np.lexsort((rows, key), axis=1)[:, :k]
    take = partial(np.take_along_axis, indices=order, axis=1)
    last = np.where(known, squared, lower if problem.farthest else upper)
    rows, squared, last, known = take(rows), take(squared), take(last)[:, -1], take(known)
    if distances:
        asked = np.nonzero(~known)
        squared[asked] = _squared_differences(problem, asked[0], rows[asked])
    return rows, squared, last


def _unsure(
    lower: Float[np.ndarray, "q m"],
    upper: Float[np.ndarray, "q m"],
    left_out: Bool[np.ndarray, "q m"],
    k: int,
    farthest: bool,
) -> Bool[np.ndarray, "q m"]:
    """Which candidates may change places with others, and do so among the first k.

    Sorted by the near ends of their bounds, candidates fall into clusters: between two clusters no
    bounds overlap. The order is sure where a cluster has one candidate.
    """
    near, far = (-upper, -lower) if farthest else (lower, upper)
    near = np.where(left_out, np.inf, np.where(np.isnan(near), -np.inf, near))
    far = np.where(left_out | np.isnan(far), np.inf, far)
    order = np.argsort(near, axis=1)
    near, far = (np.take_along_axis(ends, order, axis=1) for ends in (near, far))
    apart = np.maximum.accumulate(far, axis=1)[:, :-1] < near[:, 1:]
    edge = np.ones((len(near), 1), bool)
    found = ~(np.hstack([edge, apart]) & np.hstack([apart, edge]))
    # Beyond the first k, only what is in one cluster with the last of these matters.
    found[:, k:] &= np.logical_and.accumulate(~apart[:, k - 1 :], axis=1)
    unsure = np.empty_like(found)
    np.put_along_axis(unsure, order, found, axis=1)
    return unsure


def _sort_key(squared: Float[np.ndarray, "q m"], farthest: bool) -> Float[np.ndarray, "q m"]:
    # Features of a network that diverged are NaN: all other points are equally far neighbors.
    return np.where(np.isnan(squared), np.inf, -squared if farthest else squared)


def _squared_differences(
    problem: Problem, asking: Int[np.ndarray, " a"], rows: Int[np.ndarray, " a"]
) -> Float[np.ndarray, " a"]:
    """The squared distances of some pairs of a query and a point, from their differences."""
    points, queries = problem.points, problem.queries
    squared = np.empty(len(rows))
    if not len(rows):
        return squared

    @quietly
    def fill(block: slice) -> None:
        difference = points[rows[block]].astype(np.float64)
        difference -= queries[asking[block]]
        squared[block] = np.square(difference, out=difference).sum(-1)

    for_row_blocks(fill, len(rows), max(1, 2**17 // points.shape[1]))
    return squared
