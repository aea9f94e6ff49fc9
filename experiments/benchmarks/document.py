"""The documents of the benchmarks: tables, how the numbers were taken, and where they are from."""

import math
import os
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pandas as pd

from twostage_jax.support.files import write_atomically


def digits(number: float | None, unit: str = "") -> str:
    """Three significant digits and a unit; a dash for what was not measured."""
    if number is None or math.isnan(number):
        return "-"
    return f"{float(f'{number:.3g}'):,g}{unit}"


def times(ratio: float | None) -> str:
    """How many times as fast."""
    return digits(ratio, "x")


def size(count: float | None) -> str:
    """Bytes."""
    for unit, name in ((1e9, " GB"), (1e6, " MB"), (1e3, " kB")):
        if count is not None and count >= unit:
            return digits(count / unit, name)
    return digits(count, " B")


def percent(share: float | None) -> str:
    """A share, rounded down: only all of it is 100 %."""
    if share is None or math.isnan(share):
        return "-"
    return f"{math.floor(1000 * share) / 10:g} %"


def markdown_table(cells: pd.DataFrame, left: int) -> str:
    """A Markdown table of text, with `left` columns aligned left and the others right.

    Equal texts in succession in the first column are shown once.
    """
    first = cells.columns[0]
    cells = cells.assign(**{first: cells[first].where(cells[first] != cells[first].shift(), "")})
    align = ["left"] * left + ["right"] * (len(cells.columns) - left)
    return cells.to_markdown(index=False, disable_numparse=True, colalign=align)


def provenance(command: str, packages: Sequence[str]) -> list[str]:
    """What made the numbers: command, versions of the installed `packages`, and machine.

    The sentences name no folder and no machine: paths are cut down to their last names.
    """
    versions = [f"python {platform.python_version()}"]
    for name in ["twostage_jax", *packages]:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    try:
        processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())[1]
    except (OSError, TypeError):  # not Linux, or a processor without a name
        processor = platform.processor() or platform.machine()
    return [
        f"Command: `{without_folders(command)}`",
        f"Versions: {', '.join(versions)}",
        f"Machine: {os.cpu_count()} cores of {processor}",
    ]


def without_folders(command: str) -> str:
    """A command line whose paths are cut down to their last names."""
    return re.sub(r"[^\s='\"]*/(?=[^\s/'\"])", "", command)


def write(
    folder: Path,
    name: str,
    parts: Sequence[str],
    notes: Sequence[str],
    origin: Sequence[str],
    frame: pd.DataFrame,
) -> str:
    """Writes `name`.md (parts, notes and provenance) and `name`.csv (the frame).

    Returns the text of the document.

    Raises:
        OSError: the disk is full, the folder is read-only, ...
    """
    sections = {"How the numbers were taken": notes, "Where they are from": origin}
    for title, sentences in sections.items():
        parts = [*parts, f"## {title}", "\n".join(f"- {sentence}" for sentence in sentences)]
    text = "\n\n".join(parts) + "\n"
    table = frame.to_csv(index=False, lineterminator="\n")
    write_atomically(folder / f"{name}.csv", table.encode())
    write_atomically(folder / f"{name}.md", text.encode())
    return text
