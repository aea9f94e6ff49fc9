"""One plain style for all charts, and the colors of what is not an approach."""

import contextlib
import io
from collections.abc import Collection, Iterable, Iterator, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from twostage_jax.report.lettering import families, hushed, width

# For classes, scenarios and ratios (Okabe and Ito, 2008, without their yellow).
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

WIDTH = 7.2
"""Width of every chart in inches: the page shows it at the width of its column."""

ROW = 0.17
"""Height of a row of a legend, in inches."""

_RC = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "figure.facecolor": "white",
    # Text as outlines, so that the fonts of a reader cannot move labels over each other.
    "svg.fonttype": "path",
    # Names of clip paths and markers follow from this instead of chance, so that equal records give
    # equal bytes.
    "svg.hashsalt": "twostage_jax",
}


@contextlib.contextmanager
def quiet(texts: Iterable[str] = ()) -> Iterator[None]:
    """Applies the style to charts that are made and saved inside the block.

    Args:
        texts: the labels that users named; other fonts help out where the common one lacks their
            letters.
    """
    with hushed(), matplotlib.rc_context(_RC):
        matplotlib.rcParams["font.family"] = families(texts)
        yield


def grid(rows: int, columns: int, height: float, **options) -> tuple[Figure, list[list[Axes]]]:
    """Returns a chart of the common width with panels, and the panels by row and column.

    Args:
        rows: number of rows of panels.
        columns: number of columns of panels.
        height: of the chart, in inches.
        options: further arguments of `Figure.subplots`.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def legend_columns(titles: Collection[str], most: int = 5) -> int:
    """Returns how many columns of a legend a chart is wide enough for, at most `most`."""
    inches = 0.45 + 0.068 * max(map(width, titles))
    return min(most, len(titles), max(1, int(WIDTH / inches)))


def name_rows(panels: Sequence[Axes], titles: Sequence[str]) -> None:
    """Names the rows of panels that share them, the first on top."""
    panels[0].set_yticks(range(len(titles)), titles)
    panels[0].set_ylim(len(titles) - 0.5, -0.5)
    for panel in panels:
        panel.grid(axis="y", visible=False)


def beside(entries: Collection[str]) -> float:
    """Returns the height that a row of panels needs for a legend beside it, in inches."""
    return 0.4 + ROW * len(entries)


def svg(figure: Figure) -> str:
    """Returns the chart as SVG text that depends on nothing but the chart."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
