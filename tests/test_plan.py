"""Plans: tables of what a sampler decided, made into arrays or into batches."""

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax import SMOTE
from twostage_jax.resampling.mixing import Mixture
from twostage_jax.resampling.plan import DevicePlan, Plan, epoch_batches
from twostage_jax.support.errors import InputError


def random_plan(rng, rows, size):
    """Half of the samples are copies, half lie between two rows."""
    base = rng.integers(0, rows, size)
    moved = rng.random(size) < 0.5
    neighbor = np.where(moved, rng.integers(0, rows, size), base)
    step = np.where(neighbor != base, rng.random(size), 0.0)
    return Plan(base, neighbor, step, rng.integers(0, 5, size))


plans = st.builds(
    lambda seed, rows, size: (random_plan(np.random.default_rng(seed), rows, size), rows),
    st.integers(0, 2**32 - 1),
    st.integers(1, 20),
    st.integers(0, 70),
)


# --- materialize ---


@given(plans)
def test_samples_lie_between_base_and_neighbor(sample):
    plan, rows = sample
    x = np.random.default_rng(0).standard_normal((rows, 3, 2))
    out = plan.materialize(x)
    for i in range(len(plan)):
        a, b = x[plan.base[i]], x[plan.neighbor[i]]
        np.testing.assert_allclose(out[i], (1 - plan.step[i]) * a + plan.step[i] * b, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, float])
def test_materialize_keeps_the_dtype_and_the_copies(dtype):
    plan = random_plan(np.random.default_rng(0), 20, 60)
    x = np.random.default_rng(1).integers(0, 256, (20, 4, 4, 3)).astype(dtype)
    before = x.copy()
    out = plan.materialize(x)
    assert out.dtype == dtype
    copies = plan.neighbor == plan.base
    assert 0 < copies.sum() < len(plan)
    np.testing.assert_array_equal(out[copies], x[plan.base[copies]])
    np.testing.assert_array_equal(x, before)


def test_integers_are_rounded_and_do_not_wrap():
    """Toward a darker neighbor, a difference of unsigned integers would be negative."""
    x = np.array([[0, 255], [255, 0], [3, 4]], np.uint8)
    plan = Plan(
        np.array([0, 1, 2, 2]),
        np.array([1, 0, 0, 2]),
        np.array([0.25, 0.25, 1 / 3, 0.0]),
        np.zeros(4, int),
    )
    np.testing.assert_array_equal(
        plan.materialize(x), np.array([[64, 191], [191, 64], [2, 88], [3, 4]], np.uint8)
    )


@pytest.mark.parametrize("columns", [2**16, 2**16 + 1, 3 * 150 * 150])
def test_wide_rows_are_made(columns):
    """Rows that are longer than a block of the cache, as those of the paper's images."""
    x = np.random.default_rng(0).integers(0, 256, (3, columns), np.uint8)
    plan = Plan(
        np.array([0, 1, 2]), np.array([0, 2, 0]), np.array([0, 0.5, 0.25]), np.array([0, 1, 1])
    )
    a, b = x[plan.base].astype(float), x[plan.neighbor].astype(float)
    np.testing.assert_array_equal(plan.materialize(x), np.rint(a + plan.step[:, None] * (b - a)))


@pytest.mark.parametrize("dtype", [object, "U4", "M8[s]", bool])
def test_what_is_no_number_is_picked(dtype):
    x = np.arange(12).reshape(6, 2).astype(dtype)
    plan = Plan.of_kept(np.arange(6) % 2, np.array([5, 0, 0]))
    np.testing.assert_array_equal(plan.materialize(x), x[[5, 0, 0]])


def test_rows_that_are_kept_do_not_move():
    y = np.array(["b", "a", "b"])
    for plan, rows in (
        (Plan.of_kept(y, np.array([2, 0])), [2, 0]),
        (Plan.of_all(y), [0, 1, 2]),
    ):
        np.testing.assert_array_equal(plan.base, rows)
        np.testing.assert_array_equal(plan.neighbor, rows)
        np.testing.assert_array_equal(plan.step, np.zeros(len(rows)))
        np.testing.assert_array_equal(plan.label, y[rows])


def test_large_integers_are_interpolated_in_double_precision():
    x = np.array([2**31 - 1, 2**31 - 3], np.int64)
    plan = Plan(np.array([0]), np.array([1]), np.array([0.5]), np.array([0]))
    np.testing.assert_array_equal(plan.materialize(x), [2**31 - 2])


# --- of_rows, concatenate ---


@given(plans, st.randoms(use_true_random=False))
def test_of_rows_is_the_same_plan_on_the_larger_table(sample, random):
    plan, rows = sample
    table = np.random.default_rng(0).standard_normal((rows + 7, 3))
    chosen = np.array(random.sample(range(rows + 7), rows))
    moved = plan.of_rows(chosen)
    np.testing.assert_array_equal(moved.materialize(table), plan.materialize(table[chosen]))
    np.testing.assert_array_equal(moved.label, plan.label)


def test_concatenate_appends():
    rng = np.random.default_rng(0)
    parts = [random_plan(rng, 9, size) for size in (4, 0, 11)]
    x = rng.standard_normal((9, 5))
    whole = Plan.concatenate(parts)
    assert len(whole) == 15
    np.testing.assert_array_equal(
        whole.materialize(x), np.concatenate([part.materialize(x) for part in parts])
    )
    np.testing.assert_array_equal(whole.label, np.concatenate([part.label for part in parts]))


# --- batches ---


@given(plans, st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_an_epoch_holds_each_row_once(sample, size, spare, stream):
    plan, _ = sample
    steps = -(-len(plan) // size) + spare
    batches = epoch_batches(plan, size, steps, stream)
    assert [column.shape for column in batches[:4]] == [(steps, size)] * 4
    assert [column.dtype for column in batches[:4]] == ["int32", "int32", "float32", "int32"]
    # Full batches, then a partial one, then padding alone.
    flat_valid = batches.valid.ravel()
    np.testing.assert_array_equal(flat_valid, np.arange(steps * size) < len(plan))
    assert np.all(batches.label[~batches.valid] == -1)
    found = zip(*(column.ravel()[flat_valid].tolist() for column in batches[:4]), strict=True)
    columns = (plan.base, plan.neighbor, plan.step.astype(np.float32), plan.label)
    expected = zip(*(column.tolist() for column in columns), strict=True)
    assert sorted(found) == sorted(expected)


def test_the_order_depends_on_the_stream_alone():
    plan = Plan.of_all(np.zeros(100, int))
    order = epoch_batches(plan, 8, 13, 1).base.ravel()[:100]
    for size, steps in ((8, 13), (8, 40), (32, 4), (100, 1)):
        again = epoch_batches(plan, size, steps, 1).base.ravel()[:100]
        np.testing.assert_array_equal(again, order)
    other = epoch_batches(plan, 8, 13, 2).base.ravel()[:100]
    assert not np.array_equal(other, order)
    assert not np.array_equal(np.arange(100), order)


def test_a_plan_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="broadcast"):
        epoch_batches(Plan.of_all(np.zeros(17, int)), 8, 2, 0)


# --- gather ---


def batch_of(plan):
    return DevicePlan(
        plan.base.astype(np.int32),
        plan.neighbor.astype(np.int32),
        plan.step.astype(np.float32),
        plan.label.astype(np.int32),
    )


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_gathered_images_equal_materialized_ones(small_image_set, seed):
    plan = random_plan(np.random.default_rng(seed), len(small_image_set), 40)
    gathered = np.asarray(jax.jit(DevicePlan.gather)(batch_of(plan), small_image_set.images))
    assert gathered.dtype == np.float32
    exact = plan.materialize(small_image_set.images.astype(np.float64))
    np.testing.assert_allclose(gathered, exact, rtol=0, atol=1e-4)
    assert np.abs(gathered - plan.materialize(small_image_set.images)).max() <= 0.5 + 1e-4


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_gathered_features_equal_materialized_ones(seed):
    rng = np.random.default_rng(seed)
    plan = random_plan(rng, 30, 40)
    features = rng.standard_normal((30, 256)).astype(np.float32)
    gathered = np.asarray(jax.jit(DevicePlan.gather)(batch_of(plan), features))
    np.testing.assert_allclose(gathered, plan.materialize(features), rtol=1e-5, atol=1e-6)


def test_padding_gathers_without_error():
    batch = DevicePlan(
        *(column[0] for column in epoch_batches(Plan.of_all(np.zeros(2, int)), 4, 1, 0)[:4])
    )
    gathered = batch.gather(jax.numpy.arange(6.0).reshape(2, 3))
    assert gathered.shape == (4, 3)
    assert np.isfinite(gathered).all()


def test_padding_repeats_a_sample_of_the_plan_itself():
    """Not row 0 of the table, which may be another network's and not finite."""
    rows = np.array([7, 8, 9])
    batches = epoch_batches(Plan.of_kept(np.arange(10), rows), 4, 2, 0)
    assert {*batches.base.ravel(), *batches.neighbor.ravel()} <= {*rows}
    mixed = epoch_batches(
        Plan.of_kept(np.arange(10), rows),
        4,
        2,
        0,
        mix=lambda labels: Mixture(np.array([1, 2, 0]), np.full(3, 0.5), np.full(3, 0.5)),
    )
    assert {*mixed.base.ravel(), *mixed.neighbor.ravel()} <= {*rows}
    assert epoch_batches(Plan.of_kept(np.arange(3), rows[:0]), 4, 2, 0).valid.sum() == 0


# --- Batches, and data on disk ---


def test_batches_are_the_plan_in_parts():
    x, y = (
        np.random.default_rng(0).integers(0, 255, (90, 4, 4, 3), np.uint8),
        np.arange(90) % 4 // 3,
    )
    plan = SMOTE(random_state=0).plan(x, y)
    parts = list(plan.batches(x, 32))
    assert [len(label) for _, label in parts] == [32] * (len(plan) // 32) + [len(plan) % 32]
    np.testing.assert_array_equal(np.concatenate([own for own, _ in parts]), plan.materialize(x))
    np.testing.assert_array_equal(np.concatenate([label for _, label in parts]), plan.label)


def test_batches_of_a_seed_are_the_plan_in_another_order():
    x, y = np.random.default_rng(0).standard_normal((90, 3)), np.arange(90) % 4 // 3
    plan = SMOTE(random_state=0).plan(x, y)
    epochs = [list(plan.batches(x, 7, seed=seed)) for seed in (0, 0, 1)]
    rows = [np.concatenate([own for own, _ in parts]) for parts in epochs]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert not np.array_equal(rows[0], rows[2])
    for own in rows:
        np.testing.assert_array_equal(np.sort(own, axis=0), np.sort(plan.materialize(x), axis=0))


@pytest.mark.parametrize("size", [0, -1])
def test_batches_of_no_samples_are_refused(size):
    plan = Plan.of_all(np.arange(3))
    with pytest.raises(InputError, match=rf"batches of {size} samples asked for, a whole number"):
        next(plan.batches(np.zeros((3, 2)), size))


def test_batches_of_a_frame_are_refused():
    plan = Plan.of_all(np.arange(3))
    with pytest.raises(InputError, match=r"X is a data frame.*to_numpy"):
        next(plan.batches(pd.DataFrame(np.zeros((3, 2))), 2))


def test_a_result_can_be_written_to_disk(tmp_path):
    x, y = (
        np.random.default_rng(0).integers(0, 255, (90, 4, 4, 3), np.uint8),
        np.arange(90) % 4 // 3,
    )
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    plan = SMOTE(random_state=0).plan(mapped, y)
    shape = (len(plan), 4, 4, 3)
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.uint8, shape)
    assert plan.materialize(mapped, out=out) is out
    out.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), plan.materialize(x))


@pytest.mark.parametrize(
    ("shape", "dtype", "order"),
    [((4, 2), np.float64, "C"), ((3, 2), np.float32, "C"), ((3, 2), np.float64, "F")],
)
def test_a_place_for_another_result_is_refused(shape, dtype, order):
    plan, out = Plan.of_all(np.arange(3)), np.empty(shape, dtype, order)
    with pytest.raises(InputError, match=r"out of shape .*\(3, 2\) and float64 expected"):
        plan.materialize(np.zeros((3, 2)), out=out)


def test_samples_beyond_a_dtypes_range_are_brought_into_it():
    x = np.array([[250], [200]], np.uint8)
    plan = Plan(np.array([0, 1]), np.array([1, 0]), np.array([-0.5, -5.0]), np.zeros(2))
    np.testing.assert_array_equal(plan.materialize(x), [[255], [0]])


def test_what_belongs_to_samples_is_resampled_along():
    """Groups by the first parent; numbers between those of both parents."""
    x = np.random.default_rng(0).standard_normal((60, 3))
    y, weights, patients = np.arange(60) % 4 // 3, np.arange(60.0), np.arange(60) // 5
    sampler = SMOTE(random_state=0)
    sampler.fit_resample(x, y)
    plan = sampler.plan_
    made = plan.materialize(weights)
    assert made.shape == (len(plan),)
    ends = weights[plan.base], weights[plan.neighbor]
    assert np.all((np.minimum(*ends) <= made) & (made <= np.maximum(*ends)))
    np.testing.assert_array_equal(patients[plan.base][:60], patients)
