"""SMOTE and its relatives: synthetic samples between neighbors of one class.

The draws are imbalanced-learn's: SMOTE and Borderline-SMOTE restart the random stream for each
class, ADASYN draws all classes from one. Neighbors are exact, ties by the smaller row. A duplicate
of a sample at another row is a neighbor of it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from imblearn import over_sampling
from jaxtyping import Int, Shaped
from sklearn.utils import check_random_state

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import OverSampler, Targets, require_samples
from twostage_jax.resampling.samplers.searches import (
    class_neighbor_lists,
    list_length,
    neighbor_lists,
)
from twostage_jax.support.errors import InputError


def _interpolate(
    y: Shaped[np.ndarray, " n"],
    rows: Int[np.ndarray, " b"],
    lists: Int[np.ndarray, "b k"],
    size: int | np.integer,
    random: np.random.RandomState,
) -> Plan:
    """Samples between randomly drawn `rows` and randomly drawn neighbors of theirs."""
    drawn = random.randint(0, lists.size, size=size)
    step = random.uniform(size=size)
    first, second = np.divmod(drawn, lists.shape[1])
    base = rows[first]
    return Plan(base, lists[first, second], step, y[base])


def _growing(y: Shaped[np.ndarray, " n"], targets: Targets) -> Iterator[tuple[Any, Any, Any]]:
    """Label, number of samples to add and rows of each class that grows."""
    for label, size in targets.items():
        if size:
            yield label, size, np.flatnonzero(y == label)


def _rows_of(y: Shaped[np.ndarray, " n"], targets: Targets) -> Int[np.ndarray, " g"]:
    """The rows of all classes that grow, ascending."""
    return np.flatnonzero(np.isin(y, [label for label, size in targets.items() if size]))


def _foreign(
    x: Shaped[np.ndarray, "n *shape"],
    y: Shaped[np.ndarray, " n"],
    search: Any,
    rows: Int[np.ndarray, " q"],
) -> Int[np.ndarray, " n"]:
    """How many neighbors of some rows are of another class; 0 for all other rows.

    One search for all classes: each has to read the whole table.
    """
    counts = np.zeros(len(y), int)
    if len(rows):
        counts[rows] = (y[neighbor_lists(x, search, rows)] != y[rows, None]).sum(axis=1)
    return counts


def _require_growing(y: Shaped[np.ndarray, " n"], targets: Targets, k: int, sampler: str) -> None:
    """Checks that each class that grows has more than k samples, so that each has k neighbors."""
    for label, _, members in _growing(y, targets):
        require_samples(f"class {label}", len(members), k + 1, k, sampler)


class SMOTE(OverSampler, over_sampling.SMOTE):
    """Adds samples between a sample and a neighbor of its class (Chawla et al., 2002).

    Args:
        k_neighbors: number of neighbors that a sample may be interpolated with; or an object with
            scikit-learn's `kneighbors` that finds one more, the sample itself.
    """

    def plan(self, X, y, neighbors: Int[np.ndarray, "n k"] | None = None) -> Plan:
        """Decides on the output samples as `PlanSampler.plan` does, or from neighbors found before.

        Args:
            X: as in `PlanSampler.plan`.
            y: as in `PlanSampler.plan`.
            neighbors: rows of each sample's k nearest neighbors of its class, nearest first, as
                from `resampling.neighbors.subset_neighbors`; -1 in classes that do not grow. They
                replace this sampler's own search: the plan is the same, and X is only validated.

        Raises:
            InputError: `neighbors` is not n x k, or the neighbors of a sample are not of its class;
                and what `PlanSampler.plan` raises.
        """
        if neighbors is None:
            return super().plan(X, y)
        X, y = self._validated(X, y)
        neighbors = np.asarray(neighbors)
        expected = (len(y), list_length(self.k_neighbors))
        if neighbors.shape != expected or neighbors.dtype.kind not in "iu":
            raise InputError(
                f"neighbors of shape {neighbors.shape} and dtype {neighbors.dtype} found, integers "
                f"of shape {expected} expected: one row per sample, one column per neighbor; make "
                "them for this y and this k_neighbors"
            )
        for label, _, members in _growing(y, self.sampling_strategy_):
            lists = neighbors[members]
            if (lists < 0).any() or (lists >= len(y)).any() or (y[lists] != label).any():
                raise InputError(
                    f"neighbors of class {label} found that are not rows of that class; make them "
                    "for this y, as resampling.neighbors.subset_neighbors does"
                )
        return self._between(y, neighbors)

    def _require(self, y, targets) -> None:
        _require_growing(y, targets, list_length(self.k_neighbors), "SMOTE")

    def _decide(self, x, y) -> Plan:
        growing = [label for label, _, _ in _growing(y, self.sampling_strategy_)]
        return self._between(y, class_neighbor_lists(x, y, self.k_neighbors, growing))

    def _between(self, y, neighbors) -> Plan:
        parts = [Plan.of_all(y)]
        for _, size, members in _growing(y, self.sampling_strategy_):
            random = check_random_state(self.random_state)
            parts.append(_interpolate(y, members, neighbors[members], size, random))
        return Plan.concatenate(parts)


class BorderlineSMOTE(OverSampler, over_sampling.BorderlineSMOTE):
    """SMOTE from samples in danger: at least half of their neighbors are of another class.

    H. Han, W. Wang, B. Mao, *Borderline-SMOTE*, 2005. A class without samples in danger stays as it
    is.

    Args:
        k_neighbors: as in `SMOTE`.
        m_neighbors: number of neighbors among all samples by which danger is judged; or an object.
        kind: `borderline-1` interpolates within the class. `borderline-2` interpolates with
            neighbors of any class, at most half the way toward those of another.

    Attributes:
        in_danger_indices: rows in danger, by class.
    """

    def _require(self, y, targets) -> None:
        if any(targets.values()):
            m = list_length(self.m_neighbors)
            require_samples("y", len(y), m + 1, m, "BorderlineSMOTE")

    def _decide(self, x, y) -> Plan:
        self.in_danger_indices = {}
        parts = [Plan.of_all(y)]
        m = list_length(self.m_neighbors)
        foreign = _foreign(x, y, self.m_neighbors, _rows_of(y, self.sampling_strategy_))
        for label, size, members in _growing(y, self.sampling_strategy_):
            others = foreign[members]
            danger = (others >= m / 2) & (others < m)
            if danger.any():
                self.in_danger_indices[label] = members[danger]
                parts.append(self._between(x, y, label, members, danger, size))
        return Plan.concatenate(parts)

    def _between(self, x, y, label, members, danger, size) -> Plan:
        rows, k = members[danger], list_length(self.k_neighbors)
        random = check_random_state(self.random_state)
        if self.kind == "borderline-1":
            require_samples(f"class {label}", len(members), k + 1, k, "BorderlineSMOTE")
            lists = members[neighbor_lists(x[members], self.k_neighbors, np.flatnonzero(danger))]
            return _interpolate(y, rows, lists, size, random)
        require_samples("y", len(y), k + 1, k, "BorderlineSMOTE")
        lists = neighbor_lists(x, self.k_neighbors, rows)
        plan = _interpolate(y, rows, lists, size, random)
        foreign = y[plan.neighbor] != label
        # imbalanced-learn restarts the stream of a seed for these steps.
        shrink = check_random_state(self.random_state).uniform(0.0, 0.5, size=foreign.sum())
        plan.step[foreign] *= shrink
        return plan


class SVMSMOTE(OverSampler, over_sampling.SVMSMOTE):
    """SMOTE from the support vectors of a classifier (Nguyen et al., 2009).

    A support vector whose neighbors are mostly of other classes moves toward a neighbor of its
    class; another one moves away from it, by at most `out_step` of the way. Those whose neighbors
    are all of other classes are noise and are left out.

    Args:
        k_neighbors: as in `SMOTE`.
        m_neighbors: number of neighbors among all samples by which a vector is judged; or an
            object.
        svm_estimator: a classifier with `support_`; by default scikit-learn's `SVC`.
        out_step: share of the way by which samples move away at most.

    Attributes:
        svm_estimator_: the classifier, fitted.
    """

    def _require(self, y, targets) -> None:
        _require_growing(y, targets, list_length(self.k_neighbors), "SVMSMOTE")
        if any(targets.values()):
            m = list_length(self.m_neighbors)
            require_samples("y", len(y), m + 1, m, "SVMSMOTE")

    def _decide(self, x, y) -> Plan:
        random = check_random_state(self.random_state)
        parts, m = [Plan.of_all(y)], list_length(self.m_neighbors)
        if not any(self.sampling_strategy_.values()):
            return parts[0]
        support = self._support(x, y)
        grow = _rows_of(y, self.sampling_strategy_)
        foreign = _foreign(x, y, self.m_neighbors, support[np.isin(support, grow)])
        for label, size, members in _growing(y, self.sampling_strategy_):
            rows = support[y[support] == label]
            others = foreign[rows]
            if (others == m).all():
                raise InputError(
                    f"SVM-SMOTE is not adapted to your dataset: the {m} nearest neighbors of each "
                    f"of the {len(rows)} support vectors of class {label} ({len(members)} samples) "
                    "are of other classes, all are noise; use another SMOTE, or more m_neighbors"
                )
            danger, safe = rows[(others >= m / 2) & (others < m)], rows[others < m / 2]
            inward = int(random.beta(10, 10) * (size + 1))
            for part, count, reach in (
                (danger, inward, 1.0),
                (safe, size - inward, -self.out_step),
            ):
                if len(part):
                    parts.append(self._between(x, y, members, part, count, reach))
        return Plan.concatenate(parts)

    def _support(self, x, y) -> Int[np.ndarray, " s"]:
        classifier: Any = self.svm_estimator_
        classifier.fit(x.reshape(len(x), -1), y)
        if not hasattr(classifier, "support_"):
            raise RuntimeError(
                "`svm_estimator` is required to exposed a `support_` fitted attribute, "
                f"{classifier!r} found; pass a support vector classifier, such as "
                "sklearn.svm.SVC"
            )
        return classifier.support_

    def _between(self, x, y, members, rows, size, reach) -> Plan:
        places = np.searchsorted(members, rows)
        lists = members[neighbor_lists(x[members], self.k_neighbors, places)]
        random = check_random_state(self.random_state)
        plan = _interpolate(y, rows, lists, size, random)
        return dataclasses.replace(plan, step=reach * plan.step)


class ADASYN(OverSampler, over_sampling.ADASYN):
    """SMOTE with more samples where more neighbors are of another class (He et al., 2008).

    The shares of the samples are rounded, so that a class grows to near its target.

    Args:
        n_neighbors: number of neighbors of a sample, both to weight it and to interpolate; or an
            object as in `SMOTE`.
    """

    def _require(self, y, targets) -> None:
        _require_growing(y, targets, list_length(self.n_neighbors), "ADASYN")

    def _decide(self, x, y) -> Plan:
        random = check_random_state(self.random_state)
        k = list_length(self.n_neighbors)
        parts = [Plan.of_all(y)]
        foreign = _foreign(x, y, self.n_neighbors, _rows_of(y, self.sampling_strategy_))
        for label, size, members in _growing(y, self.sampling_strategy_):
            others = foreign[members] / k
            if not others.any():
                raise RuntimeError(
                    f"no sample of class {label} ({len(members)} samples) has a neighbor of "
                    f"another class among its {k} nearest, ADASYN expects at least one; use SMOTE, "
                    "or more neighbors"
                )
            counts = np.rint(others / others.sum() * size).astype(int)
            if not counts.any():
                raise InputError(
                    f"none of the {size} samples requested for class {label} is left after "
                    f"rounding the shares of its {len(members)} samples; request more samples, or "
                    "use SMOTE"
                )
            lists = neighbor_lists(x[members], self.n_neighbors)
            first = np.repeat(np.arange(len(members)), counts)
            second = random.choice(k, size=len(first))
            step = random.uniform(size=len(first))
            base = members[first]
            parts.append(Plan(base, members[lists[first, second]], step, y[base]))
        return Plan.concatenate(parts)
