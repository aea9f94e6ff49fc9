"""The image files that a user names."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from twostage_jax.data.sources.folder import left_out_text, walk
from twostage_jax.support.errors import InputError


class Found(NamedTuple):
    """Files to predict."""

    names: list[str]
    """Paths in the order found; a folder's are sorted by name."""
    left_out: str
    """One line on what lies in folders and is no image; empty where there is nothing."""


def find_files(given: Iterable[str], *, must_exist: bool = True) -> Found:
    """Finds the images of folders, searched deep, and of files, which may have any suffix.

    Links are followed. Hidden files, and what archivers and studies leave behind, are passed over.

    Args:
        given: paths of folders and files.
        must_exist: False takes a path that is not there for a file, which cannot be read later.

    Raises:
        InputError: nothing is given or found, a path is not there, or a folder has no images.
    """
    names: list[str] = []
    left_out: list[tuple[str, str]] = []
    for path in given:
        try:
            is_folder = os.path.isdir(path)
            is_there = os.path.lexists(path)
        except ValueError:  # a NUL character
            is_folder = is_there = False
        if is_folder:
            names += _images_in(path, left_out)
        elif is_there or not must_exist:
            names.append(path)
        else:
            raise InputError(
                f"no file or folder {path!r}; expected images, folders of images, or - for names "
                "from standard input"
            )
    if not names:
        raise InputError("no images to predict; expected at least one: name a file or a folder")
    return Found(names, left_out_text(left_out) if left_out else "")


def names_from(lines: bytes) -> list[str]:
    """The names in what came from standard input, one per line; empty lines are passed over."""
    return [os.fsdecode(line) for line in lines.replace(b"\r\n", b"\n").split(b"\n") if line]


def _images_in(folder: str, left_out: list[tuple[str, str]]) -> Sequence[str]:
    found = walk(Path(folder))
    others = [*found.left_out, *(("folder of a study", path.rstrip("/")) for path in found.own)]
    others = [(kind, str(Path(folder, path))) for kind, path in others]
    if not found.files:
        also = f" ({left_out_text(others)})" if others else ""
        raise InputError(
            f"no images in {folder!r}{also}; expected files that Pillow reads (.jpg, .png, .tif, "
            ".bmp, ...): name another folder, or the files themselves"
        )
    left_out += others
    return [str(Path(folder, file)) for file in found.files]
