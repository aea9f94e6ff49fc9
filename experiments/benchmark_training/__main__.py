"""Our training beside PyTorch's and Keras's: `python -m experiments.benchmark_training --help`.

With all peers it takes about ten minutes on two CPU cores. Status 1: ours failed in a configuration
for another reason than too little memory. What an interrupted run has measured is written.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.benchmark_training import flops, report
from experiments.benchmark_training.cases import Options, Size, list_jobs, missing_peers
from experiments.benchmark_training.session import Session
from experiments.benchmarks import document
from experiments.benchmarks.options import run
from experiments.benchmarks.turns import alternate, run_once
from twostage_jax.data import sources
from twostage_jax.training.protocol import Protocol

PROGRAM = "python -m experiments.benchmark_training"
_PACKAGES = ("jax", "flax", "numpy", "torch", "keras", "tensorflow", "tensorflow-cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    return run(PROGRAM, Options, benchmark, _PACKAGES, arguments)


def benchmark(options: Options, device: dict[str, str], origin: list[str]) -> int:
    """Measures what the options name. Writes the document after every round."""
    platform = device["platform"]
    options = options.on(platform)
    jobs = list_jobs(options, platform)
    precisions = {job.precision for job in jobs} if platform != "cpu" else ["float32"]
    peaks = run_once(flops.measure_peaks, precisions, 2048 if platform == "cpu" else 8192)
    with tempfile.TemporaryDirectory(prefix="twostage_jax-benchmark-") as folder:
        data, classes = make_data(Path(folder), options)
        with Session(jobs, data, options.seconds) as session:

            def write(finished: int) -> tuple[str, bool]:
                frame = report.summarize(session.measured, classes, peaks)
                notes = report.notes(frame, options, platform, finished) + missing_peers(options)
                parts = report.tables(frame)
                text = document.write(options.output, "training", parts, notes, origin, frame)
                return text, report.is_broken(frame)

            finished = 0
            try:
                for number, job in alternate(jobs, options.rounds):
                    if number > finished:
                        write(finished := number)
                    print(f"round {number + 1}, {job}: {session.take_turn(job)}", flush=True)
            except KeyboardInterrupt:
                if any(found.rates for found in session.measured.values()):
                    write(finished)
                raise
            text, broken = write(options.rounds)
    print(text, f"written to {options.output}", sep="\n")
    return int(broken)


def make_data(folder: Path, options: Options) -> tuple[dict[Size, Path], int]:
    """Writes the images of every size; returns the files and the number of classes."""
    files, classes = {}, 0
    given = {name: getattr(options, name) for name in ("dataset", "data_dir", "images_per_class")}
    for size in (Size(*pair) for pair in options.sizes):
        print(f"{size}: making the data", flush=True)
        found = sources.load(image_size=size.pixels, seed=Protocol().seed, **given)
        files[size] = folder / f"{size.width:g}-{size.pixels}.npz"
        np.savez(files[size], images=found.images, labels=found.labels)
        classes = found.num_classes
    return files, classes


if __name__ == "__main__":
    sys.exit(main())
