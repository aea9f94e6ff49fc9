"""Locks of groups in training, and what killed processes leave behind."""

import contextlib
import os
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

from twostage_jax.study.folder import StudyFolder, record_key
from twostage_jax.study.record import RecordKey
from twostage_jax.support.files import FileLock, read_note, remove_temporary


def lock_path(checkpoints: Path) -> Path:
    """The lock of a group lies beside its checkpoints, which may be removed while it is held."""
    return checkpoints.with_suffix(".lock")


def warn_of_holder(path: Path, said: bool) -> None:
    """Warns that another process trains a group, unless that was `said` before."""
    if not said:
        note = read_note(path)
        warnings.warn(
            f"process {note.get('process', '?')} on {note.get('host', 'another machine')} trains "
            "networks of this command (its lock is "
            f"{path}); this process takes the others, then waits for it",
            stacklevel=4,
        )


def remove_litter(folder: StudyFolder, checkpoints: Path, finished: Iterable[Path]) -> None:
    """Removes temporary files of a study, and checkpoints that nobody needs any more.

    What a living process holds stays, as does everything that lies behind a symbolic link.

    Args:
        folder: of the study.
        checkpoints: folder of the checkpoints of all groups in training.
        finished: checkpoint folders of groups whose records are all there.
    """
    folders = [folder.path, folder.images.parent, folder.report, folder.records]
    folders += [Path(parent, name) for parent, own, _ in os.walk(folder.records) for name in own]
    for each in folders:
        if each == folder.path or not each.is_symlink():
            remove_temporary(each)
    useless = {lock_path(own) for own in finished if own.exists()}
    for path, note in _own_locks(folder, checkpoints):
        if not note and not path.with_suffix("").exists():
            useless.add(path)
        keys = _noted_keys(folder, note)
        if keys is not None and all(map(folder.is_done, keys)):
            useless.add(path)
    for path in useless:
        with contextlib.suppress(OSError):
            lock = FileLock(path)
            if lock.take():
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                lock.release(remove=True)


def groups_in_flight(folder: StudyFolder, checkpoints: Path) -> set[frozenset[RecordKey]]:
    """The keys of the records of each group of a study that has a checkpoint to go on from.

    Args:
        folder: of the study.
        checkpoints: folder of the checkpoints of all groups in training.
    """
    noted = (
        _noted_keys(folder, note)
        for path, note in _own_locks(folder, checkpoints)
        if path.with_suffix("").is_dir()
    )
    return {frozenset(keys) for keys in noted if keys}


def _own_locks(folder: StudyFolder, checkpoints: Path) -> Iterator[tuple[Path, dict]]:
    """The locks that bear the name of a study, and the note in each."""
    own_name = re.compile(re.escape(folder.path.name) + r"-[0-9a-f]{16}\.lock")
    for path in checkpoints.glob("*.lock"):
        if own_name.fullmatch(path.name) and not path.is_symlink():
            yield path, read_note(path)


def _noted_keys(folder: StudyFolder, note: dict) -> list[RecordKey] | None:
    """The keys of the records that a lock's note names; None where it is not this study's."""
    records = note.get("records")
    if note.get("study") != str(folder.path.resolve()) or not isinstance(records, list):
        return None
    return [record_key(Path(f"{key}.safetensors")) for key in records]
