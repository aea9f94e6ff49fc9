"""Charts of scores, one function each: frames and looks in, a figure out; no file is read."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import scikit_posthocs
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from twostage_jax.data.partition import SCENARIOS
from twostage_jax.evaluation.statistics import Difference, RankTest, critical_difference
from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report import style
from twostage_jax.report.looks import Look
from twostage_jax.study.approaches import FAMILIES

_SCORES = (*METRICS, "Acc")
_FEW = 6  # entries that a legend inside a panel has room for
MANY = 12
"""Approaches that one panel may show at most; more are drawn family by family."""

Looks = Mapping[str, Look]
"""How to draw each approach, by name; a chart needs at least those of its data."""
Curves = Mapping[str, Float[np.ndarray, "epochs 2"]]


def title_of(name: str) -> str:
    """Returns the printed form of a scenario."""
    return name.replace("_", " ")


def differences(rows: Sequence[Sequence[Difference]], looks: Looks) -> Figure:
    """Draws paired differences with their intervals: one panel per metric, one row per rival.

    The interval for all rivals is a thin bar, where there is one.
    """
    titles = [f"over {looks[own[0].rival].title}" for own in rows]
    metrics = [own.metric for own in rows[0]]
    figure, panels = _by_metric(metrics, titles, "difference", 0.9 + 0.45 * len(rows))
    for panel, of_metric in zip(panels, zip(*rows, strict=True), strict=True):
        for y, own in enumerate(of_metric):
            look, folds = looks[own.rival], own.by_fold
            panel.plot(folds, np.full(len(folds), y), "|", color="#999999", markersize=7)
            if not np.isnan(own.low):
                panel.plot([own.low, own.high], [y, y], color=look.color, linewidth=3)
            if np.isfinite([own.low_all, own.high_all]).all():
                panel.plot([own.low_all, own.high_all], [y, y], color=look.color, linewidth=1)
            panel.plot(own.mean, y, **look.lines(False), markersize=7)
        panel.axvline(0, color="#444444", linewidth=0.8)
    return figure


def class_distributions(counts: pd.DataFrame) -> Figure:
    """Draws Fig. 4: training images of each class, the largest first, one panel per scenario.

    `counts` holds means over folds: rows (scenario, ratio), columns the places of the classes.
    """
    scenarios = _scenarios(counts)
    figure, panels = _wrapped(len(scenarios), 2, "training images", 0.5, 1.8)
    ratios = sorted(counts.index.unique("ratio"))
    for panel, scenario in zip(panels, scenarios, strict=True):
        own = counts.loc[scenario]
        width = 0.8 / len(own)
        for i, (ratio, line) in enumerate(own.iterrows()):
            x = np.arange(len(line)) + 1 + (i - (len(own) - 1) / 2) * width
            color = style.COLORS[ratios.index(ratio) % len(style.COLORS)]
            panel.bar(x, line, width, color=color, label=f"ratio {ratio:g}")
        panel.set(title=title_of(scenario), xlabel="class, the largest first")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.grid(axis="x", visible=False)
    _legend(figure, panels)
    return figure


def images_by_ratio(totals: pd.Series) -> Figure:
    """Draws Fig. 5: training images of a partition against the ratio, one line per scenario.

    `totals` holds means over folds, by (scenario, ratio).
    """
    figure, ((panel,),) = style.grid(1, 1, 2.6)
    for scenario in _scenarios(totals):
        i = SCENARIOS.index(scenario)
        line = _with_original(totals, scenario)
        panel.plot(
            line,
            marker=style.MARKERS[i],
            linestyle="-" if len(line) > 1 else "",
            color=style.COLORS[i],
            label=title_of(scenario),
        )
    _ratio_axis(panel, totals)
    panel.set(ylabel="training images of a partition", ylim=(0, None))
    panel.legend(loc="lower left", ncols=2)
    return figure


def metrics_by_ratio(frame: pd.DataFrame, looks: Looks) -> Figure:
    """Draws Fig. 6: four scores against the ratio, one row of panels per scenario.

    With a single ratio there are no lines. Bars span the folds, from the lowest to the highest
    score, where they can be told apart: for a single approach, or at a single ratio. More than
    twelve approaches are drawn family by family, the baseline in each. `frame` is as
    `tables.metrics_frame` returns it; approaches without a look are left out.
    """
    by_cell = frame[frame["approach"].isin(list(looks))].groupby(["approach", "scenario", "ratio"])
    cells = by_cell[list(_SCORES)].agg(["mean", "min", "max"])
    split = len(looks) > MANY
    groups = by_family(looks, looks) if split else {"": [*looks]}
    rows = [(group, scenario) for group in groups for scenario in _scenarios(cells)]
    heights = [max(1.55, split * style.beside(groups[group])) for group, _ in rows]
    height = 0.6 + sum(heights) + (not split) * _legend_height(looks.values())
    options = {"sharex": True, "sharey": "col", "height_ratios": heights}
    figure, panels = style.grid(len(rows), len(_SCORES), height, **options)
    for row, (group, scenario) in zip(panels, rows, strict=True):
        own = {name: looks[name] for name in groups[group]}
        _scores_by_ratio(row, cells, scenario, own)
        row[0].set_ylabel(
            f"{FAMILIES[group]}\n{title_of(scenario)}" if split else title_of(scenario)
        )
        if split:
            row[-1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for panel, metric in zip(panels[0], _SCORES, strict=True):
        panel.set_title(metric)
    for panel in panels[-1]:
        panel.set_xlabel("imbalance ratio")
    if not split:
        _legend(figure, [panels[0][0]])
    return figure


def _scores_by_ratio(row: Sequence[Axes], cells: pd.DataFrame, scenario: str, looks: Looks) -> None:
    """Draws the approaches of one scenario, one panel per score."""
    ratios, count = sorted(cells.index.unique("ratio")), len(looks)
    # The approaches of one ratio stand side by side, within the room of that ratio.
    room = 0.8 * min(np.diff(ratios), default=2)
    step, size = room / count, 5 if count <= MANY else 3
    for panel, metric in zip(row, _SCORES, strict=True):
        for i, (name, look) in enumerate(looks.items()):
            if name not in cells.index.unique("approach"):
                continue
            line = _with_original(cells.loc[name][metric], scenario)
            x = line.index + step * (i - (count - 1) / 2)
            if count == 1 or len(ratios) == 1:
                panel.vlines(x, line["min"], line["max"], color=look.color, linewidth=0.8)
            drawn = look.lines(len(line) > 1) | {"markersize": size, "label": look.title}
            panel.plot(x, line["mean"], **drawn)
        _ratio_axis(panel, cells, margin=max(1.0, 0.6 * room), label=False)


def spread(frame: pd.DataFrame, looks: Looks) -> Figure:
    """Draws every score of a frame as a tick, its mean as a marker; one panel per metric."""
    by_approach = dict(list(frame.groupby("approach")))
    drawn = [(look, by_approach[name]) for name, look in looks.items() if name in by_approach]
    titles = [look.title for look, _ in drawn]
    figure, panels = _by_metric(METRICS, titles, "score", 0.8 + 0.28 * len(drawn))
    marker = {"markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.6}
    for panel, metric in zip(panels, METRICS, strict=True):
        for y, (look, own) in enumerate(drawn):
            ticks = np.full(len(own), y)
            panel.plot(own[metric], ticks, "|", color=look.color, alpha=0.6, markersize=8)
            panel.plot(own[metric].mean(), y, **look.lines(False), **marker)
    return figure


def both_test_folds(imbalanced: pd.Series, balanced: pd.Series, looks: Looks) -> Figure:
    """Draws mean scores on imbalanced (filled) and balanced (open) test folds by metric.

    Both series hold mean scores by (approach, metric).
    """
    names = list(imbalanced.index.unique("approach"))
    titles = [looks[name].title for name in names]
    figure, panels = _by_metric(_SCORES, titles, "mean score", 1.15 + 0.28 * len(names))
    for panel, metric in zip(panels, _SCORES, strict=True):
        for y, name in enumerate(names):
            one, other = imbalanced[name, metric], balanced[name, metric]
            look = looks[name].lines(False) | {"markersize": 6}
            panel.plot([one, other], [y, y], color=looks[name].color, linewidth=1)
            panel.plot(one, y, **look)
            panel.plot(other, y, **look, markerfacecolor="white")
    handles = [
        Line2D([], [], marker="o", linestyle="", color="#444444", markerfacecolor=fill)
        for fill in ("#444444", "white")
    ]
    figure.legend(handles, ["imbalanced", "balanced"], loc="outside lower center", ncols=2)
    return figure


def critical_differences(tests: Mapping[str, RankTest], looks: Looks) -> Figure:
    """Draws one critical-difference diagram per metric (Demšar, 2006)."""
    approaches = len(next(iter(tests.values())).ranks)
    height = 0.75 + 0.14 * min(9, approaches) + 0.09 * max(0, approaches - 9)
    figure, panels = style.grid(len(tests), 1, height * len(tests))
    for (panel,), (metric, test) in zip(panels, tests.items(), strict=True):
        # By name, as titles need not be unique.
        drawn = scikit_posthocs.critical_difference_diagram(
            test.ranks,
            test.p_values,
            ax=panel,
            label_fmt_left="{label}",
            label_fmt_right="{label}",
            label_props={"fontsize": 8},
            crossbar_props={"color": "#444444", "linewidth": 2.5},
            marker_props={"s": 22},
            elbow_props={"linewidth": 1},
            text_h_margin=0.05,
            color_palette={name: looks[name].color for name in test.ranks.index},
        )
        for (bar,) in drawn["crossbars"]:
            bar.set_xdata(sorted(bar.get_xdata()))  # they come in the random order of a set
        for label in drawn["labels"]:
            name, left = label.get_text(), label.get_horizontalalignment() == "right"
            title, rank = looks[name].title, f"({test.ranks[name]:.2f})"
            label.set_text(f"{title} {rank}" if left else f"{rank} {title}")
            label.set_color("black")  # text in a light color is hard to read
        distance = critical_difference(approaches, test.blocks)
        panel.set_title(
            f"{metric}: average rank over {test.blocks} blocks, critical difference {distance:.2f}",
            loc="left",
        )
        panel.grid(visible=False)
    return figure


def recall_by_size(recalls: pd.DataFrame, looks: Looks) -> Figure:
    """Draws recall against training images, one panel per family, the baseline in each.

    `recalls` has the columns approach, images, recall: means of classes of about one size.
    """
    curves = dict(list(recalls.groupby("approach")))
    families = by_family([name for name in looks if name in curves], looks)
    outside = max(map(len, families.values())) > _FEW
    below = outside * _legend_height([looks[name] for name in curves])
    height = 3.0 if len(families) <= 3 else 2.5
    figure, panels = _wrapped(len(families), 3, "recall", below, height)
    for panel, (family, own) in zip(panels, families.items(), strict=True):
        for name in own:
            curve, look = curves[name], looks[name]
            panel.plot(curve["images"], curve["recall"], **look.lines(), label=look.title)
        panel.set(title=FAMILIES[family], xscale="log", xlabel="training images of the class")
        panel.set_ylim(0, 1.02)
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        if not outside:
            panel.legend(loc="lower right", fontsize=7)
    if outside:
        _legend(figure, panels)
    return figure


def by_family(
    names: Iterable[str], looks: Looks, with_baseline: bool = True
) -> dict[str, list[str]]:
    """Returns the members of each family, in the order of `FAMILIES`.

    Args:
        names: of approaches.
        looks: at least theirs.
        with_baseline: whether the baseline is in each family, and none itself if there is another.
    """
    names = [*names]
    families = [f for f in FAMILIES if f in {looks[name].family for name in names}]
    if not with_baseline:
        return {f: [name for name in names if looks[name].family == f] for f in families}
    families = [f for f in families if f != "baseline"] or families
    return {f: [n for n in names if looks[n].family in ("baseline", f)] for f in families}


def _scenarios(table: pd.DataFrame | pd.Series) -> list[str]:
    there = table.index.unique("scenario")
    return [scenario for scenario in SCENARIOS if scenario in there]


def _with_original(table: pd.DataFrame | pd.Series, scenario: str) -> pd.DataFrame | pd.Series:
    """Returns a scenario's values by ratio; ratio 1, if it was run, belongs to all scenarios."""
    there = table.index.get_level_values("scenario").isin(["original", scenario])
    return table[there].droplevel("scenario").sort_index()


def _ratio_axis(
    panel: Axes, table: pd.DataFrame | pd.Series, margin: float = 1.0, label: bool = True
) -> None:
    ratios = sorted(table.index.unique("ratio"))
    panel.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panel.set_xlim(ratios[0] - margin, ratios[-1] + margin)
    if label:
        panel.set_xlabel("imbalance ratio")


def _by_metric(
    metrics: Sequence[str], titles: Sequence[str], xlabel: str, height: float
) -> tuple[Figure, list[Axes]]:
    """Returns a chart with one panel per metric and one row per title."""
    figure, (panels,) = style.grid(1, len(metrics), height, sharey=True)
    for panel, metric in zip(panels, metrics, strict=True):
        panel.set(title=metric, xlabel=xlabel)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    style.name_rows(panels, titles)
    return figure, panels


def _wrapped(
    count: int, most: int, ylabel: str, below: float, height: float
) -> tuple[Figure, list[Axes]]:
    """Returns a chart of `count` panels in reading order, `most` in each row.

    Each row is `height` inches high; `below` inches are left for a legend.
    """
    columns = min(most, count)
    rows = -(-count // columns)
    figure, panels = style.grid(rows, columns, below + height * rows, sharey=True)
    for row in panels:
        row[0].set_ylabel(ylabel)
    flat = [panel for row in panels for panel in row]
    for panel in flat[count:]:
        panel.remove()
    return figure, flat[:count]


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Puts one legend below all panels, with each entry once."""
    entries = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    columns = style.legend_columns(entries)
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns)


def _legend_height(looks: Collection[Look]) -> float:
    """Returns the height of a legend below a chart, in inches."""
    columns = style.legend_columns([look.title for look in looks])
    return style.ROW * -(-len(looks) // columns)
