"""Records: what one (partition, approach) leaves behind, one safetensors file each.

A record holds what the scores are computed from, never the scores: labels and probabilities of
the whole test fold, and which of its samples the imbalanced test fold keeps. Equal records are
equal files, byte for byte.
"""

import dataclasses
import functools
import json
import math
import os
from pathlib import Path

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float32, Int32
from safetensors import SafetensorError, safe_open

from twostage_jax.data.partition import ORIGINAL, SCENARIOS
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically

# In the order of the paper's tables, as are the approaches.
ALL_SCENARIOS = (ORIGINAL, *SCENARIOS)
_POSITION = {name: position for position, name in enumerate(APPROACHES)}

_FORMAT = "twostage_jax record 1"  # raise the number when the fields change
_SUFFIX = ".safetensors"
_TENSORS = {  # name: dtype, dimensions
    "test_index": (np.int32, 1),
    "label": (np.int32, 1),
    "kept": (np.bool_, 1),
    "probabilities": (np.float32, 2),
    "curve1": (np.float32, 2),
    "curve2": (np.float32, 2),
    "class_counts": (np.int32, 1),
}
_CIRCUMSTANCES = ("versions", "device", "seconds")  # may differ between runs of the same unit


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class RecordKey:
    """The name of one unit of a study: a partition (scenario, ratio, fold) and an approach.

    Keys sort as the paper's tables do: by scenario, ratio, fold and approach.

    Raises:
        InputError: an unknown name, a fold below 0, a ratio below 1 or with more than the six
            digits that a path keeps, or a ratio of 1 outside the scenario `original`.
    """

    scenario: str
    ratio: float
    fold: int
    approach: str

    def __post_init__(self) -> None:
        """Validates the four parts."""
        require_known("scenario", self.scenario, ALL_SCENARIOS)
        require_known("approach", self.approach, APPROACHES)
        if self.fold < 0:
            raise InputError(f"found fold {self.fold}; expected 0 or more; count folds from 0")
        if not (1 <= self.ratio < math.inf) or float(f"{self.ratio:g}") != self.ratio:
            raise InputError(
                f"found imbalance ratio {self.ratio!r}; expected a finite number of at least 1 "
                "with at most 6 significant digits; round it"
            )
        if (self.ratio == 1) != (self.scenario == "original"):
            raise InputError(
                f"found scenario '{self.scenario}' at imbalance ratio {self.ratio:g}; expected "
                "'original' at ratio 1 and only there; change one of the two"
            )

    @property
    def path(self) -> Path:
        """Where the record lies in a study's folder: `linear/ir10/fold0/is_rus.safetensors`."""
        folder = Path(self.scenario, f"ir{self.ratio:g}", f"fold{self.fold}")
        return folder / f"{self.approach}{_SUFFIX}"

    @classmethod
    def from_path(cls, path: Path) -> "RecordKey":
        """The key whose record lies at `path` in a study's folder of records.

        Raises:
            InputError: no key has that path.
        """
        try:
            scenario, ratio, fold, name = path.parts
            key = cls(
                scenario,
                float(ratio.removeprefix("ir")),
                int(fold.removeprefix("fold")),
                name.removesuffix(_SUFFIX),
            )
        except ValueError as error:  # of the unpacking, the numbers or the key
            raise InputError(f"{path} is not the path of a record: {error}") from error
        if key.path != path:
            raise InputError(f"{path} is not the path of a record; expected {key.path}")
        return key

    def __lt__(self, other: "RecordKey") -> bool:
        """Compares by the order of the paper's tables."""
        return self._order() < other._order()

    def _order(self) -> tuple[int, float, int, int]:
        scenario = ALL_SCENARIOS.index(self.scenario)
        return scenario, self.ratio, self.fold, _POSITION[self.approach]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Record:
    """The outcome of one (partition, approach). Arrays are NumPy's, on the host.

    `same_result` compares two records. A failed one may have arrays of length 0.

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

    def __post_init__(self) -> None:
        """Validates status, dtypes, shapes and values."""
        for name, (dtype, ndim) in _TENSORS.items():
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
            raise _wrong("reason", f"'{self.reason}' of a {self.status} one", "one if it failed")
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


def same_result(a: Record, b: Record) -> bool:
    """Whether two records agree bit for bit in all but times, device and versions.

    NaNs of equal bits are equal, 0 and -0 are not; settings are compared as JSON holds them.
    """
    left, right = _metadata(a), _metadata(b)
    for name in _CIRCUMSTANCES:
        del left[name], right[name]
    return _json(left) == _json(right) and all(
        getattr(a, name).shape == getattr(b, name).shape
        and getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in _TENSORS
    )


def write_record(folder: str | os.PathLike[str], record: Record) -> Path:
    """Writes the record under `folder` at `record.key.path`, whole or not at all.

    An earlier record of the same key is replaced. Returns the path written.

    Raises:
        InputError: the settings hold something that JSON cannot.
        OSError: the disk is full, the folder is read-only, ...; no partial file remains.
    """
    try:
        text = _json(_metadata(record))
    except TypeError as error:
        raise InputError(
            f"record {record.key.path}: {error}; expected settings of numbers, strings, lists "
            "and dicts; convert them"
        ) from error
    # safetensors takes the bytes of a strided array as they lie in memory, and stores nonsense.
    tensors = {name: np.ascontiguousarray(getattr(record, name)) for name in _TENSORS}
    path = Path(folder) / record.key.path
    # One metadata entry: safetensors keeps several in random order, and files would differ.
    write_atomically(path, safetensors.numpy.save(tensors, metadata={"record": text}))
    return path


def read_record(path: str | os.PathLike[str]) -> Record:
    """Reads and validates one record.

    Raises:
        InputError: the file is truncated or is not a record of this version.
        OSError: the file is missing or unreadable.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = json.loads((file.metadata() or {}).get("record", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop("format", None) != _FORMAT:
            raise InputError(f"its format is not '{_FORMAT}'")
        metadata["key"] = RecordKey(**metadata["key"])
        return Record(**metadata, **tensors)
    # Missing or unknown fields are TypeErrors; bad JSON and InputErrors are ValueErrors.
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a whole record ({reason}); expected a file that this version wrote; "
            "delete it and run the study again"
        ) from error


def read_records(folder: str | os.PathLike[str]) -> list[Record]:
    """Reads every record under `folder`, sorted by key; temporary files are not looked at.

    Raises:
        InputError: the folder is missing, a file is not a whole record, or a record lies where
            another one belongs.
        OSError: a file is unreadable.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"found no folder {folder}; expected a study's records; check the path")
    records = []
    for path in folder.rglob(f"*{_SUFFIX}"):
        record = read_record(path)
        if path.relative_to(folder) != record.key.path:
            raise InputError(
                f"{path} holds the record of {record.key.path}; expected it at that path; "
                "delete or move the file"
            )
        records.append(record)
    return sorted(records, key=lambda record: record.key)


def _metadata(record: Record) -> dict:
    fields = [field.name for field in dataclasses.fields(record) if field.name not in _TENSORS]
    values = {name: getattr(record, name) for name in fields}
    return {"format": _FORMAT, **values, "key": dataclasses.asdict(record.key)}


def _json(values: dict) -> str:
    return json.dumps(values, sort_keys=True)
