"""Equal rows: found by hashes, searched once, and counted out again."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from twostage_jax.support.threads import for_row_blocks

# Columns by which rows are compared first. Most rows differ in these.
_SAMPLED = 32


class Groups(NamedTuple):
    """Rows in groups, such that the rows of a group are equal.

    Attributes:
        first: the first row of each group, ascending.
        group: the group of each row.
    """

    first: Int[np.ndarray, " g"]
    group: Int[np.ndarray, " n"]

    def expand(
        self,
        found: tuple[Int[np.ndarray, "a m"], Float[np.ndarray, "a m"]],
        asked: Int[np.ndarray, " q"],
        own: Int[np.ndarray, " q"],
        k: int,
        key: Float[np.ndarray, "a m"],
    ) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
        """The k nearest rows of each query, from its nearest groups; ties by the smaller row.

        Args:
            found: the nearest groups of each distinct query, k + 1 or all; and squared distances.
            asked: which distinct query each query is.
            own: the row that is left out of each query's neighbors; -1 for none.
            k: rows per query.
            key: what the groups are sorted by, smallest first.
        """
        groups, squared = found
        members = self._members(k + 1)
        rows = np.empty((len(groups), k + 1), np.intp)
        distance = np.empty(rows.shape)

        def merge(block: slice) -> None:
            row = members[groups[block]]  # queries x groups x members
            shape = len(row), -1
            sort = np.where(row < 0, np.nan, key[block][:, :, None])  # NaN sorts last
            value = np.broadcast_to(squared[block][:, :, None], row.shape).reshape(shape)
            order = np.lexsort((row.reshape(shape), sort.reshape(shape)), axis=1)[:, : k + 1]
            rows[block, : order.shape[1]] = np.take_along_axis(row.reshape(shape), order, axis=1)
            distance[block, : order.shape[1]] = np.take_along_axis(value, order, axis=1)

        for_row_blocks(merge, len(groups), max(1, 2**18 // (members.shape[1] * groups.shape[1])))
        listed = rows[asked]
        kept = np.argsort(listed == own[:, None], axis=1, kind="stable")[:, :k]
        # A row that is not among its own k + 1 nearest leaves out the last of them.
        return (
            np.take_along_axis(listed, kept, axis=1),
            np.take_along_axis(distance[asked], kept, axis=1),
        )

    def _members(self, most: int) -> Int[np.ndarray, "g most"]:
        """The first rows of each group, ascending; -1 after the last."""
        order = np.argsort(self.group, kind="stable")
        count = np.bincount(self.group)
        start = np.cumsum(count) - count
        place = np.arange(min(most, count.max()))
        there = place < count[:, None]
        return np.where(there, order[np.where(there, start[:, None] + place, 0)], -1)


def groups_of(x: Shaped[np.ndarray, "n d"], most: int) -> Groups | None:
    """The groups of equal rows; None if no group has more than `most` rows.

    Rows of a group are compared: a collision of hashes only leaves equal rows in two groups. So
    does NaN, which equals nothing.
    """
    if len(x) <= most:
        return None
    same = _common(_hashes(x[:, :: max(1, x.shape[1] // _SAMPLED)]), most)
    if not len(same):
        return None
    if x.shape[1] > _SAMPLED:
        same = same[_common(_hashes(x, same), most)]
    _, first, group = np.unique(_hashes(x, same), return_index=True, return_inverse=True)
    representative = np.arange(len(x))
    representative[same] = same[first[group]]

    def compare(block: slice) -> None:
        rows = same[block]
        unequal = rows[(x[rows] != x[representative[rows]]).any(axis=1)]
        representative[unequal] = unequal

    for_row_blocks(compare, len(same), max(1, 2**18 // x.shape[1]))
    groups = Groups(*np.unique(representative, return_inverse=True))
    return groups if np.bincount(groups.group).max() > most else None


def _common(hashes: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " c"]:
    """Positions of the hashes that occur more than `most` times, ascending."""
    _, group, count = np.unique(hashes, return_inverse=True, return_counts=True)
    return np.flatnonzero(count[group] > most)


def _hashes(
    x: Shaped[np.ndarray, "n d"], rows: Int[np.ndarray, " r"] | None = None
) -> Int[np.ndarray, " r"]:
    """Python's hash of the bytes of each row; 0.0 and -0.0 count as one."""
    count = len(x) if rows is None else len(rows)
    found = np.empty(count, np.int64)
    block = max(1, 2**18 // x.shape[1])
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        values = x[part if rows is None else rows[part]]
        values = np.ascontiguousarray(values + 0 if values.dtype.kind == "f" else values)
        content = values.view(np.dtype((np.void, values[0].nbytes))).ravel().tolist()
        found[part] = list(map(hash, content))
    return found
