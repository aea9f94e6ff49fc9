"""MobileNet against `keras.applications.MobileNet`, and what Keras's does not have."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from functools import cache
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from twostage_jax.models import weights
from twostage_jax.models.layers import moments
from twostage_jax.models.mobilenet_v1 import WEIGHTS, MobileNet
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.lifting import Lifted
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Tally, make_stages

SHARED = Path(__file__).parents[2] / "shared"
SIZE = 64  # where Keras's network is not needed at full size
REAL = {0.25: "mobilenet_2_5_224_tf_no_top.h5", 0.75: "mobilenet_7_5_224_tf_no_top.h5"}


def pictures(count: int, size: int) -> np.ndarray:
    """Tiles of tissue where they are at hand, else smooth textures; float32 in [0, 255]."""
    tiles = sorted((SHARED / "data" / "kather24").glob("*/*.tif"))[::3]
    if tiles:
        drawn = [Image.open(tile).convert("RGB") for tile in tiles[:count]]
    else:
        coarse = np.random.default_rng(0).integers(0, 256, (count, 12, 12, 3), np.uint8)
        drawn = [Image.fromarray(noise) for noise in coarse]
    resized = [image.resize((size, size), Image.Resampling.BICUBIC) for image in drawn]
    return np.stack(resized).astype(np.float32)


def randomise(reference: keras.Model) -> None:
    """Moves batch norm's parameters and statistics away from 0 and 1."""
    rng = np.random.default_rng(0)
    for layer in reference.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 2, shape))
            layer.beta.assign(rng.normal(0.5, 0.5, shape))
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))


def keras_2_name(path: str) -> str:
    """Keras 3 calls a depthwise kernel a kernel."""
    return path.replace("/kernel", "/depthwise_kernel") if "conv_dw" in path else path


def write_keras_2(reference: keras.Model, path: Path) -> None:
    """Writes a model's weights in Keras 2's HDF5 layout, as Keras 3 no longer does."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in reference.layers]
        for layer in reference.layers:
            group = file.create_group(layer.name)
            names = [f"{keras_2_name(variable.path)}:0" for variable in layer.weights]
            group.attrs["weight_names"] = np.array([name.encode() for name in names], "S")
            for name, variable in zip(names, layer.weights, strict=True):
                group[name] = np.asarray(variable.value)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Of a width: Keras's network, and ours with the same weights."""

    @cache
    def make(width: float) -> tuple[keras.Model, MobileNet]:
        keras.utils.set_random_seed(0)
        reference = keras.applications.MobileNet(
            (None, None, 3), alpha=width, include_top=False, pooling="avg", weights=None
        )
        path = SHARED / "weights" / REAL[width]
        if path.exists():
            reference.load_weights(path)
        else:
            path = tmp_path_factory.mktemp("weights") / "keras2.h5"
            randomise(reference)
            write_keras_2(reference, path)
        return reference, ported(path, width)

    return make


def ported(path: Path, width: float) -> MobileNet:
    shapes = nnx.eval_shape(lambda: MobileNet(4, width, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    graph, state = nnx.split(shapes)
    state = jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0])).astype(leaf.dtype),
        state,
    )
    found = weights.Weights(WEIGHTS.port(path, width), "")
    return nnx.merge(graph, weights.set_weights(state, found))


@jax.jit
def both_modes(model: MobileNet, images, valid):
    """Features in inference and in training mode, and the statistics after."""
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    model = nnx.merge(graph, params, stats, copy=True)
    inference = model.features(images)
    training = model.features(images, valid)
    return inference, training, nnx.state(model, nnx.BatchStat)


def keras_both_modes(reference: keras.Model, images):
    @jax.jit
    def run(trained, other, images):
        inference, _ = reference.stateless_call(trained, other, images, training=False)
        training, other = reference.stateless_call(trained, other, images, training=True)
        return inference, training, other

    trained = [variable.value for variable in reference.trainable_variables]
    other = [variable.value for variable in reference.non_trainable_variables]
    inference, training, other = run(trained, other, images / 127.5 - 1)
    names = [variable.path for variable in reference.non_trainable_variables]
    return inference, training, dict(zip(names, other, strict=True))


def by_keras_name(state: nnx.State) -> dict[str, np.ndarray]:
    """Parameters or statistics, the head's left out, by Keras's `layer/weight`."""
    keras_names = {
        "scale": "gamma",
        "bias": "beta",
        "mean": "moving_mean",
        "var": "moving_variance",
    }
    found = {}

    def add(layer, own, kernel, keras_kernel, norm):
        if kernel in own:
            found[f"{layer}/{keras_kernel}"] = np.asarray(own[kernel][...])
        for name, leaf in own[norm].items():
            found[f"{layer}_bn/{keras_names[name]}"] = np.asarray(leaf[...])

    add("conv1", state["stem"], "kernel", "kernel", "norm")
    for i, block in state["blocks"].items():
        add(f"conv_dw_{i + 1}", block, "depthwise", "depthwise_kernel", "depthwise_norm")
        add(f"conv_pw_{i + 1}", block, "pointwise", "kernel", "pointwise_norm")
    return found


# --- Keras's network ---


@pytest.mark.parametrize(
    ("width", "size"), [(0.25, 97), (0.25, 150), (0.25, 224), (0.75, 150), (0.75, 224)]
)
def test_agrees_with_keras(pair, width, size):
    reference, model = pair(width)
    images = pictures(4, size)
    inference, training, stats = both_modes(model, images, np.ones(4, bool))
    expected_inference, expected_training, expected_stats = keras_both_modes(reference, images)
    assert inference.shape == (4, 1024 * width)
    assert np.std(expected_inference) > 0.1
    assert np.abs(inference - training).max() > 0.1
    np.testing.assert_allclose(inference, expected_inference, rtol=0, atol=1e-4)
    np.testing.assert_allclose(training, expected_training, rtol=0, atol=1e-4)
    before, after = (by_keras_name(each) for each in (nnx.state(model, nnx.BatchStat), stats))
    assert after.keys() == expected_stats.keys()
    for name, expected in expected_stats.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
        assert (after[name] != before[name]).any(), name


def test_gradients_agree_with_keras(pair):
    """In training mode, through the batch statistics, of a random sum of the features.

    Rounding that opens or closes a single ReLU6 shows below that layer: 1 % were seen.
    """
    reference, model = pair(0.25)
    images = jnp.asarray(pictures(8, SIZE))
    weight = np.random.default_rng(0).normal(size=(8, 256)).astype(np.float32)
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    @jax.grad
    def gradient(params):
        features = nnx.merge(graph, params, stats, copy=True).features(images, jnp.ones(8, bool))
        return jnp.sum(weight * features)

    @jax.jit
    @jax.grad
    def keras_gradient(trained, other):
        features, _ = reference.stateless_call(trained, other, images / 127.5 - 1, training=True)
        return jnp.sum(weight * features)

    trained = [variable.value for variable in reference.trainable_variables]
    other = [variable.value for variable in reference.non_trainable_variables]
    names = [keras_2_name(variable.path) for variable in reference.trainable_variables]
    expected = dict(zip(names, keras_gradient(trained, other), strict=True))
    found = by_keras_name(gradient(params))
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        error = np.linalg.norm(found[name].reshape(own.shape) - own) / np.linalg.norm(own)
        assert error < 0.03, name


# --- What Keras's network does not have ---


def padded(images: np.ndarray, garbage: float) -> np.ndarray:
    noise = np.random.default_rng(2).uniform(-garbage, garbage, (3, *images.shape[1:]))
    return np.concatenate([images, noise.astype(np.float32)])


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
    expected = by_keras_name(stats)
    for name, found in by_keras_name(loud[2]).items():
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


def test_no_convolution_in_the_lifted_training_step():
    """One lifted over weights would be a grouped one."""
    stages = make_stages(Protocol(width=0.25), 4)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    state = jax.eval_shape(jax.vmap(stages.init_network), keys)
    tally = Tally(*(jax.ShapeDtypeStruct((3,), jnp.float32),) * 2)
    images = jax.ShapeDtypeStruct((9, SIZE, SIZE, 3), jnp.uint8)
    columns = (jnp.int32, jnp.int32, jnp.float32, jnp.int32)
    batches = DevicePlan(*(jax.ShapeDtypeStruct((3, 2, 4), dtype) for dtype in columns))
    step = Lifted(stages.train_network, shared=(2, 4, 5), sequential=False)
    jaxpr = str(jax.make_jaxpr(step)(state, tally, images, batches, 0, 2))
    assert "dot_general" in jaxpr
    assert "conv_general_dilated" not in jaxpr
