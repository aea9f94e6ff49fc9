"""MobileNet v1 against `keras.applications.MobileNet`, and what Keras's does not have."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import keras_models
import numpy as np
import pytest
from flax import nnx
from keras_models import both_modes, by_keras_name, keras, pictures

from twostage_jax.models.mobilenet_v1 import WEIGHTS, MobileNet
from twostage_jax.models.norms import moments
from twostage_jax.models.weights import Weights

pytestmark = pytest.mark.integration

SIZE = 64  # where Keras's network is not needed at full size
REAL = {0.25: "mobilenet_2_5_224_tf_no_top.h5", 0.75: "mobilenet_7_5_224_tf_no_top.h5"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Of a width: Keras's network, and ours with the same weights."""

    @cache
    def make(width: float) -> tuple[keras.Model, MobileNet]:
        keras.utils.set_random_seed(0)
        reference = keras.applications.MobileNet(
            (None, None, 3), alpha=width, include_top=False, pooling="avg", weights=None
        )
        path = keras_models.SHARED / "weights" / REAL[width]
        if path.exists():
            reference.load_weights(path)
        else:
            path = tmp_path_factory.mktemp("weights") / "keras2.h5"
            keras_models.randomize(reference)
            keras_models.write_keras_2(reference, path)
        found = Weights(WEIGHTS.port(path, width), "")
        return reference, keras_models.with_weights(found, partial(MobileNet, width=width))

    return make


# --- Keras's network ---


@pytest.mark.parametrize(
    ("width", "size"),
    [
        pytest.param(0.25, 97, marks=pytest.mark.slow),
        (0.25, 150),
        pytest.param(0.25, 224, marks=pytest.mark.slow),
        pytest.param(0.75, 150, marks=pytest.mark.slow),
        pytest.param(0.75, 224, marks=pytest.mark.slow),
    ],
)
def test_agrees_with_keras(pair, width, size):
    keras_models.assert_agrees(*pair(width), WEIGHTS, pictures(4, size))


def test_gradients_agree_with_keras(pair):
    keras_models.assert_gradients_agree(*pair(0.25), WEIGHTS, pictures(8, SIZE))


# --- What Keras's network does not have ---


def padded(images: np.ndarray, garbage: float) -> np.ndarray:
    noise = np.random.default_rng(2).uniform(-garbage, garbage, (3, *images.shape[1:]))
    return np.concatenate([images, noise.astype(np.float32)])


@pytest.mark.slow
def test_padding_of_a_partial_batch_counts_for_nothing(pair):
    _, model = pair(0.25)
    images = pictures(8, SIZE)[:5]
    valid = np.arange(8) < 5
    inference, training, stats = both_modes(model, images, valid[:5])
    loud, quiet = (both_modes(model, padded(images, of), valid) for of in (1e4, 255))
    jax.tree.map(np.testing.assert_array_equal, loud[2], quiet[2])
    for found, other, expected in zip(loud[:2], quiet[:2], (inference, training), strict=True):
        np.testing.assert_array_equal(found[:5], other[:5])
        np.testing.assert_allclose(found[:5], expected, rtol=0, atol=1e-4)
    expected = by_keras_name(stats, WEIGHTS)
    for name, found in by_keras_name(loud[2], WEIGHTS).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_statistics_are_no_products():
    """A study at tf32 or bfloat16 has products of that precision, and statistics of float32."""
    x, about, share = jnp.ones((2, 3, 3, 4), jnp.bfloat16), jnp.ones(4), jnp.ones(2)
    gradient = jax.grad(lambda *arguments: sum(map(jnp.sum, moments(*arguments))))
    for function in (moments, gradient):
        assert "dot_general" not in str(jax.make_jaxpr(function)(x, about, share))
    assert {each.dtype for each in moments(x, about, share)} == {jnp.dtype("float32")}


def test_bfloat16(pair):
    """Eight bits at each of 27 layers leave features within 20 to 30 % of the exact ones."""
    _, exact = pair(0.25)
    shapes = nnx.eval_shape(lambda: MobileNet(4, 0.25, dtype=jnp.bfloat16, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(shapes)
    coarse = nnx.merge(graph, nnx.state(exact))
    images, valid = jnp.asarray(pictures(8, SIZE)), np.ones(8, bool)
    inference, training, stats = both_modes(coarse, images, valid)
    expected = both_modes(exact, images, valid)
    for found, own in zip((inference, training), expected[:2], strict=True):
        assert found.dtype == jnp.float32
        assert np.isfinite(found).all()
        error = np.linalg.norm(found - own) / np.linalg.norm(own)
        assert 1e-4 < error < 0.4
    assert {leaf.dtype for leaf in jax.tree.leaves((state, stats))} == {np.dtype(np.float32)}
    assert "bf16" in str(jax.make_jaxpr(coarse.features)(images))


@pytest.mark.parametrize("width", [0.25, 0.5, 0.75, 1.0])
def test_width_of_the_features(width):
    def shapes(images):
        model = MobileNet(7, width, rngs=nnx.Rngs(0))
        return model.features(images), model(images), nnx.state(model, nnx.Param)

    images = jax.ShapeDtypeStruct((2, 150, 150, 3), jnp.float32)
    features, logits, params = jax.eval_shape(shapes, images)
    assert features.shape == (2, 1024 * width)
    assert logits.shape == (2, 7)
    if width == 1:  # Keras: 3,228,864 with moving statistics, 21,888 of them not trained
        head = sum(leaf.size for leaf in jax.tree.leaves(params["head"]))
        assert head == 1024 * 1024 + 1024 + 1024 * 7 + 7
        assert sum(leaf.size for leaf in jax.tree.leaves(params)) - head == 3_228_864 - 21_888
