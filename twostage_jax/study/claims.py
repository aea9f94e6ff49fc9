"""Claims: which groups this process trains, so that no other process trains them too."""

import shutil
from collections.abc import Callable
from pathlib import Path

from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.jobs import Group, pending, record_keys
from twostage_jax.study.litter import lock_path, warn_of_holder
from twostage_jax.support.files import FileLock


class Claims:
    """The groups of a study that this process has taken, each by a lock beside its checkpoints.

    Attributes:
        wait: whether to wait for a group that another process trains.
        held: groups that were refused because another process trains them.
        recorded: groups that were refused because another process has just recorded them.
    """

    def __init__(self, folder: StudyFolder, checkpoints: Callable[[Group], Path]):
        """Nothing is taken yet.

        Args:
            folder: of the study.
            checkpoints: gives the folder of a group's checkpoints.
        """
        self.wait = False
        self.held: list[Group] = []
        self.recorded: list[Group] = []
        self._folder = folder
        self._checkpoints = checkpoints
        self._locks: dict[Group, FileLock] = {}

    def take(self, group: Group) -> Path | None:
        """Takes a group and returns the folder of its checkpoints; None where it is refused.

        Raises:
            InputError: a record is damaged.
            OSError: the lock cannot be made.
        """
        folder = self._checkpoints(group)
        note = {"study": str(self._folder.path.resolve())}
        lock = FileLock(lock_path(folder), note | {"records": [*map(str, record_keys(group))]})
        if not lock.take(self.wait):
            warn_of_holder(lock.path, said=bool(self.held))
            self.held.append(group)
            return None
        self._locks[group] = lock
        if not pending([group], self._folder):
            self.release(group, done=True)
            self.recorded.append(group)
            return None
        return folder

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
