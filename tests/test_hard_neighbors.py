"""Neighbor searches among equal rows, and beside huge numbers: as exact as others, and as quick."""

import time
import tracemalloc
from functools import partial

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import twostage_jax
from twostage_jax.resampling.neighbors import nearest, search, squared_distances
from twostage_jax.resampling.neighbors.device import screen_on_device
from twostage_jax.resampling.neighbors.equal import groups_of
from twostage_jax.resampling.neighbors.host import screen_on_host, suits_a_tree
from twostage_jax.resampling.neighbors.problem import Problem
from twostage_jax.support.threads import cores

SCREENS = {
    "chosen by size": None,
    "device": partial(screen_on_device, memory=2**30),
    "host": screen_on_host,
}


def by_definition(points, queries, own, k, farthest):
    """Rows and squared distances by all differences: by distance, then by row."""
    with np.errstate(over="ignore"):
        difference = queries[:, None].astype(float) - points[None].astype(float)
        squared = np.square(difference).sum(-1)
    key = -squared if farthest else squared.copy()
    key[np.flatnonzero(own >= 0), own[own >= 0]] = np.nan
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


@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize(
    "case", ["one", "several", "half a column", "a row in each column", "near overflow"]
)
def test_neighbors_beside_huge_numbers_are_exact(case, farthest):
    x = broken(case)
    rows, squared = by_definition(x, x, np.arange(400), 5, farthest)
    for screen in SCREENS.values():
        found = nearest(x, 5, farthest=farthest, screen=screen)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_allclose(found.squared, squared, rtol=1e-12)


@pytest.mark.parametrize("case", ["one", "several", "half a column"])
def test_a_huge_number_makes_only_its_row_unproven(case):
    """Most queries are proven by the first few candidates, whatever stands in other rows."""
    x, asked = broken(case), []

    def screen(problem, wanted):
        asked.append(len(problem.queries))
        return SCREENS["device"](problem, wanted)

    nearest(x, 5, screen=screen)
    assert asked[0] == 400
    assert sum(asked[1:]) <= 100


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
@pytest.mark.parametrize("size", [1e60, 1e200])
def test_huge_numbers_give_no_warning_in_any_thread(screen, size):
    """In more rows than one thread takes; a warning is an error here."""
    x = np.random.default_rng(0).standard_normal((600, 1024))
    x[::97] *= size
    rows, squared = by_definition(x, x[:100], np.arange(100), 3, False)
    found = nearest(x, 3, screen=screen)
    np.testing.assert_array_equal(found.rows[:100], rows)
    np.testing.assert_allclose(found.squared[:100], squared, rtol=1e-12)


@pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)
@pytest.mark.parametrize("farthest", [False, True])
@pytest.mark.parametrize("scale", [1e-310, 1e-161, 1e-160, 1e-155, 1e-40, 1e150, 1e153, 1e160])
def test_neighbors_at_any_scale_are_exact(screen, farthest, scale):
    """Down to squares that are zero, up to squares that are infinite."""
    x = np.random.default_rng(0).standard_normal((150, 20)) * scale
    rows, squared = by_definition(x, x, np.arange(150), 4, farthest)
    found = nearest(x, 4, farthest=farthest, screen=screen)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-12)


def test_neighbors_of_tiny_float32_numbers_are_exact():
    x = (np.random.default_rng(0).standard_normal((150, 20)) * 1e-40).astype(np.float32)
    rows, _ = by_definition(x, x, np.arange(150), 4, False)
    np.testing.assert_array_equal(nearest(x, 4, screen=SCREENS["device"]).rows, rows)


@pytest.mark.parametrize(
    ("case", "suits"),
    [("none", True), ("huge", False), ("all huge", False), ("not finite", False)],
)
def test_a_tree_is_asked_only_where_squares_are_finite(case, suits):
    x = np.random.default_rng(0).standard_normal((2200, 2))
    match case:
        case "huge":
            x[5], x[7] = [1e200, -1e200], [1e180, 1e190]
        case "all huge":
            x *= 1e200
        case "not finite":
            x[5, 0] = np.nan
    asking = np.array([0, 1, 5, 7, 2000])
    assert suits_a_tree(Problem(x, x, np.arange(len(x)), False)) == suits
    assert suits_a_tree(Problem(x[:5], x, np.arange(len(x)), False)) == suits
    rows, _ = by_definition(x, x[asking], asking, 3, False)
    np.testing.assert_array_equal(nearest(x, 3).rows[asking], rows)


# --- Clusters far from each other ---


def test_rows_of_far_clusters_are_screened_twice(monkeypatch):
    """By float32 products and, where these tell nothing, by float64 ones: no screen is repeated."""
    random = np.random.default_rng(0)
    x = random.standard_normal((2100, 32)).astype(np.float32)
    x[random.permutation(2100)[:1050]] += 1000
    asked = []

    def counted(screen, problem, wanted, memory):
        asked.append((screen, len(problem.queries), wanted))
        return screen(problem, wanted, memory)

    for screen in (screen_on_device, screen_on_host):
        monkeypatch.setattr(search, screen.__name__, partial(counted, screen))
    rows, _ = by_definition(x, x[:50], np.arange(50), 3, False)
    np.testing.assert_array_equal(nearest(x, 3).rows[:50], rows)
    assert [screen for screen, _, _ in asked] == [screen_on_device, screen_on_host]
    assert asked[1][1] <= 1050
    assert asked[1][2] <= 128


@pytest.mark.parametrize("rows", [3_000, 30_000, 3_000_000])
def test_float64_tells_what_float32_could_not_whatever_the_size(rows):
    table = np.broadcast_to(np.float32(1), (rows, 1024))
    problem = Problem(table, table, np.arange(rows), False)
    assert search.screen_by_size(problem, 2**30, again=False).func is screen_on_device
    assert search.screen_by_size(problem, 2**30, again=True).func is screen_on_host


# --- Memory ---


def peak_of(call):
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_points_that_are_queries_are_not_copied():
    x, asked = np.random.default_rng(0).standard_normal((400, 50)), []

    def screen(problem, wanted):
        asked.append(len(problem.queries))
        assert np.shares_memory(problem.queries, x)
        return screen_on_host(problem, wanted)

    nearest(x, 3, memory=2**18, screen=screen)
    assert len(asked) > 1
    assert sum(asked) == 400


def test_queries_asked_again_are_copied_in_portions_that_fit_the_memory():
    x, copied = np.ones((200, 5000)), []
    x[:, 0] = np.arange(200)

    def screen(problem, wanted):
        if not np.shares_memory(problem.queries, x):
            copied.append(problem.queries.nbytes)
        found = screen_on_host(problem, wanted)
        return found if wanted > 20 else found._replace(beyond=np.zeros(len(found.rows)))

    nearest(x, 3, memory=2**22, screen=screen)
    assert sum(copied) == x.nbytes
    assert max(copied) <= 2**20


def test_a_search_of_wide_rows_takes_what_its_documentation_says():
    x = np.random.default_rng(0).standard_normal((640, 5000), np.float32)
    screen = partial(screen_on_device, memory=2**22)
    peak = peak_of(lambda: nearest(x, 5, rows=np.arange(3), memory=2**22, screen=screen))
    assert peak <= 2**22 + 2_000 * x.shape[1] + cores() * 2**22


def test_the_screen_on_the_host_takes_the_memory_that_it_may():
    x = np.random.default_rng(0).standard_normal((1500, 1000))
    problem = Problem(x, x, np.arange(1500), False)
    result = 1500 * (16 * 3 + 1) * 8
    assert peak_of(lambda: screen_on_host(problem, 16, 2**23)) <= 2**23 + result


def test_distances_of_pixels_take_one_total_for_all_cores():
    x = np.random.default_rng(0).integers(0, 256, (1500, 4096), np.uint8)
    converted = 2 * x.nbytes + cores() * 1500 * 1024 * 4
    assert peak_of(lambda: squared_distances(x, x)) <= 1500**2 * (16 + 4 * cores()) + converted


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
