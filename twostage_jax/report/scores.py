"""Section part: scores of all approaches by ratio, their spread, and scores on both test folds."""

import pandas as pd

from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Picture, make_table
from twostage_jax.report.results import Results


def blocks(results: Results) -> list[Block]:
    """Returns three pictures and the table of the last."""
    return [
        Picture(
            "approaches-by-ratio",
            "All approaches against the imbalance ratio",
            "Means over the folds; the approaches stand side by side at each ratio. With a single "
            "ratio, bars span the folds. The next figure shows the spread of all scores.",
            charts.metrics_by_ratio(results.scores, results.looks),
        ),
        Picture(
            "spread",
            "Spread over the partitions",
            "One tick per partition; the marker is the mean.",
            charts.spread(results.scores, results.looks),
        ),
        *_both_test_folds(results),
    ]


def _both_test_folds(results: Results) -> list[Block]:
    names = [*METRICS, "Acc"]

    def means(frame: pd.DataFrame) -> pd.Series:
        own = frame[frame["ratio"] > 1].groupby("approach")[names].mean()
        stacked = own.reindex(results.looks).dropna().stack()
        return stacked.rename_axis(["approach", "metric"])

    one, other = means(results.imbalanced.metrics), means(results.balanced.metrics)
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
            "Means over all partitions above ratio 1.",
            table,
            "title metric imbalanced:4 balanced:4 difference:4",
            {"title": "Approach"},
            folded=True,
        ),
    ]
