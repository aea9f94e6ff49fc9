"""Which approach suits these images: `python -m twostage_jax compare cells/`."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro
from rich.console import Console

from twostage_jax.commands.approach_list import choose_approaches, print_if_asked
from twostage_jax.commands.device import (
    ACCELERATORS,
    fix_numerics,
    keep_programs,
    out_of_memory_as_input_error,
    require_batch,
    require_memory,
)
from twostage_jax.commands.ending import run_command
from twostage_jax.commands.options import (
    Reading,
    Training,
    command_line,
    data_name,
    default_training,
    find_data,
    named_device,
    parse,
    read,
    read_data,
)
from twostage_jax.commands.quiet import silence_orbax
from twostage_jax.commands.saved_model import Device
from twostage_jax.commands.studies import AGAIN, INTERRUPTED, plan_work, run_study
from twostage_jax.commands.where import (
    EngineOptions,
    require_folder,
    require_shared,
    start_engine,
    start_platform,
)
from twostage_jax.data.folds import Splitting, most_splits
from twostage_jax.data.groups import parse_groups, read_groups
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import ORIGINAL
from twostage_jax.evaluation.recommendation import recommendation_lines
from twostage_jax.models.backbones import load_weights
from twostage_jax.study.approaches import PAPER
from twostage_jax.study.jobs import Scope
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import user_cache, user_path
from twostage_jax.training.bounds import option_name

PROGRAM = "python -m twostage_jax compare"
SPLITS = 5
APPROACHES = (*PAPER, "post_prior")
_CHECKPOINTS = Path("checkpoints")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Training, EngineOptions, Reading):
    """Compares approaches on the classes as they are, by cross-validation.

    It makes a page and recommends one. The same command again resumes where it stopped.

    Example: python -m twostage_jax compare cells/ --groups 'patient(\\d+)'
    """

    data: tyro.conf.Positional[str]
    """Folder of class folders, .npz, tfds:NAME or digits"""
    approaches: tuple[str, ...] = APPROACHES
    """Names, families (image, loss, head, ...), paper or all; by default the paper's nine and
    post_prior."""
    list_approaches: bool = False
    """Print all approaches with their sources and costs, and stop; needs no DATA."""
    splits: int | None = None
    """Parts to test in turn; by default 5, or as many as the smallest class allows."""
    groups: str | None = None
    """Keeps groups, such as patients, together: a regular expression on names, or a CSV file."""
    output: Path | None = None
    """Folder of records, tables and page; by default results/compare-DATA."""
    checkpoints: Path = _CHECKPOINTS
    """Folder of the checkpoints of training in flight."""
    members: int | None = None
    """Networks at a time; by default what suits the devices."""
    device: Device = "auto"
    """Where to train, here or on the cluster."""


def default_output(data: str) -> Path:
    """The folder of a comparison on DATA."""
    return Path("results") / f"compare-{data_name(data)}"


def main(arguments: Sequence[str], *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a record is failed or missing. 2: bad input, or a machine that cannot go on.
    130: interrupted.

    Args:
        arguments: those after the command's name.
        leave: as for `run_command`.
    """
    silence_orbax()
    return run_command(partial(compare, list(arguments)), INTERRUPTED, AGAIN, leave=leave)


def compare(arguments: Sequence[str]) -> int:
    """Reads the options and the images, runs the study, and prints the recommendation."""
    if print_if_asked(arguments):
        return 0
    fix_numerics()
    device = require_known("device", named_device(arguments), ACCELERATORS)
    read_early = partial(read, Options, PROGRAM, arguments, default_training("cpu"))
    platform, cluster = start_platform(arguments, device, "--device", read_early)
    options: Options = parse(Options, PROGRAM, arguments, default_training(platform))
    options = _with_paths(options)
    named = options.checkpoints != _CHECKPOINTS
    shared = require_shared(cluster, options.checkpoints, named=named)
    programs = user_cache() / "compiled"
    keep_programs(programs)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with out_of_memory_as_input_error(f"lower --members{AGAIN}"):
        if cluster is None:
            require_memory(options.protocol, options.image_size, option_name)
        study = make_study(console, options)
        parts = (study, platform, cluster, programs, console.print)
        with start_engine(options, *parts, shared=shared) as engine:
            work = plan_work(console, study, engine, options.members)
            command, fit = command_line(PROGRAM, arguments), fit_command(options)
            absent, made = run_study(console, study, engine, work, command, fit=fit)
    for line in recommendation_lines(made.metrics, made.approaches, fit):
        console.print(line)
    return 1 if absent else 0


def fit_command(options: Options) -> str:
    """The command that fits an approach on all images, with `{approach}` in place of its name."""
    reading, usual = options.reading, Reading().reading
    arguments = [options.data, "--output", f"{data_name(options.data)}.model"]
    arguments += ["--approach", "APPROACH", *options.to_arguments()]
    for name, own in reading.items():
        if own != usual[name]:
            arguments += [option_name(name), str(own)]
    line = command_line("python -m twostage_jax fit", arguments)
    return line.replace("--approach APPROACH", "--approach {approach}", 1)


def _with_paths(options: Options) -> Options:
    output = options.output or default_output(options.data)
    checkpoints = user_path(options.checkpoints, "--checkpoints")
    if options.members is not None and options.members < 1:
        raise InputError(f"--members {options.members} found, 1 or more expected")
    require_folder(checkpoints, "--checkpoints")
    options.require_valid()
    choose_approaches(options.approaches)
    if options.groups is not None:
        parse_groups(options.groups)
    return dataclasses.replace(
        options, output=user_path(output, "--output"), checkpoints=checkpoints
    )


def make_study(console: Console, options: Options) -> Study:
    """Reads images and weights and makes the study; nothing is trained yet.

    Raises:
        InputError: they cannot be had, the classes are balanced or too small, or the options ask
            for more than data and device can hold.
    """
    protocol = options.protocol
    assert options.output is not None, "see `_with_paths`"
    own_folders = (options.output, options.checkpoints)
    image_set = read_data(options.data, options.image_size, options, own_folders)
    require_batch(protocol, len(image_set), option_name)
    counts = image_set.class_counts
    least, most = int(counts.min()), int(counts.max())
    if most - least <= 1:
        sizes = f"{least} or {most}" if most > least else least
        raise InputError(
            f"every class has {sizes} images: nothing is imbalanced, and resampling would "
            "change nothing; expected classes of different sizes: fit the baseline, or try the "
            "methods on a part with experiments.reproduce --ratios"
        )
    splitting = _split(console, options, image_set)
    approaches = choose_approaches(options.approaches)
    return Study(
        image_set,
        find_data(options.data)[0],
        protocol,
        load_weights(protocol.network, options.weights, protocol.width, user_cache() / "weights"),
        Scope((ORIGINAL,), (1.0,), splitting.splits, approaches),
        output=options.output,
        checkpoints=options.checkpoints / "training",
        splitting=splitting,
    )


def _split(console: Console, options: Options, image_set: ImageSet) -> Splitting:
    groups = None if options.groups is None else read_groups(options.groups, image_set)
    if groups is not None:
        console.print(f"groups: {len(set(groups))}, each in one split")
    splits = options.splits
    if splits is None:
        splits = most_splits(image_set, groups, seed=options.seed, wanted=SPLITS)
        if splits < SPLITS:
            console.print(
                f"{splits} splits instead of {SPLITS}: the smallest class or its groups allow no "
                "more"
            )
    return Splitting(splits, groups)
