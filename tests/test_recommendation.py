"""The recommendation: clear winners, undecided ones, and too little to judge by."""

import re

import numpy as np
import pandas as pd
import pytest

from twostage_jax.evaluation.recommendation import explain, recommend, recommendation_lines
from twostage_jax.evaluation.tables import find_approaches

COLUMNS = ["scenario", "ratio", "fold", "approach", "AvAcc", "CBA", "MAvG", "Acc"]
FIT = "twostage fit 'cells {x}/' --approach {approach}"


def frame_of(scores):
    """A study of data as they are from {approach: [AvAcc of each split]}; None: no record."""
    rows = [
        ("original", 1.0, fold, name, score, 0.5, 0.5, 0.5)
        for name, own in scores.items()
        for fold, score in enumerate(own)
        if score is not None
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def outcome(scores, fit=""):
    frame = frame_of(scores)
    approaches = find_approaches(frame["approach"])
    lines = recommendation_lines(frame, approaches, fit)
    return recommend(frame, approaches), lines


def around(mean, spread=0.01, folds=6):
    return [mean + spread * (-1) ** fold for fold in range(folds)]


def test_a_clear_winner_is_recommended_over_all_that_are_simpler():
    found, lines = outcome(
        {
            "baseline": around(0.5),
            "is_smote": around(0.7),
            "ts_smote_rus": around(0.8, -0.01),
            "other": around(0.6),
        },
        FIT,
    )
    assert (found.best, found.recommended, found.folds) == ("ts_smote_rus", "ts_smote_rus", 6)
    assert [own.rival for own in found.behind] == ["baseline", "is_smote"], "other is not simpler"
    assert found.difference is None
    assert lines[0].startswith("Recommended: TS SMOTE+RUS, which resamples the images, and then")
    assert "TS SMOTE+RUS is 0.100 above IS SMOTE (95% interval " in lines[2]
    assert "All 2 simpler approaches are told from it" in lines[2]
    assert lines[-1] == "  twostage fit 'cells {x}/' --approach ts_smote_rus"
    assert "Caution" not in "".join(lines), "six splits are enough"


def test_of_those_that_are_not_told_from_the_best_the_simplest_is_recommended():
    noise = [0.09, -0.1, 0.08, -0.05, 0.06]
    best = around(0.7, folds=5)
    found, lines = outcome(
        {
            "baseline": around(0.4, folds=5),
            "is_rus": around(0.5, folds=5),
            "fs_rus": list(np.add(best, noise) - 0.03),
            "ts_rus_rus": list(np.add(best, noise) - 0.02),
            "ts_smote_rus": best,
        },
        FIT,
    )
    assert (found.best, found.recommended) == ("ts_smote_rus", "fs_rus")
    assert [own.rival for own in found.behind] == ["baseline", "is_rus", "fs_rus"]
    assert found.difference.low < 0 < found.difference.mean < found.difference.high
    assert found.difference.mean == pytest.approx(0.03 - np.mean(noise))
    assert lines[0].startswith("Recommended: FS RUS, which resamples the features")
    assert "TS SMOTE+RUS has the highest mean AvAcc" in lines[1]
    assert "The interval holds zero: the two are not told apart" in lines[2]
    assert lines[3].startswith("Caution: 5 splits are few")
    assert "probability 6%" in lines[3]
    assert lines[-1].endswith("--approach fs_rus")


def test_simple_means_what_a_user_has_to_do():
    """The best is ahead by chance, and anything simpler is preferred."""
    simple = ["baseline", "post_prior", "loss_focal", "mix_mixup", "is_rus", "fs_rus"]
    simple += ["fs_rus+prior", "head_crt", "ts_rus_rus", "ts_smote_rus+prior", "other_one"]
    scores = dict.fromkeys(simple[::-1], [0.6] * 6) | {"zz": [0.8, 0.3, 0.9, 0.3, 0.8, 0.6]}
    for simplest in simple:
        found, lines = outcome(scores)
        assert (found.best, found.recommended) == ("zz", simplest)
        assert simplest == "other_one" or re.match("Recommended: .+, (which|training) ", lines[0])
        del scores[simplest]
    assert outcome(scores | {"worse": [0.1] * 6})[0].recommended == "zz"


def test_the_interval_is_judged_as_it_is_printed():
    scores = {"baseline": [0.5] * 6, "is_rus": [0.5004] * 6}
    assert outcome(scores)[0].recommended == "baseline"
    assert "is level with Baseline (95% interval +0.000 to +0.000" in outcome(scores)[1][2]
    scores["is_rus"] = [0.5006] * 6
    assert outcome(scores)[0].recommended == "is_rus"


def test_the_simplest_of_all_may_be_the_best():
    found, lines = outcome({"baseline": around(0.6), "fs_rus": around(0.6)})
    assert (found.best, found.recommended, found.behind) == ("baseline", "baseline", ())
    assert lines[-1] == "No approach here is simpler than Baseline."


def test_only_splits_on_which_all_have_a_score_count():
    scores = {"baseline": [0.5, 0.5, 0.5, None], "is_rus": [0.6, 0.6, None, 0.9]}
    found, _ = outcome(scores)
    assert (found.folds, found.mean) == (2, 0.6)
    assert found.behind[0].by_fold.tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"baseline": [0.5] * 6}, "No recommendation: one approach alone"),
        ({"baseline": [0.5], "is_rus": [0.9]}, "No recommendation: one split"),
        ({"baseline": [0.5, None], "is_rus": [None, 0.9]}, "No recommendation yet"),
    ],
)
def test_with_too_little_to_judge_by_nothing_is_recommended(scores, words):
    found, lines = outcome(scores, FIT)
    assert found is None
    assert len(lines) == 1, "and no command"
    assert lines[0].startswith(words)


def test_the_explanation_is_the_lines_without_the_command():
    frame = frame_of({"baseline": around(0.5), "is_rus": around(0.6)})
    approaches = find_approaches(frame["approach"])
    assert explain(frame, approaches) == recommendation_lines(frame, approaches)
