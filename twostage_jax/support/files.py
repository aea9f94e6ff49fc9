"""Writing files that are either whole or absent, and paths that a user gives."""

import os
import uuid
from pathlib import Path

from twostage_jax.support.errors import InputError


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes `data` to `path`, replacing what was there, so that no reader sees half a file.

    The bytes go to a hidden file ending in `.tmp` in the same folder (made if it is missing),
    reach the disk, and only then take the name. Several processes may write the same path: the
    last one wins. A process that is killed may leave its `.tmp` file behind.

    Raises:
        OSError: the disk is full, the folder is read-only, ...; `path` is then as it was before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not `tempfile`: its files are private to the user, and the rename would keep that.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
