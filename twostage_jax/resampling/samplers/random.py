"""Random under- and over-sampling, by imbalanced-learn's draws: one stream for all classes."""

from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    OverSampler,
    Targets,
    UnderSampler,
    keep_of_classes,
)


def random_undersample(
    y: Shaped[np.ndarray, " n"], targets: Targets, random_state: Any, replacement: bool = False
) -> Plan:
    """Keeps so many samples of each class in `targets`, and all of the other classes.

    Args:
        y: class of each sample.
        targets: how many to keep, in the order of the classes.
        random_state: seed or NumPy `RandomState`, whose stream all classes share.
        replacement: whether a sample may be drawn more than once.
    """
    random = check_random_state(random_state)
    kept = {}
    for label, size in targets.items():
        members = np.flatnonzero(y == label)
        kept[label] = members[random.choice(len(members), size=size, replace=replacement)]
    return keep_of_classes(y, kept)


def random_oversample(y: Shaped[np.ndarray, " n"], targets: Targets, random_state: Any) -> Plan:
    """Adds so many copies to each class in `targets`, drawn with replacement.

    Args:
        y: class of each sample.
        targets: how many to add, in the order of the classes.
        random_state: seed or NumPy `RandomState`, whose stream all classes share.
    """
    random = check_random_state(random_state)
    rows = [np.arange(len(y))]
    rows += [random.choice(np.flatnonzero(y == label), size=n) for label, n in targets.items()]
    return Plan.of_kept(y, np.concatenate(rows))


class _AnyFeatures:
    """Rows are only picked: text, missing values and mixed data frames are as good as numbers."""

    reads_samples: ClassVar[bool] = False

    def _validate(self, X, y):
        if not hasattr(X, "iloc"):
            X = check_array(X, dtype=None, allow_nd=True, ensure_all_finite=False)
        return validate_data(self, X=X, y=y, skip_check_array=True)

    def _take(self, X, plan: Plan):
        return X.iloc[plan.base] if hasattr(X, "iloc") else plan.materialize(X)

    def __sklearn_tags__(self):
        """Text and missing values are accepted; the rows that are picked are known."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.sampler_tags.sample_indices = True
        return tags


class RandomUnderSampler(_AnyFeatures, UnderSampler):
    """Keeps a random part of the larger classes; imbalanced-learn's sampler of that name.

    Args:
        sampling_strategy: as in imbalanced-learn; `auto` reduces all classes but the smallest.
        random_state: seed or NumPy `RandomState`.
        replacement: whether a sample may be drawn more than once.

    Attributes:
        sampling_strategy_: how many samples of each class are kept.
        sample_indices_: rows that are kept, class by class.
    """

    _parameter_constraints: ClassVar[dict] = {
        **UnderSampler._parameter_constraints,
        "replacement": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(self, *, sampling_strategy="auto", random_state=None, replacement=False):
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state
        self.replacement = replacement

    def _decide(self, x, y) -> Plan:
        return random_undersample(y, self.sampling_strategy_, self.random_state, self.replacement)


class RandomOverSampler(_AnyFeatures, OverSampler):
    """Adds copies to the smaller classes; imbalanced-learn's sampler of that name.

    A smoothed bootstrap (`shrinkage`) adds noise to every number and so is no plan: not offered.

    Args:
        sampling_strategy: as in imbalanced-learn; `auto` brings all classes to the largest's size.
        random_state: seed or NumPy `RandomState`.

    Attributes:
        sampling_strategy_: how many samples are added to each class.
        sample_indices_: all rows, then those copied, class by class.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None):
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state

    def _decide(self, x, y) -> Plan:
        return random_oversample(y, self.sampling_strategy_, self.random_state)

    def _take(self, X, plan: Plan):
        rows = super()._take(X, plan)
        # Copies would share the index of their originals.
        return rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows
