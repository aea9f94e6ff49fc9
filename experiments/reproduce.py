"""The paper's experiment, whole or in part: `python -m experiments.reproduce --help`.

`--preset demo` takes about two minutes on two CPU cores and needs no files and no network;
`--preset paper --accelerator gpu` (or tpu) is the whole study.
"""

import logging
import resource
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial

import jax
from rich.console import Console

from experiments.options import PROGRAM, Options, chosen, parse
from experiments.progress import run_and_show
from experiments.report import LiveReport
from twostage_jax import paper, sources, tables
from twostage_jax.errors import InputError
from twostage_jax.record import read_records
from twostage_jax.study import Study
from twostage_jax.weights import load_weights


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a network did not train; the others did. 2: bad input, or a machine that
    cannot go on. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Orbax logs the traceback of an error before it raises it, and we say it in a line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    again = "finished records are kept: mend this and start the same command again to go on"
    try:
        preset, accelerator = chosen(arguments)
        if {"-h", "--help"} & set(arguments):
            parse(arguments, preset or "demo")
        use_accelerator(accelerator)
        default = "demo" if jax.default_backend() == "cpu" else "paper"
        options = parse(arguments, preset or default)
        announce(console, options, named=preset is not None)
        return reproduce(console, options, shlex.join([*PROGRAM.split(), *arguments]))
    except InputError as error:
        return _refuse(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _refuse(f"{where}{error.strerror or error}; {again}")
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _refuse(f"the device has too little memory: lower --members; {again}")
    except KeyboardInterrupt:
        print("\ninterrupted; start the same command again to go on", file=sys.stderr)
        return 130


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def use_accelerator(accelerator: str) -> None:
    """Makes JAX use the accelerator.

    Raises:
        InputError: JAX does not find it.
    """
    if accelerator == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        found = jax.devices()
    except RuntimeError as error:
        raise InputError(f"JAX cannot start: {error}") from error
    if accelerator not in ("auto", found[0].platform):
        names = ", ".join(sorted({f"{d.platform} ({d.device_kind})" for d in found}))
        extra = "jax[cuda12]" if accelerator == "gpu" else "jax[tpu]"
        raise InputError(
            f"--accelerator {accelerator} asked for, JAX found only {names}; install {extra} on a "
            f"machine that has one, or choose --accelerator {found[0].platform}"
        )


def announce(console: Console, options: Options, named: bool) -> None:
    """Says which preset runs on what, and how to get another."""
    device = jax.devices()[0]
    others = jax.device_count() - 1
    where = f"{device.platform} ({device.device_kind}{f', {others} more unused' * (others > 0)})"
    other = "paper" if options.preset == "demo" else "demo"
    meaning = {"paper": "the paper's whole study", "demo": "a demonstration in minutes"}[other]
    reason = "" if named else ", the default there"
    console.print(f"preset {options.preset} on {where}{reason}; for {meaning}: --preset {other}")


def reproduce(console: Console, options: Options, command: str) -> int:
    """Runs the study that the options describe, up to its tables and its report."""
    image_set = sources.load(
        options.dataset,
        data_dir=options.data_dir,
        image_size=options.image_size,
        seed=options.protocol.seed,
        images_per_class=options.images_per_class,
    )
    console.print(f"images: {image_set!r}")
    cache = options.checkpoints / "weights"
    study = Study(
        image_set,
        options.dataset,
        options.protocol,
        load_weights(options.weights, options.protocol.width, cache),
        options.scope,
        output=options.results,
        checkpoints=options.checkpoints / "training",
        members=options.members or (1 if jax.default_backend() == "cpu" else 10),
    )
    study.check_folder()
    pending = study.pending()
    networks, waiting = sum(map(len, study.groups)), sum(map(len, pending))
    console.print(
        f"study: {networks} networks, {len(study.record_keys)} records, "
        f"{study.image_passes(study.groups):,} image passes; to do: {waiting} networks, "
        f"{study.image_passes(pending):,} image passes"
    )
    if again := [group for group in pending if all(map(study.is_recorded, group))]:
        console.print(
            f"{len(again)} finished group is trained again, for the report's map of features; its "
            "records stay as they are"
        )
    if options.dry_run:
        console.print(f"device memory: {study.device_memory() / 2**30:.2f} GiB")
        return 0
    study.open(command)
    started = time.perf_counter()
    report = LiveReport(study.output, partial(console.print, style="bold red"))
    run_and_show(console, study, pending, report.update)
    # All that the folder holds, so that parts of a study add up.
    records = read_records(study.records)
    written = tables.write_tables(
        study.output,
        records,
        expected=study.record_keys,
        why_absent=paper.why_not_comparable(
            study.settings, image_set.class_counts.tolist(), records, options.test_fold
        ),
        test=options.test_fold,
    )
    # Rich would cut columns off where it finds no terminal and takes 80 for its width.
    Console(highlight=False, width=max(console.width, 120)).print(tables.screen(written))
    page = report.draw()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    console.print(
        f"{time.perf_counter() - started:.0f} s; peak memory of the process "
        f"{peak / 1e9:.2f} GB; results in {study.output}"
        + (f", the report to look at: {page}" if page else "")
    )
    scope = set(study.record_keys)
    failed = sum(record.status == "failed" for record in records if record.key in scope)
    if failed:
        console.print(f"{failed} records are failed ones, see tables.md there", style="bold red")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
