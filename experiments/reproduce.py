"""The paper's experiment, whole or in part: `python -m experiments.reproduce --help`.

`--preset demo` takes about two minutes on two CPU cores and needs no files and no network;
`--preset paper --accelerator gpu` (or tpu) is the whole study.
"""

import dataclasses
import resource
import shlex
import sys
import time
from collections.abc import Sequence

import jax
from rich.console import Console

from experiments.options import Options, chosen, parse
from experiments.progress import show
from twostage_jax import sources, tables
from twostage_jax.errors import InputError
from twostage_jax.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.protocol import Protocol
from twostage_jax.record import read_records
from twostage_jax.study import Study
from twostage_jax.weights import load_weights

PROGRAM = "python -m experiments.reproduce"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a network did not train; the others did. 2: bad input. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    console = Console(highlight=False, soft_wrap=True)
    try:
        preset, accelerator = chosen(arguments)
        if not {"-h", "--help"} & set(arguments):
            use_accelerator(accelerator)
        default = "demo" if jax.default_backend() == "cpu" else "paper"
        options = parse(arguments, preset or default)
        announce(console, options, named=preset is not None)
        return reproduce(console, options, shlex.join([*PROGRAM.split(), *arguments]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"error: {where}{error.strerror or error}; finished records are kept: mend this and "
            "start the same command again to go on",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; start the same command again to go on", file=sys.stderr)
        return 130


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
    where = f"{jax.device_count()} x {device.platform} ({device.device_kind})"
    other = "paper" if options.preset == "demo" else "demo"
    meaning = {"paper": "the paper's whole study", "demo": "a demonstration in minutes"}[other]
    reason = "" if named else ", the default there"
    console.print(
        f"preset [bold]{options.preset}[/bold] on {where}{reason}; for {meaning}: --preset {other}"
    )


def reproduce(console: Console, options: Options, command: str) -> int:
    """Runs the study that the options describe, up to its tables."""
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
    pending = study.pending()
    describe(console, study, pending)
    if options.dry_run:
        size = study.device_memory()
        console.print(f"device memory: {size / 2**30:.2f} GiB, {study.members} networks at a time")
        return 0
    study.open(command)
    started = time.perf_counter()
    show(console, study.run(), study, pending)
    written = tables.write_tables(
        study.output,
        [record for record in read_records(study.records) if record.key in study.record_keys],
        expected=study.record_keys,
        why_absent=why_not_comparable(study, options.test_fold),
        test=options.test_fold,
    )
    console.print(tables.screen(written))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    console.print(
        f"{time.perf_counter() - started:.0f} s; peak memory of the process "
        f"{peak / 1e9:.2f} GB; results in {study.output}"
    )
    failed = len(study.failed())
    if failed:
        console.print(f"[bold red]{failed} records are failed ones[/]; see tables.md there")
    return 1 if failed else 0


def describe(console: Console, study: Study, pending: list) -> None:
    """Says how much there is to do."""
    networks = sum(map(len, study.groups))
    waiting = sum(map(len, pending))
    console.print(
        f"study: {networks} networks, {len(study.record_keys)} records, "
        f"{study.image_passes(study.groups):,} image passes; to do: {waiting} networks, "
        f"{study.image_passes(pending):,} image passes"
    )


def why_not_comparable(study: Study, test_fold: str) -> str | None:
    """Why the paper's numbers do not belong beside a study's, or None if they do."""
    paper = dataclasses.asdict(Protocol())
    own = dataclasses.asdict(study.protocol)
    different = [name for name in paper if name != "seed" and paper[name] != own[name]]
    settings, scope = study.settings, study.scope
    checks = {
        "the data set": settings["dataset"] == "colorectal_histology"
        and study.image_set.class_counts.tolist() == [625] * 8,
        "the image size": settings["image_size"] == [150, 150],
        "the initial weights": settings["weights"] != "random",
        "the number of folds": scope.folds == FOLDS,
        "the scenarios": set(SCENARIOS) == set(scope.scenarios),
        "the ratios": set(RATIOS[1:]) <= set(scope.ratios),
        "the test folds' balance": test_fold == "imbalanced",
        **dict.fromkeys(different, False),
    }
    wrong = [name for name, same in checks.items() if not same]
    return f"this study differs from the paper's in {', '.join(wrong)}" if wrong else None


if __name__ == "__main__":
    sys.exit(main())
