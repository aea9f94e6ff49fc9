"""The description of a study's folder, `study.json`: what its records do not say of the whole."""

import dataclasses
import hashlib
import json
from pathlib import Path

from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

_NAME = "study.json"


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

    @property
    def settings_hash(self) -> str:
        """SHA-256 of the settings, 64 hexadecimal digits; every record of the study bears it."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def read_description(folder: Path) -> Description | None:
    """Reads the description of a study's folder; None if there is none.

    Raises:
        InputError: the file is damaged.
        OSError: it cannot be read.
    """
    path = folder / _NAME
    if not path.exists():
        return None
    known = {field.name for field in dataclasses.fields(Description)}
    try:
        fields = dict(json.loads(path.read_text()))
        if not isinstance(fields["settings"], dict):
            raise TypeError("its settings are not a table")
        return Description(**{name: fields[name] for name in known & fields.keys()})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not describe a study ({error}); expected one that this program wrote; "
            "name another folder"
        ) from error


def write_description(folder: Path, description: Description) -> None:
    """Writes the description into a study's folder, made if it is missing.

    Raises:
        OSError: it cannot be written; an earlier one is then as it was.
    """
    fields = dataclasses.asdict(description) | {"settings_hash": description.settings_hash}
    write_atomically(folder / _NAME, (json.dumps(fields, indent=2) + "\n").encode())
