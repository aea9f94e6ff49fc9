"""Calibration against scikit-learn, and against numbers made by hand."""

import dataclasses
import math

import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from report_study import make_record, study_keys

from twostage_jax.evaluation import calibration
from twostage_jax.evaluation.counting import counted
from twostage_jax.evaluation.tables import confusion_matrices, metrics_frame
from twostage_jax.support.errors import InputError


@pytest.fixture(scope="module")
def drawn():
    """Probabilities of 400 samples and 5 classes, and labels that follow them loosely."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.full(5, 0.4), 400).astype(np.float32)
    labels = np.array([rng.choice(5, p=p / p.sum()) for p in probabilities.astype(np.float64)])
    return probabilities, labels


def test_log_loss_is_that_of_scikit_learn(drawn):
    probabilities, labels = drawn
    probabilities = probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.log_loss(labels, probabilities, labels=range(5))
    assert calibration.log_loss(probabilities, labels) == pytest.approx(expected, rel=1e-6)


def test_the_brier_score_is_that_of_scikit_learn_summed_over_classes(drawn):
    probabilities, labels = drawn
    by_class = [
        sklearn.metrics.brier_score_loss(labels == k, probabilities[:, k]) for k in range(5)
    ]
    found = calibration.brier_score(probabilities, labels)
    assert found == pytest.approx(sum(by_class), rel=1e-6)


def test_bins_are_those_of_scikit_learn(drawn):
    probabilities, labels = drawn
    right = probabilities.argmax(axis=1) == labels
    accuracy, confidence = sklearn.calibration.calibration_curve(
        right, probabilities.max(axis=1), n_bins=calibration.BINS
    )
    bins = calibration.bin_samples(probabilities, labels)
    there = bins.count > 0
    assert bins.count.sum() == 400
    assert not there[:3].any(), "the top of five probabilities is at least 0.2"
    np.testing.assert_allclose(bins.accuracy[there], accuracy)
    np.testing.assert_allclose(bins.confidence[there], confidence, rtol=1e-6)
    weights = bins.count[there] / 400
    expected = (weights * np.abs(accuracy - confidence)).sum()
    assert calibration.expected_calibration_error(bins) == pytest.approx(expected, rel=1e-6)


def test_all_scores_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    found = calibration.calibrate(probabilities, np.array([0, 1, 1, 0]))
    losses = [math.log(0.9), math.log(0.1), math.log(0.6), math.log(0.5)]
    assert found.log_loss == pytest.approx(-sum(losses) / 4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.5) / 4)
    # The bins of 0.9 (two samples, one right), of 0.6 and of 0.5 (one sample each, both right).
    assert found.ece == pytest.approx((2 * 0.4 + 0.4 + 0.5) / 4)
    assert found.confidence == pytest.approx((0.9 + 0.9 + 0.6 + 0.5) / 4)
    assert (found.accuracy, found.samples) == (0.75, 4)


def test_certainty_costs_nothing_where_it_is_right_and_a_bounded_loss_where_it_is_wrong():
    sure = np.eye(3, dtype=np.float32)
    right = calibration.calibrate(sure, np.arange(3))
    wrong = calibration.calibrate(sure, np.array([1, 2, 0]))
    assert right[:3] == pytest.approx((0, 0, 0), abs=2e-7)
    assert wrong[:3] == pytest.approx((23 * math.log(2), 2, 1))


def test_a_probability_on_an_edge_belongs_to_the_lower_bin():
    for bins, place in ((2, 0), (4, 1)):
        found = calibration.bin_samples(np.array([[0.5, 0.5]]), np.array([0]), bins)
        assert found.count.tolist() == [int(i == place) for i in range(bins)]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("labels", [[], [0], [0, 2], [-1, 0]])
def test_labels_that_do_not_fit_are_refused(labels):
    with pytest.raises(InputError, match=r"expected (one row per label|0 to 1)"):
        calibration.log_loss(np.full((2, 2), 0.5), np.array(labels, np.int64))


def test_only_scored_samples_of_partitions_that_all_approaches_have_are_pooled():
    keys = study_keys(("linear",), (1.0, 10.0), 3, ("baseline", "fs_rus"))
    records = [make_record(key) for key in keys if (key.fold, key.approach) != (2, "fs_rus")]
    frame = metrics_frame(confusion_matrices(records))
    pooled = calibration.pool(records, counted(frame))
    used = [r for r in records if r.key.ratio == 10 and r.key.fold < 2]
    assert {*pooled} == {"baseline", "fs_rus"}
    for name, (probabilities, labels) in pooled.items():
        own = [record for record in used if record.key.approach == name]
        assert len(labels) == len(probabilities) == sum(int(r.kept.sum()) for r in own)
        right = (probabilities.argmax(axis=1) == labels).sum()
        matrices = confusion_matrices(own).values()
        assert right == sum(matrix.trace() for matrix in matrices)
    assert calibration.pool(records, frame[frame["ratio"] > 2].iloc[:0]) == {}
    lone = [dataclasses.replace(records[0], key=key) for key in (keys[-1],)]
    assert calibration.pool(lone, counted(frame)) == {}
