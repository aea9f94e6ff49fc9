"""Section part: what the study cost in time, by network and cell, by approach and family."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from twostage_jax.report import charts, training_charts
from twostage_jax.report.blocks import Block, Picture, Table, Text, make_table
from twostage_jax.report.learning import is_corrected_copy, networks
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import FAMILIES, Approach
from twostage_jax.study.record import Record

_TITLES = {"stage1": "Stage 1", "features": "Features", "stage2": "Stage 2"}
_PHASES = [*_TITLES]


def blocks(results: Results) -> list[Block]:
    """Returns a picture, a sentence on the whole study, and the tables of costs."""
    cells = cost_of_cells(results.done, results.approaches)
    unit, columns, speed_of = "cell", "scenario ratio:0 ", "stage 1, one point per cell"
    if results.as_found:
        unit, columns, speed_of = "network", "", "training speed of stage 1"
    return [
        Picture(
            "cost",
            "Time and speed",
            "Left: device time of the networks of each kind and of the heads on them. "
            "Right: training speed of stage 1; the first networks of a process include its "
            "compilation.",
            training_charts.costs(cells, results.looks, speed_of),
        ),
        Text((_summary(results.done, cells),)),
        *_relative(results),
        make_table(
            "cost",
            f"Time of each {unit}",
            "Seconds of wall time on one device, compilation included. Images/s: training images "
            "per second of stage 1. A network that approaches share counts once.",
            cells.assign(scenario=cells["scenario"].map(charts.title_of)),
            f"title {columns}networks:0 heads:0 stage1:1 features:1 stage2:1 images_per_second:0",
            {
                "title": "Network",
                "ratio": "IR",
                **{phase: f"{title} (s)" for phase, title in _TITLES.items()},
                "images_per_second": "Images/s",
            },
            folded=True,
        ),
    ]


def _relative(results: Results) -> list[Table]:
    """Returns the costs of families and of approaches; nothing without a baseline."""
    made = cost_of_approaches(results.counted_records, results.approaches)
    if not len(made):
        return []
    unit = results.words.partition
    families = made.groupby("family", sort=False).agg(
        approaches=("title", "size"), ratio=("ratio", "median"), extra=("extra", "median")
    )
    families = families.reindex([family for family in FAMILIES if family in families.index])
    families = families.rename(index=dict(FAMILIES)).reset_index()
    headings = {"title": "Approach", "ratio": "Whole", "extra": "Beyond the baseline's network"}
    headings |= {name: f"{title} (s)" for name, title in _TITLES.items()}
    told = (
        f"Device time per {unit}, as a multiple of the baseline's. Whole: a network that "
        "approaches share counts fully for each. Beyond the baseline's network: what an approach "
        "adds where that network is there anyway. The baseline's time includes the features of the "
        "training images if any head needs them."
    )
    then = "" if results.as_found else ", then means over scenarios and ratios"
    return [
        make_table(
            "cost-of-families",
            "Cost of each family relative to the baseline",
            f"{told} Medians over the approaches of the family.",
            families,
            "family approaches:0 ratio:2 extra:2",
            headings,
        ),
        make_table(
            "cost-of-approaches",
            "Cost of each approach relative to the baseline",
            f"{told} Seconds: medians over the {results.words.fold}s, because the first network "
            f"of a process includes compilation{then}. Heads that train at once have equal parts "
            "of their time; features include the predictions.",
            made.assign(family=made["family"].map(FAMILIES)),
            "title family stage1:1 features:1 stage2:1 ratio:2 extra:2",
            headings,
            folded=True,
        ),
    ]


def cost_of_approaches(
    records: Iterable[Record], approaches: Mapping[str, Approach]
) -> pd.DataFrame:
    """Returns what each approach costs per partition, and as a multiple of the baseline's cost.

    Times of a (scenario, ratio) are medians over its folds. An approach is compared with the
    baseline on the scenarios and ratios that both have.

    Args:
        records: finished records.
        approaches: at least those of the records, by name, in the order of tables.

    Returns:
        Columns approach, title, family, stage1, features, stage2 (seconds), ratio (of the sum to
        the baseline's) and extra (likewise, without what the baseline's network costs if the
        approach uses that). No rows without a baseline, or where that took no time.
    """
    rows = [
        (r.key.approach, r.key.scenario, r.key.ratio, *map(_seconds(r), _PHASES)) for r in records
    ]
    frame = pd.DataFrame(rows, columns=["approach", "scenario", "ratio", *_PHASES])
    cells = frame.groupby(["approach", "scenario", "ratio"])[_PHASES].median()
    there = {name: approaches[name] for name in approaches if name in cells.index}
    plain = next((name for name, approach in there.items() if approach.is_plain), None)
    made = []
    for name, approach in there.items() if plain is not None else ():
        both = cells.loc[name].index.intersection(cells.loc[plain].index)
        own, base = cells.loc[name].loc[both].mean(), cells.loc[plain].loc[both].mean().sum()
        if not base > 0:
            continue
        extra = own.copy()
        if approach.stage1 == approaches[plain].stage1:
            extra["stage1"] = 0
            extra["features"] *= approach.stage2 is not None
        both_ratios = {"ratio": own.sum() / base, "extra": extra.sum() / base}
        labels = {"approach": name, "title": approach.title, "family": approach.family}
        made.append(labels | own.to_dict() | both_ratios)
    return pd.DataFrame(made)


def cost_of_cells(records: Iterable[Record], approaches: Mapping[str, Approach]) -> pd.DataFrame:
    """Sums what each cell of the study cost: a (scenario, ratio, network) over the folds.

    A network that approaches share is counted once, each head by itself.

    Args:
        records: finished records, sorted by key.
        approaches: at least those of the records, by name, in the order of tables.

    Returns:
        Columns scenario, ratio, network (the approach that stands for it), title (of the network),
        networks, heads, stage1, features, stage2 (seconds), images (passes of stage 1) and
        images_per_second (of stage 1); sorted by network.
    """
    shown = networks(approaches)
    rows = []
    for record in records:
        approach = approaches[record.key.approach]
        trained = not is_corrected_copy(approach, approaches)
        rows.append(
            {
                **dataclasses.asdict(record.key),
                "network": shown[approach.stage1],
                "title": approach.stage1.title,
                "networks": 1,
                "heads": trained * int(len(record.curve2) > 0),
                **{phase: _seconds(record)(phase) for phase in _PHASES},
                "images": record.images.get("stage1", 0),
            }
        )
        rows[-1]["stage2"] *= trained
    frame = pd.DataFrame(rows)
    of_network = ["networks", "stage1", "features", "images"]
    frame.loc[frame.duplicated(["scenario", "ratio", "fold", "network"]), of_network] = 0
    cell = ["scenario", "ratio", "network", "title"]
    cells = frame.drop(columns=["fold", "approach"]).groupby(cell, sort=False).sum()
    speed = cells["images"] / cells["stage1"].where(cells["stage1"] > 0)
    cells = cells.assign(images_per_second=speed).reset_index()
    order = list(approaches)
    return cells.sort_values("network", key=lambda own: own.map(order.index), kind="stable")


def _seconds(record: Record) -> Callable[[str], float]:
    return lambda phase: record.seconds.get(phase, 0.0)


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
