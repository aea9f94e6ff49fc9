"""The hidden files that this process is writing, to be removed by whoever ends it early."""

from contextlib import suppress
from pathlib import Path

unfinished: set[Path] = set()
"""Files that will take their name, or be removed, by the one that writes them."""


def remove_unfinished() -> None:
    """Removes these files, for a process that is about to end without raising anything."""
    for path in list(unfinished):
        with suppress(OSError):
            path.unlink()
