"""Section: differences between a study and another one that differs from it in precision only."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from twostage_jax.evaluation.statistics import (
    BOOTSTRAP,
    FEWEST_FOLDS,
    Difference,
    differences_frame,
    paired_difference,
)
from twostage_jax.evaluation.tables import METRICS
from twostage_jax.report.blocks import Notice, Section, Table, Text, make_table
from twostage_jax.report.results import Results, read_results
from twostage_jax.support.errors import InputError

_DECIMALS = 4  # one more than in the verdict: these differences are small


def read_beside(results: Results, folder: Path) -> Results:
    """Reads the study to compare with.

    Args:
        results: the report's study.
        folder: folder of the other study.

    Raises:
        InputError: no whole study lies there, its settings differ in more than the precision or
            not in that, or the two have no record that counts in common.
        OSError: a file is unreadable.
    """
    other = read_results(folder)
    own, its = results.settings, other.settings
    names = (own.keys() | its.keys()) - {"precision"}
    if others := sorted(name for name in names if own.get(name) != its.get(name)):
        raise InputError(
            f"{folder} differs from the report's study in {', '.join(others)}; expected a study "
            "that differs in precision only; name one made with the same other options"
        )
    ours, theirs = own["precision"], its["precision"]
    if ours == theirs or None in (ours, theirs):
        raise InputError(
            f"{folder} has the precision {theirs}, the report's study {ours}; expected two "
            "different ones; name a study made with another --precision"
        )
    if not compare(results, other):
        raise InputError(
            f"{folder} and the report's study have no finished record of the same partition and "
            "approach that counts; expected some; run both studies over the same partitions"
        )
    return other


def section(results: Results, other: Results) -> Section:
    """Returns one sentence, its limits, and the table of all differences.

    Args:
        results: the report's study.
        other: as `read_beside` returns it.
    """
    rows = compare(results, other)
    precisions = results.settings["precision"], other.settings["precision"]
    partial = Notice(
        "At least one of the two studies is not complete, or its folder does not list its records. "
        "The comparison uses the partitions that both have, which need not be the same for every "
        "approach."
    )
    blocks = [
        Text((sentence(rows, *precisions, results.titles),)),
        *[partial] * (not (results.complete and other.complete)),
        _table(results, other, rows),
    ]
    return Section("precision", "What the precision changes", blocks)


def compare(results: Results, other: Results) -> dict[str, list[Difference]]:
    """Compares this study minus the other in each metric, by approach, on common partitions.

    Approaches without a common partition that counts are left out.
    """
    ours, theirs = results.settings["precision"], other.settings["precision"]
    compared = {}
    for approach in results.approaches:
        pair = pd.concat(
            scores[scores["approach"] == approach].assign(approach=name)
            for name, scores in ((ours, results.counted), (theirs, other.counted))
        )
        found = [paired_difference(pair, metric, theirs, own=ours) for metric in METRICS]
        if None not in found:
            compared[approach] = found
    return compared


def sentence(
    rows: Mapping[str, list[Difference]], ours: str, theirs: str, titles: Mapping[str, str]
) -> str:
    """Says what the precision changes in AvAcc, over all approaches.

    Args:
        rows: as `compare` returns them, not empty.
        ours: the precision of the report's study.
        theirs: the precision of the other.
        titles: at least those of the approaches in `rows`, by name.
    """
    differences = {approach: own[METRICS.index("AvAcc")] for approach, own in rows.items()}
    count = f"{len(rows)} approach{'es' * (len(rows) != 1)}"
    mean = round(float(np.mean([own.mean for own in differences.values()])), _DECIMALS) + 0.0
    found = f"In AvAcc, {ours} minus {theirs} is {mean:+.{_DECIMALS}f}, the mean over {count}; "
    bounded = [own for own in differences.values() if len(own.by_fold) > 1]
    if not bounded:
        return f"{found}one fold gives no interval: nothing can be said about chance."
    apart = [titles[name] for name, own in differences.items() if _excludes_zero(own)]
    found += f"of {len(bounded)} interval{'s' * (len(bounded) != 1)} "
    listed = f"{len(apart)} exclude{'s' * (len(apart) == 1)} 0 ({', '.join(apart)})"
    fewest = min(len(own.by_fold) for own in bounded)
    few = f", but fewer than {FEWEST_FOLDS} folds decide nothing" * (fewest < FEWEST_FOLDS)
    return f"{found}{listed if apart else 'none excludes 0'}{few}."


def _excludes_zero(own: Difference) -> bool:
    """As printed: an interval whose end prints as 0 holds 0. NaN ends exclude nothing."""
    return round(own.low, _DECIMALS) > 0 or round(own.high, _DECIMALS) < 0


def _table(results: Results, other: Results, rows: Mapping[str, list[Difference]]) -> Table:
    ours, theirs = results.settings["precision"], other.settings["precision"]
    by_metric = zip(*rows.values(), strict=True)
    frame = differences_frame(itertools.chain.from_iterable(by_metric))
    frame["rival"] = [results.titles[approach] for approach in rows] * len(METRICS)
    frame = frame.rename(columns={"rival": "approach"}).drop(columns="ahead")
    paired = "paired by partition above ratio 1, averaged within each fold, then over the folds"
    paired = "paired by split, then averaged" if results.as_found else paired
    its_hash = other.description.settings_hash[:12]
    return make_table(
        "precision",
        f"{ours} minus {theirs}",
        f"This study ({ours}) minus another that differs in precision only ({theirs}, settings "
        f"{its_hash}), {paired}; positive: {ours} scores higher. The interval is the {BOOTSTRAP}, "
        "as in the verdict; it is not corrected for the number of rows. Approaches share networks "
        "and images, so that their rows are not independent. Devices and versions are not settings "
        "and may differ, too: see the provenance on each study's page.",
        frame[["metric", "approach", "difference", "low", "high", "partitions", "folds"]],
        f"metric approach difference:{_DECIMALS} low:{_DECIMALS} high:{_DECIMALS} partitions:0 "
        "folds:0",
        {"low": "from", "high": "to"},
    )
