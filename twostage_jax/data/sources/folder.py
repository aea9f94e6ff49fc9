"""Images from a folder that holds one sub-folder per class."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int32, Integer

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources.decode import decode, decode_all, image_suffixes
from twostage_jax.data.sources.duplicates import settle_duplicates
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path
from twostage_jax.support.text import list_names, printable

__all__ = [
    "Listing",
    "Walk",
    "decode",
    "left_out_text",
    "list_images",
    "load",
    "make_image_set",
    "read",
    "read_classes",
    "subfolders",
    "walk",
]

# Folders of these names hold classes, and are none.
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}

# What a study keeps in its folder; `study.json` tells that it is one.
_STUDY = "study.json"
_STUDY_FOLDERS = ("records", "report")

_DEAD_LINK = "dead link"
_LOOSE = "image beside the class folders"


class Listing(NamedTuple):
    """The images of a folder of class folders, in the order of classes and names."""

    root: Path
    """The folder that holds the class folders."""
    class_names: tuple[str, ...]
    """The class folders, sorted by name."""
    paths: list[Path]
    """The file of each image."""
    names: list[str]
    """Its path below `root`."""
    labels: Int32[np.ndarray, " n"]
    """The position of its class in `class_names`."""

    @property
    def root_name(self) -> str:
        """What the folder is called; that of `.` is the folder which it stands for."""
        return Path(os.path.abspath(self.root)).name or str(self.root)


def read(options: SourceOptions) -> ImageSet:
    """Reads `data_dir/<class>/.../<image>` as uint8 n x h x w x 3.

    Classes are the sub-folders, sorted by name. Their own sub-folders are searched, and an image's
    name is its path below `data_dir`. Hidden files are passed over; other files that are no
    images, dead links and a study's own folders are left out with a warning. If `data_dir` holds a
    single folder with the classes in it, as unpacked archives often do, that folder is read
    instead.

    Args:
        options: `data_dir` is the folder. `decode` says how images are fitted to `image_size`;
            None keeps the size of the files, which must then be the same for all.

    Raises:
        InputError: no such folder, no classes or only one, a class without images, images that
            cannot be read or that differ in size while `image_size` is None, or one picture in
            two classes.
    """
    listing = list_images(options)
    return _decoded(listing, f"folder {listing.root_name}", options)


def list_images(options: SourceOptions) -> Listing:
    """Lists what `read` would read, without opening any image; `read` says how it is found.

    Raises:
        InputError: no such folder, no classes or only one, or a class without images.
    """
    if options.data_dir is None:
        raise InputError(
            "dataset 'folder' without a data dir; expected a folder of class folders: pass its path"
        )
    root, class_names = _find_classes(user_path(options.data_dir, "data dir"), options)
    return _list_classes(root, class_names, class_names, options)


def load(data_dir: Path, image_size: int | None, **options: Any) -> ImageSet:
    """Reads a folder as `read` does; `options` are further fields of `SourceOptions`."""
    return read(SourceOptions(data_dir, image_size, **options))


def read_classes(
    root: Path,
    *,
    folders: Sequence[str],
    class_names: Sequence[str],
    source: str,
    options: SourceOptions,
) -> ImageSet:
    """Reads the images of the given sub-folders of `root`, one per class, as `read` does.

    Args:
        root: the folder that holds `folders`.
        folders: the sub-folder of each class.
        class_names: what to call each class, in the same order. Images are named
            `<class name>/<path in the sub-folder>`.
        source: the image set's `source`.
        options: as in `read`.
    """
    return _decoded(_list_classes(root, folders, class_names, options), source, options)


def _list_classes(
    root: Path, folders: Sequence[str], class_names: Sequence[str], options: SourceOptions
) -> Listing:
    walks = [walk(root / folder, options.leave_out) for folder in folders]
    left_out = _beside(root) if root == options.data_dir or len(folders) > 1 else []
    paths, names, labels = [], [], []
    for label, (folder, name, found) in enumerate(zip(folders, class_names, walks, strict=True)):
        left_out += [(kind, f"{name}/{path}") for kind, path in found.left_out]
        paths += [root / folder / file for file in found.files]
        names += [f"{name}/{file}" for file in found.files]
        labels += [label] * len(found.files)
    if left_out:
        warnings.warn(left_out_text(left_out), stacklevel=3)
    for folder, found in zip(folders, walks, strict=True):
        if not found.files:
            raise InputError(_no_images(root / folder))
    return Listing(root, tuple(class_names), paths, names, np.array(labels, np.int32))


def _decoded(listing: Listing, source: str, options: SourceOptions) -> ImageSet:
    return make_image_set(
        listing.paths,
        labels=listing.labels,
        class_names=listing.class_names,
        names=listing.names,
        source=source,
        options=options,
    )


def make_image_set(
    encoded: Sequence[Path | bytes],
    *,
    labels: Integer[np.ndarray, " n"],
    class_names: Sequence[str],
    names: Sequence[str],
    source: str,
    options: SourceOptions,
) -> ImageSet:
    """Decodes images and makes an image set of those that the options keep.

    Args:
        encoded: the file, or the file's content, of each image.
        labels, class_names, names, source: as in `ImageSet`.
        options: what to do with images that are unreadable, too large or there twice.

    Raises:
        InputError: as `read`.
    """
    images, read_rows = decode_all(encoded, names=names, options=options)
    labels, names = labels[read_rows], [names[row] for row in read_rows]
    keep = settle_duplicates(images, labels, names, options.duplicates)
    if not keep.all():
        images, labels = images[keep], labels[keep]
        names = [name for name, kept in zip(names, keep, strict=True) if kept]
    return ImageSet.create(
        images=images, labels=labels, class_names=class_names, names=names, source=source
    )


def subfolders(root: Path) -> list[str]:
    """Sorted names of the sub-folders, without hidden ones and what archivers leave behind.

    Raises:
        InputError: no such folder, not a folder, or not readable.
    """
    return [entry.name for entry in _entries(root) if _kind(entry) == "folder"]


def is_image_name(file: str) -> bool:
    """Whether a file of this name is read: an image by its suffix, and not hidden."""
    return file.lower().endswith(image_suffixes()) and not file.startswith(".")


@dataclass
class Walk:
    """What a folder holds, with paths below it."""

    files: list[str] = field(default_factory=list)
    """The images, in the order of their names, a folder's files and sub-folders together."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Kind and path of each file that is left out."""
    own: list[str] = field(default_factory=list)
    """The folders of studies, which are not searched."""


def walk(folder: Path, leave_out: Sequence[Path] = ()) -> Walk:
    """Searches a folder and its sub-folders, links followed, without reading any image.

    Args:
        folder: the folder.
        leave_out: folders that are not searched. A study's own are passed over without being named.

    Raises:
        InputError: it, or a folder in it, is not there or not readable.
    """
    found = Walk()
    resolved = {path.resolve() for path in leave_out}

    def visit(current: Path, prefix: str, above: frozenset[tuple[int, int]]) -> None:
        if current.resolve() in resolved or (current / _STUDY).exists():
            found.own.append(prefix)
            return
        status = current.stat()
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link to a folder above, which would be searched without end
            found.left_out.append(("link to a folder above", prefix.rstrip("/")))
            return
        for entry in _entries(current):
            kind = _kind(entry)
            if kind == "folder":
                visit(current / entry.name, f"{prefix}{entry.name}/", above | {identity})
            elif kind == "file" and is_image_name(entry.name):
                found.files.append(prefix + entry.name)
            elif kind == "file":
                suffix = os.path.splitext(entry.name)[1].lower()
                found.left_out.append((suffix or "file without a suffix", prefix + entry.name))
            elif kind is not None:
                found.left_out.append((kind, prefix + entry.name))

    visit(folder, "", frozenset())
    return found


def _kind(entry: os.DirEntry) -> str | None:
    """What an entry is, links followed; None for a folder that archivers leave behind."""
    try:
        if entry.is_dir():
            return None if entry.name == "__MACOSX" else "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself, or into a folder that may not be read
        return _DEAD_LINK
    # Opening a pipe would wait for another program.
    return _DEAD_LINK if entry.is_symlink() and not os.path.exists(entry) else "special file"


def _beside(root: Path) -> list[tuple[str, str]]:
    """Kind and name of the images and dead links that lie beside the class folders."""
    kinds = [(_kind(entry), entry.name) for entry in _entries(root)]
    loose = [(_LOOSE, name) for kind, name in kinds if kind == "file" and is_image_name(name)]
    return loose + [(_DEAD_LINK, name) for kind, name in kinds if kind == _DEAD_LINK]


def left_out_text(left_out: Sequence[tuple[str, str]]) -> str:
    """`12 files left out: 9 .txt, 3 dead links (such as a/notes.txt, b/gone.png)`."""
    counts = Counter(kind for kind, _ in left_out)
    order = sorted(counts, key=lambda kind: (-counts[kind], kind))
    shown = [f"{counts[kind]} {_plural(kind, counts[kind])}" for kind in order]
    # One file of each kind, and all that should have been images.
    first = dict(reversed(left_out))
    names = [path for kind, path in left_out if kind in (_DEAD_LINK, _LOOSE) or first[kind] == path]
    names.sort(key=lambda path: path not in first.values())
    number = f"{len(left_out)} file{'s' if len(left_out) > 1 else ''} left out"
    return f"{number}: {', '.join(map(printable, shown))} (such as {list_names(names)})"


def _plural(kind: str, count: int) -> str:
    if count == 1 or kind.startswith("."):
        return kind
    noun, *rest = kind.split(" ")
    if kind in (_DEAD_LINK, "special file"):
        return f"{kind}s"
    return " ".join([f"{noun}s", *rest])


def _find_classes(root: Path, options: SourceOptions) -> tuple[Path, list[str]]:
    """The folder that holds the class folders, and their sorted names."""
    class_names = _class_folders(root, options)
    if len(class_names) == 1 and not _direct_images(root / class_names[0]):
        inner = _class_folders(root / class_names[0], options)
        if len(inner) > 1:
            root, class_names = root / class_names[0], inner
    if not class_names:
        raise InputError(
            f"no sub-folders in {root}; expected one sub-folder per class, with its images in it"
            + (f" ({len(files)} images lie loose)" if (files := _direct_images(root)) else "")
        )
    if len(class_names) == 1:
        raise InputError(
            f"only one class, {class_names[0]}, in {root}; expected a sub-folder for each of at "
            "least two classes"
        )
    if _SPLITS.issuperset(name.lower() for name in class_names):
        for name in class_names:
            if subfolders(root / name) and not _direct_images(root / name):
                raise InputError(_no_images(root / name))
    return root, class_names


def _class_folders(root: Path, options: SourceOptions) -> list[str]:
    """The sub-folders that may be classes; those that hold nothing but studies are said."""
    names, own = [], []
    in_study = (root / _STUDY).exists() or root.resolve() in {
        p.resolve() for p in options.leave_out
    }
    for name in subfolders(root):
        if in_study and name in _STUDY_FOLDERS:
            own.append(name)
            continue
        found = walk(root / name, options.leave_out)
        own += [f"{name}/{path}".rstrip("/") for path in found.own]
        if found.files or not found.own:
            names.append(name)
    if own:
        warnings.warn(
            f"left out {list_names(own)} in {printable(str(root))}: a study's own folders are no "
            "classes",
            stacklevel=4,
        )
    return names


def _direct_images(folder: Path) -> list[str]:
    entries = _entries(folder)
    return [e.name for e in entries if is_image_name(e.name) and _kind(e) == "file"]


def _entries(folder: Path) -> list[os.DirEntry]:
    """The entries of the folder that are not hidden, sorted by name."""
    try:
        with os.scandir(folder) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        raise InputError(f"no folder {folder}; expected a folder of class folders") from None
    except NotADirectoryError:
        raise InputError(
            f"{folder} is a file; expected a folder of class folders (unpack an archive first)"
        ) from None
    except OSError as error:
        raise InputError(f"cannot list {folder}: {error.strerror}; check its permissions") from None
    return sorted(visible, key=lambda entry: entry.name)


def _no_images(folder: Path) -> str:
    inner = subfolders(folder)
    hint = (
        f"it holds sub-folders ({list_names(inner)}): is {folder} the folder to pass?"
        if inner
        else "remove it if it is not a class"
    )
    return (
        f"no images in {folder}; expected files that Pillow reads (.jpg, .png, .tif, .bmp, ...); "
        f"{hint}"
    )
