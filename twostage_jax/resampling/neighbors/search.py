"""Exact nearest (or farthest) neighbours in bounded memory, on any backend.

The search screens and then ranks. Screening finds, for each query, the few points of smallest
*lower bound* of their distance: an approximate distance less all that rounding may have added. What
remains outside has a lower bound of at least `beyond`. Ranking computes the distances of the few
exactly (float64, by differences). If the k-th of them is nearer than `beyond`, no point outside can
be among the k nearest, and the answer is proven; otherwise the query is screened again for more.

Pixels (uint8) are screened with exact integer products, real numbers with float32 products, both
tile by tile on JAX's default device. Small problems are not worth a compilation and are screened in
float64 by NumPy, and low-dimensional ones by scikit-learn's k-d tree.
"""

import math
import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Shaped, UInt32
from sklearn.neighbors import KDTree

from twostage_jax.resampling.neighbors.products import (
    COLUMNS_IN_INT32,
    integer_products,
    product_error,
    real_products,
    squared_norms,
    to_int8,
)
from twostage_jax.support.threads import for_row_blocks

MEMORY = 2**30

# Below this NumPy is done before a program would be compiled, some 0.1 s.
_SMALL_PRODUCTS = 2 * 10**9
_SMALL_PAIRS = 2**22
# scikit-learn's own rule for when a tree beats brute force.
_COLUMNS_OF_A_TREE = 15
# Candidates beside the k wanted ones, so that `beyond` is seldom too near.
_SPARE = 11
_LANES = 64
_FLOAT64 = 2.0**-52
# Products of float32 numbers smaller than this may be lost: squares of scaled data are near 1.
_TINY = 2.0**-100


class Neighbors(NamedTuple):
    """Nearest first (or farthest first), ties by the smaller row.

    Attributes:
        rows: of the points.
        squared: Euclidean distances, squared: sums of float64 differences.
    """

    rows: Int[np.ndarray, "queries k"]
    squared: Float[np.ndarray, "queries k"]


class _Problem(NamedTuple):
    """What is searched: rows of numbers, and what is left out.

    Attributes:
        points: 2-D.
        queries: 2-D, of the same columns and dtype.
        own: the point that each query is itself, which is not its neighbour; -1 for none.
        farthest: whether to look for the farthest.
    """

    points: Shaped[np.ndarray, "n d"]
    queries: Shaped[np.ndarray, "q d"]
    own: Int[np.ndarray, " q"]
    farthest: bool

    @property
    def work(self) -> int:
        """Multiplications in the products of all pairs."""
        return len(self.points) * self.queries.size

    def of_queries(self, rows: Int[np.ndarray, " r"]) -> "_Problem":
        return self._replace(queries=self.queries[rows], own=self.own[rows])


class _Screened(NamedTuple):
    """Candidates of each query.

    Attributes:
        rows: of the points, each once a query; -1 where there are no more.
        beyond: no other point is nearer (farther) than this, squared.
        squared: their exact distances, where screening has found them out.
    """

    rows: Int[np.ndarray, "q m"]
    beyond: Float[np.ndarray, " q"]
    squared: Float[np.ndarray, "q m"] | None = None


def nearest(
    points: Shaped[np.ndarray, "n *shape"],
    k: int,
    *,
    rows: Int[np.ndarray, " q"] | None = None,
    queries: Shaped[np.ndarray, "q *shape"] | None = None,
    farthest: bool = False,
    memory: int = MEMORY,
) -> Neighbors:
    """The k nearest points in Euclidean distance, exactly: of each point, of some, or of others.

    Args:
        points: rows of any shape and real dtype. uint8 is searched by exact integer products.
        k: how many; at most the number of points, less one where points ask.
        rows: the points that ask; by default all. No point is its own neighbour, but an equal one
            at another row is.
        queries: rows of the points' shape that ask instead of points.
        farthest: look for the k farthest instead.
        memory: bytes that the search may take, on the host and on the device together, besides
            the data and the result.

    Raises:
        ValueError: there are fewer than k points to be found.
    """
    available = len(points) - (queries is None)
    if not 1 <= k <= available:
        raise ValueError(f"{k} neighbours asked of {available} points; 1 to {available} can be had")
    problem = _pose(points, rows, queries, farthest)
    asked = len(problem.queries)
    result = Neighbors(np.empty((asked, k), np.intp), np.empty((asked, k)))
    pending, wanted = np.arange(asked), k + _SPARE
    while len(pending):
        wanted = min(wanted, len(points))
        # Candidates, their distances and what sorting takes: a quarter of the memory.
        portion = max(1, memory // (4 * 48 * wanted))
        unproven = []
        for start in range(0, len(pending), portion):
            part = pending[start : start + portion]
            asking = problem if len(part) == asked else problem.of_queries(part)
            screened = _screen(asking, wanted, memory)
            found = _rank(asking, screened, k)
            result.rows[part], result.squared[part] = found
            last, beyond = found.squared[:, -1], screened.beyond
            proven = last > beyond if farthest else last < beyond
            unproven.append(part[~proven & (wanted < len(points))])
        pending, wanted = np.concatenate(unproven), 8 * wanted
    return result


def _pose(points, rows, queries, farthest) -> _Problem:
    x = points.reshape(len(points), -1)
    y = None if queries is None else queries.reshape(len(queries), -1)
    if x.dtype not in (np.uint8, np.float32) or (y is not None and y.dtype != x.dtype):
        x = x.astype(np.float64, copy=False)
        y = None if y is None else y.astype(np.float64, copy=False)
    if y is not None:
        return _Problem(x, y, np.full(len(y), -1), farthest)
    if rows is None:
        return _Problem(x, x, np.arange(len(x)), farthest)
    return _Problem(x, x[rows], rows, farthest)


def _screen(problem: _Problem, wanted: int, memory: int) -> _Screened:
    (count, columns), asked = problem.points.shape, len(problem.queries)
    pairs = count * asked
    if columns <= _COLUMNS_OF_A_TREE and pairs > _SMALL_PAIRS and not problem.farthest:
        return _screen_by_tree(problem, wanted)
    if pairs <= _SMALL_PAIRS and problem.work <= _SMALL_PRODUCTS:
        return _screen_on_host(problem, wanted)
    return _screen_on_device(problem, wanted, memory)


# Ranking


def _rank(problem: _Problem, screened: _Screened, k: int) -> Neighbors:
    """The k nearest of the candidates, by exact distances."""
    rows, squared = screened.rows, screened.squared
    if squared is None:
        squared = _squared_differences(problem, rows)
    # A network that diverged has NaN for features: all others are its neighbours, far away.
    key = np.where(np.isnan(squared), np.inf, -squared if problem.farthest else squared)
    key[(rows < 0) | (rows == problem.own[:, None])] = np.nan  # which sorts last
    order = np.lexsort((rows, key), axis=1)[:, :k]
    take = partial(np.take_along_axis, indices=order, axis=1)
    return Neighbors(take(rows), take(squared))


def _squared_differences(
    problem: _Problem, rows: Int[np.ndarray, "q m"]
) -> Float[np.ndarray, "q m"]:
    points, queries = problem.points, problem.queries
    squared = np.empty(rows.size)
    pairs, width = rows.ravel(), rows.shape[1]

    def fill(block: slice) -> None:
        asking = np.arange(block.start, block.stop) // width
        difference = points[pairs[block]].astype(np.float64)
        difference -= queries[asking]
        squared[block] = np.square(difference, out=difference).sum(-1)

    for_row_blocks(fill, rows.size, max(1, 2**17 // points.shape[1]))
    return squared.reshape(rows.shape)


# Screening on the host


def _screen_by_tree(problem: _Problem, wanted: int) -> _Screened:
    tree = KDTree(problem.points)
    distance = np.empty((len(problem.queries), wanted))
    rows = np.empty(distance.shape, np.intp)

    def ask(block: slice) -> None:
        distance[block], rows[block] = tree.query(problem.queries[block], wanted)

    for_row_blocks(ask, len(rows), 2**10)
    slack = 1 - 4 * (problem.points.shape[1] + 4) * _FLOAT64
    return _Screened(rows, distance[:, -1] ** 2 * slack)


def _screen_on_host(problem: _Problem, wanted: int) -> _Screened:
    """By float64 products of centred rows, which have smaller norms and so less rounding.

    Those of pixels are integers, and exact.
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

    # A block's bounds stay in the cache, and it is worth the conversion of the points.
    block = max(64, 2**18 // len(points))
    if problem.work > 2**24:  # worth the start of threads
        block = min(block, -(-len(queries) // (os.cpu_count() or 1)))
    for_row_blocks(screen, len(queries), block)
    return _Screened(rows, beyond, exact)


def _norms_and_squares(
    points: Shaped[np.ndarray, "n d"], queries: Shaped[np.ndarray, "q d"], *, centered: bool
) -> tuple[Float[np.ndarray, "q n"], Float[np.ndarray, "q n"]]:
    """The sums of the squared norms of all pairs, and their squared distances."""
    norms, products = 0.0, 0.0
    width = max(1, 2**18 // (len(points) + len(queries)))  # so many columns stay in the cache
    for start in range(0, points.shape[1], width):
        part = slice(start, start + width)
        x, y = points[:, part].astype(np.float64), queries[:, part].astype(np.float64)
        if centered:
            center = x.mean(axis=0)
            x -= center
            y -= center
        norms = norms + np.add.outer(np.square(y).sum(1), np.square(x).sum(1))
        products = products + y @ x.T
    return norms, norms - 2 * products


# Screening on the device


class _Rows(NamedTuple):
    """A block of rows on the device, padded.

    Attributes:
        values: int8 pixels, or float32, centred and scaled.
        norms: squared norms: of pixels exact, of real numbers less (more) what rounding may have
            added.
        number: of each row; -1 for padding.
        own: the point that each is as a query; -1 for none.
    """

    values: Shaped[Array | np.ndarray, "b d"]
    norms: Shaped[Array | np.ndarray, " b"]
    number: Int32[Array | np.ndarray, " b"]
    own: Int32[Array | np.ndarray, " b"]


class _Blocks:
    """Rows in blocks of one size on the device, kept there or prepared whenever they are needed."""

    def __init__(
        self,
        x: Shaped[np.ndarray, "n d"],
        own: Int[np.ndarray, " n"],
        prepare: Callable[[Shaped[np.ndarray, "b d"]], tuple[np.ndarray, np.ndarray]],
        size: int,
        keep: bool,
    ):
        self._x, self._own, self._prepare, self.size = x, own, prepare, size
        self._kept = [self._load(block) for block in range(len(self))] if keep else None

    def __len__(self) -> int:
        return -(-len(self._x) // self.size)

    def __getitem__(self, block: int) -> _Rows:
        return self._load(block) if self._kept is None else self._kept[block]

    def rows(self, block: int) -> slice:
        return slice(block * self.size, min((block + 1) * self.size, len(self._x)))

    def _load(self, block: int) -> _Rows:
        rows = self.rows(block)
        values, norms = self._prepare(self._x[rows])
        missing = (0, self.size - len(values))
        number = np.arange(rows.start, rows.stop, dtype=np.int32)
        own = self._own[rows].astype(np.int32)
        return jax.device_put(
            _Rows(
                np.pad(values, (missing, (0, 0))),
                np.pad(norms, missing),
                np.pad(number, missing, constant_values=-1),
                np.pad(own, missing, constant_values=-1),
            )
        )


class _Best(NamedTuple):
    """The best candidates so far.

    Attributes:
        score: smallest first.
        row: of the points; -1 for none.
        half: of pixels, from `_halves`; of real numbers None.
    """

    score: Float32[Array, "b m"]
    row: Int32[Array, "b m"]
    half: UInt32[Array, "b m"] | None


def _halves(queries: _Rows, points: _Rows) -> UInt32[Array, "b p"]:
    """Half the squared distances between pixels, where norms are odd off by 1/2.

    Squared distances need 33 bits, their halves fit 32: unsigned arithmetic wraps, its result is
    right, and rounding one half up keeps it from being negative.
    """
    products = integer_products(queries.values, points.values).astype(jnp.uint32)
    up, down = (queries.norms + 1) >> 1, points.norms >> 1
    halves = up.astype(jnp.uint32)[:, None] + down.astype(jnp.uint32)[None]
    return halves - products


def _bounds_of_reals(queries: _Rows, points: _Rows) -> Float32[Array, "b p"]:
    products = real_products(queries.values, points.values)
    return queries.norms[:, None] + points.norms[None] - 2 * products


def _smallest(scores: Float32[Array, "b p"], count: int):
    """Columns of the smallest scores of each row.

    They lie in the `count` groups of 64 columns with the smallest minima: one quick pass over the
    tile, and a sort of few numbers.
    """
    queries, columns = scores.shape
    if columns <= _LANES * count:
        return jax.lax.top_k(-scores, min(count, columns))[1]
    groups = scores.reshape(queries, -1, _LANES)
    nearest_groups = jax.lax.top_k(-groups.min(axis=-1), count)[1]
    few = jnp.take_along_axis(groups, nearest_groups[:, :, None], axis=1).reshape(queries, -1)
    position = jax.lax.top_k(-few, count)[1]
    group = jnp.take_along_axis(nearest_groups, position // _LANES, axis=1)
    return group * _LANES + position % _LANES


def _merge(best: _Best, tile: _Best) -> _Best:
    """The best candidates, those in one more tile included: all its scores, rows and halves."""
    count = best.score.shape[1]
    columns = _smallest(tile.score, count)
    here = jax.tree.map(lambda column: jnp.take_along_axis(column, columns, axis=1), tile)
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), best, here)
    order = jax.lax.top_k(-both.score, count)[1]
    return jax.tree.map(lambda column: jnp.take_along_axis(column, order, axis=1), both)


def _tile(queries: _Rows, points: _Rows, farthest: bool) -> _Best:
    """All pairs of two blocks; padding and pairs of a row with itself last."""
    halves = _halves(queries, points) if queries.values.dtype == jnp.int8 else None
    scores = _bounds_of_reals(queries, points) if halves is None else halves.astype(jnp.float32)
    if farthest:
        scores = -scores
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    left_out = (points.number < 0)[None] | (points.number[None] == queries.own[:, None])
    scores = jnp.where(left_out, jnp.inf, scores)
    return _Best(scores, jnp.broadcast_to(points.number, scores.shape), halves)


@partial(jax.jit, static_argnames="farthest")
def _take_tile(best: _Best, queries: _Rows, points: _Rows, farthest: bool) -> _Best:
    """The best candidates of a block of queries, those in one more block of points included."""
    return _merge(best, _tile(queries, points, farthest))


@partial(jax.jit, static_argnames="farthest")
def _take_tile_twice(
    best_left: _Best, best_right: _Best, left: _Rows, right: _Rows, farthest: bool
) -> tuple[_Best, _Best]:
    """Those of two different blocks of points from each other: one product serves both."""
    tile = _tile(left, right, farthest)
    scores = jnp.where((left.number < 0)[:, None], jnp.inf, tile.score)
    halves = tile.half
    if halves is not None:  # the other norm is the one that was rounded up
        odd_left, odd_right = ((rows.norms & 1).astype(jnp.uint32) for rows in (left, right))
        halves = (halves - odd_left[:, None] + odd_right[None]).T
    turned = _Best(scores.T, jnp.broadcast_to(left.number, scores.T.shape), halves)
    return _merge(best_left, tile), _merge(best_right, turned)


def _tile_rows(columns: int, itemsize: int, memory: int) -> int:
    """Rows of a square tile, a power of two.

    A tile's products, bounds and selection take some 24 bytes a pair, its rows three copies, and
    both together at most half of the memory.
    """
    pair, row = 24, 6 * columns * itemsize
    rows = (math.sqrt(row**2 + 4 * pair * memory / 2) - row) / (2 * pair)
    return 2 ** max(6, int(math.log2(max(rows, 1))))


def _block_rows(count: int, most: int) -> int:
    """Rows of equal blocks, of few different sizes: programs are compiled for each."""
    rows = -(-count // -(-count // most))
    step = max(_LANES, 2 ** (rows.bit_length() - 4))
    return -(-rows // step) * step


def _screen_on_device(problem: _Problem, wanted: int, memory: int) -> _Screened:
    columns = problem.points.shape[1]
    pixels = problem.points.dtype == np.uint8 and columns <= COLUMNS_IN_INT32
    scale = 1.0
    if pixels:
        prepare, itemsize = _pixel_rows, 1
    else:
        center, scale = _center_and_scale(problem.points)
        rounding = product_error(columns) + 10 * 2.0**-22
        norm_factor = 1 + rounding if problem.farthest else 1 - rounding
        prepare = partial(_real_rows, center=center, scale=scale, norm_factor=norm_factor)
        itemsize = 4

    def blocks(x: Shaped[np.ndarray, "n d"], own: Int[np.ndarray, " n"]) -> _Blocks:
        size = _block_rows(len(x), _tile_rows(columns, itemsize, memory))
        return _Blocks(x, own, prepare, size, keep=x.size * itemsize <= memory // 8)

    if problem.queries is problem.points:
        points = queries = blocks(problem.points, problem.own)
        best = _search_itself(points, wanted, pixels, problem.farthest)
    else:
        points = blocks(problem.points, np.full(len(problem.points), -1))
        queries = blocks(problem.queries, problem.own)
        best = _search(points, queries, wanted, pixels, problem.farthest)
    asked = len(problem.queries)
    rows = np.concatenate([np.asarray(part.row) for part in best])[:asked]
    last = np.concatenate([np.asarray(part.score[:, -1]) for part in best])[:asked].astype(float)
    if problem.farthest:
        last = -last
    if not pixels:
        return _Screened(rows, (last + (_TINY if problem.farthest else -_TINY)) / scale**2)
    halves = np.concatenate([np.asarray(part.half) for part in best])[:asked]
    odd = [squared_norms(to_int8(x)) & 1 for x in (problem.queries, problem.points)]
    squared = 2 * halves.astype(np.int64) - odd[0][:, None] + odd[1][rows]
    # Twice a half is off by 1, and float32 rounds it.
    rounding = (1 + 2.0**-22, 2) if problem.farthest else (1 - 2.0**-22, -2)
    return _Screened(rows, 2 * last * rounding[0] + rounding[1], squared.astype(np.float64))


def _none_yet(size: int, wanted: int, pixels: bool) -> _Best:
    shape = (size, wanted)
    half = jnp.zeros(shape, jnp.uint32) if pixels else None
    return _Best(jnp.full(shape, jnp.inf), jnp.full(shape, -1, jnp.int32), half)


def _search(
    points: _Blocks, queries: _Blocks, wanted: int, pixels: bool, farthest: bool
) -> list[_Best]:
    """The best candidates of each block of queries."""
    best = [_none_yet(queries.size, wanted, pixels)] * len(queries)
    for i in range(len(queries)):
        asking = queries[i]
        for j in range(len(points)):
            before, best[i] = best[i], _take_tile(best[i], asking, points[j], farthest)
            jax.block_until_ready(before)  # no more than one tile waits for another
    return best


def _search_itself(points: _Blocks, wanted: int, pixels: bool, farthest: bool) -> list[_Best]:
    """The best candidates of each block of points, from half of all tiles."""
    best = [_none_yet(points.size, wanted, pixels)] * len(points)
    for i in range(len(points)):
        left = points[i]
        best[i] = _take_tile(best[i], left, left, farthest)
        for j in range(i + 1, len(points)):
            before = best[i]
            best[i], best[j] = _take_tile_twice(best[i], best[j], left, points[j], farthest)
            jax.block_until_ready(before)
    return best


def _pixel_rows(x: Shaped[np.ndarray, "b d"]) -> tuple[np.ndarray, np.ndarray]:
    shifted = to_int8(x)
    return shifted, squared_norms(shifted).astype(np.int32)


def _center_and_scale(points: Shaped[np.ndarray, "n d"]) -> tuple[np.ndarray, float]:
    """A point in the middle, and a power of two that brings distances from it near to 1.

    Any centre gives the same distances and any scale the same order: a sample of rows tells.
    """
    sample = points[:: max(1, len(points) // 1024)].astype(np.float64)
    center = sample.mean(axis=0).astype(points.dtype)
    norms = np.sqrt(np.square(sample - center).sum(axis=1))
    typical = float(np.median(norms)) or float(norms.max())
    usable = math.isfinite(typical) and typical > 0
    return center, 2.0 ** -round(math.log2(typical)) if usable else 1.0


def _real_rows(
    x: Shaped[np.ndarray, "b d"],
    *,
    center: Shaped[np.ndarray, " d"],
    scale: float,
    norm_factor: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in float32, one rounding each, and their squared norms with the allowance for errors."""
    values = np.empty(x.shape, np.float32)
    norms = np.empty(len(x), np.float32)

    def convert(block: slice) -> None:
        np.multiply(x[block] - center, scale, out=values[block], casting="same_kind")
        squares = np.einsum("ij,ij->i", values[block], values[block], dtype=np.float64)
        norms[block] = squares * norm_factor

    with np.errstate(over="ignore", invalid="ignore"):
        for_row_blocks(convert, len(x), max(1, 2**18 // x.shape[1]))
    return values, norms
