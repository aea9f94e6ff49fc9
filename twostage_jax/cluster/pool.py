"""The workers of a study, as actors of Ray."""

import contextlib
import dataclasses
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twostage_jax.cluster.attachment import Cluster
from twostage_jax.cluster.dealing import Advanced, Event, Finished, Lost, Stopped
from twostage_jax.cluster.machines import describe_size, different_versions, fitting, this_machine
from twostage_jax.cluster.worker import Briefing, Introduction, News, Report, Started, Worker
from twostage_jax.study.engine import Task
from twostage_jax.study.jobs import Group
from twostage_jax.support.errors import InputError

FALSE_STARTS = 3
"""After as many false starts in a row, nobody is hired until a group ends or a node joins."""
START_LIMIT = 15 * 60.0
"""Seconds that a worker may take to start JAX and to receive the images."""
_LOOK = 5.0  # seconds between looks for new nodes
_NEWS = 1.0  # seconds that a worker waits for news
_LONG_WAIT = 60.0  # seconds


@dataclasses.dataclass(eq=False)
class Hired:
    """A worker, and the answers that are awaited from it."""

    number: int
    actor: Any
    introducing: Any = None
    """What `Worker.introduce` is to return."""
    introduction: Introduction | None = None
    """What it returned."""
    introduced: float = 0.0
    """When, in seconds."""
    starting: Any = None
    """What `Worker.start` is to return."""
    device: str = ""
    """What it computes on; empty for one that is not ready."""
    turn: int = 0
    """Number of the group that it was given last."""
    heard: int = 0
    """Number of the group that its last news was of."""
    group: Group | None = None
    """The group that it works on."""
    working: Any = None
    """What `Worker.run` is to return; None for an idle one."""
    news: Any = None
    """What `Worker.news` is to return; an idle worker is listened to as well, that its death is
    heard."""

    @property
    def awaited(self) -> list[Any]:
        """All that is awaited."""
        answers = (self.introducing, self.starting, self.news, self.working)
        return [own for own in answers if own is not None]

    def __str__(self) -> str:
        """Who it is, for people."""
        known = self.introduction
        if known is None:
            return f"worker {self.number}"
        device = f", {self.device}" if self.device else ""
        where = f"process {known.process} on {known.machine.host}{device}"
        return f"worker {self.number} ({where})"


class RayPool:
    """Workers on the nodes of a cluster, see `dealing.Pool`. They are known by their numbers.

    One whose machine is not fit keeps its place without a group, that no other gets that place.
    """

    def __init__(
        self,
        cluster: Cluster,
        briefing: Briefing,
        size: dict[str, int],
        most: int | None,
        *,
        shared: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Nobody is hired yet.

        Args:
            cluster: where.
            briefing: for the workers; it is sent to each node once.
            size: what a worker takes, see `machines.worker_size`.
            most: the most workers; None for as many as fit.
            shared: whether all nodes are expected to see the folders of checkpoints.
            clock: gives seconds.

        Raises:
            InputError: the cluster is gone, or cannot hold the images.
        """
        self._cluster = cluster
        self._ray = cluster.ray
        with cluster.answering():
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
        self._shared = shared
        self._clock = clock
        self._all: dict[int, Hired] = {}  # also those that are gone
        self._hired: dict[int, Hired] = {}
        self._unfit: dict[int, Hired] = {}
        self._problem = ""  # the first reason why a worker could not start
        self._turns = 0
        self._wanted, self._looked = 0, float("-inf")  # of the last look for room
        self._nodes: set[str] = set()  # as of the last look
        self._false_starts = 0  # in a row
        self._excused: set[Group] = set()
        self._lonely_since: float | None = clock()

    def __str__(self) -> str:
        """How many workers there can be, and what each takes: `4 workers of 16 CPU`."""
        room = self.room()
        return f"{room} worker{'s' * (room != 1)} of {describe_size(self._size)}"

    def hire(self, wanted: int) -> None:
        """See `Pool.hire`; nodes that have joined are found within seconds.

        Raises:
            InputError: the cluster is gone.
        """
        if wanted <= self._wanted and self._clock() - self._looked < _LOOK:
            return
        self._wanted, self._looked = wanted, self._clock()
        room, known = self.room(), self._nodes
        self._nodes = set(self._cluster.living())
        if self._nodes - known:
            self._false_starts = 0
        if self._false_starts < FALSE_STARTS:
            for _ in range(min(wanted, room) - len(self._hired)):
                own = Hired(len(self._all) + 1, self._actor.remote(self._threads))
                own.introducing = own.actor.introduce.remote()
                self._all[own.number] = self._hired[own.number] = own
        self._warn_of_a_long_wait()

    def room(self) -> int:
        """How many workers there can be.

        Raises:
            InputError: the cluster is gone.
        """
        nodes = self._cluster.living()
        unfit = [own.introduction.node for own in self._unfit.values() if own.introduction]
        room = fitting(self._size, list(nodes.values())) - sum(node in nodes for node in unfit)
        return min(room, self._most or room)

    def _warn_of_a_long_wait(self) -> None:
        if any(own.device for own in self._hired.values()):
            self._lonely_since = self._clock()
        elif self._lonely_since is not None and self._clock() - self._lonely_since > _LONG_WAIT:
            self._lonely_since = None  # once
            warnings.warn(
                f"no worker has started for {_LONG_WAIT:.0f} s; the cluster has {self._cluster}: "
                "others may be using them",
                stacklevel=2,
            )

    def idle(self) -> list[int]:
        """See `Pool.idle`."""
        return [own.number for own in self._hired.values() if own.device and not own.working]

    def assign(self, worker: int, group: Group, checkpoints: Path, task: Task) -> None:
        """See `Pool.assign`."""
        own = self._hired[worker]
        self._turns += 1
        own.turn, own.group = self._turns, group
        own.working = own.actor.run.remote(own.turn, group, checkpoints, task)

    def events(self, seconds: float) -> list[Event]:
        """See `Pool.events`.

        Raises:
            InputError: the cluster is gone.
        """
        asked = {answer: own for own in self._hired.values() for answer in own.awaited}
        events, answers = [], list(asked)
        if answers:
            with self._cluster.answering():
                self._ray.wait(answers, num_returns=1, timeout=seconds)
                answers, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        else:
            time.sleep(seconds)
        for answer in answers:
            events += self._handle(asked[answer], answer)
        for own in list(self._hired.values()):
            if own.starting is not None and self._clock() - own.introduced > START_LIMIT:
                self._false_start(own, f"it has not started for {START_LIMIT:.0f} s")
        if error := self._hopeless():
            events.append(Stopped(error))
        return events

    def _handle(self, own: Hired, answer: Any) -> list[Event]:
        if own.number not in self._hired:  # lost by an earlier one of these answers
            return []
        try:
            found = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            return self._lose(own, answer, error)
        if answer is own.introducing:
            self._meet(own, found)
        elif answer is own.starting:
            self._welcome(own, found)
        elif answer is own.news:
            return self._hear(own, found)
        elif answer is own.working:
            return self._end(own, found)
        return []

    def _meet(self, own: Hired, introduction: Introduction) -> None:
        own.introducing = None
        own.introduction, own.introduced = introduction, self._clock()
        if problem := different_versions(introduction.machine, this_machine()):
            self._leave_out(own, problem)
        else:
            own.starting = own.actor.start.remote(self._briefing)

    def _welcome(self, own: Hired, started: Started) -> None:
        own.starting = None
        if started.problem:
            self._leave_out(own, f"{own}: {started.problem}")
            return
        own.device = started.device
        own.news = own.actor.news.remote(0, _NEWS)

    def _leave_out(self, own: Hired, problem: str) -> None:
        self._unfit[own.number] = self._hired.pop(own.number)
        self._looked = float("-inf")  # the next `hire` looks at once
        self._problem = self._problem or problem
        if not self._hopeless():
            warnings.warn(f"a worker is left out: {problem}", stacklevel=2)

    def _hear(self, own: Hired, news: News) -> list[Event]:
        own.heard = news.turn
        own.news = own.actor.news.remote(news.turn, _NEWS)
        if own.working is None or news.turn != own.turn or not news.advances:
            return []
        return [Advanced(own.number, news.advances)]

    def _end(self, own: Hired, report: Report) -> list[Event]:
        for message in report.warned:
            warnings.warn(f"{own}: {message}", stacklevel=2)
        if report.unseen and self._shared:
            self._shared = False  # once
            warnings.warn(
                f"{own} does not see the folder of checkpoints: networks that it leaves unfinished "
                "begin anew; mount the folder there",
                stacklevel=2,
            )
        own.working = own.group = None
        if report.stop is not None:
            return [Stopped(report.stop)]
        if report.error and not report.out_of_memory:
            # An error may leave a device unusable: another worker takes this one's place.
            self.dismiss(own.number)
            return [Lost(own.number, report.error, blamed=True)]
        self._false_starts = 0
        return [Finished(own.number, report.result)]

    def _lose(self, own: Hired, answer: Any, error: Exception) -> list[Event]:
        if answer is own.news and own.working is not None:  # the group's own answer tells
            own.news = None
            return []
        reason, blamed = explain(error)
        if not own.device:
            self._false_start(own, reason)
            return []
        self.dismiss(own.number)
        self._false_starts = 0  # there is a place where workers start
        if own.group is None:
            warnings.warn(f"{own} is lost ({reason}); it had nothing to do", stacklevel=2)
            return []
        return [Lost(own.number, reason, blamed and self._may_be_blamed(own))]

    def _may_be_blamed(self, own: Hired) -> bool:
        """Whether the group of a lost worker may have taken it down: if it has begun there.

        What falls silent before its first news is excused once per group.
        """
        assert own.group is not None
        if own.heard == own.turn or own.group in self._excused:
            return True
        self._excused.add(own.group)
        return False

    def _false_start(self, own: Hired, reason: str) -> None:
        self.dismiss(own.number)
        self._false_starts += 1
        problem = f"{own} did not start ({reason})"
        self._problem = self._problem or problem
        if not self._hopeless():
            warnings.warn(
                f"{problem}; Ray's logs on its node, in /tmp/ray/session_latest/logs, say more",
                stacklevel=2,
            )

    def _hopeless(self) -> InputError | None:
        """Why nobody works and nobody can be hired; None as long as that is not so."""
        if self._hired or not self._problem:
            return None
        if self._false_starts < FALSE_STARTS and (not self._unfit or self.room() > 0):
            return None
        return InputError(
            f"no worker can start: {self._problem}; mend that, or see Ray's logs on the node, in "
            "/tmp/ray/session_latest/logs"
        )

    def dismiss(self, worker: int) -> None:
        """See `Pool.dismiss`."""
        own = self._hired.pop(worker, None) or self._unfit.pop(worker)
        self._looked = float("-inf")  # the next `hire` looks at once
        with contextlib.suppress(Exception):  # its node may be gone
            self._ray.kill(own.actor, no_restart=True)

    def close(self) -> None:
        """Ends all workers."""
        for worker in [*self._hired, *self._unfit]:
            self.dismiss(worker)

    def describe(self, worker: int) -> str:
        """See `Pool.describe`."""
        return str(self._all[worker])

    def device(self, worker: int) -> str:
        """See `Pool.device`."""
        return self._all[worker].device

    def ask(self, method: str, *arguments) -> Any:
        """What a method of the trainer of the first worker that is ready returns.

        Raises:
            InputError: no worker can start.
        """
        while True:
            while not (ready := self.idle()):
                self.hire(1)
                for event in self.events(1.0):
                    if isinstance(event, Stopped):
                        raise event.error
            own = self._hired[ready[0]]
            try:
                return self._ray.get(own.actor.ask.remote(method, *arguments))
            except self._ray.exceptions.RayError as error:
                self._false_start(own, explain(error)[0])


def explain(error: Exception) -> tuple[str, bool]:
    """Why a worker is gone, in a line, and whether its group may be at fault."""
    text = " ".join(str(error).split())
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "its node has died" in text or getattr(error, "preempted", False):
        return "its node is gone", False
    if "ActorUnavailableError" in kinds:
        return "it cannot be reached", False
    if "RayTaskError" in kinds or "creation task" in text:  # a traceback, which ends in the error
        return str(error).strip().splitlines()[-1][:200], True
    reason = re.sub(r"^.*(?:Worker exit detail:|is dead because) ", "", text)
    return reason.split(" Some common causes")[0][:200], True
