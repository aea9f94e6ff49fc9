"""What the paper does not show: tests, classes, errors, learning, features and cost."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Float

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.statistics import (
    PROPOSED,
    rank_test,
    scores_by_fold,
    scores_by_partition,
)
from twostage_jax.evaluation.tables import METRICS, Cell, Matrices, Sheet, csv
from twostage_jax.report import charts, pictures
from twostage_jax.report.blocks import (
    Block,
    Confusions,
    Notice,
    Picture,
    Section,
    Table,
    Text,
    make_table,
)
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.record import Record, RecordKey

_SIZE_BINS = 6


def section(results: Results) -> Section:
    """Everything that the records hold and the paper does not print."""
    blocks: list[Block] = []
    imbalanced = results.scores[results.scores["ratio"] > 1]
    if len(imbalanced):
        blocks += _ranks(imbalanced)
        blocks.append(
            Picture(
                "approaches-by-ratio",
                "All approaches against the imbalance ratio",
                "Means over the folds, the approaches side by side at each ratio; with one ratio, "
                "bars span the folds. The spread of all follows.",
                charts.metrics_by_ratio(results.scores, results.approaches),
            )
        )
        blocks.append(
            Picture(
                "spread",
                "Spread over the folds",
                "A tick a partition, a marker at the mean.",
                charts.spread(imbalanced),
            )
        )
        blocks += _test_folds(results)
        blocks += _recall(results)
    if results.done:
        blocks += [_confusions(results), _learning(results.done)]
    blocks += _features(results)
    if results.done:
        blocks += _costs(results.done)
    return Section("beyond", "What the paper does not have", blocks)


def _ranks(frame: pd.DataFrame) -> list[Block]:
    """Critical-difference diagrams and their p-values, over folds and over partitions."""
    by_partition = {metric: scores_by_partition(frame, metric) for metric in METRICS}
    units = {
        "folds": {metric: scores_by_fold(scores) for metric, scores in by_partition.items()},
        "partitions": by_partition,
    }
    readings = {
        "folds": "A block is a fold, its score the mean over its partitions: the unit that comes "
        "closest to independent. With few folds only large differences can show.",
        "partitions": "A block is a partition, as is usual and as Table II ranks. Partitions share "
        "images, so that this test is surer of itself than it should be.",
    }
    blocks: list[Block] = []
    p_values = []
    for unit, scores in units.items():
        tests = {metric: rank_test(own) for metric, own in scores.items()}
        if None in tests.values():
            continue
        friedman = ", ".join(f"{metric} {test.friedman:.2g}" for metric, test in tests.items())
        blocks.append(
            Picture(
                f"critical-differences-{unit}",
                f"Critical differences over {unit}",
                f"Average ranks, 1 is best; a bar joins approaches that Nemenyi's test at 5 % does "
                f"not tell apart. {readings[unit]} Friedman's test that all are alike, p: "
                f"{friedman}.",
                charts.critical_differences(tests),
            )
        )
        for metric, test in tests.items():
            others = [name for name in test.p_values.columns if name != PROPOSED]
            if PROPOSED in test.p_values:
                p_values += [
                    (unit, test.blocks, metric, APPROACHES[name].title, p)
                    for name, p in test.p_values.loc[PROPOSED, others].items()
                ]
    if not blocks:
        return [Notice("No test on ranks yet: it needs three approaches in two partitions.")]
    if p_values:
        columns = ["unit", "blocks", "metric", "rival", "p"]
        blocks.append(
            make_table(
                "nemenyi",
                f"{APPROACHES[PROPOSED].title} against each of the others: p-values",
                "Nemenyi's test, already corrected for all pairs of approaches.",
                pd.DataFrame(p_values, columns=columns),
                header={"unit": "Blocks", "metric": "Metric", "rival": "Rival", "p": "p"},
                decimals={"p": 4},
                small={"p"},
                folded=True,
            )
        )
    return blocks


def _test_folds(results: Results) -> list[Block]:
    """Scores with the test fold balanced beside imbalanced."""
    names = [*METRICS, "Acc"]

    def means(frame: pd.DataFrame) -> pd.Series:
        own = frame[frame["ratio"] > 1].groupby("approach")[names].mean()
        stacked = own.reindex(results.approaches).dropna().stack()
        return stacked.rename_axis(["approach", "metric"])

    one, other = means(results.imbalanced.metrics), means(results.balanced.metrics)
    table = pd.DataFrame({"imbalanced": one, "balanced": other}).reset_index()
    table["difference"] = table["balanced"] - table["imbalanced"]
    table.insert(1, "title", [APPROACHES[name].title for name in table["approach"]])
    return [
        Picture(
            "test-folds",
            "The test fold imbalanced and balanced",
            "Mean scores of the same predictions: filled where the test fold carries the "
            "partition's imbalance (as in the paper), open where it is whole. Recall does not "
            "depend on class sizes, CBA and Acc do; whole folds have more samples of rare classes "
            "and therefore less noise.",
            charts.both_test_folds(one, other),
        ),
        make_table(
            "test-folds",
            "Scores on both test folds",
            "Means over all partitions above ratio 1.",
            table,
            header={
                "title": "Approach",
                "metric": "Metric",
                "imbalanced": "Imbalanced",
                "balanced": "Balanced",
                "difference": "Difference",
            },
            decimals={"imbalanced": 4, "balanced": 4, "difference": 4},
            folded=True,
        ),
    ]


def recall_by_size(records: list[Record], matrices: Matrices) -> pd.DataFrame:
    """Mean recall of classes of about one size, in six bins of equal width in the logarithm.

    Args:
        records: done ones.
        matrices: of their whole test folds.

    Returns:
        Columns approach, images (mean training images of the classes in the bin), recall, classes
        (how many there are in the bin), by approach and size.
    """
    parts = [
        pd.DataFrame(
            {
                "approach": record.key.approach,
                "images": record.class_counts.astype(np.float64),
                "recall": metrics.recalls(matrices[record.key]),
            }
        )
        for record in records
        if record.key.ratio > 1
    ]
    long = pd.concat(parts, ignore_index=True)
    sizes = np.log(long["images"])
    # Edges are drawn a little outward, so that the smallest and the largest fall into a bin.
    edges = np.linspace(sizes.min() - 1e-9, sizes.max() + 1e-9, _SIZE_BINS + 1)
    long["bin"] = np.searchsorted(edges, sizes)
    grouped = long.groupby(["approach", "bin"], sort=False)
    means = grouped[["images", "recall"]].mean().assign(classes=grouped.size()).reset_index()
    order = means["approach"].map(list(APPROACHES).index)
    means = means.assign(order=order).sort_values(["order", "bin"])
    return means.drop(columns=["order", "bin"]).reset_index(drop=True)


def _recall(results: Results) -> list[Block]:
    recalls = recall_by_size(results.done, results.balanced.matrices)
    titled = recalls.assign(title=recalls["approach"].map(lambda name: APPROACHES[name].title))
    return [
        Picture(
            "recall-by-class-size",
            "Recall of a class against its size",
            "Each marker: the mean recall of all classes of about that many training images, over "
            "all partitions above ratio 1, on whole test folds. What resampling gives to rare "
            "classes, it may take from frequent ones.",
            charts.recall_by_size(recalls),
        ),
        make_table(
            "recall-by-class-size",
            "Recall by class size",
            "Classes: how many classes of partitions a mean is over.",
            titled,
            header={
                "title": "Approach",
                "images": "Training images",
                "recall": "Recall",
                "classes": "Classes",
            },
            decimals={"images": 0, "recall": 3, "classes": 0},
            folded=True,
        ),
    ]


def _confusions(results: Results) -> Confusions:
    """All confusion matrices, for the reader to choose; TS SMOTE+RUS at first, if it is there."""
    imbalanced, balanced = results.imbalanced.matrices, results.balanced.matrices
    cells = list(dict.fromkeys((key.scenario, key.ratio) for key in imbalanced))
    sizes = {record.key: record.class_counts.tolist() for record in results.done}
    counts: dict[str, dict[str, dict]] = {}
    for key, matrix in imbalanced.items():
        cell = f"{key.approach}/{cells.index((key.scenario, key.ratio))}"
        counts.setdefault(cell, {})[str(key.fold)] = {
            "imbalanced": matrix.ravel().tolist(),
            "balanced": balanced[key].ravel().tolist(),
            "sizes": sizes[key],
        }
    names = results.approaches
    approach = PROPOSED if PROPOSED in names else names[-1]
    scenario, ratio = next(
        (key.scenario, key.ratio) for key in imbalanced if key.approach == approach
    )
    chosen = [
        matrix
        for key, matrix in imbalanced.items()
        if (key.approach, key.scenario, key.ratio) == (approach, scenario, ratio)
    ]
    title = f"{APPROACHES[approach].title}, {charts.title_of(scenario)}, ratio {ratio:g}, all folds"
    data = {
        "classes": [charts.title_of(name) for name in results.classes],
        "approaches": {name: APPROACHES[name].title for name in names},
        "cells": [f"{charts.title_of(scenario)}, ratio {ratio:g}" for scenario, ratio in cells],
        "counts": counts,
        "approach": approach,
        "cell": cells.index((scenario, ratio)),
    }
    both = {"imbalanced": imbalanced, "balanced": balanced}
    sheet = _confusion_sheet(title, sum(chosen), data["classes"])
    return Confusions(data, sheet, _confusion_csv(both, data["classes"]))


def _confusion_csv(both: Mapping[str, Matrices], classes: list[str]) -> str:
    """All matrices: a row a true class, a column a predicted one."""
    rows = [
        (*dataclasses.astuple(key), test, name, *line)
        for test, matrices in both.items()
        for key, matrix in matrices.items()
        for name, line in zip(classes, matrix, strict=True)
    ]
    names = [*(field.name for field in dataclasses.fields(RecordKey)), "test_fold", "true_class"]
    predicted = [f"predicted as {name}" for name in classes]
    return csv(pd.DataFrame(rows, columns=names + predicted), {})


def _confusion_sheet(title: str, matrix: metrics.Matrix, classes: list[str]) -> Sheet:
    rows = [
        [Cell(name), *(Cell(str(count), i == j) for j, count in enumerate(line))]
        for i, (name, line) in enumerate(zip(classes, matrix, strict=True))
    ]
    return Sheet(title, ["true class", *classes], 1, rows)


def _learning(records: list[Record]) -> Picture:
    """Mean curves over all partitions; networks that approaches share are drawn once."""

    def means(name_of: Mapping[str, str], field: str) -> dict[str, Float[np.ndarray, "epochs 2"]]:
        return {
            title: np.mean([getattr(r, field) for r in own], axis=0)
            for name, title in name_of.items()
            if (own := [r for r in records if r.key.approach == name and len(getattr(r, field))])
        }

    there = {record.key.approach for record in records}
    heads = {name: name for name, a in APPROACHES.items() if a.two_stages and name in there}
    return Picture(
        "learning-curves",
        "Learning curves of both stages",
        "Training loss and accuracy of each epoch on the resampled data, means over all "
        "partitions. Stage 1 is shared: FS approaches go on from the baseline's network, TS "
        "approaches from that of IS SMOTE.",
        charts.learning_curves(means(_networks(there), "curve1"), means(heads, "curve2")),
    )


def _networks(approaches: set[str]) -> dict[str, str]:
    """For each image sampler an approach whose records tell of its network, and how it is shown."""
    chosen: dict[str | None, str] = {}
    for name, approach in APPROACHES.items():
        if name in approaches:
            chosen.setdefault(approach.image_sampler, name)
    return {name: _shown_as(sampler) for sampler, name in chosen.items()}


def _shown_as(sampler: str | None) -> str:
    """The approach in whose colour the networks of an image sampler are drawn."""
    return next(name for name, a in APPROACHES.items() if a.image_sampler == sampler)


def _features(results: Results) -> list[Block]:
    exhibit = results.features
    if exhibit is None:
        return [
            Notice(
                "The map of features before and after stage 2 is absent: this folder holds no "
                "features. Start the study's last command (see Provenance) again: it trains one "
                "finished group once more and keeps them, and leaves all records as they are."
            )
        ]
    key = exhibit.key
    fresh = results.description.settings["fresh_head"]
    return [
        Picture(
            "feature-map",
            "Features before and after stage 2",
            f"{APPROACHES[key.approach].title}, {charts.title_of(key.scenario)}, ratio "
            f"{key.ratio:g}, fold {key.fold}: the whole test fold ({len(exhibit.label)} images) in "
            "the head's hidden layer (1,024 units after the ReLU). The features that stage 2 is "
            "trained on stay as they are, only the head moves, and this layer is what it moves. "
            "One principal component analysis of both panels together: their axes are the same."
            + (" Stage 2 began from a new head, whose units are other ones." if fresh else ""),
            pictures.feature_map(exhibit, results.classes),
        )
    ]


def cost_of_cells(records: list[Record]) -> pd.DataFrame:
    """What each cell of the study cost: a (scenario, ratio, image sampler) is one.

    A network that approaches share is counted once, each head by itself.

    Returns:
        Columns scenario, ratio, sampler (the approach it is shown as), networks, heads, stage1,
        features, stage2 (seconds) and images_per_second (of stage 1).
    """
    rows, seen = [], set()
    for record in records:
        key, approach = record.key, APPROACHES[record.key.approach]
        network = (key.scenario, key.ratio, key.fold, approach.image_sampler)
        new = network not in seen
        seen.add(network)
        rows.append(
            {
                "scenario": key.scenario,
                "ratio": key.ratio,
                "sampler": _shown_as(approach.image_sampler),
                "networks": int(new),
                "heads": int(approach.two_stages),
                "stage1": record.seconds.get("stage1", 0.0) * new,
                "features": record.seconds.get("features", 0.0) * new,
                "stage2": record.seconds.get("stage2", 0.0),
                "images": record.images.get("stage1", 0) * new,
            }
        )
    cells = pd.DataFrame(rows).groupby(["scenario", "ratio", "sampler"], sort=False).sum()
    speed = cells["images"] / cells["stage1"].where(cells["stage1"] > 0)
    return cells.assign(images_per_second=speed).drop(columns="images").reset_index()


def _costs(records: list[Record]) -> list[Block]:
    cells = cost_of_cells(records)
    order = list(APPROACHES)
    cells = cells.sort_values("sampler", key=lambda names: names.map(order.index), kind="stable")
    seconds = cells[["stage1", "features", "stage2"]].sum()
    devices = sorted({record.device for record in records})
    images = sum(record.images.get("stage1", 0) for record in _networks_once(records))
    text = (
        f"{seconds.sum() / 3600:.2f} device hours ({', '.join(devices)}; one device): "
        f"{seconds['stage1'] / 3600:.2f} h stage 1, {seconds['features'] / 3600:.2f} h features, "
        f"{seconds['stage2'] / 3600:.2f} h stage 2. {cells['networks'].sum():,} networks and "
        f"{cells['heads'].sum():,} heads; {images:,} images forward and backward through networks"
    )
    if seconds["stage1"]:
        text += f", {images / seconds['stage1']:,.0f} a second"
    titled = cells.assign(
        scenario=cells["scenario"].map(charts.title_of),
        sampler=[(APPROACHES[n].image_sampler or "").upper() or "none" for n in cells["sampler"]],
    )
    table: Table = make_table(
        "cost",
        "Time of each cell",
        "Seconds of wall time on one device, compilation included; Images/s: training images "
        "through stage 1 a second. A network that approaches share counts once.",
        titled,
        header={
            "sampler": "Image sampler",
            "scenario": "Scenario",
            "ratio": "IR",
            "networks": "Networks",
            "heads": "Heads",
            "stage1": "Stage 1 (s)",
            "features": "Features (s)",
            "stage2": "Stage 2 (s)",
            "images_per_second": "Images/s",
        },
        decimals={
            "ratio": 0,
            "networks": 0,
            "heads": 0,
            "stage1": 1,
            "features": 1,
            "stage2": 1,
            "images_per_second": 0,
        },
        folded=True,
    )
    picture = Picture(
        "cost",
        "Time and speed",
        "Left: device time of the networks of each image sampler and of the heads on them. Right: "
        "training speed of stage 1; the first networks of a process include its compilation.",
        charts.costs(cells),
    )
    return [picture, Text((text + ".",)), table]


def _networks_once(records: list[Record]) -> list[Record]:
    once = {}
    for record in records:
        sampler = APPROACHES[record.key.approach].image_sampler
        once.setdefault((record.key.scenario, record.key.ratio, record.key.fold, sampler), record)
    return list(once.values())
