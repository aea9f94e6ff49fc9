"""The arrays of the benchmark, as files that the processes of all engines read."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int, UInt8

from experiments.benchmark_resamplers.cases import SEED, STUDY_KEYS, partition_name
from experiments.benchmark_resamplers.options import Options
from twostage_jax.data import sources
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import Partitions, imbalance_ratios
from twostage_jax.support.streams import derive

# The paper's set, and the width of its features.
_CLASSES = 8
_IMAGES_PER_CLASS = 625
_SIDE = 150
_FEATURES = 1024

# The least that a scaled trial needs: six images of each class at ratio 10, and what sources draw.
_LEAST_IMAGES_PER_CLASS = 70
_LEAST_SIDE = 16
_LEAST_ROWS = 500
_LEAST_FEATURES = 32

_CLUSTERS = 4
_BLOCK = 10_000


def make_data(kind: str, folder: Path, options: Options) -> None:
    """Writes what the cases of a kind read into a new folder.

    images (of which the plans are, too): `x`, `labels`, `partitions` (rows of each); features: the
    same; large: `x`, `labels`; neighbors: `x`, `queries` (rows).

    Raises:
        InputError: what the source of images refuses.
    """
    folder.mkdir()

    def scaled(number: int, least: int) -> int:
        return max(least, round(number * options.scale))

    per_class = scaled(_IMAGES_PER_CLASS, _LEAST_IMAGES_PER_CLASS)
    columns = scaled(_FEATURES, _LEAST_FEATURES)
    random = np.random.default_rng(derive(SEED, "benchmark", kind))
    match kind:
        case "images":
            images, labels = _images(options, per_class, scaled(_SIDE, _LEAST_SIDE))
            _save(folder, x=images, labels=labels)
            np.savez(folder / "partitions.npz", **partitions(labels))
        case "features":
            labels = np.repeat(np.arange(_CLASSES, dtype=np.int32), per_class)
            _save(folder, x=features(labels, columns, random), labels=labels)
            np.savez(folder / "partitions.npz", **partitions(labels))
        case "large":
            labels = linear_labels(scaled(100_000, _LEAST_ROWS), random)
            _save(folder, x=features(labels, columns, random), labels=labels)
        case "neighbors":
            rows = scaled(200_000, _LEAST_ROWS)
            labels = random.integers(_CLASSES, size=rows)
            queries = random.choice(rows, min(rows, options.queries), replace=False)
            _save(folder, x=features(labels, columns, random), queries=np.sort(queries))


def _save(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _images(
    options: Options, per_class: int, side: int
) -> tuple[UInt8[np.ndarray, "n h w 3"], Int[np.ndarray, " n"]]:
    """A balanced set: as many images of each class as its smallest has, and no more than asked."""
    image_set = sources.load(
        options.dataset,
        data_dir=options.data_dir,
        image_size=side,
        seed=SEED,
        images_per_class=per_class,
    )
    count = min(per_class, image_set.class_counts.min())
    rows = np.concatenate(
        [np.flatnonzero(image_set.labels == c)[:count] for c in range(image_set.num_classes)]
    )
    return image_set.images[rows], image_set.labels[rows]


def partitions(labels: Int[np.ndarray, " n"]) -> dict[str, Int[np.ndarray, " m"]]:
    """The training rows of each of the study's partitions, by `partition_name`.

    Partitions depend on labels and on the order of names alone: images of a pixel stand in.
    """
    stand_in = ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels,
        class_names=[str(label) for label in np.unique(labels)],
        names=[f"{row:09d}" for row in range(len(labels))],
        source="",
    )
    partitions = Partitions(stand_in, SEED)
    return {partition_name(key): partitions.make(key).train for key in STUDY_KEYS}


def linear_labels(rows: int, random: np.random.Generator) -> Int[np.ndarray, " n"]:
    """Classes of the linear scenario at ratio 10, so many rows together, in random order."""
    shares = np.cumsum(1 / imbalance_ratios("linear", 10.0, _CLASSES))
    ends = np.rint(rows * shares / shares[-1]).astype(int)
    return random.permutation(np.searchsorted(ends, np.arange(rows), side="right"))


def features(
    labels: Int[np.ndarray, " n"], columns: int, random: np.random.Generator
) -> Float32[np.ndarray, "n f"]:
    """Like features of a network: clusters of each class, and negative numbers cut off."""
    centers = random.standard_normal((_CLASSES, _CLUSTERS, columns), dtype=np.float32)
    out = np.empty((len(labels), columns), np.float32)
    for start in range(0, len(labels), _BLOCK):
        block = out[start : start + _BLOCK]
        random.standard_normal(dtype=np.float32, out=block)
        its = labels[start : start + _BLOCK]
        block += centers[its, random.integers(_CLUSTERS, size=len(its))]
    return np.maximum(out, 0, out=out)
