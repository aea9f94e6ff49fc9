"""Section: whether the proposed approach wins here, by how much and how certainly."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from twostage_jax.evaluation import paper
from twostage_jax.evaluation.simultaneous import (
    differences_by_fold,
    simultaneous_intervals,
    with_all_rivals,
)
from twostage_jax.evaluation.statistics import (
    BOOTSTRAP,
    CONFIDENCE,
    FEWEST_FOLDS,
    Difference,
    differences_frame,
    find_rivals,
    paired_difference,
    supported,
)
from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report import charts
from twostage_jax.report.blocks import Notice, Picture, Section, Table, Text, make_table
from twostage_jax.report.results import OF_RATIOS, Results, Words
from twostage_jax.study.approaches import FAMILIES

Rows = Mapping[str, list[Difference]]

_THIN = ", the interval that is corrected for all rivals (thin bar)"


def section(results: Results) -> Section:
    """Returns the verdict in sentences, a table and a chart."""
    own, rows = compare(results)
    title, words = results.title(own), results.words
    if not rows:
        return Section("verdict", "Verdict", [Notice(_absent(results, title))])
    sentences = [
        sentence(who, found[0], title, results.titles, words) for who, found in rows.items()
    ]
    blocks = [
        *_chosen(results, own),
        Text(tuple(sentences)),
        *map(Notice, _cautions(results, len(next(iter(rows.values()))[0].by_fold))),
        Picture(
            "differences",
            f"How far {title} is ahead",
            f"Mean paired difference (marker), its {CONFIDENCE:.0%} interval (bar)"
            f"{_THIN * _has_all(rows)} and the difference of each {words.fold} (ticks); right of "
            f"zero, {title} is better.",
            charts.differences(list(rows.values()), results.looks),
        ),
        _table(rows, title, results),
        *([_all_rivals(own, results)] if _has_all(rows) else []),
        _order(results),
    ]
    return Section("verdict", "Verdict", blocks)


def _absent(results: Results, title: str) -> str:
    if results.as_found:
        return "No verdict yet: it needs two approaches with scores on the same split."
    return (
        "No verdict yet: it needs two approaches with scores in the same partition above ratio "
        f"1, {title} among them if the study has it."
    )


def _chosen(results: Results, own: str) -> list[Notice]:
    """Returns how the approach that the verdict is about was chosen, unless the paper chose it."""
    title, proposed = results.title(own), results.title(paper.PROPOSED)
    if results.as_found:
        return [
            Notice(
                f"This is about {title}, because it has the highest mean AvAcc: is it better than "
                "the baseline, and than the best of each other kind? It was chosen on the same "
                "splits that follow, which favors it."
            )
        ]
    if own == paper.PROPOSED:
        return []
    return [
        Notice(
            f"This study has no scores of {proposed}, the approach that the paper proposes. "
            f"{title} takes its place because it has the highest mean AvAcc. It was chosen on the "
            "same partitions that follow, which favors it."
        )
    ]


def compare(results: Results) -> tuple[str, Rows]:
    """Compares the proposed approach with each rival in each metric.

    Returns:
        The approach that stands for the proposed one, and its differences in the order of
        `METRICS`, by description of the rival. A rival without a common partition is left out.
    """
    own, frame = results.proposed, results.counted
    if own is None:
        return paper.PROPOSED, {}
    rows = {}
    for who, rival in find_rivals(frame, results.approaches, own).items():
        found = [paired_difference(frame, metric, rival, own=own) for metric in METRICS]
        if None not in found:
            rows[who] = with_all_rivals(frame, found, own=own)
    return own, rows


def sentence(
    who: str,
    difference: Difference,
    own: str,
    titles: Mapping[str, str],
    words: Words = OF_RATIOS,
) -> str:
    """Says what one comparison supports, and no more.

    Args:
        who: description of the rival.
        difference: of the proposed approach and the rival.
        own: title of the proposed approach.
        titles: at least the rival's, by name.
        words: for partitions and folds.
    """
    name, many, folds = titles[difference.rival], difference.partitions, len(difference.by_fold)
    rival = who if who == f"the {name.lower()}" else f"{who}, {name}"
    where = f"{abs(difference.mean):.3f} {'above' if difference.mean > 0 else 'below'}"
    where = "level with" if round(difference.mean, 3) == 0 else where
    found = f"In {difference.metric}, {own} is {where} {rival}"
    won = f"it is ahead in {difference.ahead} of {many} {words.partition}{'s' * (many != 1)}"
    if folds < 2:
        one = f"One {words.fold} gives no interval: nothing can be said about chance."
        return f"{found}; {won}. {one}"
    interval = (
        f"{CONFIDENCE:.0%} interval {difference.low:+.3f} to {difference.high:+.3f} "
        f"over {folds} {words.fold}s"
    )
    meaning = {
        "better": "The interval lies above zero: it wins here.",
        "worse": "The interval lies below zero: it loses here.",
        "undecided": "The interval holds zero: undecided.",
        "too few folds": f"Too few {words.fold}s to decide.",
    }[difference.verdict]
    return f"{found} ({interval}); {won}. {meaning}{_for_all(difference)}"


def _for_all(difference: Difference) -> str:
    """Says what is left when all rivals count; empty where that was not asked."""
    found = difference.verdict_all
    if found is None:
        return ""
    many = f" Corrected for {difference.rivals} rivals"
    if not np.isfinite(difference.low_all):
        return f"{many}, so few folds say nothing."
    still = "still " if found == difference.verdict else ""
    interval = f"{difference.low_all:+.3f} to {difference.high_all:+.3f}"
    return f"{many} ({interval}): {still}{found}."


def _cautions(results: Results, folds: int) -> Iterator[str]:
    unit = results.words.fold
    if folds < 2:
        more = "more splits" if results.as_found else "more folds (--folds)"
        yield (
            f"This study has one {unit}. Intervals come from the differences between {unit}s, so "
            f"that there are none. Run {more}."
        )
    elif folds < FEWEST_FOLDS:
        yield (
            f"An interval over {folds} {unit}s is coarse and narrower than the truth. If two "
            f"approaches were equally good, all {folds} {unit}s would still lean one way with "
            f"probability {2.0 ** (1 - folds):.0%}. Below {FEWEST_FOLDS} {unit}s this page "
            "therefore decides nothing."
        )
    if not results.complete:
        there = "partitions that are there, which need not be the same in every fold"
        yield (
            "The study is not complete, or its folder does not list its records. All of this is "
            f"about the {'splits that are there' if results.as_found else there}."
        )


def _order(results: Results) -> Table:
    table = results.imbalanced.ranking.table.sort_values("mean", ascending=False, kind="stable")
    frame = pd.DataFrame({"place": range(1, table["approach"].nunique() + 1)})
    for metric in METRICS:
        frame[metric] = [
            f"{results.titles[name]} {mean:.3f} ({rank:.2f})"
            for name, _, mean, rank in table[table["metric"] == metric].itertuples(index=False)
        ]
    return make_table(
        "order",
        "The order of the approaches" if results.as_found else "The order of Table II",
        "Approaches by mean score, the best first; in parentheses the average rank, 1 is best.",
        frame,
        " ".join(frame),
    )


def _table(rows: Rows, own: str, results: Results) -> Table:
    titles = results.titles
    found = [(who, one) for who, of_rival in rows.items() for one in of_rival]
    frame = differences_frame(one for _, one in found)
    frame["rival"] = [_with_note(titles[one.rival], who) for who, one in found]
    frame["ahead"] = [f"{one.ahead} of {one.partitions}" for _, one in found]
    frame["verdict"] = [one.verdict for _, one in found]
    if results.as_found:
        frame["verdict"] = frame["verdict"].replace("too few folds", "too few splits")
    columns, caption = "difference:3 low:3 high:3 ahead verdict", _how_paired(own, results.as_found)
    if _has_all(rows):
        frame["verdict_all"] = [one.verdict_all for _, one in found]
        columns += " low_all:3 high_all:3 verdict_all"
        caption += f" {_how_corrected(own, found[0][1].rivals, results.words)}"
    else:
        frame = frame.drop(columns=["low_all", "high_all", "rivals"])
    return make_table(
        "verdict",
        f"{own} minus its rivals",
        caption,
        frame.drop(columns="partitions"),
        f"metric rival {columns}",
        {
            "low": "from",
            "high": "to",
            "low_all": "from, all",
            "high_all": "to, all",
            "ahead": "Ahead in",
            "verdict_all": "Verdict, all",
        },
    )


def _all_rivals(own: str, results: Results) -> Table:
    """Returns the differences from all rivals, with the intervals that hold for all of them."""
    frames = []
    for metric in METRICS:
        by_fold = differences_by_fold(results.counted, metric, own=own)
        low, high = simultaneous_intervals(by_fold.to_numpy(np.float64))
        columns = {"rival": list(by_fold), "difference": by_fold.mean(), "low": low, "high": high}
        frames.append(pd.DataFrame(columns | {"folds": by_fold.count()}).assign(metric=metric))
    frame = pd.concat(frames, ignore_index=True)
    frame["title"] = frame["rival"].map(results.titles)
    frame["family"] = [FAMILIES[results.approaches[name].family] for name in frame["rival"]]
    frame["verdict"] = [
        "-" if np.isnan(low) else supported(low, high)
        for low, high in zip(frame["low"], frame["high"], strict=True)
    ]
    title = results.titles[own]
    return make_table(
        "verdict-all",
        f"{title} minus each rival",
        f"Intervals that hold for all rivals at once, as in the table before; above 0, {title} is "
        "better.",
        frame,
        "metric title family verdict difference:3 low:3 high:3",
        {"title": "Rival", "low": "from, all", "high": "to, all", "verdict": "Verdict, all"},
        folded=True,
    )


def _has_all(rows: Rows) -> bool:
    return any(one.verdict_all for of_rival in rows.values() for one in of_rival)


def _how_corrected(own: str, rivals: int, words: Words) -> str:
    """Returns how to read the intervals for all rivals."""
    return (
        f"All: among {rivals} rivals, some look better or worse by chance. These intervals are "
        f"wider: if {words.fold}s were independent and differences symmetric, those of all rivals "
        f"would hold the true differences at once in {CONFIDENCE:.0%} of studies. Their width "
        f"comes from flipping the signs of whole {words.fold}s: it is the {CONFIDENCE:.0%} "
        "quantile of the largest |t| among all rivals (max-T, Westfall and Young, 1993; Romano and "
        f"Wolf, 2005). {words.fold.capitalize()}s share training images and differences may be "
        "skewed; both make them hold less often. Each metric is corrected by itself. "
        f"Where {own} itself was chosen on the same {words.partition}s, that is not corrected for."
    )


def _how_paired(own: str, as_found: bool) -> str:
    """Returns how to read the table of differences."""
    best = (
        "The best of a family has the highest mean AvAcc on these same {}, "
        "which favors the rival in AvAcc; in another metric another approach may be the best, see "
        "the order."
    )
    if as_found:
        return (
            "Differences are paired by split, then averaged. "
            f"Above 0, {own} is better. Ahead in: splits on which it scores higher. The interval "
            f"is the {BOOTSTRAP.replace('folds', 'splits')}. Splits share training images, and "
            "percentile intervals of a few values are somewhat too narrow: read them as the least "
            f"uncertainty. They are not corrected for their number. "
            f"{best.format('splits')}"
        )
    return (
        "Differences are paired by partition, averaged within each fold, then over the folds; "
        f"above 0, {own} is better. Ahead in: partitions in which it scores higher. The interval "
        f"is the {BOOTSTRAP}. The "
        "partitions of one fold share images and are nested, so that they are not independent. "
        "Even folds share training images, and percentile intervals of ten values are somewhat "
        "too narrow: read them as the least uncertainty. They are not corrected for "
        f"their number. {best.format('partitions')}"
    )


def _with_note(title: str, who: str) -> str:
    return title if who == f"the {title.lower()}" else f"{title} ({who.removeprefix('the ')})"
