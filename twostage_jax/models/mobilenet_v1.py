"""MobileNet v1 without grouped convolutions, as Flax NNX modules.

The network is that of Howard et al. (2017) with the geometry of `keras.applications.MobileNet`, so
that its ImageNet weights fit. Lifting a convolution over networks that differ in their weights
(`jax.vmap`) makes it a grouped convolution, slow on every backend; so none is used here:
a 1 x 1 convolution is a matrix product over flattened rows, a depthwise 3 x 3 convolution is nine
shifted multiply-adds, the stem gathers 27-channel patches and multiplies once.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.depthwise import depthwise, shifts

# Output channels at width 1 and stride of the thirteen depthwise-separable blocks.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
STEM_CHANNELS = 32
HIDDEN_UNITS = 1024
BATCH_NORM_EPSILON = 1e-3

# Random initialisation (only used when ImageNet weights are not) keeps the variance of ReLU6
# activations; a depthwise filter sees 9 inputs, whatever the number of channels.
_he_normal = nnx.initializers.he_normal()
_depthwise_normal = nnx.initializers.normal((2 / 9) ** 0.5)


def _product(x: Float[Array, "b h w c"], kernel: Float[Array, "c o"]) -> Float[Array, "b h w o"]:
    """A 1 x 1 convolution. Flattened rows ran 1.2 times faster on a CPU than a 4-D einsum."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


@jax.custom_vjp
def moments(
    x: Float[Array, "b h w c"], about: Float32[Array, " c"], share: Float32[Array, " b"]
) -> tuple[Float32[Array, " c"], Float32[Array, " c"]]:
    """Mean, and mean square of the difference from `about`, of samples that weigh `share` each.

    Moments about a value near the mean need the activations only once, yet lose no digits to
    cancellation as those about zero do. The weights of samples come after the sums over pixels,
    which thereby read nothing but the activations; so does the derivative, linear in them. JAX's
    own keeps a shifted copy: 3 to 6 % slower on a CPU at width 1, as fast at width 0.25.
    """
    exact = x.astype(jnp.float32)
    sums = jnp.sum(exact, (1, 2)), jnp.sum((exact - about) ** 2, (1, 2))
    # No product with `share`: a study may ask for products of less precision.
    mean, square = (jnp.sum(share[:, None] * each, 0) for each in sums)
    return mean, square


def _moments_forward(x, about, share):
    return moments(x, about, share), (x, about, share)


def _moments_backward(kept, gradients):
    x, about, share = kept
    of_mean, of_square = gradients
    slope = 2 * share[:, None] * of_square
    level = share[:, None] * of_mean - about * slope
    towards_x = x.astype(jnp.float32) * slope[:, None, None] + level[:, None, None]
    # Neither running statistics nor weights are trained.
    return towards_x.astype(x.dtype), jnp.zeros_like(about), jnp.zeros_like(share)


moments.defvjp(_moments_forward, _moments_backward)


class BatchNorm(nnx.Module):
    """Batch normalisation whose batch statistics leave out the padding of a partial batch."""

    def __init__(self, channels: int, momentum: float):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b h w c"]:
        """Normalises with the statistics of the valid samples, or with running ones if None.

        With `valid` given the running statistics move towards the batch's, by the biased variance
        (Keras on JAX; TensorFlow's fused kernel corrects it by n / (n - 1): 0.2 % in the last
        layers for a full batch at 150 pixels).
        """
        if valid is None:
            mean, var = self.mean[...], self.var[...]
        else:
            share = valid / (jnp.sum(valid) * (x.shape[1] * x.shape[2]))
            about = self.mean[...]
            mean, square = moments(x, about, share)
            var = jnp.maximum(square - (mean - about) ** 2, 0)
            keep = self.momentum
            self.mean[...] = keep * self.mean[...] + (1 - keep) * jax.lax.stop_gradient(mean)
            self.var[...] = keep * self.var[...] + (1 - keep) * jax.lax.stop_gradient(var)
        factor = self.scale[...] * jax.lax.rsqrt(var + BATCH_NORM_EPSILON)
        offset = self.bias[...] - mean * factor
        return x * factor.astype(x.dtype) + offset.astype(x.dtype)


class Stem(nnx.Module):
    """The first 3 x 3 convolution, stride 2, from RGB."""

    def __init__(self, channels: int, momentum: float, rngs: nnx.Rngs):
        self.kernel = nnx.Param(_he_normal(rngs.params(), (27, channels)))
        self.norm = BatchNorm(channels, momentum)

    def __call__(
        self, x: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j c"]:
        """Halves the height and the width."""
        # Keras pads this layer "same": an odd size on both sides, an even one only at the end.
        x = jnp.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0), (0, 0)))
        patches = jnp.concatenate(shifts(x, stride=2), axis=-1)
        x = _product(patches, self.kernel[...].astype(x.dtype))
        return jax.nn.relu6(self.norm(x, valid))


class SeparableBlock(nnx.Module):
    """A depthwise 3 x 3 convolution and a 1 x 1 convolution, each with batch norm and ReLU6."""

    def __init__(self, channels: int, out: int, stride: int, momentum: float, rngs: nnx.Rngs):
        self.stride = stride
        self.depthwise = nnx.Param(_depthwise_normal(rngs.params(), (9, channels)))
        self.depthwise_norm = BatchNorm(channels, momentum)
        self.pointwise = nnx.Param(_he_normal(rngs.params(), (channels, out)))
        self.pointwise_norm = BatchNorm(out, momentum)

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j o"]:
        """Divides the height and the width by the stride, rounding down."""
        taps = self.depthwise[...].astype(x.dtype)
        x = jax.nn.relu6(self.depthwise_norm(depthwise(x, taps, self.stride), valid))
        x = _product(x, self.pointwise[...].astype(x.dtype))
        return jax.nn.relu6(self.pointwise_norm(x, valid))


class Head(nnx.Module):
    """The part that stage 2 fine-tunes: a fully connected ReLU layer and the class scores."""

    def __init__(self, features: int, classes: int, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()  # Keras's default for Dense
        self.hidden = nnx.Linear(features, HIDDEN_UNITS, kernel_init=glorot, rngs=rngs)
        self.output = nnx.Linear(HIDDEN_UNITS, classes, kernel_init=glorot, rngs=rngs)

    def represent(self, features: Float[Array, "b f"]) -> Float[Array, "b hidden"]:
        """Activations of the hidden layer, from which the class scores are linear."""
        return jax.nn.relu(self.hidden(features))

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b classes"]:
        """Unnormalised log-probabilities."""
        return self.output(self.represent(features))


class MobileNet(nnx.Module):
    """MobileNet v1 with the paper's head.

    Args:
        classes: number of classes.
        width: multiplier of every layer's channels (the paper: 1.0; Keras publishes ImageNet
            weights for 0.25, 0.5, 0.75 and 1.0).
        momentum: share of the running batch statistics that one step keeps.
        dtype: of activations and of products; parameters and statistics are float32.
        rngs: the stream `params` initialises.
    """

    def __init__(
        self,
        classes: int,
        width: float = 1.0,
        *,
        momentum: float = 0.99,
        dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        channels = int(STEM_CHANNELS * width)
        self.dtype = dtype
        self.stem = Stem(channels, momentum, rngs)
        blocks = []
        for out, stride in BLOCKS:
            out = int(out * width)
            blocks.append(SeparableBlock(channels, out, stride, momentum, rngs))
            channels = out
        self.blocks = nnx.List(blocks)
        self.head = Head(channels, classes, rngs)

    def features(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float[Array, "b f"]:
        """Global-average-pooled features, float32: 1024 at width 1.

        Args:
            images: pixel values in [0, 255].
            valid: the samples that batch statistics are taken over (training mode: the running
                statistics move); None normalises with the running statistics (inference mode).
        """
        x = self.stem((images / 127.5 - 1).astype(self.dtype), valid)
        for block in self.blocks:
            x = block(x, valid)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))

    def __call__(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float[Array, "b classes"]:
        """Unnormalised log-probabilities; arguments as for `features`."""
        return self.head(self.features(images, valid))
