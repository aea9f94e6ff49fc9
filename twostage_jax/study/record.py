"""Records: what one (partition, approach) leaves behind.

A record holds what the scores are computed from, never the scores: labels and probabilities of
the whole test fold, and which of its samples the imbalanced test fold keeps. `study.folder` reads
and writes them.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

from twostage_jax.data.partition import ORIGINAL, SCENARIOS
from twostage_jax.study.approaches import NAME, Approach, position
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.training.objective import Frequencies

# In the order of the paper's tables.
ALL_SCENARIOS = (ORIGINAL, *SCENARIOS)

TENSORS: Mapping[str, tuple[type, int]] = MappingProxyType(
    {
        "test_index": (np.int32, 1),
        "label": (np.int32, 1),
        "kept": (np.bool_, 1),
        "probabilities": (np.float32, 2),
        "curve1": (np.float32, 2),
        "curve2": (np.float32, 2),
        "class_counts": (np.int32, 1),
        "prior": (np.float64, 1),
    }
)
"""The arrays of a record: dtype and number of dimensions."""


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class RecordKey:
    """The name of one unit of a study: a partition (scenario, ratio, fold) and an approach.

    Keys sort as the paper's tables do: by scenario, ratio, fold and approach. The approach need
    not be registered in this process.

    Raises:
        InputError: an unknown scenario, an approach that cannot be a name, a fold below 0, a ratio
            below 1 or with more than the six digits that a path keeps, or a ratio of 1 outside the
            scenario `original`.
    """

    scenario: str
    ratio: float
    fold: int
    approach: str

    def __post_init__(self) -> None:
        """Validates the four parts."""
        require_known("scenario", self.scenario, ALL_SCENARIOS)
        if not NAME.fullmatch(self.approach):
            raise InputError(
                f"found approach '{self.approach}'; expected a name of lowercase letters, digits "
                "and _+-; rename it"
            )
        if self.fold < 0:
            raise InputError(f"found fold {self.fold}; expected 0 or more; count folds from 0")
        if not (1 <= self.ratio < math.inf) or float(f"{self.ratio:g}") != self.ratio:
            raise InputError(
                f"found imbalance ratio {self.ratio!r}; expected a finite number of at least 1 "
                "with at most 6 significant digits; round it"
            )
        if (self.ratio == 1) != (self.scenario == ORIGINAL):
            raise InputError(
                f"found scenario '{self.scenario}' at imbalance ratio {self.ratio:g}; expected "
                "'original' at ratio 1 and only there; change one of the two"
            )

    def __str__(self) -> str:
        """For people and for paths: `linear/ir10/fold0/is_rus`."""
        return f"{self.scenario}/ir{self.ratio:g}/fold{self.fold}/{self.approach}"

    def __lt__(self, other: "RecordKey") -> bool:
        """Compares by the order of the paper's tables."""
        return self._order() < other._order()

    def _order(self) -> tuple:
        scenario = ALL_SCENARIOS.index(self.scenario)
        return scenario, self.ratio, self.fold, position(self.approach)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """The outcome of one (partition, approach). Arrays are NumPy's, on the host.

    A failed one may have arrays of length 0.

    Raises:
        InputError: an array of the wrong dtype or shape, labels outside the classes, a test row
            named twice, probabilities outside [0, 1] or not finite, an unknown status, a failed
            record without a reason or a done one with a reason or without test samples.
    """

    key: RecordKey
    status: str
    """`done` or `failed`."""
    reason: str
    """Why it failed; empty when done."""
    test_index: Int32[np.ndarray, "n_test"]
    """Rows of the image set: the whole test fold, before imbalance."""
    label: Int32[np.ndarray, "n_test"]
    """True classes of those rows."""
    kept: Bool[np.ndarray, "n_test"]
    """Whether the imbalanced test fold keeps the sample."""
    probabilities: Float32[np.ndarray, "n_test classes"]
    """Predicted probability of each class."""
    curve1: Float32[np.ndarray, "epochs1 2"]
    """Stage 1: mean training loss (nats) and training accuracy of each epoch."""
    curve2: Float32[np.ndarray, "epochs2 2"]
    """Stage 2, likewise; no rows when the approach has no stage 2."""
    class_counts: Int32[np.ndarray, "classes"]
    """Training samples of each class in the partition, before resampling."""
    settings: dict
    """Every protocol option, in values that JSON can hold."""
    settings_hash: str
    versions: dict[str, str]
    device: str
    seconds: dict[str, float]
    """Wall time of each phase: stage1, features, stage2."""
    images: dict[str, int]
    """Image passes of each phase."""
    prior: Float64[np.ndarray, "prior_classes"] = dataclasses.field(
        default_factory=lambda: np.zeros(0)
    )
    """Class frequencies under which the probabilities hold, see `Approach.learned_prior`; of
    length 0 where they are not known, as in records of older versions."""

    def __post_init__(self) -> None:
        """Validates status, dtypes, shapes and values."""
        for name, (dtype, ndim) in TENSORS.items():
            array = getattr(self, name)
            if not isinstance(array, np.ndarray):
                raise _wrong(name, type(array).__name__, "a NumPy array")
            if array.dtype != dtype or array.ndim != ndim:
                found = f"{array.dtype} with {array.ndim} dimensions"
                raise _wrong(name, found, f"{np.dtype(dtype)} with {ndim}")
        n, classes = len(self.test_index), len(self.class_counts)
        shapes = {
            "label": (n,),
            "kept": (n,),
            "probabilities": (n, classes),
            "curve1": (len(self.curve1), 2),
            "curve2": (len(self.curve2), 2),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise _wrong(name, f"shape {getattr(self, name).shape}", f"{shape}")
        if n and (self.label.min() < 0 or self.label.max() >= classes):
            raise _wrong(
                "label", f"{self.label.min()} to {self.label.max()}", f"0 to {classes - 1}"
            )
        if len(np.unique(self.test_index)) != n or (n and self.test_index.min() < 0):
            raise _wrong("test_index", "a negative or repeated row", "each row once")
        if not ((self.probabilities >= 0) & (self.probabilities <= 1)).all():  # NaN fails, too
            raise _wrong("probabilities", "values outside [0, 1] or NaN", "softmax outputs")
        require_known("status", self.status, ("done", "failed"))
        if (self.status == "failed") != bool(self.reason.strip()):
            raise _wrong("reason", f"'{self.reason}' in a {self.status} record", "one if it failed")
        if len(self.prior) not in (0, classes) or not (self.prior > 0).all():
            raise _wrong("prior", str(self.prior)[:60], f"none or {classes} frequencies above 0")
        if self.status == "done" and n == 0:
            raise _wrong("test_index", "no rows", "at least one when done")


def _wrong(field: str, found: str, expected: str) -> InputError:
    return InputError(f"record field '{field}': found {found}; expected {expected}")


def failed_record(
    key: RecordKey,
    reason: str,
    *,
    class_counts: Int32[np.ndarray, "classes"],
    settings: dict,
    settings_hash: str,
    versions: dict[str, str],
    device: str,
) -> Record:
    """Returns the record of a unit that ended without predictions: no test rows, no curves.

    Raises:
        InputError: `reason` is empty.
    """
    return Record(
        key=key,
        status="failed",
        reason=reason,
        test_index=np.zeros(0, np.int32),
        label=np.zeros(0, np.int32),
        kept=np.zeros(0, np.bool_),
        probabilities=np.zeros((0, len(class_counts)), np.float32),
        curve1=np.zeros((0, 2), np.float32),
        curve2=np.zeros((0, 2), np.float32),
        class_counts=class_counts,
        settings=settings,
        settings_hash=settings_hash,
        versions=versions,
        device=device,
        seconds={},
        images={},
    )


def known_prior(record: Record, approach: Approach) -> Frequencies | None:
    """Returns the class frequencies under which a record's probabilities hold; None if unknown.

    Records of older versions do not say. A plain network learned those of the images as they are,
    and a correction makes them equal.

    Args:
        record: a finished one.
        approach: the record's.
    """
    if len(record.prior):
        return record.prior
    if approach.correction is not None:
        return np.full(len(record.class_counts), 1 / len(record.class_counts))
    return approach.learned_prior(record.class_counts) if approach.is_plain else None
