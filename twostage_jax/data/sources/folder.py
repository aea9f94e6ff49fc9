"""Images from a folder that holds one sub-folder per class."""

import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".tif", ".tiff")

# How many names an error message lists before it stops at a count.
_NAMES_SHOWN = 5


def read(options: SourceOptions) -> ImageSet:
    """The source `folder`, see `load`."""
    if options.data_dir is None:
        raise InputError(
            "dataset 'folder' without a data dir; expected a folder of class folders: pass its path"
        )
    return load(options.data_dir, options.image_size)


def load(data_dir: Path, image_size: int | None) -> ImageSet:
    """Reads `data_dir/<class>/<image>` as uint8 n x h x w x 3.

    Classes are the sub-folders, sorted by name; an image's name is `<class>/<file>`. Hidden
    files, files without a suffix of JPEG, PNG or TIFF, and sub-folders of a class are ignored. If
    `data_dir` holds a single folder with the classes in it, as unpacked archives often do, that
    folder is read instead.

    Args:
        data_dir: the folder.
        image_size: side of the square images returned, in pixels; None keeps the size of the
            files, which must then be the same for all. `decode` says how images are fitted.

    Raises:
        InputError: no such folder, no classes or only one, a class without images, images that
            cannot be read, or that differ in size while `image_size` is None.
    """
    root, class_names = _find_classes(data_dir.expanduser())
    return read_classes(
        root,
        folders=class_names,
        class_names=class_names,
        image_size=image_size,
        source=f"folder {root.name or root}",
    )


def read_classes(
    root: Path,
    *,
    folders: Sequence[str],
    class_names: Sequence[str],
    image_size: int | None,
    source: str,
) -> ImageSet:
    """Reads the images of the given sub-folders of `root`, one per class, as `load` does.

    Args:
        root: the folder that holds `folders`.
        folders: the sub-folder of each class.
        class_names: what to call each class, in the same order. Images are named
            `<class name>/<file>`.
        image_size: as in `load`.
        source: the image set's `source`.
    """
    paths, names, labels = [], [], []
    for label, (folder, class_name) in enumerate(zip(folders, class_names, strict=True)):
        files = _image_files(root / folder)
        if not files:
            raise InputError(_no_images(root / folder))
        paths += [root / folder / file for file in files]
        names += [f"{class_name}/{file}" for file in files]
        labels += [label] * len(files)
    return ImageSet.create(
        images=decode_all(paths, names=names, image_size=image_size),
        labels=np.array(labels, np.int32),
        class_names=class_names,
        names=names,
        source=source,
    )


def decode_all(
    encoded: Sequence[Path | bytes], *, names: Sequence[str], image_size: int | None
) -> UInt8[np.ndarray, "n h w 3"]:
    """Decodes images in threads; Pillow releases Python's lock while it decodes.

    Args:
        encoded: the file, or the file's content, of each image; at least one.
        names: what to call each image in an error message.
        image_size: as in `load`.

    Raises:
        InputError: images cannot be decoded, or differ in size from the first while `image_size`
            is None. All images are tried; the message names the first few.
    """
    with ThreadPoolExecutor() as pool:
        decoded: list[Any] = list(pool.map(lambda item: _try_decode(item, image_size), encoded))

    def named(rows: Sequence[int]) -> str:
        shown = ", ".join(names[row] for row in rows[:_NAMES_SHOWN])
        return shown + (f" and {len(rows) - _NAMES_SHOWN} more" if len(rows) > _NAMES_SHOWN else "")

    if bad := [row for row, pixels in enumerate(decoded) if isinstance(pixels, str)]:
        raise InputError(
            f"{len(bad)} of {len(decoded)} images cannot be read: {named(bad)} (the first: "
            f"{decoded[bad[0]]}); expected intact JPEG, PNG or TIFF: repair or remove them"
        )
    shape = decoded[0].shape
    if other := [row for row, pixels in enumerate(decoded) if pixels.shape != shape]:
        raise InputError(
            f"{len(other)} of {len(decoded)} images are not {_size(shape)} as {names[0]} is: "
            f"{named(other)} (the first: {_size(decoded[other[0]].shape)}); expected one size: set "
            "an image size, to which all are fitted"
        )
    images = np.empty((len(decoded), *shape), np.uint8)
    for row in range(len(decoded)):
        images[row] = decoded[row]
        decoded[row] = None  # freed at once: the pixels would otherwise be held twice
    return images


def decode(encoded: Path | bytes, image_size: int | None) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes one image to RGB.

    Rotation tags are applied. Transparent pixels are laid over white, the color of an empty slide.
    Grayscale is repeated over the channels; 16-bit grayscale is scaled from 0..65535 to 0..255.
    The first frame is taken from a file with several.

    Args:
        encoded: a file, or a file's content.
        image_size: None keeps the size. Otherwise the largest centered square is resized once to
            this side, with Pillow's antialiased Lanczos filter. That is the same as resizing the
            shorter side and cropping the center. An image of this size keeps its pixels.

    Raises:
        ValueError: 32-bit pixels, which have no agreed range.
        OSError: not an image, or one cut short.
    """
    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
        rgb = _to_rgb(ImageOps.exif_transpose(image))
        if image_size is not None:
            rgb = ImageOps.fit(rgb, (image_size, image_size), Image.Resampling.LANCZOS)
        return np.array(rgb)


def _try_decode(encoded: Path | bytes, image_size: int | None) -> np.ndarray | str:
    """Pixels, or why there are none."""
    try:
        return decode(encoded, image_size)
    except UnidentifiedImageError:
        return "not an image of a known format"
    except MemoryError:
        raise
    # Pillow raises many kinds of errors for broken files, and one report names all of them.
    except Exception as error:
        return str(error) or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255, which turns the image white.
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is unknown")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return image.convert("RGB")


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"


def _find_classes(root: Path) -> tuple[Path, list[str]]:
    """The folder that holds the class folders, and their sorted names."""
    class_names = subfolders(root)
    if len(class_names) == 1 and not _image_files(root / class_names[0]):
        inner = subfolders(root / class_names[0])
        if len(inner) > 1:
            return root / class_names[0], inner
    if not class_names:
        raise InputError(
            f"no sub-folders in {root}; expected one sub-folder per class, with its images in it"
            + (f" ({len(files)} images lie loose)" if (files := _image_files(root)) else "")
        )
    if len(class_names) == 1:
        raise InputError(
            f"only one class, {class_names[0]}, in {root}; expected a sub-folder for each of at "
            "least two classes"
        )
    return root, class_names


def subfolders(root: Path) -> list[str]:
    """Sorted names of the sub-folders, without hidden ones and what archivers leave behind.

    Raises:
        InputError: no such folder, not a folder, or not readable.
    """
    entries = _entries(root)
    return [entry.name for entry in entries if entry.is_dir() and entry.name != "__MACOSX"]


def is_image_name(file: str) -> bool:
    """Whether a file of this name is read: a JPEG, PNG or TIFF by its suffix, and not hidden."""
    return file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith(".")


def _image_files(folder: Path) -> list[str]:
    entries = _entries(folder)
    return [entry.name for entry in entries if is_image_name(entry.name) and entry.is_file()]


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
        f"it holds sub-folders ({', '.join(inner[:_NAMES_SHOWN])}): is {folder} the folder to pass?"
        if inner
        else "remove it if it is not a class"
    )
    return f"no images in {folder}; expected {', '.join(IMAGE_SUFFIXES)} files; {hint}"
