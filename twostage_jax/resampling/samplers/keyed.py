"""Plans from a JAX key, for use inside one's own compiled programs.

Every function is traceable and has outputs of a fixed size: it can be jitted, and mapped over keys
and partitions with `vmap`. The draws are JAX's. Their distributions are those of the samplers, but
the samples are not those of a NumPy seed. The functions that make a plan take the same arguments:

- `key`: a JAX key.
- `labels`: the class of each sample. A label outside of 0 to `classes` - 1 marks a missing row: -1,
  or what -1 becomes in an unsigned dtype. They may be traced, of any integer dtype, and classes may
  be missing.
- `size`: the number of rows of the plan, at least (classes present) x (samples per class in the
  plan). The rest is padded with label -1; a plan that is too small is cut off without a warning.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Integer, PRNGKeyArray, Shaped

from twostage_jax.resampling.plan import DevicePlan


def class_neighbors(
    x: Shaped[Array, "n *shape"], labels: Integer[Array, " n"], k: int
) -> Int32[Array, "n k"]:
    """The k nearest same-class neighbors of each row; -1 where a class has fewer.

    Distances are float32 at the highest precision, and all n x n are held at once: this is meant
    for features, and for as many rows as fit the device. `resampling.neighbors.nearest` is exact
    and takes bounded memory.

    Values of any size are scaled first. A row with a value that is not finite in float32 is farther
    from all others than these are from each other.
    """
    labels = labels.astype(jnp.int32)
    rows = _scaled(x.reshape(len(x), math.prod(x.shape[1:])).astype(jnp.float32), labels >= 0)
    norms = jnp.square(rows).sum(axis=1)
    products = jnp.matmul(rows, rows.T, precision="highest")
    squared = norms[:, None] + norms[None] - 2 * products
    squared = jnp.where(jnp.isnan(squared), jnp.finfo(jnp.float32).max, squared)
    same = (labels[:, None] == labels[None]) & (labels >= 0)[:, None]
    same &= ~jnp.eye(len(x), dtype=bool)
    neighbors = jax.lax.top_k(jnp.where(same, -squared, -jnp.inf), min(k, len(x)))[1]
    found = jnp.where(jnp.take_along_axis(same, neighbors, axis=1), neighbors, -1)
    found = found.astype(jnp.int32)
    return jnp.pad(found, ((0, 0), (0, max(0, k - len(x)))), constant_values=-1)


def _scaled(rows: Float32[Array, "n d"], present: Bool[Array, " n"]) -> Float32[Array, "n d"]:
    """Rows minus a typical one, of typical size 1, so that their squares are finite; NaN elsewhere.

    Center and size are medians, which a few huge rows do not move. These are cut off where float32
    has lost all smaller differences from them.
    """
    known = present & jnp.isfinite(rows).all(axis=1)
    # Halves, because the difference of two finite numbers may not be finite.
    rows = jnp.where(known[:, None], rows / 2, jnp.nan)
    if not rows.size:
        return rows
    few = rows[jnp.argsort(~known)[:256]]  # those that are there come first
    rows -= jnp.nanmedian(few, axis=0)
    size = jnp.abs(rows).max(axis=1)
    typical = jnp.nanmedian(jnp.where(size > 0, size, jnp.nan))
    return jnp.clip(rows / jnp.where(jnp.isnan(typical), 1, typical), -(2.0**40), 2.0**40)


def random_undersample(
    key: PRNGKeyArray, labels: Integer[Array, " n"], *, classes: int, size: int
) -> DevicePlan:
    """Keeps as many random samples of each class as the smallest one has."""
    labels = _signed(labels, classes)
    count, _, rank = _ranks(key, labels, classes)
    smallest = jnp.where(count > 0, count, len(labels)).min()
    return _plan_of(_compress((rank < smallest) & (labels >= 0), size), labels)


def random_oversample(
    key: PRNGKeyArray, labels: Integer[Array, " n"], *, classes: int, size: int
) -> DevicePlan:
    """Keeps all samples and adds copies until each class has as many as the largest."""
    labels = _signed(labels, classes)
    return _plan_of(_grown(key, labels, classes, size)[0], labels)


def smote(
    key: PRNGKeyArray,
    labels: Integer[Array, " n"],
    neighbors: Integer[Array, "n k"],
    *,
    classes: int,
    size: int,
) -> DevicePlan:
    """Keeps all samples and adds synthetic ones until each class has as many as the largest.

    `neighbors` holds rows of the same class, -1 after the last, as from `class_neighbors`. A sample
    without neighbors is copied.
    """
    labels = _signed(labels, classes)
    draw, choose, walk = jax.random.split(key, 3)
    base, added = _grown(draw, labels, classes, size)
    lists = neighbors.astype(jnp.int32)[base]
    found = (lists >= 0).sum(axis=1, dtype=jnp.int32)
    chosen = _below(choose, found)
    chosen = jnp.minimum(chosen, jnp.maximum(found - 1, 0))
    neighbor = jnp.take_along_axis(lists, chosen[:, None], axis=1)[:, 0]
    moved = added & (found > 0)
    step = jnp.where(moved, jax.random.uniform(walk, (size,), jnp.float32), jnp.float32(0))
    return _plan_of(base, labels)._replace(
        neighbor=jnp.where(moved, neighbor, jnp.maximum(base, 0)).astype(jnp.int32), step=step
    )


def _signed(labels, classes):
    """The labels in int32, whatever their dtype, so that -1 can stand for a missing row."""
    wide = labels.astype(jnp.int32)
    return jnp.where((wide >= 0) & (wide < classes), wide, jnp.int32(-1))


def _below(key, limits):
    """Random integers from 0 to `limits` - 1; float32 draws, whatever JAX's default."""
    drawn = jax.random.uniform(key, limits.shape, jnp.float32)
    return jnp.floor(drawn * limits.astype(jnp.float32)).astype(jnp.int32)


def _ranks(key, labels, classes):
    """Sizes of classes; rows in random order within classes, and their starts; ranks of rows."""
    shuffle = jax.random.permutation(key, len(labels))
    order = shuffle[jnp.argsort(labels[shuffle], stable=True)]
    there = (labels >= 0).astype(jnp.int32)
    count = jnp.zeros(classes, jnp.int32).at[labels].add(there, mode="drop")
    missing = len(labels) - there.sum(dtype=jnp.int32)
    start = missing + jnp.cumsum(count, dtype=jnp.int32) - count
    number = jnp.arange(len(labels), dtype=jnp.int32)
    rank = jnp.zeros(len(labels), jnp.int32).at[order].set(number)
    return count, (order, start), rank - start[labels]


def _compress(chosen, size):
    """The chosen rows, ascending, in an array of a fixed size; -1 after the last."""
    return jnp.flatnonzero(chosen, size=size, fill_value=-1).astype(jnp.int32)


def _grown(key, labels, classes, size):
    """All samples, then random ones until all classes are equally large; and which were added."""
    pick, shuffle = jax.random.split(key)
    count, (order, start), _ = _ranks(shuffle, labels, classes)
    missing = jnp.where(count > 0, count.max() - count, 0)
    kept = count.sum(dtype=jnp.int32)
    position = jnp.arange(size, dtype=jnp.int32)
    ends = jnp.cumsum(missing, dtype=jnp.int32)
    label = jnp.searchsorted(ends, position - kept, side="right").astype(jnp.int32)
    label = jnp.minimum(label, classes - 1)
    member = jnp.minimum(_below(pick, count[label]), count[label] - 1)
    added = (position >= kept) & (position < kept + ends[-1])
    drawn = jnp.where(added, order[start[label] + member].astype(jnp.int32), jnp.int32(-1))
    return jnp.where(position < kept, _compress(labels >= 0, size), drawn), added


def _plan_of(base: Int32[Array, " m"], labels: Integer[Array, " n"]) -> DevicePlan:
    there = base >= 0
    base = jnp.maximum(base, 0).astype(jnp.int32)
    step: Float32[Array, " m"] = jnp.zeros(base.shape, jnp.float32)
    label = jnp.where(there, labels.astype(jnp.int32)[base], jnp.int32(-1))
    return DevicePlan(base, base, step, label)
