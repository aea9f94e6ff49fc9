"""The folder of a study: every path in it, its description and its records.

    study.json                                   what the study is and what it is to cover
    records/linear/ir10/fold0/is_rus.safetensors one file per record
    exhibits/images.safetensors, features...     what figures show and records do not hold
    metrics.csv, table1.csv, table2.csv, tables.md
    report/index.html                            the page, its figures and tables beside it

Files are written whole or not at all. Formats carry a number: a newer one is refused in one line,
and what an older one lacks means the default of its day.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from twostage_jax.data.folds import Splitting
from twostage_jax.study.approaches import Approach
from twostage_jax.study.record import TENSORS, Record, RecordKey
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import checksum, write_atomically
from twostage_jax.training.protocol import Protocol

FORMAT = 2
"""Of `study.json`. Version 1 had no number and no recipes of approaches."""

# Raise the number when the fields change. Records of format 1 have no checksum, and those of
# format 2 no learned class frequencies.
_RECORD_FORMAT = "twostage_jax record 3"
_RECORD_FORMATS = ("twostage_jax record 1", "twostage_jax record 2", _RECORD_FORMAT)
_SUFFIX = ".safetensors"


class StudyFolder:
    """The paths in the folder of a study.

    Attributes:
        path: the folder itself.
        description: `study.json`.
        records: the folder of records.
        images: images that figures show.
        features: features that a figure shows.
        report: the folder of the report.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.description = self.path / "study.json"
        self.records = self.path / "records"
        self.images = self.path / "exhibits" / "images.safetensors"
        self.features = self.path / "exhibits" / "features.safetensors"
        self.report = self.path / "report"

    def record(self, key: RecordKey) -> Path:
        """The path of a record."""
        return self.records / record_path(key)

    def is_done(self, key: RecordKey) -> bool:
        """Whether a record is there and did not fail.

        Raises:
            InputError: it is damaged.
        """
        path = self.record(key)
        return path.exists() and read_record(path).status == "done"


def record_path(key: RecordKey) -> Path:
    """Where a record lies in the folder of records: `linear/ir10/fold0/is_rus.safetensors`."""
    return Path(f"{key}{_SUFFIX}")


def record_key(path: Path) -> RecordKey:
    """The key whose record lies at `path` in the folder of records.

    Raises:
        InputError: no key has that path.
    """
    try:
        scenario, ratio, fold, name = path.parts
        key = RecordKey(
            scenario,
            float(ratio.removeprefix("ir")),
            int(fold.removeprefix("fold")),
            name.removesuffix(_SUFFIX),
        )
    except ValueError as error:  # of the unpacking, the numbers or the key
        raise InputError(f"{path} is not the path of a record: {error}") from error
    if record_path(key) != path:
        raise InputError(f"{path} is not the path of a record; expected {record_path(key)}")
    return key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Description:
    """One study: its settings and data, who worked on it and what it is to cover."""

    settings: dict
    """Every setting that a record depends on, in values that JSON can hold."""
    class_counts: list[int] = dataclasses.field(default_factory=list)
    """Images of each class of the whole image set."""
    source: str = ""
    """One line on where the images came from."""
    commands: list[str] = dataclasses.field(default_factory=list)
    """The command lines that have worked on the study, oldest first."""
    records: list[str] = dataclasses.field(default_factory=list)
    """Paths of the records of all those commands, present or not, in the order of the paper's
    tables; empty where an earlier version made the folder."""
    approaches: dict[str, dict] = dataclasses.field(default_factory=dict)
    """The recipe of each approach of the study (`Approach.to_json`), by name; empty where an
    earlier version made the folder, which knew the paper's only."""
    fit: str = ""
    """The command that fits one approach on all images, with `{approach}` in place of its name;
    empty where no command is known. `study.json` has the field only where it is not empty."""

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings, 64 hexadecimal digits; every record of the study bears it."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def keys(self) -> list[RecordKey]:
        """The keys of `records`.

        Raises:
            InputError: one of them is not the path of a record.
        """
        return [record_key(Path(path)) for path in self.records]

    @property
    def recipes(self) -> dict[str, Approach]:
        """The approaches of the study, as far as the folder tells."""
        return {name: Approach.from_json(name, fields) for name, fields in self.approaches.items()}


def read_description(folder: str | os.PathLike[str]) -> Description | None:
    """Reads the description of a study's folder; None if there is none.

    Raises:
        InputError: the file is damaged, or a newer version wrote it.
        OSError: it cannot be read.
    """
    path = StudyFolder(folder).description
    if not path.exists():
        return None
    known = {field.name for field in dataclasses.fields(Description)}
    try:
        fields = dict(json.loads(path.read_text()))
        number = fields.get("format", 1)
        if isinstance(number, int) and number > FORMAT:
            raise InputError(
                f"{path} has the format {number}, this version reads 1 to {FORMAT}; use the "
                "version that wrote it"
            )
        description = Description(**{name: fields[name] for name in known & fields.keys()})
        _require_types(description, number)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if "use the version" in str(error):
            raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{path} does not describe a study ({reason}); expected one that this "
            "program wrote; name another folder, or delete the file: the same command writes it "
            "anew"
        ) from error
    return description


def _require_types(description: Description, number: object) -> None:
    """Checks the type of every field, and of what lies in it, as far as anything reads it."""
    if isinstance(number, bool) or number not in range(1, FORMAT + 1):
        raise TypeError(f"its format is {number!r}")
    kinds = {"settings": (dict, object), "class_counts": (list, int)}
    kinds |= {"source": (str, str), "fit": (str, str)}
    kinds |= {"commands": (list, str), "records": (list, str), "approaches": (dict, dict)}
    for name, (outer, inner) in kinds.items():
        value = getattr(description, name)
        items = value.values() if isinstance(value, dict) else value
        if not isinstance(value, outer) or not all(isinstance(item, inner) for item in items):
            raise TypeError(f"its {name} is {str(value)[:60]!r}")
    for name, kind in _SETTINGS.items():
        value = description.settings.get(name, kind[0]())
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            raise TypeError(f"its setting {name} is {str(value)[:60]!r}")
    for name, inner in (("classes", str), ("image_size", int)):
        if not all(isinstance(item, inner) for item in description.settings.get(name, [])):
            raise TypeError(f"its setting {name} is {str(description.settings[name])[:60]!r}")
    _ = description.keys, description.recipes


_SETTINGS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("dataset", "fingerprint", "weights"), (str,)),
    **dict.fromkeys(("classes", "image_size"), (list,)),
    **{field.name: (type(field.default),) for field in dataclasses.fields(Protocol)},
    "head_epochs": (int, type(None)),
    **{name: (type(value),) for name, value in Splitting().all_settings.items()},
    **dict.fromkeys(("width", "learning_rate", "decay", "epsilon", "bn_momentum"), (float, int)),
}
"""The types of the settings that JSON gives back; a setting that is not named may have any."""


def write_description(folder: str | os.PathLike[str], description: Description) -> None:
    """Writes the description into a study's folder, which is made if it is missing.

    Raises:
        OSError: it cannot be written; an earlier one is then as it was.
    """
    fields = dataclasses.asdict(description)
    if not description.fit:
        del fields["fit"]  # the file is that of earlier versions, byte for byte
    fields |= {"format": FORMAT, "settings_hash": description.settings_hash}
    text = json.dumps(fields, indent=2) + "\n"
    write_atomically(StudyFolder(folder).description, text.encode())


def write_record(records: str | os.PathLike[str], record: Record) -> Path:
    """Writes a record into the folder of records; an earlier one of the same key is replaced.

    Equal records are equal files, byte for byte. Returns the path written.

    Raises:
        InputError: the settings hold something that JSON cannot.
        OSError: the disk is full, the folder is read-only, ...; no partial file remains.
    """
    fields = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in TENSORS
    }
    fields |= {"format": _RECORD_FORMAT, "key": dataclasses.asdict(record.key)}
    # safetensors takes the bytes of a strided array as they lie in memory, and stores nonsense.
    tensors = {name: np.ascontiguousarray(getattr(record, name)) for name in TENSORS}
    try:
        fields["checksum"] = checksum(tensors, json.dumps(fields, sort_keys=True))
        text = json.dumps(fields, sort_keys=True)
    except TypeError as error:
        raise InputError(
            f"record {record.key}: {error}; expected settings of numbers, strings, lists and "
            "dicts; convert them"
        ) from error
    path = Path(records) / record_path(record.key)
    # One metadata entry: safetensors keeps several in random order, and files would differ.
    write_atomically(path, safetensors.numpy.save(tensors, metadata={"record": text}))
    return path


def read_record(path: str | os.PathLike[str]) -> Record:
    """Reads and validates one record.

    Raises:
        InputError: the file is truncated, damaged (its checksum tells) or is not a record of this
            version.
        OSError: the file is missing or unreadable.
    """
    path = Path(path)
    path.open("rb").close()  # safetensors calls every file that it cannot open missing
    try:
        with safe_open(path, framework="numpy") as file:
            fields = json.loads((file.metadata() or {}).get("record", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (number := fields.get("format")) not in _RECORD_FORMATS:
            raise InputError(f"its format is not '{_RECORD_FORMAT}'")
        stated = fields.pop("checksum") if number != _RECORD_FORMATS[0] else None
        found = checksum(tensors, json.dumps(fields, sort_keys=True))
        del fields["format"]
        fields["key"] = RecordKey(**fields["key"])
        record = Record(**fields, **tensors)
        if stated is not None and stated != found:
            raise InputError("its checksum is another one: the file was altered")
        return record
    # Missing or unknown fields are TypeErrors; bad JSON and InputErrors are ValueErrors.
    except (
        *(SafetensorError, AttributeError, KeyError, TypeError, ValueError),
        *(OverflowError, RecursionError, MemoryError),
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} is not a whole record ({reason}); expected a file that this version wrote; "
            "delete it and run the study again"
        ) from error


def read_records(records: str | os.PathLike[str]) -> list[Record]:
    """Reads every record of a folder of records, sorted by key; hidden files are ignored.

    macOS leaves `._x` beside a file `x` on the disks of other systems, and a killed process its
    temporary files.

    Raises:
        InputError: the folder is missing, a file is not a whole record, or a record lies where
            another one belongs.
        OSError: a file is unreadable.
    """
    folder = Path(records)
    if not folder.is_dir():
        raise InputError(f"found no folder {folder}; expected a study's records; check the path")
    found = []
    for path in _record_files(folder):
        record = read_record(path)
        if path.relative_to(folder) != record_path(record.key):
            raise InputError(
                f"{path} holds the record of {record.key}; expected it at that path; "
                "delete or move the file"
            )
        found.append(record)
    return sorted(found, key=lambda record: record.key)


def _record_files(folder: Path) -> Iterator[Path]:
    """The files of records below a folder; one whose list is refused is an OSError, not empty."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.endswith(_SUFFIX) and not name.startswith("."):
                yield Path(parent, name)
