"""Undersampling by neighborhood: NearMiss, Tomek links, edited nearest neighbors."""

import numbers
import warnings
from typing import Any

import numpy as np
from imblearn import under_sampling
from jaxtyping import Float, Int, Shaped
from scipy.stats import mode
from sklearn.base import clone

from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    CleaningSampler,
    UnderSampler,
    keep_of_classes,
    require_samples,
)
from twostage_jax.resampling.samplers.smote import list_length, neighbor_lists


class NearMiss(UnderSampler, under_sampling.NearMiss):
    """Keeps the samples of the larger classes that are near to the smallest (Zhang, Mani, 2003).

    Args:
        version: 1 keeps the samples with the smallest mean distance to the `n_neighbors` nearest
            samples of the smallest class, 2 to the farthest ones. 3 first finds the
            `n_neighbors_ver3` nearest samples of each sample of the smallest class. Among them it
            keeps those with the largest mean distance to their nearest samples of that class.
        n_neighbors: number of neighbors over which distances are averaged; or an object with
            scikit-learn's `kneighbors` that finds as many.
        n_neighbors_ver3: number of neighbors in the first step of version 3; or an object.
    """

    def _require(self, y, targets) -> None:
        if self.version != 2:  # version 2 averages over all samples if there are fewer
            _require_points(y, _smallest_class(y), self.n_neighbors)
        if self.version == 3:
            for label in targets:
                _require_points(y, label, self.n_neighbors_ver3)

    def _decide(self, x, y) -> Plan:
        minority = x[y == _smallest_class(y)]
        kept = {}
        for label, size in self.sampling_strategy_.items():
            members = np.flatnonzero(y == label)
            if self.version == 3:
                near, _ = _search(x[members], minority, self.n_neighbors_ver3)
                members = members[np.unique(near)]
            far = self.version == 2
            distance = _search(minority, x[members], self.n_neighbors, far)[1].sum(axis=1)
            if len(members) < size:
                warnings.warn(
                    f"{size} samples of class {label} are to be kept, but only {len(members)} are "
                    "near a sample of the smallest class: all of these are kept",
                    stacklevel=2,
                )
            order = np.argsort(-distance if self.version == 3 else distance, kind="stable")
            kept[label] = members[order[:size]]
        return keep_of_classes(y, kept)


def _smallest_class(y: Shaped[np.ndarray, " n"]) -> Any:
    """The label of the smallest class; of several, imbalanced-learn's: the first in y."""
    classes, first, counts = np.unique(y, return_index=True, return_counts=True)
    return classes[min(range(len(classes)), key=lambda i: (counts[i], first[i]))]


def _search(
    points: Shaped[np.ndarray, "n *shape"],
    queries: Shaped[np.ndarray, "q *shape"],
    search: Any,
    farthest: bool = False,
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """The rows and distances of the nearest (farthest) points to each query."""
    k = min(_count(search), len(points))
    if isinstance(search, numbers.Integral):
        found = nearest(points, k, queries=queries, farthest=farthest)
        return found.rows, np.sqrt(np.sort(found.squared, axis=1))
    points, queries = (x.reshape(len(x), -1) for x in (points, queries))
    every = len(points) if farthest else k
    searcher: Any = clone(search)
    distance, rows = searcher.fit(points).kneighbors(queries, n_neighbors=every)
    return rows[:, -k:], distance[:, -k:]


def _count(search: Any) -> int:
    return int(search) if isinstance(search, numbers.Integral) else search.n_neighbors


def _require_points(y: Shaped[np.ndarray, " n"], label: Any, search: Any) -> None:
    k = _count(search)
    require_samples(f"class {label}", np.count_nonzero(y == label), k, k, "NearMiss")


class TomekLinks(CleaningSampler, under_sampling.TomekLinks):
    """Removes samples that are mutual nearest neighbors with a sample of another class.

    Tomek, *Two modifications of CNN*, 1976. The kept rows are in ascending order.
    """

    def _decide(self, x, y) -> Plan:
        rows = np.arange(len(y))
        neighbor = neighbor_lists(x, 1)[:, 0]
        linked = (neighbor[neighbor] == rows) & (y[neighbor] != y)
        cleaned = np.isin(y, list(self.sampling_strategy_))
        return Plan.of_kept(y, rows[~(linked & cleaned)])


class EditedNearestNeighbours(CleaningSampler, under_sampling.EditedNearestNeighbours):
    """Removes samples whose neighbors are of other classes (Wilson, 1972).

    The kept rows are in order of their classes.

    Args:
        n_neighbors: number of neighbors; or an object with scikit-learn's `kneighbors` that finds
            one more, the sample itself.
        kind_sel: `all`: a sample stays if all of its neighbors are of its class. `mode`: it stays
            if its class is the most frequent one among them, the smallest label of several.
    """

    def _require(self, y, targets) -> None:
        k = list_length(self.n_neighbors)
        require_samples("y", len(y), k + 1, k, "EditedNearestNeighbours")

    def _decide(self, x, y) -> Plan:
        code = np.unique(y, return_inverse=True)[1]
        asking = np.flatnonzero(np.isin(y, list(self.sampling_strategy_)))
        around = code[neighbor_lists(x, self.n_neighbors, asking)]
        if self.kind_sel == "all":
            agree = (around == code[asking, None]).all(axis=1)
        else:
            agree = mode(around, axis=1).mode == code[asking]
        stays = asking[agree]
        kept = {label: stays[y[stays] == label] for label in self.sampling_strategy_}
        return keep_of_classes(y, kept)
