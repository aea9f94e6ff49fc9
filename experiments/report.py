"""The report of a study: `python -m experiments.report RESULTS`."""

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import tyro

from twostage_jax.commands.ending import run_command
from twostage_jax.evaluation.names import readable
from twostage_jax.report import write_report
from twostage_jax.study.folder import StudyFolder
from twostage_jax.support.errors import InputError

PROGRAM = "python -m experiments.report"

_DAY = 24 * 60 * 60  # seconds


@dataclasses.dataclass(frozen=True)
class Options:
    """Turns a study's records into one HTML page, RESULTS/report/index.html.

    The figures are written beside it as SVG, the tables as CSV. The report of an unfinished study
    says what is missing.
    """

    results: tyro.conf.Positional[Path]
    """The study's folder, such as results/demo-digits."""
    watch: bool = False
    """Wait for the study, and make the page again whenever there are new records, until Ctrl-C."""
    interval: float = 30.0
    """Seconds between two checks for new records, with --watch."""
    beside: Path | None = None
    """Folder of a study that differs in precision only, such as float32 beside bfloat16; adds a
    section on what the precision changes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    The status is 0 if the page is written or watching was ended, 2 for bad input or a file that
    cannot be written, and 130 for an interruption while the page was drawn.
    """
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    return run_command(
        partial(_report, options), "interrupted", "; correct this and run the command again"
    )


def _report(options: Options) -> int:
    _require_interval(options.interval)
    # A shell leaves the tilde of `--beside=~/x` alone. An unknown user's is a folder's name.
    results = Path(os.path.expanduser(options.results))
    beside = options.beside and Path(os.path.expanduser(options.beside))
    if not options.watch:
        print(readable(str(write_report(results, beside=beside))))
        return 0
    try:
        watch(results, options.interval, beside)
    except KeyboardInterrupt:  # the way to stop watching
        print()
    return 0


def watch(results: Path, interval: float, beside: Path | None = None) -> None:
    """Makes the report, and again whenever a file of the study has changed; never returns.

    It waits for a study that has not begun.

    Args:
        results: the study's folder.
        interval: seconds between two checks.
        beside: as for `write_report`; it is checked for changes as well.

    Raises:
        InputError: as `write_report`, or an interval that is not above 0 or above one day.
        OSError: as `write_report`.
    """
    _require_interval(interval)
    before = None
    while True:
        study, other = _state(results), _state(beside) if beside else set()
        now = study | other
        if now != before and not study:
            print(readable(f"no study in {results} yet; waiting for one"), flush=True)
        elif now != before:
            page = write_report(results, refresh=max(1, round(interval)), beside=beside)
            print(readable(f"{time.strftime('%H:%M:%S')} {page}"), flush=True)
        before = now
        time.sleep(interval)


def _require_interval(seconds: float) -> None:
    if not 0 < seconds <= _DAY:
        raise InputError(
            f"found --interval {seconds:g}; expected a number of seconds above 0 and at most "
            f"{_DAY}, one day; change it"
        )


def _state(results: Path) -> set[tuple[Path, int]]:
    """Returns the files that a report reads, and when each was written."""
    paths = StudyFolder(results)
    files = [paths.description, paths.images, paths.features, *paths.records.rglob("*.safetensors")]
    return {(path, path.stat().st_mtime_ns) for path in files if path.exists()}


if __name__ == "__main__":
    sys.exit(main())
