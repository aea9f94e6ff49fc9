"""Where images come from: one module a source, and `load`, which picks one by name."""

from pathlib import Path

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import colorectal, folder, synthetic
from twostage_jax.support.errors import InputError, require_known

DATASETS = ("colorectal_histology", "folder", "synthetic")
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
    match dataset:
        case "colorectal_histology":
            return colorectal.load(data_dir, image_size)
        case "folder" if data_dir is None:
            raise InputError(
                "dataset 'folder' without a data dir; expected a folder of class folders: pass its "
                "path"
            )
        case "folder":
            return folder.load(data_dir, image_size)
        case _ if data_dir is not None:
            raise InputError(
                f"dataset 'synthetic' with data dir {data_dir}; it is drawn, not read: leave the "
                "data dir out, or choose dataset 'folder'"
            )
        case _:
            return synthetic.generate(
                image_size=image_size or synthetic.DEFAULT_SIZE,
                seed=seed,
                images_per_class=images_per_class,
            )
