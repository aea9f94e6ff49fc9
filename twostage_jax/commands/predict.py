"""Predictions for images: `python -m twostage_jax predict MODEL new/ --output predictions.csv`."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal

import tyro
from rich.console import Console

from twostage_jax.commands.ending import run_command
from twostage_jax.commands.help import print_help
from twostage_jax.commands.saved_model import (
    Device,
    Prior,
    load_model,
    out_of_memory,
)
from twostage_jax.commands.throughput import resized_text, show_throughput
from twostage_jax.data.sources.options import MAX_PIXELS
from twostage_jax.evaluation.names import readable
from twostage_jax.prediction.finding import Found, find_files, names_from
from twostage_jax.prediction.stream import Model, file_size, predict_files
from twostage_jax.prediction.table import FORMATS, Layout
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import open_atomically, user_path

PROGRAM = "python -m twostage_jax predict"


@dataclasses.dataclass(frozen=True)
class Options:
    """Predicts the classes of images with a saved model: filename, label, prob.

    An image that cannot be read has a reason instead of a label; the exit status is then 1.

    Example: python -m twostage_jax predict cells.model new/ --output predictions.csv
    """

    model: tyro.conf.Positional[Path]
    """Folder of the model, as the command fit writes it"""
    paths: tyro.conf.Positional[tuple[str, ...]] = ()
    """Folders (searched deep) and image files. - or nothing: names from standard input"""

    output: str = "-"
    """File of the predictions, *.csv, *.json or *.parquet; - prints CSV."""
    format: Literal["csv", "json", "parquet"] | None = None
    """Format, where the name of the output does not tell it."""
    force: bool = False
    """Replace the output if it exists."""
    topk: int = 1
    """How many labels per image, the most probable first: label2, prob2, and so on."""
    output_type: Literal["label", "prob"] = "label"
    """prob adds one column per class with its probability."""
    prior: Prior | None = None
    """balanced corrects the probabilities to equally frequent classes."""
    device: Device = "auto"
    """Where to predict: auto is what JAX finds."""
    max_pixels: int = MAX_PIXELS
    """The most pixels that an image file may have; larger ones cannot be read."""


def main(arguments: Sequence[str], *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: all images are predicted. 1: some cannot be read. 2: bad input, or a machine that cannot go
    on. 130: interrupted.

    Args:
        arguments: those after the command's name.
        leave: as for `run_command`.

    Raises:
        SystemExit: for `--help`, or an option that does not exist.
    """
    print_help(Options, PROGRAM, arguments)
    options = tyro.cli(
        Options, prog=PROGRAM, args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
    )
    nothing = "" if options.output == "-" else f"; {readable(options.output)} is not written"
    return run_command(
        partial(predict, options),
        f"interrupted{nothing}",
        "; correct this and run the command again",
        leave=leave,
    )


def predict(options: Options) -> int:
    """Finds the images, predicts them and writes the table; returns the exit status.

    Raises:
        InputError: options, model or paths are not valid.
        OSError: the output cannot be written; what was there before stays.
    """
    output, kind = output_of(options)
    if options.max_pixels < 1:
        raise InputError(f"--max-pixels {options.max_pixels} found, 1 or more expected")
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with nullcontext(sys.stdout.buffer) if output is None else open_atomically(output) as file:
        found = _find(options.paths)
        if found.left_out:
            console.print(found.left_out)
        model = load_model(options.model, options.device, options.prior)
        layout = Layout(model.classes_.tolist(), options.topk, options.output_type == "prob")
        try:
            with out_of_memory():
                unread = _write(console, model, found.names, file, kind, layout, options)
        except BrokenPipeError:  # its reader, such as `head`, has seen enough
            if output is not None:
                raise
            # Python would complain once more at its end, when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
    return 1 if unread else 0


def output_of(options: Options) -> tuple[Path | None, str]:
    """The file to write (None: standard output), and its format.

    Raises:
        InputError: it exists, is no file, or has no known format.
    """
    if options.output == "-":
        kind = options.format or "csv"
        if kind == "parquet":
            raise InputError(
                "--format parquet found for standard output, csv or json expected; name a file "
                "with --output"
            )
        return None, kind
    output = user_path(Path(options.output), "--output")
    kind = options.format or output.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise InputError(
            f"--output {options.output} has no known format; expected a name that ends in "
            f"{', '.join(f'.{name}' for name in FORMATS)}: change it or add --format"
        )
    if output.exists() and not output.is_file():
        raise InputError(f"--output {output} is no file; expected the name of one: choose another")
    if os.path.lexists(output) and not options.force:
        raise InputError(
            f"--output {output} exists; expected a new file: choose another name, or replace it "
            "with --force"
        )
    return output, kind


def _find(paths: Sequence[str]) -> Found:
    """The images of the command line, or of standard input."""
    if "-" in paths and len(paths) > 1:
        raise InputError(
            "- found beside other paths, which expects all names from standard input; name either "
            "(./- is a file of that name)"
        )
    if paths and paths[0] != "-":
        return find_files(paths)
    if sys.stdin.isatty():
        raise InputError(
            "no paths, and standard input is a terminal; expected folders, images, or names from "
            f"another program: find new/ -name '*.png' | {PROGRAM} MODEL -"
        )
    return find_files(names_from(sys.stdin.buffer.read()), must_exist=False)


def _write(
    console: Console,
    model: Model,
    names: list[str],
    file: BinaryIO,
    kind: str,
    layout: Layout,
    options: Options,
) -> int:
    """Writes a row per image and says what there is to say; returns how many are not read."""
    size, unread, resized = file_size(model), 0, 0
    bar = options.output != "-" or not sys.stdout.isatty()
    started = time.perf_counter()
    predictions = predict_files(model, names, max_pixels=options.max_pixels)
    with FORMATS[kind](file, layout) as write:
        for one in show_throughput(console, predictions, len(names), bar=bar):
            write(one)
            resized += one.size not in (size, None)
            if one.probabilities is None:
                unread += 1
                console.print(f"{readable(one.name)}: {one.reason}", style="bold red")
    file.flush()
    seconds = time.perf_counter() - started
    if resized:
        console.print(resized_text(resized, len(names), size))
    failed = f"; {unread:,} cannot be read" if unread else ""
    where = "" if options.output == "-" else f"; predictions in {readable(options.output)}"
    console.print(
        f"{len(names):,} images in {seconds:,.1f} s ({len(names) / seconds:,.0f} images/s)"
        f"{failed}{where}"
    )
    return unread
