"""Engines train the groups of a study. This one trains here; `twostage_jax.cluster` has another."""

import dataclasses
import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax

from twostage_jax.data.folds import Splitting
from twostage_jax.data.image_set import ImageSet
from twostage_jax.models.weights import Weights
from twostage_jax.study.claims import Claims
from twostage_jax.study.halving import run_halving
from twostage_jax.study.jobs import Group, title
from twostage_jax.study.plans import Plans
from twostage_jax.study.record import RecordKey
from twostage_jax.study.run import GroupResult, Provenance, run_group
from twostage_jax.training import protocol as protocols
from twostage_jax.training.trainer import Progress, Trainer

Tell = Callable[[str], None]
"""Is told in a line who works on what."""


class Material(NamedTuple):
    """What any process needs of a study to train its groups.

    Attributes:
        image_set: the images, at the study's size.
        protocol: how to train.
        splitting: how images are dealt to folds.
        weights: what networks start from, or None for random weights.
    """

    image_set: ImageSet
    protocol: protocols.Protocol
    splitting: Splitting
    weights: Weights | None

    def make_plans(self) -> Plans:
        """What networks train on; nothing is computed yet."""
        return Plans(self.image_set, self.protocol, self.splitting)

    def make_trainer(self) -> Trainer:
        """The compiled programs, with the images on the devices of this process."""
        own = self.image_set
        return Trainer(self.protocol, own.class_counts, own.images, self.weights)


class Task(NamedTuple):
    """What all groups of a run have in common.

    Attributes:
        provenance: for the records; an engine fills in the device.
        shown: the record whose features a report is to show; None for none.
    """

    provenance: Provenance
    shown: RecordKey | None

    def on(self, device: str) -> "Task":
        """The same with the device that trains."""
        return self._replace(provenance=dataclasses.replace(self.provenance, device=device))


class Ended(NamedTuple):
    """A group has ended.

    Attributes:
        group: its networks.
        result: what they leave; without records where another process has just recorded them.
        seconds: of wall time.
    """

    group: Group
    result: GroupResult
    seconds: float


@runtime_checkable
class Engine(Protocol):
    """What trains the groups of a study."""

    def members(self, networks: int) -> int:
        """How many of a study's networks suit the memory of the devices that train a group."""
        ...

    def device_memory(self, members: int) -> int | None:
        """Bytes of a device's memory that training takes, see `Trainer.device_memory`."""
        ...

    def run(
        self, task: Task, groups: Sequence[Group], claims: Claims, progress: Progress
    ) -> Generator[Ended, None, None]:
        """Trains groups, in any order, in parts where memory does not suffice.

        A group that another process trains is left until all others are done, and taken up when
        that process has ended.

        Args:
            task: what they have in common.
            groups: to train.
            claims: a group is trained once it is taken there.
            progress: is told how far training is.
        """
        ...


class LocalEngine:
    """Trains one group after another in this process, on all of its devices."""

    def __init__(self, trainer: Trainer, plans: Plans, tell: Tell | None = None):
        """Args are the study's; `tell` is called with each group that begins."""
        self._trainer = trainer
        self._plans = plans
        self._tell = tell or (lambda _: None)
        self.device_memory = trainer.device_memory

    def members(self, networks: int) -> int:
        """See `Engine.members`."""
        return self._trainer.members_that_fit()

    def run(
        self, task: Task, groups: Sequence[Group], claims: Claims, progress: Progress
    ) -> Generator[Ended, None, None]:
        """See `Engine.run`.

        Raises:
            OSError: a checkpoint cannot be written or read.
            JaxRuntimeError: the device has too little memory for a single network.
        """
        task = task.on(device_name())
        held: list[Group] = []

        def run(group: Group, *, wait: bool) -> GroupResult | None:
            claim = claims.take(group, wait=wait)
            if claim is None:
                held.append(group)
                return None
            if claim.recorded:
                return GroupResult([])
            self._tell(f"{title(group)} begins")
            try:
                return run_group(
                    *(self._trainer, self._plans, group, claim.checkpoints, task.provenance),
                    shown=task.shown,
                    progress=progress,
                )
            except BaseException:
                claims.release(group)
                raise

        for ended in run_halving(groups, partial(run, wait=False)):
            yield Ended(*ended)
        for ended in run_halving(held, partial(run, wait=True)):
            yield Ended(*ended)


def device_name() -> str:
    """The kind of this process's devices; on a CPU with the threads that XLA shares sums among.

    XLA rounds differently with another number of threads, so that records are equal only where
    both agree.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return device.device_kind
    number = threads()
    return f"cpu, {number} thread{'s' * (number > 1)}"


def threads() -> int:
    """Threads that XLA uses on a CPU: NPROC, or as many as this process may run at a time."""
    if (told := os.environ.get("NPROC", "")).isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
