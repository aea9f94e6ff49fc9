"""Partitions: the images that one (scenario, imbalance ratio, fold) keeps of an image set.

The paper undersamples a balanced set "up to the point of achieving the desired imbalance ratio".
Each fold has one random order of the classes and one random order of the images of each class, for
all scenarios and ratios. A class keeps the first n_i images of its order: the partition of a higher
ratio is a subset of that of a lower one.
"""

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from twostage_jax.data.folds import FOLDS as FOLDS
from twostage_jax.data.folds import Splitting, deal_folds
from twostage_jax.data.image_set import ImageSet
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.streams import derive

SCENARIOS = ("linear", "single_majority", "single_minority", "half_minority")
RATIOS = (1.0, 2.0, 5.0, 10.0)

# The one scenario at ratio 1, where all four are the same: every class keeps all its images.
ORIGINAL = "original"


class PartitionKey(NamedTuple):
    """Names one partition of an image set."""

    scenario: str
    ratio: float
    fold: int

    @property
    def title(self) -> str:
        """For people: `linear ratio 10 fold 0`; of the data as they are, the fold alone."""
        made = "" if self.scenario == ORIGINAL else f"{self.scenario} ratio {self.ratio:g} "
        return f"{made}fold {self.fold}"


class Partition(NamedTuple):
    """Rows of an image set, in ascending order.

    Attributes:
        key: the partition's name.
        train: training images kept.
        test: the whole test fold, whatever the scenario.
        kept: the part of `test` that carries the partition's imbalance.
    """

    key: PartitionKey
    train: Int[np.ndarray, " n"]
    test: Int[np.ndarray, " t"]
    kept: Bool[np.ndarray, " t"]


def partition_keys(
    scenarios: tuple[str, ...], ratios: tuple[float, ...], folds: int
) -> list[PartitionKey]:
    """The distinct partitions of a study, fold after fold of each (scenario, ratio).

    All scenarios share the partitions of ratio 1.
    """
    keys = [
        PartitionKey(scenario if ratio > 1 else ORIGINAL, float(ratio), fold)
        for scenario in scenarios
        for ratio in ratios
        for fold in range(folds)
    ]
    return list(dict.fromkeys(keys))


def imbalance_ratios(scenario: str, ratio: float, classes: int) -> Float[np.ndarray, " classes"]:
    """Equations 1 and 2 of the paper: the factor by which each class shrinks.

    Args:
        scenario: one of `SCENARIOS`, or `ORIGINAL`.
        ratio: the largest factor, from 1 up.
        classes: number of classes, at least 2; there is one factor per position in their order.

    Raises:
        InputError: an unknown scenario, or a ratio that is not a number from 1 up.
    """
    require_known("scenario", scenario, (*SCENARIOS, ORIGINAL))
    if not 1 <= ratio < math.inf:
        raise InputError(f"imbalance ratio {ratio:g} found, a number from 1 up expected")
    position = np.arange(classes)
    if scenario == "linear":
        return 1 + (ratio - 1) / (classes - 1) * position
    minority = {
        ORIGINAL: position < 0,
        "single_majority": position >= 1,
        "single_minority": position == classes - 1,
        "half_minority": position >= classes // 2,
    }[scenario]
    return np.where(minority, float(ratio), 1.0)


def _first_of_each_class(
    image_set: ImageSet, rows: Int[np.ndarray, " n"], ratios: Float[np.ndarray, " c"], stream: int
) -> Int[np.ndarray, " m"]:
    """Equation 3: the first n / r images of each class in one random order, rounded; at least 1."""
    kept = []
    for label, ratio in enumerate(ratios):
        members = rows[image_set.labels[rows] == label]
        order = np.random.default_rng([stream, label]).permutation(members)
        kept.append(order[: max(1, int(len(order) / ratio + 0.5))])
    return np.sort(np.concatenate(kept))


class Partitions:
    """The partitions of one image set under one seed, whose images are dealt to folds once."""

    def __init__(self, image_set: ImageSet, seed: int, splitting: Splitting | None = None):
        """Nothing is computed yet.

        Args:
            image_set: the images.
            seed: names the random streams.
            splitting: how images are dealt to folds; None: in the paper's way.
        """
        self._image_set = image_set
        self._seed = seed
        self._splitting = splitting or Splitting()

    @cached_property
    def _fold_of_image(self) -> Int[np.ndarray, " n"]:
        return deal_folds(self._image_set, self._seed, self._splitting)

    def make(self, key: PartitionKey) -> Partition:
        """The partition named `key`.

        Raises:
            InputError: an unknown scenario, a ratio that is not a number from 1 up, a fold that is
                not one of the splits, or as `deal_folds`.
        """
        if key.fold not in range(self._splitting.splits):
            raise InputError(f"fold {key.fold} found, 0 to {self._splitting.splits - 1} expected")
        in_test = self._fold_of_image == key.fold
        train, test = (np.flatnonzero(side).astype(np.int32) for side in (~in_test, in_test))
        by_position = imbalance_ratios(key.scenario, key.ratio, self._image_set.num_classes)
        order = np.random.default_rng(derive(self._seed, "fold", key.fold, "class order"))
        ratios = np.empty_like(by_position)
        ratios[order.permutation(len(by_position))] = by_position
        stream = derive(self._seed, "fold", key.fold, "image order")
        return Partition(
            key,
            _first_of_each_class(self._image_set, train, ratios, stream),
            test,
            np.isin(test, _first_of_each_class(self._image_set, test, ratios, stream)),
        )
