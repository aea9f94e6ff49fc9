"""Which group goes to which worker, and what becomes of it: a state machine without a clock."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from twostage_jax.study.jobs import Group, image_passes
from twostage_jax.training.trainer import Advance

STRIKES = 3
"""A group that has taken as many workers down is given up."""
PATIENCE = 15 * 60.0
"""A group may be silent for as many seconds at least: programs compile, and heads are tuned."""
FORECASTS = 10
"""A group may be silent for as many times as long as it is forecast to take as a whole."""

WorkerId = int
"""The number of a worker; none is given twice."""


@dataclass
class Running:
    """A group at work.

    Attributes:
        group: its networks.
        began: when, in seconds.
        heard: when it last went on.
        trained: its image passes since it began.
        resumed: its image passes for which a checkpoint stood.
    """

    group: Group
    began: float
    heard: float
    trained: int = 0
    resumed: int = 0


class Loss(NamedTuple):
    """What became of the group of a worker that was lost.

    Attributes:
        running: the group, as it was.
        strikes: how many workers it has taken down.
        given_up: whether it is not to be tried again.
    """

    running: Running
    strikes: int
    given_up: bool


class Halved(NamedTuple):
    """What became of a group that did not fit into memory.

    Attributes:
        running: the group, as it was.
        most: networks that are tried at a time from now on; 0 where one is too many.
        lower: whether that is a new limit.
    """

    running: Running
    most: int
    lower: bool


class Schedule:
    """The groups that wait, the largest first, and those at work, one per worker.

    A group that another process trains is held: it waits again once nothing else does.
    """

    def __init__(self, groups: Iterable[Group], epochs: int, timeout: float | None = None):
        """Nothing is at work yet.

        Args:
            groups: to deal out.
            epochs: of stage 1.
            timeout: seconds without progress after which a group is overdue; None: as many as its
                forecast allows, see `allowance`.
        """
        self.waiting: list[Group] = []
        self.held: list[Group] = []
        self.running: dict[WorkerId, Running] = {}
        self._epochs = epochs
        self._timeout = timeout
        self._most: int | None = None
        self._strikes: Counter[Group] = Counter()
        self._done_images, self._done_seconds = 0, 0.0
        self._wait(groups)

    @property
    def unfinished(self) -> int:
        """How many groups wait, are held or are at work."""
        return len(self.waiting) + len(self.held) + len(self.running)

    def images(self, group: Group) -> int:
        """Image passes of a group."""
        return image_passes([group], self._epochs)

    def images_left(self, running: Running) -> int:
        """Image passes of a group that it has not told of."""
        return self.images(running.group) - running.trained - running.resumed

    def _wait(self, groups: Iterable[Group]) -> None:
        most = self._most
        for group in groups:
            step = most or len(group)
            self.waiting += [group[i : i + step] for i in range(0, len(group), step)]
        self.waiting.sort(key=self.images, reverse=True)

    def next(self) -> Group | None:
        """The largest group that waits, which waits no longer; None where none does."""
        return self.waiting.pop(0) if self.waiting else None

    def retry_held(self) -> None:
        """Held groups wait again, unless others wait."""
        if not self.waiting:
            held, self.held = self.held, []
            self._wait(held)

    def begin(self, worker: WorkerId, group: Group, now: float) -> None:
        """A worker has been given a group."""
        assert worker not in self.running, "one group per worker"
        self.running[worker] = Running(group, now, now)

    def advance(self, worker: WorkerId, advance: Advance, now: float) -> None:
        """A group went on."""
        running = self.running[worker]
        running.heard = now
        if advance.resumed:
            running.resumed += advance.images
        else:
            running.trained += advance.images

    def done(self, worker: WorkerId, now: float) -> Running:
        """A worker has ended its group; its duration is learned for forecasts."""
        running = self.running.pop(worker)
        if running.trained:
            self._done_images += running.trained
            self._done_seconds += now - running.began
        return running

    def lost(self, worker: WorkerId, *, blamed: bool) -> Loss:
        """A worker is gone. Its group waits again, unless it has taken too many down.

        Args:
            worker: with a group.
            blamed: whether the group may be at fault; it is not where a whole node went.
        """
        running = self.running.pop(worker)
        self._strikes[running.group] += blamed
        strikes = self._strikes[running.group]
        if strikes < STRIKES:
            self._wait([running.group])
        return Loss(running, strikes, strikes >= STRIKES)

    def too_large(self, worker: WorkerId) -> Halved:
        """A group did not fit into memory: it is halved, as are all that are larger than a half."""
        running, before = self.running.pop(worker), self._most
        half = len(running.group) // 2
        if not half:
            return Halved(running, 0, lower=True)
        self._most = min(before or half, half)
        waiting, self.waiting = self.waiting, []
        self._wait([*waiting, running.group])
        return Halved(running, self._most, lower=self._most != before)

    def allowance(self, group: Group) -> float:
        """Seconds that a group may be silent."""
        if self._timeout is not None:
            return self._timeout
        if not self._done_images:
            return PATIENCE
        forecast = self.images(group) * self._done_seconds / self._done_images
        return max(PATIENCE, FORECASTS * forecast)

    def overdue(self, now: float) -> list[WorkerId]:
        """The workers whose groups have been silent for too long."""
        return [
            worker
            for worker, running in self.running.items()
            if now - running.heard > self.allowance(running.group)
        ]

    def pause(self, seconds: float) -> None:
        """Nobody listened for some seconds: they do not count as silence."""
        for running in self.running.values():
            running.heard += seconds
