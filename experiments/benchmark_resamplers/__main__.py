"""Our resamplers beside imbalanced-learn's: `python -m experiments.benchmark_resamplers --help`.

All cases take a quarter of an hour on two CPU cores, 5 GB of memory and 2 GB of disk.
"""

import dataclasses
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from experiments.benchmark_resamplers import compare, report
from experiments.benchmark_resamplers.cases import (
    Case,
    Engine,
    cases_of,
    engines_of,
    installed_searches,
)
from experiments.benchmark_resamplers.data import make_data
from experiments.benchmark_resamplers.options import PROGRAM, Options, parse
from experiments.benchmark_resamplers.worker import Job, Measurement
from experiments.benchmarks import document
from experiments.benchmarks.processes import find_device, reason, run_module
from experiments.command import run_command

_WORKER = "experiments.benchmark_resamplers.worker"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: all is measured, and ours gives imbalanced-learn's results. 1: it does not, or failed.
    2: bad input, or a machine that cannot go on. 130: interrupted. A missed target is only said.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(
        lambda: benchmark(console, parse(arguments), command), "interrupted; nothing is written"
    )


def benchmark(console: Console, options: Options, command: str) -> int:
    """Measures what the options name and writes the report."""
    device = find_device(options.accelerator)
    console.print(f"JAX on {device['platform']} ({device['kind']})")
    with tempfile.TemporaryDirectory(prefix="twostage_jax-benchmark-") as folder:
        turns = take_turns(console, options, device["platform"], Path(folder))
    lines = compare.summarize(turns)
    found = compare.targets(lines)
    said = report.notes(lines, options.rounds, options.scale)
    origin = document.provenance(command, device, os.cpu_count() or 1, report.PACKAGES)
    text = report.markdown(lines, found, said, origin)
    table, picture = report.frame(lines), report.plot(lines)
    document.write(options.output, "resamplers", table, text, picture)
    # Rich would cut columns off where it finds no terminal and takes 80 for its width.
    Console(highlight=False, width=max(console.width, 190)).print(report.screen(lines))
    for line in (*said, *report.verdicts(found)):
        console.print(line)
    wrong = compare.disagreements(lines)
    for line in wrong:
        console.print(line, style="bold red")
    console.print(f"written to {options.output}")
    return 1 if wrong else 0


def take_turns(
    console: Console, options: Options, platform: str, folder: Path
) -> list[compare.Turn]:
    """Every engine's turn in every case and round, one process at a time."""
    cases, searches = cases_of(options.cases), installed_searches()
    turns: list[compare.Turn] = []
    data: Path | None = None
    for case in cases:
        kind = "images" if case.kind == "plans" else case.kind
        if data != folder / kind:
            data = folder / kind
            console.print(f"{kind}: making the data")
            make_data(kind, data, options)
        engines = engines_of(case, platform, searches)
        for turn in range(options.rounds):
            # Every other round backwards: who comes first would gain or lose by it.
            order = engines[:: -1 if turn % 2 else 1]
            turns += take_turn(console, case, order, data, turn, options.repeats)
    return turns


def take_turn(
    console: Console, case: Case, engines: Sequence[Engine], data: Path, turn: int, repeats: int
) -> list[compare.Turn]:
    """One round of a case: each engine in a process, and its results beside the reference's."""
    done: dict[Engine, Measurement | str] = {}
    samples = {engine: data / f"sample-{i}.npz" for i, engine in enumerate(engines)}
    for engine in engines:
        job = Job(case, engine, str(data), turn, repeats, str(samples[engine]))
        done[engine] = run_job(job)
        console.print(f"{case.title}, round {turn + 1}, {engine.name}: {_said(done[engine])}")
    reference = next(engine for engine in engines if engine.is_reference)
    turns = []
    for engine, result in done.items():
        if isinstance(result, str):
            turns.append(compare.Turn(case, engine, None, failure=result))
            continue
        comparable = engine != reference and isinstance(done[reference], Measurement)
        share = _compare(samples[engine], samples[reference]) if comparable else None
        turns.append(compare.Turn(case, engine, result, share))
    return turns


def _compare(own: Path, reference: Path) -> float:
    return compare.agreement(dict(np.load(own)), dict(np.load(reference)))


def _said(result: Measurement | str) -> str:
    if isinstance(result, str):
        return result
    calls = [seconds for times in result.seconds.values() for seconds in times]
    return " ".join(f"{seconds:.3g}" for seconds in calls) + " s"


def run_job(job: Job) -> Measurement | str:
    """Does a job in a new process; in place of a measurement a line on why there is none."""
    process = run_module(_WORKER, json.dumps(dataclasses.asdict(job)), job.engine.platform)
    if process.returncode < 0:
        return f"ended by signal {-process.returncode}"
    if process.returncode:
        return reason(process)
    return Measurement(**json.loads(process.stdout.splitlines()[-1]))


if __name__ == "__main__":
    sys.exit(main())
