"""Section part: all confusion matrices; the reader chooses which one is shown."""

from collections.abc import Mapping
from dataclasses import astuple, fields, replace

import pandas as pd

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.sheets import Cell, Sheet, csv
from twostage_jax.evaluation.tables import Matrices
from twostage_jax.report.blocks import Confusions
from twostage_jax.report.charts import MANY, by_family, title_of
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import FAMILIES
from twostage_jax.study.record import RecordKey


def block(results: Results) -> Confusions:
    """Returns all matrices; the page shows one of the proposed approach first."""
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
    approach = results.proposed or [*results.approaches][-1]
    first = next(key for key in imbalanced if key.approach == approach)
    chosen = [m for key, m in imbalanced.items() if replace(key, fold=first.fold) == first]
    data = {
        "classes": results.class_titles,
        "approaches": results.titles,
        "cells": [f"{title_of(scenario)}, ratio {ratio:g}" for scenario, ratio in cells],
        "counts": counts,
        "approach": approach,
        "cell": cells.index((first.scenario, first.ratio)),
    }
    if len(results.approaches) > MANY:
        families = by_family(results.approaches, results.looks, with_baseline=False)
        data["families"] = {FAMILIES[family]: names for family, names in families.items()}
    where = f"{title_of(first.scenario)}, ratio {first.ratio:g}, all folds"
    if results.as_found:
        data["unit"], where = results.words.fold, "all splits"
    both = {"imbalanced": imbalanced, "balanced": balanced}
    if results.as_found and results.same_test_folds:
        both = {"whole": balanced}
    shown = sheet(f"{results.titles[approach]}, {where}", sum(chosen), data["classes"])
    return Confusions(data, shown, _csv(both, data["classes"]))


def _csv(both: Mapping[str, Matrices], classes: list[str]) -> str:
    """All matrices: one row per true class, one column per predicted class."""
    rows = [
        (*astuple(key), test, name, *line)
        for test, matrices in both.items()
        for key, matrix in matrices.items()
        for name, line in zip(classes, matrix, strict=True)
    ]
    names = [*(field.name for field in fields(RecordKey)), "test_fold", "true_class"]
    predicted = [f"predicted as {name}" for name in classes]
    return csv(pd.DataFrame(rows, columns=names + predicted))


def sheet(title: str, matrix: metrics.Matrix, classes: list[str]) -> Sheet:
    """Returns a confusion matrix as it is printed: one row per true class."""
    rows = [
        [Cell(name), *(Cell(str(count), i == j) for j, count in enumerate(line))]
        for i, (name, line) in enumerate(zip(classes, matrix, strict=True))
    ]
    return Sheet(title, ["true class", *classes], 1, rows)
