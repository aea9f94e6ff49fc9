"""Deals groups out to workers, and out again where a worker is lost."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from twostage_jax.cluster.schedule import STRIKES, Running, Schedule, Worker
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Ended, Task, Tell
from twostage_jax.study.halving import warn_of_halving
from twostage_jax.study.jobs import Group, title
from twostage_jax.study.run import GroupResult
from twostage_jax.support.errors import InputError
from twostage_jax.training.trainer import Advance, Progress


class Advanced(NamedTuple):
    """A worker's group went on."""

    worker: Worker
    advances: list[Advance]


class Finished(NamedTuple):
    """A worker has ended its group: with a result, or None where memory did not suffice."""

    worker: Worker
    result: GroupResult | None


class Lost(NamedTuple):
    """A worker is gone.

    Attributes:
        worker: which.
        reason: why, in words.
        blamed: whether its group may be at fault.
    """

    worker: Worker
    reason: str
    blamed: bool


Event = Advanced | Finished | Lost


@runtime_checkable
class Pool(Protocol):
    """Workers that come and go."""

    def hire(self, wanted: int) -> None:
        """Sees to it that there are as many workers, as far as the machines allow."""
        ...

    def idle(self) -> list[Worker]:
        """The workers that are ready for a group."""
        ...

    def assign(self, worker: Worker, group: Group, checkpoints: Path, task: Task) -> None:
        """Gives a group to an idle worker."""
        ...

    def events(self, seconds: float) -> list[Event]:
        """What has happened; waits for something to happen, but no longer than some seconds."""
        ...

    def dismiss(self, worker: Worker) -> None:
        """Ends a worker, whatever it does."""
        ...

    def describe(self, worker: Worker) -> str:
        """Where a worker works, for people."""
        ...

    def device(self, worker: Worker) -> str:
        """What a worker computes on, for records."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dealer:
    """Deals the groups of a run out to a pool of workers."""

    schedule: Schedule
    """Of the groups."""
    pool: Pool
    """Of the workers."""
    task: Task
    """What the groups have in common."""
    claims: Claims
    """A group that is refused there is left out."""
    give_up: Callable[[Group, str, str], GroupResult]
    """Makes what is recorded of a group that is given up, of the group, the reason and the device
    that was tried last."""
    progress: Progress
    """Is told how far training is, over all workers."""
    tell: Tell
    """Is told who works on what."""
    clock: Callable[[], float] = time.monotonic
    """Gives seconds."""

    def deal(self) -> Iterator[Ended]:
        """Runs until no group waits and none is at work.

        Raises:
            InputError: a device has too little memory for a single network.
        """
        schedule, pool = self.schedule, self.pool
        while True:
            self._assign()
            if not schedule.unfinished:
                return
            pool.hire(schedule.unfinished)
            ended = [own for event in pool.events(1.0) for own in self._handle(event)]
            for worker in schedule.overdue(self.clock()):
                seconds = schedule.allowance(schedule.running[worker].group)
                ended += self._lose(Lost(worker, f"no progress for {seconds:.0f} s", blamed=True))
                pool.dismiss(worker)
            if ended:
                self._assign()  # workers do not wait until records are written
            began = self.clock()
            yield from ended
            schedule.pause(self.clock() - began)

    def _assign(self) -> None:
        for worker in self.pool.idle():
            folder = group = None
            while folder is None:
                if (group := self.schedule.next()) is None:
                    return
                folder = self.claims.take(group)
            assert group is not None
            self.pool.assign(worker, group, folder, self.task)
            self.schedule.begin(worker, group, self.clock())
            self.tell(f"{title(group)}: {self.pool.describe(worker)}")

    def _handle(self, event: Event) -> list[Ended]:
        """What a group's end leaves, if the event is one."""
        schedule, worker, now = self.schedule, event.worker, self.clock()
        if worker not in schedule.running:
            return []
        if isinstance(event, Lost):
            return self._lose(event)
        if isinstance(event, Advanced):
            for advance in event.advances:
                schedule.advance(worker, advance, now)
                self.progress(advance)
            return []
        if event.result is None:
            self._halve(worker)
            return []
        running = schedule.done(worker, now)
        self.progress(Advance(schedule.images_left(running)))
        return [Ended(running.group, event.result, now - running.began)]

    def _halve(self, worker: Worker) -> None:
        running, half = self.schedule.too_large(worker)
        self._forget(running)
        if not half:
            raise InputError(
                f"{self.pool.describe(worker)} has too little memory for one network; lower "
                "--batch-size, --image-size or --width, or leave that machine out"
            )
        warn_of_halving(len(running.group), half)

    def _lose(self, event: Lost) -> list[Ended]:
        where, device = self.pool.describe(event.worker), self.pool.device(event.worker)
        running, strikes, given_up = self.schedule.lost(event.worker, blamed=event.blamed)
        told = f"{where} is lost ({event.reason}); {title(running.group)} "
        if not given_up:
            count = f" (it has cost {strikes} of at most {STRIKES} workers)" if strikes else ""
            warnings.warn(f"{told}goes to another worker{count}", stacklevel=2)
            self._forget(running)
            return []
        warnings.warn(f"{told}has cost {strikes} workers and is recorded as failed", stacklevel=2)
        self.progress(Advance(self.schedule.images_left(running), resumed=True))
        reason = f"it has cost {strikes} workers; the last one: {event.reason}"
        result = self.give_up(running.group, reason, device)
        return [Ended(running.group, result, self.clock() - running.began)]

    def _forget(self, running: Running) -> None:
        """A group is to begin again: its progress counts once."""
        self.claims.release(running.group)
        self.progress(Advance(-running.trained))
        self.progress(Advance(-running.resumed, resumed=True))
