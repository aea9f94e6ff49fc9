"""What all samplers share: imbalanced-learn's contract, images as they are, and the plan."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from imblearn.base import BaseSampler
from imblearn.over_sampling.base import BaseOverSampler
from imblearn.under_sampling.base import BaseCleaningSampler, BaseUnderSampler
from imblearn.utils import check_sampling_strategy, check_target_type
from jaxtyping import Shaped
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data

from twostage_jax.resampling.plan import Plan
from twostage_jax.support.errors import InputError

# How many samples of each class to generate (over-sampling) or to keep (under-sampling).
Targets = Mapping[Any, int | np.integer]


def sampling_targets(strategy: Any, y: Shaped[np.ndarray, " n"], kind: str) -> Targets:
    """What a `sampling_strategy` asks of each class, in the order of the classes.

    Args:
        strategy: in any of imbalanced-learn's forms: float, name, dict, list, callable.
        y: class of each sample.
        kind: `over-sampling`, `under-sampling` or `clean-sampling`.

    Raises:
        InputError: the strategy does not fit the classes. The message gives imbalanced-learn's
            reason, the strategy, and the classes with their numbers of samples.
    """
    try:
        return check_sampling_strategy(strategy, y, kind)
    except ValueError as error:
        classes, counts = np.unique(y, return_counts=True)
        found = ", ".join(f"{label}: {n}" for label, n in zip(classes, counts, strict=True))
        raise InputError(
            f"{str(error).rstrip('.')}; sampling_strategy={strategy!r} found, "
            f"samples of each class in y: {found}"
        ) from error


class PlanSampler(BaseSampler):
    """A sampler that decides on a plan, from which the resampled arrays are made.

    X may be images (N x H x W x C, or arrays of any other shape), which come back as images; uint8
    comes back as uint8, rounded. Sparse X is refused with a TypeError.
    """

    reads_samples: ClassVar[bool] = True
    """Whether the plan depends on X; otherwise only `y` matters, and row numbers will do for X."""

    def require_classes(self, y) -> None:
        """Checks that no class is too small for the sampler, by `y` and the parameters alone.

        `plan` and `fit_resample` call it first. Callers that train for hours before they resample
        call it before that.

        Args:
            y: class of each sample, numbers or text.

        Raises:
            InputError: a class has too few samples, or the strategy does not fit the classes.
        """
        y = np.asarray(y)
        self._require(y, sampling_targets(self.sampling_strategy, y, self._sampling_type))

    def _require(self, y: Shaped[np.ndarray, " n"], targets: Targets) -> None:
        """What `require_classes` checks; nothing by default."""

    @abstractmethod
    def _decide(self, x: Shaped[np.ndarray, "n *shape"], y: Shaped[np.ndarray, " n"]) -> Plan:
        """The plan for validated data; `sampling_strategy_` is set."""

    def plan(self, X, y) -> Plan:
        """Decides which samples there will be, without making them.

        Args:
            X: array-like, n x features, or images of one size.
            y: class of each sample.

        Returns:
            a table with a row per output sample; `plan.materialize(X)` makes what `fit_resample`
            returns.

        Raises:
            ValueError: one class only, a class too small for the method, a strategy that does not
                fit the classes, NaN, infinity or text in X, images of different sizes.
            TypeError: X is sparse.
        """
        return self._decide(*self._validated(X, y))

    def _validated(self, X, y):
        self._validate_params()
        X, y, _ = self._check_X_y(X, y)
        self.sampling_strategy_ = sampling_targets(self.sampling_strategy, y, self._sampling_type)
        self._require(y, self.sampling_strategy_)
        return X, y

    def _fit_resample(self, X, y):
        self._require(y, self.sampling_strategy_)
        plan = self._decide(X, y)
        if self.__sklearn_tags__().sampler_tags.sample_indices:
            self.sample_indices_ = plan.base
        return self._take(X, plan), plan.label

    def _take(self, X, plan: Plan):
        return plan.materialize(X)

    def _check_X_y(self, X, y):  # noqa: N802, imbalanced-learn's name
        check_classification_targets(y)
        y, one_column_a_class = check_target_type(y, indicate_one_vs_all=True)
        _require_one_size(X)
        X, y = self._validate(X, y)
        self.n_features_in_ = math.prod(X.shape[1:])
        sampling_targets(self.sampling_strategy, y, self._sampling_type)
        return X, y, one_column_a_class

    def _validate(self, X, y):
        return validate_data(self, X, y, accept_sparse=False, allow_nd=True)

    def __sklearn_tags__(self):
        """Dense arrays of any number of dimensions, and data frames."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags


def _require_one_size(X: Any) -> None:
    """Names images of different sizes, which NumPy would call an inhomogeneous sequence."""
    if isinstance(X, list | tuple) or (isinstance(X, np.ndarray) and X.dtype == object):
        shapes = [image.shape for image in X if isinstance(image, np.ndarray)]
        other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
        if other is not None:
            raise InputError(
                f"X holds arrays of different sizes: {shapes[0]} in row 0 and {shapes[other]} in "
                f"row {other}; bring all images to one size"
            )


def require_samples(owner: str, count: int | np.integer, least: int, k: int, sampler: str) -> None:
    """Checks that there are enough samples for a number of neighbors.

    Args:
        owner: of the samples, for the message: `class 3`, or `y`.
        count: how many it has.
        least: how many it needs.
        k: the number of neighbors.
        sampler: the sampler's name, for the message.

    Raises:
        InputError: there are fewer than `least`.
    """
    if count < least:
        raise InputError(
            f"{owner} has {count} samples, {sampler} with {k} neighbors expects at least {least}; "
            "lower the number of neighbors or add samples"
        )


class OverSampler(PlanSampler, BaseOverSampler):
    """Adds samples to classes."""


class UnderSampler(PlanSampler, BaseUnderSampler):
    """Reduces classes to a number of samples."""

    def __sklearn_tags__(self):
        """The rows that are kept are known."""
        tags = super().__sklearn_tags__()
        tags.sampler_tags.sample_indices = True
        return tags


class CleaningSampler(PlanSampler, BaseCleaningSampler):
    """Removes samples because of what surrounds them, however many that are."""

    def __sklearn_tags__(self):
        """The rows that are kept are known."""
        tags = super().__sklearn_tags__()
        tags.sampler_tags.sample_indices = True
        return tags


def keep_of_classes(
    y: Shaped[np.ndarray, " n"], kept: Mapping[Any, Shaped[np.ndarray, " m"]]
) -> Plan:
    """The plan that keeps some rows of some classes and all of the others, class by class."""
    rows = [kept.get(label, np.flatnonzero(y == label)) for label in np.unique(y)]
    return Plan.of_kept(y, np.concatenate(rows))
