"""What there is to do in a study: lists of networks, and of groups that train at once."""

import dataclasses
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from twostage_jax.data.partition import PartitionKey, partition_keys
from twostage_jax.study.approaches import Approach, Stage1, position
from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.plans import Plans
from twostage_jax.study.record import RecordKey
from twostage_jax.support.errors import InputError


@dataclasses.dataclass(frozen=True)
class Scope:
    """Which part of an experiment a study covers. No record depends on it."""

    scenarios: tuple[str, ...]
    ratios: tuple[float, ...]
    folds: int
    approaches: tuple[Approach, ...]


class Network(NamedTuple):
    """A network of stage 1 and the approaches that share it.

    Attributes:
        partition: what it is trained on.
        stage1: how.
        approaches: that share it.
        counts: training images of each class per epoch, those that its plan makes.
    """

    partition: PartitionKey
    stage1: Stage1
    approaches: tuple[Approach, ...]
    counts: tuple[int, ...]

    @property
    def images(self) -> int:
        """Training images per epoch."""
        return sum(self.counts)

    @property
    def keys(self) -> list[RecordKey]:
        """The keys of its records, one per approach."""
        return [self.key(approach) for approach in self.approaches]

    def key(self, approach: Approach) -> RecordKey:
        """The key of the record of one of its approaches."""
        return RecordKey(*self.partition, approach.name)


# Networks that train at once, as one program.
Group = tuple[Network, ...]


def list_networks(plans: Plans, scope: Scope) -> list[Network]:
    """The networks of a scope, partition by partition.

    Approaches with an equal stage 1 share one. On a balanced partition only the baseline is
    trained, as in the paper: there is no imbalance to mend.

    Raises:
        InputError: a class is too small for the folds or for a sampler, a scenario or a ratio is
            not valid, or nothing is in scope.
    """
    networks = []
    for partition in partition_keys(scope.scenarios, scope.ratios, scope.folds):
        counts = plans.class_counts(partition)
        balanced = counts.max() - counts.min() <= 1
        sharing: dict[Stage1, list[Approach]] = {}
        for approach in dict.fromkeys(scope.approaches):
            if approach.is_plain or not balanced:
                plans.require_classes(partition, approach)
                sharing.setdefault(approach.stage1, []).append(approach)
        networks += [
            Network(partition, stage1, tuple(own), plans.trained_counts(partition, stage1))
            for stage1, own in sharing.items()
        ]
    if not networks:
        raise InputError(
            "nothing to train: these data are balanced at ratio 1, where only the baseline is "
            "trained; add a ratio above 1 or the baseline"
        )
    return networks


def make_groups(networks: Iterable[Network], members: int, batch_size: int) -> list[Group]:
    """Puts networks that train in lockstep into groups of at most `members`.

    Networks in a group need the same program and mixing, and the same number of steps per epoch,
    or some would wait for others. The folds of one (scenario, ratio, stage 1), a cell, differ by
    at most an image per class. Whole cells with the same number of steps share a group where they
    fit, as all cells of one over-sampler do.
    """
    cells: dict[tuple, list[Network]] = {}
    for network in networks:
        cell = (network.partition.scenario, network.partition.ratio, network.stage1)
        cells.setdefault(cell, []).append(network)
    alike: dict[tuple, list[list[Network]]] = {}
    for cell in cells.values():
        steps = -(-max(network.images for network in cell) // batch_size)
        stage1 = cell[0].stage1
        groups = alike.setdefault((steps, stage1.objective, stage1.mixing), [])
        for start in range(0, len(cell), members):
            part = cell[start : start + members]
            if groups and len(groups[-1]) + len(part) <= members:
                groups[-1].extend(part)
            else:
                groups.append(part)
    return [tuple(group) for groups in alike.values() for group in groups]


def title(group: Group) -> str:
    """What a group is called, for people."""
    first, last = (
        f"{network.partition.title} {network.stage1.title}" for network in (group[0], group[-1])
    )
    return first if len(group) == 1 else f"{first} to {last} ({len(group)} networks)"


def record_keys(networks: Iterable[Network]) -> list[RecordKey]:
    """The keys of all records of some networks, in the order of the paper's tables."""
    return sorted(key for network in networks for key in network.keys)


def pending(
    groups: Iterable[Group], folder: StudyFolder, ready: Container[RecordKey] = ()
) -> list[Group]:
    """The groups with a record that is missing or failed.

    Args:
        groups: to look through.
        folder: of the study.
        ready: keys of records that follow from others without training.

    Raises:
        InputError: a record is damaged.
    """

    def is_done(key: RecordKey) -> bool:
        return key in ready or folder.is_done(key)

    return [group for group in groups if not all(map(is_done, record_keys(group)))]


def find_base(approach: Approach, others: Iterable[Approach]) -> Approach | None:
    """The approach whose records hold what another one corrects; None if there is none.

    Args:
        approach: with or without a correction.
        others: to choose from.
    """
    if approach.correction is None:
        return None
    for own in others:
        alike = (own.stage1, own.stage2, own.correction) == (approach.stage1, approach.stage2, None)
        # Streams of heads are named after their approach, those of networks are not.
        if alike and (own.stage2 is None or own.name == approach.base_name):
            return own
    return None


def image_passes(groups: Iterable[Group], epochs: int) -> int:
    """Training images that go forward and backward through the networks of some groups."""
    return epochs * sum(network.images for group in groups for network in group)


def shown_record(networks: Sequence[Network]) -> RecordKey | None:
    """The record whose features a report shows, if any approach has a stage 2.

    It is at the highest ratio, of the first scenario and fold, and of the last two-stage approach
    in the order of tables among the paper's (TS SMOTE+RUS), else among all.
    """

    def preference(pair: tuple[Network, Approach]) -> tuple:
        network, approach = pair
        kind, *rest = position(approach.name)
        two_stages = approach.family == "two-stage"
        return network.partition.ratio, -network.partition.fold, two_stages, -kind, rest

    pairs = [(net, own) for net in networks for own in net.approaches if own.stage2 is not None]
    if not pairs:
        return None
    network, approach = max(pairs, key=preference)
    return network.key(approach)
