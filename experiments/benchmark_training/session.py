"""Asks the libraries' processes in turn, and keeps what they answer."""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from experiments.benchmark_training.cases import OURS, Job, Size
from experiments.benchmark_training.work import Library
from experiments.benchmarks.turns import Worker, WorkerError

# Share of an accelerator's memory that JAX may take for ours: the peers need the rest.
_OUR_SHARE = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.8"}


@dataclasses.dataclass
class Measured:
    """What is known of a job so far."""

    first: float | None = None
    """Seconds until the first batch was done, compilation included."""
    memory: int | None = None
    """Bytes: of the accelerator's memory, or the growth of resident memory during a batch."""
    rates: list[float] = dataclasses.field(default_factory=list)
    """Images per second, one number per turn."""
    failure: str = ""
    """Why there are no more turns, in one line; empty where nothing failed."""


class Session(ExitStack):
    """All processes, which end with the block, and all that is measured."""

    def __init__(self, jobs: Sequence[Job], data: Mapping[Size, Path], seconds: float):
        """Starts no process yet; `data` are the files of the images, a turn takes `seconds`."""
        super().__init__()
        self.measured = {job: Measured() for job in jobs}
        self._data, self._seconds = data, seconds
        self._workers: dict[tuple, Worker] = {}
        self._prepared: set[tuple[Worker, Job]] = set()

    def take_turn(self, job: Job) -> str:
        """Lets a job have its turn and says what happened. A job that failed has no more turns."""
        found = self.measured[job]
        if found.failure:
            return found.failure
        worker = self._worker(job)
        try:
            if (worker, job) not in self._prepared:
                self._prepare(worker, job)
            found.rates.append(worker.ask("turn", job).value)
        except WorkerError as error:
            found.failure = str(error)
            return found.failure
        return f"{found.rates[-1]:.3g} images/s"

    def _prepare(self, worker: Worker, job: Job) -> None:
        first = worker.ask("prepare", job).value
        (frees, on_device), growth = worker.ask("step", job)
        self._prepared.add((worker, job))
        found = self.measured[job]
        if found.first is None:  # a process that ended is replaced, and jobs are prepared again
            found.first, found.memory = first, on_device or (growth if frees else None)

    def _worker(self, job: Job) -> Worker:
        key = job.size, job.library
        worker = self._workers.get(key)
        if worker is None or not worker.is_alive:
            share = _OUR_SHARE if job.library == OURS else {}
            worker = Worker(Library, self._data[job.size], self._seconds, environment=share)
            self._workers[key] = self.enter_context(worker)
        return worker
