"""Sizes of the paper's whole study, to which rates are extrapolated."""

import numpy as np

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS, Partitions, partition_keys
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.training.protocol import Protocol

_CLASSES = 8
_IMAGES_PER_CLASS = 625

IMAGES = _CLASSES * _IMAGES_PER_CLASS

# Oversampled to as many of each class as its largest has, of which a fold is left out.
LONGEST_PLAN = _CLASSES * -(-_IMAGES_PER_CLASS * (FOLDS - 1) // FOLDS)


def study_heads() -> int:
    """Heads of the study: a head of each two-stage approach a partition; none at ratio 1."""
    ratios = [ratio for ratio in RATIOS if ratio > 1]
    return len(SCENARIOS) * len(ratios) * FOLDS * heads_of_network()


def heads_of_network() -> int:
    """Heads of a partition: one of every approach with a stage 2."""
    return sum(approach.two_stages for approach in APPROACHES.values())


def study_networks() -> tuple[int, int]:
    """Networks of the study, and images that go forward and backward through them."""
    labels = np.repeat(np.arange(_CLASSES), _IMAGES_PER_CLASS)
    # Partitions depend on labels and on the order of names alone: images of a pixel stand in.
    images = ImageSet.create(
        images=np.zeros((IMAGES, 1, 1, 3), np.uint8),
        labels=labels,
        class_names=[str(label) for label in range(_CLASSES)],
        names=[f"{row:04d}" for row in range(IMAGES)],
        source="",
    )
    samplers = {approach.image_sampler for approach in APPROACHES.values()}
    partitions = Partitions(images, Protocol().seed)
    networks = rows = 0
    for key in partition_keys(SCENARIOS, RATIOS, FOLDS):
        counts = np.bincount(images.labels[partitions.make(key).train])
        resampled = {None: counts.sum(), "rus": _CLASSES * counts.min()}
        for sampler in samplers if key.ratio > 1 else {None}:
            networks += 1
            rows += int(resampled.get(sampler, _CLASSES * counts.max()))
    return networks, rows * Protocol().epochs


def rows_of_head() -> int:
    """Rows that a head sees in all of its epochs, for the longest plan of a partition."""
    return Protocol().epochs * LONGEST_PLAN
