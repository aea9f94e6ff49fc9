"""What a user may ask of a source."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceOptions:
    """The options of all sources. A source ignores or refuses those that it has no use for."""

    data_dir: Path | None = None
    """`folder`: the folder of class folders. `colorectal_histology`: the unpacked Zenodo archive,
    or the data dir of TensorFlow Datasets (None: its default). `synthetic`: must be None."""
    image_size: int | None = None
    """Side of the square images, in pixels. None: the size that the images have; `synthetic` then
    draws `synthetic.DEFAULT_SIZE`."""
    seed: int = 0
    """Seed of `synthetic`; the other sources have no randomness."""
    images_per_class: int = 250
    """Images per class of `synthetic`; the other sources return all that they find."""
