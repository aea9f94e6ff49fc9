"""Charts of training, one function each: curves and costs in, a figure out; no file is read."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from twostage_jax.report import charts, style
from twostage_jax.study.approaches import FAMILIES


def learning_curves(
    stage1: charts.Curves,
    stage2: charts.Curves,
    looks: charts.Looks,
    unit: str = "cross-entropy (nats)",
) -> Figure:
    """Draws mean training loss and accuracy of each epoch, one row of panels per stage.

    A stage of more than twelve curves has one row per family, the baseline in each.

    Args:
        stage1: curves by the approach that stands for the network.
        stage2: curves by approach; empty if no approach has a stage 2.
        looks: how to draw them.
        unit: of the loss.
    """
    rows = []
    for stage, curves in (("stage 1", stage1), ("stage 2", stage2)):
        if len(curves) > charts.MANY:
            families = charts.by_family(curves, looks).items()
            rows += [(f"{stage}, {FAMILIES[f]}", curves, own) for f, own in families]
        elif curves:
            rows.append((stage, curves, list(curves)))
    heights = [max(2.1, style.beside(names)) for _, _, names in rows]
    options = {"sharex": True, "height_ratios": heights}
    figure, panels = style.grid(len(rows), 2, sum(heights) + 0.2, **options)
    columns = {"loss": unit, "accuracy": "share of samples"}
    for row, (title, curves, names) in zip(panels, rows, strict=True):
        for i, (panel, (what, ylabel)) in enumerate(zip(row, columns.items(), strict=True)):
            for name in names:
                drawn = looks[name].lines() | {"markersize": 3.5, "label": looks[name].title}
                epochs = np.arange(1, len(curves[name]) + 1)
                panel.plot(epochs, curves[name][:, i], **drawn)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
            panel.set(title=f"{title}: training {what}", ylabel=ylabel)
        row[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    return figure


def costs(
    cells: pd.DataFrame, looks: charts.Looks, speed_of: str = "stage 1, one point per cell"
) -> Figure:
    """Draws device time of both stages and training speed, by network.

    `cells` is as `costs.cost_of_cells` returns it: one row per cell. `speed_of` is the title of
    the panel with the speeds.
    """
    by_network = cells.groupby("network", sort=False)
    titles = by_network["title"].first().tolist()
    figure, ((left, right),) = style.grid(1, 2, 0.9 + 0.36 * len(titles), sharey=True)
    start = np.zeros(len(titles))
    phases = {"stage1": "stage 1", "features": "features", "stage2": "stage 2"}
    for (phase, label), color in zip(phases.items(), style.COLORS, strict=False):
        minutes = by_network[phase].sum().to_numpy() / 60
        left.barh(range(len(titles)), minutes, left=start, color=color, label=label, height=0.6)
        start += minutes
    for y, (name, speed) in enumerate(by_network["images_per_second"]):
        right.plot(
            speed, np.full(len(speed), y), **looks[name].lines(False), alpha=0.8, clip_on=False
        )
    left.set(title="device time by network", xlabel="minutes")
    right.set(title=speed_of, xlabel="training images/s", xlim=(0, None))
    style.name_rows([left, right], titles)
    figure.legend(loc="outside lower center", ncols=3)
    return figure
