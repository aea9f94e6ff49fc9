"""The paper's experiment, whole or in part: `python -m experiments.reproduce --help`.

`--preset demo` takes about two minutes on two CPU cores and needs no files and no network;
`--preset paper --accelerator gpu` (or tpu) is the whole study.
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial

import jax
from rich.console import Console

from experiments.forecast.dry_run import require_compiler, stage1_line
from experiments.options import CHECKPOINTS, PROGRAM, Options, chosen, parse, read
from twostage_jax.cluster.attachment import Cluster
from twostage_jax.commands.approach_list import print_if_asked
from twostage_jax.commands.device import (
    fix_numerics,
    keep_programs,
    out_of_memory_as_input_error,
    require_batch,
    require_memory,
)
from twostage_jax.commands.ending import run_command
from twostage_jax.commands.quiet import silence_orbax
from twostage_jax.commands.studies import AGAIN, INTERRUPTED, plan_work, run_study
from twostage_jax.commands.where import require_shared, start_engine, start_platform
from twostage_jax.data import sources
from twostage_jax.data.folds import Splitting
from twostage_jax.data.groups import read_groups
from twostage_jax.models.backbones import load_weights
from twostage_jax.study.engine import Engine
from twostage_jax.study.study import Study
from twostage_jax.training.bounds import option_name


def main(arguments: Sequence[str] | None = None, *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a record in scope is failed or missing. 2: bad input, or a machine that
    cannot go on. 130: interrupted.

    Args:
        arguments: by default those of this process.
        leave: as for `run_command`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    silence_orbax()
    return run_command(partial(start, arguments), INTERRUPTED, AGAIN, leave=leave)


def start(arguments: Sequence[str]) -> int:
    """Reads the options, chooses the device and runs the study."""
    if print_if_asked(arguments):
        return 0
    preset, accelerator = chosen(arguments)
    fix_numerics()
    platform, cluster = start_platform(
        arguments, accelerator, "--accelerator", lambda: read(arguments, preset or "demo").where
    )
    options = parse(arguments, preset or ("demo" if platform == "cpu" else "paper"))
    if options.target is not None:
        require_compiler(options.target)
    named = options.checkpoints != CHECKPOINTS
    # A dry run makes no folders.
    shared = options.dry_run or require_shared(cluster, options.checkpoints, named=named)
    programs = options.checkpoints / "compiled"
    keep_programs(programs)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    announce(console, options, cluster, named=preset is not None)
    with out_of_memory_as_input_error(f"lower --members{AGAIN}"):
        if cluster is None:
            require_memory(options.protocol, options.image_size, option_name)
        study = make_study(options)
        parts = (study, platform, cluster, programs, console.print)
        with start_engine(options.where, *parts, shared=shared) as engine:
            command = shlex.join([*PROGRAM.split(), *arguments])
            return reproduce(console, options, study, engine, command)


def announce(console: Console, options: Options, cluster: Cluster | None, named: bool) -> None:
    """Prints which preset runs on what, and how to get another."""
    devices = jax.local_devices()
    number = f"{len(devices)} of " if len(devices) > 1 else ""
    where = f"{number}{devices[0].platform} ({devices[0].device_kind})"
    if cluster is not None:
        where = f"a Ray cluster of {cluster}"
    other = "paper" if options.preset == "demo" else "demo"
    meaning = {"paper": "the paper's whole study", "demo": "a demonstration in minutes"}[other]
    reason = "" if named else ", the default there"
    console.print(f"preset {options.preset} on {where}{reason}; for {meaning}: --preset {other}")


def reproduce(
    console: Console, options: Options, study: Study, engine: Engine, command: str
) -> int:
    """Runs the study that the options describe, up to its tables and its report."""
    members = None if options.members == "auto" else options.members
    work = plan_work(console, study, engine, members)
    if options.dry_run:
        memory = engine.device_memory(max(map(len, work.groups)))
        known = "not known here" if memory is None else f"{memory / 2**30:.2f} GiB"
        console.print(f"device memory: {known}")
        if options.target is not None:
            console.print(stage1_line(study, options.target, members))
        return 0
    absent, _ = run_study(console, study, engine, work, command, test_fold=options.test_fold)
    return 1 if absent else 0


def make_study(options: Options) -> Study:
    """Reads images and weights and makes the study; nothing is trained yet.

    Raises:
        InputError: images or weights cannot be had, or the options ask for more than data and
            device can hold.
    """
    image_set = sources.find_source(options.dataset)(options.source)
    groups = None if options.groups is None else read_groups(options.groups, image_set)
    protocol, cache = options.protocol, options.checkpoints / "weights"
    require_batch(protocol, len(image_set), option_name)
    return Study(
        image_set,
        options.dataset,
        protocol,
        load_weights(protocol.network, options.weights, protocol.width, cache),
        options.scope,
        output=options.results,
        checkpoints=options.checkpoints / "training",
        splitting=Splitting(groups=groups),
    )


if __name__ == "__main__":
    sys.exit(main(leave=True))
