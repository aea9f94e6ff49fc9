"""What a neighbor search is asked, and what a screen answers."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

# Squares of huge numbers overflow, and what is not finite has no difference: such rows are searched
# like others, without a warning. Threads do not inherit this: each function that they call sets it,
# as a decorator: two threads cannot enter one `with` of it.
quietly = np.errstate(over="ignore", invalid="ignore")

# A bound of the absolute errors of squared distances below float64's smallest normal number, which
# they have beside relative ones.
LEAST = float(np.finfo(np.float64).tiny)


class Problem(NamedTuple):
    """A search among rows of numbers.

    Attributes:
        points: the rows that are searched.
        queries: rows of the same columns and dtype, whose neighbors are wanted.
        own: the point that each query is itself and that is not its neighbor; -1 for none.
        farthest: whether the farthest points are wanted instead of the nearest.
    """

    points: Shaped[np.ndarray, "n d"]
    queries: Shaped[np.ndarray, "q d"]
    own: Int[np.ndarray, " q"]
    farthest: bool

    @property
    def pairs(self) -> int:
        """Number of pairs of a query and a point."""
        return len(self.points) * len(self.queries)

    @property
    def work(self) -> int:
        """Multiplications in the products of all pairs."""
        return len(self.points) * self.queries.size

    def of_queries(self, rows: slice | Int[np.ndarray, " r"]) -> "Problem":
        """The same search for some of the queries: a view for a slice, or a copy."""
        return self._replace(queries=self.queries[rows], own=self.own[rows])


class Screened(NamedTuple):
    """The candidates of each query.

    Attributes:
        rows: rows of the points, each at most once per query; -1 after the last candidate.
        beyond: a bound of the squared distances of all points that are no candidates: at least this
            for the nearest, at most this for the farthest.
        lower, upper: bounds of the squared distances of the candidates; one array where they are
            exact.
    """

    rows: Int[np.ndarray, "q m"]
    beyond: Float[np.ndarray, " q"]
    lower: Float[np.ndarray, "q m"]
    upper: Float[np.ndarray, "q m"]


# Finds a number of candidates per query.
Screen = Callable[[Problem, int], Screened]
