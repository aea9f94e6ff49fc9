"""Undersampling to what a nearest-neighbor classifier needs: condensing, one-sided selection."""

from abc import abstractmethod
from typing import Any

import numpy as np
from imblearn import under_sampling
from jaxtyping import Bool, Float, Int, Shaped
from scipy.stats import mode
from sklearn.base import clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import check_random_state

from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    CleaningSampler,
    keep_of_classes,
    require_samples,
    smallest_class,
)
from twostage_jax.resampling.samplers.cleaning import without_links
from twostage_jax.support.errors import InputError
from twostage_jax.support.threads import for_row_blocks


class _FromSeeds(CleaningSampler):
    """Starts with the smallest class and a few samples of another, and adds misclassified ones.

    Attributes:
        estimators_: scikit-learn's classifier on the samples that were left, per cleaned class.
    """

    n_neighbors: Any
    n_seeds_S: int  # noqa: N815, imbalanced-learn's name
    random_state: Any

    def _require(self, y, targets) -> None:
        k = self._classifier().n_neighbors
        smallest = smallest_class(y)
        count = np.count_nonzero(y == smallest) + self.n_seeds_S
        owner = f"class {smallest} with {self.n_seeds_S} seeds of another class"
        require_samples(owner, count, k, k, type(self).__name__)

    def _classifier(self) -> Any:
        if isinstance(self.n_neighbors, KNeighborsClassifier):
            return clone(self.n_neighbors)
        return KNeighborsClassifier(n_neighbors=self.n_neighbors or 1)

    def _kept(self, x, y) -> dict[Any, Int[np.ndarray, " m"]]:
        """The rows that are kept of each cleaned class, in order of the labels."""
        random = check_random_state(self.random_state)
        smallest = np.flatnonzero(y == smallest_class(y))
        self.estimators_, kept = [], {}
        for label in np.unique(y):
            if label in self.sampling_strategy_:
                members = np.flatnonzero(y == label)
                seeds = random.randint(0, len(members), size=self.n_seeds_S)
                kept[label], used = self._add(x, y, smallest, members, seeds)
                flat = x[used].reshape(len(used), -1)
                self.estimators_.append(self._classifier().fit(flat, y[used]))
        return kept

    @abstractmethod
    def _add(
        self,
        x: Shaped[np.ndarray, "n *shape"],
        y: Shaped[np.ndarray, " n"],
        smallest: Int[np.ndarray, " a"],
        members: Int[np.ndarray, " b"],
        seeds: Int[np.ndarray, " s"],
    ) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " t"]]:
        """The rows that are kept of `members`, seeds among them; and those of the classifier."""


class OneSidedSelection(_FromSeeds, under_sampling.OneSidedSelection):
    """Keeps what a few samples misclassify, and then removes Tomek links (Kubat, Matwin, 1997).

    The first samples are the smallest class and `n_seeds_S` of the class that is reduced.

    Args:
        n_neighbors: number of neighbors that classify, by default 1; or a `KNeighborsClassifier`.
        n_seeds_S: number of samples of a class to begin with.
    """

    def _decide(self, x, y) -> Plan:
        rows = keep_of_classes(y, self._kept(x, y)).base
        return Plan.of_kept(y, rows[without_links(x[rows], y[rows], self.sampling_strategy_)])

    def _add(self, x, y, smallest, members, seeds):
        known = np.append(smallest, members[seeds])
        others = np.delete(members, seeds)
        if not len(others):
            raise InputError(
                f"all {len(members)} samples of class {y[members[0]]} are among its "
                f"{self.n_seeds_S} seeds, OneSidedSelection expects others; lower n_seeds_S, or "
                "leave the class out of sampling_strategy"
            )
        wrong = _predict(self._classifier(), x, y, known, others) != y[others]
        return np.append(members[seeds], others[wrong]), known


def _predict(
    classifier: Any, x, y, known: Int[np.ndarray, " k"], asking: Int[np.ndarray, " q"]
) -> Shaped[np.ndarray, " q"]:
    """The class of some rows by their neighbors among others; exact where these have one vote."""
    if not _plain(classifier):
        flat = x.reshape(len(x), -1)
        return classifier.fit(flat[known], y[known]).predict(flat[asking])
    labels, code = np.unique(y, return_inverse=True)
    found = nearest(x[known], classifier.n_neighbors, queries=x[asking], distances=False)
    return labels[_outvoting(code[known][found.rows])]


def _outvoting(votes: Int[np.ndarray, "q k"]) -> Int[np.ndarray, " q"]:
    """The most frequent of each row, the smallest of several."""
    return votes[:, 0] if votes.shape[1] == 1 else mode(votes, axis=1).mode


def _plain(classifier: Any) -> bool:
    """Whether a classifier differs from scikit-learn's default in its number of neighbors only."""
    plain = KNeighborsClassifier(n_neighbors=classifier.n_neighbors, n_jobs=classifier.n_jobs)
    same = classifier.get_params(deep=False) == plain.get_params(deep=False)
    return type(classifier) is KNeighborsClassifier and same


class CondensedNearestNeighbour(_FromSeeds, under_sampling.CondensedNearestNeighbour):
    """Keeps the samples that are needed to classify the others (Hart, 1968).

    It goes through a class in order, and keeps what the smallest class and the samples that were
    kept before misclassify. As in imbalanced-learn, sample i of a class is passed over if row i of
    the data is kept.

    Args:
        n_neighbors: number of neighbors that classify, by default 1; or a `KNeighborsClassifier`.
        n_seeds_S: number of samples of a class to begin with.
    """

    def _decide(self, x, y) -> Plan:
        return keep_of_classes(y, self._kept(x, y))

    def _add(self, x, y, smallest, members, seeds):
        known = np.append(smallest, members[seeds])
        vote = _Vote(self._classifier(), x, y, known, members)
        kept = set(members[seeds].tolist())
        rows = list(members[seeds])
        for place, row in enumerate(members):
            if place not in kept and vote.wrong[place]:
                rows.append(row)
                kept.add(int(row))
                vote.add(row)
        return np.array(rows), np.append(smallest, rows)


class _Vote:
    """Whether the known samples misclassify each of some others, as they become more.

    Attributes:
        wrong: whether each is misclassified.
    """

    def __init__(self, classifier: Any, x, y, known, asking):
        """Args are as for `_predict`."""
        self._classifier, self._x, self._y = classifier, x, y
        self._known, self._asking = known, asking
        self._plain = _plain(classifier)
        if self._plain:
            k = classifier.n_neighbors
            self._code = np.unique(y, return_inverse=True)[1]
            found = nearest(x[known], k, queries=x[asking])
            self._nearest = known[found.rows]
            self._squared = found.squared
        self.wrong: Bool[np.ndarray, " q"] = self._count()

    def _count(self) -> Bool[np.ndarray, " q"]:
        own = self._y[self._asking]
        if not self._plain:
            return _predict(self._classifier, self._x, self._y, self._known, self._asking) != own
        return _outvoting(self._code[self._nearest]) != self._code[self._asking]

    def add(self, row: int | np.integer) -> None:
        """One more sample is known; of equally near ones, the first that was known counts."""
        self._known = np.append(self._known, row)
        if self._plain:
            k = self._nearest.shape[1]
            squared = np.column_stack([self._squared, _squared_to(self._x, self._asking, row)])
            order = np.argsort(squared, axis=1, kind="stable")[:, :k]
            rows = np.column_stack([self._nearest, np.full(len(self._asking), row)])
            self._squared = np.take_along_axis(squared, order, axis=1)
            self._nearest = np.take_along_axis(rows, order, axis=1)
        self.wrong = self._count()


def _squared_to(
    x: Shaped[np.ndarray, "n *shape"], rows: Int[np.ndarray, " q"], row: int | np.integer
) -> Float[np.ndarray, " q"]:
    """Squared distances of some rows from one."""
    flat = x.reshape(len(x), -1)
    one = flat[row].astype(np.float64)
    squared = np.empty(len(rows))

    def fill(block: slice) -> None:
        squared[block] = np.square(flat[rows[block]] - one).sum(axis=1)

    for_row_blocks(fill, len(rows), max(1, 2**17 // flat.shape[1]))
    return squared
