"""Claims: which groups this process trains, so that no other process trains them too."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.jobs import Group, pending, record_keys
from twostage_jax.study.litter import lock_path, warn_of_holder
from twostage_jax.support.files import FileLock


class Claim(NamedTuple):
    """A group that this process may train.

    Attributes:
        checkpoints: folder of its checkpoints.
        recorded: whether another process has just recorded it; then nothing is left to train.
    """

    checkpoints: Path
    recorded: bool


class Claims:
    """The groups of a study that this process has taken, each by a lock beside its checkpoints."""

    def __init__(self, folder: StudyFolder, checkpoints: Callable[[Group], Path]):
        """Nothing is taken yet.

        Args:
            folder: of the study.
            checkpoints: gives the folder of a group's checkpoints.
        """
        self._folder = folder
        self._checkpoints = checkpoints
        self._locks: dict[Group, FileLock] = {}
        self._warned = False

    def take(self, group: Group, *, wait: bool = False) -> Claim | None:
        """Takes a group; None where another process trains it. The first time a warning says so.

        Args:
            group: to take.
            wait: whether to wait for that other process.

        Raises:
            InputError: a record is damaged.
            OSError: the lock cannot be made.
        """
        folder = self._checkpoints(group)
        note = {"study": str(self._folder.path.resolve())}
        lock = FileLock(lock_path(folder), note | {"records": [*map(str, record_keys(group))]})
        if not lock.take(wait):
            warn_of_holder(lock.path, said=self._warned)
            self._warned = True
            return None
        self._locks[group] = lock
        recorded = not pending([group], self._folder)
        if recorded:
            self.release(group, done=True)
        return Claim(folder, recorded)

    def release(self, group: Group, *, done: bool = False) -> None:
        """Gives a group back; once its records are written (`done`), its checkpoints go."""
        folder = self._checkpoints(group)
        if done:
            shutil.rmtree(folder, ignore_errors=True)
        if (lock := self._locks.pop(group, None)) is not None:
            lock.release(remove=done or not folder.exists())

    def release_all(self) -> None:
        """Gives back what is left."""
        for group in list(self._locks):
            self.release(group)
