"""What a user may ask of a source."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SourceOptions:
    """The options of all sources. A source ignores or refuses those that it has no use for."""

    data_dir: Path | None = None
    """`folder`: the folder of class folders. `colorectal_histology`: the unpacked Zenodo archive,
    or the data dir of TensorFlow Datasets (None: its default). `digits`: must be None."""
    image_size: int | None = None
    """Side of the square images, in pixels. None: the size that they have; 32 for `digits`."""
    images_per_class: int | None = None
    """How many images of each class `digits` takes; None: all. Other sources return all."""
