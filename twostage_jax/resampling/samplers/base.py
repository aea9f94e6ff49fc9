"""What all samplers share: imbalanced-learn's contract, images of any shape, and the plan."""

# imbalanced-learn's mixins, which are not annotated, take arguments that are not needed here.
# pyright: reportIncompatibleMethodOverride=false

import dataclasses
import math
import numbers
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from imblearn.base import BaseSampler
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.under_sampling.base import BaseCleaningSampler, BaseUnderSampler
from imblearn.utils import check_sampling_strategy, check_target_type
from imblearn.utils._tags import SamplerTags
from jaxtyping import Shaped
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from twostage_jax.resampling.inputs import (
    as_labels,
    as_numbers,
    as_table,
    in_form_of,
    is_small_float,
    require_between,
)
from twostage_jax.resampling.plan import Plan
from twostage_jax.support.errors import InputError

# The number of samples to generate (over-sampling) or to keep (under-sampling), by class.
Targets = Mapping[Any, int | np.integer]


def sampling_targets(strategy: Any, y: Shaped[np.ndarray, " n"], kind: str) -> Targets:
    """The targets of a `sampling_strategy` (float, name, dict, list or callable), class by class.

    `kind` is `over-sampling`, `under-sampling` or `clean-sampling`.

    Raises:
        InputError: a number of samples is no integer, or the strategy does not fit the classes; the
            message then has imbalanced-learn's reason, the strategy, and the number of samples of
            each class.
    """
    strategy = strategy(y) if callable(strategy) else strategy
    if isinstance(strategy, Mapping):
        for label, size in strategy.items():
            if not isinstance(size, numbers.Integral) or isinstance(size, bool):
                raise InputError(
                    f"sampling_strategy asks for {size!r} samples of class {label}, an integer is "
                    "expected; pass a whole number, as an int"
                )
    try:
        # imbalanced-learn has no annotations: None is inferred and never returned.
        return check_sampling_strategy(strategy, y, kind)  # pyright: ignore[reportReturnType]
    except ValueError as error:
        classes, counts = np.unique(y, return_counts=True)
        found = ", ".join(f"{label}: {n}" for label, n in zip(classes, counts, strict=True))
        raise InputError(
            f"{str(error).rstrip('.')}; sampling_strategy={strategy!r} found, "
            f"samples of each class in y: {found}"
        ) from error


class PlanSampler(BaseSampler):
    """A sampler that decides on a plan, from which the resampled arrays are made.

    X may be images (N x H x W x C, or arrays of any other shape); the result then is images, too.
    The result of uint8 is rounded to uint8. Sparse X is refused with a TypeError. Samplers that
    make samples refuse arrays of bools with an InputError: there is nothing between these.
    """

    _sampling_type: ClassVar[str]
    _parameter_constraints: ClassVar[dict]
    reads_samples: ClassVar[bool] = True
    """Whether the plan depends on X. If not, `plan` takes row numbers (n x 1) for X as well."""
    # Whether all output samples are rows of X, whose numbers `sample_indices_` then holds.
    _picks_rows: ClassVar[bool] = False

    def require_classes(self, y) -> None:
        """Checks that no class is too small for the sampler, by `y` and the parameters alone.

        `plan` and `fit_resample` check the same first. A program that trains before it resamples
        calls this before it trains.

        Args:
            y: class of each sample, numbers or text.

        Raises:
            InputError: a class has too few samples, or the strategy does not fit the classes.
        """
        self._validate_params()
        y, _ = check_target_type(_labels(y), indicate_one_vs_all=True)
        self._require(y, sampling_targets(self.sampling_strategy, y, self._sampling_type))

    def _require(self, y: Shaped[np.ndarray, " n"], targets: Targets) -> None:
        """Raises the errors of `require_classes`; by default there are none."""

    @abstractmethod
    def _decide(self, x: Shaped[np.ndarray, "n *shape"], y: Shaped[np.ndarray, " n"]) -> Plan:
        """The plan for validated data; `sampling_strategy_` holds the targets."""

    def plan(self, X, y) -> Plan:
        """Decides on the output samples, without making them.

        It draws anew: the plan of a `fit_resample` before is `plan_`, and the same one if
        `random_state` is an integer.

        Args:
            X: array-like, n x features, or images of one size.
            y: class of each sample.

        Returns:
            a table with one row per output sample; `plan.materialize(X)` makes the X that
            `fit_resample` returns.

        Raises:
            ValueError: one class only, a class too small for the method, a strategy that does not
                fit the classes, NaN, infinity or text in X, images of different sizes.
            TypeError: X is sparse.
        """
        return self._planned(*self._validated(X, y))

    def fit_resample(self, X, y, **params):
        """Resamples, as imbalanced-learn's samplers do.

        Args:
            X: array-like, n x features, or images of one size, as for `plan`.
            y: class of each sample.
            params: of imbalanced-learn's samplers; there are none.

        Returns:
            X and y resampled: data frames for data frames, lists for lists (of arrays, if X is a
            list of arrays or images), NumPy arrays in the machine's byte order for all others.

        Raises:
            ValueError, TypeError: as `plan`.
        """
        table = as_table(X)
        made, *others = super().fit_resample(table, as_labels(y), **params)
        dtype = getattr(table, "dtype", None)
        if is_small_float(dtype):
            made = made.astype(dtype)
        return (in_form_of(X, made), *others)

    def _planned(self, X, y) -> Plan:
        # imbalanced-learn's method makes attributes such as `nn_k_`; not every sampler has it.
        getattr(self, "_validate_estimator", lambda: None)()
        return dataclasses.replace(self._decide(X, y), total=len(y))

    def _validated(self, X, y) -> tuple[Any, Any]:
        self._validate_params()
        check_classification_targets(as_labels(y))  # `fit_resample` does it before
        X, y, _ = self._check_X_y(X, y)
        self._require(y, self.sampling_strategy_)
        return X, y

    def _fit_resample(self, X, y):
        self._require(y, self.sampling_strategy_)
        plan = self.plan_ = self._planned(X, y)
        if self._picks_rows:
            self.sample_indices_ = plan.base.copy()
        return self._take(X, plan), plan.label

    def _take(self, X, plan: Plan) -> Any:
        return plan.materialize(X)

    def _check_X_y(self, X, y):  # noqa: N802, imbalanced-learn's name
        y, one_column_per_class = check_target_type(_labels(y), indicate_one_vs_all=True)
        X, y = self._validate(as_table(X), y)
        if not math.prod(X.shape[1:]):
            raise InputError(
                f"X of shape {X.shape} found, at least one pixel or feature per sample expected; "
                "leave out what is empty"
            )
        self.n_features_in_ = math.prod(X.shape[1:])
        self.sampling_strategy_ = sampling_targets(self.sampling_strategy, y, self._sampling_type)
        return X, y, one_column_per_class

    def _validate(self, X, y) -> Any:
        validated: Any = validate_data(self, as_numbers(X), y, accept_sparse=False, allow_nd=True)
        if not self._picks_rows:
            require_between(validated[0])
        return validated

    def __sklearn_tags__(self):
        """Dense arrays of any number of dimensions, and data frames."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        tags.sampler_tags = SamplerTags(sample_indices=self._picks_rows)
        return tags


def _labels(y: Any) -> Any:
    """y as `check_target_type` takes it: in two dimensions an array."""
    y = as_labels(y)
    return np.asarray(y) if np.ndim(y) == 2 else y


def require_samples(owner: str, count: int | np.integer, least: int, k: int, sampler: str) -> None:
    """Raises InputError if `owner` (`class 3`, or `y`) has fewer samples than k neighbors need."""
    if count < least:
        raise InputError(
            f"{owner} has {count} samples, {sampler} with {k} neighbors expects at least {least}; "
            "lower the number of neighbors or add samples"
        )


class OverSampler(PlanSampler, BaseOverSampler):
    """Adds samples to classes.

    Args:
        sampling_strategy: as in imbalanced-learn; `auto` brings all classes to the largest's size.
        random_state: seed or NumPy `RandomState`, where a subclass draws.

    Attributes:
        sampling_strategy_: number of samples to add, by class.
    """


class UnderSampler(PlanSampler, BaseUnderSampler):
    """Reduces classes to a number of samples.

    Args:
        sampling_strategy: as in imbalanced-learn; `auto` reduces all classes but the smallest.
        random_state: seed or NumPy `RandomState`, where a subclass draws.
        n_jobs: accepted for imbalanced-learn's programs; all cores are used in any case.

    Attributes:
        sampling_strategy_: number of samples to keep, by class.
        sample_indices_: rows that are kept, class by class.
    """

    _picks_rows = True


class CleaningSampler(PlanSampler, BaseCleaningSampler):
    """Removes samples by a rule on their neighbors; the number removed is not controlled.

    Args:
        sampling_strategy: the classes that may lose samples; `auto`: all but the smallest.
        n_jobs: accepted for imbalanced-learn's programs; all cores are used in any case.

    Attributes:
        sampling_strategy_: the classes that may lose samples.
        sample_indices_: rows that are kept.
    """

    _picks_rows = True


def keep_of_classes(
    y: Shaped[np.ndarray, " n"], kept: Mapping[Any, Shaped[np.ndarray, " m"]]
) -> Plan:
    """The plan that keeps the given rows of some classes and all rows of the others."""
    rows = [kept.get(label, np.flatnonzero(y == label)) for label in np.unique(y)]
    return Plan.of_kept(y, np.concatenate(rows))


def smallest_class(y: Shaped[np.ndarray, " n"]) -> Any:
    """The label of the smallest class; of several, imbalanced-learn's: the first in y."""
    classes, first, counts = np.unique(y, return_index=True, return_counts=True)
    return classes[min(range(len(classes)), key=lambda i: (counts[i], first[i]))]
