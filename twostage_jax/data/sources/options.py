"""What a user may ask of a source."""

from dataclasses import dataclass
from pathlib import Path

from twostage_jax.support.errors import InputError, require_known

MAX_PIXELS = 2**28
"""The most pixels of one image, unless a user says otherwise: 16,384 x 16,384."""

UNREADABLE = ("error", "skip")
DUPLICATES = ("keep", "drop", "error")


@dataclass(frozen=True)
class SourceOptions:
    """The options of all sources. A source ignores or refuses those that it has no use for.

    Raises:
        InputError: a value is not valid.
    """

    data_dir: Path | None = None
    """`folder`: the folder of class folders. `npz`: the file. `tfds:NAME`: the data dir of
    TensorFlow Datasets (None: its default). `colorectal_histology`: the same, or the unpacked
    Zenodo archive. `digits`: must be None."""
    image_size: int | None = None
    """Side of the square images, in pixels. None: the size that they have; 32 for `digits`."""
    images_per_class: int | None = None
    """How many images of each class `digits` takes; None: all. Other sources return all."""
    max_pixels: int = MAX_PIXELS
    """The most pixels that an image file may have. It protects memory from broken files."""
    on_unreadable: str = "error"
    """What to do where files cannot be decoded: "error", or "skip" them with a warning."""
    duplicates: str | None = None
    """What to do with images of equal pixels: "keep" all, "drop" them or "error". "drop" keeps the
    first within a class, and none of a picture that stands in two classes. None keeps those within
    a class and refuses a picture in two classes."""
    leave_out: tuple[Path, ...] = ()
    """Folders that are no classes, such as a study's own, which may lie in the data dir."""

    def __post_init__(self):
        """Refuses values that are not valid."""
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"image size {self.image_size}; expected a number of pixels from 1 up")
        if self.max_pixels < 1:
            raise InputError(f"--max-pixels {self.max_pixels} found, 1 or more expected")
        require_known("value of --on-unreadable", self.on_unreadable, UNREADABLE)
        if self.duplicates is not None:
            require_known("value of --duplicates", self.duplicates, DUPLICATES)
