"""Compiled programs over a tile: all pairs of a block of queries and a block of points."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, Shaped, UInt32

from twostage_jax.resampling.neighbors.products import integer_products, real_products

LANES = 64


class Rows(NamedTuple):
    """A block of rows on the device, padded.

    Attributes:
        values: pixels as int8, or real numbers as float32, centered and scaled.
        norms: squared norms. Those of pixels are exact; those of real numbers are lowered (or
            raised, for the farthest) by the largest possible rounding error.
        number: row number among all points or queries; -1 for padding.
        own: the point that each row is as a query; -1 for none.
    """

    values: Shaped[Array, "b d"]
    norms: Shaped[Array, " b"]
    number: Int32[Array, " b"]
    own: Int32[Array, " b"]


class Best(NamedTuple):
    """The best candidates of each query so far.

    Attributes:
        score: bounds of the squared distances, smallest first.
        row: rows of the points; -1 for none.
        half: halves of the squared distances between pixels (see `_halves`); None for numbers.
    """

    score: Float32[Array, "b m"]
    row: Int32[Array, "b m"]
    half: UInt32[Array, "b m"] | None


def none_yet(size: int, wanted: int, pixels: bool) -> Best:
    """No candidates, for a block of `size` queries."""
    shape = (size, wanted)
    half = jnp.zeros(shape, jnp.uint32) if pixels else None
    return Best(jnp.full(shape, jnp.inf), jnp.full(shape, -1, jnp.int32), half)


def _halves(queries: Rows, points: Rows) -> UInt32[Array, "b p"]:
    """Half the squared distances between pixels, off by 1/2 where a norm is odd.

    Squared distances need 33 bits and their halves fit 32: unsigned arithmetic wraps around to the
    right result. Rounding up the half norms of the queries keeps the result from being negative.
    """
    products = integer_products(queries.values, points.values).astype(jnp.uint32)
    up, down = (queries.norms + 1) >> 1, points.norms >> 1
    halves = up.astype(jnp.uint32)[:, None] + down.astype(jnp.uint32)[None]
    return halves - products


def _bounds_of_reals(queries: Rows, points: Rows) -> Float32[Array, "b p"]:
    products = real_products(queries.values, points.values)
    return queries.norms[:, None] + points.norms[None] - 2 * products


def _smallest(scores: Float32[Array, "b p"], count: int):
    """Columns of the `count` smallest scores of each row.

    They lie in the `count` groups of 64 columns with the smallest minima. Finding these groups
    takes one quick pass over the tile and leaves few numbers to sort.
    """
    queries, columns = scores.shape
    if columns <= LANES * count:
        return jax.lax.top_k(-scores, min(count, columns))[1]
    groups = scores.reshape(queries, -1, LANES)
    nearest_groups = jax.lax.top_k(-groups.min(axis=-1), count)[1]
    few = jnp.take_along_axis(groups, nearest_groups[:, :, None], axis=1).reshape(queries, -1)
    position = jax.lax.top_k(-few, count)[1]
    group = jnp.take_along_axis(nearest_groups, position // LANES, axis=1)
    return group * LANES + position % LANES


def _merge(best: Best, tile: Best) -> Best:
    """The best candidates so far and of one more tile, given all scores of that tile."""
    count = best.score.shape[1]
    columns = _smallest(tile.score, count)
    here = jax.tree.map(lambda column: jnp.take_along_axis(column, columns, axis=1), tile)
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), best, here)
    order = jax.lax.top_k(-both.score, count)[1]
    return jax.tree.map(lambda column: jnp.take_along_axis(column, order, axis=1), both)


def _tile(queries: Rows, points: Rows, farthest: bool) -> Best:
    """All pairs of two blocks; padding and pairs of a row with itself have the score infinity."""
    halves = _halves(queries, points) if queries.values.dtype == jnp.int8 else None
    scores = _bounds_of_reals(queries, points) if halves is None else halves.astype(jnp.float32)
    if farthest:
        scores = -scores
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    left_out = (points.number < 0)[None] | (points.number[None] == queries.own[:, None])
    scores = jnp.where(left_out, jnp.inf, scores)
    return Best(scores, jnp.broadcast_to(points.number, scores.shape), halves)


@partial(jax.jit, static_argnames="farthest")
def take_tile(best: Best, queries: Rows, points: Rows, farthest: bool) -> Best:
    """The best candidates of a block of queries so far and in one more block of points."""
    return _merge(best, _tile(queries, points, farthest))


@partial(jax.jit, static_argnames="farthest")
def take_tile_twice(
    best_left: Best, best_right: Best, left: Rows, right: Rows, farthest: bool
) -> tuple[Best, Best]:
    """The same for two different blocks of points as each other's queries, from one product."""
    tile = _tile(left, right, farthest)
    scores = jnp.where((left.number < 0)[:, None], jnp.inf, tile.score)
    halves = tile.half
    if halves is not None:  # the halves of the other block's norms are to be rounded up
        odd_left, odd_right = ((rows.norms & 1).astype(jnp.uint32) for rows in (left, right))
        halves = (halves - odd_left[:, None] + odd_right[None]).T
    turned = Best(scores.T, jnp.broadcast_to(left.number, scores.T.shape), halves)
    return _merge(best_left, tile), _merge(best_right, turned)
