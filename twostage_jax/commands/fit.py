"""One model of all images: `python -m twostage_jax fit cells/ --output cells.model`."""

import dataclasses
import shlex
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from twostage_jax.classifier import TwoStageClassifier
from twostage_jax.classifier.storage import require_free
from twostage_jax.commands.compare import default_output
from twostage_jax.commands.device import (
    keep_programs,
    out_of_memory_as_input_error,
    require_memory,
)
from twostage_jax.commands.ending import run_command
from twostage_jax.commands.options import (
    Reading,
    Training,
    parse,
    read_data,
    start_device,
)
from twostage_jax.commands.saved_model import Device
from twostage_jax.evaluation.recommendation import fit_command, recommend
from twostage_jax.report.results import read_results
from twostage_jax.study.approaches import find
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_cache, user_path
from twostage_jax.training.bounds import option_name

PROGRAM = "python -m twostage_jax fit"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Training, Reading):
    """Trains one approach on all images and saves the model.

    Without --approach, it is the one that compare recommends, with the options of compare.

    Example: python -m twostage_jax fit cells/ --output cells.model --approach ts_smote_rus
    """

    data: tyro.conf.Positional[str]
    """Folder of class folders, .npz, tfds:NAME or digits"""
    output: Path
    """Folder of the model, which is made."""
    approach: str | None = None
    """The approach, such as baseline, ts_smote_rus or fs_enn+prior; compare --list-approaches lists
    them."""
    compared: Path | None = None
    """Folder that compare wrote; by default results/compare-DATA."""
    force: bool = False
    """Replace a model that is there."""
    device: Device = "auto"
    """Where to train."""


def main(arguments: Sequence[str], *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: the model is written. 2: bad input, or a machine that cannot go on. 130: interrupted.

    Args:
        arguments: those after the command's name.
        leave: as for `run_command`.
    """
    work = partial(fit, list(arguments))
    return run_command(work, "interrupted; no model is written", leave=leave)


def fit(arguments: Sequence[str]) -> int:
    """Reads the options and the images, and fits and saves the model."""
    default = start_device(arguments)
    keep_programs(user_cache() / "compiled")
    options: Options = parse(Options, PROGRAM, arguments, default)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if options.approach is None:
        chosen = _arguments_of_comparison(options)
        options = parse(Options, PROGRAM, [*chosen, *arguments], default)
        console.print(f"approach {options.approach}, as compare recommends")
    assert options.approach is not None, "the command of the comparison names one"
    approach = find(options.approach)
    output = user_path(options.output, "--output")
    require_free(output, options.force)  # before the work
    require_memory(options.protocol, options.image_size, option_name)
    image_set = read_data(options.data, options.image_size, options, (output,))
    console.print(f"images: {image_set!r}")
    model = TwoStageClassifier(
        approach=approach.name,
        device=None if options.device == "auto" else options.device,
        verbose=True,
        **options.parameters,
    )
    started = time.perf_counter()
    with out_of_memory_as_input_error("lower --batch-size or --image-size"):
        model.fit(image_set)
    model.set_params(verbose=False, device=None)  # of this command, and not of the model
    model.save(output, force=options.force)
    console.print(
        f"{approach.title} on {len(image_set)} images of {image_set.num_classes} classes, "
        f"{time.perf_counter() - started:.0f} s: the model is in {output}; to use it:\n"
        f"  python -m twostage_jax predict {shlex.quote(str(output))} new/ --output predictions.csv"
    )
    return 0


def _arguments_of_comparison(options: Options) -> list[str]:
    """The options of the command that a comparison recommends, without DATA.

    Raises:
        InputError: there is no comparison, it recommends nothing, or it is not complete.
    """
    folder = options.compared or default_output(options.data)
    folder = user_path(folder, "--compared")
    advice = f"run python -m twostage_jax compare {shlex.quote(options.data)} first, or name an "
    advice += "approach with --approach"
    if not (folder / "study.json").exists():
        raise InputError(f"no comparison found in {folder}; {advice}")
    results = read_results(folder)
    if not results.complete or not results.description.fit:
        raise InputError(f"the comparison in {folder} is not complete; {advice}")
    found = recommend(results.scores, results.approaches)
    if found is None:
        raise InputError(f"the comparison in {folder} recommends nothing; {advice}")
    # They come after `python -m twostage_jax fit DATA`. The comparison may have been started in
    # another folder, where DATA had another path.
    return shlex.split(fit_command(results.description.fit, found.recommended))[5:]
