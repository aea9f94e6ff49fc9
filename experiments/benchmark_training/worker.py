"""A library's process: does jobs when asked, a line of JSON in and a line of JSON out.

`... .worker LIBRARY FOLDER PLATFORM` stays until its input ends. In between it waits for a line,
and leaves the processor to the others.
"""

import importlib
import json
import math
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from experiments.benchmark_training.cases import KERAS, OURS, TORCH, Case, Engine, Job, Size
from experiments.benchmark_training.data import load_data
from experiments.benchmark_training.work import Work
from experiments.benchmarks.memory import give_back, reset_peak, resident

_MODULES = {OURS: "ours", TORCH: "torch_peer", KERAS: "keras_peer"}

OUT_OF_MEMORY = "out of memory"

# A call is measured that lasts at least this share of a turn, before turns are taken.
_SHARE_OF_TURN = 0.2


class Prepared(NamedTuple):
    """A job that is compiled and has been tried.

    Attributes:
        first: seconds until the first batch was done, compilation included.
        bytes: of memory: planned on the accelerator for ours, the highest there for the peers;
            on a CPU the growth of the highest resident memory.
    """

    first: float
    bytes: int | None


class Turn(NamedTuple):
    """What was done in a turn.

    Attributes:
        seconds: it took.
        items: done in them.
    """

    seconds: float
    items: float


class Worker:
    """The jobs of a process."""

    def __init__(self, library: str, folder: Path, platform: str):
        """Imports nothing but what the first job needs.

        Args:
            library: one of the engines'.
            folder: of the data.
            platform: that JAX runs on.
        """
        self._library, self._folder, self._platform = library, folder, platform
        self._works: dict[Job, Work] = {}
        self._batches: dict[Job, int] = {}
        self._data = cache(lambda size: load_data(folder, size))

    def peak(self) -> float:
        """Operations a second of a large matrix product on the CPU."""
        from experiments.benchmark_training.flops import measured_peak

        return measured_peak()

    def prepare(self, jobs: list[Job], at_once: int) -> list[Prepared | str]:
        """Compiles jobs and does their first batch; or in a line why it cannot.

        Args:
            jobs: to prepare.
            at_once: how many to compile at a time, where they can be compiled ahead.
        """
        with ThreadPoolExecutor(at_once) as pool:
            ahead = list(pool.map(_attempt(self._compile), jobs))
        return [
            found if isinstance(found, str) else _attempt(self._first)(job, *found)
            for job, found in zip(jobs, ahead, strict=True)
        ]

    def _compile(self, job: Job) -> tuple[float, int | None]:
        module = importlib.import_module(f"{__package__}.{_MODULES[self._library]}")
        work = module.prepare(job, *self._data(job.case.size))
        self._works[job] = work
        started = time.perf_counter()
        planned = work.compile() if work.compile else None
        return time.perf_counter() - started, planned

    def _first(self, job: Job, seconds: float, planned: int | None) -> Prepared:
        work = self._works[job]
        started = time.perf_counter()
        work.call(1)
        seconds += time.perf_counter() - started
        if planned is None and self._platform == "cpu" and not work.keeps:
            # Of another call: compilers take memory, too.
            give_back()
            before = reset_peak()
            work.call(1)
            planned = resident("VmHWM") - before
        elif planned is None and work.peak:
            planned = work.peak()
        return Prepared(seconds, planned)

    def run(self, job: Job, seconds: float) -> Turn | str:
        """Does a job for a turn; or in a line why it cannot."""
        return _attempt(self._run)(job, seconds)

    def _run(self, job: Job, seconds: float) -> Turn:
        work = self._works[job]
        if job not in self._batches:
            self._batches[job] = _batches_of_turn(work, seconds)
        batches, done = self._batches[job], 0
        started = time.perf_counter()
        while True:
            work.call(batches)
            done += batches
            # Not another call that would end far beyond the turn.
            elapsed = time.perf_counter() - started
            if elapsed * (1 + batches / done / 2) >= seconds:
                break
        if not work.batches:
            # For the next turn: a call that something held up says too little.
            self._batches[job] = _possible(work, max(1, round(done * seconds / elapsed)))
        return Turn(elapsed, done * work.items)


def _batches_of_turn(work: Work, seconds: float) -> int:
    """Batches that take a turn, found by trying longer and longer calls."""
    if work.batches:
        return work.batches
    batches = 1
    while True:
        started = time.perf_counter()
        work.call(batches)
        elapsed = time.perf_counter() - started
        wanted = max(1, math.floor(batches * seconds / elapsed))
        if elapsed >= _SHARE_OF_TURN * seconds or batches == work.most:
            break
        batches = _possible(work, min(wanted, 8 * batches))
    return _possible(work, wanted)


def _possible(work: Work, batches: int) -> int:
    batches = min(batches, work.most)
    if work.epoch and batches > work.epoch:
        batches -= batches % work.epoch
    return batches


def _attempt(function):
    def attempted(*arguments):
        try:
            return function(*arguments)
        except Exception as error:
            return _said(error)

    return attempted


def _said(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}".strip()
    lowered = text.lower()
    if "resource_exhausted" in lowered or OUT_OF_MEMORY in lowered:
        return OUT_OF_MEMORY
    return text.splitlines()[0][:200]


def job_of(parts: list) -> Job:
    """A job, as it comes out of JSON."""
    (task, size), engine = parts
    return Job(Case(task, Size(*size)), Engine(*engine))


def main() -> None:
    """Answers until the input ends."""
    library, folder, platform = sys.argv[1:]
    # Libraries print on the standard output, too: answers have one of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(library, Path(folder), platform)
    for line in sys.stdin:
        request = json.loads(line)
        match request.pop("do"):
            case "peak":
                answer = worker.peak()
            case "prepare":
                jobs = [job_of(job) for job in request["jobs"]]
                answer = worker.prepare(jobs, request["at_once"])
            case "run":
                answer = worker.run(job_of(request["job"]), request["seconds"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
