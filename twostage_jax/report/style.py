"""One quiet style for all charts: a colour and a marker an approach, the same everywhere."""

import contextlib
import io
from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# P. Tol's "muted" scheme, made for readers with any colour vision; the baseline is black, for his
# grey and most others are near the wine red to a reader without green cones.
COLORS = {
    "baseline": "#000000",
    "is_rus": "#DDCC77",
    "is_ros": "#999933",
    "is_smote": "#117733",
    "fs_rus": "#88CCEE",
    "fs_ros": "#44AA99",
    "fs_smote": "#332288",
    "ts_smote_smote": "#CC6677",
    "ts_smote_rus": "#882255",
}
# The sampler of the last stage decides the marker, so that print without colour can be read.
MARKERS = {
    "baseline": "D",
    "is_rus": "v",
    "is_ros": "s",
    "is_smote": "o",
    "fs_rus": "v",
    "fs_ros": "s",
    "fs_smote": "o",
    "ts_smote_smote": "X",
    "ts_smote_rus": "P",
}
LINES = {"baseline": "-", "is": "--", "fs": ":", "ts": "-"}

# For what is not an approach: classes, scenarios, ratios (Okabe and Ito, 2008, less its yellow).
OTHERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
OTHER_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

WIDTH = 7.2  # inches, of every chart: on the page 100 % of the column

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
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
    # Outlines instead of characters: no reader's fonts can move a label over another.
    "svg.fonttype": "path",
    # Names of clip paths and markers follow from this and not from chance: equal records give
    # equal bytes.
    "svg.hashsalt": "twostage_jax",
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Charts made and saved within have the style."""
    with matplotlib.rc_context(_RC):
        yield


def line_of(approach: str) -> str:
    """Line style of an approach: that of its space."""
    return LINES[approach.partition("_")[0]]


def grid(rows: int, columns: int, height: float, **options) -> tuple[Figure, list[list[Axes]]]:
    """A chart of the common width with panels; `height` is in inches."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def svg(figure: Figure) -> str:
    """The chart as SVG text, which depends on nothing but the chart."""
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
