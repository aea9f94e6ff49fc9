"""The paper's tables and figures, from this study's records."""

import pandas as pd

from twostage_jax.evaluation import paper, tables
from twostage_jax.report import charts, pictures
from twostage_jax.report.blocks import Block, Notice, Picture, Section, Table, make_table
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.record import Record

# What writes what the records lack; the reader finds it under Provenance.
_ADD = "start the study's last command (see Provenance) again: it adds them"


def section(results: Results) -> Section:
    """Tables I and II, figures 1 to 6, and the paper's numbers beside ours where they belong."""
    blocks: list[Block] = []
    if len(results.scores):
        blocks += _tables(results)
        blocks += beside_paper(results)
    blocks += _images(results)
    if results.records:
        blocks += _class_counts(results.records)
    baseline = results.scores[results.scores["approach"] == "baseline"]
    if (baseline["ratio"] > 1).any():
        blocks.append(
            Picture(
                "fig6-metrics-by-ratio",
                "Fig. 6: the baseline's scores against the imbalance ratio",
                "Mean over the folds, without any resampling, a row of panels a scenario; bars "
                "span the folds. Acc is the plain accuracy, which hides what imbalance does.",
                charts.metrics_by_ratio(baseline, ["baseline"]),
            )
        )
    return Section("paper", "The paper's exhibits, from our records", blocks)


def _tables(results: Results) -> list[Block]:
    made = results.imbalanced
    one, two = tables.sheets(made)
    ranking = made.ranking
    left_out = f"; {ranking.incomplete} more lack an approach" if ranking.incomplete else ""
    return [
        Table(
            "table1",
            "Mean over the folds; the best of a row is bold. Test folds carry the imbalance.",
            one,
            tables.csv(made.table1, {}),
        ),
        Table(
            "table2",
            "Mean score and, in parentheses, average rank (1 is best), over "
            f"{ranking.partitions} partitions in which every approach has a score{left_out}.",
            two,
            tables.csv(ranking.table, {}),
        ),
    ]


def beside_paper(results: Results) -> list[Block]:
    """The paper's numbers beside ours where they may be compared, else apart, and why."""
    if results.why_absent is None:
        return [
            make_table(
                "paper-cells",
                "Ours beside the paper's, cell by cell",
                "Difference: ours minus the paper's. Table II has no scenario and no ratio.",
                compare(results.imbalanced),
                header={
                    "table": "Table",
                    "scenario": "Scenario",
                    "ratio": "IR",
                    "metric": "Metric",
                    "title": "Approach",
                    "ours": "Ours",
                    "paper": "Paper",
                    "difference": "Difference",
                },
                decimals={"ours": 4, "paper": 4, "difference": 4},
                folded=True,
            )
        ]
    published = paper.table2()
    wide = published.pivot(index="approach", columns="metric", values="mean").loc[[*APPROACHES]]
    wide = wide.assign(title=[APPROACHES[name].title for name in wide.index]).reset_index()
    return [
        Notice(
            f"The paper's numbers do not stand beside these: {results.why_absent}. They follow "
            "by themselves, and are not to be compared with the tables above."
        ),
        make_table(
            "paper-table2",
            "The paper's Table II: other data, other network",
            "Means over the paper's 120 partitions of colorectal tissue.",
            wide,
            header={"title": "Approach"} | {metric: metric for metric in tables.METRICS},
            decimals=dict.fromkeys(tables.METRICS, 4),
            folded=True,
        ),
    ]


def compare(made: tables.Tables) -> pd.DataFrame:
    """Every cell of both tables, ours and the paper's.

    Returns:
        Columns table, scenario, ratio, metric, title, ours, paper, difference; cells that one of
        the two lacks are left out.
    """
    keys = ["scenario", "imbalance_ratio", "metric"]
    ours, theirs = (
        table.melt(keys, var_name="approach", value_name="score")
        for table in (made.table1, paper.table1())
    )
    first = ours.merge(theirs, on=[*keys, "approach"], suffixes=("_ours", "_paper"))
    first = first.rename(columns={"imbalance_ratio": "ratio"}).assign(table="I")
    first["ratio"] = first["ratio"].map("{:g}".format)
    second = made.ranking.table.merge(
        paper.table2(), on=["approach", "metric"], suffixes=("_ours", "_paper")
    )
    parts = [first.rename(columns={"score_ours": "ours", "score_paper": "paper"})]
    for column, table in (("mean", "II"), ("average_rank", "II, rank")):
        names = {f"{column}_ours": "ours", f"{column}_paper": "paper"}
        parts.append(second.rename(columns=names).assign(table=table, scenario="all", ratio="all"))
    cells = pd.concat(parts, ignore_index=True).dropna(subset=["ours", "paper"])
    cells["scenario"] = cells["scenario"].str.replace("_", " ")
    cells["title"] = cells["approach"].map(lambda name: APPROACHES[name].title)
    cells["difference"] = cells["ours"] - cells["paper"]
    return cells[
        ["table", "scenario", "ratio", "metric", "title", "ours", "paper", "difference"]
    ].reset_index(drop=True)


def _images(results: Results) -> list[Block]:
    images, blocks = results.images, []
    flow = Picture(
        "fig2-data-flow",
        "Fig. 2: the data flow of TS SMOTE+RUS",
        "Stage 1 trains the whole network on oversampled images. Stage 2 passes the original "
        "images through it and trains the head alone on their undersampled features.",
        pictures.data_flow(),
    )
    if images is None:
        return [
            Notice(f"Figs. 1 and 3 need images, which this folder does not hold; {_ADD}."),
            flow,
        ]
    if len(images.pair):
        blocks.append(
            Picture(
                "fig1-smote",
                "Fig. 1: SMOTE between two real images",
                f"A training image of class {charts.title_of(results.classes[images.pair_class])} "
                f"and one of its {results.description.settings['k_neighbors']} nearest neighbours, "
                "a pair of the study's own, and what interpolation makes of them.",
                pictures.smote(images.pair),
            )
        )
    else:
        blocks.append(Notice("Fig. 1 is absent: this study does not use SMOTE on images."))
    blocks += [
        flow,
        Picture(
            "fig3-samples",
            "Fig. 3: samples, a row a class",
            f"{images.samples.shape[1]} images of each class, reduced in size.",
            pictures.samples(images.samples, results.classes),
        ),
    ]
    return blocks


def _class_counts(records: list[Record]) -> list[Block]:
    """Figs. 4 and 5, from the class counts that the records bear."""
    rows = {
        (record.key.scenario, record.key.ratio, record.key.fold): sorted(
            record.class_counts.tolist(), reverse=True
        )
        for record in records
    }
    index = pd.MultiIndex.from_tuples(rows, names=["scenario", "ratio", "fold"])
    by_fold = pd.DataFrame(list(rows.values()), index=index)
    counts = by_fold.groupby(["scenario", "ratio"]).mean()
    blocks: list[Block] = []
    above = counts[counts.index.get_level_values("ratio") > 1]
    if len(above):
        blocks = [
            Picture(
                "fig4-class-distributions",
                "Fig. 4: class distributions",
                "Training images of each class, the largest first, means over the folds; which "
                "class is large and which small differs from fold to fold.",
                charts.class_distributions(above),
            ),
            Picture(
                "fig5-images-by-ratio",
                "Fig. 5: images against the imbalance ratio",
                "All training images of a partition, before resampling, mean over the folds. By "
                "the paper's equations 1 to 3 linear has fewer than half minority; its text calls "
                "the two equal.",
                charts.images_by_ratio(counts.sum(axis=1)),
            ),
        ]
    return blocks
