"""Samplers that remove samples by their neighborhood: Tomek links and edited nearest neighbors.

What is cleaned in rounds is searched anew in each round among the samples that are left.
"""

import numbers
from collections import Counter
from typing import Any

import numpy as np
from imblearn import under_sampling
from jaxtyping import Int, Shaped
from scipy.stats import mode
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    CleaningSampler,
    keep_of_classes,
    require_samples,
    sampling_targets,
    smallest_class,
)
from twostage_jax.resampling.samplers.searches import found_by, list_length, neighbor_lists


def without_links(
    x: Shaped[np.ndarray, "n *shape"], y: Shaped[np.ndarray, " n"], cleaned: Any
) -> Int[np.ndarray, " m"]:
    """The rows that are in no Tomek link or in another class than those `cleaned`, ascending."""
    rows = np.arange(len(y))
    neighbor = neighbor_lists(x, 1)[:, 0]
    linked = (neighbor[neighbor] == rows) & (y[neighbor] != y)
    return rows[~(linked & np.isin(y, list(cleaned)))]


class TomekLinks(CleaningSampler, under_sampling.TomekLinks):
    """Removes samples that are mutual nearest neighbors with a sample of another class.

    Tomek, *Two modifications of CNN*, 1976. The kept rows are in ascending order.
    """

    def _decide(self, x, y) -> Plan:
        return Plan.of_kept(y, without_links(x, y, self.sampling_strategy_))


def _edited(
    x: Shaped[np.ndarray, "n *shape"],
    y: Shaped[np.ndarray, " n"],
    cleaned: Any,
    search: Any,
    kind: str,
) -> Int[np.ndarray, " m"]:
    """The rows that edited nearest neighbors keeps, in order of their classes."""
    k = list_length(search)
    require_samples("y", len(y), k + 1, k, "EditedNearestNeighbours")
    code = np.unique(y, return_inverse=True)[1]
    asking = np.flatnonzero(np.isin(y, list(cleaned)))
    around = code[neighbor_lists(x, search, asking)]
    if kind == "all":
        agree = (around == code[asking, None]).all(axis=1)
    else:
        agree = mode(around, axis=1).mode == code[asking]
    stays = asking[agree]
    return keep_of_classes(y, {label: stays[y[stays] == label] for label in cleaned}).base


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
        cleaned, search = self.sampling_strategy_, self.n_neighbors
        return Plan.of_kept(y, _edited(x, y, cleaned, search, self.kind_sel))


class _InRounds(CleaningSampler):
    """Edited nearest neighbors again and again, until a class is too small or gone."""

    n_neighbors: Any
    kind_sel: str

    def _edit_again(self, x, y, rows: Int[np.ndarray, " m"], search: Any) -> Int[np.ndarray, " l"]:
        """The rows that are left of `rows`."""
        x, y = x[rows], y[rows]
        cleaned = sampling_targets(self.sampling_strategy, y, self._sampling_type)
        return rows[_edited(x, y, cleaned, search, self.kind_sel)]


def _gone(before: Counter, after: Counter) -> bool:
    return len(after) < len(before)


def _outnumbered(before: Counter, after: Counter) -> bool:
    """Whether a class now has fewer samples than the smallest class had before."""
    smallest = min(before, key=before.__getitem__)
    return any(n < before[smallest] for label, n in after.items() if label != smallest)


class RepeatedEditedNearestNeighbours(_InRounds, under_sampling.RepeatedEditedNearestNeighbours):
    """Repeats `EditedNearestNeighbours` until nothing is removed any more (Tomek, 1976).

    It also ends when a class has fewer samples than the smallest had at first, or none.

    Args:
        n_neighbors: as in `EditedNearestNeighbours`.
        max_iter: the most rounds.
        kind_sel: as in `EditedNearestNeighbours`.

    Attributes:
        n_iter_: number of rounds.
    """

    def _require(self, y, targets) -> None:
        k = list_length(self.n_neighbors)
        require_samples("y", len(y), k + 1, k, "RepeatedEditedNearestNeighbours")

    def _decide(self, x, y) -> Plan:
        rows, before = np.arange(len(y)), Counter(y.tolist())
        self.n_iter_ = 0
        while self.n_iter_ < self.max_iter:
            had, self.n_iter_ = len(rows), self.n_iter_ + 1
            rows = self._edit_again(x, y, rows, self.n_neighbors)
            after = Counter(y[rows].tolist())
            if len(rows) == had or _gone(before, after) or _outnumbered(before, after):
                break
        return Plan.of_kept(y, rows)


class AllKNN(_InRounds, under_sampling.AllKNN):
    """Repeats `EditedNearestNeighbours` with 1 to `n_neighbors` neighbors (Tomek, 1976).

    It ends when a class has fewer samples than the smallest had at first, or none.

    Args:
        n_neighbors: number of neighbors in the last round; or an object, as in
            `EditedNearestNeighbours`. Only its number counts.
        kind_sel: as in `EditedNearestNeighbours`.
        allow_minority: go on where a class has become smaller than the smallest was.
    """

    def _require(self, y, targets) -> None:
        require_samples("y", len(y), 2, 1, "AllKNN")

    def _decide(self, x, y) -> Plan:
        rows, before = np.arange(len(y)), Counter(y.tolist())
        for k in range(1, list_length(self.n_neighbors) + 1):
            rows = self._edit_again(x, y, rows, k)
            after = Counter(y[rows].tolist())
            if _gone(before, after) or (not self.allow_minority and _outnumbered(before, after)):
                break
        return Plan.of_kept(y, rows)


class NeighbourhoodCleaningRule(CleaningSampler, under_sampling.NeighbourhoodCleaningRule):
    """Removes what edited nearest neighbors does, and the neighbors of misclassified rare samples.

    Laurikkala, *Improving identification of difficult small classes by balancing class
    distribution*, 2001. The kept rows are in ascending order.

    Args:
        edited_nearest_neighbours: the sampler of the first part. By default that with
            `kind_sel="mode"` and the arguments here.
        n_neighbors: number of neighbors; or a `KNeighborsClassifier`.
        threshold_cleaning: only classes that are larger than this share of the smallest lose
            neighbors of misclassified samples.

    Attributes:
        edited_nearest_neighbours_: the sampler of the first part.
        classes_to_clean_: the classes that may lose samples in the second part.
    """

    def _require(self, y, targets) -> None:
        k = _neighbors_of_classifier(self.n_neighbors)
        require_samples("y", len(y), k + 1, k, "NeighbourhoodCleaningRule")

    def _decide(self, x, y) -> Plan:
        if self.edited_nearest_neighbours is None:
            self.edited_nearest_neighbours_: Any = EditedNearestNeighbours(
                sampling_strategy=self.sampling_strategy,
                n_neighbors=self.n_neighbors,
                kind_sel="mode",
            )
        else:
            self.edited_nearest_neighbours_ = clone(self.edited_nearest_neighbours)
        flat = x.reshape(len(x), -1)
        self.edited_nearest_neighbours_.fit_resample(flat, y)
        kept = np.isin(np.arange(len(y)), self.edited_nearest_neighbours_.sample_indices_)
        counts = Counter(y.tolist())
        smallest = smallest_class(y)
        self.classes_to_clean_ = [
            label
            for label, n in counts.items()
            if label in self.sampling_strategy_ and n > counts[smallest] * self.threshold_cleaning
        ]
        wrong, around = self._misclassified(flat, y, np.flatnonzero(y == smallest))
        near = np.unique(around[wrong])
        kept[near[np.isin(y[near], self.classes_to_clean_)]] = False
        return Plan.of_kept(y, np.flatnonzero(kept))

    def _misclassified(self, x, y, rows: Int[np.ndarray, " q"]) -> tuple[np.ndarray, np.ndarray]:
        """Whether its k nearest samples, itself among them, outvote each row; its neighbors."""
        if not isinstance(self.n_neighbors, numbers.Integral | NearestNeighbors):
            searcher: Any = clone(self.n_neighbors)
            searcher.fit(x, y)
            around = searcher.kneighbors(x[rows], searcher.n_neighbors + 1, return_distance=False)
            return searcher.predict(x[rows]) != y[rows], around[:, 1:]
        k = _neighbors_of_classifier(self.n_neighbors)
        code = np.unique(y, return_inverse=True)[1]
        around = neighbor_lists(x, k, rows)
        votes = np.concatenate([code[rows, None], code[around[:, :-1]]], axis=1)
        return mode(votes, axis=1).mode != code[rows], around


def _neighbors_of_classifier(search: Any) -> int:
    """How many neighbors vote; of a `NearestNeighbors`, the first is the sample itself."""
    return list_length(search) if isinstance(search, NearestNeighbors) else found_by(search)
