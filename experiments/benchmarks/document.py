"""Parts of the benchmarks' documents and plots."""

import platform
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from matplotlib.axes import Axes


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


def bars(
    axes: Axes,
    positions: Sequence[float],
    values: Sequence[float],
    colors: Sequence[str],
    texts: Sequence[str],
) -> None:
    """Draws horizontal bars on a logarithmic scale, a text at the end of each."""
    axes.barh(positions, values, color=colors, height=0.8)
    if above := [value for value in values if value > 0]:
        axes.set_xscale("log")
        axes.set_xlim(min(above) / 3, max(above) * 60)  # room for the figures beside the bars
    for text, value, position in zip(texts, values, positions, strict=True):
        label(axes, text, (value, position), "data")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="0.9")


def label(axes: Axes, text: str, at: tuple[float, float], across: str, **style: str) -> None:
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
