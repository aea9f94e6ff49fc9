"""Checkpoints of networks in training, so that a study may be stopped at any moment."""

import contextlib
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from twostage_jax.support.files import checksum

Saved = dict[str, np.ndarray]

_CHECKSUM = "checksum"


class Checkpoints:
    """The checkpoint of one group of networks: the last epoch that is done. A context manager."""

    def __init__(self, folder: Path):
        """Opens the folder, which is made if it is missing.

        Args:
            folder: of this group alone.
        """
        self._folder = folder
        self._open()

    def _open(self) -> None:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self._folder.resolve(), options=options)

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(self, *_) -> None:
        """Closes the folder."""
        self._manager.close()

    def restore(self, like: Saved, epochs: int | None = None) -> tuple[int, Saved]:
        """How many epochs are done, and what was saved then; 0 and `like` where nothing was.

        A checkpoint that does not match its checksum, the shapes and dtypes of `like`, or the
        number of epochs is removed with a warning: it counts as none.

        Args:
            like: arrays of the shapes and dtypes that were saved.
            epochs: the last epoch that there can be; None for any.

        Raises:
            OSError: the checkpoint cannot be opened, or a damaged one cannot be removed.
        """
        epoch = self._manager.latest_step() or 0
        if not epoch:
            return 0, like
        try:
            if epochs is not None and epoch > epochs:
                raise ValueError(f"epoch {epoch} found, at most {epochs} expected")
            with _late_reports_passed_over():
                return epoch, self._read(epoch, like)
        except PermissionError:
            raise
        except Exception as error:  # damaged bytes make Orbax raise anything
            warnings.warn(
                f"{self._folder}: the checkpoint of epoch {epoch} does not match or is damaged "
                f"({_first_line(error)}); it is discarded, and its networks are trained anew",
                stacklevel=2,
            )
        with contextlib.suppress(Exception):
            self._manager.close()
        shutil.rmtree(self._folder)
        self._open()
        return 0, like

    def _read(self, epoch: int, like: Saved) -> Saved:
        """The arrays of a checkpoint.

        Orbax may cut, pad or cast what is stored to `like`, or leave it; shapes and checksum tell.

        Raises:
            Exception: anything, where the checkpoint is damaged.
        """
        arguments = ocp.args.StandardRestore(like | {_CHECKSUM: np.zeros(32, np.uint8)})
        restored = self._manager.restore(epoch, args=arguments)
        saved = {name: np.asarray(restored[name]) for name in like}
        for name, array in like.items():
            if (found := saved[name]).shape != array.shape or found.dtype != array.dtype:
                raise ValueError(f"'{name}' has shape {found.shape}, {array.shape} expected")
        if bytes(np.asarray(restored[_CHECKSUM])) != _digest(epoch, saved):
            raise ValueError("its checksum is another one")
        return saved

    def save(self, epoch: int, saved: Saved) -> None:
        """Saves what is there after some epochs and forgets the checkpoint before it.

        Raises:
            OSError: the file system refuses, for example because the disk is full.
        """
        digest = np.frombuffer(_digest(epoch, saved), np.uint8)
        try:
            arguments = ocp.args.StandardSave(saved | {_CHECKSUM: digest})
            with _late_reports_passed_over():
                self._manager.save(epoch, args=arguments)
        except ValueError as error:  # how TensorStore reports what the system refuses
            raise OSError(
                f"{self._manager.directory}: the checkpoint of epoch {epoch} cannot be written "
                f"({_first_line(error)}); make room or name another folder"
            ) from error


def _digest(epoch: int, saved: Saved) -> bytes:
    """SHA-256 of the arrays and of the epoch, which stands in a folder's name only."""
    return bytes.fromhex(checksum(saved, str(epoch)))


@contextlib.contextmanager
def _late_reports_passed_over() -> Iterator[None]:
    """Prints no traceback where TensorStore's threads report to an event loop that has given up.

    They may do so long after a failure, so that only success puts the earlier hook back.
    """
    before = sys.unraisablehook

    def hook(unraisable) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            before(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
