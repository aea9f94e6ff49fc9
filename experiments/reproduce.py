"""The paper's experiment, whole or in part: `python -m experiments.reproduce --help`.

`--preset demo` takes about two minutes on two CPU cores and needs no files and no network;
`--preset paper --accelerator gpu` (or tpu) is the whole study.
"""

import logging
import platform
import resource
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import jax
from rich.console import Console

from experiments.command import run_command
from experiments.options import PROGRAM, Options, chosen, parse
from experiments.progress import run_and_show
from experiments.report import LiveReport
from twostage_jax.data import sources
from twostage_jax.evaluation import paper, tables
from twostage_jax.models.backbones import load_weights
from twostage_jax.study.hosts import Team
from twostage_jax.study.record import read_records
from twostage_jax.study.rendezvous import Hosts, join
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError

_INTERRUPTED = "interrupted; start the same command again to go on"
_AGAIN = "; finished records are kept: mend this and start the same command again to go on"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: a network did not train, or another process was lost; the others did. 2: bad
    input, or a machine that cannot go on. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Orbax logs the traceback of an error before it raises it, and we say it in a line.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    return run_command(lambda: meet(arguments), _INTERRUPTED, _AGAIN)


def meet(arguments: Sequence[str]) -> int:
    """Meets the other hosts, if there are any, and does this one's part."""
    preset, accelerator = chosen(arguments)
    # Bad options are said before others are waited for; which preset is meant hardly matters.
    early = parse(arguments, preset or "demo")
    alone = early.dry_run
    hosts = Hosts() if alone else join(early.coordinator, early.num_processes, early.process_id)

    def work() -> int:
        use_accelerator(accelerator)
        default = "demo" if jax.default_backend() == "cpu" else "paper"
        options = parse(arguments, preset or default)
        keep_programs(options.checkpoints / "compiled")
        console = Console(highlight=False, markup=False, soft_wrap=True)
        announce(console, options, hosts, named=preset is not None)
        command = shlex.join([*PROGRAM.split(), *arguments])
        with Team(hosts, options.results) as team, small_memory_said():
            return reproduce(console, options, command, team)

    return run_command(work, _INTERRUPTED, _AGAIN, f"{hosts}: " if hosts.count > 1 else "")


@contextmanager
def small_memory_said() -> Iterator[None]:
    """Turns a device that runs out of memory into an InputError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise InputError(f"the device has too little memory: lower --members{_AGAIN}") from error


def use_accelerator(accelerator: str) -> None:
    """Makes JAX use the accelerator.

    Raises:
        InputError: JAX does not find it.
    """
    if accelerator == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        found = jax.local_devices()
    except RuntimeError as error:
        raise InputError(f"JAX cannot start: {error}") from error
    if accelerator not in ("auto", found[0].platform):
        names = ", ".join(sorted({f"{d.platform} ({d.device_kind})" for d in found}))
        extra = "jax[cuda12]" if accelerator == "gpu" else "jax[tpu]"
        raise InputError(
            f"--accelerator {accelerator} asked for, JAX found only {names}; install {extra} on a "
            f"machine that has one, or choose --accelerator {found[0].platform}"
        )


def keep_programs(folder: Path) -> None:
    """Keeps compiled programs for the next start, unless JAX was told where to keep them.

    One folder a machine: a CPU's programs suit its own model, and machines may share the rest.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.resolve() / platform.node()))


def announce(console: Console, options: Options, hosts: Hosts, named: bool) -> None:
    """Says which preset runs on what, and how to get another."""
    devices = jax.local_devices()
    number = f"{len(devices)} of " if len(devices) > 1 else ""
    where = f"{number}{devices[0].platform} ({devices[0].device_kind})"
    if hosts.count > 1:
        where = f"{where}, {hosts}"
    other = "paper" if options.preset == "demo" else "demo"
    meaning = {"paper": "the paper's whole study", "demo": "a demonstration in minutes"}[other]
    reason = "" if named else ", the default there"
    console.print(f"preset {options.preset} on {where}{reason}; for {meaning}: --preset {other}")


def reproduce(console: Console, options: Options, command: str, team: Team) -> int:
    """Runs the study that the options describe, up to its tables and its report.

    Processes other than the first one train their share of it, and that is all.
    """
    image_set = sources.load(
        options.dataset,
        data_dir=options.data_dir,
        image_size=options.image_size,
        seed=options.protocol.seed,
        images_per_class=options.images_per_class,
    )
    cache = options.checkpoints / "weights"
    study = Study(
        image_set,
        options.dataset,
        options.protocol,
        load_weights("mobilenet_v1", options.weights, options.protocol.width, cache),
        options.scope,
        output=options.results,
        checkpoints=options.checkpoints / "training",
        members=None if options.members == "auto" else options.members,
    )
    if team.hosts.index:
        groups, prefix = team.receive(study), f"{team.hosts}: "
        failed = run_and_show(console, study, groups, team.recorded, prefix)
        return 1 if failed else 0
    console.print(f"images: {image_set!r}")
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
    run_and_show(console, study, team.assign(study, pending), lambda _: report.update())
    if left := team.missing():
        console.print(f"own share done; waiting for {left} networks of other processes")
    lost = team.wait(study, report.update)
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
    if lost:
        console.print(
            f"{'; '.join(lost)}; the same command, on any number of hosts, finishes them",
            style="bold red",
        )
    return 1 if failed or lost else 0


if __name__ == "__main__":
    sys.exit(main())
