"""Reliability diagrams: accuracy against confidence, of one model or of a study's approaches."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from twostage_jax.evaluation.calibration import BINS, Bins
from twostage_jax.report import style
from twostage_jax.report.blocks import Picture, Table, make_table
from twostage_jax.report.looks import Look
from twostage_jax.study.approaches import FAMILIES

HEADINGS = {"nll": "NLL", "brier": "Brier score", "ece": "ECE"}

FEWEST = 10
"""A bin with fewer samples is left out of the diagram: its accuracy is mostly chance."""

MEANING = (
    "NLL: negative log-likelihood or log loss, the mean of -ln of the probability of the true "
    "class, in nats. Brier score: mean of the squared differences between the probabilities and "
    "the truth, summed over the classes, 0 to 2. ECE: expected calibration error, the mean gap "
    f"between accuracy and confidence in {BINS} bins of the top probability. Lower is better in "
    "these three. Confidence is the mean top probability; above the accuracy, the network is too "
    "sure of itself."
)

READING = (
    "Share of right predictions against their mean top probability, in bins of equal width. On the "
    "dashed line a probability holds what it says; below it, the network is too sure. Bins with "
    f"fewer than {FEWEST} predictions are left out."
)


def picture(bins: Mapping[str, Bins], looks: Mapping[str, Look], samples: str = "") -> Picture:
    """Returns the reliability diagram of approaches, or of one model.

    Args:
        bins: by approach.
        looks: how to draw each approach of `bins`.
        samples: a sentence on what the bins are of, and a space.
    """
    title, caption = "Reliability diagram", f"{samples}{READING}"
    return Picture("reliability", title, caption, draw(bins, looks))


def bins_table(rows: Sequence[tuple[Mapping[str, str], Bins]]) -> Table:
    """Returns the bins of reliability diagrams as a folded table, empty ones left out.

    Args:
        rows: what to call some bins, by the name of the column, and the bins. The first column is
            not printed; its values name approaches in the CSV file.
    """
    frame = pd.DataFrame(
        [
            {**names, "above": i / BINS, "to": (i + 1) / BINS}
            | {"confidence": own.confidence[i], "accuracy": own.accuracy[i]}
            | {"samples": own.count[i]}
            for names, own in rows
            for i in range(BINS)
            if own.count[i]
        ]
    )
    _, *printed = rows[0][0]
    return make_table(
        "reliability",
        "Bins of the reliability diagrams",
        "Predictions by their top probability. A probability on an edge belongs to the lower bin.",
        frame,
        " ".join([*printed, "above:3 to:3 confidence:4 accuracy:4 samples:0"]),
        {"title": "Approach"},
        folded=True,
    )


def draw(bins: Mapping[str, Bins], looks: Mapping[str, Look]) -> Figure:
    """Draws accuracy against confidence, one panel per family, the baseline in each.

    Args:
        bins: by approach.
        looks: how to draw each approach of `bins`.
    """
    families = [f for f in FAMILIES if f in {looks[name].family for name in bins}]
    families = [f for f in families if f != "baseline"] or families
    members = [[n for n in bins if looks[n].family in ("baseline", f)] for f in families]
    columns = min(3, len(families))
    rows = -(-len(families) // columns)
    height = 2.9 * rows if columns == 3 else 3.6  # panels are square
    figure, panels = _grid(rows, columns, height, list(bins), looks)
    flat = [panel for row in panels for panel in row]
    for panel in flat[len(families) :]:
        panel.remove()
    for panel, family, names in zip(flat, families, members, strict=False):
        _draw_curves(panel, {name: bins[name] for name in names}, looks)
        panel.set_title(FAMILIES[family] if len(families) > 1 else "")
        panel.set_xlabel("top probability")
    return figure


def draw_conditions(
    conditions: Sequence[Sequence[tuple[str, Mapping[str, Bins]]]], looks: Mapping[str, Look]
) -> Figure:
    """Draws accuracy against confidence, one panel per condition.

    Args:
        conditions: rows of panels, each a title and bins by approach.
        looks: how to draw each approach of the bins.
    """
    names = [name for name in looks if any(name in bins for row in conditions for _, bins in row)]
    height = 3.3 * len(conditions)
    figure, panels = _grid(len(conditions), len(conditions[0]), height, names, looks)
    for row, own in zip(panels, conditions, strict=True):
        for panel, (title, bins) in zip(row, own, strict=True):
            _draw_curves(panel, bins, looks)
            panel.set_title(title)
    for panel in panels[-1]:
        panel.set_xlabel("top probability")
    return figure


def _grid(
    rows: int, columns: int, height: float, names: Sequence[str], looks: Mapping[str, Look]
) -> tuple[Figure, list[list[Axes]]]:
    """Returns panels above a legend of some approaches."""
    titles = [looks[name].title for name in names]
    across = style.legend_columns(titles)
    below = style.ROW * -(-len(titles) // across)
    figure, panels = style.grid(rows, columns, height + below + 0.1, sharey=True)
    for row in panels:
        row[0].set_ylabel("share that is right")
    handles = [Line2D([], [], **_line(looks[name])) for name in names]
    figure.legend(handles, titles, loc="outside lower center", ncols=across)
    return figure, panels


def _draw_curves(panel: Axes, bins: Mapping[str, Bins], looks: Mapping[str, Look]) -> None:
    panel.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
    for name, own in bins.items():
        shown = own.count >= FEWEST
        panel.plot(own.confidence[shown], own.accuracy[shown], **_line(looks[name]))
    panel.set(xlim=(0, 1.02), ylim=(0, 1.02))
    panel.set_box_aspect(1)


def _line(look: Look) -> dict:
    shape = {"color": look.color, "marker": look.marker, "linestyle": look.line}
    return shape | {"markersize": 4}
