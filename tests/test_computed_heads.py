"""Heads that are computed, against published numbers, scikit-learn and loops."""

import numpy as np
import pytest
from golden import GOLDEN, INPUTS
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import NearestCentroid

from twostage_jax.support.errors import InputError
from twostage_jax.training.computed_heads import (
    TAUS,
    choose_tau,
    nearest_class_mean,
    normalize_norms,
)


def activations(seed, sizes=(60, 25, 9, 4), hidden=6, dtype=np.float32):
    """Overlapping classes after a ReLU, in random order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centers = rng.standard_normal((len(sizes), hidden))
    made = centers[labels] + rng.standard_normal((len(labels), hidden))
    return np.maximum(made, 0).astype(dtype), labels, rng


# --- Tau-normalization ---


@pytest.mark.parametrize("tau", [0.0, 0.5, 0.7, 1.0])
def test_normalized_scores_are_the_published_numbers(tau):
    kernel = INPUTS["head_weights"].T
    found = INPUTS["features"] @ normalize_norms(kernel, tau)
    np.testing.assert_allclose(found, GOLDEN["tau_normalised_logits"][f"tau={tau}"], rtol=1e-6)


def test_norms_are_those_of_classes_to_the_power_of_what_is_left():
    kernel = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    kernel[:, 2] = 0
    norms = np.linalg.norm(kernel.astype(float), axis=0)
    for tau in TAUS:
        found = normalize_norms(kernel, tau)
        assert found.dtype == np.float64
        expected = [norm ** (1 - tau) if norm else 0 for norm in norms]
        np.testing.assert_allclose(np.linalg.norm(found, axis=0), expected)
    np.testing.assert_array_equal(normalize_norms(kernel, 0.0), kernel)


def part_by_hand(labels, seed):
    """The first fifth of each class, rounded up, in one random order of all samples."""
    taken, wanted = [], {label: -(-n // 5) for label, n in enumerate(np.bincount(labels))}
    for row in np.random.default_rng(seed).permutation(len(labels)):
        if wanted[labels[row]]:
            taken.append(row)
            wanted[labels[row]] -= 1
    return np.array(taken)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_chosen_tau_is_the_smallest_of_the_best(seed):
    hidden, labels, rng = activations(seed)
    kernel = (rng.normal(size=(6, 4)) * [4, 2, 1, 0.2]).astype(np.float32)
    part = part_by_hand(labels, seed)
    assert np.bincount(labels[part]).tolist() == [12, 5, 2, 1]
    scores = []
    for tau in np.arange(0, 1.01, 0.05):
        columns = kernel.T.astype(float)
        columns = [weights / np.linalg.norm(weights) ** tau for weights in columns]
        predictions = (hidden[part].astype(float) @ np.transpose(columns)).argmax(1)
        scores.append(balanced_accuracy_score(labels[part], predictions))
    best = np.flatnonzero(np.isclose(scores, max(scores), atol=1e-12))[0]
    assert choose_tau(hidden, labels, kernel, seed) == pytest.approx(0.05 * best)


def test_a_kernel_that_favors_frequent_classes_is_normalized():
    """Weights in proportion to the frequency of their class: 1 undoes it."""
    hidden, labels, _ = activations(3, sizes=(400, 100, 40, 20), hidden=40)
    means, _ = nearest_class_mean(hidden, labels, 4)
    even = means / np.linalg.norm(means, axis=0)
    assert choose_tau(hidden, labels, even, 0) == 0  # all are equally good
    assert choose_tau(hidden, labels, even * [8, 4, 2, 1], 0) > 0.5


# --- Nearest class mean ---


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_nearest_mean_is_scikit_learns(seed):
    hidden, labels, rng = activations(seed)
    kernel, bias = nearest_class_mean(hidden, labels, 4)
    reference = NearestCentroid().fit(hidden.astype(float), labels)
    np.testing.assert_allclose(kernel.T, reference.centroids_)
    tested = rng.normal(size=(50, 6))
    scores = tested @ kernel + bias
    np.testing.assert_array_equal(scores.argmax(1), reference.predict(tested))
    distances = ((tested[:, None] - reference.centroids_) ** 2).sum(2)
    offset = (tested**2).sum(1, keepdims=True)
    np.testing.assert_allclose(scores, (offset - distances) / 2, atol=1e-9)


# --- What is refused ---


def test_a_class_without_samples_is_refused():
    hidden, labels, _ = activations(0)
    kernel = np.ones((6, 5))
    for owner, compute in (
        ("the nearest class mean", lambda: nearest_class_mean(hidden, labels, 5)),
        ("tau-normalization", lambda: choose_tau(hidden, labels, kernel, 0)),
    ):
        with pytest.raises(InputError, match=f"^{owner} found no sample of class 4, at least one"):
            compute()
