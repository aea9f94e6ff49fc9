"""What became of every step: the table of the folder, which a repeated command reads again."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from experiments.benchmarks import document
from experiments.first_light.children import Ended
from twostage_jax.support.errors import InputError

PASSED, FAILED, LATE = "passed", "failed", "out of time"
IMPOSSIBLE, INTERRUPTED = "not possible here", "interrupted"

_MISSING = re.compile(r"ModuleNotFoundError: No module named '(\w+)")
_ERROR = re.compile(r"^(?:Exit: )?error: (.+)$", re.MULTILINE)  # pytest begins with Exit
_LONGEST = 300  # characters of a reason


class Row(NamedTuple):
    """What became of a step.

    Attributes:
        step: its name.
        result: one of the constants above.
        why: where it did not pass, in one line.
        seconds: that it took.
        figure: its main figure, also of a step that was stopped.
        command: what ran, without folders.
    """

    step: str
    result: str
    why: str
    seconds: float
    figure: str
    command: str


def result_of(ended: Ended, log: str) -> tuple[str, str]:
    """The result of a step and its reason, from how its process ended and what it printed."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    last = lines[-1][:_LONGEST] if lines else "it printed nothing"
    if ended.cause == "interrupted":
        return INTERRUPTED, ""
    if ended.cause == "late":
        return LATE, f"stopped after {ended.seconds:.0f} s"
    if ended.status == 0:
        return PASSED, ""
    if found := _MISSING.search(log):
        return IMPOSSIBLE, f"the package {found[1]} is missing; pip install -e '.[test]'"
    if ended.status == 2 and (found := _ERROR.search(log)):
        return IMPOSSIBLE, found[1][:_LONGEST]
    if ended.status < 0:
        return FAILED, f"ended by signal {-ended.status}: {last}"
    return FAILED, f"status {ended.status}: {last}"


def read(folder: Path) -> dict[str, Row]:
    """The rows of a folder by step; none where nothing ran yet.

    Raises:
        InputError: the file is not one that `write` wrote.
        OSError: it cannot be read.
    """
    path = folder / "summary.csv"
    if not path.exists():
        return {}
    try:
        frame = pd.read_csv(path, keep_default_na=False, dtype={"figure": str, "why": str})
        rows = [Row(**row) for row in frame.to_dict("records")]
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{path} is no summary of this program; name another folder with --output"
        ) from error
    return {row.step: row for row in rows}


def write(
    folder: Path, rows: Iterable[Row], titles: Mapping[str, str], origin: Sequence[str]
) -> str:
    """Writes summary.md and summary.csv, and returns the text.

    `titles` say what the steps are for; `origin` is the provenance.

    Raises:
        OSError: the disk is full, the folder is read-only, ...
    """
    frame = pd.DataFrame(list(rows), columns=Row._fields)
    cells = {
        "Step": [f"[{name}]({name})" for name in frame.step],
        "What": frame.step.map(titles),
        "Result": frame.result + frame.why.where(frame.why == "", ": " + frame.why),
        "Seconds": frame.seconds.map(document.digits),
        "Main figure": frame.figure.replace("", "-"),
    }
    parts = ["# First light", document.markdown_table(pd.DataFrame(cells), left=3)]
    return document.write(folder, "summary", parts, NOTES, origin, frame)


NOTES = (
    "Every step is a process of its own. Its output is in output.txt of its folder, beside the "
    "files that it writes.",
    "Out of time: the step was interrupted at the end of its budget, and its folder and its main "
    "figure hold what it had done until then; or too little time was left to start it.",
    "The same command again does the steps that have not passed.",
)
