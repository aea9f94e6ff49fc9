"""Screens on JAX's default device, tile by tile: pixels by int8 products, numbers by float32."""

import math
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
from jaxtyping import Int, Shaped

from twostage_jax.resampling.neighbors.problem import LEAST, Problem, Screened, quietly
from twostage_jax.resampling.neighbors.products import (
    COLUMNS_IN_INT32,
    product_error,
    squared_norms,
    to_int8,
)
from twostage_jax.resampling.neighbors.tiles import (
    LANES,
    Best,
    Rows,
    none_yet,
    take_tile,
    take_tile_twice,
)
from twostage_jax.support.threads import for_row_blocks

# Products of float32 numbers below this may underflow; squares of scaled data are near 1.
_TINY = 2.0**-100
# Typical norms are near 1. One number beyond this would drown all others in rounding errors.
_FAR = 4.0


def screen_on_device(problem: Problem, wanted: int, memory: int) -> Screened:
    """`wanted` candidates per query, from products of all pairs.

    Tiles and blocks of rows take at most `memory` bytes on the device.
    """
    columns = problem.points.shape[1]
    pixels = problem.points.dtype == np.uint8 and columns <= COLUMNS_IN_INT32
    scale, slack = 1.0, 0.0
    if pixels:
        prepare, itemsize = _pixel_rows, 1
    else:
        center, scale = _center_and_scale(problem.points, memory)
        rounding = product_error(columns) + 10 * 2.0**-22
        norm_factor = 1 + rounding if problem.farthest else 1 - rounding
        slack = 2 * rounding / norm_factor
        limit = math.inf if problem.farthest else _FAR
        prepare = partial(
            _real_rows, center=center, scale=scale, norm_factor=norm_factor, limit=limit
        )
        itemsize = 4

    def blocks(x: Shaped[np.ndarray, "n d"], own: Int[np.ndarray, " n"]) -> _Blocks:
        size = block_rows(len(x), tile_rows(columns, itemsize, memory))
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
    scores = np.concatenate([np.asarray(part.score) for part in best])[:asked].astype(float)
    if problem.farthest:
        scores = -scores
    last = scores[:, -1]
    if not pixels:
        # The lowered norms take as much from a score as rounding errors may add to it, or more.
        width = slack * (queries.norms[:, None] + points.norms[rows])
        other = scores - width if problem.farthest else scores + width
        lower, upper = (other, scores) if problem.farthest else (scores, other)
        # Divided twice, because the square of the scale may not be finite.
        lower = (lower - _TINY) / scale / scale - LEAST
        upper = (upper + _TINY) / scale / scale + LEAST
        return Screened(rows, (upper if problem.farthest else lower)[:, -1], lower, upper)
    halves = np.concatenate([np.asarray(part.half) for part in best])[:asked]
    odd = [squared_norms(to_int8(x)) & 1 for x in (problem.queries, problem.points)]
    squared = 2 * halves.astype(np.int64) - odd[0][:, None] + odd[1][rows]
    # Twice a half is off by 1, and float32 rounded it.
    rounding = (1 + 2.0**-22, 2) if problem.farthest else (1 - 2.0**-22, -2)
    exact = squared.astype(np.float64)
    return Screened(rows, 2 * last * rounding[0] + rounding[1], exact, exact)


def tile_rows(columns: int, itemsize: int, memory: int) -> int:
    """Rows of a square tile, a power of two.

    Products, bounds and selection take about 24 bytes per pair, and the rows of both sides three
    copies each. Both together take at most half of the memory.
    """
    pair, row = 24, 6 * columns * itemsize
    rows = (math.sqrt(row**2 + 4 * pair * memory / 2) - row) / (2 * pair)
    return 2 ** max(6, int(math.log2(max(rows, 1))))


def block_rows(count: int, most: int) -> int:
    """Rows per block where `count` rows are cut into equal blocks of at most `most`.

    Sizes are rounded up, so that there are few of them: a program is compiled for each.
    """
    rows = -(-count // -(-count // most))
    step = max(LANES, 2 ** (rows.bit_length() - 4))
    return -(-rows // step) * step


class _Blocks:
    """Rows in blocks of one size on the device, which stay there or are loaded at each access.

    Attributes:
        size: rows of a block.
        norms: squared norms of the rows; infinite where values were cut off.
    """

    def __init__(
        self,
        x: Shaped[np.ndarray, "n d"],
        own: Int[np.ndarray, " n"],
        prepare: Callable[[Shaped[np.ndarray, "b d"]], tuple[np.ndarray, ...]],
        size: int,
        keep: bool,
    ):
        self._x, self._own, self._prepare, self.size = x, own, prepare, size
        self.norms = np.zeros(len(x))
        self._kept = [self._load(block) for block in range(len(self))] if keep else None

    def __len__(self) -> int:
        return -(-len(self._x) // self.size)

    def __getitem__(self, block: int) -> Rows:
        return self._load(block) if self._kept is None else self._kept[block]

    def rows(self, block: int) -> slice:
        return slice(block * self.size, min((block + 1) * self.size, len(self._x)))

    def _load(self, block: int) -> Rows:
        rows = self.rows(block)
        values, norms, known = self._prepare(self._x[rows])
        self.norms[rows] = np.where(known, norms, np.inf)
        missing = (0, self.size - len(values))
        number = np.arange(rows.start, rows.stop, dtype=np.int32)
        own = self._own[rows].astype(np.int32)
        columns = (
            np.pad(values, (missing, (0, 0))),
            np.pad(norms, missing),
            np.pad(number, missing, constant_values=-1),
            np.pad(own, missing, constant_values=-1),
        )
        return Rows(*jax.device_put(columns))


def _search(
    points: _Blocks, queries: _Blocks, wanted: int, pixels: bool, farthest: bool
) -> list[Best]:
    """The best candidates of each block of queries."""
    best = [none_yet(queries.size, wanted, pixels)] * len(queries)
    for i in range(len(queries)):
        asking = queries[i]
        for j in range(len(points)):
            before, best[i] = best[i], take_tile(best[i], asking, points[j], farthest)
            jax.block_until_ready(before)  # at most one tile is queued behind another
    return best


def _search_itself(points: _Blocks, wanted: int, pixels: bool, farthest: bool) -> list[Best]:
    """The best candidates of each block of points among all points, from half of all tiles."""
    best = [none_yet(points.size, wanted, pixels)] * len(points)
    for i in range(len(points)):
        left = points[i]
        best[i] = take_tile(best[i], left, left, farthest)
        for j in range(i + 1, len(points)):
            before = best[i]
            best[i], best[j] = take_tile_twice(best[i], best[j], left, points[j], farthest)
            jax.block_until_ready(before)
    return best


def _pixel_rows(x: Shaped[np.ndarray, "b d"]) -> tuple[np.ndarray, ...]:
    shifted = to_int8(x)
    return shifted, squared_norms(shifted).astype(np.int32), np.ones(len(x), bool)


def _center_and_scale(points: Shaped[np.ndarray, "n d"], memory: int) -> tuple[np.ndarray, float]:
    """A point in the middle, and a power of two that brings distances from it near to 1.

    Both come from a sample of rows: any center gives the same distances, any scale the same order.
    They are a median and a quartile of the sample, which huge numbers in some rows do not move.
    """
    # The sample and its parted copy take an eighth of the memory, but for 64 rows.
    rows = min(1024, max(64, min(2**20, memory // 128) // points.shape[1]))
    sample = points[:: -(-len(points) // rows)].astype(np.float64)
    middle = len(sample) // 2
    center = np.partition(sample, middle, axis=0)[middle].astype(points.dtype)
    sample -= center
    norms = np.sqrt(np.einsum("ij,ij->i", sample, sample))
    apart = np.sort(norms[norms > 0])
    typical = float(apart[len(apart) // 4]) if len(apart) else 0.0
    usable = math.isfinite(typical) and typical > 0
    if not usable:
        return center, 1.0
    largest = np.finfo(points.dtype).maxexp - 24  # the scale must be finite in the points' dtype
    return center, 2.0 ** min(largest, -round(math.log2(typical)))


def _real_rows(
    x: Shaped[np.ndarray, "b d"],
    *,
    center: Shaped[np.ndarray, " d"],
    scale: float,
    norm_factor: float,
    limit: float,
) -> tuple[np.ndarray, ...]:
    """Rows in float32, each value rounded once and cut off at `limit`; their squared norms.

    The third array says in which rows nothing is cut off.

    Cutting off brings points nearer to each other, never farther apart: a bound of the cut
    distances is one of the distances. The norms are multiplied by `norm_factor`.
    """
    values = np.empty(x.shape, np.float32)
    norms = np.empty(len(x), np.float32)
    whole = np.ones(len(x), bool)

    @quietly
    def convert(block: slice) -> None:
        np.multiply(x[block] - center, scale, out=values[block], casting="same_kind")
        if limit < math.inf:
            whole[block] = np.abs(values[block]).max(axis=1) <= limit
            np.clip(values[block], -limit, limit, out=values[block])
        squares = np.einsum("ij,ij->i", values[block], values[block], dtype=np.float64)
        norms[block] = squares * norm_factor

    for_row_blocks(convert, len(x), max(1, 2**18 // x.shape[1]))
    return values, norms, whole
