"""Section part: scores with intervals, by ratio, their spread, and recall by class size."""

import numpy as np
import pandas as pd

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.conditions import CONDITIONS
from twostage_jax.evaluation.intervals import Interval, draw_folds, mean_over_folds
from twostage_jax.evaluation.sheets import Cell, Sheet, csv
from twostage_jax.evaluation.statistics import (
    BOOTSTRAP,
    FEWEST_FOLDS,
    scores_by_fold,
    scores_by_partition,
)
from twostage_jax.evaluation.tables import METRICS, Matrices
from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Picture, Table, make_table
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import position
from twostage_jax.study.record import Record

_SIZE_BINS = 6


def blocks(results: Results) -> list[Block]:
    """Returns the pictures and their tables, without those that need what a study lacks."""
    unit = results.words.partition
    by_ratio = [] if results.as_found else [_by_ratio(results)]
    spread = Picture(
        "spread",
        f"Spread over the {unit}s",
        f"One tick per {unit}; the marker is the mean.",
        charts.spread(results.counted, results.looks),
    )
    test_folds = [] if results.same_test_folds else _both_test_folds(results)
    table = [_with_intervals(results)] if results.calibrated else []
    return [*table, *by_ratio, spread, *test_folds, *_recall(results)]


def score_intervals(results: Results) -> dict[str, dict[str, Interval]]:
    """Returns the mean of each metric, ECE and NLL with their intervals, by approach.

    Only partitions in which all approaches have a score count.
    """
    by_fold = {m: scores_by_fold(scores_by_partition(results.counted, m)) for m in METRICS}
    draws = draw_folds(len(by_fold[METRICS[0]]))
    found: dict[str, dict[str, Interval]] = {}
    for name, calibrated in results.calibrated.items():
        own = {m: mean_over_folds(by_fold[m][name].to_numpy(), draws) for m in METRICS}
        as_predicted = calibrated[CONDITIONS[0]]
        found[name] = {**own, "ECE": as_predicted.ece, "NLL": as_predicted.nll}
    return found


def _with_intervals(results: Results) -> Table:
    found = score_intervals(results)
    columns = [*METRICS, "ECE", "NLL"]
    rows = [
        {"approach": name, "title": results.titles[name]}
        | {f"{m}{end}": value for m in columns for end, value in zip(_ENDS, own[m], strict=True)}
        for name, own in found.items()
    ]
    frame = pd.DataFrame(rows)
    best = {m: frame[m].round(3).agg("max" if m in METRICS else "min") for m in columns}
    cells = [
        [Cell(results.titles[name]), *(_cell(own[m], best[m]) for m in columns)]
        for name, own in found.items()
    ]
    units = f"{results.words.fold}s"
    images = "all test images" if results.as_found else "the imbalanced test folds"
    return Table(
        "score-intervals",
        f"Means over the {units}; in parentheses the interval, the "
        f"{BOOTSTRAP.replace('folds', units)}. ECE and NLL tell how far probabilities can be "
        f"trusted; lower is better. They are as predicted, of {images}, and the {units} of a "
        "resample are pooled before they are taken. Chance makes an ECE too high; its interval is "
        "shifted for that and cut at 0, and held in 83 to 98 % of simulated cases. With about ten "
        f"{units} all intervals are somewhat too narrow, with fewer than {FEWEST_FOLDS} they are "
        "coarse. Where the intervals of two approaches overlap, their difference "
        "may still be certain: the verdict pairs them. The best of each column is bold.",
        Sheet("Scores with intervals", ["Approach", *columns], 1, cells),
        csv(frame),
    )


_ENDS = ("", "_low", "_high")


def _cell(own: Interval, best: float) -> Cell:
    ends = "" if np.isnan(own.low) else f" ({own.low:.3f}–{own.high:.3f})"
    return Cell(f"{own.value:.3f}{ends}", best=round(own.value, 3) == best)


def _by_ratio(results: Results) -> Picture:
    return Picture(
        "approaches-by-ratio",
        "All approaches against the imbalance ratio",
        "Means over the folds; the approaches stand side by side at each ratio. With a single "
        "ratio, bars span the folds. The next figure shows the spread of all scores.",
        charts.metrics_by_ratio(results.scores, results.looks),
    )


def _both_test_folds(results: Results) -> list[Block]:
    names = [*METRICS, "Acc"]

    def means(frame: pd.DataFrame) -> pd.Series:
        own = frame.groupby("approach")[names].mean()
        stacked = own.reindex(results.looks).dropna().stack()
        return stacked.rename_axis(["approach", "metric"])

    one, other = means(results.imbalanced.counted), means(results.balanced.counted)
    table = pd.DataFrame({"imbalanced": one, "balanced": other}).reset_index()
    table["difference"] = table["balanced"] - table["imbalanced"]
    table.insert(1, "title", [results.titles[name] for name in table["approach"]])
    return [
        Picture(
            "test-folds",
            "Imbalanced and balanced test folds",
            "Mean scores of the same predictions. Filled: the test fold carries the partition's "
            "imbalance, as in the paper. Open: the test fold is whole. Recall does not depend on "
            "class sizes, CBA and Acc do. Whole folds have more samples of rare classes and "
            "therefore less noise.",
            charts.both_test_folds(one, other, results.looks),
        ),
        make_table(
            "test-folds",
            "Scores on both test folds",
            f"Means over {_all(results)}.",
            table,
            "title metric imbalanced:4 balanced:4 difference:4",
            {"title": "Approach"},
            folded=True,
        ),
    ]


def _recall(results: Results) -> list[Block]:
    recalls = recall_by_size(results.counted_records, results.balanced.matrices)
    titles = [results.titles[name] for name in recalls["approach"]]
    whole = "" if results.as_found else ", on whole test folds"
    return [
        Picture(
            "recall-by-class-size",
            "Recall of a class against its size",
            "Each marker is the mean recall of all classes of about that many training images, "
            f"over {_all(results)}{whole}. What resampling gives to rare "
            "classes, it may take from frequent ones.",
            charts.recall_by_size(recalls, results.looks),
        ),
        make_table(
            "recall-by-class-size",
            "Recall by class size",
            f"Classes: number of ({results.words.partition}, class) pairs averaged.",
            recalls.assign(title=titles),
            "title images:0 recall:3 classes:0",
            {"title": "Approach", "images": "Training images"},
            folded=True,
        ),
    ]


def _all(results: Results) -> str:
    return "all splits" if results.as_found else "all partitions above ratio 1"


def recall_by_size(records: list[Record], matrices: Matrices) -> pd.DataFrame:
    """Averages the recall of classes of about one size, in six bins of equal width in log size.

    Args:
        records: the records that count (`Results.counted_records`).
        matrices: confusion matrices of their whole test folds.

    Returns:
        Columns approach, images (mean training images of the classes in the bin), recall, classes
        (number of classes in the bin); rows by approach and size.
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
    ]
    long = pd.concat(parts, ignore_index=True)
    sizes = np.log(long["images"])
    # The outer edges lie slightly outside, so that the smallest and the largest class have a bin.
    edges = np.linspace(sizes.min() - 1e-9, sizes.max() + 1e-9, _SIZE_BINS + 1)
    long["bin"] = np.searchsorted(edges, sizes)
    grouped = long.groupby(["approach", "bin"], sort=False)
    means = grouped[["images", "recall"]].mean().assign(classes=grouped.size()).reset_index()
    means = means.sort_values("bin").drop(columns="bin")
    order = means["approach"].map(position).sort_values(kind="stable").index
    return means.loc[order].reset_index(drop=True)
