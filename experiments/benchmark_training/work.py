"""The process of a library: it prepares jobs and takes turns in them when asked."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.benchmark_training.cases import KERAS, OURS, TORCH, Job
from experiments.benchmarks.turns import return_free_memory

_MODULES = {OURS: "ours", TORCH: "torch_peer", KERAS: "keras_peer"}

# Calls per turn, at least, if the batches are short enough.
_CALLS = 4


class Work(NamedTuple):
    """A job that is ready.

    Attributes:
        call: trains on a number of batches, and waits for them.
        images: per batch.
        most: batches that one call can do.
        device_memory: gives bytes of an accelerator's memory that it takes; None on a CPU.
        frees: whether the library returns memory, so that its growth in a call says something.
    """

    call: Callable[[int], None]
    images: int
    most: int
    device_memory: Callable[[], int | None] = lambda: None
    frees: bool = True


class Library:
    """The jobs of one process. `Worker.ask` calls the methods."""

    def __init__(self, data: Path, seconds: float):
        """Reads the .npz file of `images` and `labels`; a turn takes `seconds`."""
        with np.load(data) as arrays:
            self._data = arrays["images"], arrays["labels"]
        self._seconds = seconds
        self._works: dict[Job, Work] = {}
        self._batches: dict[Job, int] = {}

    def prepare(self, job: Job) -> float:
        """Seconds until the first batch is done, compilation included."""
        started = time.perf_counter()
        module = importlib.import_module(f"{__package__}.{_MODULES[job.library]}")
        work = self._works[job] = module.prepare(job, *self._data)
        work.call(1)
        seconds = time.perf_counter() - started
        self._batches[job] = batches_per_call(work, self._seconds / _CALLS)
        return_free_memory()
        return seconds

    def step(self, job: Job) -> tuple[bool, int | None]:
        """Trains on a batch, for the caller to observe; gives `frees` and `device_memory()`."""
        work = self._works[job]
        work.call(1)
        return work.frees, work.device_memory()

    def turn(self, job: Job) -> float:
        """Images per second over a turn."""
        work, batches = self._works[job], self._batches[job]
        done, elapsed, started = 0, 0.0, time.perf_counter()
        while elapsed < self._seconds:
            work.call(batches)
            done += batches
            elapsed = time.perf_counter() - started
        # What held up the calls when their length was chosen must not keep them short.
        longer = round(done * self._seconds / elapsed / _CALLS)
        self._batches[job] = min(max(batches, longer), work.most)
        return done * work.images / elapsed


def batches_per_call(work: Work, seconds: float) -> int:
    """The number of batches that take about this many seconds, or a little longer."""
    batches, elapsed = 1, 0.0
    while elapsed < seconds and batches < work.most:
        started = time.perf_counter()
        work.call(batches)
        elapsed = time.perf_counter() - started
        batches = min(batches * (1 if elapsed >= seconds else 2), work.most)
    return batches
