"""MobileNetV2 as a Flax NNX module.

The network is that of Sandler et al. (2018) with the geometry of `keras.applications.MobileNetV2`,
which makes its ImageNet weights fit.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.forms import DEPTHWISE, POINTWISE, Forms
from twostage_jax.models.head import Head
from twostage_jax.models.layers import (
    BatchNorm,
    Stem,
    depthwise_normal,
    he_normal,
    pad_odd,
    run_block,
)
from twostage_jax.models.network import Backbone, Network
from twostage_jax.models.weights import NORM, KerasWeights, Shape

# Groups of inverted residual blocks (table 2 of the paper): output channels at width 1, number of
# blocks, stride of the first one.
GROUPS = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
BLOCKS = [(out, 1 if i else stride) for out, count, stride in GROUPS for i in range(count)]
STEM_CHANNELS = 32
LAST_CHANNELS = 1280
EXPANSION = 6  # of every block but the first
DIVISOR = 8


def divisible(channels: float | int) -> int:
    """Rounds to the nearest multiple of 8, at least 8, and never down by more than 10 %."""
    rounded = max(DIVISOR, int(channels + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded if rounded >= 0.9 * channels else rounded + DIVISOR


class Pointwise(nnx.Module):
    """A 1 x 1 convolution with batch norm, and with ReLU6 if `relu6`."""

    def __init__(
        self,
        channels: int,
        out: int,
        momentum: float,
        forms: Forms,
        rngs: nnx.Rngs,
        *,
        relu6: bool,
    ):
        self.relu6 = relu6
        self.multiply = POINTWISE[forms.pointwise]
        self.kernel = nnx.Param(he_normal(rngs.params(), (channels, out)))
        self.norm = BatchNorm(out, momentum, forms)

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b h w o"]:
        """Changes the number of channels."""
        x = self.multiply(x, self.kernel[...].astype(x.dtype))
        return self.norm(x, valid, relu6=self.relu6)


class Depthwise(nnx.Module):
    """A depthwise 3 x 3 convolution with batch norm and ReLU6."""

    def __init__(self, channels: int, stride: int, momentum: float, forms: Forms, rngs: nnx.Rngs):
        self.stride = stride
        self.convolve = DEPTHWISE[forms.depthwise]
        self.kernel = nnx.Param(depthwise_normal(rngs.params(), (9, channels)))
        self.norm = BatchNorm(channels, momentum, forms)

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j c"]:
        """Divides the height and the width by the stride, rounding up."""
        if self.stride == 2:
            x = pad_odd(x)
        x = self.convolve(x, self.kernel[...].astype(x.dtype), self.stride)
        return self.norm(x, valid, relu6=True)


class InvertedResidual(nnx.Module):
    """A block that expands the channels, convolves each of them, and projects to few channels.

    The projection is linear. The block's input is added to its output where shapes allow it.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int,
        expansion: int,
        momentum: float,
        forms: Forms,
        rngs: nnx.Rngs,
    ):
        self.residual = stride == 1 and channels == out
        inside = expansion * channels
        expand = partial(Pointwise, channels, inside, momentum, forms, rngs, relu6=True)
        self.expand = expand() if expansion > 1 else None
        self.depthwise = Depthwise(inside, stride, momentum, forms, rngs)
        self.project = Pointwise(inside, out, momentum, forms, rngs, relu6=False)

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j o"]:
        """Divides the height and the width by the stride, rounding up."""
        inside = x if self.expand is None else self.expand(x, valid)
        projected = self.project(self.depthwise(inside, valid), valid)
        return x + projected if self.residual else projected


class MobileNetV2(Network):
    """MobileNetV2 with the paper's head.

    `width` multiplies the channels, which are then rounded to multiples of 8. The last layer keeps
    its 1280 channels at widths below 1. Keras's `momentum` is 0.999. `Backbone.build` in
    `network.py` describes the other arguments.
    """

    def __init__(
        self,
        classes: int,
        width: float = 1.0,
        *,
        momentum: float = 0.99,
        dtype: jax.typing.DTypeLike = jnp.float32,
        forms: Forms = Forms(),  # noqa: B008
        rngs: nnx.Rngs,
    ):
        channels = divisible(STEM_CHANNELS * width)
        self.dtype = dtype
        self.forms = forms
        self.stem = Stem(channels, momentum, forms, rngs)
        blocks = []
        for i, (out, stride) in enumerate(BLOCKS):
            out = divisible(int(out * width))
            expansion = EXPANSION if i else 1
            blocks.append(InvertedResidual(channels, out, stride, expansion, momentum, forms, rngs))
            channels = out
        self.blocks = nnx.List(blocks)
        self.feature_size = divisible(LAST_CHANNELS * max(width, 1))
        last = self.feature_size
        self.last = Pointwise(channels, last, momentum, forms, rngs, relu6=True)
        self.head = Head(self.feature_size, classes, rngs)

    def features(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float32[Array, "b f"]:
        """Returns the global averages of the last layer: 1280 features per image up to width 1."""
        x = self.stem.convolve((images / 127.5 - 1).astype(self.dtype))
        x = self.stem.norm(x, valid, relu6=True)
        for block in self.blocks:
            x = run_block(block, self.forms, x, valid)
        x = self.last(x, valid)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def _in_keras(name: str, shape: Shape) -> tuple[str, Shape]:
    """Returns Keras's name and shape of a parameter; the first block is `expanded_conv`."""
    match name.split("."):
        case ["stem", *rest]:
            kernel, norm = "Conv1", "bn_Conv1"
        case ["last", *rest]:
            kernel, norm = "Conv_1", "Conv_1_bn"
        case ["blocks", i, part, *rest]:
            kernel = f"{'expanded_conv' if i == '0' else f'block_{i}'}_{part}"
            norm = f"{kernel}_BN"
        case _:
            raise KeyError(name)
    if rest != ["kernel"]:
        return f"{norm}/{NORM[rest[-1]]}", shape
    if kernel.endswith("depthwise"):
        return f"{kernel}/depthwise_kernel", (3, 3, shape[-1], 1)
    side = 3 if kernel == "Conv1" else 1
    return f"{kernel}/kernel", (side, side, shape[0] // side**2, shape[1])


def _layer_name(name: str) -> str:
    """Returns the current name of a layer.

    The published files have older names, `mobl3_conv_3_expand` and `bn3_conv_3_bn_expand`. Keras
    does not notice because it matches layers by their order.
    """
    match = re.fullmatch(r"(mobl|bn)(\d+)_conv_\2_(?:bn_)?(\w+)", name)
    if not match:
        return name
    kind, i, part = match.groups()
    prefix = "expanded_conv" if i == "0" else f"block_{i}"
    return f"{prefix}_{part}{'_BN' if kind == 'bn' else ''}"


WEIGHTS = KerasWeights(
    title="MobileNetV2",
    base_url="https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/",
    file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5",
    published={width: str(width) for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    sha256={},
    build=lambda width: MobileNetV2(2, width, rngs=nnx.Rngs(0)),
    in_keras=_in_keras,
    layer_name=_layer_name,
)

BACKBONE = Backbone(
    title=WEIGHTS.title,
    build=MobileNetV2,
    load_weights=WEIGHTS.load,
    min_image_size=32,  # five layers halve it
    recognize=WEIGHTS.width_of,
)
