"""Writing files that are either whole or absent."""

import os
import uuid
from pathlib import Path


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
