"""Differences, intervals and ranks of the report, against numbers from elsewhere."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.evaluation.statistics import (
    FEWEST_FOLDS,
    critical_difference,
    find_proposed,
    find_rivals,
    paired_difference,
    rank_test,
    scores_by_fold,
    scores_by_partition,
)
from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.report import verdict

PROPOSED = "ts_smote_rus"
TITLES = {"baseline": "Baseline"}
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
    """One partition per fold, in which the proposed approach is ahead by the given difference."""
    return make_frame(
        {
            ("linear", 10.0, fold): {rival: 0.5, PROPOSED: 0.5 + difference}
            for fold, difference in enumerate(differences)
        }
    )


def difference(frame, metric="AvAcc"):
    return paired_difference(frame, metric, "baseline", own=PROPOSED)


def test_a_fold_counts_once_however_many_partitions_it_has():
    cells = {("linear", 10.0, 0): {"baseline": 0.5, PROPOSED: 0.9}}
    for scenario in ("linear", "half_minority"):
        cells[scenario, 5.0, 1] = {"baseline": 0.5, PROPOSED: 0.4}
    found = difference(make_frame(cells))
    np.testing.assert_allclose(found.by_fold, [0.4, -0.1])
    assert found.mean == pytest.approx(0.15)
    assert (found.partitions, found.ahead) == (3, 1)


def test_partitions_without_a_pair_and_ratio_1_do_not_count():
    cells = {
        ("original", 1.0, 0): {"baseline": 0.1, PROPOSED: 0.9},
        ("linear", 2.0, 0): {"baseline": 0.5, PROPOSED: 0.6},
        ("linear", 2.0, 1): {"baseline": 0.5},
    }
    found = difference(make_frame(cells), "CBA")
    assert (found.partitions, len(found.by_fold)) == (1, 1)
    assert np.isnan([found.low, found.high]).all()
    assert paired_difference(make_frame(cells), "CBA", "fs_rus", own=PROPOSED) is None


def test_the_interval_is_that_of_the_means_of_all_resamples():
    """Three folds have 27 resamples; their means can be listed."""
    values = np.array([0.0, 0.3, 0.9])
    means = np.array([values[list(pick)].mean() for pick in np.ndindex(3, 3, 3)])
    found = difference(of_folds(values))
    # 1 of 27 resamples is the lowest three times over: more than 2.5 %.
    assert (found.low, found.high) == pytest.approx((means.min(), means.max()))


def test_folds_that_agree_have_an_interval_of_no_width():
    found = difference(of_folds([0.25] * 8))
    assert (found.low, found.mean, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.verdict == "better"


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(-30, 30), min_size=2, max_size=10), st.floats(-0.3, 0.3))
def test_what_both_gain_changes_nothing_and_the_interval_holds_the_mean(percent, gain):
    frame = of_folds(np.array(percent) / 100)
    shifted = frame.assign(AvAcc=frame["AvAcc"] + gain * (1 + frame["fold"]))
    one, other = map(difference, (frame, shifted))
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
        # Both print as 0.000.
        ([0.0004] * 10, "undecided", "The interval holds zero"),
        ([-0.0004] * 10, "undecided", "The interval holds zero"),
        ([0.1] * (FEWEST_FOLDS - 1), "too few folds", "Too few folds to decide"),
        ([0.1], "too few folds", "nothing can be said about chance"),
    ],
)
def test_the_verdict_says_no_more_than_the_interval(differences, expected, words):
    found = difference(of_folds(differences))
    sentence = verdict.sentence("the baseline", found, "TS SMOTE+RUS", TITLES)
    assert found.verdict == expected
    assert words in sentence
    assert ("wins" in sentence) == (expected == "better")
    assert ("loses" in sentence) == (expected == "worse")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.19, "it wins here. Corrected for 28 rivals (+0.010 to +0.190): still better."),
        (-0.01, 0.21, "it wins here. Corrected for 28 rivals (-0.010 to +0.210): undecided."),
        (np.nan, np.nan, "it wins here."),
    ],
)
def test_the_verdict_adds_what_is_left_among_many_rivals(low, high, words):
    found = difference(of_folds([0.1] * 8))._replace(low_all=low, high_all=high, rivals=28)
    sentence = verdict.sentence("the baseline", found, "TS SMOTE+RUS", TITLES)
    assert sentence.endswith(words)


def rivals_of(frame):
    own = find_proposed(frame)
    return own, find_rivals(frame, find_approaches(frame["approach"]), own)


def test_rivals_are_the_best_of_each_other_family_on_complete_partitions():
    whole = {"baseline": 0.5, "is_rus": 0.3, "is_ros": 0.6, "fs_rus": 0.4, "fs_smote": 0.39}
    whole |= {"loss_focal": 0.5, "loss_weighted": 0.4, "mix_remix": 0.3, "head_crt": 0.2}
    whole |= {PROPOSED: 0.1, "ts_smote_smote": 0.9, "post_prior": 0.2, "unheard_of": 0.7}
    cells = {("linear", 2.0, 0): whole, ("linear", 2.0, 1): {"is_rus": 1.0}}
    assert rivals_of(make_frame(cells)) == (
        PROPOSED,
        {
            "the baseline": "baseline",
            "the best in image space": "is_ros",
            "the best in feature space": "fs_rus",
            "the best loss": "loss_focal",
            "the best mixing approach": "mix_remix",
            "the best head": "head_crt",
            "the best correction": "post_prior",
            "the best of the others": "unheard_of",
        },
    )


def test_without_the_papers_approach_the_best_stands_in_its_place():
    cells = {("linear", 2.0, 0): {"baseline": 0.5, "is_adasyn": 0.4, "fs_tomek": 0.6}}
    cells["original", 1.0, 0] = {"baseline": 0.9, PROPOSED: 0.9}  # ratio 1 does not count
    assert rivals_of(make_frame(cells)) == (
        "fs_tomek",
        {"the baseline": "baseline", "the best in image space": "is_adasyn"},
    )
    cells = {("linear", 2.0, 0): {"fs_enn": 0.4, "fs_rbu": 0.3, "fs_tomek": 0.6}}
    assert rivals_of(make_frame(cells)) == ("fs_tomek", {"the next in its family": "fs_enn"})
    assert rivals_of(make_frame({("linear", 2.0, 0): {"baseline": 0.5}})) == ("baseline", {})


def test_no_approach_is_chosen_without_a_common_partition():
    cells = {("linear", 2.0, 0): {"baseline": 0.5}, ("linear", 2.0, 1): {"is_rus": 1.0}}
    assert find_proposed(make_frame(cells)) is None


def test_in_data_as_they_are_the_best_is_proposed_and_not_the_papers():
    cells = {
        ("original", 1.0, fold): {"baseline": 0.6, "fs_rus": 0.7, PROPOSED: 0.5} for fold in (0, 1)
    }
    assert rivals_of(make_frame(cells)) == (
        "fs_rus",
        {"the baseline": "baseline", "the best in two stages": PROPOSED},
    )


def test_a_single_rival_of_a_family_needs_no_partition_that_all_have():
    cells = {
        ("linear", 2.0, 0): {"baseline": 0.5, PROPOSED: 0.6},
        ("linear", 2.0, 1): {"is_rus": 0.5, "is_ros": 0.6},
    }
    assert rivals_of(make_frame(cells)) == (PROPOSED, {"the baseline": "baseline"})


# Holes that mutants of the code went through.


def test_a_folds_difference_is_the_mean_over_its_partitions_and_not_the_median():
    cells = {
        ("linear", ratio, 0): {"baseline": 0.2, PROPOSED: 0.2 + ahead}
        for ratio, ahead in ((2.0, 0.0), (5.0, 0.1), (10.0, 0.5))
    }
    assert difference(make_frame(cells)).by_fold == pytest.approx([0.2])


def test_equal_scores_are_not_ahead_even_if_they_differ_in_the_last_bit():
    cells = {
        ("linear", 2.0, 0): {"baseline": 0.3, PROPOSED: 0.1 + 0.2},  # 0.30000000000000004
        ("linear", 5.0, 0): {"baseline": 0.5, PROPOSED: 0.5},
        ("linear", 10.0, 0): {"baseline": 0.5, PROPOSED: 0.6},
    }
    found = difference(make_frame(cells))
    assert (found.partitions, found.ahead) == (3, 1)


def test_two_approaches_have_no_test_on_ranks():
    cells = {
        ("linear", 2.0, fold): {"baseline": 0.5, PROPOSED: 0.4 + fold / 10} for fold in range(4)
    }
    assert rank_test(scores_by_partition(make_frame(cells), "AvAcc")) is None


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
