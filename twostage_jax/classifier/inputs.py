"""The forms of X that the estimator takes: images, files, a folder, or features."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import folder
from twostage_jax.data.sources.decode import decode_all, fit_image
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.resampling.inputs import as_table
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path

# Side in pixels to which files are fitted where no size is asked for: the paper's.
FILE_SIZE = 150

Images = UInt8[np.ndarray, "n h w 3"]


def is_folder(x: Any) -> bool:
    """Whether X is one path, which then is a folder of images."""
    return isinstance(x, str | os.PathLike)


def is_images(x: Any) -> bool:
    """Whether X holds images or files and not a table of features."""
    if isinstance(x, ImageSet) or is_folder(x) or _is_files(x):
        return True
    return not hasattr(x, "iloc") and (_is_picture(x) or np.ndim(as_table(x)) > 2)


def read_folder(path: Any, image_size: int | None) -> ImageSet:
    """The images of a folder of class folders, fitted to squares.

    Raises:
        InputError: as `sources.folder.read`.
    """
    return folder.read(SourceOptions(Path(path), image_size or FILE_SIZE))


def make_image_set(
    images: Images, labels: Shaped[np.ndarray, " n"], class_names: Sequence[str]
) -> ImageSet:
    """An image set of arrays; within a class, images stay in their order."""
    digits = len(str(len(images)))
    return ImageSet.create(
        images=images,
        labels=labels,
        class_names=class_names,
        names=[f"{row:0{digits}}" for row in range(len(images))],
        source="arrays",
    )


def read_images(x: Any, side: int | None, shape: tuple[int, int, int] | None = None) -> Images:
    """The images of X as uint8 RGB.

    Args:
        x: a folder, searched deep; a sequence or pandas series of files; or an array-like of uint8
            images of one size, n x h x w (gray) or n x h x w x 1 or 3.
        side: of the squares that images are fitted to; None keeps the size of arrays, and fits
            files to `FILE_SIZE`.
        shape: that a model expects. Images of another one are fitted to it, with a warning.

    Raises:
        InputError: X is none of these, there is no image in it, or a file cannot be read.
    """
    if is_folder(x) or _is_files(x):
        paths = _find(Path(x)) if is_folder(x) else [Path(item) for item in x]
        names = [str(path) for path in paths]
        options = SourceOptions(image_size=side or FILE_SIZE)
        return decode_all(paths, names=names, options=options, size=shape and shape[:2])[0]
    if _is_picture(x):
        raise InputError("X is one image; expected several: pass a list of it, or X[None]")
    images = _as_rgb(as_table(x))
    wanted = shape[:2] if shape else (side, side) if side else images.shape[1:3]
    if images.shape[1:3] == wanted:
        return images
    if shape is not None:
        warnings.warn(
            f"images of {images.shape[2]}x{images.shape[1]} pixels are fitted to the "
            f"{shape[1]}x{shape[0]} of the model's, as in training",
            stacklevel=3,
        )
    return np.stack([np.asarray(fit_image(Image.fromarray(own), wanted)) for own in images])


def _is_files(x: Any) -> bool:
    if isinstance(x, np.ndarray) and (x.ndim != 1 or x.dtype.kind not in "OU"):
        return False
    return (
        (isinstance(x, list | tuple | np.ndarray) or (hasattr(x, "iloc") and np.ndim(x) == 1))
        and len(x) > 0
        and all(isinstance(item, str | os.PathLike) for item in x)
    )


def _is_picture(x: Any) -> bool:
    """Whether X is one image and not several: a picture of Pillow's, or height x width x 3."""
    # Gray images of three columns are smaller than any network takes.
    return isinstance(x, Image.Image) or (isinstance(x, np.ndarray) and x.shape[2:] == (3,))


def _find(root: Path) -> list[Path]:
    root = user_path(root, "folder")
    if not root.is_dir():
        found = f"{root} is a file" if root.exists() else f"no folder {root}"
        raise InputError(f"{found}; expected a folder of images; pass files as a list of paths")
    found = folder.walk(root).files
    if not found:
        raise InputError(f"no images in {root}; expected files that Pillow reads")
    return [root / name for name in found]


def _as_rgb(images: np.ndarray) -> Images:
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype != np.uint8:
        advice = "(255 * X).astype('uint8') if 1 is white" if images.dtype.kind == "f" else ""
        advice = advice or "X.astype('uint8') if the values are 0 to 255"
        raise InputError(
            f"images of dtype {images.dtype} found, uint8 from 0 to 255 expected; pass {advice}"
        )
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"X of shape {images.shape} found; expected images, n x height x width (gray) or "
            "n x height x width x 3 (RGB), or a table of features, n x features"
        )
    return images if images.shape[-1] == 3 else np.repeat(images, 3, axis=-1)
