"""Section part: scores by ratio, their spread, both test folds, and recall by class size."""

import numpy as np
import pandas as pd

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.tables import METRICS, Matrices
from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Picture, make_table
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
    return [*by_ratio, spread, *test_folds, *_recall(results)]


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
