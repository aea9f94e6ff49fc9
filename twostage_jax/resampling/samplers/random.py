"""Random under- and over-sampling with imbalanced-learn's draws: one stream for all classes."""

import numbers
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from imblearn import over_sampling, under_sampling
from jaxtyping import Int, Shaped
from sklearn.utils import check_array, check_consistent_length, check_random_state
from sklearn.utils.validation import validate_data

from twostage_jax.resampling.interpolation import round_for
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import (
    OverSampler,
    PlanSampler,
    UnderSampler,
    keep_of_classes,
)
from twostage_jax.support.errors import InputError


class _AnyFeatures(PlanSampler):
    """Only picks rows, so that text, missing values and mixed data frames are accepted, too."""

    reads_samples: ClassVar[bool] = False
    _picks_rows: ClassVar[bool] = True

    def _validate(self, X, y) -> Any:
        if not hasattr(X, "iloc"):
            options: Any = {"dtype": None}  # scikit-learn's annotation lacks None
            X = check_array(X, **options, allow_nd=True, ensure_all_finite=False)
        check_consistent_length(X, y)
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


class RandomOverSampler(_AnyFeatures, OverSampler, over_sampling.RandomOverSampler):
    """Adds copies to the smaller classes.

    Args:
        shrinkage: width of Gaussian noise that copies get, a factor for all classes or one per
            class (a smoothed bootstrap; Menardi, Torelli, 2014); None for no noise. Integers are
            rounded.

    Attributes:
        sample_indices_: all rows, then the copied ones, class by class.
        shrinkage_: the factor of each class; None without noise.
    """

    def plan(self, X, y) -> Plan:
        """Decides on the output samples, see `PlanSampler.plan`.

        Raises:
            InputError: there is a `shrinkage`; and what `PlanSampler.plan` raises.
        """
        if self.shrinkage is not None:
            raise InputError(
                f"shrinkage={self.shrinkage!r} found, None expected: a plan picks rows and adds no "
                "noise to them; call fit_resample"
            )
        return super().plan(X, y)

    def _draw(
        self, y: Shaped[np.ndarray, " n"], random: np.random.RandomState
    ) -> Iterator[tuple[Any, Int[np.ndarray, " m"]]]:
        """Each class, and the rows that are copied of it."""
        for label, size in self.sampling_strategy_.items():
            yield label, random.choice(np.flatnonzero(y == label), size)

    def _decide(self, x, y) -> Plan:
        drawn = (rows for _, rows in self._draw(y, check_random_state(self.random_state)))
        return Plan.of_kept(y, np.concatenate([np.arange(len(y)), *drawn]))

    def _fit_resample(self, X, y):
        self.shrinkage_ = self._factors()
        if self.shrinkage_ is None:
            return super()._fit_resample(X, y)
        vars(self).pop("plan_", None)  # of an earlier call
        try:
            table = check_array(X, allow_nd=True)
        except ValueError as error:
            raise InputError(
                "When shrinkage is not None, X needs to contain only numerical data: noise is "
                f"added to it ({error}); pass numbers, or shrinkage=None"
            ) from error
        flat = table.reshape(len(table), -1)
        n, d = flat.shape
        constant = (4 / ((d + 2) * n)) ** (1 / (d + 4))
        random = check_random_state(self.random_state)
        rows, made = [np.arange(n)], [flat]
        for label, copied in self._draw(y, random):
            width = self.shrinkage_[label] * constant * np.std(flat[y == label], axis=0)
            rows.append(copied)
            noisy = random.randn(len(copied), d) * width + flat[copied]
            made.append(round_for(noisy, flat.dtype).astype(flat.dtype))
        self.sample_indices_ = np.concatenate(rows)
        return np.concatenate(made).reshape(-1, *table.shape[1:]), y[self.sample_indices_]

    def _factors(self) -> Mapping[Any, numbers.Real] | None:
        if self.shrinkage is None:
            return None
        if isinstance(self.shrinkage, numbers.Real):
            return dict.fromkeys(self.sampling_strategy_, self.shrinkage)
        for label in self.sampling_strategy_:
            if label not in self.shrinkage:
                raise InputError(
                    "`shrinkage` should contain a shrinkage factor for each class that is "
                    f"resampled, {self.shrinkage!r} found: class {label} is missing; add it"
                )
        for label, factor in self.shrinkage.items():
            if factor < 0:
                raise InputError(
                    f"The shrinkage factor needs to be >= 0, {factor} found for class {label}"
                )
        return self.shrinkage

    def _take(self, X, plan: Plan) -> Any:
        rows = super()._take(X, plan)
        # Without a new index, copies share that of their originals.
        return rows.reset_index(drop=True) if hasattr(rows, "reset_index") else rows
