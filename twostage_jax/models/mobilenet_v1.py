"""MobileNet v1 as a Flax NNX module.

The network is that of Howard et al. (2017) with the geometry of `keras.applications.MobileNet`,
which makes its ImageNet weights fit.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.forms import DEPTHWISE, POINTWISE, Forms
from twostage_jax.models.head import Head
from twostage_jax.models.kernels import separable
from twostage_jax.models.layers import BatchNorm, Stem, depthwise_normal, he_normal, run_block
from twostage_jax.models.network import Backbone, Network
from twostage_jax.models.weights import NORM, KerasWeights, Shape
from twostage_jax.support.errors import InputError

# Groups of depthwise-separable blocks: output channels at width 1, number of blocks, stride of the
# first one. Then the output channels and the stride of each block.
GROUPS = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))
BLOCKS = [(out, 1 if i else stride) for out, count, stride in GROUPS for i in range(count)]
STEM_CHANNELS = 32


class SeparableBlock(nnx.Module):
    """A depthwise 3 x 3 and a 1 x 1 convolution; batch norm and ReLU6 come before each of them.

    A block thus begins with the batch norm of the one before. What normalizes lies next to what
    reads it, so that a form of the layers may do both at once.

    Attributes:
        pointwise_norm: the batch norm of the block's output, which the next layer applies.
    """

    def __init__(
        self, channels: int, out: int, stride: int, momentum: float, forms: Forms, rngs: nnx.Rngs
    ):
        self.stride = stride
        self.forms = forms
        self.depthwise = nnx.Param(depthwise_normal(rngs.params(), (9, channels)))
        self.depthwise_norm = BatchNorm(channels, momentum, forms)
        self.pointwise = nnx.Param(he_normal(rngs.params(), (channels, out)))
        self.pointwise_norm = BatchNorm(out, momentum, forms)

    def __call__(
        self, x: Float[Array, "b h w c"], norm: BatchNorm, valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j o"]:
        """Divides the height and the width by the stride, rounding down.

        Args:
            x: what the convolution before puts out.
            norm: its batch norm.
            valid: as for `BatchNorm`.
        """
        taps, second = self.depthwise[...].astype(x.dtype), self.depthwise_norm
        if self.forms.kernel and valid is not None:
            x, *found = separable(x, norm.parameters, taps, second.parameters, valid, self.stride)
            for own, statistics in zip((norm, second), found, strict=True):
                own.move(statistics.mean, statistics.var)
        else:
            x = norm(x, valid, relu6=True)
            x = DEPTHWISE[self.forms.depthwise](x, taps, self.stride)
            x = second(x, valid, relu6=True)
        return POINTWISE[self.forms.pointwise](x, self.pointwise[...].astype(x.dtype))


class MobileNet(Network):
    """MobileNet v1 with the paper's head.

    `width` multiplies the channels of every layer (the paper: 1.0). `Backbone.build` in
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
        channels = int(STEM_CHANNELS * width)
        self.dtype = dtype
        self.forms = forms
        self.stem = Stem(channels, momentum, forms, rngs)
        blocks = []
        for out, stride in BLOCKS:
            out = int(out * width)
            blocks.append(SeparableBlock(channels, out, stride, momentum, forms, rngs))
            channels = out
        self.blocks = nnx.List(blocks)
        self.feature_size = channels
        self.head = Head(channels, classes, rngs)

    def features(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float32[Array, "b f"]:
        """Returns the global averages of the last block: 1024 features per image at width 1."""
        x, norm = self.stem.convolve((images / 127.5 - 1).astype(self.dtype)), self.stem.norm
        for block in self.blocks:
            x, norm = run_block(block, self.forms, x, norm, valid), block.pointwise_norm
        x = norm(x, valid, relu6=True)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


def _in_keras(name: str, shape: Shape) -> tuple[str, Shape]:
    """Returns Keras's name and shape of a parameter; Keras counts blocks from 1."""
    match name.split("."):
        case ["stem", "kernel"]:
            return "conv1/kernel", (3, 3, 3, shape[-1])
        case ["stem", "norm", array]:
            return f"conv1_bn/{NORM[array]}", shape
        case ["blocks", i, "depthwise"]:
            return f"conv_dw_{int(i) + 1}/depthwise_kernel", (3, 3, shape[-1], 1)
        case ["blocks", i, "pointwise"]:
            return f"conv_pw_{int(i) + 1}/kernel", (1, 1, *shape)
        case ["blocks", i, "depthwise_norm", array]:
            return f"conv_dw_{int(i) + 1}_bn/{NORM[array]}", shape
        case ["blocks", i, "pointwise_norm", array]:
            return f"conv_pw_{int(i) + 1}_bn/{NORM[array]}", shape
    raise KeyError(name)


def _check_width(width: float) -> None:
    if int(STEM_CHANNELS * width) < 1:
        raise InputError(
            f"--width {width:g} leaves no channels, 1/{STEM_CHANNELS} or more expected"
        )


WEIGHTS = KerasWeights(
    title="MobileNet v1",
    base_url="https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/",
    file="mobilenet_{}_224_tf_no_top.h5",
    published={0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"},
    sha256={
        "mobilenet_2_5_224_tf_no_top.h5": (
            "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf"
        ),
    },
    build=lambda width: MobileNet(2, width, rngs=nnx.Rngs(0)),
    in_keras=_in_keras,
)

BACKBONE = Backbone(
    title=WEIGHTS.title,
    build=MobileNet,
    load_weights=WEIGHTS.load,
    min_image_size=32,  # five layers halve it
    check_width=_check_width,
    recognize=WEIGHTS.width_of,
)
