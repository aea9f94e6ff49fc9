"""Files that are whole or absent, paths that a user gives, checksums and locks."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np

from twostage_jax.support.errors import InputError
from twostage_jax.support.unfinished import unfinished

# The hidden file that `write_atomically` fills: only its own match.
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")


def checksum(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """SHA-256 of a text and of the names, dtypes, shapes and bytes of arrays, as hexadecimals."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path`, replacing what was there, so that no reader sees half a file.

    It is done as `open_atomically` does it.

    Raises:
        OSError: the disk is full, the folder is read-only, ...; `path` is then as it was before.
    """
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write, which takes the name `path` once all of it is written.

    The bytes go to a hidden file ending in `.tmp` in the same folder (made if it is missing),
    reach the disk, and only then take the name. Several processes may write the same path: the
    last one wins. Where the block raises, the hidden file is removed and `path` stays as it was. A
    process that is killed may leave its `.tmp` file behind, which `remove_temporary` finds.

    Raises:
        OSError: as `write_atomically`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are private to the user, and the rename would keep that.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    unfinished.add(temporary)
    try:
        with open(temporary, "xb") as file:
            _lock(file.fileno())  # tells `remove_temporary` that this process lives
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is told without a name
        raise
    finally:
        unfinished.discard(temporary)


def user_cache() -> Path:
    """The folder of what can be had again, for all of a user's work: `~/.cache/twostage_jax`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "twostage_jax"


def user_path(path: Path, what: str) -> Path:
    """The path with `~` and `~user` expanded.

    Args:
        path: as the user gave it.
        what: the user's name for it, for the error message.

    Raises:
        InputError: there is no such user, or the path is no valid text.
    """
    text = str(path)
    if "\0" in text:
        raise InputError(f"{what} {text!r} has a NUL character, which no path may have; remove it")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} {text!r} is not valid UTF-8 text, which reports need; rename the folder or "
            "choose another"
        ) from None
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError(
            f"{what} {text}: no home folder of {path.parts[0]}; expected a user of this machine: "
            f"write the path in full, or ./{text} for a folder of that name"
        ) from None


def remove_temporary(folder: Path) -> None:
    """Removes the hidden files that killed processes left directly in a folder.

    A file that is being written, a link, or one that this process may not remove stays.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            # A file of this second may be one that is not locked yet.
            if not _TEMPORARY.fullmatch(path.name) or time.time() - path.lstat().st_mtime < 1:
                continue
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if _lock(file):
                        path.unlink()
                finally:
                    os.close(file)


class FileLock:
    """A lock that the system takes back when its process ends, however it ends.

    The file stays behind then, and says who held it. Where the file system knows no locks, every
    process gets it.
    """

    def __init__(self, path: Path, note: Mapping[str, object] | None = None):
        """Takes nothing yet.

        Args:
            path: of the file; a link is refused.
            note: kept in the file, beside the host and the process.
        """
        self.path = path
        self._note = dict(note or {}) | {"host": socket.gethostname(), "process": os.getpid()}
        self._file: int | None = None

    def take(self, wait: bool = False) -> bool:
        """Takes the lock, at once or not at all, or waits for it. The note is written.

        Raises:
            OSError: the file cannot be made.
        """
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            self._file = os.open(self.path, flags, 0o666)
            if _lock(self._file):
                with contextlib.suppress(OSError):
                    # Its holder may have removed the file before this process got the lock.
                    if os.path.samestat(os.fstat(self._file), os.lstat(self.path)):
                        os.ftruncate(self._file, 0)
                        os.pwrite(self._file, json.dumps(self._note).encode(), 0)
                        return True
                self.release()
                continue
            self.release()
            if not wait:
                return False
            time.sleep(0.5)

    def release(self, *, remove: bool = False) -> None:
        """Gives the lock back; with `remove`, the file goes."""
        if self._file is not None:
            if remove:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            os.close(self._file)
            self._file = None


def read_note(path: Path) -> dict:
    """What the last holder of a lock wrote into its file; empty where that cannot be read."""
    try:
        note = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) else {}


def _lock(file: int) -> bool:
    """Locks an open file for this process; False where another one has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
