"""The study: which networks and heads there are, how they are grouped, resumed and recorded.

A study is a protocol applied to a scope: every approach in scope on every partition in scope. It
trains one network a (partition, image sampler), in groups whose members run as one program, and
from each network the heads of the approaches that share it. The networks of a group are
checkpointed after every epoch, its records written when it is done: a study may be stopped at any
moment and started again.
"""

import dataclasses
import hashlib
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from twostage_jax import __version__
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import Partition, PartitionKey, Partitions, partition_keys
from twostage_jax.models.weights import Weights
from twostage_jax.resampling.neighbors import rank_neighbors, subset_neighbors
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.smote import class_neighbor_lists
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.description import Description, read_description, write_description
from twostage_jax.study.exhibit import (
    FEATURES,
    IMAGES,
    exhibit_features,
    exhibit_images,
    write_exhibit,
)
from twostage_jax.study.record import Record, RecordKey, failed_record, read_record, write_record
from twostage_jax.study.resample import resample
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.trainer import Advance, Trained, Trainer

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


@dataclasses.dataclass(frozen=True)
class Scope:
    """Which part of the paper's experiment a study covers. No record depends on it."""

    scenarios: tuple[str, ...]
    ratios: tuple[float, ...]
    folds: int
    approaches: tuple[str, ...]


class Network(NamedTuple):
    """A network of stage 1 and the approaches that share it.

    Attributes:
        partition: what it is trained on.
        sampler: how its training images are resampled: None, `rus`, `ros` or `smote`.
        approaches: their names.
        images: rows of its plan: training images an epoch.
    """

    partition: PartitionKey
    sampler: str | None
    approaches: tuple[str, ...]
    images: int

    def record_key(self, approach: str) -> RecordKey:
        """The key of the record of one of its approaches."""
        return RecordKey(*self.partition, approach)


Group = tuple[Network, ...]


class GroupDone(NamedTuple):
    """A group has ended and its records are on disk.

    Attributes:
        group: its networks.
        failed: how many of its records are failed ones.
        seconds: of wall time in this process.
    """

    group: Group
    failed: int
    seconds: float


class Study:
    """One protocol on one image set, over a scope, with a folder of records."""

    def __init__(
        self,
        image_set: ImageSet,
        dataset: str,
        protocol: Protocol,
        weights: Weights | None,
        scope: Scope,
        *,
        output: Path,
        checkpoints: Path,
        members: int | None,
    ):
        """Lists what there is to do; nothing is trained or written yet.

        Args:
            image_set: the images, at the study's size.
            dataset: its name, for the settings.
            protocol: how to train.
            weights: what networks start from, or None for random weights.
            scope: what to cover.
            output: the study's folder, of `study.json` and `records`.
            checkpoints: folder for the checkpoints of groups in flight.
            members: how many networks a group may have; None for as many as the devices hold.

        Raises:
            InputError: a class is too small for the folds or for SMOTE's neighbours, a scenario or
                ratio is not valid, or nothing is in scope.
        """
        self.image_set = image_set
        self.protocol = protocol
        self.scope = scope
        self.output = output
        self.records = output / "records"
        self._partitions = Partitions(image_set, protocol.seed)
        self._weights = weights
        self._checkpoints = checkpoints
        self.members = members or self._trainer.members_that_fit()
        self.settings = {
            "dataset": dataset,
            "fingerprint": image_set.fingerprint,
            "classes": list(image_set.class_names),
            "image_size": list(image_set.images.shape[1:3]),
            "weights": weights.digest if weights else "random",
            **dataclasses.asdict(protocol),
        }
        self.settings_hash = Description(settings=self.settings).settings_hash
        self._versions = {name: version(name) for name in _VERSIONED}
        self._versions |= {"python": platform.python_version(), "twostage_jax": __version__}
        self.groups = self._make_groups(self._list_networks())
        if not self.groups:
            raise InputError(
                "nothing to train: these data are balanced at ratio 1, where resampling changes "
                "nothing and only the baseline is trained; add a ratio above 1 or the baseline"
            )

    # What there is to do

    def _list_networks(self) -> list[Network]:
        scope, networks = self.scope, []
        for key in partition_keys(scope.scenarios, scope.ratios, scope.folds):
            counts = self._class_counts(self.partition(key))
            balanced = counts.max() - counts.min() <= 1
            images = {
                None: counts.sum(),
                "rus": counts.min() * len(counts),
                "ros": counts.max() * len(counts),
                "smote": counts.max() * len(counts),
            }
            sharing: dict[str | None, list[str]] = {}
            for name in dict.fromkeys(scope.approaches):
                # Resampling a balanced partition changes nothing: the baseline stands for all.
                if name == "baseline" or not balanced:
                    sharing.setdefault(APPROACHES[name].image_sampler, []).append(name)
                    self._require_neighbors(name, counts, key)
            networks += [
                Network(key, sampler, tuple(names), int(images[sampler]))
                for sampler, names in sharing.items()
            ]
        return networks

    def _require_neighbors(
        self, approach: str, counts: Int[np.ndarray, " c"], key: PartitionKey
    ) -> None:
        k = self.protocol.k_neighbors
        samplers = APPROACHES[approach]
        if "smote" in (samplers.image_sampler, samplers.feature_sampler) and counts.min() <= k:
            name = self.image_set.class_names[counts.argmin()]
            raise InputError(
                f"class '{name}' keeps {counts.min()} training images at ratio {key.ratio:g} of "
                f"{key.scenario}, fold {key.fold}; SMOTE with {k} neighbours expects at least "
                f"{k + 1}: lower --k-neighbors or --ratios, or add images"
            )

    def _make_groups(self, networks: list[Network]) -> list[Group]:
        """The folds of one (scenario, ratio, sampler), cut where there are more than `members`.

        They have equally long epochs, up to an image a class, so that none waits for another. Where
        `members` has room for whole cells, those whose epochs take the same steps share a group:
        most do, as all cells of one oversampler have the same number of images.
        """
        cells: dict[tuple, list[Network]] = {}
        for network in networks:
            cells.setdefault((*network.partition[:2], network.sampler), []).append(network)
        alike: dict[int, list[list[Network]]] = {}
        for cell in cells.values():
            steps = -(-max(network.images for network in cell) // self.protocol.batch_size)
            open_groups = alike.setdefault(steps, [])
            for start in range(0, len(cell), self.members):
                part = cell[start : start + self.members]
                if open_groups and len(open_groups[-1]) + len(part) <= self.members:
                    open_groups[-1].extend(part)
                else:
                    open_groups.append(part)
        return [tuple(group) for groups in alike.values() for group in groups]

    @property
    def record_keys(self) -> list[RecordKey]:
        """The records of the whole scope, in the order of the paper's tables."""
        networks = [network for group in self.groups for network in group]
        return sorted(net.record_key(name) for net in networks for name in net.approaches)

    @cached_property
    def exhibited(self) -> RecordKey | None:
        """The record whose features are exhibited, if any: TS SMOTE+RUS before other approaches
        of two stages, at the highest ratio, of the first scenario and fold."""
        keys = [key for key in self.record_keys if APPROACHES[key.approach].two_stages]
        order = list(APPROACHES)
        return max(
            keys, key=lambda key: (key.ratio, -key.fold, order.index(key.approach)), default=None
        )

    def pending(self) -> list[Group]:
        """The groups with a record that is missing or failed, or whose features are to be shown.

        Raises:
            InputError: a record is damaged.
        """
        return [
            group
            for group in self.groups
            if not all(map(self.is_recorded, group)) or self._lacks_exhibit(group)
        ]

    def is_recorded(self, network: Network) -> bool:
        """Whether all records of a network are there and done.

        Raises:
            InputError: a record is damaged.
        """
        return all(self._is_done(network.record_key(name)) for name in network.approaches)

    def _is_done(self, key: RecordKey) -> bool:
        path = self.records / key.path
        return path.exists() and read_record(path).status == "done"

    def _lacks_exhibit(self, group: Group) -> bool:
        keys = [net.record_key(name) for net in group for name in net.approaches]
        return self.exhibited in keys and not (self.output / FEATURES).exists()

    def device_memory(self) -> int:
        """Bytes of device memory that the largest group takes, the images included."""
        return self._trainer.device_memory(max(map(len, self.groups)))

    def image_passes(self, groups: list[Group]) -> int:
        """Training images that go forward and backward through stage 1 of some groups."""
        return self.protocol.epochs * sum(net.images for group in groups for net in group)

    # The study's folder

    def check_folder(self) -> Description:
        """Checks that the study's folder, if there is one, is this study's.

        Returns:
            its description, as it stands there.

        Raises:
            InputError: it holds a study with other settings; the message names them.
        """
        description = read_description(self.output)
        if description is None:
            return Description(settings=self.settings)
        there = description.settings
        here = self.settings
        different = [
            f"{name} is {there.get(name)!r} there and {here.get(name)!r} here"
            for name in sorted(there.keys() | here.keys())
            if there.get(name) != here.get(name)
        ]
        if different:
            raise InputError(
                f"{self.output} holds a study with other settings ({'; '.join(different)}); name "
                "another folder with --output, or run with the settings there"
            )
        return description

    def open(self, command: str) -> None:
        """Makes the study's folder, or takes up the one there, up to the images to show.

        Args:
            command: that works on the study, kept for the reader.

        Raises:
            InputError: as `check_folder`.
            OSError: it cannot be written.
        """
        there = self.check_folder()
        earlier = {RecordKey.from_path(Path(path)) for path in there.records}
        keys = sorted(earlier | set(self.record_keys))
        description = Description(
            settings=self.settings,
            class_counts=self.image_set.class_counts.tolist(),
            source=self.image_set.source,
            commands=list(dict.fromkeys([*there.commands, command])),
            records=[key.path.as_posix() for key in keys],
        )
        write_description(self.output, description)
        if not (self.output / IMAGES).exists():
            exhibit = exhibit_images(self.image_set, self.settings_hash, self._smote_pair())
            write_exhibit(self.output, exhibit)

    def _smote_pair(self) -> tuple[int, int] | None:
        """The first pair of images that the study interpolates between, at its highest ratio."""
        networks = [net for group in self.groups for net in group if net.sampler == "smote"]
        if not networks:
            return None
        plan = self.image_plan(max(networks, key=lambda network: network.partition.ratio))
        synthetic = np.flatnonzero(plan.neighbor != plan.base)
        return (int(plan.base[synthetic[0]]), int(plan.neighbor[synthetic[0]]))

    def _checkpoint_folder(self, group: Group) -> Path:
        """One a group, study and version: two studies of equal settings may run side by side."""
        names = [self.settings_hash, str(self.output.resolve()), str(self._versions)]
        names += map(repr, group)
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return self._checkpoints / f"{self.output.name}-{digest[:16]}"

    # Data and its resampling

    def partition(self, key: PartitionKey) -> Partition:
        """One partition of the image set."""
        return self._partitions.make(key)

    def _class_counts(self, partition: Partition) -> Int[np.ndarray, " classes"]:
        labels = self.image_set.labels[partition.train]
        return np.bincount(labels, minlength=self.image_set.num_classes).astype(np.int32)

    @cached_property
    def _neighbor_table(self):
        return rank_neighbors(self.image_set.images, self.image_set.labels)

    def _stream(self, network: Network, *stage: str):
        """The random streams of a network, or of one of its heads."""
        names = (*network.partition, network.sampler or "none", *stage)
        return partial(derive, self.protocol.seed, *names)

    def image_plan(self, network: Network) -> Plan:
        """How a network's training images are resampled, on rows of the image set."""
        rows = self.partition(network.partition).train
        labels = self.image_set.labels[rows]
        plan = resample(
            network.sampler,
            labels,
            self._stream(network)("plan"),
            lambda: subset_neighbors(self._neighbor_table, rows, labels, self.protocol.k_neighbors),
        )
        return plan.of_rows(rows)

    def _feature_plan(
        self, network: Network, approach: str, features: Float32[np.ndarray, "n f"]
    ) -> Plan:
        """How the features of a network's original training images are resampled."""
        labels = self.image_set.labels[self.partition(network.partition).train]
        return resample(
            APPROACHES[approach].feature_sampler,
            labels,
            self._stream(network, approach)("plan"),
            lambda: class_neighbor_lists(
                features, labels, self.protocol.k_neighbors, np.unique(labels)
            ),
        )

    # The running

    @cached_property
    def _trainer(self) -> Trainer:
        return Trainer(self.image_set, self.protocol, self._weights)

    def run(self, groups: list[Group]) -> Iterator[Advance | GroupDone]:
        """Trains and records some of the study's groups, one after another.

        Where a device runs out of memory, the group and all that follow are halved, with a warning.

        Raises:
            OSError: a record or a checkpoint cannot be written; what was recorded is kept.
            JaxRuntimeError: the device has too little memory for a single network.
        """
        waiting, most = list(groups), max(map(len, groups), default=0)
        while waiting:
            group = waiting.pop(0)
            if len(group) > most:
                waiting[:0] = [group[i : i + most] for i in range(0, len(group), most)]
                continue
            try:
                yield from self._run_group(group)
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or len(group) == 1:
                    raise
                most = len(group) // 2
                warnings.warn(
                    f"the device has too little memory for {len(group)} networks at a time: "
                    f"goes on with {most}; --members {most} starts so",
                    stacklevel=2,
                )
                waiting.insert(0, group)

    def _run_group(self, group: Group) -> Iterator[Advance | GroupDone]:
        started = time.perf_counter()
        trainer, folder = self._trainer, self._checkpoint_folder(group)
        trained = yield from trainer.train_networks(
            [self.image_plan(network) for network in group],
            [self._stream(network) for network in group],
            folder,
        )
        stopwatch = time.perf_counter()
        partitions = [self.partition(network.partition) for network in group]
        # Test images come first: every network needs their features, only some the others.
        rows = [
            np.concatenate([part.test, part.train]) if _has_heads(network) else part.test
            for part, network in zip(partitions, group, strict=True)
        ]
        features = trainer.extract(trained.state, rows)
        probabilities = trainer.predict(trained.state.params["head"], features)
        seconds = {
            "stage1": trained.seconds / len(group),
            "features": (time.perf_counter() - stopwatch) / len(group),
            "stage2": 0.0,
        }
        no_curve = np.zeros((0, 2), np.float32)
        records = [
            self._record(network, name, probabilities[member], (curve, no_curve), seconds, 0)
            for member, (network, curve) in enumerate(zip(group, trained.curves, strict=True))
            for name in network.approaches
            if not APPROACHES[name].two_stages
        ]
        records += self._run_heads(group, partitions, trained, features, seconds)
        for record in records:
            # A group may be trained again for another record, or for its features.
            if not self._is_done(record.key):
                write_record(self.records, record)
        shutil.rmtree(folder, ignore_errors=True)
        failed = sum(record.status == "failed" for record in records)
        yield GroupDone(group, failed, time.perf_counter() - started)

    def _run_heads(
        self,
        group: Group,
        partitions: list[Partition],
        trained: Trained,
        features: Float[Array, "members rows f"],
        seconds: dict[str, float],
    ) -> list[Record]:
        """Stage 2 of every approach of a group that has one, all heads at once."""
        heads = [
            (member, network, name)
            for member, network in enumerate(group)
            for name in network.approaches
            if APPROACHES[name].two_stages
        ]
        if not heads:
            return []
        plans = []
        for member, network, name in heads:
            first = len(partitions[member].test)
            rows = first + np.arange(len(partitions[member].train))
            plan = self._feature_plan(network, name, np.asarray(features[member, rows]))
            plans.append(plan.of_rows(rows))
        members = [member for member, _, _ in heads]
        streams = [self._stream(network, name) for _, network, name in heads]
        tuned = self._trainer.train_heads(trained.state, members, features, plans, streams)
        probabilities = self._trainer.predict(tuned.state.params, features[np.array(members)])
        if self._lacks_exhibit(group):
            self._exhibit_features(heads, partitions, trained, tuned, features)
        seconds = seconds | {"stage2": tuned.seconds / len(heads)}
        return [
            self._record(
                network,
                name,
                probabilities[head],
                (trained.curves[member], tuned.curves[head]),
                seconds,
                len(plans[head]),
            )
            for head, (member, network, name) in enumerate(heads)
        ]

    def _exhibit_features(
        self,
        heads: list[tuple[int, Network, str]],
        partitions: list[Partition],
        trained: Trained,
        tuned: Trained,
        features: Float[Array, "members rows f"],
    ) -> None:
        """Writes what the hidden layer makes of the test images, before and after stage 2."""
        keys = [network.record_key(name) for _, network, name in heads]
        head = keys.index(self.exhibited)
        member = heads[head][0]
        partition = partitions[member]
        own = features[member][None, : len(partition.test)]

        def represent(params: nnx.State, position: int) -> Float32[np.ndarray, "test hidden"]:
            one = jax.tree.map(lambda leaf: leaf[position][None], params)
            return self._trainer.represent(one, own)[0]

        before = represent(trained.state.params["head"], member)
        after = represent(tuned.state.params, head)
        if np.isfinite(before).all() and np.isfinite(after).all():
            exhibit = exhibit_features(
                self.exhibited,
                self.settings_hash,
                before,
                after,
                label=self.image_set.labels[partition.test],
                kept=partition.kept,
            )
            write_exhibit(self.output, exhibit)

    def _record(
        self,
        network: Network,
        approach: str,
        probabilities: Float32[np.ndarray, "rows classes"],
        curves: tuple[Float32[np.ndarray, "epochs 2"], Float32[np.ndarray, "epochs2 2"]],
        seconds: dict[str, float],
        features: int,
    ) -> Record:
        """Of one approach; `features` is the number of features an epoch of stage 2."""
        partition = self.partition(network.partition)
        key = network.record_key(approach)
        provenance = {
            "class_counts": self._class_counts(partition),
            "settings": self.settings,
            "settings_hash": self.settings_hash,
            "versions": self._versions,
            "device": jax.local_devices()[0].device_kind,
        }
        for stage, curve in enumerate(curves, start=1):
            finite = np.isfinite(curve).all(axis=1)
            if not finite.all():
                reason = f"the loss of stage {stage} is not finite in epoch {1 + finite.argmin()}"
                return failed_record(key, reason, **provenance)
        test = partition.test
        if not np.isfinite(probabilities[: len(test)]).all():
            return failed_record(key, "the predictions are not finite", **provenance)
        return Record(
            key=key,
            status="done",
            reason="",
            test_index=test,
            label=self.image_set.labels[test],
            kept=partition.kept,
            probabilities=probabilities[: len(test)],
            curve1=curves[0],
            curve2=curves[1],
            seconds=seconds,
            images={
                "stage1": self.image_passes([(network,)]),
                "stage2": self.protocol.epochs * features,
            },
            **provenance,
        )


def _has_heads(network: Network) -> bool:
    return any(APPROACHES[name].two_stages for name in network.approaches)
