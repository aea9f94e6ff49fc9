"""One engine's turn in one case, in a process of its own: `... .worker JOB` prints a measurement.

A process an engine and turn keeps what is compiled, cached and allocated apart. Peak memory is the
highest resident memory during the calls less that before the first one, when the data are loaded.
Linux counts the highest since it was last reset, here right before the first call. Elsewhere it is
the growth of the highest in the whole life of the process, which may be less.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import jax
import numpy as np

from experiments.benchmark_resamplers.cases import Case, Engine
from experiments.benchmark_resamplers.work import prepare
from experiments.benchmarks.memory import reset_peak, resident

# Calls of a few milliseconds are repeated so long, or so often.
_ENOUGH_SECONDS = 1.0
_ENOUGH_CALLS = 10


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker is asked."""

    case: Case
    engine: Engine
    folder: str
    """Of the data."""
    turn: int
    """The round, from 0 up."""
    repeats: int
    """Calls after the first, at least."""
    samples: str
    """File for what is compared with the other engines."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a worker answers."""

    shape: tuple[int, ...]
    """Of the data."""
    seconds: dict[str, list[float]]
    """Of each part's calls, the first one first."""
    stands_for: int
    """How many parts the whole has; the numbers below are extrapolated to it."""
    rows: int
    result_bytes: int | None
    plan_bytes: int | None
    peak_bytes: int
    """Besides the data, on the host."""
    device_bytes: int | None
    """At most in use on the accelerator; None without one."""


def measure(job: Job) -> Measurement:
    """Does an engine's turn and keeps its samples.

    Raises:
        RuntimeError: JAX does not run on the engine's platform.
    """
    case, engine = job.case, job.engine
    if engine.ours and jax.default_backend() != engine.platform:
        raise RuntimeError(f"JAX runs on {jax.default_backend()}, {engine.platform} expected")
    work = prepare(case, engine, Path(job.folder), job.turn)
    seconds, outcomes, peak = {}, [], 0
    for part in work.parts:
        before = reset_peak()
        times: list[float] = []
        while True:
            started = time.perf_counter()
            result = part.call()
            times.append(time.perf_counter() - started)
            if work.stands_for > 1 or _enough(times, job.repeats):
                break
            result = None  # or two would be in memory
        peak = max(peak, resident("VmHWM") - before)
        outcomes.append(part.describe(result))
        seconds[part.name], result = times, None
    np.savez(
        job.samples, **{name: rows for each in outcomes for name, rows in each.samples.items()}
    )

    def whole(name: str) -> int | None:
        numbers = [getattr(each, name) for each in outcomes]
        if None in numbers:
            return None
        return round(sum(numbers) / len(numbers) * work.stands_for)

    return Measurement(
        work.shape,
        seconds,
        work.stands_for,
        whole("rows"),
        whole("result_bytes"),
        whole("plan_bytes"),
        peak,
        _device_peak() if engine.ours and engine.platform != "cpu" else None,
    )


def _enough(times: list[float], repeats: int) -> bool:
    quick = sum(times) < _ENOUGH_SECONDS and len(times) < _ENOUGH_CALLS
    return len(times) > repeats and not quick


def _device_peak() -> int | None:
    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def main() -> None:
    """Reads a job from the command line and prints its measurement, both as JSON."""
    job = json.loads(sys.argv[1])
    job |= {"case": Case(*job["case"]), "engine": Engine(*job["engine"])}
    print(json.dumps(dataclasses.asdict(measure(Job(**job)))))


if __name__ == "__main__":
    main()
