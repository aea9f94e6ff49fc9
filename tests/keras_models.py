"""Networks of Keras on JAX, and ours with the same weights.

Test modules that use this set `KERAS_BACKEND` before Keras is first imported.
"""

import os
from collections.abc import Callable

os.environ["KERAS_BACKEND"] = "jax"

from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flax import nnx
from PIL import Image

from twostage_jax.models import weights
from twostage_jax.models.network import Network
from twostage_jax.models.weights import KerasWeights

SHARED = Path(__file__).parents[2] / "shared"


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


def randomize(reference: keras.Model) -> None:
    """Moves batch norm's parameters and statistics away from 0 and 1."""
    rng = np.random.default_rng(0)
    for layer in reference.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(rng.uniform(0.5, 2, shape))
            layer.beta.assign(rng.normal(0.5, 0.5, shape))
            layer.moving_mean.assign(rng.normal(0, 0.3, shape))
            layer.moving_variance.assign(rng.uniform(0.5, 2, shape))


def keras_2_name(layer: keras.layers.Layer, variable: keras.Variable) -> str:
    """Keras 3 calls a depthwise kernel a kernel."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return f"{layer.name}/{'depthwise_' if depthwise else ''}{variable.name}"


def keras_2_names(reference: keras.Model) -> dict[str, str]:
    """Names of all variables in Keras 2, by their paths in Keras 3."""
    return {
        variable.path: keras_2_name(layer, variable)
        for layer in reference.layers
        for variable in layer.weights
    }


def write_keras_2(
    reference: keras.Model, path: Path, layer_name: Callable[[str], str] = str
) -> None:
    """Writes a model's weights in Keras 2's HDF5 layout, as Keras 3 no longer does.

    `layer_name` gives the name in the file for a layer's name.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer_name(layer.name).encode() for layer in reference.layers]
        for layer in reference.layers:
            name = layer_name(layer.name)
            group = file.create_group(name)
            names = [
                f"{name}/{keras_2_name(layer, variable).split('/')[1]}:0"
                for variable in layer.weights
            ]
            group.attrs["weight_names"] = np.array([each.encode() for each in names], "S")
            for each, variable in zip(names, layer.weights, strict=True):
                group[each] = np.asarray(variable.value)


def with_weights(found: weights.Weights, build: Callable[..., Network]) -> Network:
    """Our network with ported weights and a random head, initialization left out."""
    rng = np.random.default_rng(1)
    graph, state = nnx.split(nnx.eval_shape(lambda: build(4, rngs=nnx.Rngs(0))))
    state = jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0])).astype(leaf.dtype),
        state,
    )
    return nnx.merge(graph, weights.set_weights(state, found))


@jax.jit
def both_modes(model: Network, images, valid):
    """Features in inference and in training mode, and the statistics after."""
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    model = nnx.merge(graph, params, stats, copy=True)
    inference = model.features(images)
    training = model.features(images, valid)
    return inference, training, nnx.state(model, nnx.BatchStat)


def keras_both_modes(reference: keras.Model, images):
    """The same of Keras's network; statistics by Keras 2's names."""

    @jax.jit
    def run(trained, other, images):
        inference, _ = reference.stateless_call(trained, other, images, training=False)
        training, other = reference.stateless_call(trained, other, images, training=True)
        return inference, training, other

    trained = [variable.value for variable in reference.trainable_variables]
    other = [variable.value for variable in reference.non_trainable_variables]
    inference, training, other = run(trained, other, images / 127.5 - 1)
    names = keras_2_names(reference)
    found = [names[variable.path] for variable in reference.non_trainable_variables]
    return inference, training, dict(zip(found, other, strict=True))


def by_keras_name(state: nnx.State, files: KerasWeights) -> dict[str, np.ndarray]:
    """Parameters or statistics, the head's left out, by Keras's `layer/weight`."""
    found = {}
    for path, leaf in nnx.to_flat_state(state):
        if path[0] != "head":
            value = np.asarray(leaf[...])
            name, shape = files.in_keras(".".join(map(str, path)), value.shape)
            found[name] = value.reshape(shape)
    return found


def assert_agrees(reference: keras.Model, model: Network, files: KerasWeights, images) -> None:
    """Features in both modes, and the moved statistics."""
    inference, training, stats = both_modes(model, images, np.ones(len(images), bool))
    expected_inference, expected_training, expected_stats = keras_both_modes(reference, images)
    assert inference.shape == (len(images), model.feature_size)
    assert np.std(expected_inference) > 0.1
    assert np.abs(inference - training).max() > 0.1
    np.testing.assert_allclose(inference, expected_inference, rtol=0, atol=1e-4)
    np.testing.assert_allclose(training, expected_training, rtol=0, atol=1e-4)
    before = by_keras_name(nnx.state(model, nnx.BatchStat), files)
    after = by_keras_name(stats, files)
    assert after.keys() == expected_stats.keys()
    for name, expected in expected_stats.items():
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5, err_msg=name)
        assert (after[name] != before[name]).any(), name


def assert_gradients_agree(
    reference: keras.Model, model: Network, files: KerasWeights, images, zero: str = ""
) -> None:
    """In training mode, through the batch statistics, of a random sum of the features.

    Rounding that opens or closes a single ReLU6 shows below that layer: 1 % were seen. Names that
    end in `zero` have no gradient but rounding.
    """
    count, images = len(images), jnp.asarray(images)
    weight = np.random.default_rng(0).normal(size=(count, model.feature_size)).astype(np.float32)
    graph, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)

    @jax.jit
    @jax.grad
    def gradient(params):
        model = nnx.merge(graph, params, stats, copy=True)
        return (weight * model.features(images, jnp.ones(count, bool))).sum()

    @jax.jit
    @jax.grad
    def keras_gradient(trained, other):
        features, _ = reference.stateless_call(trained, other, images / 127.5 - 1, training=True)
        return (weight * features).sum()

    trained = [variable.value for variable in reference.trainable_variables]
    other = [variable.value for variable in reference.non_trainable_variables]
    names = keras_2_names(reference)
    expected = dict(
        zip(
            [names[variable.path] for variable in reference.trainable_variables],
            keras_gradient(trained, other),
            strict=True,
        )
    )
    found = by_keras_name(gradient(params), files)
    assert found.keys() == expected.keys()
    for name, own in expected.items():
        if zero and name.endswith(zero):
            scale = np.linalg.norm(expected[name.replace("/beta", "/gamma")])
            assert max(np.linalg.norm(own), np.linalg.norm(found[name])) < 1e-3 * scale, name
        else:
            error = np.linalg.norm(found[name] - own) / np.linalg.norm(own)
            assert error < 0.03, name
