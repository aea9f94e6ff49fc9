"""A study: every approach in scope on every partition in scope, with a folder of records.

It trains one network per partition and stage 1, in groups whose members run as one program, and
from each network the heads of the approaches that share it. Networks are checkpointed after every
epoch, records are written when their group is done: a study may be stopped at any moment and
started again.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from twostage_jax.data.folds import Splitting
from twostage_jax.data.image_set import ImageSet
from twostage_jax.models.weights import Weights
from twostage_jax.study.approaches import Approach
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Engine, LocalEngine, Material, Task
from twostage_jax.study.figure_data import choose_images, write_figure_data
from twostage_jax.study.folder import (
    Description,
    StudyFolder,
    read_description,
    read_record,
    read_records,
    record_path,
    write_description,
    write_record,
)
from twostage_jax.study.jobs import (
    Group,
    Network,
    Scope,
    find_base,
    image_passes,
    list_networks,
    make_groups,
    pending,
    record_keys,
    shown_record,
)
from twostage_jax.study.litter import groups_in_flight, remove_litter
from twostage_jax.study.record import Record, known_prior
from twostage_jax.study.run import GroupResult, Provenance, correct, versions
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol, complete_settings
from twostage_jax.training.trainer import Advance, Progress, Trainer


def _differences(there: dict, here: dict) -> list[str]:
    """What differs between the settings of a folder or a record and those of a study, in words."""
    old, new = complete_settings(there), complete_settings(here)
    return [
        f"{name} is {old.get(name)!r} there and {new.get(name)!r} here"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


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
    """One protocol on one image set, over a scope."""

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
        splitting: Splitting | None = None,
    ):
        """Nothing is computed, compiled or written yet.

        Args:
            image_set: the images, at the study's size.
            dataset: its name, for the settings.
            protocol: how to train.
            weights: what networks start from, or None for random weights.
            scope: what to cover.
            output: the study's folder.
            checkpoints: folder for the checkpoints of groups in flight.
            splitting: how images are dealt to folds; None: in the paper's way.
        """
        splitting = splitting or Splitting()
        self.image_set = image_set
        self.protocol = protocol
        self.scope = scope
        self.folder = StudyFolder(output)
        self.material = Material(image_set, protocol, splitting, weights)
        self.plans = self.material.make_plans()
        # Workers of an engine may have another working directory.
        self._checkpoints = checkpoints.absolute()
        self.settings = {
            "dataset": dataset,
            "fingerprint": image_set.fingerprint,
            "classes": list(image_set.class_names),
            "image_size": list(image_set.images.shape[1:3]),
            "weights": weights.digest if weights else "random",
            **protocol.to_settings(),
            **splitting.to_settings(),
        }
        self._versions = versions()

    @cached_property
    def networks(self) -> list[Network]:
        """The networks of the scope; their plans are made to count their images.

        Raises:
            InputError: as `jobs.list_networks`.
        """
        return list_networks(self.plans, self.scope)

    @cached_property
    def trainer(self) -> Trainer:
        """The compiled programs, with the images on the device."""
        return self.material.make_trainer()

    def groups(self, members: int) -> list[Group]:
        """The networks in groups of at most `members`."""
        return make_groups(self.networks, members, self.protocol.batch_size)

    def members(self, usual: int) -> int:
        """The number of members with which the most groups in flight go on.

        An engine may suggest another number after a restart, on other devices. Groups of other
        networks would not find their checkpoints.

        Args:
            usual: the number that counts where nothing is in flight.
        """
        in_flight = groups_in_flight(self.folder, self._checkpoints)
        if not in_flight:
            return usual

        def kept(members: int) -> int:
            return sum(frozenset(record_keys(own)) in in_flight for own in self.groups(members))

        return max([usual, *range(1, len(self.networks) + 1)], key=kept)

    def check_folder(self) -> Description:
        """Checks that the study's folder, if there is one, is this study's, and so every record.

        Returns:
            its description as it stands there. Where an earlier version wrote it, its settings
            may lack some; records that are added bear the same.

        Raises:
            InputError: it holds a study with other settings or other recipes, or a record that is
                damaged, misplaced or of other settings; the message names them.
            OSError: a file is unreadable.
        """
        there = read_description(self.folder.path)
        records = read_records(self.folder.records) if self.folder.records.exists() else []
        if there is None:
            # The records of a folder whose description was lost tell whose they are.
            settings = records[0].settings if records else self.settings
            if _differences(settings, self.settings):
                settings = self.settings
            there = Description(settings=settings)
        for record in records:
            if record.settings_hash != there.settings_hash:
                different = _differences(record.settings, there.settings)
                raise InputError(
                    f"{self.folder.record(record.key)} is a record of other settings "
                    f"({'; '.join(different) or 'its settings_hash differs'}); move it away, or "
                    "name another folder with --output"
                )
        images = {"fingerprint": self.settings["fingerprint"]}
        different = _differences(there.settings | images, self.settings)
        if there.settings.get("fingerprint") != images["fingerprint"]:
            different.insert(0, self._changed_images(there))
        recipes = there.recipes
        different += [
            f"the recipe of approach {own.name} is another one"
            for own in self.scope.approaches
            if own.name in recipes and recipes[own.name].recipe != own.recipe
        ]
        if different:
            raise InputError(
                f"{self.folder.path} holds a study with other settings ({'; '.join(different)}); "
                "name another folder with --output, or run with the settings there"
            )
        return there

    def corrections(self) -> Iterator[tuple[Record, Approach]]:
        """The records of the folder that missing ones only correct, and the approach of each.

        Raises:
            InputError: a record is damaged.
        """
        known = read_description(self.folder.path)
        others = [*self.scope.approaches, *(known.recipes.values() if known else ())]
        for network in self.networks:
            for approach in network.approaches:
                base = find_base(approach, others)
                if base is None or self.folder.is_done(network.key(approach)):
                    continue
                path = self.folder.record(network.key(base))
                record = read_record(path) if path.exists() else None
                if record is None or record.status != "done":
                    continue
                if known_prior(record, base) is not None:
                    yield record, approach

    def pending(self, groups: Sequence[Group]) -> list[Group]:
        """The groups that have a record to train for.

        Raises:
            InputError: a record is damaged.
        """
        ready = {replace(record.key, approach=own.name) for record, own in self.corrections()}
        return pending(groups, self.folder, ready)

    def _changed_images(self, there: Description) -> str:
        """What is known of how the images differ from those of the study in the folder."""
        names = there.settings.get("classes")
        if not isinstance(names, list) or len(names) != len(there.class_counts):
            return "the images changed"  # an earlier version did not write how many there were
        old = dict(zip(names, there.class_counts, strict=True))
        counts = self.image_set.class_counts.tolist()
        new = dict(zip(self.image_set.class_names, counts, strict=True))
        changes = [
            f"{old.get(name, 0)} images of {name} there and {new.get(name, 0)} here"
            for name in dict.fromkeys([*old, *new])
            if old.get(name, 0) != new.get(name, 0)
        ]
        same = "as many in each class, with other pixels or names"
        listed = ", ".join(changes[:5]) + (f" and {len(changes) - 5} more" if changes[5:] else "")
        return f"the images changed: {listed or same}"

    def open(self, command: str, fit: str = "") -> None:
        """Makes the study's folder or resumes the one that is there.

        Records that only correct the probabilities of others that are there are written at once.

        Args:
            command: that works on the study, kept for the reader.
            fit: see `Description.fit`; empty keeps the one that is there.

        Raises:
            InputError: as `check_folder`.
            OSError: it cannot be written.
        """
        there = self.check_folder()
        keys = sorted({*there.keys, *record_keys(self.networks)})
        recipes = there.approaches | {own.name: own.to_json() for own in self.scope.approaches}
        description = Description(
            settings=there.settings,
            class_counts=self.image_set.class_counts.tolist(),
            source=self.image_set.source,
            commands=list(dict.fromkeys([*there.commands, command])),
            records=[record_path(key).as_posix() for key in keys],
            approaches=recipes,
            fit=fit or there.fit,
        )
        write_description(self.folder.path, description)
        for record, approach in self.corrections():
            write_record(self.folder.records, correct(record, approach))
        if not self.folder.images.exists():
            images = choose_images(self.image_set, description.settings_hash, self._smote_pair())
            write_figure_data(self.folder.path, images)

    def _smote_pair(self) -> tuple[int, int] | None:
        """The first pair of images that SMOTE interpolates between, at the highest ratio."""
        networks = [network for network in self.networks if network.stage1.sampler == "smote"]
        if not networks:
            return None
        network = max(networks, key=lambda network: network.partition.ratio)
        plan = self.plans.of_images(network.partition, network.stage1)
        synthetic = np.flatnonzero(plan.neighbor != plan.base)
        return (int(plan.base[synthetic[0]]), int(plan.neighbor[synthetic[0]]))

    def run(
        self,
        groups: Sequence[Group],
        progress: Progress = lambda _: None,
        engine: Engine | None = None,
    ) -> Iterator[GroupDone]:
        """Trains some of the study's groups and records each as soon as it is done.

        A group that another process trains is left until all others are done. It is then taken up
        when that process ends, and counts as done if the process has recorded it.
        Where a device runs out of memory, the group and all that follow are halved, with a warning.

        Args:
            groups: of `groups`.
            progress: is told how far training is.
            engine: what trains them; by default this process does.

        Raises:
            InputError: as `check_folder`, or as the engine.
            OSError: a record or a checkpoint cannot be written; what was recorded is kept.
            JaxRuntimeError: the device has too little memory for a single network.
        """
        description = self.check_folder()
        provenance = Provenance(
            settings=description.settings,
            settings_hash=description.settings_hash,
            versions=self._versions,
            device="",
        )
        task = Task(provenance, shown_record(self.networks))
        engine = engine or LocalEngine(self.trainer, self.plans)
        claims = Claims(self.folder, self._checkpoint_folder)
        try:
            with contextlib.closing(engine.run(task, groups, claims, progress)) as ended:
                for group, result, seconds in ended:
                    self._record(result)
                    claims.release(group, done=True)
                    if not result.records:  # those of another process are there
                        images = image_passes([group], self.protocol.epochs)
                        progress(Advance(images, resumed=True))
                    failed = sum(record.status == "failed" for record in result.records)
                    yield GroupDone(group, failed, seconds)
        finally:
            claims.release_all()
        self.remove_litter()

    def _record(self, result: GroupResult) -> None:
        for record in result.records:
            # A group may be trained again for another of its records.
            if not self.folder.is_done(record.key):
                write_record(self.folder.records, record)
        if result.features is not None and not self.folder.features.exists():
            write_figure_data(self.folder.path, result.features)

    def remove_litter(self, finished: Sequence[Group] = ()) -> None:
        """Removes what killed processes of this study left, see `litter.remove_litter`.

        Args:
            finished: groups whose records are all there, and whose checkpoints are of no use.
        """
        remove_litter(self.folder, self._checkpoints, map(self._checkpoint_folder, finished))

    def _checkpoint_folder(self, group: Group) -> Path:
        """One per group, study and version: two studies of equal settings may run side by side."""
        names = [str(self.settings), str(self.folder.path.resolve()), str(self._versions)]
        names += [repr((own.partition, own.stage1, own.counts)) for own in group]
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()
        return self._checkpoints / f"{self.folder.path.name}-{digest[:16]}"
