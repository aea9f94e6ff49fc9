"""Scores, against scikit-learn, imbalanced-learn and sums by hand."""

import imblearn.metrics
import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from twostage_jax.evaluation import metrics
from twostage_jax.support.errors import InputError


@st.composite
def predictions_of_all_classes(draw):
    """Labels with at least one sample of each class, predictions that may miss classes."""
    classes = draw(st.integers(2, 9))
    anywhere = st.integers(0, classes - 1)
    labels = draw(st.permutations([*range(classes), *draw(st.lists(anywhere, max_size=60))]))
    flips = draw(st.lists(anywhere, min_size=len(labels), max_size=len(labels)))
    right = draw(st.lists(st.booleans(), min_size=len(labels), max_size=len(labels)))
    predictions = np.where(right, labels, flips)
    return np.array(labels), predictions, classes


def class_balance_accuracy_by_loops(matrix):
    total = 0.0
    for i in range(len(matrix)):
        of_class, as_class = 0, 0
        for j in range(len(matrix)):
            of_class += matrix[i, j]
            as_class += matrix[j, i]
        total += matrix[i, i] / max(of_class, as_class)
    return total / len(matrix)


@given(predictions_of_all_classes())
def test_scores_agree_with_reference_libraries(sample):
    labels, predictions, classes = sample
    matrix = metrics.confusion_matrix(labels, predictions, classes)
    assert np.array_equal(matrix, sklearn.metrics.confusion_matrix(labels, predictions))
    scores = metrics.scores(matrix)
    mavg = imblearn.metrics.geometric_mean_score(labels, predictions, average="multiclass")
    assert scores.AvAcc == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(labels, predictions)
    )
    assert scores.MAvG == pytest.approx(mavg)
    assert scores.Acc == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    assert pytest.approx(class_balance_accuracy_by_loops(matrix)) == scores.CBA


@given(predictions_of_all_classes())
def test_scores_are_bounded_and_ordered(sample):
    scores = metrics.scores(metrics.confusion_matrix(*sample))
    assert all(0 <= score <= 1 for score in scores)
    assert max(scores.CBA, scores.MAvG) <= scores.AvAcc + 1e-12


@given(predictions_of_all_classes(), st.randoms())
def test_scores_ignore_class_names(sample, random):
    labels, predictions, classes = sample
    renamed = np.array(random.sample(range(classes), classes))
    before = metrics.scores(metrics.confusion_matrix(labels, predictions, classes))
    after = metrics.scores(metrics.confusion_matrix(renamed[labels], renamed[predictions], classes))
    assert after == pytest.approx(before)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_labels_of_any_integer_type_are_counted(dtype):
    """With 20 classes, the numbers of pairs go beyond 255."""
    labels = np.repeat(np.arange(20), 2)
    predictions = (labels + np.arange(40) % 2) % 20
    matrix = metrics.confusion_matrix(labels.astype(dtype), predictions.astype(dtype), 20)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(labels, predictions))


def test_scores_by_hand():
    matrix = np.array([[6, 2, 0], [0, 2, 2], [0, 0, 4]])
    scores = metrics.scores(matrix)
    by_hand = ((0.75 + 0.5 + 1) / 3, (6 / 8 + 2 / 4 + 4 / 6) / 3, (0.75 * 0.5) ** (1 / 3), 12 / 16)
    assert scores == pytest.approx(by_hand)


def test_perfect_predictions_score_exactly_one():
    assert metrics.scores(np.diag([3, 7, 1])) == (1, 1, 1, 1)


@pytest.mark.filterwarnings("error")
def test_one_class_never_right_makes_the_geometric_mean_zero():
    assert metrics.scores(np.array([[0, 3], [0, 5]])).MAvG == 0


def test_class_without_samples_is_refused():
    with pytest.raises(InputError, match="no test samples of class 1; expected at least one"):
        metrics.scores(np.array([[2, 1, 0], [0, 0, 0], [0, 0, 4]]))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "found 0 labels"),
        ([0, 1], [0], "found 2 labels and 1 predictions"),
        ([0, 3], [0, 1], "found labels from 0 to 3; expected 0 to 2"),
        ([0, 1], [-1, 1], "found predictions from -1 to 1"),
    ],
)
def test_bad_predictions_are_refused(labels, predictions, message):
    with pytest.raises(InputError, match=message):
        metrics.confusion_matrix(np.array(labels, int), np.array(predictions, int), 3)
