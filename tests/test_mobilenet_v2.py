"""MobileNetV2 against `keras.applications.MobileNetV2`, and its weights files."""

import dataclasses
import re
from functools import partial
from pathlib import Path

import keras_models
import numpy as np
import pytest
from flax import nnx
from keras_models import keras

from twostage_jax.models.mobilenet_v2 import WEIGHTS, MobileNetV2
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

KERAS_MOMENTUM = 0.999


def reference_of(width: float, size: int) -> keras.Model:
    """Keras's network with random weights and statistics; it pads for the size it is built for."""
    keras.utils.set_random_seed(0)
    reference = keras.applications.MobileNetV2(
        (size, size, 3), alpha=width, include_top=False, pooling="avg", weights=None
    )
    keras_models.randomize(reference)
    return reference


def make_pair(folder: Path, width: float, size: int) -> tuple[keras.Model, MobileNetV2]:
    """Keras's network, and ours, which loads the other's weights from a file."""
    reference = reference_of(width, size)
    path = folder / "keras2.h5"
    keras_models.write_keras_2(reference, path)
    found = WEIGHTS.load(str(path), width, folder / "cache")
    build = partial(MobileNetV2, width=width, momentum=KERAS_MOMENTUM)
    return reference, keras_models.with_weights(found, build)


@pytest.mark.parametrize(
    ("width", "size"),
    [
        pytest.param(0.35, 96, marks=pytest.mark.slow),
        (0.35, 97),
        pytest.param(0.35, 150, marks=pytest.mark.slow),
        pytest.param(1.0, 97, marks=pytest.mark.slow),
    ],
)
def test_agrees_with_keras(tmp_path, width, size):
    reference, model = make_pair(tmp_path, width, size)
    keras_models.assert_agrees(reference, model, WEIGHTS, keras_models.pictures(4, size))


@pytest.mark.slow
def test_gradients_agree_with_keras(tmp_path):
    """A bias after a projection has no effect: the batch norms that follow subtract it again."""
    pair = make_pair(tmp_path, 0.35, 65)
    images = keras_models.pictures(8, 65)
    keras_models.assert_gradients_agree(*pair, WEIGHTS, images, zero="_project_BN/beta")


@pytest.mark.parametrize(
    "width",
    [
        pytest.param(width, marks=() if width == 0.5 else pytest.mark.slow)
        for width in WEIGHTS.published
    ],
)
def test_has_the_layers_of_keras_at_every_published_width(width):
    """Keras's model is the second source of names and shapes."""
    reference = keras.applications.MobileNetV2(
        (96, 96, 3), alpha=width, include_top=False, weights=None
    )
    shapes = {
        keras_models.keras_2_name(layer, variable): tuple(variable.shape)
        for layer in reference.layers
        for variable in layer.weights
    }
    assert WEIGHTS.width_of(shapes) == width
    network = nnx.eval_shape(lambda: MobileNetV2(5, width, rngs=nnx.Rngs(0)))
    assert network.feature_size == reference.output_shape[-1]
    assert network.head.hidden.in_features == network.feature_size


def published_name(layer: str) -> str:
    """The older name that a layer has in the published files."""
    layer = layer.replace("expanded_conv_", "block_0_")
    layer = re.sub(r"^block_(\d+)_(\w+)_BN$", r"bn\1_conv_\1_bn_\2", layer)
    return re.sub(r"^block_(\d+)_", r"mobl\1_conv_\1_", layer)


def test_published_files_have_older_layer_names(tmp_path):
    reference = reference_of(0.35, 96)
    path, published = tmp_path / "current.h5", tmp_path / "published.h5"
    keras_models.write_keras_2(reference, path)
    keras_models.write_keras_2(reference, published, published_name)
    assert b"mobl0_conv_0_depthwise" in published.read_bytes()
    assert b"bn16_conv_16_bn_project" in published.read_bytes()
    expected, found = (WEIGHTS.port(each, 0.35) for each in (path, published))
    assert len(found) == 5 * 52  # a kernel and the four arrays of its batch norm
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    kernel = np.asarray(reference.get_layer("block_3_depthwise").kernel)
    np.testing.assert_array_equal(found["blocks.3.depthwise.kernel"], kernel.reshape(9, -1))


def test_published_files_are_found_by_their_names(tmp_path):
    """Nothing listens at the address; the message names it."""
    files = dataclasses.replace(WEIGHTS, base_url="http://127.0.0.1:9/")
    name = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    with pytest.raises(InputError, match=re.escape(f"http://127.0.0.1:9/{name}")):
        files.load("imagenet", 1.0, tmp_path)
    with pytest.raises(InputError, match=r"MobileNetV2 are published at width 0\.25 \(at 0\.35, "):
        files.load("imagenet", 0.25, tmp_path)
