"""Section part: whether predicted probabilities hold what they say."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from twostage_jax.evaluation.calibration import BINS, Bins, bin_samples, calibrate, pool
from twostage_jax.report import style
from twostage_jax.report.blocks import Block, Notice, Picture, Table, make_table
from twostage_jax.report.looks import Look
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import FAMILIES

HEADINGS = {"log_loss": "Log loss", "brier": "Brier score", "ece": "ECE"}

FEWEST = 10
"""A bin with fewer samples is left out of the diagram: its accuracy is mostly chance."""

MEANING = (
    "Log loss: mean of -ln of the probability of the true class, in nats. Brier score: mean of the "
    "squared differences between the probabilities and the truth, summed over the classes, 0 to 2. "
    f"ECE: expected calibration error, the mean gap between accuracy and confidence in {BINS} bins "
    "of the top probability. Lower is better in these three. Confidence is the mean top "
    "probability; above the accuracy, the network is too sure of itself."
)


def blocks(results: Results) -> list[Block]:
    """Returns the scores of the probabilities of each approach, and the reliability diagram."""
    pooled = pool(results.counted_records, results.counted)
    unit = results.words.partition
    if not pooled:
        return [Notice(f"No calibration yet: no {unit} has scores of all approaches.")]
    names = [name for name in results.looks if name in pooled]
    found = {name: calibrate(*pooled[name]) for name in names}
    frame = pd.DataFrame(found.values(), pd.Index(names, name="approach")).reset_index()
    frame.insert(1, "title", [results.titles[name] for name in names])
    bins = {name: bin_samples(*pooled[name]) for name in names}
    where = (
        "over all test images of all splits."
        if results.as_found
        else "over the imbalanced test folds of all partitions above ratio 1 on which every "
        "approach has a score; an image counts once per partition."
    )
    return [
        make_table(
            "calibration",
            "Calibration of the probabilities",
            f"{MEANING} Pooled {where}",
            frame,
            "title log_loss:4 brier:4 ece:4 confidence:4 accuracy:4 samples:0",
            {"title": "Approach", **HEADINGS},
        ),
        picture(bins, results.looks),
        bins_table(bins, results.titles),
    ]


def picture(bins: Mapping[str, Bins], looks: Mapping[str, Look]) -> Picture:
    """Returns the reliability diagram of approaches, or of one model."""
    return Picture(
        "reliability",
        "Reliability diagram",
        "Share of right predictions against their mean top probability, in bins of equal width. On "
        "the dashed line a probability holds what it says; below it, the network is too sure. Bins "
        f"with fewer than {FEWEST} predictions are left out.",
        draw(bins, looks),
    )


def bins_table(bins: Mapping[str, Bins], titles: Mapping[str, str]) -> Table:
    """Returns the bins of the reliability diagram as a folded table, empty ones left out."""
    rows = [
        (name, titles[name], i / BINS, (i + 1) / BINS, confidence, accuracy, count)
        for name, own in bins.items()
        for i, (count, confidence, accuracy) in enumerate(zip(*own, strict=True))
        if count
    ]
    names = ["approach", "title", "above", "to", "confidence", "accuracy", "samples"]
    return make_table(
        "reliability",
        "Bins of the reliability diagram",
        "Predictions by their top probability. A probability on an edge belongs to the lower bin.",
        pd.DataFrame(rows, columns=names),
        "title above:3 to:3 confidence:4 accuracy:4 samples:0",
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
    columns = min(3, len(families))
    rows = -(-len(families) // columns)
    legend = style.legend_columns([looks[name].title for name in bins])
    below = style.ROW * -(-len(bins) // legend)
    height = 2.9 * rows if columns == 3 else 3.6  # panels are square
    figure, panels = style.grid(rows, columns, height + below + 0.1, sharey=True)
    flat = [panel for row in panels for panel in row]
    for panel in flat[len(families) :]:
        panel.remove()
    handles = {}
    for panel, family in zip(flat, families, strict=False):
        panel.plot([0, 1], [0, 1], "--", color="#888888", linewidth=1)
        for name in (name for name in bins if looks[name].family in ("baseline", family)):
            own, look = bins[name], looks[name]
            shown = own.count >= FEWEST
            (handles[name],) = panel.plot(
                own.confidence[shown],
                own.accuracy[shown],
                color=look.color,
                marker=look.marker,
                linestyle=look.line,
                markersize=4,
            )
        panel.set(
            title=FAMILIES[family] if len(families) > 1 else "", xlim=(0, 1.02), ylim=(0, 1.02)
        )
        panel.set_box_aspect(1)
        panel.set_xlabel("top probability")
    for row in panels:
        row[0].set_ylabel("share that is right")
    titles = [looks[name].title for name in handles]
    figure.legend(handles.values(), titles, loc="outside lower center", ncols=legend)
    return figure
