"""The files of a report on disk: written whole, listed, and removed only where they are its own."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

LIST = "drawn-files.json"
"""The list of the files that a drawing wrote, by name, each with the SHA-256 of its bytes."""


def require_inside(report: Path, names: Iterable[str] = ()) -> None:
    """Checks that neither a report's folder nor its files lead out of the study's folder.

    Args:
        report: the report's folder, in the study's folder; it need not be there.
        names: names of files that are to be written into it.

    Raises:
        InputError: a symbolic link does.
    """
    study = os.path.realpath(report.parent)
    for path in (report, *(report / name for name in (*names, LIST))):
        real = os.path.realpath(path)
        if os.path.commonpath([study, real]) != study:
            raise InputError(
                f"{path} is a symbolic link that leads out of the study's folder, to {real}; "
                "expected a report in the study's folder; remove the link"
            )


def publish(report: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files of a report and removes what an earlier drawing left and no user changed.

    A page is written last, which makes its figures never older than the page. A folder without a
    list, which an earlier version may have drawn, loses nothing.

    Args:
        report: the report's folder; made if it is missing.
        files: bytes by name.

    Raises:
        InputError: as `require_inside`.
        OSError: the disk is full, the folder is read-only, ...; each file is whole or untouched.
    """
    require_inside(report, files)
    before = _read_list(report / LIST)
    drawn = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    # All that may be there is listed before it is: a killed process leaves no file unlisted.
    _write_list(report / LIST, before | drawn)
    for name in sorted(files, key=lambda name: name.endswith(".html")):
        write_atomically(report / name, files[name])
    for name in before.keys() - drawn.keys():
        path = report / name
        if _is_unchanged(path, before[name]):
            path.unlink(missing_ok=True)
    _write_list(report / LIST, drawn)


def _read_list(path: Path) -> dict[str, str]:
    """Returns the listed names that are those of files in this folder; none of a damaged list."""
    try:
        listed = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    if not isinstance(listed, dict):
        return {}
    return {
        name: digest
        for name, digest in listed.items()
        if name == os.path.basename(name) and name.endswith((".svg", ".csv", ".html"))
        if isinstance(digest, str)
    }


def _write_list(path: Path, drawn: Mapping[str, str]) -> None:
    text = json.dumps(drawn, indent=1, sort_keys=True)
    write_atomically(path, f"{text}\n".encode())


def _is_unchanged(path: Path, digest: str) -> bool:
    """Whether it is a file of its own, no link, with the bytes that were drawn."""
    try:
        whole = not path.is_symlink() and path.is_file()
        return whole and hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:  # what cannot be read is not known to be ours
        return False
