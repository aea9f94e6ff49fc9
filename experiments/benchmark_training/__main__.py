"""Our training beside PyTorch's and Keras's: `python -m experiments.benchmark_training --help`.

With all peers it takes about ten minutes on two CPU cores, and less than nine on a GPU.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.benchmark_training import compare, flops, report
from experiments.benchmark_training.cases import jobs_of, missing_peers, sizes_of
from experiments.benchmark_training.data import load_data, make_data
from experiments.benchmark_training.options import PROGRAM, Options, parse
from experiments.benchmark_training.session import Session
from experiments.benchmarks import document
from experiments.benchmarks.processes import find_device
from experiments.command import run_command
from twostage_jax.training.steps import PRECISIONS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: measured. 1: ours failed in some configuration, out of memory and out of time apart. 2: bad
    input, or a machine that cannot go on. 130: interrupted; what was measured is written. A missed
    target is only said.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(
        lambda: benchmark(console, parse(arguments), command),
        "interrupted; what was measured is written",
    )


def benchmark(console: Console, options: Options, command: str) -> int:
    """Measures what the options name, and writes the report again and again on the way."""
    device = find_device(options.accelerator)
    platform = device["platform"]
    options = options.settled(platform)
    console.print(f"JAX on {platform} ({device['kind']})")
    origin = document.provenance(command, device, os.cpu_count() or 1, report.PACKAGES)
    with tempfile.TemporaryDirectory(prefix="twostage_jax-benchmark-") as folder:
        for size in sizes_of(options):
            console.print(f"{size.title}: making the data")
            make_data(Path(folder), size, options)
        labels = load_data(Path(folder), size)[1]
        jobs = jobs_of(options, platform)
        with Session(jobs, options, platform, Path(folder), console.print) as session:
            peaks = _peaks(session, device)

            def write(finished: int) -> tuple[list[compare.Line], list[compare.Target], list[str]]:
                lines = compare.summarize(session.measured, len(np.unique(labels)), peaks)
                found = compare.targets(lines, platform)
                missing = missing_peers(options)
                said = report.notes(lines, options, platform, finished, missing)
                text = report.markdown(lines, found, said, origin)
                table, picture = report.frame(lines), report.plot(lines)
                document.write(options.output, "training", table, text, picture)
                return lines, found, said

            finished = 0
            try:
                for finished in session.rounds():
                    lines, found, said = write(finished)
            except KeyboardInterrupt:
                write(finished)
                raise
    for table in report.screen(lines):
        # Rich would cut columns off where it finds no terminal and takes 80 for its width.
        Console(highlight=False, width=max(console.width, 190)).print(table)
    for line in (*said, *report.verdicts(found)):
        console.print(line)
    console.print(f"written to {options.output}")
    return 1 if compare.broken(lines) else 0


def _peaks(session: Session, device: dict[str, str]) -> dict[str, float]:
    if device["platform"] == "cpu":
        measured = session.peak()
        return {} if measured is None else {"float32": measured}
    known = {precision: flops.peak_of(device["kind"], precision) for precision in PRECISIONS}
    return {precision: peak for precision, peak in known.items() if peak}


if __name__ == "__main__":
    sys.exit(main())
