"""Checkpoints of networks in training, so that a study may be stopped at any moment."""

from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

Saved = dict[str, np.ndarray]


class Checkpoints:
    """The checkpoint of one group of networks: the last epoch that is done. A context manager."""

    def __init__(self, folder: Path):
        """Opens the folder, which is made if it is missing.

        Args:
            folder: of this group alone.
        """
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *_) -> None:
        """Closes the folder."""
        self._manager.close()

    def restore(self, like: Saved) -> tuple[int, Saved]:
        """How many epochs are done, and what was saved then; 0 and `like` where nothing was.

        Args:
            like: arrays of the shapes and dtypes that were saved.

        Raises:
            OSError: a checkpoint is there and cannot be read.
        """
        epoch = self._manager.latest_step() or 0
        if not epoch:
            return 0, like
        try:
            saved = self._manager.restore(epoch, args=ocp.args.StandardRestore(like))
            return epoch, {name: np.asarray(saved[name]) for name in like}
        except (ValueError, RuntimeError, FileNotFoundError) as error:
            raise OSError(
                f"{self._manager.directory} holds a checkpoint that cannot be read "
                f"({_first_line(error)}); remove that folder to train its networks anew"
            ) from error

    def save(self, epoch: int, saved: Saved) -> None:
        """Saves what is there after some epochs and forgets the checkpoint before it.

        Raises:
            OSError: the file system refuses, for example because the disk is full.
        """
        try:
            self._manager.save(epoch, args=ocp.args.StandardSave(saved))
        except ValueError as error:  # how TensorStore reports what the system refuses
            raise OSError(
                f"{self._manager.directory}: the checkpoint of epoch {epoch} cannot be written "
                f"({_first_line(error)}); make room or name another folder"
            ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
