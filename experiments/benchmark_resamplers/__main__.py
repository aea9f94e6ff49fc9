"""Our resamplers beside imbalanced-learn's: `python -m experiments.benchmark_resamplers --help`.

All cases take half an hour on two CPU cores, 5 GB of memory and 2 GB of disk. Status 1:
ours failed, or its results are not imbalanced-learn's.
"""

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from experiments.benchmark_resamplers import report, work
from experiments.benchmark_resamplers.data import make_data
from experiments.benchmark_resamplers.report import Turn
from experiments.benchmarks import document
from experiments.benchmarks import options as common
from experiments.benchmarks.turns import Worker, WorkerError, alternate

PROGRAM = "python -m experiments.benchmark_resamplers"
_PACKAGES = ("jax", "numpy", "scikit-learn", "imbalanced-learn")

# Calls of a few milliseconds are repeated up to this many seconds or this often.
_ENOUGH_SECONDS, _ENOUGH_CALLS = 1.0, 10


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Times our resamplers and imbalanced-learn's: seconds, memory and agreement.

    Every turn runs in a new process of one engine and one case; engines alternate.
    """

    cases: tuple[Literal["images", "plans", "features", "samplers", "large"], ...] = (
        *("images", "plans", "features", "samplers", "large"),
    )
    """images (one SMOTE of images per scenario), plans (all 120 image plans of the study), features
    (one SMOTE of a fold's features per scenario), samplers (every sampler on a fold's features,
    with classes that overlap), large (SMOTE of 100,000 x 1,024)."""
    rounds: int = 2
    """Turns of every engine."""
    scale: float = 1.0
    """Share of rows, features and of the image's side, to try the program."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    return common.run(PROGRAM, Options, benchmark, _PACKAGES, arguments)


def benchmark(options: Options, device: dict[str, str], origin: list[str]) -> int:
    """Measures what the options name. Writes the document after every case."""
    turns: list[Turn] = []

    def write() -> tuple[str, list[str]]:
        frame = report.summarize(turns)
        parts, wrong = ["# Resamplers", report.table(frame)], report.list_wrong(frame)
        notes = report.notes(frame, options.rounds, options.scale)
        return document.write(options.output, "resamplers", parts, notes, origin, frame), wrong

    with tempfile.TemporaryDirectory(prefix="twostage_jax-benchmark-") as folder:
        for kind in dict.fromkeys(options.cases):
            data = Path(folder) / {"plans": "images"}.get(kind, kind)
            if not data.exists():
                print(f"{data.name}: making the data", flush=True)
                given = {name: getattr(options, name) for name in ("dataset", "data_dir", "scale")}
                make_data(data.name, data, **given)
            for jobs in work.list_jobs(kind, device["platform"]):
                for number, job in alternate(jobs, options.rounds):
                    turns.append(take_turn(job, data, number))
                text, wrong = write()  # an interrupted run keeps its finished cases
    print(text, *wrong, f"written to {options.output}", sep="\n")
    return 1 if wrong else 0


def take_turn(job: work.Job, data: Path, number: int) -> Turn:
    """A job's turn of a round, in a new process; a failure is noted."""
    turn = Turn(job)
    parts = job.parts(number)
    try:
        with Worker(work.Resampling, job, data) as worker:
            for part in parts:
                worker.ask("load", part)
                turn.seconds.append(times := [])
                while not times or (len(parts) == 1 and not is_enough(times)):
                    answer = worker.ask("call")
                    times.append(answer.value)
                    turn.growth = max(turn.growth, answer.growth)
                turn.samples |= worker.ask("samples", part).value
            turn.shape = worker.ask("shape").value
    except WorkerError as error:
        turn.failure = str(error)
    said = turn.failure or " ".join(f"{call:.3g}" for times in turn.seconds for call in times)
    print(f"{job.case}, round {number + 1}, {job.engine}: {said}", flush=True)
    return turn


def is_enough(times: Sequence[float]) -> bool:
    """Whether calls of these seconds are enough for a turn: two, and more of quick ones."""
    quick = sum(times) < _ENOUGH_SECONDS and len(times) < _ENOUGH_CALLS
    return len(times) > 1 and not quick


if __name__ == "__main__":
    sys.exit(main())
