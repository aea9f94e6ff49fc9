"""SMOTE of a table that stays on disk: `python -m experiments.resample_on_disk --help`.

X and the result are memory-mapped files. The process that resamples holds the rare class, its
neighbors and the plan, and little else.
"""

import dataclasses
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import tyro

from experiments.benchmarks.document import digits, markdown_table, provenance, size, write
from experiments.benchmarks.turns import Worker
from twostage_jax import SMOTE, at_least
from twostage_jax.commands.ending import run_command
from twostage_jax.resampling.plan import Plan
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive

PROGRAM = "python -m experiments.resample_on_disk"
RARE = 0.02
"""Share of the rare one of two classes; it grows to a tenth of the other."""
_BLOCK = 10_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Resamples a table of random numbers, float32, on disk."""

    rows: int = 1_000_000
    """Rows of X."""
    columns: int = 1024
    """Columns of X."""
    folder: Path | None = None
    """Folder for X and the result, which are deleted afterwards; by default a temporary one."""
    output: Path = Path("experiments/results/on-disk")
    """Folder of the Markdown document and of the CSV file."""


class Resampling:
    """The process that is measured."""

    def __init__(self, folder: Path):
        self._folder = folder

    def start(self) -> None:
        """Does nothing: what a process needs to start does not count."""

    def plan(self) -> int:
        """Decides; returns the number of output rows."""
        x = np.load(self._folder / "x.npy", mmap_mode="r")
        sampler = SMOTE(sampling_strategy=at_least(0.1), random_state=0)
        self._plan: Plan = sampler.plan(x, np.load(self._folder / "y.npy"))
        return len(self._plan)

    def materialize(self) -> Plan:
        """Writes the result; returns some of its rows' plan."""
        x = np.load(self._folder / "x.npy", mmap_mode="r")
        shape = (len(self._plan), x.shape[1])
        out = np.lib.format.open_memmap(self._folder / "out.npy", "w+", x.dtype, shape)
        self._plan.materialize(x, out=out)
        out.flush()
        return self._plan.take(_some(len(self._plan)))


def _some(rows: int) -> np.ndarray:
    return np.linspace(0, rows - 1, min(rows, 1000)).astype(int)


def make_data(folder: Path, rows: int, columns: int) -> None:
    """Writes X, of overlapping classes, and y, block by block."""
    random = np.random.default_rng(derive(0, "on disk"))
    y = random.random(rows) < RARE
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, (rows, columns))
    for start in range(0, rows, _BLOCK):
        block = slice(start, min(start + _BLOCK, rows))
        shape = (block.stop - start, columns)
        x[block] = random.standard_normal(shape, np.float32) + 0.1 * y[block, None]
    np.save(folder / "y.npy", y.astype(np.int32))


def measure(folder: Path, options: Options) -> pd.DataFrame:
    """A row per step: seconds, memory of the process beside mapped files, rows.

    Raises:
        RuntimeError: a row that was written is not that of the plan.
    """
    make_data(folder, options.rows, options.columns)
    found = []
    with Worker(Resampling, folder) as worker:
        worker.ask("start")
        for step in ("plan", "materialize"):
            began = time.perf_counter()
            answer = worker.ask(step)
            seconds = time.perf_counter() - began
            found.append({"step": step, "seconds": seconds, "memory": answer.growth})
        rows = len(np.load(folder / "out.npy", mmap_mode="r"))
    x, out = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("x", "out"))
    if not np.array_equal(answer.value.materialize(x), out[_some(rows)]):
        raise RuntimeError("rows on disk differ from those of the plan")
    return pd.DataFrame(found).assign(rows=rows, bytes=x.nbytes, out=out.nbytes)


def run(options: Options, command: str) -> int:
    """Measures and writes the document."""
    for name, least in (("rows", 1000), ("columns", 1)):
        if getattr(options, name) < least:
            raise InputError(f"--{name} {getattr(options, name)} found, {least} or more expected")
    with TemporaryDirectory(dir=options.folder) as folder:
        frame = measure(Path(folder), options)
    cells = pd.DataFrame(
        {
            "Step": frame["step"],
            "Seconds": [digits(own) for own in frame["seconds"]],
            "Memory beside mapped files": [size(own) for own in frame["memory"]],
            "X on disk": [size(own) for own in frame["bytes"]],
            "Result on disk": [size(own) for own in frame["out"]],
            "Rows": [f"{options.rows:,} to {own:,}" for own in frame["rows"]],
        }
    )
    notes = [
        "Two classes of random numbers in float32; the rare one has 2 % of the rows and grows to a "
        "tenth of the other.",
        "Memory is by how much the process's own memory grew at most, sampled every 5 ms. Pages of "
        "mapped files do not count: the system takes them back when it needs memory.",
    ]
    parts = ["# Resampling on disk", markdown_table(cells, 1)]
    print(write(options.output, "on-disk", parts, notes, provenance(command, ("numpy",)), frame))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(partial(run, options, command), "interrupted")


if __name__ == "__main__":
    sys.exit(main())
