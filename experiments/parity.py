"""Compares the samplers with imbalanced-learn's, over a grid: `python -m experiments.parity`.

Prints a table of agreement; `--output FOLDER` keeps it, with a picture of uint8 images. Exits with
status 1 where the two libraries differ by more than `expectation` allows.
"""

import dataclasses
import io
import itertools
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import imblearn.over_sampling
import numpy as np
import pandas as pd
import tyro
from PIL import Image, ImageDraw, ImageFont
from threadpoolctl import threadpool_limits

import twostage_jax
from experiments.benchmarks import document
from tests.sampler_grid import STRATEGIES, VARIANTS, Case, compare, expectation, make_data
from twostage_jax.commands.device import use_accelerator
from twostage_jax.commands.ending import run_command
from twostage_jax.data import sources
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically

PROGRAM = "python -m experiments.parity"


@dataclasses.dataclass(frozen=True)
class Options:
    """Compares the samplers with imbalanced-learn's: rows and values."""

    grid: str = "whole"
    """whole (minutes), or quick (seconds): small data, and one seed."""
    seeds: int = 3
    """Seeds of data and samplers."""
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where JAX runs: auto (what JAX finds), cpu, gpu or tpu."""
    output: Path | None = None
    """Folder for parity.md, parity.csv and uint8.png. Default: nothing is kept."""


class Part(NamedTuple):
    """Data of a shape; all strategies, or `auto` alone; in the quick grid or not."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    all_strategies: bool = True
    quick: bool = True


# Distances of bytes in few columns are equal too often: there are no data without ties.
_WIDE = ("float64", "float32", "int64")
_ALL = (*_WIDE, "uint8")

# Small data, many rows of few columns (a k-d tree), many features, images (tiles on the device).
GRID = (
    Part((300, 2), _WIDE),
    Part((300, 40), _WIDE, quick=False),
    Part((240, 16, 16, 3), _ALL),
    Part((2400, 3), _WIDE, all_strategies=False, quick=False),
    Part((2400, 64), _WIDE, all_strategies=False, quick=False),
    Part((300, 1024), _ALL, all_strategies=False, quick=False),
    Part((200, 150, 150, 3), _ALL, all_strategies=False, quick=False),
)


def cases(grid: str, seeds: int) -> Iterator[Case]:
    """The comparisons of a grid, those of the same data together."""
    for part, seed in itertools.product(GRID, range(seeds if grid == "whole" else 1)):
        if grid == "quick" and not part.quick:
            continue
        for dtype, of_two in itertools.product(part.dtypes, (False, True)):
            for variant in VARIANTS:
                strategies = STRATEGIES[variant.kind] if part.all_strategies else ("auto",)
                for strategy in strategies:
                    if (strategy == "float") == of_two:
                        yield Case(variant, dtype, part.shape, strategy, seed)


def run(todo: Sequence[Case]) -> pd.DataFrame:
    """One row per case, see `compare`."""
    rows, data, before = [], None, None
    for case in todo:
        wanted = (case.shape, case.dtype, 2 if case.strategy == "float" else 3, case.seed)
        if wanted != before:
            data, before = make_data(*wanted), wanted
        rows.append(compare(case, *data))
    return pd.DataFrame(rows)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (sampler, dtype), in the order of `VARIANTS`, and whether it is as expected."""
    rows = []
    for variant, dtype in itertools.product(VARIANTS, _ALL):
        part = frame[(frame.sampler == variant.title) & (frame.dtype == dtype)]
        if not len(part):
            continue
        expected = expectation(variant, dtype)
        row = {"sampler": variant.title, "dtype": dtype, "cases": len(part)}
        row |= {name: part[name].sum() for name in ("raised", "same_rows", "exact")}
        row |= {"largest_difference": part.difference.max(), "allowed": expected.largest}
        exact = row["exact"] == len(part) or not expected.exact
        within = part.difference.max() <= expected.largest
        row["agrees"] = bool(part.same_rows.all() and exact and within)
        rows.append(row)
    return pd.DataFrame(rows)


_YES = {True: "yes", False: "NO"}
NOTES = (
    "The data are synthetic Gaussian classes without equal distances, from named seeds; both "
    "libraries get the same integer `random_state`, and scikit-learn one thread.",
    "Same rows: equal y, shape and dtype of X, and equal `sample_indices_` where there are any.",
    "Bit for bit: equal arrays. Integers are compared with imbalanced-learn's result on the same "
    "numbers in float64, rounded: on uint8 itself its differences wrap around modulo 256, and on "
    "other integers it truncates. SMOTEENN and SMOTETomek clean what SMOTE made: those of "
    "imbalanced-learn are given its own SMOTE with a rounded result.",
    "Difference: of floating-point values relative to the larger magnitude of the two values that "
    "they lie between; of integers from imbalanced-learn's float64 result before rounding.",
    "borderline-2 may differ by 1e-6: its step is a product of two factors, which imbalanced-learn "
    "applies one after the other. Cases in which both libraries raise the same exception agree.",
)


def markdown(table: pd.DataFrame) -> str:
    """The table of agreement."""
    cells = table.drop(columns="raised").assign(agrees=table.agrees.map(_YES))
    cells["largest_difference"] = table.largest_difference.map("{:.2g}".format)
    return document.markdown_table(cells.astype(str).rename(columns=str.capitalize), left=2)


def write(folder: Path, table: pd.DataFrame, command: str) -> None:
    """Writes parity.md and parity.csv."""
    image = "![SMOTE between two uint8 images, by both libraries](uint8.png)"
    parts = ["# Parity with imbalanced-learn", markdown(table), image]
    origin = document.provenance(command, ["imbalanced-learn", "scikit-learn", "numpy", "jax"])
    document.write(folder, "parity", parts, NOTES, origin, table)


_TILE, _ZOOM, _GAP, _HEAD = 84, 2, 9, 42


def picture() -> bytes:
    """A synthetic image between two uint8 images of a class, by both libraries, as a PNG file."""
    digits = sources.load("digits", image_size=_TILE, images_per_class=10)
    rows = np.flatnonzero(digits.labels < 2)[:17]  # ten of one class and seven of the other
    x, y = digits.images[rows], digits.labels[rows]
    theirs = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(x.reshape(len(x), -1), y)[0]
    sampler = twostage_jax.SMOTE(random_state=0)
    ours, plan = sampler.fit_resample(x, y)[0], sampler.plan(x, y)
    row = len(x) + int(np.abs(plan.step[len(x) :] - 0.5).argmin())
    panels = (
        (x[plan.base[row]], "A: an image", "uint8"),
        (x[plan.neighbor[row]], "B: its neighbor", "uint8"),
        (theirs[row].reshape(x[0].shape), "imbalanced-learn", "differences wrap at 256"),
        (ours[row], "twostage_jax", f"A + {plan.step[row]:.2f} (B - A), rounded"),
    )
    side = _TILE * _ZOOM
    canvas = Image.new("RGB", (4 * side + 3 * _GAP, _HEAD + side), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (pixels, title, below) in enumerate(panels):
        left = place * (side + _GAP)
        draw.text((left, 2), title, "black", ImageFont.load_default(17))
        draw.text((left, 23), below, (90, 90, 90), ImageFont.load_default(13))
        canvas.paste(Image.fromarray(pixels).resize((side, side), Image.NEAREST), (left, _HEAD))
    stream = io.BytesIO()
    canvas.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status; 1: something does not agree."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(lambda: _compare_all(options, command), "interrupted")


def _compare_all(options: Options, command: str) -> int:
    require_known("grid", options.grid, ("whole", "quick"))
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds} found, 1 or more expected")
    use_accelerator(options.accelerator)
    if options.output:  # first: a folder that cannot be written would show after minutes
        write_atomically(options.output / "uint8.png", picture())
    todo = list(cases(options.grid, options.seeds))
    with threadpool_limits(1):  # on small data the threads of scikit-learn wait for each other
        table = summarize(run(todo))
    words = "all" if table.agrees.all() else "NOT all"
    print(markdown(table), f"{len(todo)} cases: {words} agree as expected", sep="\n\n")
    if options.output:
        write(options.output, table, command)
        print(f"results in {options.output}")
    return 0 if table.agrees.all() else 1


if __name__ == "__main__":
    sys.exit(main())
