"""Plans from a JAX key: counts, distributions, padding, and use inside compiled programs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.resampling.samplers import keyed
from twostage_jax.resampling.samplers.searches import class_neighbor_lists

ROWS, CLASSES, SIZE, K = 40, 4, 100, 3

sizes = {"classes": CLASSES, "size": SIZE}
FUNCTIONS = {
    "undersample": partial(keyed.random_undersample, **sizes),
    "oversample": partial(keyed.random_oversample, **sizes),
    "smote": partial(keyed.smote, **sizes),
    "neighbors": partial(keyed.class_neighbors, k=K),
}
# Compiling takes most of the time of these tests: it is done in haste, and once for all of them.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
undersample, oversample, smote, neighbors_of = map(jit, FUNCTIONS.values())
# Over keys and partitions. Without neighbors, SMOTE is random oversampling.
KEYS = 600
LIFTED = {name: jit(jax.vmap(FUNCTIONS[name])) for name in ("undersample", "smote")}

FEATURES = np.random.default_rng(0).standard_normal((ROWS, 5)).astype(np.float32)


@st.composite
def partitions(draw):
    """Labels of 40 rows, of which some are missing (-1); not every class is there."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = np.array(draw(st.lists(st.integers(0, 9), min_size=CLASSES, max_size=CLASSES)))
    weights[draw(st.integers(0, CLASSES - 1))] += 1
    labels = rng.choice(CLASSES, ROWS, p=weights / weights.sum())
    # At most 25 rows are there: all classes at the largest's size fit the plan.
    labels[rng.permutation(ROWS)[: draw(st.integers(15, ROWS - 1))]] = -1
    return labels.astype(np.int32), draw(st.integers(0, 2**32 - 1))


def counts_of(labels):
    return np.bincount(np.asarray(labels)[np.asarray(labels) >= 0], minlength=CLASSES)


def rows_of(plan: DevicePlan):
    """The rows that are there, which come first, in NumPy; and that the others are padding."""
    plan = jax.tree.map(np.asarray, plan)
    there = int(plan.valid.sum())
    np.testing.assert_array_equal(plan.valid, np.arange(len(plan.label)) < there)
    assert plan.base.dtype == plan.neighbor.dtype == plan.label.dtype == np.int32
    assert plan.step.dtype == np.float32
    return jax.tree.map(lambda column: column[:there], plan)


def p_value(counts):
    """Of a chi-square test of equal frequencies."""
    expected = counts.mean()
    return chi2.sf((np.square(counts - expected) / expected).sum(), counts.size - 1)


# --- Plans of any partition ---


@settings(max_examples=15)
@given(partitions())
def test_undersampling_keeps_as_many_of_each_class_as_the_smallest_has(sample):
    labels, seed = sample
    plan = rows_of(undersample(jax.random.key(seed), labels))
    before = counts_of(labels)
    np.testing.assert_array_equal(counts_of(plan.label), (before > 0) * before[before > 0].min())
    np.testing.assert_array_equal(plan.label, labels[plan.base])
    assert len(np.unique(plan.base)) == len(plan.base)
    np.testing.assert_array_equal(plan.neighbor, plan.base)
    assert not plan.step.any()


@settings(max_examples=15)
@given(partitions(), st.sampled_from(["oversample", "smote"]))
def test_oversampling_keeps_all_first_and_fills_up(sample, name):
    labels, seed = sample
    key, lists = jax.random.key(seed), neighbors_of(FEATURES, labels)
    plan = rows_of(oversample(key, labels) if name == "oversample" else smote(key, labels, lists))
    before, kept = counts_of(labels), np.flatnonzero(labels >= 0)
    np.testing.assert_array_equal(counts_of(plan.label), (before > 0) * before.max())
    np.testing.assert_array_equal(plan.base[: len(kept)], kept)
    np.testing.assert_array_equal(plan.label, labels[plan.base])
    np.testing.assert_array_equal(plan.label, labels[plan.neighbor])
    copies = plan.neighbor == plan.base
    assert copies[: len(kept)].all()
    assert not plan.step[copies].any()
    assert copies.all() or name == "smote"


@settings(max_examples=15)
@given(partitions())
def test_synthetic_samples_lie_between_neighbors(sample):
    """A sample that has none is copied; lists may be shorter than k."""
    labels, seed = sample
    lists = np.asarray(neighbors_of(FEATURES, labels))
    device_plan = smote(jax.random.key(seed), labels, lists)
    plan, there = rows_of(device_plan), (labels >= 0).sum()
    base, neighbor, step = (column[there:] for column in plan[:3])
    alone = (lists[base] < 0).all(axis=1)
    np.testing.assert_array_equal(neighbor == base, alone)
    among = (lists[base] == neighbor[:, None]).any(axis=1)
    assert np.all(among | alone)
    assert np.all((step >= 0) & (step < 1))
    made = np.asarray(device_plan.gather(jnp.asarray(FEATURES)))[: len(plan.base)]
    ends = FEATURES[plan.base], FEATURES[plan.neighbor]
    assert np.all((np.minimum(*ends) - 1e-5 <= made) & (made <= np.maximum(*ends) + 1e-5))
    np.testing.assert_array_equal(made[:there], FEATURES[labels >= 0])


@settings(max_examples=15)
@given(partitions())
def test_neighbors_are_those_of_the_exact_search(sample):
    """-1 after the last, in classes of k or fewer; a missing row has and is none."""
    labels, _ = sample
    found = np.asarray(neighbors_of(FEATURES, labels))
    expected = np.full((ROWS, K), -1)
    for label in range(CLASSES):
        members = np.flatnonzero(labels == label)
        if k := min(K, len(members) - 1) if len(members) else 0:
            expected[members, :k] = members[nearest(FEATURES[members], k).rows]
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_neighbors_of_images():
    """Any shape and dtype; the lists of the samplers are the same."""
    rng = np.random.default_rng(1)
    images, labels = rng.integers(0, 256, (ROWS, 4, 4, 3), np.uint8), rng.integers(0, 2, ROWS)
    found = neighbors_of(images, labels)
    np.testing.assert_array_equal(found, class_neighbor_lists(images, labels, K, [0, 1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -1e9])
@pytest.mark.parametrize("missing", [True, False])
def test_a_broken_row_changes_no_list_but_its_own(value, missing):
    """Whether it is missing, or its class's farthest row."""
    labels = np.repeat([0, 1, 2, -1], [20, 10, 2, 8]).astype(np.int32)
    features, row = FEATURES.copy(), 39 if missing else 19
    expected = np.asarray(neighbors_of(features, np.where(np.arange(ROWS) == row, -1, labels)))
    features[row, 2] = value
    found = np.asarray(neighbors_of(features, labels))
    others = np.arange(ROWS) != row
    np.testing.assert_array_equal(found[others], expected[others])
    own = found[row]
    assert np.all(own == -1) if missing else np.all((own >= 0) & (own < row))


def test_a_row_that_is_not_finite_is_a_neighbor_where_there_is_no_other():
    labels = np.repeat([0, 1, -1], [4, 3, ROWS - 7]).astype(np.int32)
    features = FEATURES.copy()
    features[[0, 4, 5, 6]] = np.nan
    found = np.asarray(neighbors_of(features, labels))
    np.testing.assert_array_equal(found[0], [1, 2, 3])
    np.testing.assert_array_equal(found[1:4, 2], [0, 0, 0])
    np.testing.assert_array_equal(found[4:7], [[5, 6, -1], [4, 6, -1], [4, 5, -1]])


def test_neighbors_are_the_same_at_any_scale():
    labels = np.arange(ROWS, dtype=np.int32) % 3 - 1
    scales = np.float32(2.0) ** np.array([-100, 66, 125], np.float32)
    tables = FEATURES * scales[:, None, None]
    assert np.isfinite(tables).all()
    lists = jit(jax.vmap(FUNCTIONS["neighbors"], (0, None)))(tables, labels)
    expected = np.asarray(neighbors_of(FEATURES, labels))
    np.testing.assert_array_equal(lists, np.broadcast_to(expected, lists.shape))
    np.testing.assert_array_equal(expected[:, 0] >= 0, labels >= 0)


def test_a_plan_that_is_too_small_is_cut_off():
    labels = np.zeros(ROWS, np.int32)
    labels[:3] = [1, 2, 3]  # four classes of 37 would be 148 rows
    plan = oversample(jax.random.key(0), labels)
    assert plan.label.shape == (SIZE,)
    np.testing.assert_array_equal(plan.base[:ROWS], np.arange(ROWS))
    np.testing.assert_array_equal(counts_of(plan.label), [37, 37, 25, 1])


# --- Distributions ---


@pytest.fixture(scope="module")
def many_keys():
    """Keys; and, for each, 24 rows of four classes, of 12, 8, 4 and no rows, others missing."""
    labels = np.full(ROWS, -1, np.int32)
    labels[np.arange(0, 36, 3)] = 0
    labels[np.arange(1, 24, 3)] = 1
    labels[np.arange(2, 14, 3)] = 2
    return jax.random.split(jax.random.key(7), KEYS), np.tile(labels, (KEYS, 1))


def test_every_sample_is_kept_equally_often(many_keys):
    keys, labels = many_keys
    plans, labels = LIFTED["undersample"](keys, labels), labels[0]
    often = np.bincount(np.asarray(plans.base)[np.asarray(plans.valid)], minlength=ROWS)
    assert not often[labels < 0].any()
    assert np.all(often[labels == 2] == len(keys))
    for label in (0, 1):
        counts = often[labels == label]
        assert counts.sum() == 4 * len(keys)
        # Within a key each is kept at most once, which makes counts more equal, not less.
        assert p_value(counts) > 1e-3
        assert counts.std() > 0


def test_every_sample_is_copied_equally_often(many_keys):
    keys, labels = many_keys
    plans = LIFTED["smote"](keys, labels, np.full((KEYS, ROWS, K), -1, np.int32))
    labels = labels[0]
    np.testing.assert_array_equal(plans.neighbor, plans.base)
    copied = np.asarray(plans.base)[:, 24:36]
    assert np.asarray(plans.valid).sum() == 36 * len(keys)
    for label, each in ((1, 4), (2, 8)):
        counts = np.bincount(copied.ravel(), minlength=ROWS)[labels == label]
        assert counts.sum() == each * len(keys)
        assert p_value(counts) > 1e-3


def test_bases_neighbors_and_steps_are_drawn_evenly_and_independently(many_keys):
    keys, labels = many_keys
    lists = np.array(neighbors_of(FEATURES, labels[0]))
    lists[labels[0] == 1, 2] = -1  # two neighbors each
    plans = LIFTED["smote"](keys, labels, np.tile(lists, (KEYS, 1, 1)))
    labels = labels[0]
    base, neighbor, step = (np.asarray(column)[:, 24:36].ravel() for column in plans[:3])
    for label, k in ((1, 2), (2, 3)):
        of_class = labels[base] == label
        place = (lists[base[of_class]] == neighbor[of_class, None]).argmax(axis=1)
        member = np.searchsorted(np.flatnonzero(labels == label), base[of_class])
        pairs = np.bincount(member * k + place, minlength=(labels == label).sum() * k)
        assert p_value(pairs) > 1e-3
        assert kstest(step[of_class], "uniform").pvalue > 1e-3
        assert abs(np.corrcoef(step[of_class], place)[0, 1]) < 0.06


def test_keys_decide(many_keys):
    keys, labels = many_keys[0], many_keys[1][0]
    lists = neighbors_of(FEATURES, labels)
    a, again, b = (smote(keys[i], labels, lists) for i in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, a, again)
    assert not np.array_equal(a.step, b.step)
    assert not np.array_equal(undersample(keys[0], labels).base, undersample(keys[1], labels).base)


# --- Inside one's own programs ---


@pytest.mark.parametrize(("name", "program"), [("undersample", undersample), ("smote", smote)])
def test_vmap_over_keys_and_partitions_equals_one_by_one(name, program):
    """Partitions of different sizes, padded with -1."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, (6, ROWS)).astype(np.int32)
    for row in range(6):
        labels[row, 14 + 2 * row :] = -1
    lists = np.stack([neighbors_of(FEATURES, part) for part in labels])
    keys = jax.random.split(jax.random.key(1), KEYS)
    which = np.arange(KEYS) % 6
    arguments = (keys, labels[which], lists[which])[: 3 if name == "smote" else 2]
    lifted = jax.tree.map(np.asarray, LIFTED[name](*arguments))
    assert lifted.label.shape == (KEYS, SIZE)
    for row in range(12):
        alone = program(*(argument[row] for argument in arguments))
        for column, expected in zip(lifted[:4], alone[:4], strict=True):
            np.testing.assert_array_equal(column[row], expected)


def test_rows_that_are_missing_change_nothing_else():
    """The counts of the plan are those of the rows that are there, wherever padding stands."""
    labels = np.array([0, 0, 0, 1, 1, 2, -1, -1] * 5, np.int32)
    plan = rows_of(undersample(jax.random.key(0), labels))
    np.testing.assert_array_equal(counts_of(plan.label), [5, 5, 5, 0])
    nobody = undersample(jax.random.key(0), np.full(ROWS, -1, np.int32))
    assert not nobody.valid.any()
    assert not oversample(jax.random.key(0), np.full(ROWS, -1, np.int32)).valid.any()


def test_a_training_step_may_draw_its_own_samples():
    """Plan and samples in one compiled program, differentiated."""
    labels = np.repeat(np.arange(CLASSES, dtype=np.int32), [4, 3, 9, 6])
    labels = np.pad(labels, (0, ROWS - len(labels)), constant_values=-1)

    @jit
    @jax.value_and_grad
    def loss(weight, key, features):
        lists = FUNCTIONS["neighbors"](features, jnp.asarray(labels))
        plan = FUNCTIONS["smote"](key, jnp.asarray(labels), lists)
        score = plan.gather(features) @ weight
        return jnp.where(plan.valid, jnp.square(score - plan.label), 0.0).sum()

    value, slope = loss(jnp.ones(5), jax.random.key(2), FEATURES)
    plan = smote(jax.random.key(2), labels, neighbors_of(FEATURES, labels))
    rows = rows_of(plan)
    assert len(rows.label) == 4 * 9
    x = FEATURES[rows.base] + rows.step[:, None] * (FEATURES[rows.neighbor] - FEATURES[rows.base])
    error = x @ np.ones(5) - rows.label
    np.testing.assert_allclose(value, np.square(error).sum(), rtol=1e-4)
    np.testing.assert_allclose(slope, 2 * error @ x, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_lowers_for_accelerators(platform):
    shape = jax.ShapeDtypeStruct
    key = jax.eval_shape(lambda: jax.random.key(0))
    labels, lists = shape((ROWS,), jnp.int32), shape((ROWS, K), jnp.int32)
    table = shape((ROWS, 1024), jnp.float32)
    for name, arguments in {
        "undersample": (key, labels),
        "oversample": (key, labels),
        "smote": (key, labels, lists),
        "neighbors": (table, labels),
    }.items():
        program = jax.jit(FUNCTIONS[name])
        exported = jax.export.export(program, platforms=[platform])(*arguments)
        assert exported.platforms == (platform,)
        assert "stablehlo" in exported.mlir_module()


# --- Other dtypes, few rows ---

PRESENT = np.repeat([0, 1, 3], [12, 5, 8])
PLANS = {
    "undersample": lambda key, labels: keyed.random_undersample(key, labels, **sizes),
    "oversample": lambda key, labels: keyed.random_oversample(key, labels, **sizes),
    "smote": lambda key, labels: keyed.smote(
        key, labels, keyed.class_neighbors(jnp.asarray(FEATURES[:25]), labels, K), **sizes
    ),
}


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8"])
def test_labels_of_any_integer_dtype_give_the_plan_of_int32(name, dtype):
    """Unsigned labels hold no -1, but the padding of the plan does."""
    make, key = jit(PLANS[name]), jax.random.key(4)
    expected, found = (make(key, PRESENT.astype(kind)) for kind in ("int32", dtype))
    jax.tree.map(np.testing.assert_array_equal, rows_of(found), rows_of(expected))
    assert set(np.unique(found.label)) == {-1, 0, 1, 3}


@pytest.mark.parametrize("name", PLANS)
def test_what_minus_one_becomes_in_an_unsigned_dtype_is_a_missing_row(name):
    labels = np.where(np.arange(25) % 5, PRESENT, -1)
    make, key = jit(PLANS[name]), jax.random.key(4)
    expected, found = make(key, labels.astype(np.int32)), make(key, labels.astype(np.uint8))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    "name",
    [own if own == "smote" else pytest.param(own, marks=pytest.mark.slow) for own in PLANS],
)
def test_wide_default_dtypes_and_strict_promotion_change_no_plan(name):
    key, labels = jax.random.key(4), jnp.asarray(PRESENT, jnp.int32)
    expected = rows_of(PLANS[name](key, labels))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        found = rows_of(PLANS[name](key, jnp.asarray(PRESENT)))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("rows", [0, 1, K, K + 1])
def test_few_rows_have_lists_of_the_same_length(rows):
    found = np.asarray(keyed.class_neighbors(jnp.asarray(FEATURES[:rows]), jnp.zeros(rows, int), K))
    assert found.shape == (rows, K)
    expected = np.broadcast_to(np.arange(K) < rows - 1, found.shape)
    np.testing.assert_array_equal(found >= 0, expected)
