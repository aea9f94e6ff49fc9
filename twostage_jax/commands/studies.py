"""What the commands that run a study do: count, train, and write tables and report."""

import time
from functools import partial
from typing import NamedTuple

from rich.console import Console

from twostage_jax.commands.ending import peak_memory
from twostage_jax.commands.live_report import LiveReport
from twostage_jax.commands.progress import run_and_show
from twostage_jax.evaluation import paper, tables
from twostage_jax.study.engine import Engine
from twostage_jax.study.folder import read_records
from twostage_jax.study.jobs import Group, image_passes, record_keys
from twostage_jax.study.study import Study

INTERRUPTED = "interrupted; the same command resumes the study"
AGAIN = "; finished records are kept: mend this, then the same command resumes the study"


class Work(NamedTuple):
    """The groups of a study.

    Attributes:
        groups: all of them.
        waiting: those that have a record to make.
    """

    groups: list[Group]
    waiting: list[Group]


def plan_work(console: Console, study: Study, engine: Engine, members: int | None) -> Work:
    """Prints what there is to do, and writes nothing.

    Args:
        console: to write on.
        study: to run.
        engine: that is to train.
        members: networks trained at a time; None for as many as suit the engine, or let what is in
            flight go on.

    Raises:
        InputError: the study's folder holds another one, or nothing is in scope.
    """
    console.print(f"images: {study.image_set!r}")
    study.check_folder()
    left = {own for group in study.pending([(own,) for own in study.networks]) for own in group}
    if members is None:
        # Nobody is asked, and no worker is waited for, where nothing is to be trained.
        members = study.members(engine.members(len(study.networks))) if left else 1
    groups = study.groups(members)
    waiting = [group for group in groups if not left.isdisjoint(group)]
    console.print(
        f"study: {len(study.networks)} networks, {len(record_keys(study.networks))} records, "
        f"{image_passes(groups, study.protocol.epochs):,} image passes; to do: "
        f"{sum(map(len, waiting))} networks, "
        f"{image_passes(waiting, study.protocol.epochs):,} image passes"
    )
    return Work(groups, waiting)


def run_study(
    console: Console,
    study: Study,
    engine: Engine,
    work: Work,
    command: str,
    *,
    test_fold: str = "imbalanced",
    fit: str = "",
) -> tuple[int, tables.Tables]:
    """Trains groups of a study and writes its tables and its report.

    Args:
        console: to write on.
        study: they belong to.
        engine: that trains them.
        work: as `plan_work` returns it.
        command: that works on the study, kept for the reader.
        test_fold: to score, see `tables.make_tables`.
        fit: the command that fits an approach, see `Description.fit`.

    Returns:
        how many records in scope are failed or missing, and the tables.

    Raises:
        InputError, OSError: as `Study.run`.
    """
    study.remove_litter([group for group in work.groups if group not in work.waiting])
    study.open(command, fit)
    started = time.perf_counter()
    report = LiveReport(study.folder.path, partial(console.print, style="bold red"))
    run_and_show(console, study, engine, work.waiting, lambda _: report.update())
    made = _write_tables(console, study, test_fold)
    page = report.draw()
    console.print(
        f"{time.perf_counter() - started:.0f} s; peak memory of the process "
        f"{peak_memory() / 1e9:.2f} GB; results in {study.folder.path}"
        + (f", the report to look at: {page}" if page else "")
    )
    return _count_absent(console, study), made


def _write_tables(console: Console, study: Study, test_fold: str) -> tables.Tables:
    # The tables hold all records of the folder: parts of a study add up.
    records = read_records(study.folder.records) if study.folder.records.exists() else []
    description = study.check_folder()
    made = tables.make_tables(
        records,
        expected=record_keys(study.networks),
        why_absent=paper.why_not_comparable(
            description.settings, description.class_counts, records, test_fold
        ),
        recipes=description.recipes,
        test=test_fold,
    )
    tables.write_tables(study.folder.path, made)
    # Rich would cut off columns where it finds no terminal and assumes a width of 80.
    Console(highlight=False, width=max(console.width, 120)).print(tables.screen(made))
    return made


def _count_absent(console: Console, study: Study) -> int:
    scope = set(record_keys(study.networks))
    # Somebody may remove files while the study runs, and after they were read.
    there = [key for key in scope if study.folder.record(key).exists()]
    failed = len(there) - sum(map(study.folder.is_done, there))
    if failed:
        console.print(f"{failed} records failed, see tables.md there", style="bold red")
    missing = len(scope) - len(there)
    if missing:
        console.print(
            f"{missing} of {len(scope)} records are missing in {study.folder.path}; the same "
            "command makes them again",
            style="bold red",
        )
    return failed + missing
