"""Differences, intervals and ranks of the report, against numbers from elsewhere."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.evaluation.statistics import (
    FEWEST_FOLDS,
    PROPOSED,
    critical_difference,
    paired_difference,
    rank_test,
    rivals,
    scores_by_fold,
    scores_by_partition,
)
from twostage_jax.report import verdict

COLUMNS = ["scenario", "ratio", "fold", "approach", "AvAcc", "CBA", "MAvG", "Acc"]


def make_frame(cells):
    """A frame from {(scenario, ratio, fold): {approach: score}}."""
    rows = [
        (*cell, approach, *[score] * 4)
        for cell, scores in cells.items()
        for approach, score in scores.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def of_folds(differences, rival="baseline"):
    """One partition a fold, in which the proposed approach is ahead by the given difference."""
    return make_frame(
        {
            ("linear", 10.0, fold): {rival: 0.5, PROPOSED: 0.5 + difference}
            for fold, difference in enumerate(differences)
        }
    )


def test_a_fold_counts_once_however_many_partitions_it_has():
    cells = {("linear", 10.0, 0): {"baseline": 0.5, PROPOSED: 0.9}}
    for scenario in ("linear", "half_minority"):
        cells[scenario, 5.0, 1] = {"baseline": 0.5, PROPOSED: 0.4}
    found = paired_difference(make_frame(cells), "AvAcc", "baseline")
    np.testing.assert_allclose(found.by_fold, [0.4, -0.1])
    assert found.mean == pytest.approx(0.15)
    assert (found.partitions, found.ahead) == (3, 1)


def test_partitions_without_a_pair_and_ratio_1_do_not_count():
    cells = {
        ("original", 1.0, 0): {"baseline": 0.1, PROPOSED: 0.9},
        ("linear", 2.0, 0): {"baseline": 0.5, PROPOSED: 0.6},
        ("linear", 2.0, 1): {"baseline": 0.5},
    }
    found = paired_difference(make_frame(cells), "CBA", "baseline")
    assert (found.partitions, len(found.by_fold)) == (1, 1)
    assert np.isnan([found.low, found.high]).all()
    assert paired_difference(make_frame(cells), "CBA", "fs_rus") is None


def test_the_interval_is_that_of_the_means_of_all_resamples():
    """Three folds have 27 resamples; their means can be listed."""
    values = np.array([0.0, 0.3, 0.9])
    means = np.array([values[list(pick)].mean() for pick in np.ndindex(3, 3, 3)])
    found = paired_difference(of_folds(values), "AvAcc", "baseline")
    # 1 of 27 resamples is the lowest three times over: more than 2.5 %.
    assert (found.low, found.high) == pytest.approx((means.min(), means.max()))


def test_folds_that_agree_have_an_interval_of_no_width():
    found = paired_difference(of_folds([0.25] * 8), "AvAcc", "baseline")
    assert (found.low, found.mean, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.verdict == "better"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=10), st.floats(-0.3, 0.3))
def test_what_both_gain_changes_nothing_and_the_interval_holds_the_mean(percent, gain):
    frame = of_folds(np.array(percent) / 100)
    shifted = frame.assign(AvAcc=frame["AvAcc"] + gain * (1 + frame["fold"]))
    one, other = (paired_difference(f, "AvAcc", "baseline") for f in (frame, shifted))
    np.testing.assert_allclose(one.by_fold, other.by_fold, atol=1e-9)
    assert one.low - 1e-9 <= one.mean <= one.high + 1e-9
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=1e-9)


@pytest.mark.parametrize(
    ("differences", "expected", "words"),
    [
        ([0.1] * FEWEST_FOLDS, "better", "it wins here"),
        ([-0.1] * FEWEST_FOLDS, "worse", "it loses here"),
        ([0.1, -0.1] * 5, "undecided", "undecided"),
        ([0.0] * 10, "undecided", "level with the baseline"),
        ([0.0004] * 10, "undecided", "The interval holds zero"),  # it prints as 0.000
        ([0.1] * (FEWEST_FOLDS - 1), "too few folds", "Too few folds to decide"),
        ([0.1], "too few folds", "nothing can be said about chance"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(differences, expected, words):
    found = paired_difference(of_folds(differences), "AvAcc", "baseline")
    sentence = verdict.sentence("the baseline", found)
    assert found.verdict == expected
    assert words in sentence
    assert ("wins" in sentence) == (expected == "better")
    assert ("loses" in sentence) == (expected == "worse")


def test_rivals_are_the_best_of_each_space_on_complete_partitions():
    whole = {"baseline": 0.5, "is_rus": 0.3, "is_ros": 0.6, "fs_rus": 0.4, "fs_smote": 0.39}
    cells = {("linear", 2.0, 0): whole, ("linear", 2.0, 1): {"is_rus": 1.0}}
    assert rivals(make_frame(cells)) == {
        "the baseline": "baseline",
        "the best in image space": "is_ros",
        "the best in feature space": "fs_rus",
    }
    assert rivals(make_frame({("linear", 2.0, 0): {"baseline": 0.5}})) == {
        "the baseline": "baseline"
    }


def test_critical_difference_of_the_paper_that_defined_it():
    """Demšar (2006), section 3.2.2: four classifiers, 14 data sets."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)


def test_nemenyi_and_the_critical_difference_agree():
    rng = np.random.default_rng(0)
    names = ["baseline", "is_rus", "is_ros", "fs_rus", PROPOSED]
    cells = {
        ("linear", 2.0, fold): dict(zip(names, rng.normal(np.arange(5) / 2), strict=True))
        for fold in range(12)
    }
    test = rank_test(scores_by_partition(make_frame(cells), "AvAcc"))
    assert test.blocks == 12
    assert test.ranks.sum() == pytest.approx(15)
    apart = np.abs(np.subtract.outer(test.ranks.to_numpy(), test.ranks.to_numpy()))
    assert ((apart > critical_difference(5, 12)) == (test.p_values.to_numpy() < 0.05)).all()
    assert (test.p_values.to_numpy() < 0.05).any()


def test_ranks_need_blocks_and_ties_are_no_difference():
    scores = scores_by_partition(
        make_frame({("linear", 2.0, 0): dict.fromkeys(["baseline", "is_rus", "fs_rus"], 0.5)}),
        "AvAcc",
    )
    assert rank_test(scores) is None
    tied = rank_test(pd.concat([scores, scores]))
    assert list(tied.ranks) == [2, 2, 2]
    assert np.isnan(tied.friedman)
    assert (tied.p_values.to_numpy() > 0.05).all()


def test_fold_means():
    cells = {
        ("linear", 2.0, 0): {"baseline": 0.2, "is_rus": 0.4},
        ("linear", 5.0, 0): {"baseline": 0.4, "is_rus": 0.6},
        ("linear", 2.0, 1): {"baseline": 0.9, "is_rus": 0.1},
    }
    means = scores_by_fold(scores_by_partition(make_frame(cells), "MAvG"))
    np.testing.assert_allclose(means, [[0.3, 0.5], [0.9, 0.1]])
    assert list(means.columns) == ["baseline", "is_rus"]
