"""Sources of image sets by name; the table is open. A new source is one module and one line."""

from collections.abc import Callable
from pathlib import Path

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import colorectal, digits, folder
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError, require_known

SOURCES: dict[str, Callable[[SourceOptions], ImageSet]] = {
    "colorectal_histology": colorectal.read,
    "digits": digits.read,
    "folder": folder.read,
}


def register_source(name: str, read: Callable[[SourceOptions], ImageSet]) -> None:
    """Adds a source, so that `load` and the commands know its name.

    `read` returns the image set, and raises InputError for options that do not fit. Registering the
    same function again changes nothing.

    Raises:
        InputError: the name is taken by another source.
    """
    if SOURCES.setdefault(name, read) != read:
        raise InputError(f"source name '{name}' is taken by another source; choose another name")


def load(
    dataset: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    images_per_class: int | None = None,
) -> ImageSet:
    """Reads or generates an image set, with images uint8 n x h x w x 3.

    Args:
        dataset: a name in `SOURCES`.
        data_dir, image_size, images_per_class: as in `SourceOptions`.

    Raises:
        InputError: an unknown dataset, or options that do not fit it.
    """
    read = SOURCES[require_known("dataset", dataset, SOURCES)]
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size}; expected a number of pixels from 1 up")
    return read(SourceOptions(data_dir, image_size, images_per_class))
