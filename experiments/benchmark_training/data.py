"""The images of the benchmark, as files that the processes of all engines read."""

from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from experiments.benchmark_training.cases import Size
from experiments.benchmark_training.options import Options
from twostage_jax.data import sources
from twostage_jax.training.protocol import Protocol


def make_data(folder: Path, size: Size, options: Options) -> None:
    """Writes the images of a size and their classes into a folder.

    Raises:
        InputError: what the source of images refuses.
    """
    found = sources.load(
        options.dataset,
        data_dir=options.data_dir,
        image_size=size.pixels,
        seed=Protocol().seed,
        images_per_class=options.images_per_class,
    )
    np.save(_path(folder, size, "images"), found.images)
    np.save(_path(folder, size, "labels"), found.labels)


def load_data(
    folder: Path, size: Size
) -> tuple[UInt8[np.ndarray, "n h w 3"], Int[np.ndarray, " n"]]:
    """What `make_data` has written."""
    return np.load(_path(folder, size, "images")), np.load(_path(folder, size, "labels"))


def _path(folder: Path, size: Size, name: str) -> Path:
    return folder / f"{name}-{size.pixels}.npy"
