"""The registry of backbones, and the contract that each of them keeps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from keras_files import random_tensors, write_keras

from twostage_jax.models import backbones, mobilenet_v1, mobilenet_v2
from twostage_jax.models.backbones import BACKBONES, find_backbone, register_backbone
from twostage_jax.models.forms import Forms
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

WIDTHS = {"mobilenet_v1": 0.25, "mobilenet_v2": 0.35}


def new_network(name: str, **options):
    options = {"momentum": 0.9, "dtype": jnp.float32, "forms": Forms()} | options
    return find_backbone(name).build(5, WIDTHS[name], rngs=nnx.Rngs(0), **options)


def random_network(name: str):
    """The same with random kernels drawn by NumPy, which takes no compilation."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1] in ("scale", "var"):
            return leaf.replace(jnp.ones(leaf.shape))
        drawn = rng.normal(size=leaf.shape) if leaf.ndim == 2 else np.zeros(leaf.shape)
        return leaf.replace(jnp.asarray(drawn / np.sqrt(leaf.shape[0]), jnp.float32))

    graph, state = nnx.split(nnx.eval_shape(lambda: new_network(name)))
    return nnx.merge(graph, nnx.map_state(draw, state))


@pytest.fixture
def restored(monkeypatch):
    monkeypatch.setattr(backbones, "BACKBONES", dict(BACKBONES))


# --- The registry ---


@pytest.mark.usefixtures("restored")
def test_a_backbone_is_registered_once():
    own = dataclasses.replace(mobilenet_v2.BACKBONE, title="Mine", min_image_size=8)
    for _ in range(2):
        register_backbone("mine", own)
    assert find_backbone("mine") is own
    with pytest.raises(InputError, match=r"'mobilenet_v2' is taken by MobileNetV2; .* for Mine"):
        register_backbone("mobilenet_v2", own)
    assert find_backbone("mobilenet_v2") is mobilenet_v2.BACKBONE


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match=r"unknown network 'mobilenetv2'; did you mean mobilenet_"):
        find_backbone("mobilenetv2")


def test_a_width_that_leaves_no_channels():
    with pytest.raises(InputError, match=r"--width 0\.03 leaves no channels, 1/32 or more"):
        find_backbone("mobilenet_v1").check_width(0.03)
    find_backbone("mobilenet_v1").check_width(1 / 32)
    find_backbone("mobilenet_v2").check_width(0.03)  # it rounds up to eight channels
    assert nnx.eval_shape(lambda: mobilenet_v2.MobileNetV2(2, 0.03, rngs=nnx.Rngs(0))).blocks


# --- The contract ---


@pytest.mark.parametrize("name", BACKBONES)
def test_padding_of_a_partial_batch_counts_for_nothing(name):
    """At the smallest size; all running statistics move."""
    size = find_backbone(name).min_image_size
    images = np.random.default_rng(0).uniform(0, 255, (6, size, size, 3)).astype(np.float32)
    loud = np.concatenate([images[:4], 1e4 * images[4:]])
    network = random_network(name)
    graph, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)

    @jax.jit
    def train(images):
        network = nnx.merge(graph, params, stats, copy=True)
        features = network.features(images, jnp.arange(6) < 4)
        return features[:4], nnx.state(network, nnx.BatchStat)

    expected, found = train(images), train(loud)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    features, moved = found
    assert features.shape == (4, network.feature_size)
    assert features.dtype == jnp.float32
    assert np.isfinite(features).all()
    assert np.std(features) > 0.01
    for path, after in nnx.to_flat_state(moved):
        assert (after[...] != (path[-1] == "var")).any(), path


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(
    "forms", [Forms(), Forms("convolution", "convolution", rematerialize=True)]
)
def test_lifted_networks_have_no_convolution_but_where_forms_asks_for_one(name, forms):
    """One lifted over weights would be a grouped one. Activations are of the dtype asked for."""
    images = jax.ShapeDtypeStruct((2, 33, 33, 3), jnp.float32)

    def gradient(noise, images):
        network = new_network(name, forms=forms, dtype=jnp.bfloat16)
        graph, params, stats = nnx.split(network, nnx.Param, nnx.BatchStat)
        params = jax.tree.map(lambda leaf: leaf + noise, params)

        def loss(params):
            network = nnx.merge(graph, params, stats, copy=True)
            features = network.features(images, jnp.ones(2, bool))
            return network.head(features).sum() + network.head.represent(features).sum()

        return jax.grad(loss)(params)

    noise = jax.ShapeDtypeStruct((3,), jnp.float32)
    program = str(jax.make_jaxpr(jax.vmap(gradient, in_axes=(0, None)))(noise, images))
    assert "dot_general" in program
    assert "bf16" in program
    asked = forms != Forms()
    assert ("conv_general_dilated" in program) == asked
    assert ("remat" in program) == asked


# --- Weights of another network ---


def test_a_file_of_another_network_is_recognized(tmp_path):
    for name, module, other, title in (
        ("mobilenet_v1", mobilenet_v1, "mobilenet_v2", "MobileNet v1"),
        ("mobilenet_v2", mobilenet_v2, "mobilenet_v1", "MobileNetV2"),
    ):
        tensors = random_tensors(module.WEIGHTS, WIDTHS[name])
        path = write_keras(tmp_path / f"{name}.h5", tensors)
        assert backbones.load_weights(name, str(path), WIDTHS[name], tmp_path / "cache")
        with pytest.raises(InputError) as caught:
            backbones.load_weights(other, str(path), WIDTHS[other], tmp_path / "cache")
        message = str(caught.value)
        assert f"{path} holds a {title} of width {WIDTHS[name]}" in message
        assert f"{find_backbone(other).title} of width {WIDTHS[other]} expected" in message
        assert f"pass --network {name} --width {WIDTHS[name]}" in message


def test_a_file_of_another_width_is_recognized(tmp_path):
    """At widths 0.35 and 0.5 the stem of MobileNetV2 has equally many channels."""
    path = write_keras(tmp_path / "half.h5", random_tensors(mobilenet_v2.WEIGHTS, 0.5))
    with pytest.raises(InputError, match=r"holds a MobileNetV2 of width 0\.5, width 0\.35 expect"):
        backbones.load_weights("mobilenet_v2", str(path), 0.35, tmp_path)


def test_a_file_of_no_known_network_is_described(tmp_path):
    tensors = random_tensors(mobilenet_v2.WEIGHTS, 0.35)
    del tensors["Conv_1/kernel"]
    path = write_keras(tmp_path / "a.h5", tensors)
    with pytest.raises(InputError, match=r"not Keras's MobileNetV2 .*'Conv_1/kernel' is missing"):
        backbones.load_weights("mobilenet_v2", str(path), 0.35, tmp_path)
    with pytest.raises(InputError, match=r"MobileNet v1 .* is missing; and \d+ more of"):
        backbones.load_weights("mobilenet_v1", str(path), 0.25, tmp_path)
