"""Random under- and over-sampling with imbalanced-learn's draws: one stream for all classes."""

from typing import Any, ClassVar

import numpy as np
from imblearn import under_sampling
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import validate_data

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    OverSampler,
    PlanSampler,
    UnderSampler,
    keep_of_classes,
)


class _AnyFeatures(PlanSampler):
    """Only picks rows, so that text, missing values and mixed data frames are accepted, too."""

    reads_samples: ClassVar[bool] = False
    _picks_rows: ClassVar[bool] = True

    def _validate(self, X, y) -> Any:
        if not hasattr(X, "iloc"):
            options: Any = {"dtype": None}  # scikit-learn's annotation lacks None
            X = check_array(X, **options, allow_nd=True, ensure_all_finite=False)
        return validate_data(self, X=X, y=y, skip_check_array=True)

    def _take(self, X, plan: Plan) -> Any:
        return X.iloc[plan.base] if hasattr(X, "iloc") else plan.materialize(X)

    def __sklearn_tags__(self):
        """Text and missing values are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


class RandomUnderSampler(_AnyFeatures, UnderSampler, under_sampling.RandomUnderSampler):
    """Keeps a random part of the larger classes.

    Args:
        replacement: whether a sample may be drawn more than once.
    """

    def _decide(self, x, y) -> Plan:
        random = check_random_state(self.random_state)
        kept = {}
        for label, size in self.sampling_strategy_.items():
            members = np.flatnonzero(y == label)
            kept[label] = members[random.choice(len(members), size, self.replacement)]
        return keep_of_classes(y, kept)


class RandomOverSampler(_AnyFeatures, OverSampler):
    """Adds copies to the smaller classes.

    It has no `shrinkage`: a smoothed bootstrap adds noise to every number, which no plan describes.

    Attributes:
        sample_indices_: all rows, then the copied ones, class by class.
    """

    def __init__(self, *, sampling_strategy="auto", random_state=None):
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state

    def _decide(self, x, y) -> Plan:
        random = check_random_state(self.random_state)
        rows = [np.arange(len(y))]
        for label, size in self.sampling_strategy_.items():
            rows.append(random.choice(np.flatnonzero(y == label), size))
        return Plan.of_kept(y, np.concatenate(rows))

    def _take(self, X, plan: Plan) -> Any:
        rows = super()._take(X, plan)
        # Without a new index, copies share that of their originals.
        return rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows
