"""Undersampling to the samples that are near to the smallest class: NearMiss."""

import numbers
import warnings
from typing import Any

import numpy as np
from imblearn import under_sampling
from jaxtyping import Float, Int, Shaped
from sklearn.base import clone

from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    UnderSampler,
    keep_of_classes,
    require_samples,
    smallest_class,
)
from twostage_jax.resampling.samplers.searches import found_by


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
            _require_points(y, smallest_class(y), self.n_neighbors)
        if self.version == 3:
            for label in targets:
                _require_points(y, label, self.n_neighbors_ver3)

    def _decide(self, x, y) -> Plan:
        minority = x[y == smallest_class(y)]
        among = {label: np.flatnonzero(y == label) for label in self.sampling_strategy_}
        if self.version == 3:
            for label, members in among.items():
                near, _ = _search(x[members], minority, self.n_neighbors_ver3)
                among[label] = members[np.unique(near)]
        distances = self._mean_distances(x, minority, among)
        kept = {}
        for label, size in self.sampling_strategy_.items():
            members, distance = among[label], distances[label]
            if len(members) < size:
                warnings.warn(
                    f"{size} samples of class {label} are to be kept, but only {len(members)} are "
                    "near a sample of the smallest class: all of these are kept",
                    stacklevel=2,
                )
            order = np.argsort(-distance if self.version == 3 else distance, kind="stable")
            kept[label] = members[order[:size]]
        return keep_of_classes(y, kept)

    def _mean_distances(self, x, minority, among) -> dict[Any, Float[np.ndarray, " m"]]:
        """Mean distances to the smallest class, times a constant; one search for all classes."""
        if not among:
            return {}
        rows, far = np.concatenate(list(among.values())), self.version == 2
        distance = _search(minority, x[rows], self.n_neighbors, far)[1].sum(axis=1)
        ends = np.cumsum([len(members) for members in among.values()])
        return dict(zip(among, np.split(distance, ends[:-1]), strict=True))


def _search(
    points: Shaped[np.ndarray, "n *shape"],
    queries: Shaped[np.ndarray, "q *shape"],
    search: Any,
    farthest: bool = False,
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """The rows and distances of the nearest (farthest) points to each query."""
    k = min(found_by(search), len(points))
    if isinstance(search, numbers.Integral):
        found = nearest(points, k, queries=queries, farthest=farthest)
        return found.rows, np.sqrt(np.sort(found.squared, axis=1))
    points, queries = (x.reshape(len(x), -1) for x in (points, queries))
    every = len(points) if farthest else k
    searcher: Any = clone(search)
    distance, rows = searcher.fit(points).kneighbors(queries, n_neighbors=every)
    return rows[:, -k:], distance[:, -k:]


def _require_points(y: Shaped[np.ndarray, " n"], label: Any, search: Any) -> None:
    k = found_by(search)
    require_samples(f"class {label}", np.count_nonzero(y == label), k, k, "NearMiss")
