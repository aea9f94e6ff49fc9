"""Images from one NumPy archive (`.npz`), of anybody's or in the layout of MedMNIST."""

import math
import os
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources.decode import fit_image
from twostage_jax.data.sources.duplicates import settle_duplicates
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path
from twostage_jax.support.text import list_names, printable

_SPLITS = ("train", "val", "test")

_LAYOUT = (
    "expected the arrays images and labels, or train_images, train_labels, val_images, val_labels, "
    "test_images and test_labels: numpy.savez(file, images=images, labels=labels) writes them"
)

# Deflate makes data at most this many times smaller.
_MOST_DEFLATED = 1032

_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, TypeError, KeyError, SyntaxError, OverflowError, MemoryError),
    tokenize.TokenError,
)
"""What reading a damaged or hostile archive raises."""


class _Part(NamedTuple):
    """One pair of arrays in the file.

    Attributes:
        prefix: of the names of its images.
        images: uint8 n x h x w, n x h x w x 1 or n x h x w x 3.
        labels: n integers or texts.
    """

    prefix: str
    images: np.ndarray
    labels: list[int] | list[str]


def read(options: SourceOptions) -> ImageSet:
    """Reads the images of an archive as uint8 n x h x w x 3, named `<class>/<index>`.

    The archive holds `images` and `labels`, or MedMNIST's `train_images`, `train_labels` and the
    same for `val` and `test`; all of these are read, and named `<class>/train/<index>`. Images are
    uint8 n x h x w (grayscale, which is repeated over the channels), n x h x w x 1 or
    n x h x w x 3. Labels are n or n x 1 integers or texts. Classes are called by their labels; an
    array `class_names` gives others, to which integer labels point from 0 up. Pickled arrays are
    never read, and no more memory is taken than the size of the file allows.

    Args:
        options: `data_dir` is the file. Images are fitted to `image_size` as those of files are.

    Raises:
        InputError: no such file, one that is damaged or lacks arrays, arrays of other types or
            shapes, or one picture in two classes.
    """
    if options.data_dir is None:
        raise InputError("dataset 'npz' without a data dir; expected the path of an .npz file")
    path = user_path(options.data_dir, "data dir")
    with _open(path) as archive:
        arrays = {name.removesuffix(".npy") for name in archive.namelist()}
        parts = [
            _read_part(archive, path, prefix, options.max_pixels)
            for prefix in _prefixes(arrays, path)
        ]
        given = _read(archive, path, "class_names") if "class_names" in arrays else None
    texts = None if given is None else _as_list(given, path, "class_names")
    found = [label for part in parts for label in part.labels]
    class_names, labels = _classes(found, texts, path)
    images = _fitted(parts, options.image_size, path)
    indices = [f"{part.prefix}{row:06d}" for part in parts for row in range(len(part.labels))]
    names = [f"{class_names[own]}/{index}" for own, index in zip(labels, indices, strict=True)]
    keep = settle_duplicates(images, labels, names, options.duplicates)
    if not keep.all():
        images, labels = images[keep], labels[keep]
        names = [name for name, kept in zip(names, keep, strict=True) if kept]
    return ImageSet.create(
        images=images,
        labels=labels,
        class_names=class_names,
        names=names,
        source=f"NumPy archive {path.name}",
    )


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise InputError(f"no file {path}; expected the path of an .npz file") from None
    except IsADirectoryError:
        raise InputError(
            f"{path} is a folder; expected the path of an .npz file (or choose dataset 'folder')"
        ) from None
    except _DAMAGED as error:
        raise InputError(f"{path} is no .npz file ({_reason(error)}); {_LAYOUT}") from None


def _prefixes(arrays: set[str], path: Path) -> list[str]:
    """`""`, or those of `train_`, `val_` and `test_` that are in the file."""
    splits = [f"{split}_" for split in _SPLITS if {f"{split}_images", f"{split}_labels"} & arrays]
    whole = bool({"images", "labels"} & arrays)
    chosen = ["", *splits] if whole else splits
    missing = [f"{own}{kind}" for own in chosen for kind in ("images", "labels")]
    missing = [name for name in missing if name not in arrays]
    if not chosen or missing or (whole and splits):
        holds = f"holds the arrays {list_names(sorted(arrays))}" if arrays else "is empty"
        raise InputError(f"{path} {holds}; {_LAYOUT}")
    return chosen


def _read_part(archive: zipfile.ZipFile, path: Path, prefix: str, max_pixels: int) -> _Part:
    name = f"{prefix}images"
    shape, dtype = _header(archive, path, name)
    if dtype != np.uint8:
        raise InputError(
            f"{path}: {name} are {dtype}; expected uint8 from 0 to 255: scale and round them, such "
            "as numpy.rint(255 * images).astype('uint8') for values from 0 to 1"
        )
    if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) or 0 in shape:
        raise InputError(
            f"{path}: {name} have shape {shape}; expected n x height x width (grayscale) or "
            "n x height x width x 3 (RGB): move the axes, or leave out what is neither"
        )
    if shape[1] * shape[2] > max_pixels:
        raise InputError(
            f"{path}: {name} have {shape[2]}x{shape[1]} pixels each, at most {max_pixels:,} pixels "
            "expected; scale them down, or raise --max-pixels"
        )
    labels = _as_list(_read(archive, path, f"{prefix}labels"), path, f"{prefix}labels")
    if len(labels) != shape[0]:
        raise InputError(
            f"{path}: {shape[0]} {name} and {len(labels)} {prefix}labels; expected one label each"
        )
    return _Part(prefix.replace("_", "/"), _read(archive, path, name), labels)


def _header(archive: zipfile.ZipFile, path: Path, name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, which the file is large enough for.

    Raises:
        InputError: it is not, or it is no array that can be read without pickle.
    """
    try:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"its format is {version[0]}.{version[1]}")
            read = np.lib.format.read_array_header_1_0
            read = np.lib.format.read_array_header_2_0 if version == (2, 0) else read
            shape, _, dtype = read(file)
            start = file.tell()
    except _DAMAGED as error:
        raise _damaged(path, name, error) from None
    if dtype.hasobject:
        raise InputError(
            f"{path}: {name} holds Python objects, which only pickle could read; expected numbers "
            "or texts: save numpy.array(values.tolist()) in its place"
        )
    most = member.compress_size
    if member.compress_type != zipfile.ZIP_STORED:
        most = most * _MOST_DEFLATED + 64
    said = math.prod(shape) * dtype.itemsize
    there = min(member.file_size, most) if member.compress_size <= os.path.getsize(path) else 0
    if min((*shape, 0)) < 0 or said != there - start:
        raise _damaged(path, name, f"its header says {shape} of {dtype}, the file holds other data")
    return shape, dtype


def _read(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    _header(archive, path, name)
    try:
        with archive.open(f"{name}.npy") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGED as error:
        raise _damaged(path, name, error) from None


def _damaged(path: Path, name: str, error: Exception | str) -> InputError:
    reason = error if isinstance(error, str) else _reason(error)
    return InputError(
        f"{path}: {name} cannot be read ({reason}); expected an intact array of numpy.savez: "
        "get the file again"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return printable(" ".join(str(error).split()))[:150] or type(error).__name__


def _as_list(values: np.ndarray, path: Path, name: str) -> list[int] | list[str]:
    """One integer or text per image, of n or n x 1."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iuUS":
        raise InputError(
            f"{path}: {name} are {values.dtype} of shape {values.shape}; expected n or n x 1 "
            "integers or texts, one class each"
        )
    if values.dtype.kind != "S":
        return values.tolist()
    try:
        return [text.decode() for text in values.tolist()]
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: {name} are not UTF-8; expected texts: save them as such"
        ) from None


def _classes(
    found: Sequence[int | str], names: Sequence[int | str] | None, path: Path
) -> tuple[list[str], Int32[np.ndarray, " n"]]:
    """The names of the classes, and the position of each label's class among them."""
    values = set(found)
    if len({type(value) for value in values}) > 1:
        raise InputError(f"{path}: labels are integers and texts; expected one of the two")
    known = sorted(values) if names is None else list(names)  # pyright: ignore[reportArgumentType]
    if names is not None and all(isinstance(value, int) for value in values):
        known = list(range(len(names)))
    position = {value: index for index, value in enumerate(known)}
    if unknown := sorted(str(value) for value in values - position.keys()):
        raise InputError(
            f"{path}: labels {list_names(unknown)} have no name among the {len(known)} "
            f"class_names; expected 0 to {len(known) - 1}, or one of the names"
        )
    labels = np.array([position[value] for value in found], np.int32)
    return [str(name) for name in (known if names is None else names)], labels


def _fitted(parts: Sequence[_Part], side: int | None, path: Path) -> UInt8[np.ndarray, "n h w 3"]:
    """All images as RGB of one size."""
    sizes = {part.images.shape[1:3] for part in parts}
    if side is None and len(sizes) > 1:
        raise InputError(
            f"{path} holds images of {len(sizes)} sizes (height x width: "
            f"{', '.join(f'{h}x{w}' for h, w in sorted(sizes))}); expected one: set an image size, "
            "to which all are fitted"
        )
    shape = (side, side) if side else sizes.pop()
    if len(parts) == 1 and parts[0].images.shape[1:] == (*shape, 3):
        return np.ascontiguousarray(parts[0].images)
    images = np.empty((sum(len(part.labels) for part in parts), *shape, 3), np.uint8)
    start = 0
    for part in parts:
        own = part.images if part.images.ndim == 4 else part.images[..., None]
        target = images[start : (start := start + len(own))]
        if own.shape[1:3] == shape:
            target[:] = own
            continue
        _resize(own, target)
    return images


def _resize(images: np.ndarray, target: UInt8[np.ndarray, "n side side 3"]) -> None:
    def fit(row: int) -> None:
        rgb = np.broadcast_to(images[row], (*images.shape[1:3], 3))
        square = fit_image(Image.fromarray(np.ascontiguousarray(rgb)), target.shape[1])
        target[row] = np.asarray(square)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fit, range(len(images))):
            pass
