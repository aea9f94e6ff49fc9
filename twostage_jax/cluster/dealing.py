"""Deals groups out to workers, and out again where a worker is lost."""

import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from twostage_jax.cluster.schedule import STRIKES, Running, Schedule, WorkerId
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Ended, Task, Tell
from twostage_jax.study.halving import warn_of_halving
from twostage_jax.study.jobs import Group, title
from twostage_jax.study.run import GroupResult
from twostage_jax.support.errors import InputError
from twostage_jax.training.trainer import Advance, Progress


class Advanced(NamedTuple):
    """A worker's group went on."""

    worker: WorkerId
    advances: list[Advance]


class Finished(NamedTuple):
    """A worker has ended its group: with a result, or None where memory did not suffice."""

    worker: WorkerId
    result: GroupResult | None


class Lost(NamedTuple):
    """A worker is gone.

    Attributes:
        worker: which.
        reason: why, in words.
        blamed: whether its group may be at fault.
    """

    worker: WorkerId
    reason: str
    blamed: bool


class Stopped(NamedTuple):
    """The study cannot go on.

    Attributes:
        error: why.
    """

    error: Exception


Event = Advanced | Finished | Lost | Stopped


@runtime_checkable
class Pool(Protocol):
    """Workers that come and go."""

    def hire(self, wanted: int) -> None:
        """Sees to it that there are as many workers, as far as the machines allow."""
        ...

    def idle(self) -> list[WorkerId]:
        """The workers that are ready for a group."""
        ...

    def assign(self, worker: WorkerId, group: Group, checkpoints: Path, task: Task) -> None:
        """Gives a group to an idle worker."""
        ...

    def events(self, seconds: float) -> list[Event]:
        """What has happened; waits for something to happen, but no longer than some seconds."""
        ...

    def dismiss(self, worker: WorkerId) -> None:
        """Ends a worker, whatever it does."""
        ...

    def describe(self, worker: WorkerId) -> str:
        """Where a worker works, for people."""
        ...

    def device(self, worker: WorkerId) -> str:
        """What a worker computes on, for records."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dealer:
    """Deals the groups of a run out to a pool of workers."""

    schedule: Schedule
    """Which group goes to which worker."""
    pool: Pool
    """The workers."""
    task: Task
    """What the groups have in common."""
    claims: Claims
    """A group that another process trains is tried again once no other group waits."""
    give_up: Callable[[Group, str, str], GroupResult]
    """Makes what is recorded of a group that is given up, of the group, the reason and the device
    that was tried last."""
    progress: Progress
    """Is told how far training is, over all workers."""
    tell: Tell
    """Is told who works on what."""
    clock: Callable[[], float] = time.monotonic
    """Gives seconds."""

    def deal(self) -> Generator[Ended, None, None]:
        """Runs until no group waits and none is at work. What has ended precedes any error.

        Raises:
            InputError: a device has too little memory for a single network, a record is damaged,
                or no worker can start.
            OSError: a lock, or a checkpoint of a worker, cannot be written or read.
        """
        ended: list[Ended] = []
        while True:
            error = None
            try:
                self._turn(ended)
            except Exception as own:
                error = own
            began = self.clock()
            yield from ended
            self.schedule.pause(self.clock() - began)
            ended.clear()
            if error is not None:
                raise error
            if not self.schedule.unfinished:
                return

    def _turn(self, ended: list[Ended]) -> None:
        """Deals out what waits, and looks once at what the workers do; adds what has ended."""
        schedule, pool = self.schedule, self.pool
        if pool.idle():
            schedule.retry_held()
        self._assign(ended)
        if not schedule.unfinished:
            return
        pool.hire(schedule.unfinished)
        for event in sorted(pool.events(1.0), key=_order):
            ended += self._handle(event)
        for worker in schedule.overdue(self.clock()):
            seconds = schedule.allowance(schedule.running[worker].group)
            pool.dismiss(worker)  # before its group's lock is given back
            ended += self._lose(Lost(worker, f"no progress for {seconds:.0f} s", blamed=True))
        if ended:
            self._assign(ended)  # workers do not wait until records are written

    def _assign(self, ended: list[Ended]) -> None:
        for worker in self.pool.idle():
            if (claimed := self._claim(ended)) is None:
                return
            group, checkpoints = claimed
            self.pool.assign(worker, group, checkpoints, self.task)
            self.schedule.begin(worker, group, self.clock())
            self.tell(f"{title(group)}: {self.pool.describe(worker)}")

    def _claim(self, ended: list[Ended]) -> tuple[Group, Path] | None:
        """The largest group that nobody else trains, and the folder of its checkpoints."""
        while (group := self.schedule.next()) is not None:
            claim = self.claims.take(group)
            if claim is None:
                self.schedule.held.append(group)
            elif claim.recorded:
                ended.append(Ended(group, GroupResult([]), 0.0))
            else:
                return group, claim.checkpoints
        return None

    def _handle(self, event: Event) -> list[Ended]:
        """What a group's end leaves, if the event is one."""
        if isinstance(event, Stopped):
            raise event.error
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

    def _halve(self, worker: WorkerId) -> None:
        running, most, lower = self.schedule.too_large(worker)
        self._forget(running)
        if not most:
            raise InputError(
                f"{self.pool.describe(worker)} has too little memory for one network; lower "
                "--batch-size, --image-size or --width, or leave that machine out"
            )
        if lower:
            warn_of_halving(len(running.group), most)

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


def _order(event: Event) -> int:
    """Results come before what may end the study."""
    if isinstance(event, Finished):
        return 1 if event.result is not None else 3
    return {Advanced: 0, Lost: 2, Stopped: 3}[type(event)]
