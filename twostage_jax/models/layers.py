"""The layers that the networks share, without grouped convolutions.

`jax.vmap` over networks that differ in their weights turns a convolution into a grouped one, which
is slow on every backend. A 1 x 1 convolution is therefore a matrix product over flattened rows, a
depthwise 3 x 3 convolution is nine shifted multiply-adds (`depthwise.py`), and the stem gathers
27-channel patches and multiplies once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.depthwise import shifts

BATCH_NORM_EPSILON = 1e-3

# Random initialization keeps the variance of ReLU6 activations. It matters only where ImageNet
# weights are not used. A depthwise filter has 9 inputs.
he_normal = nnx.initializers.he_normal()
depthwise_normal = nnx.initializers.normal((2 / 9) ** 0.5)


@dataclass(frozen=True)
class Forms:
    """How a network is computed. Every form gives the same outputs, up to rounding."""

    depthwise: Literal["shifts", "shifts_autodiff", "convolution"] = "shifts"
    """The depthwise convolution: shifted multiply-adds with a derivative of their own, the same
    with JAX's derivative, or XLA's grouped convolution."""
    stem: Literal["patches", "convolution"] = "patches"
    """The first convolution: a product of gathered patches, or XLA's convolution."""
    rematerialize: bool = False
    """Compute the activations within a block again in the backward pass instead of storing them."""


# Forms that are the fastest on a platform, by the name of `jax.default_backend`.
_FASTEST: dict[str, Forms] = {}


def fastest_forms(platform: str) -> Forms:
    """The forms that were the fastest on a platform: `cpu`, `gpu` or `tpu`."""
    return _FASTEST.get(platform, Forms())


def pointwise(x: Float[Array, "b h w c"], kernel: Float[Array, "c o"]) -> Float[Array, "b h w o"]:
    """Computes a 1 x 1 convolution. Flattened rows ran 1.2 times faster on a CPU than an einsum."""
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)


def pad_odd(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Pads an odd size by one pixel at the start.

    A stride of 2 then pads as Keras's "same" and `correct_pad` do: an odd size on both sides, an
    even one only at the end.
    """
    return jnp.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0), (0, 0)))


@jax.custom_vjp
def moments(
    x: Float[Array, "b h w c"], about: Float32[Array, " c"], share: Float32[Array, " b"]
) -> tuple[Float32[Array, " c"], Float32[Array, " c"]]:
    """Returns the weighted mean of `x` and of `(x - about) ** 2`, per channel.

    One pass over the activations suffices. Squares about a value near the mean lose no digits to
    cancellation, as squares about zero would. Sums per sample come first and are weighted
    afterwards, and the derivative is linear in the activations. JAX's derivative keeps a shifted
    copy: 3 to 6 % slower on a CPU at width 1, as fast at width 0.25.

    Args:
        x: activations.
        about: a value near the mean of each channel.
        share: weight of each sample's pixels.
    """
    exact = x.astype(jnp.float32)
    sums = jnp.sum(exact, (1, 2)), jnp.sum((exact - about) ** 2, (1, 2))
    # Not a matrix product with `share`: a study may lower the precision of matrix products.
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
    # Neither running statistics nor weights of samples are trained.
    return towards_x.astype(x.dtype), jnp.zeros_like(about), jnp.zeros_like(share)


moments.defvjp(_moments_forward, _moments_backward)


class BatchNorm(nnx.Module):
    """Batch normalization whose batch statistics exclude the padding of a partial batch.

    Attributes:
        scale, bias: trained, float32, per channel.
        mean, var: the running statistics, float32, per channel.
    """

    def __init__(self, channels: int, momentum: float):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b h w c"]:
        """Normalizes with the statistics of the valid samples, or with running ones if None.

        With `valid` given, the running statistics move toward the batch's. They use the biased
        variance, as Keras does on JAX. TensorFlow's fused kernel corrects it by n / (n - 1): 0.2 %
        in the last layers for a full batch at 150 pixels.
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
    """The first 3 x 3 convolution, of stride 2, from RGB, with batch norm and ReLU6."""

    def __init__(self, channels: int, momentum: float, forms: Forms, rngs: nnx.Rngs):
        self.form = forms.stem
        self.kernel = nnx.Param(he_normal(rngs.params(), (27, channels)))
        self.norm = BatchNorm(channels, momentum)

    def __call__(
        self, x: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None
    ) -> Float[Array, "b i j c"]:
        """Halves the height and the width, rounding up."""
        x = pad_odd(x)
        kernel = self.kernel[...].astype(x.dtype)
        if self.form == "patches":
            x = pointwise(jnp.concatenate(shifts(x, stride=2), axis=-1), kernel)
        else:
            x = jax.lax.conv_general_dilated(
                x,
                kernel.reshape(3, 3, 3, -1),
                (2, 2),
                ((0, 1), (0, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
        return jax.nn.relu6(self.norm(x, valid))


def run_blocks(
    blocks: Iterable[nnx.Module],
    x: Float[Array, "b h w c"],
    valid: Bool[Array, " b"] | None,
    forms: Forms,
) -> Float[Array, "b i j o"]:
    """Applies blocks one after another, each a module called with `(x, valid)`."""
    for block in blocks:
        run = type(block).__call__
        x = (nnx.remat(run) if forms.rematerialize else run)(block, x, valid)
    return x
