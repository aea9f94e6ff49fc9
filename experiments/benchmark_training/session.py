"""Asks the libraries' processes in turn, and keeps what they answer."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.benchmark_training.cases import OURS, Job
from experiments.benchmark_training.options import Options
from experiments.benchmark_training.worker import Prepared, Turn
from experiments.benchmarks.processes import environment, reason_in

_WORKER = "experiments.benchmark_training.worker"

OUT_OF_TIME = "not reached in the time given"

# Of an accelerator's memory, what JAX may take for ours: the peers need the rest.
_OUR_SHARE = "0.8"
# Cores for each of the programs that are compiled at a time.
_CORES_A_COMPILER = 4
# A process that is asked for the last turns may end so many seconds late.
_GRACE = 30


class Measured(NamedTuple):
    """What is known of a job so far.

    Attributes:
        prepared: None before its first turn, and where that failed.
        turns: in the order of the rounds.
        failure: why there are no more; empty where nothing failed.
    """

    prepared: Prepared | None
    turns: list[Turn]
    failure: str = ""


class Process:
    """A library's process."""

    def __init__(self, library: str, folder: Path, platform: str):
        """Starts it.

        Args:
            library: of the engines whose jobs it does.
            folder: of the data; it may write its errors there.
            platform: that JAX runs on.
        """
        self.prepared: set[Job] = set()
        self._late = False
        self._errors = folder / f"errors-{time.monotonic_ns()}"
        variables = environment(platform) | {"TF_CPP_MIN_LOG_LEVEL": "2"}
        # Processes share an accelerator: none may take more of its memory than it needs.
        variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        variables["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
        if library == OURS:
            variables["XLA_PYTHON_CLIENT_MEM_FRACTION"] = _OUR_SHARE
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _WORKER, library, str(folder), platform],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def ask(self, request: dict, limit: float):
        """Its answer.

        Args:
            request: what it is to do.
            limit: seconds after which it is ended.

        Raises:
            ChildProcessError: it ended instead; the message says why.
        """
        timer = threading.Timer(min(limit, threading.TIMEOUT_MAX), self._time_out)
        timer.daemon = True
        timer.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            timer.cancel()
        if answer:
            return json.loads(answer)
        raise ChildProcessError(self._end())

    def _time_out(self) -> None:
        self._late = True
        self._process.kill()

    def _end(self) -> str:
        status = self._process.wait()
        if self._late:
            return OUT_OF_TIME
        if status < 0:
            return f"ended by signal {-status}"
        return reason_in(self._errors.read_text(errors="replace"))

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class Session:
    """All processes and all that is measured."""

    def __init__(
        self,
        jobs: list[Job],
        options: Options,
        platform: str,
        folder: Path,
        say: Callable[[str], None],
    ):
        """Starts nothing.

        Args:
            jobs: in the order of their turns.
            options: settled for the platform.
            platform: that JAX runs on.
            folder: of the data.
            say: what is told of each turn.
        """
        self.measured = {job: Measured(None, []) for job in jobs}
        self._options, self._platform, self._folder, self._say = options, platform, folder, say
        self._processes: dict[tuple, Process] = {}
        self._ends = time.monotonic() + 60 * options.minutes

    def __enter__(self) -> "Session":
        """Processes end with the block."""
        return self

    def __exit__(self, *_) -> None:
        """Ends the processes."""
        for process in self._processes.values():
            process.close()

    def peak(self) -> float | None:
        """Operations a second of a matrix product on the CPU; None where it cannot be measured."""
        job = next((job for job in self.measured if job.engine.library == OURS), None)
        if job is None or self._platform != "cpu":
            return None
        try:
            return self._process(job).ask({"do": "peak"}, self._left + _GRACE)
        except ChildProcessError:
            self._drop(job)
            return None

    def rounds(self) -> Iterator[int]:
        """Takes turns; gives how many rounds are finished, after every case of a round."""
        if self._platform != "cpu":
            self._compile_together()
            yield 0
        cases = list(dict.fromkeys(job.case for job in self.measured))
        for number in range(self._options.rounds):
            for case in cases:
                jobs = [job for job in self.measured if job.case == case]
                # Every other round backwards: who comes first would gain or lose by it.
                for job in jobs[:: -1 if number % 2 else 1]:
                    self._take_turn(job, number)
                yield number + (case == cases[-1] and self._left > 0)
            if self._left <= 0:
                return

    @property
    def _left(self) -> float:
        return self._ends - time.monotonic()

    def _compile_together(self) -> None:
        """Compiles ours several at a time: one after another they would take the whole time."""
        jobs = [job for job in self.measured if job.engine.library == OURS]
        at_once = max(1, (os.cpu_count() or 1) // _CORES_A_COMPILER)
        for first in range(0, len(jobs), at_once):
            # Half of the time is for turns.
            if self._left > 30 * self._options.minutes:
                self._prepare(jobs[first : first + at_once], at_once)

    def _take_turn(self, job: Job, number: int) -> None:
        measured = self.measured[job]
        if measured.failure:
            return
        if self._left <= 0:
            if not measured.turns:
                self._fail(job, OUT_OF_TIME)
            return
        if job not in self._process(job).prepared:
            self._prepare([job], 1)
        if self.measured[job].failure:
            return
        answer = self._ask(job, {"do": "run", "job": job, "seconds": self._options.seconds})
        if isinstance(answer, str):
            self._fail(job, answer)
            return
        turn = Turn(*answer)
        measured.turns.append(turn)
        rate = turn.items / turn.seconds
        self._say(f"{self._title(job)}, round {number + 1}: {rate:.3g} {job.case.unit}/s")

    def _prepare(self, jobs: list[Job], at_once: int) -> None:
        answers = self._ask(jobs[0], {"do": "prepare", "jobs": jobs, "at_once": at_once})
        if isinstance(answers, str):
            answers = [answers] * len(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, str):
                self._fail(job, answer)
                continue
            self._process(job).prepared.add(job)
            # A process that ended is started anew, and what it prepared is not counted twice.
            first = self.measured[job].prepared or Prepared(*answer)
            self.measured[job] = self.measured[job]._replace(prepared=first)
            self._say(f"{self._title(job)}: first batch after {answer[0]:.3g} s")

    def _ask(self, job: Job, request: dict):
        try:
            return self._process(job).ask(request, self._left + _GRACE)
        except ChildProcessError as error:
            self._drop(job)
            return str(error)

    def _fail(self, job: Job, why: str) -> None:
        self.measured[job] = self.measured[job]._replace(failure=why)
        self._say(f"{self._title(job)}: {why}")

    def _title(self, job: Job) -> str:
        engine = job.engine
        return f"{job.case.title}: {engine.title}, {engine.precision}, {engine.members} together"

    def _key(self, job: Job) -> tuple:
        # Keras takes one backend a process. Sizes apart, so that data of one only are in memory.
        backend = job.engine.choice if job.engine.library != OURS else ""
        return job.engine.library, backend, job.case.size

    def _process(self, job: Job) -> Process:
        key = self._key(job)
        if key not in self._processes:
            self._processes[key] = Process(job.engine.library, self._folder, self._platform)
        return self._processes[key]

    def _drop(self, job: Job) -> None:
        self._processes.pop(self._key(job)).close()
