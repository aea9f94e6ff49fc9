"""Sources of image sets by name; the table is open. A new source is one module and one line."""

from collections.abc import Callable
from typing import Any

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import colorectal, digits, folder, npz, tfds
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError, require_known

SOURCES: dict[str, Callable[[SourceOptions], ImageSet]] = {
    "colorectal_histology": colorectal.read,
    "digits": digits.read,
    "folder": folder.read,
    "npz": npz.read,
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


def find_source(name: str) -> Callable[[SourceOptions], ImageSet]:
    """The function that reads a dataset: one in `SOURCES`, or `tfds:NAME`.

    Raises:
        InputError: an unknown name; whether TensorFlow Datasets knows its own is found by reading.
    """
    if name not in SOURCES and name.startswith(tfds.PREFIX):
        return tfds.find_set(name.removeprefix(tfds.PREFIX))
    require_known("dataset", name, [*SOURCES, f"{tfds.PREFIX}NAME"])
    return SOURCES[name]


def load(dataset: str, **options: Any) -> ImageSet:
    """Reads or generates an image set, with images uint8 n x h x w x 3.

    Args:
        dataset: a name in `SOURCES`, or `tfds:NAME`.
        options: fields of `SourceOptions`, such as `data_dir` and `image_size`.

    Raises:
        InputError: an unknown dataset, or options that do not fit it.
    """
    return find_source(dataset)(SourceOptions(**options))
