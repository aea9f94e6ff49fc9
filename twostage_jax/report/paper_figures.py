"""Section: the paper's tables and figures, from this study's records."""

import dataclasses

import numpy as np
import pandas as pd

from twostage_jax.evaluation import paper, tables
from twostage_jax.evaluation.sheets import csv
from twostage_jax.report import charts, pictures
from twostage_jax.report.blocks import Block, Notice, Picture, Section, Table, make_table
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import PAPER, find
from twostage_jax.study.record import Record

_CELL = ["table", "scenario", "ratio", "metric", "approach", "value"]


def section(results: Results) -> Section:
    """Returns tables I and II, figures 1 to 6, and the paper's numbers where they belong."""
    blocks: list[Block] = []
    if len(results.scores):
        blocks += _tables(results)
        blocks += beside_paper(results)
    blocks += _images(results)
    if results.records:
        blocks += _class_counts(results.records)
    plain = {name: look for name, look in results.looks.items() if look.family == "baseline"}
    baseline = results.scores[results.scores["approach"].isin(list(plain))]
    if (baseline["ratio"] > 1).any():
        blocks.append(
            Picture(
                "fig6-metrics-by-ratio",
                "Fig. 6: the baseline's scores against the imbalance ratio",
                "Means over the folds, without any resampling; bars span the folds. Acc is the "
                "plain accuracy, which hides what imbalance does.",
                charts.metrics_by_ratio(baseline, plain),
            )
        )
    return Section("paper", "The paper's tables and figures, from our records", blocks)


def _tables(results: Results) -> list[Block]:
    made, ranking = results.imbalanced, results.imbalanced.ranking
    one, two = tables.sheets(made)  # not of a study of the data as they are
    left_out = f"; in {ranking.incomplete} more, an approach has none" if ranking.incomplete else ""
    return [
        Table(
            "table1",
            "Means over the folds; the best of each row is bold. Test folds carry the imbalance.",
            one,
            csv(made.table1),
        ),
        Table(
            "table2",
            "Mean score and, in parentheses, average rank (1 is best), over "
            f"{ranking.partitions} partitions in which every approach has a score{left_out}.",
            two,
            csv(ranking.table),
        ),
    ]


def beside_paper(results: Results) -> list[Block]:
    """Returns the paper's numbers beside ours if they may be compared, else apart, and why."""
    if results.why_absent is None:
        return [
            make_table(
                "paper-cells",
                "Ours beside the paper's, cell by cell",
                "Difference: ours minus the paper's. Table II has no scenario and no ratio.",
                compare(results.imbalanced),
                "table scenario ratio metric title ours:4 paper:4 difference:4",
                {"ratio": "IR", "title": "Approach"},
                folded=True,
            )
        ]
    published = paper.table2()
    wide = published.pivot(index="approach", columns="metric", values="mean").loc[[*PAPER]]
    wide = wide.assign(title=[find(name).title for name in wide.index]).reset_index()
    return [
        Notice(
            f"The paper's numbers do not stand beside these: {results.why_absent}. They follow "
            "separately and must not be compared with the tables above."
        ),
        make_table(
            "paper-table2",
            "The paper's Table II: other data, other network",
            "Means over the paper's 120 partitions of colorectal tissue.",
            wide,
            " ".join(["title", *(f"{metric}:4" for metric in tables.METRICS)]),
            {"title": "Approach"},
            folded=True,
        ),
    ]


def compare(made: tables.Tables) -> pd.DataFrame:
    """Compares every cell of both tables, ours with the paper's.

    Returns:
        Columns table, scenario, ratio, metric, title, ours, paper, difference. A cell that one of
        the two lacks is left out.
    """
    ours = _in_rows(made.table1, made.ranking.table, "ours")
    cells = ours.merge(_in_rows(paper.table1(), paper.table2(), "paper")).dropna()
    titles = [made.approaches[name].title for name in cells["approach"]]
    cells.insert(4, "title", titles)
    cells["difference"] = cells["ours"] - cells["paper"]
    return cells.drop(columns="approach").reset_index(drop=True)


def _in_rows(table1: pd.DataFrame, table2: pd.DataFrame, name: str) -> pd.DataFrame:
    """Returns both tables in one frame, one row per cell with its value in the column `name`."""
    one = table1.rename(columns={"imbalance_ratio": "ratio"})
    one = one.melt(["scenario", "ratio", "metric"], var_name="approach").assign(table="I")
    one["scenario"] = one["scenario"].str.replace("_", " ")
    one["ratio"] = one["ratio"].map("{:g}".format)
    two = table2.rename(columns={"mean": "II", "average_rank": "II, rank"})
    two = two.melt(["approach", "metric"], var_name="table").assign(scenario="all", ratio="all")
    return pd.concat([one, two])[_CELL].rename(columns={"value": name})


def _images(results: Results) -> list[Block]:
    images = results.images
    flow = Picture(
        "fig2-data-flow",
        "Fig. 2: the data flow of TS SMOTE+RUS",
        "Stage 1 trains the whole network on oversampled images. Stage 2 passes the original "
        "images through it and trains the head alone on their undersampled features.",
        pictures.data_flow(),
    )
    if images is None:
        return [
            Notice(
                "Figs. 1 and 3 need images, which this folder does not hold. Run the study's last "
                "command (see Provenance) again: it adds them."
            ),
            flow,
        ]
    pair: Block = Notice("Fig. 1 is absent: this study does not use SMOTE on images.")
    if len(images.pair):
        pair = Picture(
            "fig1-smote",
            "Fig. 1: SMOTE between two real images",
            f"A training image of class {results.class_titles[images.pair_class]} and "
            f"one of its {results.settings['k_neighbors']} nearest neighbors, as in the study, "
            "with the images that interpolation makes between them.",
            pictures.smote(images.pair),
        )
    samples = Picture(
        "fig3-samples",
        "Fig. 3: samples, one row per class",
        f"{images.samples.shape[1]} images of each class, reduced in size."
        f"{results.numbered_classes}",
        pictures.samples(images.samples, results.class_labels),
    )
    return [pair, flow, samples]


def _class_counts(records: list[Record]) -> list[Block]:
    """Returns figs. 4 and 5, from the class counts in the records."""
    sizes = {dataclasses.astuple(r.key)[:3]: np.sort(r.class_counts)[::-1] for r in records}
    by_fold = pd.DataFrame(sizes).T.rename_axis(["scenario", "ratio", "fold"])
    counts = by_fold.groupby(["scenario", "ratio"]).mean()
    above = counts[counts.index.get_level_values("ratio") > 1]
    if above.empty:
        return []
    return [
        Picture(
            "fig4-class-distributions",
            "Fig. 4: class distributions",
            "Training images of each class, the largest first, means over the folds. Each fold "
            "has another order of classes from large to small.",
            charts.class_distributions(above),
        ),
        Picture(
            "fig5-images-by-ratio",
            "Fig. 5: images against the imbalance ratio",
            "All training images of a partition before resampling, means over the folds. By "
            "the paper's equations 1 to 3, linear has fewer images than half minority; its "
            "text calls the two equal.",
            charts.images_by_ratio(counts.sum(axis=1)),
        ),
    ]
