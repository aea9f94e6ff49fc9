"""Charts of scores, one function each: frames in, a figure out. Nothing here reads a file."""

from collections.abc import Mapping, Sequence

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
from twostage_jax.study.approaches import APPROACHES

_SCORES = (*METRICS, "Acc")


def title_of(name: str) -> str:
    """A scenario or class as printed."""
    return name.replace("_", " ")


def differences(rows: Mapping[str, Sequence[Difference]]) -> Figure:
    """Paired differences with their intervals, a panel a metric, a row a rival."""
    metrics = [difference.metric for difference in next(iter(rows.values()))]
    figure, (panels,) = style.grid(1, len(metrics), 0.9 + 0.45 * len(rows), sharey=True)
    for i, (panel, metric) in enumerate(zip(panels, metrics, strict=True)):
        for y, of_rival in enumerate(rows.values()):
            difference = of_rival[i]
            color = style.COLORS[difference.rival]
            folds = difference.by_fold
            panel.plot(folds, np.full(len(folds), y), "|", color="#999999", markersize=7)
            if not np.isnan(difference.low):
                panel.plot([difference.low, difference.high], [y, y], color=color, linewidth=3)
            panel.plot(
                difference.mean, y, style.MARKERS[difference.rival], color=color, markersize=7
            )
        panel.axvline(0, color="#444444", linewidth=0.8)
        panel.set(title=metric, xlabel="difference", ylim=(len(rows) - 0.5, -0.5))
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="y", visible=False)
    labels = [f"over {APPROACHES[own[0].rival].title}" for own in rows.values()]
    panels[0].set_yticks(range(len(rows)), labels)
    return figure


def class_distributions(counts: pd.DataFrame) -> Figure:
    """Fig. 4: training images of each class, the largest first, a panel a scenario.

    Args:
        counts: a row a (scenario, ratio), a column a position; means over folds.
    """
    scenarios = _scenarios(counts)
    columns = min(2, len(scenarios))
    rows = -(-len(scenarios) // columns)
    figure, panels = style.grid(rows, columns, 0.5 + 1.8 * rows, sharey=True)
    flat = _flat(panels, len(scenarios))
    ratios = sorted(counts.index.unique("ratio"))
    for panel, scenario in zip(flat, scenarios, strict=True):
        own = counts.loc[scenario]
        width = 0.8 / len(own)
        for i, (ratio, line) in enumerate(own.iterrows()):
            x = np.arange(len(line)) + 1 + (i - (len(own) - 1) / 2) * width
            color = style.OTHERS[ratios.index(ratio) % len(style.OTHERS)]
            panel.bar(x, line, width, color=color, label=f"ratio {ratio:g}")
        panel.set(title=title_of(scenario), xlabel="class, the largest first")
        panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        panel.grid(axis="x", visible=False)
    for row in panels:
        row[0].set_ylabel("training images")
    _legend(figure, flat)
    return figure


def images_by_ratio(totals: pd.Series) -> Figure:
    """Fig. 5: training images of a partition against the ratio, a line a scenario.

    Args:
        totals: by (scenario, ratio); means over folds.
    """
    figure, ((panel,),) = style.grid(1, 1, 2.6)
    for scenario in _scenarios(totals):
        i = SCENARIOS.index(scenario)
        line = _with_original(totals, scenario)
        panel.plot(
            line.index,
            line,
            style.OTHER_MARKERS[i] + ("-" if len(line) > 1 else ""),
            color=style.OTHERS[i],
            label=title_of(scenario),
        )
    _ratio_axis(panel, totals)
    panel.set(ylabel="training images of a partition", ylim=(0, None))
    panel.legend(loc="lower left", ncols=2)
    return figure


def metrics_by_ratio(frame: pd.DataFrame, approaches: Sequence[str]) -> Figure:
    """Fig. 6: the four metrics against the ratio, a row of panels a scenario.

    With one ratio there are no lines. Bars span the folds, from the lowest to the highest, where
    they can be told apart: for one approach, or at one ratio.

    Args:
        frame: as `tables.metrics_frame` returns it.
        approaches: those to draw.
    """
    by_cell = frame[frame["approach"].isin(approaches)].groupby(["approach", "scenario", "ratio"])
    cells = by_cell[list(_SCORES)].agg(["mean", "min", "max"])
    scenarios = _scenarios(cells)
    figure, panels = style.grid(
        len(scenarios), len(_SCORES), 0.7 + 1.55 * len(scenarios), sharex=True, sharey="col"
    )
    ratios = sorted(cells.index.unique("ratio"))
    # Side by side, for points and bars to be told apart, and within a ratio's own room.
    step = 0.8 * min(np.diff(ratios), default=2) / len(approaches)
    for row, scenario in zip(panels, scenarios, strict=True):
        for panel, metric in zip(row, _SCORES, strict=True):
            for i, approach in enumerate(approaches):
                if approach not in cells.index.unique("approach"):
                    continue
                line = _with_original(cells.loc[approach][metric], scenario)
                x = line.index + step * (i - (len(approaches) - 1) / 2)
                color = style.COLORS[approach]
                if len(approaches) == 1 or len(ratios) == 1:
                    panel.vlines(x, line["min"], line["max"], color=color, linewidth=0.8)
                panel.plot(
                    x,
                    line["mean"],
                    style.MARKERS[approach],
                    linestyle=style.line_of(approach) if len(line) > 1 else "",
                    color=color,
                    label=APPROACHES[approach].title,
                )
            _ratio_axis(panel, cells, label=row is panels[-1])
            panel.set_title(metric if row is panels[0] else "")
        row[0].set_ylabel(title_of(scenario))
    _legend(figure, [panels[0][0]])
    return figure


def spread(frame: pd.DataFrame) -> Figure:
    """Every partition's score as a tick, the mean as a marker; a panel a metric."""
    frame = frame[frame["ratio"] > 1]
    names = [name for name in APPROACHES if name in set(frame["approach"])]
    figure, (panels,) = style.grid(1, len(METRICS), 0.8 + 0.28 * len(names), sharey=True)
    for panel, metric in zip(panels, METRICS, strict=True):
        for y, name in enumerate(names):
            scores = frame.loc[frame["approach"] == name, metric]
            color = style.COLORS[name]
            panel.plot(scores, np.full(len(scores), y), "|", color=color, alpha=0.6, markersize=8)
            panel.plot(
                scores.mean(),
                y,
                style.MARKERS[name],
                color=color,
                markersize=8,
                markeredgecolor="white",
                markeredgewidth=0.6,
            )
        panel.set(title=metric, xlabel="score")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(names)), [APPROACHES[name].title for name in names])
    panels[0].invert_yaxis()
    return figure


def both_test_folds(imbalanced: pd.Series, balanced: pd.Series) -> Figure:
    """Mean scores with the test fold imbalanced (filled) and balanced (open), a panel a metric.

    Args:
        imbalanced: by (approach, metric).
        balanced: likewise.
    """
    names = list(imbalanced.index.unique("approach"))
    figure, (panels,) = style.grid(1, len(_SCORES), 1.15 + 0.28 * len(names), sharey=True)
    for panel, metric in zip(panels, _SCORES, strict=True):
        for y, name in enumerate(names):
            one, other = imbalanced[name, metric], balanced[name, metric]
            color, marker = style.COLORS[name], style.MARKERS[name]
            panel.plot([one, other], [y, y], color=color, linewidth=1)
            panel.plot(one, y, marker, color=color, markersize=6)
            panel.plot(other, y, marker, color=color, markersize=6, markerfacecolor="white")
        panel.set(title=metric, xlabel="mean score")
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(names)), [APPROACHES[name].title for name in names])
    panels[0].invert_yaxis()
    handles = [
        Line2D([], [], marker="o", linestyle="", color="#444444", label="imbalanced"),
        Line2D([], [], marker="o", linestyle="", color="#444444", markerfacecolor="white"),
    ]
    figure.legend(handles, ["imbalanced", "balanced"], loc="outside lower center", ncols=2)
    return figure


def critical_differences(tests: Mapping[str, RankTest]) -> Figure:
    """A critical-difference diagram a metric (Demšar, 2006)."""
    approaches = len(next(iter(tests.values())).ranks)
    height = 0.75 + 0.14 * approaches
    figure, panels = style.grid(len(tests), 1, height * len(tests))
    for (panel,), (metric, test) in zip(panels, tests.items(), strict=True):
        named = {name: APPROACHES[name].title for name in test.ranks.index}
        drawn = scikit_posthocs.critical_difference_diagram(
            test.ranks.rename(named),
            test.p_values.rename(index=named, columns=named),
            ax=panel,
            label_fmt_left="{label} ({rank:.2f})",
            label_fmt_right="({rank:.2f}) {label}",
            label_props={"fontsize": 8},
            crossbar_props={"color": "#444444", "linewidth": 2.5},
            marker_props={"s": 22},
            elbow_props={"linewidth": 1},
            text_h_margin=0.05,
            color_palette={named[name]: style.COLORS[name] for name in test.ranks.index},
        )
        for (bar,) in drawn["crossbars"]:
            bar.set_xdata(sorted(bar.get_xdata()))  # drawn in the order of a set: by chance
        for label in panel.texts:
            label.set_color("black")  # light colours cannot be read as text
        distance = critical_difference(approaches, test.blocks)
        panel.set_title(
            f"{metric}: average rank over {test.blocks} blocks, critical difference {distance:.2f}",
            loc="left",
        )
        panel.grid(visible=False)
    return figure


def recall_by_size(recalls: pd.DataFrame) -> Figure:
    """Recall of classes against their training images, a panel a space, the baseline in each.

    Args:
        recalls: columns approach, images, recall: means of classes of about one size.
    """
    spaces = {"is": "image space", "fs": "feature space", "ts": "two stages"}
    figure, (panels,) = style.grid(1, len(spaces), 3.0, sharey=True)
    for panel, (prefix, space) in zip(panels, spaces.items(), strict=True):
        for name in APPROACHES:
            own = recalls[recalls["approach"] == name]
            if name.partition("_")[0] not in ("baseline", prefix) or own.empty:
                continue
            panel.plot(
                own["images"],
                own["recall"],
                style.MARKERS[name],
                linestyle=style.line_of(name),
                color=style.COLORS[name],
                label=APPROACHES[name].title,
            )
        panel.set(title=space, xscale="log", xlabel="training images of the class", ylim=(0, 1.02))
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_minor_formatter(NullFormatter())
        if panel.lines:
            panel.legend(loc="lower right", fontsize=7)
    panels[0].set_ylabel("recall")
    return figure


def learning_curves(
    stage1: Mapping[str, Float[np.ndarray, "epochs 2"]],
    stage2: Mapping[str, Float[np.ndarray, "epochs 2"]],
) -> Figure:
    """Mean training loss and accuracy of each epoch, a row a stage.

    Args:
        stage1: by approach; one for each network, of those that share it.
        stage2: by approach; empty where no approach has a stage 2.
    """
    stages = {"stage 1": stage1, "stage 2": stage2}
    stages = {title: curves for title, curves in stages.items() if curves}
    figure, panels = style.grid(len(stages), 2, 2.1 * len(stages) + 0.2, sharex=True)
    for row, (title, curves) in zip(panels, stages.items(), strict=True):
        for panel, column in zip(row, (0, 1), strict=True):
            for name, curve in curves.items():
                panel.plot(
                    np.arange(1, len(curve) + 1),
                    curve[:, column],
                    style.MARKERS[name],
                    linestyle=style.line_of(name),
                    markersize=3.5,
                    color=style.COLORS[name],
                    label=APPROACHES[name].title,
                )
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set_title(f"{title}: training {('loss', 'accuracy')[column]}")
        row[0].set_ylabel("cross-entropy (nats)")
        row[1].set_ylabel("share of samples")
        row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    return figure


def costs(groups: pd.DataFrame) -> Figure:
    """Device time of both stages, and training speed of every cell, by image sampler.

    Args:
        groups: columns sampler (an approach that it is shown as), stage1, features, stage2
            (seconds) and images_per_second; a row a cell of the study.
    """
    names = list(groups["sampler"].unique())
    figure, ((left, right),) = style.grid(1, 2, 0.9 + 0.36 * len(names), sharey=True)
    start = np.zeros(len(names))
    phases = {"stage1": "stage 1", "features": "features", "stage2": "stage 2"}
    for (phase, label), color in zip(phases.items(), style.OTHERS, strict=False):
        minutes = groups.groupby("sampler", sort=False)[phase].sum()[names].to_numpy() / 60
        left.barh(range(len(names)), minutes, left=start, color=color, label=label, height=0.6)
        start += minutes
    for y, name in enumerate(names):
        speed = groups.loc[groups["sampler"] == name, "images_per_second"]
        color = style.COLORS[name]
        right.plot(speed, np.full(len(speed), y), style.MARKERS[name], color=color, alpha=0.8)
    titles = [APPROACHES[name].title.removeprefix("IS ") for name in names]
    left.set_yticks(range(len(names)), ["no resampling" if t == "Baseline" else t for t in titles])
    left.invert_yaxis()
    left.set(title="device time by image sampler", xlabel="minutes")
    right.set(title="stage 1, a point a cell", xlabel="training images a second", xlim=(0, None))
    for panel in (left, right):
        panel.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _scenarios(table: pd.DataFrame | pd.Series) -> list[str]:
    there = table.index.unique("scenario")
    return [scenario for scenario in SCENARIOS if scenario in there]


def _with_original(table: pd.DataFrame | pd.Series, scenario: str) -> pd.DataFrame | pd.Series:
    """A scenario's values by ratio; ratio 1, where it was run, belongs to all scenarios."""
    parts = [
        table.xs(name, level="scenario")
        for name in ("original", scenario)
        if name in table.index.unique("scenario")
    ]
    return pd.concat(parts).sort_index()


def _ratio_axis(panel: Axes, table: pd.DataFrame | pd.Series, label: bool = True) -> None:
    ratios = sorted(table.index.unique("ratio"))
    panel.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
    panel.set_xlim(ratios[0] - 1, ratios[-1] + 1)
    if label:
        panel.set_xlabel("imbalance ratio")


def _flat(panels: list[list[Axes]], count: int) -> list[Axes]:
    """The panels in reading order; those that are left over are removed."""
    flat = [panel for row in panels for panel in row]
    for panel in flat[count:]:
        panel.remove()
    return flat[:count]


def _legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend below all panels, each entry once."""
    entries = {
        label: handle
        for panel in panels
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(5, len(entries))
    )
