"""Exact neighbours of the same class, against references in integers and float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from twostage_jax import neighbors
from twostage_jax.neighbors import (
    feature_neighbors,
    gram,
    rank_neighbors,
    squared_distances,
    subset_neighbors,
)

GRAMS = (gram, jax.jit(neighbors._gram_in_int32), jax.jit(neighbors._gram_in_float32))


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


# --- Integer products ---


def extreme_images(columns):
    """All black, all white, and a mixture: the largest products of either sign."""
    mixed = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), columns)
    return np.stack([np.zeros(columns, np.uint8), np.full(columns, 255, np.uint8), mixed])


@pytest.mark.parametrize("product", GRAMS, ids=["gram", "int32", "float32"])
@pytest.mark.parametrize("columns", [1, 1023, 1024, 1025, 67_500, 131_071])
def test_products_of_extreme_images_are_exact(product, columns):
    shifted = extreme_images(columns).astype(np.int64) - 128
    found = np.asarray(product(jnp.asarray(shifted.astype(np.int8))))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, shifted @ shifted.T)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_both_implementations_agree(seed):
    rows = np.random.default_rng(seed).integers(-128, 128, (20, 3000), np.int8)
    a, b = (np.asarray(product(rows)) for product in GRAMS[1:])
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, rows.astype(np.int64) @ rows.T.astype(np.int64))


def test_squared_distances_beyond_32_bits_are_exact():
    images = extreme_images(67_500).reshape(3, 150, 150, 3)
    numbers = images.reshape(3, -1).astype(np.int64)
    expected = ((numbers[:, None] - numbers[None]) ** 2).sum(-1)
    assert expected.max() == 67_500 * 255**2 > 2**32 - 1
    found = squared_distances(images)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_distances_of_images_whose_inner_products_exceed_32_bits_are_exact():
    """Of 224 x 224 pixels, ImageNet's size, for one."""
    images = np.zeros((3, 224, 224, 3), np.uint8)
    images[1] = 255
    images[2, 7] = 9
    found = squared_distances(images)
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


@settings(max_examples=50, deadline=None)
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
    features[40:60] = features[7]  # more equal rows than there are neighbours
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
