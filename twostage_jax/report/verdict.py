"""The report's first section: does two-stage resampling win here, by how much, how sure is that."""

import pandas as pd

from twostage_jax.evaluation.statistics import (
    CONFIDENCE,
    FEWEST_FOLDS,
    PROPOSED,
    RESAMPLES,
    Difference,
    paired_difference,
    rivals,
)
from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report import charts
from twostage_jax.report.blocks import Block, Notice, Picture, Section, Table, Text, make_table
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import APPROACHES

_TITLE = APPROACHES[PROPOSED].title


def section(results: Results) -> Section:
    """The verdict in sentences, a table and a chart."""
    blocks: list[Block] = []
    rows = compare(results.scores)
    if not rows:
        blocks.append(
            Notice(
                f"No verdict yet: {_TITLE} and another approach need a record in the same "
                "partition above ratio 1."
            )
        )
        return Section("verdict", "Verdict", blocks)
    blocks.append(Text(tuple(sentence(who, own[0]) for who, own in rows.items())))
    folds = len(next(iter(rows.values()))[0].by_fold)
    if (caution := _caution(folds)) is not None:
        blocks.append(Notice(caution))
    if not results.complete:
        blocks.append(
            Notice(
                "The study is not complete, or does not say what it is to cover: all this is of "
                "the partitions that are there, which need not be the same in every fold."
            )
        )
    blocks += [_picture(rows), _table(rows), _order(results)]
    return Section("verdict", "Verdict", blocks)


def compare(frame: pd.DataFrame) -> dict[str, list[Difference]]:
    """The differences in each metric, by rival; rivals without a common partition are left out."""
    compared = {
        who: [paired_difference(frame, metric, rival) for metric in METRICS]
        for who, rival in rivals(frame).items()
    }
    return {who: own for who, own in compared.items() if None not in own}


def order(table2: pd.DataFrame) -> pd.DataFrame:
    """Table II's approaches from first to last, by mean score.

    Args:
        table2: as `tables.table2` returns it.

    Returns:
        Columns place and one a metric: approach, mean and average rank as printed.
    """
    columns = {}
    for metric in METRICS:
        own = table2[table2["metric"] == metric].sort_values("mean", ascending=False, kind="stable")
        columns[metric] = [
            f"{APPROACHES[row['approach']].title} {row['mean']:.3f} ({row['average_rank']:.2f})"
            for row in own.to_dict("records")
        ]
    frame = pd.DataFrame(columns)
    frame.insert(0, "place", [str(place) for place in range(1, len(frame) + 1)])
    return frame


def sentence(who: str, difference: Difference) -> str:
    """What may be said of one comparison, and no more."""
    name = APPROACHES[difference.rival].title
    rival = who if difference.rival == "baseline" else f"{who}, {name}"
    size = f"{abs(difference.mean):.3f}"
    where = {1: f"{size} above", -1: f"{size} below", 0: "level with"}[_sign(difference.mean)]
    folds = len(difference.by_fold)
    found = f"In {difference.metric}, {_TITLE} is {where} {rival}"
    won = f"it is ahead in {difference.ahead} of {_count(difference.partitions, 'partition')}"
    if folds < 2:
        return f"{found}; {won}. One fold gives no interval: nothing can be said about chance."
    interval = (
        f"{CONFIDENCE:.0%} interval {difference.low:+.3f} to {difference.high:+.3f} "
        f"over {folds} folds"
    )
    meaning = {
        "better": "The interval lies above zero: it wins here.",
        "worse": "The interval lies below zero: it loses here.",
        "undecided": "The interval holds zero: undecided.",
        "too few folds": "Too few folds to decide.",
    }[difference.verdict]
    return f"{found} ({interval}); {won}. {meaning}"


def _sign(value: float) -> int:
    rounded = round(value, 3)
    return (rounded > 0) - (rounded < 0)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _caution(folds: int) -> str | None:
    if folds < 2:
        return (
            "One fold only. Intervals come from the differences between folds: with one there are "
            "none. Run more folds (--folds)."
        )
    if folds >= FEWEST_FOLDS:
        return None
    return (
        f"{folds} folds give a coarse interval, narrower than the truth. If two approaches were "
        f"equally good, all {folds} folds would still lean one way with probability "
        f"{2.0 ** (1 - folds):.0%}; below {FEWEST_FOLDS} folds this page therefore decides nothing."
    )


def _order(results: Results) -> Table:
    return make_table(
        "order",
        "The order of Table II",
        "From the first to the last by mean score; in parentheses the average rank, 1 is best.",
        order(results.imbalanced.ranking.table),
        header={"place": "Place"} | {metric: metric for metric in METRICS},
        decimals={},
    )


def _table(rows: dict[str, list[Difference]]) -> Table:
    frame = pd.DataFrame(
        [
            {
                "metric": own.metric,
                "rival": APPROACHES[own.rival].title
                + ("" if own.rival == "baseline" else f" ({who.removeprefix('the ')})"),
                "difference": own.mean,
                "low": own.low,
                "high": own.high,
                "folds": len(own.by_fold),
                "ahead": f"{own.ahead} of {own.partitions}",
                "verdict": own.verdict,
            }
            for who, of_rival in rows.items()
            for own in of_rival
        ]
    )
    return make_table(
        "verdict",
        f"{_TITLE} minus its rivals",
        f"Paired by partition, averaged within each fold, then over the folds; positive: {_TITLE} "
        "is better. Ahead in: partitions in which it scores higher. The interval is the "
        f"{CONFIDENCE:.0%} percentile bootstrap over folds ({RESAMPLES:,} resamples): the "
        "partitions of one fold share images and are nested, so that they do not count as "
        "independent. Even folds share training images, and percentile intervals of ten values "
        "are somewhat too narrow: read them as the least uncertainty. The intervals are not "
        "corrected for their number. The best of a space is the one of highest mean AvAcc on "
        "these very partitions: in AvAcc that favours the rival; in another metric another may be "
        "the best, see the order.",
        frame,
        header={
            "metric": "Metric",
            "rival": "Rival",
            "difference": "Difference",
            "low": "from",
            "high": "to",
            "ahead": "Ahead in",
            "verdict": "Verdict",
        },
        decimals={"difference": 3, "low": 3, "high": 3},
    )


def _picture(rows: dict[str, list[Difference]]) -> Picture:
    return Picture(
        "differences",
        f"How far {_TITLE} is ahead",
        f"Mean paired difference (marker), its {CONFIDENCE:.0%} interval (bar) and each fold's "
        f"difference (ticks); right of zero {_TITLE} is better.",
        charts.differences(rows),
    )
