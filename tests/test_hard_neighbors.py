"""Neighbor searches among equal rows, and beside huge numbers: as exact as others, and as quick."""

import time

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twostage_jax
from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.neighbors.device import screen_on_device
from twostage_jax.resampling.neighbors.equal import groups_of


def by_definition(points, queries, own, k, farthest):
    """Rows and squared distances by all differences: by distance, then by row."""
    difference = queries[:, None].astype(float) - points[None].astype(float)
    squared = np.square(difference).sum(-1)
    key = -squared if farthest else squared.copy()
    key[np.flatnonzero(own >= 0), own[own >= 0]] = np.inf
    rows = np.argsort(key, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(squared, rows, axis=1)


# --- Equal rows ---


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["uint8", "int64", "float32", "float64"]),
    st.sampled_from(["all", "some", "others"]),
    st.booleans(),
)
def test_equal_rows_are_neighbors_by_their_row_numbers(seed, dtype, asked, farthest):
    random = np.random.default_rng(seed)
    columns = int(random.choice([1, 3, 80]))
    pool = random.integers(0, 2, (int(random.integers(1, 9)), columns))
    points = pool[random.integers(0, len(pool), random.integers(14, 90))].astype(dtype)
    if points.dtype.kind == "f":  # zeros of both signs are equal
        points = np.where(random.random(points.shape) < 0.5, points, points + 0 * -points)
    count = len(points)
    given_, own, queries = {}, np.arange(count), points
    if asked == "some":
        own = given_["rows"] = random.permutation(count)[: random.integers(0, count)]
        queries = points[own]
    elif asked == "others":
        queries = given_["queries"] = random.integers(0, 2, (20, columns)).astype(dtype)
        own = np.full(20, -1)
    k = int(random.integers(1, count))
    found = nearest(points, k, farthest=farthest, **given_)
    rows, squared = by_definition(points, queries, own, k, farthest)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.squared, squared)


@pytest.mark.parametrize("columns", [1, 3, 33, 5000])
def test_rows_that_differ_anywhere_are_in_different_groups(columns):
    x = np.zeros((60, columns), np.uint8)
    x[20:, -1] = 1
    x[40:, columns // 2] = 2
    groups = groups_of(x, 5)
    np.testing.assert_array_equal(groups.first, [0, 20, 40])
    np.testing.assert_array_equal(groups.group, np.repeat([0, 1, 2], 20))
    assert groups_of(x, 20) is None
    x = np.vstack([x, np.random.default_rng(0).integers(0, 9, (40, columns), np.uint8)])
    assert groups_of(x[60:], 39) is None


def test_what_is_not_finite_is_in_no_group():
    x = np.zeros((40, 4), np.float32)
    x[20:] = np.nan
    groups = groups_of(x, 5)
    np.testing.assert_array_equal(groups.first, [0, *range(20, 40)])


# --- Huge numbers ---


def broken(case):
    """Real numbers in more columns than a tree takes, some of them broken."""
    random = np.random.default_rng(0)
    x = random.standard_normal((400, 60)).astype(np.float32)
    if case == "one":
        x[-1, 0] = 1e9
    elif case == "several":
        x[random.integers(0, 400, 30), random.integers(0, 60, 30)] = 1e9
    elif case == "half a column":
        x[::2, 7] = -1e9
    elif case == "a row in each column":
        x[np.arange(60), np.arange(60)] = np.float32(1e12)
    elif case == "near overflow":
        x[:20, 3] = 3e38
    return x


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize(
    "case", ["one", "several", "half a column", "a row in each column", "near overflow"]
)
def test_neighbors_beside_huge_numbers_are_exact(case, farthest):
    x = broken(case)
    rows, squared = by_definition(x, x, np.arange(400), 5, farthest)
    for screen in (None, lambda problem, wanted: screen_on_device(problem, wanted, 2**30)):
        found = nearest(x, 5, farthest=farthest, screen=screen)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_allclose(found.squared, squared, rtol=1e-12)


@pytest.mark.parametrize("case", ["one", "several", "half a column"])
def test_a_huge_number_makes_only_its_row_unproven(case):
    """Most queries are proven by the first few candidates, whatever stands in other rows."""
    x, asked = broken(case), []

    def screen(problem, wanted):
        asked.append(len(problem.queries))
        return screen_on_device(problem, wanted, 2**30)

    nearest(x, 5, screen=screen)
    assert asked[0] == 400
    assert sum(asked[1:]) <= 100


# --- Time ---


def categories(random):
    return random.integers(0, 2, (20_000, 3)).astype(float)


def dead_features(random):
    x = np.zeros((8_000, 512), np.float32)
    x[:500] = random.random((500, 512))
    return x


def white_tiles(random):
    x = np.full((4_000, 32, 32, 3), 255, np.uint8)
    x[::10] = random.integers(0, 256, (400, 32, 32, 3))
    return x


def one_broken_cell(random):
    x = random.standard_normal((6_000, 600)).astype(np.float32)
    x[-1, 0] = 1e9
    return x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("EditedNearestNeighbours", categories),
        ("TomekLinks", categories),
        ("SMOTE", dead_features),
        ("ADASYN", one_broken_cell),
        ("SMOTE", one_broken_cell),
        ("TomekLinks", white_tiles),
        ("NearMiss", white_tiles),
    ],
)
def test_hard_data_take_no_longer_than_imbalanced_learn(name, make):
    """In processor time, with allowance for compiling."""
    x = make(np.random.default_rng(0))
    y = np.random.default_rng(1).permutation(np.arange(len(x)) % 3 == 0).astype(int)
    theirs = imblearn.over_sampling if name in ("SMOTE", "ADASYN") else imblearn.under_sampling
    seconds = []
    for library, data in ((theirs, x.reshape(len(x), -1)), (twostage_jax, x)):
        started = time.process_time()
        getattr(library, name)().fit_resample(data, y)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 2 * seconds[0] + 5
