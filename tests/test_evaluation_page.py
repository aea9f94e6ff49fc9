"""The page of one model on labeled images, and its intervals."""

import re

import numpy as np
import pandas as pd
import pytest

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.calibration import calibrate
from twostage_jax.evaluation.image_bootstrap import bootstrap_scores
from twostage_jax.report.evaluation import write_evaluation
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

CLASSES = ["a_b", "<b>", "=c", "never there"]


def drawn(present=4, n=200, seed=0):
    """Labels of the first classes, and probabilities that follow them loosely."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % present
    logits = rng.normal(size=(n, 4))
    logits[np.arange(n), labels] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return labels, probabilities.astype(np.float32)


def write(folder, labels, probabilities, **changes):
    options = {
        "title": "cells.model on new",
        "model": {"Approach": "IS SMOTE", "Trained on": "815 images"},
        "class_names": CLASSES,
        "labels": labels,
        "probabilities": probabilities,
        "names": [f"=x/{i}.png" for i in range(len(labels))],
        "source": "new/",
    }
    return write_evaluation(folder, **(options | changes))


def matrix_of(labels, probabilities):
    return metrics.confusion_matrix(labels, probabilities.argmax(axis=1), 4)


def test_all_files_agree_with_the_predictions(tmp_path):
    labels, probabilities = drawn()
    page = write(tmp_path / "page", labels, probabilities)
    read = {path.stem: pd.read_csv(path) for path in page.parent.glob("*.csv")}
    matrix = matrix_of(labels, probabilities)
    expected = metrics.scores(matrix)._asdict()
    assert read["scores"].set_index("metric")["value"].to_dict() == pytest.approx(expected)
    assert read["confusion"].iloc[:, 1:].to_numpy().tolist() == matrix.tolist()
    np.testing.assert_allclose(read["classes"]["recall"], metrics.recalls(matrix))
    precision = matrix.diagonal() / matrix.sum(axis=0)
    np.testing.assert_allclose(read["classes"]["precision"], precision)
    found = calibrate(probabilities, labels)._asdict()
    assert read["calibration"].iloc[0].to_dict() == pytest.approx(found)
    rows = read["predictions"]
    assert rows["filename"].tolist() == [f"'=x/{i}.png" for i in range(200)], "no formula"
    assert rows["label"].iloc[0] == ["a b", "<b>", "'=c", "never there"][probabilities[0].argmax()]
    np.testing.assert_allclose(rows["prob"], probabilities.max(axis=1), rtol=1e-6)
    own = probabilities[np.arange(200), labels]
    np.testing.assert_allclose(rows["prob_of_true_label"], own, rtol=1e-6)
    text = page.read_text()
    assert "Approach: IS SMOTE" in text
    assert "&lt;b&gt;" in text
    assert 'href="predictions.csv"' in text
    assert not re.search(r"No image is of|\bnan\b", text)


def test_classes_without_images_are_named_and_have_no_recall(tmp_path):
    labels, probabilities = drawn(present=3)
    text = write(tmp_path, labels, probabilities).read_text()
    assert "No image is of class never there. It has no recall" in text
    assert "over the 3 classes that are there" in text
    classes = pd.read_csv(tmp_path / "classes.csv")
    assert classes["recall"].isna().tolist() == [False] * 3 + [True]
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("metric")
    assert scores.loc["AvAcc", "value"] == pytest.approx(classes["recall"].mean())
    right = (probabilities.argmax(axis=1) == labels).mean()
    assert scores.loc["Acc", "value"] == pytest.approx(right)
    assert not re.search(r"\bnan\b", re.sub('"data:.*?"', "", text))
    write(tmp_path, *drawn(present=1))
    assert "No image is of classes" in (tmp_path / "index.html").read_text()


def test_the_same_predictions_give_the_same_bytes_and_old_files_go(tmp_path):
    labels, probabilities = drawn()
    first, second = ({}, {})
    for files in (first, second):
        page = write(tmp_path / "page", labels, probabilities)
        files |= {path.name: path.read_bytes() for path in page.parent.iterdir()}
    assert first == second
    (tmp_path / "link").symlink_to("page")
    assert write(tmp_path / "link", labels, probabilities) == page


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.zeros(0, np.int64), "probabilities": np.zeros((0, 4)), "names": []},
        {"names": ["one.png"]},
        {"class_names": ["a", "b"]},
        {"labels": np.full(200, 4)},
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path, changes):
    labels, probabilities = drawn()
    with pytest.raises(InputError, match="; expected"):
        write(tmp_path / "page", **({"labels": labels, "probabilities": probabilities} | changes))
    assert not (tmp_path / "page").exists()


def test_a_bootstrap_of_matrices_is_one_of_images():
    """Against resampling the images themselves, class by class."""
    labels, probabilities = drawn(n=120)
    predictions = probabilities.argmax(axis=1)
    rng = np.random.default_rng(1)
    samples = []
    for _ in range(1500):
        picks = np.concatenate(
            [rng.choice(np.flatnonzero(labels == k), (labels == k).sum()) for k in range(4)]
        )
        samples.append(
            metrics.scores(metrics.confusion_matrix(labels[picks], predictions[picks], 4))
        )
    found = bootstrap_scores(matrix_of(labels, probabilities))
    low, high = np.percentile(samples, [2.5, 97.5], axis=0)
    for i, (name, own) in enumerate(found.items()):
        assert metrics.Scores._fields[i] == name
        assert own.low < own.value < own.high
        assert (own.low, own.high) == pytest.approx((low[i], high[i]), abs=0.02)


def test_an_interval_is_no_wider_than_chance_allows_and_comes_from_a_named_stream():
    sure = np.diag([3, 5, 0, 9])
    assert {tuple(own) for own in bootstrap_scores(sure).values()} == {(1.0, 1.0, 1.0)}
    half = np.array([[503, 500], [400, 511]])
    assert bootstrap_scores(half) == bootstrap_scores(half)
    assert bootstrap_scores(half) != bootstrap_scores(half, seed=1)
    never = bootstrap_scores(np.array([[0, 2], [0, 2]]))
    assert tuple(never["MAvG"]) == (0, 0, 0), "one recall is 0"
    with pytest.raises(InputError, match="found no labeled images"):
        bootstrap_scores(np.zeros((2, 2), np.int64))
