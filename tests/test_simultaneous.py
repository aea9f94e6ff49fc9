"""Intervals that hold for all rivals at once: against a plain reference, and whether they do."""

import itertools

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.evaluation.simultaneous import (
    MOST_LISTED,
    differences_by_fold,
    with_all_rivals,
)
from twostage_jax.evaluation.simultaneous import (
    simultaneous_intervals as intervals,
)
from twostage_jax.evaluation.statistics import FEWEST_FOLDS, paired_difference

COLUMNS = ["scenario", "ratio", "fold", "approach", "AvAcc", "CBA", "MAvG", "Acc"]


def reference(by_fold):
    """The definition, flip by flip: the 95 % quantile of the largest |t| over all rivals."""
    mean, deviation = by_fold.mean(axis=0), by_fold.std(axis=0, ddof=1)
    folds, largest = len(by_fold), []
    for signs in itertools.product((1, -1), repeat=folds):
        flipped = (by_fold - mean) * np.array(signs)[:, None]
        t = flipped.mean(axis=0) / (flipped.std(axis=0, ddof=1) / np.sqrt(folds))
        largest.append(np.abs(t).max())
    reach = np.sort(largest)[int(np.ceil(0.95 * len(largest))) - 1] * deviation / np.sqrt(folds)
    return mean - reach, mean + reach


def test_the_intervals_are_those_of_the_definition():
    by_fold = np.random.default_rng(0).normal([0, 1, 5], [1, 0.1, 3], (7, 3))
    np.testing.assert_allclose(intervals(by_fold), reference(by_fold))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-5, 5))
def test_units_and_the_order_of_rivals_and_folds_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    by_fold = rng.normal(size=(8, 4))
    low, high = intervals(by_fold)
    order, folds = rng.permutation(4), rng.permutation(8)
    np.testing.assert_allclose(intervals(by_fold[folds][:, order]), [low[order], high[order]])
    moved = intervals(scale * by_fold + shift)
    np.testing.assert_allclose(moved, [scale * low + shift, scale * high + shift], atol=1e-9)


def test_more_rivals_make_all_intervals_wider_and_a_copy_of_a_rival_does_not():
    by_fold = np.random.default_rng(1).normal(size=(10, 20))
    widths = [np.diff(intervals(by_fold[:, :many]), axis=0)[0, 0] for many in (1, 5, 20)]
    assert widths == sorted(widths)
    assert widths[2] > 1.3 * widths[0]
    copied = intervals(np.concatenate([by_fold, by_fold], axis=1))
    np.testing.assert_allclose(np.array(copied)[:, :20], intervals(by_fold))


def test_rivals_that_never_vary_have_no_width_and_widen_no_other():
    by_fold = np.random.default_rng(2).normal(size=(9, 3))
    still = np.full((9, 2), [0.0, 0.1 + 0.2])  # the mean of the last one is rounded
    low, high = intervals(np.concatenate([by_fold, still], axis=1))
    np.testing.assert_allclose([low[:3], high[:3]], intervals(by_fold))
    np.testing.assert_allclose([low[3:], high[3:]], [[0, 0.3], [0, 0.3]], atol=1e-15)
    np.testing.assert_array_equal(intervals(still[:, :1]), [[0], [0]])


def test_below_six_folds_there_is_no_interval():
    by_fold = np.random.default_rng(3).normal(size=(10, 3))
    assert np.isnan(intervals(by_fold[: FEWEST_FOLDS - 1])).all()
    by_fold[FEWEST_FOLDS - 1 :, 1] = np.nan  # one rival has too few
    low, high = intervals(by_fold)
    assert np.isnan([low, high]).any(axis=0).tolist() == [False, True, False]
    np.testing.assert_allclose(
        [low[[0, 2]], high[[0, 2]]],
        intervals(by_fold[:, [0, 2]]),
        err_msg="nor does it count",
    )


def test_a_rival_with_fewer_folds_is_judged_by_its_own():
    by_fold = np.random.default_rng(4).normal(size=(8, 1))
    absent = np.concatenate([by_fold, [[np.nan]]])
    np.testing.assert_allclose(intervals(absent), intervals(by_fold))


def test_many_folds_are_flipped_at_random_from_a_fixed_seed():
    by_fold = np.random.default_rng(5).normal(size=(MOST_LISTED + 1, 3))
    drawn = intervals(by_fold)
    np.testing.assert_array_equal(drawn, intervals(by_fold))
    np.testing.assert_allclose(drawn, reference(by_fold), atol=0.1)


def test_where_flips_say_nothing_the_interval_is_infinite():
    """Each rival lets 2 of 64 flips make all differences equal, and they are not the same flips."""
    by_fold = np.array([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]], np.float64).T
    assert np.isinf(intervals(by_fold)).all()
    assert np.isfinite(intervals(by_fold[:, :1])).all()


@pytest.mark.parametrize(("kind", "least"), [("normal", 0.93), ("skewed", 0.88)])
def test_all_intervals_hold_at_once_as_often_as_they_say(kind, least):
    """Ten folds and 28 rivals, which have what is theirs, what is the approach's, and a group's."""
    rng, studies, folds, rivals = np.random.default_rng(6), 400, 10, 28
    own = rng.normal(size=(studies, folds, 1))
    group = rng.normal(size=(studies, folds, 4))[..., np.arange(rivals) % 4]
    noise = (own + group + rng.normal(size=(studies, folds, rivals))) / np.sqrt(3)
    if kind == "skewed":  # of a skewness of one
        noise = np.exp(0.314 * noise) - np.exp(0.314**2 / 2)
    noise *= np.linspace(0.5, 2, rivals)
    bounds = [intervals(one) for one in noise]
    held = np.mean([(low < 0).all() and (high > 0).all() for low, high in bounds])
    assert least <= held <= 0.98
    # The interval of one comparison holds for all in far fewer studies.
    t = noise.mean(axis=1) / noise.std(axis=1, ddof=1) * np.sqrt(folds)
    assert np.mean((np.abs(t) < scipy.stats.t.ppf(0.975, folds - 1)).all(axis=1)) < 0.7


def frame_of(rivals=5, folds=7):
    """Two partitions per fold; the approach `own` is ahead by its rival's number / 10."""
    rng = np.random.default_rng(7)
    rows = [
        ("linear", ratio, fold, name, *[0.5 - ahead / 10 + rng.normal(0, 0.01)] * 4)
        for ratio in (2.0, 10.0)
        for fold in range(folds)
        for ahead, name in enumerate(["own", *(f"rival{i}" for i in range(rivals))])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_all_rivals_count_and_not_only_those_that_are_shown():
    frame = frame_of()
    shown = [paired_difference(frame, "CBA", name, own="own") for name in ("rival3", "rival0")]
    found = with_all_rivals(frame, shown, own="own")
    by_fold = differences_by_fold(frame, "CBA", own="own")
    low, high = intervals(by_fold.to_numpy())
    assert [one.rivals for one in found] == [5, 5]
    assert [one.low_all for one in found] == [low[3], low[0]]
    assert [one.high_all for one in found] == [high[3], high[0]]
    assert [one.verdict_all for one in found] == ["better", "better"]
    for one in found:
        np.testing.assert_allclose(one.by_fold, by_fold[one.rival])
        assert one.low_all < one.low < one.mean < one.high < one.high_all


def test_a_single_rival_needs_no_correction():
    frame = frame_of(rivals=1)
    (found,) = with_all_rivals(
        frame, [paired_difference(frame, "CBA", "rival0", own="own")], own="own"
    )
    assert found.verdict_all is None
    assert np.isnan(found.low_all)


def test_partitions_without_a_pair_do_not_count():
    frame = frame_of(rivals=2).query("not (fold == 3 and approach == 'rival0')")
    frame = frame.query("not (fold == 4 and ratio == 2 and approach == 'rival1')")
    by_fold = differences_by_fold(frame, "AvAcc", own="own")
    assert by_fold.isna().sum().tolist() == [1, 0]
    for name in ("rival0", "rival1"):
        alone = paired_difference(frame, "AvAcc", name, own="own")
        np.testing.assert_allclose(by_fold[name].dropna(), alone.by_fold)
