"""The paper's experiment, whole or in part: `python -m experiments.reproduce --help`.

`--preset demo` takes about two minutes on two CPU cores and needs no files and no network;
`--preset paper --accelerator gpu` (or tpu) is the whole study.
"""

import logging
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial

import jax
from rich.console import Console

from experiments.options import PROGRAM, Options, chosen, parse
from twostage_jax.commands.device import (
    fix_numerics,
    keep_programs,
    out_of_memory_as_input_error,
    use_accelerator,
)
from twostage_jax.commands.ending import peak_memory, run_command
from twostage_jax.commands.live_report import LiveReport
from twostage_jax.commands.progress import run_and_show
from twostage_jax.data import sources
from twostage_jax.data.folds import Splitting
from twostage_jax.data.groups import read_groups
from twostage_jax.evaluation import paper, tables
from twostage_jax.models.backbones import load_weights
from twostage_jax.study.folder import read_records
from twostage_jax.study.jobs import image_passes, pending, record_keys
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError

_INTERRUPTED = "interrupted; the same command resumes the study"
_AGAIN = "; finished records are kept: mend this, then the same command resumes the study"


def main(arguments: Sequence[str] | None = None, *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a record in scope is failed or missing. 2: bad input, or a machine that
    cannot go on. 130: interrupted.

    Args:
        arguments: by default those of this process.
        leave: as for `run_command`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Orbax logs the traceback of an error before it raises it; one line is printed here.
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return run_command(partial(start, arguments), _INTERRUPTED, _AGAIN, leave=leave)


def start(arguments: Sequence[str]) -> int:
    """Reads the options, chooses the device and runs the study."""
    preset, accelerator = chosen(arguments)
    fix_numerics()
    use_accelerator(accelerator)
    default = "demo" if jax.default_backend() == "cpu" else "paper"
    options = parse(arguments, preset or default)
    keep_programs(options.checkpoints / "compiled")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    announce(console, options, named=preset is not None)
    with out_of_memory_as_input_error(f"lower --members{_AGAIN}"):
        return reproduce(console, options, shlex.join([*PROGRAM.split(), *arguments]))


def announce(console: Console, options: Options, named: bool) -> None:
    """Prints which preset runs on what, and how to get another."""
    devices = jax.local_devices()
    number = f"{len(devices)} of " if len(devices) > 1 else ""
    where = f"{number}{devices[0].platform} ({devices[0].device_kind})"
    other = "paper" if options.preset == "demo" else "demo"
    meaning = {"paper": "the paper's whole study", "demo": "a demonstration in minutes"}[other]
    reason = "" if named else ", the default there"
    console.print(f"preset {options.preset} on {where}{reason}; for {meaning}: --preset {other}")


def reproduce(console: Console, options: Options, command: str) -> int:
    """Runs the study that the options describe, up to its tables and its report."""
    study = make_study(options)
    members = options.members
    groups = study.groups(study.trainer.members_that_fit() if members == "auto" else members)
    console.print(f"images: {study.image_set!r}")
    study.check_folder()
    waiting = pending(groups, study.folder)
    console.print(
        f"study: {len(study.networks)} networks, {len(record_keys(study.networks))} records, "
        f"{image_passes(groups, study.protocol.epochs):,} image passes; to do: "
        f"{sum(map(len, waiting))} networks, "
        f"{image_passes(waiting, study.protocol.epochs):,} image passes"
    )
    if options.dry_run:
        memory = study.trainer.device_memory(max(map(len, groups)))
        known = "not known here" if memory is None else f"{memory / 2**30:.2f} GiB"
        console.print(f"device memory: {known}")
        return 0
    study.remove_litter([group for group in groups if group not in waiting])
    study.open(command)
    started = time.perf_counter()
    report = LiveReport(study.folder.path, partial(console.print, style="bold red"))
    run_and_show(console, study, waiting, lambda _: report.update())
    return 1 if finish(console, study, options, report, started) else 0


# At least as many bytes as a training step takes per pixel of its batch, at width 1. XLA plans
# about 2,000 for MobileNet on 32 pixels.
_BYTES_PER_PIXEL = 600


def require_memory(options: Options) -> None:
    """Checks that a batch of one network can fit into the device, before anything is read.

    It is a lower bound: what passes may still be too much.

    Raises:
        InputError: it cannot.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    there = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    batch, side, width = options.protocol.batch_size, options.image_size, options.protocol.width
    needed = batch * side**2 * width * _BYTES_PER_PIXEL
    if needed > there:
        raise InputError(
            f"--batch-size {batch}, --image-size {side} and --width {width:g} need at least "
            f"{needed / 1e9:,.0f} GB, the device has {there / 1e9:,.0f} GB; lower one of them"
        )


def make_study(options: Options) -> Study:
    """Reads images and weights and makes the study; nothing is trained yet.

    Raises:
        InputError: images or weights cannot be had, or the options ask for more than data and
            device can hold.
    """
    require_memory(options)
    image_set = sources.find_source(options.dataset)(options.source)
    groups = None if options.groups is None else read_groups(options.groups, image_set)
    protocol, cache = options.protocol, options.checkpoints / "weights"
    # The default is for small sets, too; a larger batch would be padding for the most part.
    if protocol.batch_size > (most := max(256, len(image_set))):
        raise InputError(
            f"--batch-size {protocol.batch_size} found, at most {most} expected for "
            f"{len(image_set)} images; lower it"
        )
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


def finish(
    console: Console, study: Study, options: Options, report: LiveReport, started: float
) -> int:
    """Writes and prints tables and report; returns how many records are failed or missing."""
    # The tables hold all records of the folder: parts of a study add up.
    records = read_records(study.folder.records) if study.folder.records.exists() else []
    description = study.check_folder()
    made = tables.make_tables(
        records,
        expected=record_keys(study.networks),
        why_absent=paper.why_not_comparable(
            description.settings, description.class_counts, records, options.test_fold
        ),
        recipes=description.recipes,
        test=options.test_fold,
    )
    tables.write_tables(study.folder.path, made)
    # Rich would cut off columns where it finds no terminal and assumes a width of 80.
    Console(highlight=False, width=max(console.width, 120)).print(tables.screen(made))
    page = report.draw()
    console.print(
        f"{time.perf_counter() - started:.0f} s; peak memory of the process "
        f"{peak_memory() / 1e9:.2f} GB; results in {study.folder.path}"
        + (f", the report to look at: {page}" if page else "")
    )
    scope = set(record_keys(study.networks))
    failed = sum(record.status == "failed" for record in records if record.key in scope)
    if failed:
        console.print(f"{failed} records failed, see tables.md there", style="bold red")
    # Somebody may remove files while the study runs, and after they were read.
    missing = sum(not study.folder.record(key).exists() for key in scope)
    if missing:
        console.print(
            f"{missing} of {len(scope)} records are missing in {study.folder.path}; the same "
            "command makes them again",
            style="bold red",
        )
    return failed + missing


if __name__ == "__main__":
    sys.exit(main(leave=True))
