"""Scores of a model on labeled images: `python -m twostage_jax evaluate MODEL held-out/`."""

import dataclasses
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from jaxtyping import Int32
from rich.console import Console
from sklearn.base import BaseEstimator

from twostage_jax.commands.ending import run_command
from twostage_jax.commands.help import print_help
from twostage_jax.commands.saved_model import (
    Device,
    Prior,
    load_model,
    out_of_memory,
)
from twostage_jax.commands.throughput import resized_text, show_throughput
from twostage_jax.data.sources.folder import Listing, list_images
from twostage_jax.data.sources.options import MAX_PIXELS, SourceOptions
from twostage_jax.evaluation.image_bootstrap import bootstrap_scores
from twostage_jax.evaluation.metrics import confusion_matrix
from twostage_jax.evaluation.names import readable
from twostage_jax.evaluation.statistics import CONFIDENCE
from twostage_jax.prediction.stream import Model, Prediction, file_size, predict_files
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path
from twostage_jax.support.text import list_names

PROGRAM = "python -m twostage_jax evaluate"


@dataclasses.dataclass(frozen=True)
class Options:
    """Scores a saved model on labeled images that it was not trained on, as one HTML page.

    Example: python -m twostage_jax evaluate cells.model held-out/ --output evaluation/
    """

    model: tyro.conf.Positional[Path]
    """Folder of the model, as the command fit writes it"""
    folder: tyro.conf.Positional[Path]
    """Folder with one sub-folder per class, called as the model's classes"""

    output: Path = Path("evaluation")
    """Folder of the page and its files."""
    force: bool = False
    """Write into the output folder even if it holds files."""
    on_unreadable: Literal["error", "skip"] = "error"
    """What to do with image files that cannot be read; skip leaves them out with a warning."""
    prior: Prior | None = None
    """balanced corrects the probabilities to equally frequent classes."""
    device: Device = "auto"
    """Where to predict: auto is what JAX finds."""
    max_pixels: int = MAX_PIXELS
    """The most pixels that an image file may have; larger ones cannot be read."""


def main(arguments: Sequence[str], *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: the page is written. 2: bad input, or a machine that cannot go on. 130: interrupted.

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
    return run_command(
        partial(evaluate, options),
        "interrupted",
        "; correct this and run the command again",
        leave=leave,
    )


def evaluate(options: Options) -> int:
    """Predicts the images of the folder, writes the page and prints the scores.

    Raises:
        InputError: options, model or folder are not valid.
        OSError: the page cannot be written.
    """
    output = _new_folder(options)
    listing = list_images(
        SourceOptions(options.folder, max_pixels=options.max_pixels, leave_out=(output,))
    )
    model = load_model(options.model, options.device, options.prior)
    classes = [str(name) for name in model.classes_.tolist()]
    labels = labels_of(listing, classes)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with out_of_memory():
        predictions = _predictions(console, model, listing, options)
    found = [
        (row, one.probabilities)
        for row, one in enumerate(predictions)
        if one.probabilities is not None
    ]
    kept = [row for row, _ in found]
    labels = labels[kept]
    if absent := _absent(labels, classes):
        console.print(
            f"no images of class {list_names(absent)}: the means are over the other classes"
        )
    probabilities = np.stack([own for _, own in found])

    from twostage_jax.report.evaluation import write_evaluation  # takes a while, as the model does

    page = write_evaluation(
        output,
        title=f"{Path(os.path.abspath(options.model)).name} on {listing.root_name}",
        model=_facts(options, model),
        class_names=classes,
        labels=labels,
        probabilities=probabilities,
        names=[listing.names[row] for row in kept],
        source=f"folder {listing.root_name}",
    )
    matrix = confusion_matrix(labels, probabilities.argmax(axis=1), len(classes))
    for name, (value, low, high) in bootstrap_scores(matrix).items():
        print(f"{name:5}  {value:.4f}  ({CONFIDENCE:.0%} interval {low:.4f} to {high:.4f})")
    print(readable(str(page)))
    return 0


def labels_of(listing: Listing, classes: Sequence[str]) -> Int32[np.ndarray, " n"]:
    """The model's label of each image.

    Raises:
        InputError: a folder is no class of the model.
    """
    if unknown := [name for name in listing.class_names if name not in classes]:
        raise InputError(
            f"the model has no class {list_names(unknown)}, a folder in {listing.root}; expected "
            f"folders called {list_names(classes)}: rename or move it"
        )
    labels = np.array([classes.index(name) for name in listing.class_names], np.int32)
    return labels[listing.labels]


def _absent(labels: Int32[np.ndarray, " n"], classes: Sequence[str]) -> list[str]:
    counts = np.bincount(labels, minlength=len(classes))
    return [name for name, count in zip(classes, counts, strict=True) if not count]


def _facts(options: Options, model: Model) -> dict[str, object]:
    """What the page says of the model."""
    height, width = file_size(model)
    facts: dict[str, object] = {
        "Model": options.model,
        "Classes": ", ".join(map(str, model.classes_.tolist())),
        "Images": f"{width} x {height} pixels",
    }
    if isinstance(model, BaseEstimator):
        parameters = model.get_params(deep=False)
        if parameters.get("approach"):  # takes the place of the two samplers
            del parameters["image_sampler"], parameters["feature_sampler"]
        facts["Parameters"] = ", ".join(f"{name} {own}" for name, own in parameters.items())
    return facts


def _new_folder(options: Options) -> Path:
    output = user_path(options.output, "--output")
    if output.exists() and not output.is_dir():
        raise InputError(
            f"--output {output} is a file; expected the name of a folder: choose another"
        )
    if output.exists() and any(output.iterdir()) and not options.force:
        raise InputError(
            f"--output {output} holds files; expected a new folder: choose another, or write into "
            "it with --force"
        )
    return output


def _predictions(
    console: Console, model: Model, listing: Listing, options: Options
) -> list[Prediction]:
    """A prediction per image; says which are resized and which are left out."""
    stream = predict_files(model, listing.paths, max_pixels=options.max_pixels)
    predictions = list(show_throughput(console, stream, len(listing.paths)))
    size = file_size(model)
    if resized := sum(one.size not in (None, size) for one in predictions):
        console.print(resized_text(resized, len(predictions), size))
    bad = [row for row, one in enumerate(predictions) if one.probabilities is None]
    if bad:
        found = (
            f"{len(bad)} of {len(predictions)} images cannot be read: "
            f"{list_names([listing.names[row] for row in bad])} (the first: "
            f"{predictions[bad[0]].reason})"
        )
        if options.on_unreadable == "error":
            raise InputError(
                f"{found}; expected intact images: repair or remove them, or leave them out with "
                "--on-unreadable skip"
            )
        console.print(f"left out: {found}")
    return predictions
