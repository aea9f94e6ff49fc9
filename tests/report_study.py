"""Synthesized studies for the tests of the report: records drawn with known effects."""

import dataclasses
import zlib
from pathlib import Path

import numpy as np

from twostage_jax.data.partition import SCENARIOS, imbalance_ratios, partition_keys
from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.study.approaches import PAPER
from twostage_jax.study.figure_data import project_features, write_figure_data
from twostage_jax.study.folder import Description, StudyFolder, write_description, write_record
from twostage_jax.study.record import Record, RecordKey, failed_record

SETTINGS = {
    "dataset": "folder",
    "fingerprint": "f" * 64,
    "classes": ["adipose <&>", *(f"class_{label}" for label in range(1, 8))],
    "image_size": [150, 150],
    "weights": "random",
    "width": 1.0,
    "epochs": 20,
    "batch_size": 32,
    "learning_rate": 1e-4,
    "decay": 0.9,
    "epsilon": 1e-7,
    "epsilon_in_root": False,
    "bn_momentum": 0.99,
    "k_neighbors": 5,
    "fresh_head": False,
    "precision": "float32",
    "seed": 0,
}
IMAGES_PER_CLASS = 62  # in a test fold, one of ten

EFFECTS = {
    "is_rus": -0.1,
    "is_ros": 0.02,
    "is_smote": 0.03,
    "fs_rus": 0.06,
    "fs_ros": 0.04,
    "fs_smote": 0.05,
    "ts_smote_smote": 0.05,
    "ts_smote_rus": 0.12,
}
"""Added to the share of test samples that the baseline gets right; 0 for other approaches."""


def study_keys(scenarios=SCENARIOS, ratios=(1.0, 2.0, 5.0, 10.0), folds=10, approaches=PAPER):
    """The keys of the paper's 1,090 records, or of other approaches or fewer partitions."""
    return [
        RecordKey(*partition, approach)
        for partition in partition_keys(tuple(scenarios), tuple(ratios), folds)
        for approach in approaches
        if partition.ratio > 1 or approach == "baseline"
    ]


def make_record(
    key: RecordKey, settings=SETTINGS, images_per_class=IMAGES_PER_CLASS, recipes=None
) -> Record:
    """A record whose network is right as often as its approach's effect says."""
    approach = find_approaches([key.approach], recipes or {})[key.approach]
    classes = len(settings["classes"])
    number = PAPER.index(key.approach) if key.approach in PAPER else zlib.crc32(str(key).encode())
    rng = np.random.default_rng([key.fold, number, int(key.ratio)])
    order = np.random.default_rng(key.fold).permutation(classes)
    ratios = imbalance_ratios(key.scenario, key.ratio, classes)[np.argsort(order)]
    label = np.repeat(np.arange(classes), images_per_class).astype(np.int32)
    position = np.tile(np.arange(images_per_class), classes)
    kept = position < np.maximum(1, images_per_class / ratios[label])
    right = rng.random(len(label)) < 0.75 + EFFECTS.get(key.approach, 0) - 0.03 * np.log(
        ratios[label]
    )
    predicted = np.where(right, label, rng.integers(0, classes, len(label)))
    curve = np.stack([np.geomspace(1, 0.1, 20), np.linspace(0.5, 0.9, 20)], 1).astype(np.float32)
    return Record(
        key=key,
        status="done",
        reason="",
        test_index=np.arange(len(label), dtype=np.int32),
        label=label,
        kept=kept,
        probabilities=np.eye(classes, dtype=np.float32)[predicted],
        curve1=curve,
        curve2=curve[: 20 * (approach.stage2 is not None)],
        class_counts=np.maximum(1, 9 * images_per_class / ratios).astype(np.int32),
        settings=settings,
        settings_hash=Description(settings=settings).settings_hash,
        versions={"jax": "0.10", "python": "3.11"},
        device="cpu",
        seconds={"stage1": 20.0, "features": 1.0, "stage2": 0.5},
        images={"stage1": 9000, "stage2": 900},
    )


def calibrated_record(record: Record, prior: np.ndarray) -> Record:
    """The record with probabilities that hold under a prior.

    The evidence for each class is Gaussian and the same for equal folds, so that Bayes' rule holds.
    """
    rng = np.random.default_rng(record.key.fold)
    classes = len(record.class_counts)
    # The evidence of class k is a mean of 2 in direction k: log p(x | k) = 2 x_k - 2 + const.
    evidence = rng.normal(size=(len(record.label), classes)) + 2 * np.eye(classes)[record.label]
    odds = np.exp(2 * evidence) * prior
    probabilities = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    return dataclasses.replace(record, probabilities=probabilities, prior=prior)


FOUND = (300, 150, 100, 80, 60, 50, 40, 35)
"""Images of each class in a study of data as they are."""


def found_keys(splits=5, approaches=PAPER):
    """The keys of a study of data as they are, in which every approach is at ratio 1."""
    return [RecordKey("original", 1.0, fold, name) for fold in range(splits) for name in approaches]


def found_record(key: RecordKey, effects=EFFECTS, settings=SETTINGS, splits=5) -> Record:
    """A record of data as they are; each effect adds to the probability of the true class."""
    record = make_record(key, settings=settings)
    rng = np.random.default_rng([key.fold, zlib.crc32(key.approach.encode())])
    counts = np.array(FOUND)
    label = np.repeat(np.arange(len(counts)), counts // splits).astype(np.int32)
    logits = rng.normal(0, 1, (len(label), len(counts)))
    logits[np.arange(len(label)), label] += 2 + 10 * effects.get(key.approach, 0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return dataclasses.replace(
        record,
        test_index=np.arange(len(label), dtype=np.int32),
        label=label,
        kept=np.ones(len(label), np.bool_),
        probabilities=probabilities.astype(np.float32),
        class_counts=(counts - counts // splits).astype(np.int32),
    )


def write_study(
    folder: Path,
    expected: list[RecordKey],
    records: list[Record],
    images=10 * IMAGES_PER_CLASS,
    recipes=None,
    fit="",
) -> Path:
    """Writes a study's folder without figure data.

    `images` is the number per class, or a tuple of the numbers of all classes.
    """
    settings = records[0].settings if records else SETTINGS
    description = Description(
        settings=settings,
        class_counts=[*images]
        if isinstance(images, tuple)
        else [images] * len(settings["classes"]),
        source="synthesized records",
        commands=["python -m experiments.reproduce --preset paper"],
        records=[f"{key}.safetensors" for key in expected],
        approaches={name: recipe.to_json() for name, recipe in (recipes or {}).items()},
        fit=fit,
    )
    write_description(folder, description)
    for record in records:
        write_record(StudyFolder(folder).records, record)
    return folder


def write_features(folder: Path, key: RecordKey, settings=SETTINGS) -> None:
    """Writes features for the map: one cloud per class, farther apart after stage 2."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(len(settings["classes"])), 20).astype(np.int32)
    centers = rng.normal(size=(len(settings["classes"]), 16))
    before = centers[label] + rng.normal(size=(len(label), 16))
    after = 2 * centers[label] + rng.normal(size=(len(label), 16))
    settings_hash = Description(settings=settings).settings_hash
    kept = np.ones(len(label), np.bool_)
    data = project_features(key, settings_hash, before, after, label=label, kept=kept)
    write_figure_data(folder, data)


KEYS = study_keys(("linear", "half_minority"), (1.0, 2.0, 10.0), folds=3)
TINY = study_keys(("linear",), (10.0,), folds=1)


def failed(key: RecordKey, reason: str) -> Record:
    """The record of a unit that ended without predictions."""
    record = make_record(key)
    names = ("class_counts", "settings", "settings_hash", "versions", "device")
    return failed_record(key, reason, **{name: getattr(record, name) for name in names})
