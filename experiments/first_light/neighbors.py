"""The neighbor search on the device at the size of a study, beside NumPy in float64."""

import dataclasses
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Shaped

from experiments.benchmark_resamplers.data import features
from experiments.benchmarks import document
from experiments.first_light import part
from twostage_jax.data import sources
from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.neighbors.device import screen_on_device
from twostage_jax.resampling.neighbors.search import MEMORY

_K, _ASKED, _BLOCK = 5, 16, 256


@dataclasses.dataclass(frozen=True)
class Options(part.Options):
    """Compares the neighbor search on the device with NumPy in float64."""

    dataset: str = "digits"
    """Images, as for experiments.reproduce."""
    data_dir: Path | None = None
    """Folder or file of the images."""
    pixels: int = 150
    """Side of the images."""
    rows: int = 20_000
    """Rows of the features, which are synthetic."""
    columns: int = 1024
    """Columns of the features."""


def by_numpy(
    points: Shaped[np.ndarray, "n *shape"], own: Int[np.ndarray, " q"], k: int
) -> tuple[Int[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """Rows and squared distances of the nearest points of some rows, ties by the smaller row.

    Differences are computed and squared in float64, which is exact for integers.
    """
    flat = points.reshape(len(points), -1)
    asked = flat[own].astype(np.float64)
    squared = np.empty((len(own), len(flat)))
    for start in range(0, len(flat), _BLOCK):
        block = flat[start : start + _BLOCK].astype(np.float64)
        for query, row in enumerate(asked):
            squared[query, start : start + _BLOCK] = ((block - row) ** 2).sum(1)
    others = squared.copy()
    others[np.arange(len(own)), own] = np.inf
    rows = np.argsort(others, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(squared, rows, axis=1)


def compare(name: str, points: Shaped[np.ndarray, "n *shape"]) -> dict:
    """Searches the neighbors of all points on the device; compares those of some of them."""
    seconds = []
    for _ in range(2):  # the first search compiles
        started = time.perf_counter()
        found = nearest(points, _K, screen=partial(screen_on_device, memory=MEMORY // 2))
        seconds.append(time.perf_counter() - started)
    own = np.linspace(0, len(points) - 1, _ASKED).astype(int)
    rows, squared = by_numpy(points, own, _K)
    equal = (found.rows[own] == rows).all(1) & np.isclose(found.squared[own], squared, 1e-13).all(1)
    shape = " x ".join(f"{n:,}" for n in points.shape)
    row = {"data": name, "shape": shape, "dtype": str(points.dtype)}
    row |= {"first_seconds": seconds[0], "seconds": seconds[1]}
    return row | {"compared": len(own), "equal": int(equal.sum())}


def work(options: Options, origin: list[str]) -> int:
    """Compares pixels and features, and writes the document; 1 where they differ."""
    found = sources.load(options.dataset, image_size=options.pixels, data_dir=options.data_dir)
    labels = np.arange(options.rows, dtype=np.int32) % 8
    table = features(labels, options.columns, np.random.default_rng(0))
    table[-len(table) // 50 :] = table[0]  # equal rows, whose order is by row number
    frame = pd.DataFrame([compare("pixels", found.images), compare("features", table)])
    cells = frame.assign(
        first_seconds=frame.first_seconds.map(document.digits),
        seconds=frame.seconds.map(document.digits),
    ).astype(str)
    notes = [
        f"The {_K} nearest of every row are searched twice; the first search compiles.",
        "Equal: rows, in order, that NumPy finds by differences in float64, and distances up to "
        f"1e-13, of {_ASKED} rows that are compared.",
    ]
    parts = ["# Neighbors", document.markdown_table(cells, left=3)]
    print(document.write(options.output, "neighbors", parts, notes, origin, frame))
    return 0 if (frame.equal == frame.compared).all() else 1


if __name__ == "__main__":
    sys.exit(part.run("neighbors", Options, work))
