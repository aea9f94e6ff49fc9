"""The page of `evaluate`: one saved model on labeled images it was not trained on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer

from twostage_jax.evaluation.calibration import Calibration, bin_samples, calibrate
from twostage_jax.evaluation.image_bootstrap import bootstrap_scores
from twostage_jax.evaluation.intervals import Interval
from twostage_jax.evaluation.metrics import Matrix, confusion_matrix
from twostage_jax.evaluation.names import class_titles, readable
from twostage_jax.evaluation.sheets import csv
from twostage_jax.evaluation.statistics import CONFIDENCE, RESAMPLES
from twostage_jax.report import confusion, reliability, style
from twostage_jax.report.blocks import Block, Notice, Section, Table, Text, make_table
from twostage_jax.report.looks import Look
from twostage_jax.report.own_files import publish
from twostage_jax.report.rendering import encode, render_page
from twostage_jax.support.errors import InputError

_LOOK = Look("this model", "other", "#0072B2", "o", "-")


def write_evaluation(
    folder: str | os.PathLike[str],
    *,
    title: str,
    model: Mapping[str, object],
    class_names: Sequence[str],
    labels: Integer[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n classes"],
    names: Sequence[str],
    source: str,
) -> Path:
    """Writes the scores of one model on labeled images as a page and as CSV; returns the page.

    The files are `index.html`, `scores.csv`, `classes.csv`, `confusion.csv`, `predictions.csv`,
    `calibration.csv`, `reliability.csv` and `reliability.svg`. Of other files in the folder, only
    those that an earlier call wrote and nobody changed are removed. Equal arguments give equal
    bytes. A class of the model without any image has no recall; the page says so, and AvAcc, CBA
    and MAvG are over the others.

    Args:
        folder: where the files go; made if it is missing.
        title: the headline of the page.
        model: facts about the model, by what to call them.
        class_names: the classes of the model, by label.
        labels: the true class of each image, in [0, classes).
        probabilities: the predicted probabilities, one row per image.
        names: the file name of each image.
        source: one line on where the images are from.

    Raises:
        InputError: no images, or labels, probabilities, names and classes that do not fit
            together; a symbolic link leads out of the folder.
        OSError: the disk is full, the folder is read-only, ...; each file is whole or untouched.
    """
    classes = len(class_names)
    if probabilities.shape != (len(labels), classes) or len(names) != len(labels) or not classes:
        raise InputError(
            f"found {len(labels)} labels, {len(names)} names and probabilities of shape "
            f"{probabilities.shape} for {classes} classes; expected one of each per image and one "
            "column per class; pass all of the same images and model"
        )
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, predicted, classes)
    titles = class_titles(class_names)
    with style.quiet():
        files = render_page(
            [
                Section("scores", "Scores", _blocks(matrix, titles, labels, probabilities)),
                Section("model", "Model and images", [_facts(model, source)]),
            ],
            kind="model",
            title=title,
            status=f"{len(labels):,} images of {np.count_nonzero(matrix.sum(axis=1))} classes, "
            f"{matrix.trace():,} predicted right",
        )
    files["predictions.csv"] = _predictions(titles, labels, probabilities, names)
    target = Path(os.path.realpath(folder))
    publish(target, encode(files))
    return target / "index.html"


def _blocks(
    matrix: Matrix,
    titles: Sequence[str],
    labels: Integer[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n classes"],
) -> list[Block]:
    bins = bin_samples(probabilities, labels)
    return [
        *_absent(matrix, titles),
        _scores(bootstrap_scores(matrix)),
        _classes(matrix, titles),
        _confusion(matrix, titles),
        _calibration(calibrate(probabilities, labels)),
        reliability.picture({"model": bins}, {"model": _LOOK}),
        reliability.bins_table([({"approach": "model", "title": "this model"}, bins)]),
    ]


def _absent(matrix: Matrix, titles: Sequence[str]) -> list[Notice]:
    absent = [titles[label] for label in np.flatnonzero(matrix.sum(axis=1) == 0)]
    if not absent:
        return []
    one = len(absent) == 1
    return [
        Notice(
            f"No image is of class{'' if one else 'es'} {', '.join(absent)}. "
            f"{'It has' if one else 'They have'} no recall: AvAcc, CBA and MAvG are over the "
            f"{len(titles) - len(absent)} classes that are there. An image that is predicted as "
            f"{'it' if one else 'one of them'} is a mistake."
        )
    ]


def _scores(found: Mapping[str, Interval]) -> Table:
    frame = pd.DataFrame(found.values(), pd.Index(found, name="metric")).reset_index()
    return make_table(
        "scores",
        "Scores",
        f"From and to: {CONFIDENCE:.0%} percentile bootstrap over images, stratified by class "
        f"({RESAMPLES:,} resamples). It says how sure these scores are for this one model and "
        "images such as these. Images of one patient or plant are alike, so that the truth is less "
        "sure; how another training would do is not in it either.",
        frame,
        "metric value:4 low:4 high:4",
        {"value": "Score", "low": "from", "high": "to"},
    )


def _classes(matrix: Matrix, titles: Sequence[str]) -> Table:
    right, images, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which prints as a dash
        frame = pd.DataFrame(
            {
                "class": titles,
                "images": images,
                "predicted": predicted,
                "recall": right / images,
                "precision": right / predicted,
            }
        )
    return make_table(
        "classes",
        "Recall and precision of each class",
        "Recall: share of the images of a class that are predicted as it. Precision: share of the "
        "images predicted as a class that are of it.",
        frame,
        "class images:0 predicted:0 recall:3 precision:3",
        {"predicted": "Predicted as it"},
    )


def _confusion(matrix: Matrix, titles: Sequence[str]) -> Table:
    sheet = confusion.sheet("Confusion matrix", matrix, list(titles))
    columns = [f"predicted as {title}" for title in titles]
    frame = pd.DataFrame(matrix, columns=columns)
    frame.insert(0, "true_class", titles)
    caption = "Images by true class (rows) and predicted class (columns)."
    return Table("confusion", caption, sheet, csv(frame))


def _calibration(found: Calibration) -> Table:
    return make_table(
        "calibration",
        "Calibration of the probabilities",
        reliability.MEANING,
        pd.DataFrame([found]),
        "nll:4 brier:4 ece:4 confidence:4 accuracy:4 samples:0",
        {**reliability.HEADINGS, "samples": "Images"},
    )


def _facts(model: Mapping[str, object], source: str) -> Text:
    lines = [f"Images: {source}.", *(f"{name}: {value}" for name, value in model.items())]
    return Text(tuple(map(readable, lines)))


def _predictions(
    titles: Sequence[str],
    labels: Integer[np.ndarray, "n"],
    probabilities: Float[np.ndarray, "n classes"],
    names: Sequence[str],
) -> str:
    """One row per image: its name, true and predicted class, and the probabilities of both."""
    known, predicted = np.array(titles, object), probabilities.argmax(axis=1)
    rows = np.arange(len(labels))
    frame = pd.DataFrame(
        {
            "filename": [readable(name) for name in names],
            "true_label": known[labels],
            "label": known[predicted],
            "prob": probabilities[rows, predicted],
            "prob_of_true_label": probabilities[rows, labels],
        }
    )
    return csv(frame)
