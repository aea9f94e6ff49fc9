"""The arrays of the benchmark, in files that the processes of all engines read."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int

from twostage_jax.data import sources
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS, Partitions, partition_keys
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol

SEED = Protocol().seed

# Resampling changes nothing at ratio 1. These partitions are the study's 120, by their names.
STUDY = {
    f"{key.scenario}-{key.ratio:g}-{key.fold}": key
    for key in partition_keys(SCENARIOS, tuple(ratio for ratio in RATIOS if ratio > 1), FOLDS)
}

# The paper's set and the width of its features.
_CLASSES, _IMAGES_PER_CLASS, _SIDE, _FEATURES, _LARGE = 8, 625, 150, 1024, 100_000

# How far classes lie apart, in standard deviations per feature. At a quarter, one in four of the
# five nearest neighbors is of another class, so that what cleans has something to remove.
_APART = {"features": 1.0, "large": 1.0, "samplers": 0.25}


def make_data(
    kind: str, folder: Path, *, dataset: str, data_dir: Path | None, scale: float
) -> None:
    """Writes `x.npy`, `labels.npy` and the training rows of every partition into a new folder.

    `kind` is images, features, samplers (features of classes that overlap), or large (features of
    many more rows, without partitions).

    Raises:
        InputError: what the source of images refuses.
    """
    random = np.random.default_rng(derive(SEED, "benchmark", kind))
    per_class = max(70, round(scale * _IMAGES_PER_CLASS))
    columns = max(32, round(scale * _FEATURES))
    if kind == "images":
        given = {"images_per_class": per_class, "data_dir": data_dir}
        found = sources.load(dataset, image_size=max(16, round(scale * _SIDE)), **given)
        count = min(per_class, found.class_counts.min())  # a balanced set, as the paper's
        by_class = (np.flatnonzero(found.labels == c)[:count] for c in range(found.num_classes))
        rows = np.concatenate(list(by_class))
        arrays = {"x": found.images[rows], "labels": found.labels[rows]}
    else:
        labels = np.repeat(np.arange(_CLASSES, dtype=np.int32), per_class)
        if kind == "large":  # linear at ratio 10, as the paper's scenario
            shares = 1 / (1 + 9 / 7 * np.arange(_CLASSES))
            counts = np.rint(max(500, scale * _LARGE) * shares / shares.sum()).astype(int)
            labels = random.permutation(np.repeat(np.arange(_CLASSES, dtype=np.int32), counts))
        arrays = {"x": features(labels, columns, _APART[kind], random), "labels": labels}
    if kind != "large":
        arrays |= partitions(arrays["labels"])
    folder.mkdir()
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def partitions(labels: Int[np.ndarray, " n"]) -> dict[str, Int[np.ndarray, " m"]]:
    """The training rows of each of the study's partitions, by name.

    Partitions depend on labels and on the order of names alone: images of one pixel stand in.
    """
    stand_in = ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels,
        class_names=[str(label) for label in np.unique(labels)],
        names=[f"{row:09d}" for row in range(len(labels))],
        source="",
    )
    partitions = Partitions(stand_in, SEED)
    return {name: partitions.make(key).train for name, key in STUDY.items()}


def features(
    labels: Int[np.ndarray, " n"], columns: int, apart: float, random: np.random.Generator
) -> Float32[np.ndarray, "n f"]:
    """Like features of a network: a cluster per class, with negative numbers cut off."""
    x = random.standard_normal((len(labels), columns), dtype=np.float32)
    for label in range(_CLASSES):
        x[labels == label] += apart * random.standard_normal(columns, dtype=np.float32)
    return np.maximum(x, 0, out=x)
