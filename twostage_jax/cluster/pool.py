"""The workers of a study, as actors of Ray."""

import contextlib
import dataclasses
import re
import time
import warnings
from pathlib import Path
from typing import Any

from twostage_jax.cluster.attachment import Cluster
from twostage_jax.cluster.dealing import Advanced, Event, Finished, Lost
from twostage_jax.cluster.machines import different_versions, fitting, this_machine
from twostage_jax.cluster.worker import Briefing, Introduction, Report, Worker
from twostage_jax.study.engine import Task
from twostage_jax.study.jobs import Group
from twostage_jax.support.errors import InputError

_LOOK = 5.0  # seconds between looks for new nodes
_NEWS = 1.0  # seconds that a worker waits for news
_FALSE_STARTS = 3
_LONG_WAIT = 60.0  # seconds


@dataclasses.dataclass(eq=False)
class Hired:
    """A worker, and the answers that are awaited from it."""

    number: int
    actor: Any
    starting: Any
    """What `Worker.start` is to return; None once it has."""
    introduction: Introduction | None = None
    """What it returned; None where the worker is not ready, or not fit."""
    turn: int = 0
    """Number of the group that it works on."""
    working: Any = None
    """What `Worker.run` is to return; None for an idle one."""
    news: Any = None
    """What `Worker.news` is to return."""

    @property
    def awaited(self) -> list[Any]:
        """All that is awaited."""
        return [own for own in (self.starting, self.news, self.working) if own is not None]


class RayPool:
    """Workers on the nodes of a cluster, see `dealing.Pool`. They are known by their numbers."""

    def __init__(
        self, cluster: Cluster, briefing: Briefing, size: dict[str, int], most: int | None
    ):
        """Nobody is hired yet.

        Args:
            cluster: where.
            briefing: for the workers; it is sent to each node once.
            size: what a worker takes, see `machines.worker_size`.
            most: the most workers; None for as many as fit.
        """
        self._cluster = cluster
        self._ray = cluster.ray
        self._briefing = self._ray.put(briefing)
        others = {name: number for name, number in size.items() if name not in ("CPU", "GPU")}
        self._actor = self._ray.remote(Worker).options(
            num_cpus=size.get("CPU", 0),
            num_gpus=size.get("GPU", 0),
            resources=others,
            max_concurrency=2,
            max_restarts=0,
            max_task_retries=0,
        )
        self._threads = size["CPU"] if briefing.platform == "cpu" else None
        self._size = size
        self._most = most
        self._hired: dict[int, Hired] = {}
        self._numbers = 0
        self._turns = 0
        self._wanted, self._looked = 0, 0.0  # of the last look for room
        self._known: dict[int, Introduction] = {}  # also those that are gone
        self._false_starts = 0
        self._lonely_since: float | None = time.monotonic()

    def hire(self, wanted: int) -> None:
        """See `Pool.hire`; nodes that have joined are found within seconds."""
        if wanted <= self._wanted and time.monotonic() - self._looked < _LOOK:
            return
        self._wanted, self._looked = wanted, time.monotonic()
        for _ in range(min(wanted, self.room()) - len(self._hired)):
            self._numbers += 1
            actor = self._actor.remote(self._threads)
            starting = actor.start.remote(self._briefing)
            self._hired[self._numbers] = Hired(self._numbers, actor, starting)
        self._warn_of_a_long_wait()

    def room(self) -> int:
        """How many workers there can be."""
        room = fitting(self._size, self._cluster.nodes())
        return max(1, min(room, self._most or room))

    def _warn_of_a_long_wait(self) -> None:
        if any(own.introduction for own in self._hired.values()):
            self._lonely_since = time.monotonic()
        elif self._lonely_since and time.monotonic() - self._lonely_since > _LONG_WAIT:
            self._lonely_since = None  # once
            warnings.warn(
                f"no worker has started for {_LONG_WAIT:.0f} s; the cluster has {self._cluster}: "
                "others may be using them",
                stacklevel=2,
            )

    def idle(self) -> list[int]:
        """See `Pool.idle`."""
        return [own.number for own in self._hired.values() if own.introduction and not own.working]

    def assign(self, worker: int, group: Group, checkpoints: Path, task: Task) -> None:
        """See `Pool.assign`."""
        own = self._hired[worker]
        self._turns += 1
        own.turn = self._turns
        own.working = own.actor.run.remote(own.turn, group, checkpoints, task)
        own.news = own.actor.news.remote(own.turn, _NEWS)

    def events(self, seconds: float) -> list[Event]:
        """See `Pool.events`.

        Raises:
            InputError: no worker can start, because of the machines.
        """
        asked = {answer: own for own in self._hired.values() for answer in own.awaited}
        if not asked:
            time.sleep(seconds)
            return []
        answers = list(asked)
        self._ray.wait(answers, num_returns=1, timeout=seconds)
        answered, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        return [event for one in answered for event in self._handle(asked[one], one)]

    def _handle(self, own: Hired, answer: Any) -> list[Event]:
        if own.number not in self._hired:  # lost by an earlier one of these answers
            return []
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return self._lose(own, answer, error)
        if answer is own.starting:
            own.starting = None
            self._welcome(own, found)
        elif answer is own.news:
            own.news = own.actor.news.remote(own.turn, _NEWS)
            return [Advanced(own.number, found)] if found else []
        elif answer is own.working:
            return self._end(own, found)
        return []

    def _end(self, own: Hired, report: Report) -> list[Event]:
        for message in report.warned:
            warnings.warn(f"{self.describe(own.number)}: {message}", stacklevel=2)
        own.working = own.news = None
        if report.error and not report.out_of_memory:
            # What a device is like after an error, nobody knows: another worker takes its place.
            self.dismiss(own.number)
            return [Lost(own.number, report.error, blamed=True)]
        return [Finished(own.number, report.result)]

    def _lose(self, own: Hired, answer: Any, error: Exception) -> list[Event]:
        if answer is own.news:  # the group's own answer tells
            own.news = None
            return []
        reason, blamed = explain(error)
        self.dismiss(own.number)
        if answer is own.starting:
            self._false_starts += 1
            if self._false_starts >= _FALSE_STARTS and not self._known:
                raise InputError(
                    f"workers end before they have started ({reason}); look into the logs of Ray "
                    "on their nodes, in /tmp/ray/session_latest/logs"
                )
            return []
        return [Lost(own.number, reason, blamed)]

    def _welcome(self, own: Hired, found: Introduction | str) -> None:
        """A worker has started; one that is not fit keeps its place, that no other gets it."""
        if isinstance(found, Introduction):
            problem = different_versions(found.machine, this_machine())
        else:
            problem = found
        if not problem:
            assert isinstance(found, Introduction)
            own.introduction = self._known[own.number] = found
        elif not self._known:
            raise InputError(problem)
        else:
            warnings.warn(f"a worker is left out: {problem}", stacklevel=2)

    def dismiss(self, worker: int) -> None:
        """See `Pool.dismiss`."""
        own = self._hired.pop(worker)
        with contextlib.suppress(Exception):  # its node may be gone
            self._ray.kill(own.actor, no_restart=True)

    def close(self) -> None:
        """Ends all workers."""
        for worker in list(self._hired):
            self.dismiss(worker)

    def describe(self, worker: int) -> str:
        """See `Pool.describe`."""
        own = self._known[worker]
        return f"worker {worker} (process {own.process} on {own.machine.host}, {own.device})"

    def device(self, worker: int) -> str:
        """See `Pool.device`."""
        return self._known[worker].device

    def ask(self, method: str, *arguments) -> Any:
        """What a method of the first worker that is ready returns.

        Raises:
            InputError: no worker can start.
        """
        while not (ready := self.idle()):
            self.hire(1)
            self.events(1.0)
        actor = self._hired[ready[0]].actor
        return self._ray.get(getattr(actor, method).remote(*arguments))


def explain(error: Exception) -> tuple[str, bool]:
    """Why a worker is gone, in a line, and whether its group may be at fault."""
    text = " ".join(str(error).split())
    if "its node has died" in text or getattr(error, "preempted", False):
        return "its node is gone", False
    if type(error).__name__ == "ActorUnavailableError":
        return "it cannot be reached", False
    if "creation task" in text:  # a traceback, which ends in the error
        return str(error).strip().splitlines()[-1][:200], True
    reason = re.sub(r"^.*(?:Worker exit detail:|is dead because) ", "", text)
    return reason.split(" Some common causes")[0][:200], True
