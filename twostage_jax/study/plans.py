"""What a study trains on: partitions, random streams, and what samplers decide.

Everything here follows from the image set, the protocol and names alone, so that any process
computes the same.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32

from twostage_jax.data.folds import Splitting
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import ORIGINAL, Partition, PartitionKey, Partitions
from twostage_jax.resampling.neighbors import rank_neighbors, subset_neighbors
from twostage_jax.resampling.plan import Plan, require_unmoved
from twostage_jax.resampling.registry import make_sampler
from twostage_jax.resampling.samplers import SMOTE
from twostage_jax.study.approaches import Approach, Stage1, Stage2
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import Stream, derive
from twostage_jax.training.objective import require_counts
from twostage_jax.training.protocol import Protocol

# A study asks for the same plan when it lists networks and when it trains them.
_KEPT_PLANS = 1000


class Plans:
    """Partitions and plans of one image set under one protocol, each computed once."""

    def __init__(
        self,
        image_set: ImageSet,
        protocol: Protocol,
        splitting: Splitting | None = None,
        *,
        partition: Callable[[PartitionKey], Partition] | None = None,
        make: Callable[[str, int, int], Any] | None = None,
    ):
        """Nothing is computed yet.

        Args:
            image_set: the images, at the study's size.
            protocol: its seed names the random streams, its `k_neighbors` is SMOTE's.
            splitting: how images are dealt to folds; None: in the paper's way.
            partition: gives the partition of a key; by default one of the paper's kinds.
            make: gives the sampler of a short name, for stage 1 or 2, with a seed; by default the
                registered one.
        """
        self.image_set = image_set
        self.protocol = protocol
        partition = partition or Partitions(image_set, protocol.seed, splitting).make
        self.partition = lru_cache(_KEPT_PLANS)(partition)
        self._make = make or self._registered
        self.of_images = lru_cache(_KEPT_PLANS)(self._plan_images)

    def class_counts(self, partition: PartitionKey) -> Int32[np.ndarray, " classes"]:
        """Training images of each class."""
        labels = self.image_set.labels[self.partition(partition).train]
        return np.bincount(labels, minlength=self.image_set.num_classes).astype(np.int32)

    def trained_counts(self, partition: PartitionKey, stage1: Stage1) -> tuple[int, ...]:
        """Training images of each class per epoch of a network, those that its plan makes.

        Raises:
            InputError: as the sampler; or the network's loss needs a class that has none of them,
                or synthetic images are to be mixed.
        """
        plan = self.of_images(partition, stage1)
        if stage1.mixing is not None:
            try:
                require_unmoved(plan)
            except InputError as error:
                raise InputError(f"{stage1.title} on {partition.title}: {error}") from error
        counts = np.bincount(plan.label, minlength=self.image_set.num_classes)
        require_counts(stage1.functions, counts, self.image_set.class_names, partition.title)
        return tuple(counts.tolist())

    def stream(self, partition: PartitionKey, stage1: Stage1, *stage: str) -> Stream:
        """The random streams of a network, or of one of its heads (`stage`: the approach)."""
        return partial(derive, self.protocol.seed, *partition, stage1.stream, *stage)

    def require_classes(self, partition: PartitionKey, approach: Approach) -> None:
        """Checks before anything is trained that the classes are large enough for the samplers.

        Raises:
            InputError: a class is too small; the message names it and the partition.
        """
        rows = self.partition(partition).train
        names = np.array(self.image_set.class_names)[self.image_set.labels[rows]]
        for number, stage in enumerate((approach.stage1, approach.stage2), start=1):
            if stage is None or stage.sampler is None:
                continue
            try:
                self._make(stage.sampler, number, 0).require_classes(names)
            except InputError as error:
                made_rare = "" if partition.scenario == ORIGINAL else " or --ratios"
                raise InputError(
                    f"{approach.title} on {partition.title}: {error}; or lower --k-neighbors"
                    f"{made_rare}, or leave the approach out (--approaches)"
                ) from error

    def _plan_images(self, partition: PartitionKey, stage1: Stage1) -> Plan:
        """How the training images of a network are resampled, on rows of the image set.

        Raises:
            InputError: the sampler cannot decide on this partition.
        """
        rows = self.partition(partition).train
        labels = self.image_set.labels[rows]
        if stage1.sampler is None:
            return Plan.of_all(labels).of_rows(rows)
        sampler = self._make(stage1.sampler, 1, self.stream(partition, stage1)("plan"))
        try:
            if isinstance(sampler, SMOTE) and isinstance(k := sampler.k_neighbors, int):
                # Distances between all images are taken once, not once per partition.
                neighbors = subset_neighbors(self._neighbor_table, rows, labels, k)
                plan = sampler.plan(rows[:, None], labels, neighbors=neighbors)
            elif sampler.reads_samples:
                plan = sampler.plan(self.image_set.images[rows], labels)
            else:
                plan = sampler.plan(rows[:, None], labels)
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"sampler '{stage1.sampler}' on the images of {partition.title}: {error}; or "
                "leave out the approaches that use it"
            ) from error
        return plan.of_rows(rows)

    def of_features(
        self,
        partition: PartitionKey,
        approach: Approach,
        features: Float32[np.ndarray, "n f"],
    ) -> Plan:
        """How the features of a network's original training images are resampled.

        Args:
            partition: that the network belongs to.
            approach: with a stage 2.
            features: of the training images of the partition, in their order.

        Raises:
            ValueError: the sampler cannot decide on these features, or leaves a class without
                samples whose number the loss needs.
            RuntimeError: likewise, ADASYN's.
        """
        labels = self.image_set.labels[self.partition(partition).train]
        stage2 = approach.stage2 or Stage2()
        plan = Plan.of_all(labels)
        if stage2.sampler is not None:
            seed = self.stream(partition, approach.stage1, approach.base_name)("plan")
            plan = self._make(stage2.sampler, 2, seed).plan(features, labels)
        counts = np.bincount(plan.label, minlength=self.image_set.num_classes)
        require_counts(stage2.functions, counts, self.image_set.class_names, partition.title)
        return plan

    def _registered(self, name: str, stage: int, seed: int):
        return make_sampler(name, seed=seed, k_neighbors=self.protocol.k_neighbors)

    @cached_property
    def _neighbor_table(self):
        return rank_neighbors(self.image_set.images, self.image_set.labels)
