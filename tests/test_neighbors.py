"""Exact neighbors, against references in integers and float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from twostage_jax.resampling.neighbors import (
    nearest,
    products,
    rank_neighbors,
    squared_distances,
    subset_neighbors,
    tiles,
)
from twostage_jax.resampling.neighbors.device import block_rows, screen_on_device, tile_rows
from twostage_jax.resampling.neighbors.host import screen_by_tree, screen_on_host
from twostage_jax.resampling.samplers.searches import class_neighbor_lists

PRODUCTS = {
    "chosen": jax.jit(products.integer_products),
    "int32": jax.jit(products.integers_by_int8),
    "float32": jax.jit(products.integers_by_float32),
}


def feature_neighbors(features, labels, k):
    return class_neighbor_lists(features, labels, k, np.unique(labels))


SCREENS = {
    "host": screen_on_host,
    "tree": screen_by_tree,
    "device": partial(screen_on_device, memory=2**30),
    "small tiles": partial(screen_on_device, memory=2**16),
    "chosen by size": None,
}
each_screen = pytest.mark.parametrize("screen", SCREENS.values(), ids=SCREENS)


def nearest_by_hand(x, labels, k):
    """Of each row the k nearest of its class, in float64, ties by the smaller row; -1 if fewer."""
    x = x.reshape(len(x), int(np.prod(x.shape[1:]))).astype(np.float64)
    lists = np.full((len(x), k), -1)
    for row in range(len(x)):
        others = [i for i in range(len(x)) if labels[i] == labels[row] and i != row]
        ranked = sorted(others, key=lambda i: (((x[i] - x[row]) ** 2).sum(), i))
        if len(others) >= k:
            lists[row] = ranked[:k]
    return lists


def found_by_hand(points, queries, k, own=None, farthest=False):
    """Rows and squared distances, by all differences in float64."""
    points, queries = (x.reshape(len(x), -1).astype(np.float64) for x in (points, queries))
    squared = ((queries[:, None] - points[None]) ** 2).sum(-1)
    key = -squared if farthest else squared.copy()
    if own is not None:
        key[np.arange(len(queries)), own] = np.nan
    rows = np.argsort(key, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(squared, rows, axis=1)


# --- Integer products ---


def extreme_images(columns):
    """All black, all white, and a mixture: the largest products of either sign."""
    mixed = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), columns)
    return np.stack([np.zeros(columns, np.uint8), np.full(columns, 255, np.uint8), mixed])


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
@pytest.mark.parametrize("columns", [1, 1023, 1024, 1025, 67_500, 131_071])
def test_products_of_extreme_images_are_exact(product, columns):
    shifted = extreme_images(columns).astype(np.int64) - 128
    rows = jnp.asarray(shifted.astype(np.int8))
    found = np.asarray(product(rows, rows))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, shifted @ shifted.T)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_both_implementations_agree(seed):
    rows = np.random.default_rng(seed).integers(-128, 128, (20, 3000), np.int8)
    a, b = (np.asarray(PRODUCTS[name](rows, rows[:7])) for name in ("int32", "float32"))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, rows.astype(np.int64) @ rows[:7].T.astype(np.int64))


def test_squared_distances_beyond_32_bits_are_exact():
    images = extreme_images(67_500).reshape(3, 150, 150, 3)
    numbers = images.reshape(3, -1).astype(np.int64)
    expected = ((numbers[:, None] - numbers[None]) ** 2).sum(-1)
    assert expected.max() == 67_500 * 255**2 > 2**32 - 1
    found = squared_distances(images, images)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected)


def test_distances_of_images_whose_inner_products_exceed_32_bits_are_exact():
    """Of 224 x 224 pixels, ImageNet's size, for one."""
    images = np.zeros((3, 224, 224, 3), np.uint8)
    images[1] = 255
    images[2, 7] = 9
    found = squared_distances(images, images)
    assert found[0, 1] == 224 * 224 * 3 * 255**2
    assert found[0, 2] == 224 * 3 * 9**2
    assert found[1, 2] == 224 * 3 * 246**2 + 223 * 224 * 3 * 255**2


# --- Images ---


@st.composite
def image_subsets(draw):
    """Small images of few values, so that many distances tie and some images are equal."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.array(draw(st.sampled_from([[0, 1], [0, 255], [0, 100, 255], range(256)])))
    images = values[rng.integers(0, len(values), (40, 2, 1, 3))].astype(np.uint8)
    labels = rng.integers(0, draw(st.sampled_from([1, 2, 3])), 40)
    rows = np.flatnonzero(rng.random(40) < draw(st.floats(0.1, 1)))
    return images, labels, rows, draw(st.integers(1, 6))


@settings(max_examples=50)
@given(image_subsets())
def test_neighbors_in_a_subset_equal_brute_force(sample):
    images, labels, rows, k = sample
    found = subset_neighbors(rank_neighbors(images, labels), rows, labels[rows], k)
    np.testing.assert_array_equal(found, nearest_by_hand(images[rows], labels[rows], k))


def test_neighbors_of_textures_equal_brute_force(small_image_set):
    images, labels = small_image_set.images, small_image_set.labels
    rows = np.arange(0, len(labels), 2)
    found = subset_neighbors(rank_neighbors(images, labels), rows, labels[rows], 3)
    np.testing.assert_array_equal(found, nearest_by_hand(images[rows], labels[rows], 3))


def test_an_image_is_not_its_own_neighbor_among_duplicates():
    images = np.zeros((12, 2, 2, 3), np.uint8)
    labels = np.zeros(12, int)
    ranked = rank_neighbors(images, labels)[0].order
    by_features = feature_neighbors(images.reshape(12, -1).astype(np.float32), labels, 11)
    for row in range(12):
        others = [i for i in range(12) if i != row]
        assert list(ranked[row]) == others
        assert list(by_features[row]) == others


def test_small_classes_have_no_neighbors():
    images = np.random.default_rng(0).integers(0, 256, (9, 2, 2, 3), np.uint8)
    labels = np.repeat([0, 1], [6, 3])
    rows = np.arange(9)
    for k, missing in ((2, []), (3, [6, 7, 8]), (6, rows)):
        found = subset_neighbors(rank_neighbors(images, labels), rows, labels, k)
        features = feature_neighbors(images.reshape(9, -1).astype(np.float32), labels, k)
        np.testing.assert_array_equal(np.flatnonzero((found == -1).all(axis=1)), missing)
        assert np.all((found >= 0).all(axis=1) | (found == -1).all(axis=1))
        np.testing.assert_array_equal(found, features)


# --- Features ---


@st.composite
def badly_conditioned_features(draw):
    """A large common offset; differences of a few units in the last place of float32."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offset = draw(st.sampled_from([0.0, 1.0, 1e4]))
    differences = rng.integers(
        0, draw(st.sampled_from([2, 4, 1000])), (40, draw(st.integers(1, 9)))
    )
    features = (offset + differences * 2.0**-10).astype(np.float32)
    return features, rng.integers(0, 2, 40), draw(st.integers(1, 6))


@given(badly_conditioned_features())
def test_feature_neighbors_equal_brute_force(sample):
    features, labels, k = sample
    found = feature_neighbors(features, labels, k)
    np.testing.assert_array_equal(found, nearest_by_hand(features, labels, k))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1e4])
def test_neighbors_of_wide_features_equal_brute_force(offset, dtype):
    """As wide as MobileNet's; the offset takes 22 bits of the norms of such vectors in float64."""
    rng = np.random.default_rng(0)
    features = (offset + 1e-3 * rng.standard_normal((90, 1024))).astype(dtype)
    features[40:60] = features[7]  # more equal rows than there are neighbors
    labels = np.zeros(90, int)
    np.testing.assert_array_equal(
        feature_neighbors(features, labels, 5), nearest_by_hand(features, labels, 5)
    )


def test_features_far_from_all_others_do_not_hide_neighbors():
    rng = np.random.default_rng(0)
    features = 1e-6 * rng.standard_normal((40, 16))
    features[0] = 1e6
    labels = np.zeros(40, int)
    np.testing.assert_array_equal(
        feature_neighbors(features, labels, 5), nearest_by_hand(features, labels, 5)
    )


def test_a_diverged_network_has_neighbors_too():
    """Its plan is made before its record says that it failed."""
    features = np.full((10, 4), np.nan, np.float32)
    found = feature_neighbors(features, np.zeros(10, int), 3)
    assert np.all((found >= 0) & (found < 10))


@pytest.mark.parametrize("seed", range(4))
def test_neighbors_agree_with_scikit_learn(seed):
    """On data without ties, which scikit-learn breaks at will."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((60, 30)).astype(np.float32)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    found = feature_neighbors(features, labels, 5)
    images = rng.integers(0, 256, (60, 4, 4, 3), np.uint8)
    of_images = subset_neighbors(rank_neighbors(images, labels), np.arange(60), labels, 5)
    for label in range(3):
        members = np.flatnonzero(labels == label)
        for x, lists in ((features, found), (images.reshape(60, -1).astype(float), of_images)):
            search = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(x[members])
            expected = members[search.kneighbors(return_distance=False)]
            np.testing.assert_array_equal(lists[members], expected)


# --- The search ---


@st.composite
def searches(draw):
    """Points with duplicates and ties, of various dtypes and scales; who asks; how many."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.uint8, np.int64, np.float32, np.float64]))
    values = draw(st.sampled_from([2, 256]))
    points = rng.integers(0, values, (draw(st.sampled_from([70, 150])), 3))
    if np.issubdtype(dtype, np.floating):
        points = draw(st.sampled_from([0, 1e6])) + points * draw(st.sampled_from([1e-12, 1, 1e12]))
    asking = draw(st.sampled_from(["all", "some", "others"]))
    some = rng.choice(len(points), 25, replace=False)
    return (
        points.astype(dtype),
        asking,
        some,
        draw(st.sampled_from([1, 5, 40])),
        draw(st.booleans()),
    )


@each_screen
@settings(max_examples=8)
@given(sample=searches())
def test_search_equals_brute_force(screen, sample):
    points, asking, some, k, farthest = sample
    farthest &= screen is not screen_by_tree  # a tree finds the nearest points alone
    match asking:
        case "all":
            own, asks, options = np.arange(len(points)), points, {}
        case "some":
            own, asks, options = some, points[some], {"rows": some}
        case "others":
            own, asks = None, points[some][::-1]
            options = {"queries": asks}
    found = nearest(points, k, farthest=farthest, screen=screen, memory=2**18, **options)
    rows, squared = found_by_hand(points, asks, k, own, farthest)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.squared, squared)


@each_screen
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("farthest", [False, True])
def test_search_among_wide_rows_equals_brute_force(screen, dtype, farthest):
    """More columns than one block of products has; several blocks of rows."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (200, 1500))
    x = (x if dtype == np.uint8 else x + rng.random(x.shape)).astype(dtype).reshape(200, 30, 50)
    farthest &= screen is not screen_by_tree
    found = nearest(x, 4, farthest=farthest, screen=screen)
    rows, squared = found_by_hand(x, x, 4, np.arange(200), farthest)
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_allclose(found.squared, squared, rtol=1e-14)


def test_pixels_at_the_ends_of_32_bits():
    """Squared distances of black and white images of 67,500 values need 33 bits."""
    images = np.repeat(extreme_images(67_500), 4, axis=0)
    images[:, :12] = np.random.default_rng(0).integers(0, 256, (12, 12))
    for farthest in (False, True):
        found = nearest(images, 11, farthest=farthest, screen=SCREENS["device"])
        rows, squared = found_by_hand(images, images, 11, np.arange(12), farthest)
        np.testing.assert_array_equal(found.rows, rows)
        np.testing.assert_array_equal(found.squared, squared)
    assert squared.max() > 2**32


def test_too_coarse_a_screen_is_noticed_and_repeated():
    """A hundred points lie within the rounding of float32, more than are screened at first."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 64))
    x[:100] = x[0] + 1e-7 * rng.standard_normal((100, 64))
    asked = []

    def screen(problem, wanted):
        asked.append(wanted)
        return SCREENS["device"](problem, wanted)

    found = nearest(x, 5, screen=screen)
    np.testing.assert_array_equal(found.rows, found_by_hand(x, x, 5, np.arange(300))[0])
    assert asked == [16, 128]


def test_memory_bounds_the_tiles():
    """One product of all pairs would take 160 MB; the argument allows a fortieth."""
    small = tile_rows(1024, 4, 2**22)
    assert 24 * small**2 + 6 * 4 * 1024 * small <= 2**21
    large = tile_rows(1024, 4, 2**30)
    assert 24 * large**2 + 6 * 4 * 1024 * large <= 2**29
    assert large >= 4096 > small >= 64


@given(st.integers(1, 10**6), st.sampled_from([64, 512, 4096]))
def test_blocks_are_hardly_larger_than_what_they_hold(count, most):
    rows = block_rows(count, most)
    blocks = -(-count // rows)
    assert rows <= most
    assert rows % 64 == 0
    assert blocks * rows - count < blocks * max(64, rows / 8)


@pytest.mark.parametrize(("k", "options"), [(0, {}), (9, {}), (10, {"queries": np.zeros((2, 3))})])
def test_more_neighbors_than_points_are_refused(k, options):
    points = np.zeros((9, 3))
    with pytest.raises(ValueError, match=f"{k} neighbors requested of . points, 1 to . expected"):
        nearest(points, k, **options)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("pixels", [True, False])
def test_search_lowers_for_accelerators(platform, pixels):
    """int8 products there, float32 on a CPU."""
    size, columns, wanted = 128, 67_500, 16
    rows = tiles.Rows(
        jax.ShapeDtypeStruct((size, columns), jnp.int8 if pixels else jnp.float32),
        jax.ShapeDtypeStruct((size,), jnp.int32 if pixels else jnp.float32),
        *[jax.ShapeDtypeStruct((size,), jnp.int32)] * 2,
    )
    best = jax.eval_shape(lambda: tiles.none_yet(size, wanted, pixels))
    lowered = tiles.take_tile_twice.trace(best, best, rows, rows, farthest=False).lower(
        lowering_platforms=(platform,)
    )
    text = lowered.as_text()
    assert ("xi8>" in text.split("dot_general", 1)[1].splitlines()[0]) == pixels
