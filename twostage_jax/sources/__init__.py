"""Where images come from: one module a source, and `load`, which picks one by name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from twostage_jax.errors import InputError, require_known
from twostage_jax.imageset import ImageSet
from twostage_jax.sources import colorectal, folder, synthetic


@dataclass(frozen=True)
class _Request:
    data_dir: Path | None
    image_size: int | None
    seed: int
    images_per_class: int


def _colorectal_histology(request: _Request) -> ImageSet:
    return colorectal.load(request.data_dir, request.image_size)


def _folder(request: _Request) -> ImageSet:
    if request.data_dir is None:
        raise InputError(
            "dataset 'folder' without a data dir; expected a folder of class folders: pass its path"
        )
    return folder.load(request.data_dir, request.image_size)


def _synthetic(request: _Request) -> ImageSet:
    if request.data_dir is not None:
        raise InputError(
            f"dataset 'synthetic' with data dir {request.data_dir}; it is drawn, not read: leave "
            "the data dir out, or choose dataset 'folder'"
        )
    return synthetic.generate(
        image_size=request.image_size or synthetic.DEFAULT_SIZE,
        seed=request.seed,
        images_per_class=request.images_per_class,
    )


# To add a source: write its module, and name it here.
_SOURCES: dict[str, Callable[[_Request], ImageSet]] = {
    "colorectal_histology": _colorectal_histology,
    "folder": _folder,
    "synthetic": _synthetic,
}

DATASETS = tuple(_SOURCES)
"""The names that `load` knows."""


def load(
    dataset: str,
    *,
    data_dir: Path | None = None,
    image_size: int | None = None,
    seed: int = 0,
    images_per_class: int = synthetic.DEFAULT_IMAGES_PER_CLASS,
) -> ImageSet:
    """Reads or generates an image set.

    Args:
        dataset: one of `DATASETS`.
        data_dir: `folder`: the folder of class folders. `colorectal_histology`: the unpacked
            Zenodo archive, or else the data dir of TensorFlow Datasets (None: its default).
            `synthetic`: must be None.
        image_size: side of the square images, in pixels. None: as the images are; `synthetic`
            then draws `synthetic.DEFAULT_SIZE`.
        seed: for `synthetic`; the others have no randomness.
        images_per_class: for `synthetic`; the others return all they find.

    Returns:
        Image set with images uint8 n x h x w x 3.

    Raises:
        InputError: an unknown dataset, and all that the sources themselves raise.
    """
    require_known("dataset", dataset, DATASETS)
    if image_size is not None and image_size < 1:
        raise InputError(f"image size {image_size}; expected a number of pixels from 1 up")
    return _SOURCES[dataset](_Request(data_dir, image_size, seed, images_per_class))
