"""Parts of the benchmarks' documents and plots."""

import io
import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twostage_jax.support.files import write_atomically


def provenance(
    command: str, device: dict[str, str], cores: int, packages: Sequence[str]
) -> list[str]:
    """What made the numbers, without names of machines or folders.

    Args:
        command: as it was given.
        device: `platform` and `kind` that JAX found.
        cores: of the processor.
        packages: whose versions are named, where they are installed.
    """
    versions = [f"python {platform.python_version()}"]
    for name in packages:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return [
        f"Command: `{without_folders(command)}`",
        f"Versions: {', '.join(versions)}",
        f"Machine: {cores} cores of {_processor()}; JAX on {device['platform']} ({device['kind']})",
    ]


def without_folders(command: str) -> str:
    """A command whose paths are cut down to the names at their ends."""
    return re.sub(r"[^\s='\"]*/(?=[^\s/'\"])", "", command)


def _processor() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def markdown_table(rows: Sequence[Sequence[str]], left: int) -> str:
    """A Markdown table.

    Args:
        rows: the header first.
        left: columns that are aligned left; those after them are aligned right.
    """
    header, *body = rows
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *body))


class Panel(NamedTuple):
    """A panel of horizontal bars, on a logarithmic scale.

    Attributes:
        title: above it.
        unit: below it.
        values: a bar each.
        texts: at the ends of the bars.
    """

    title: str
    unit: str
    values: Sequence[float]
    texts: Sequence[str]


def draw_panels(
    cases: Sequence[str],
    names: Sequence[str],
    colors: Sequence[str],
    left: Panel,
    right: Panel,
    salt: str,
) -> bytes:
    """Draws two panels that share their rows, as SVG that equal numbers make equal.

    Args:
        cases: of each row; rows of the same case in succession stand together under its title.
        names: of each row.
        colors: of each row's bars.
        left: its values.
        right: its values.
        salt: of the identifiers in the document.
    """
    starts = [i == 0 or cases[i - 1] != case for i, case in enumerate(cases)]
    positions = np.cumsum(np.where(starts, 1.9, 1.0))  # room for the title of each case
    bottom = positions[-1] + 0.7 if cases else 1.0
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9}):
        figure = Figure(figsize=(11, 1.2 + 0.24 * bottom), layout="constrained")
        both = figure.subplots(1, 2, sharey=True)
        for axes, panel in zip(both, (left, right), strict=True):
            _draw_bars(axes, positions, panel, colors)
        both[0].set_yticks(positions, names)
        both[0].set_ylim(bottom, 0.6)
        for start, position, case in zip(starts, positions, cases, strict=True):
            if start:
                _label(both[0], case, (0, position - 0.75), "axes fraction", weight="bold")
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def _draw_bars(axes: Axes, positions: Sequence[float], panel: Panel, colors: Sequence[str]) -> None:
    axes.barh(positions, panel.values, color=colors, height=0.8)
    if above := [value for value in panel.values if value > 0]:
        axes.set_xscale("log")
        axes.set_xlim(min(above) / 3, max(above) * 60)  # room for the figures beside the bars
    for text, value, position in zip(panel.texts, panel.values, positions, strict=True):
        _label(axes, text, (value, position), "data")
    axes.set(title=panel.title, xlabel=panel.unit)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")


def _label(axes: Axes, text: str, at: tuple[float, float], across: str, **style: str) -> None:
    """Writes beside a point, whose height is of the data and whose other coordinate `across`."""
    # Out of the layout: the panels would shrink to make room for texts that have it.
    axes.annotate(
        text,
        at,
        (4, 0),
        xycoords=(across, "data"),
        textcoords="offset points",
        va="center",
        in_layout=False,
        **style,
    )


def write(folder: Path, name: str, table: pd.DataFrame, text: str, picture: bytes) -> None:
    """Writes `name`.csv, `name`.md and `name`.svg, each whole or not at all.

    Raises:
        OSError: the disk is full, the folder is read-only, ...
    """
    rows = table.to_csv(index=False, lineterminator="\n")
    write_atomically(folder / f"{name}.csv", rows.encode())
    write_atomically(folder / f"{name}.md", text.encode())
    write_atomically(folder / f"{name}.svg", picture)
