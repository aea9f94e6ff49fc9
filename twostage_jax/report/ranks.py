"""Section part: critical differences of average ranks and their p-values."""

import pandas as pd

from twostage_jax.evaluation.statistics import (
    RankTest,
    rank_test,
    scores_by_fold,
    scores_by_partition,
)
from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Notice, Picture, Table, make_table
from twostage_jax.report.results import Results

_READINGS = {
    "folds": "A block is a fold, and its score is the mean over the fold's partitions. Folds come "
    "closest to independent units. With few folds, only large differences can show.",
    "splits": "A block is a split. Splits share training images but no test images. With few "
    "splits, only large differences can show.",
    "partitions": "A block is a partition, as is usual and as in Table II. Partitions share "
    "images, so that this test is more certain than it should be.",
}


def blocks(results: Results) -> list[Block]:
    """Returns diagrams over folds and over partitions, and a table of p-values.

    In data as they are both are the same, the splits.
    """
    tests = _tests(results.counted)
    if results.as_found:
        tests = {"splits": tests["folds"]} if tests else {}
    if not tests:
        return [Notice("No test on ranks: it needs three approaches with scores in two blocks.")]
    return [
        *(_picture(results, unit, own) for unit, own in tests.items()),
        _p_values(results, tests),
    ]


def _tests(scores: pd.DataFrame) -> dict[str, dict[str, RankTest]]:
    """Tests by unit and metric; units with too few blocks are left out."""
    by_partition = {metric: scores_by_partition(scores, metric) for metric in METRICS}
    by_fold = {metric: scores_by_fold(own) for metric, own in by_partition.items()}
    found = {}
    for unit, frames in (("folds", by_fold), ("partitions", by_partition)):
        made = {metric: rank_test(own) for metric, own in frames.items()}
        if None not in made.values():
            found[unit] = made
    return found


def _picture(results: Results, unit: str, tests: dict[str, RankTest]) -> Picture:
    p_values = ", ".join(f"{metric} {test.friedman:.2g}" for metric, test in tests.items())
    p_values = p_values.replace("nan", "-")
    return Picture(
        f"critical-differences-{unit}",
        f"Critical differences over {unit}",
        "Average ranks; 1 is best. A bar joins approaches that Nemenyi's test at 5 % does not tell "
        f"apart. {_READINGS[unit]} p-value of Friedman's test that all are alike: {p_values}.",
        charts.critical_differences(tests, results.looks),
    )


def _p_values(results: Results, tests: dict[str, dict[str, RankTest]]) -> Table:
    """Nemenyi's p-values of the proposed approach against each other one."""
    own = results.proposed
    rows = [
        (unit, test.blocks, metric, results.titles[name], p)
        for unit, of_unit in tests.items()
        for metric, test in of_unit.items()
        for name, p in test.p_values.loc[own].drop(own).items()
    ]
    return make_table(
        "nemenyi",
        f"{results.titles[own]} against each of the others: p-values",
        "Nemenyi's test, which is already corrected for the number of pairs.",
        pd.DataFrame(rows, columns=["unit", "blocks", "metric", "rival", "p"]),
        "unit metric rival p:4",
        {"unit": "Blocks", "p": "p"},
        folded=True,
    )
