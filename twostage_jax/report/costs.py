"""Section part: what the study cost in time, by network and cell."""

import dataclasses
from collections.abc import Iterable, Mapping

import pandas as pd

from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Picture, Text, make_table
from twostage_jax.report.learning import networks
from twostage_jax.report.results import Results
from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import Approach
from twostage_jax.study.record import Record

_PHASES = ["stage1", "features", "stage2"]


def blocks(results: Results) -> list[Block]:
    """Returns a picture, a sentence on the whole study and a table of all cells."""
    cells = cost_of_cells(results.done, results.approaches)
    unit, columns, speed_of = "cell", "scenario ratio:0 ", "stage 1, one point per cell"
    if results.as_found:
        unit, columns, speed_of = "network", "", "training speed of stage 1"
    return [
        Picture(
            "cost",
            "Time and speed",
            "Left: device time of the networks of each image sampler and of the heads on them. "
            "Right: training speed of stage 1; the first networks of a process include its "
            "compilation.",
            charts.costs(cells, results.looks, speed_of),
        ),
        Text((_summary(results.done, cells),)),
        make_table(
            "cost",
            f"Time of each {unit}",
            "Seconds of wall time on one device, compilation included. Images/s: training images "
            "per second of stage 1. A network that approaches share counts once.",
            cells.assign(scenario=cells["scenario"].map(charts.title_of)),
            f"sampler {columns}networks:0 heads:0 stage1:1 features:1 stage2:1 images_per_second:0",
            {
                "sampler": "Image sampler",
                "ratio": "IR",
                "stage1": "Stage 1 (s)",
                "features": "Features (s)",
                "stage2": "Stage 2 (s)",
                "images_per_second": "Images/s",
            },
            folded=True,
        ),
    ]


def cost_of_cells(records: Iterable[Record], approaches: Mapping[str, Approach]) -> pd.DataFrame:
    """Sums what each cell of the study cost: a (scenario, ratio, network) over the folds.

    A network that approaches share is counted once, each head by itself.

    Args:
        records: finished records, sorted by key.
        approaches: at least those of the records, by name, in the order of tables.

    Returns:
        Columns scenario, ratio, network (the approach that stands for it), sampler (title of its
        image sampler), networks, heads, stage1, features, stage2 (seconds), images (passes of
        stage 1) and images_per_second (of stage 1); sorted by network.
    """
    shown = networks(approaches)
    rows = []
    for record in records:
        stage1 = approaches[record.key.approach].stage1
        sampler = stage1.sampler or "none"
        rows.append(
            {
                **dataclasses.asdict(record.key),
                "network": shown[stage1],
                "sampler": SAMPLERS[sampler].title if sampler in SAMPLERS else sampler,
                "networks": 1,
                "heads": int(len(record.curve2) > 0),
                **{phase: record.seconds.get(phase, 0.0) for phase in _PHASES},
                "images": record.images.get("stage1", 0),
            }
        )
    frame = pd.DataFrame(rows)
    of_network = ["networks", "stage1", "features", "images"]
    frame.loc[frame.duplicated(["scenario", "ratio", "fold", "network"]), of_network] = 0
    cell = ["scenario", "ratio", "network", "sampler"]
    cells = frame.drop(columns=["fold", "approach"]).groupby(cell, sort=False).sum()
    speed = cells["images"] / cells["stage1"].where(cells["stage1"] > 0)
    cells = cells.assign(images_per_second=speed).reset_index()
    order = list(approaches)
    return cells.sort_values("network", key=lambda own: own.map(order.index), kind="stable")


def _summary(records: Iterable[Record], cells: pd.DataFrame) -> str:
    seconds, images = cells[_PHASES].sum(), cells["images"].sum()
    devices = ", ".join(sorted({record.device for record in records}))
    text = (
        f"{seconds.sum() / 3600:.2f} device hours ({devices}; one device): "
        f"{seconds['stage1'] / 3600:.2f} h stage 1, {seconds['features'] / 3600:.2f} h features, "
        f"{seconds['stage2'] / 3600:.2f} h stage 2. {cells['networks'].sum():,} networks and "
        f"{cells['heads'].sum():,} heads; {images:,} images forward and backward through networks"
    )
    if seconds["stage1"]:
        text += f", {images / seconds['stage1']:,.0f} per second"
    return text + "."
