"""The sections of a study of the data as they are: no ratios, and no exhibits of the paper."""

import dataclasses

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from twostage_jax.evaluation import metrics, tables
from twostage_jax.evaluation.recommendation import explain, fit_command, recommend
from twostage_jax.evaluation.sheets import csv
from twostage_jax.report import (
    calibration,
    charts,
    confusion,
    costs,
    learning,
    pictures,
    provenance,
    ranks,
    scores,
    style,
    verdict,
)
from twostage_jax.report.blocks import (
    Block,
    Code,
    Notice,
    Picture,
    Section,
    Table,
    Text,
    make_table,
)
from twostage_jax.report.results import Results


def sections(results: Results) -> list[Section]:
    """Returns all sections of the page; those without anything to show are left out."""
    made = [
        _recommendation(results),
        verdict.section(results),
        Section("scores", "Scores of all approaches", _scores(results)),
        Section("data", "The images", _images(results)),
        Section("training", "Training", _training(results)),
        provenance.section(results),
    ]
    return [section for section in made if section.blocks]


def _recommendation(results: Results) -> Section:
    """Returns what to train on all images, why, and by which command."""
    frame, approaches = results.counted, results.approaches
    found, fit = recommend(frame, approaches), results.description.fit
    told = explain(frame, approaches)
    if found is None:
        return Section("recommendation", "Recommendation", [*map(Notice, told)])
    reasons = [line for line in told if not line.startswith("Caution")]
    blocks: list[Block] = [
        Text(tuple(reasons)),
        *(Notice(line) for line in told if line.startswith("Caution")),
    ]
    if fit:
        blocks += [
            Text(("This command trains it on all images:",)),
            Code(fit_command(fit, found.recommended)),
        ]
    return Section("recommendation", "Recommendation", blocks)


def _scores(results: Results) -> list[Block]:
    if not len(results.counted):
        return []
    (sheet,) = tables.sheets(results.imbalanced)
    ranking = results.imbalanced.ranking
    many, out = ranking.partitions, ranking.incomplete
    left_out = f"; on {out} more, an approach has none" if out else ""
    return [
        Table(
            "table2",
            "Mean score and, in parentheses, average rank (1 is best), over the "
            f"{many} split{'s' * (many != 1)} on which every approach has a score{left_out}. The "
            "best mean of each metric is bold.",
            sheet,
            csv(ranking.table),
        ),
        *scores.blocks(results),
        _recall_of_classes(results),
        *ranks.blocks(results),
        *calibration.blocks(results),
        confusion.block(results),
    ]


def _recall_of_classes(results: Results) -> Table:
    """Returns the mean recall of each class by approach, the largest class first."""
    records = results.counted_records
    sizes = np.mean([record.class_counts for record in records], axis=0)
    frame = pd.DataFrame({"Class": results.class_titles, "Images": sizes})
    for name in results.approaches:
        own = [record.key for record in records if record.key.approach == name]
        frame[name] = np.mean(
            [metrics.recalls(results.imbalanced.matrices[k]) for k in own], axis=0
        )
    frame = frame.sort_values("Images", ascending=False, kind="stable")
    told = "Means over the splits; the largest class is first."
    table = make_table(
        "recall-by-class",
        "Recall of each class",
        f"{told} Images: training images in a split, before resampling.",
        frame,
        " ".join(["Class", "Images:0", *(f"{name}:3" for name in results.approaches)]),
        {"Images": "Training images", **results.titles},
    )
    if len(results.approaches) <= charts.MANY:
        return table
    # A column per approach would be too wide; the file stays as it is.
    sizes = frame["Images"].map("{:,.0f}".format)
    classes = dict(zip(map(str, frame.index), frame["Class"] + " (" + sizes + ")", strict=True))
    turned = frame[[*results.approaches]].T.set_axis([*classes], axis="columns")
    turned.insert(0, "Approach", pd.Series(results.titles))
    columns = " ".join(["Approach", *(f"{label}:3" for label in classes)])
    told += " In parentheses: its training images in a split, before resampling."
    page = make_table(table.name, table.sheet.title, told, turned, columns, classes)
    return dataclasses.replace(page, csv=table.csv)


def _images(results: Results) -> list[Block]:
    blocks: list[Block] = []
    counts, images = results.description.class_counts, results.images
    if len(counts) == len(results.class_titles) and min(counts, default=0):
        ratio = max(counts) / min(counts)
        blocks.append(
            Picture(
                "class-counts",
                "Class counts as found",
                f"All {sum(counts):,} images by class; the largest has {ratio:.3g} times as "
                f"many as the smallest.{results.numbered_classes}",
                class_counts(counts, results.class_labels),
            )
        )
    if images is not None:
        blocks.append(
            Picture(
                "samples",
                "Samples, one row per class",
                f"{images.samples.shape[1]} images of each class, reduced in size."
                f"{results.numbered_classes}",
                pictures.samples(images.samples, results.class_labels),
            )
        )
    if images is not None and len(images.pair):
        blocks.append(
            Picture(
                "smote",
                "What SMOTE makes of two images",
                f"A training image of class {results.class_titles[images.pair_class]} (left) and "
                f"one of its {results.settings['k_neighbors']} nearest neighbors (right), with the "
                "images that interpolation makes between them. Approaches with SMOTE in image "
                "space train on such images.",
                pictures.smote(images.pair),
            )
        )
    return blocks


def class_counts(counts: list[int], labels: list[str]) -> Figure:
    """Draws the images of each class as bars, the largest class on top.

    Args:
        counts: images of each class, by label.
        labels: what charts call each class, likewise.
    """
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    figure, ((panel,),) = style.grid(1, 1, 0.7 + 0.22 * len(counts))
    bars = panel.barh(range(len(order)), [counts[label] for label in order], color=style.COLORS[0])
    panel.bar_label(bars, padding=3, fontsize=8, fmt="{:,.0f}")
    panel.set_yticks(range(len(order)), [labels[label] for label in order])
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.set_xlabel("images")
    panel.grid(axis="y", visible=False)
    panel.margins(x=0.1)
    return figure


def _training(results: Results) -> list[Block]:
    if not results.done:
        return []
    blocks: list[Block] = [learning.curves(results)]
    if any(approach.stage2 is not None for approach in results.approaches.values()):
        blocks.append(learning.feature_map(results))
    return [*blocks, *costs.blocks(results)]
