"""The layers that the networks share.

`jax.vmap` over networks that differ in their weights turns a convolution into a grouped one, which
is slow on CPUs and GPUs. There a 1 x 1 convolution is a matrix product over flattened rows
(`pointwise.py`), a depthwise 3 x 3 convolution is nine shifted multiply-adds (`depthwise.py`), and
the stem gathers 27-channel patches and multiplies once. On TPUs grouped convolutions are what is
fastest, once the channels of all networks lie side by side (`lanes.py`).
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from twostage_jax.models.forms import NORM, STEM, Forms
from twostage_jax.models.norms import Norm

# Random initialization keeps the variance of ReLU6 activations. It matters only where ImageNet
# weights are not used. A depthwise filter has 9 inputs.
he_normal = nnx.initializers.he_normal()
depthwise_normal = nnx.initializers.normal((2 / 9) ** 0.5)


def pad_odd(x: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
    """Pads an odd size by one pixel at the start.

    A stride of 2 then pads as Keras's "same" and `correct_pad` do: an odd size on both sides, an
    even one only at the end.
    """
    return jnp.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0), (0, 0)))


class BatchNorm(nnx.Module):
    """Batch normalization whose batch statistics exclude the padding of a partial batch.

    Attributes:
        scale, bias: trained, float32, per channel.
        mean, var: the running statistics, float32, per channel.
    """

    def __init__(self, channels: int, momentum: float, forms: Forms):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.var = nnx.BatchStat(jnp.ones(channels))
        self.momentum = momentum
        self.form = forms.norm

    def __call__(
        self, x: Float[Array, "b h w c"], valid: Bool[Array, " b"] | None, *, relu6: bool
    ) -> Float[Array, "b h w c"]:
        """Normalizes with the statistics of the valid samples, or with running ones if None.

        With `valid` given, the running statistics move toward the batch's. They use the biased
        variance, as Keras does on JAX. TensorFlow's fused kernel corrects it by n / (n - 1): 0.2 %
        in the last layers for a full batch at 150 pixels.

        Args:
            x: activations.
            valid: which samples count.
            relu6: apply ReLU6 afterwards.
        """
        form = NORM[self.form]
        if valid is None:
            return form.inference(x, self.parameters, self.mean[...], self.var[...], relu6)
        share = valid / (jnp.sum(valid) * (x.shape[1] * x.shape[2]))
        x, mean, var = form.training(x, self.parameters, share, relu6)
        self.move(mean, var)
        return x

    @property
    def parameters(self) -> Norm:
        """What the forms of batch norm take."""
        return Norm(self.scale[...], self.bias[...], self.mean[...])

    def move(self, mean: Float[Array, " c"], var: Float[Array, " c"]) -> None:
        """Moves the running statistics towards those of a batch."""
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * jax.lax.stop_gradient(mean)
        self.var[...] = keep * self.var[...] + (1 - keep) * jax.lax.stop_gradient(var)


class Stem(nnx.Module):
    """The first 3 x 3 convolution, of stride 2, from RGB, and the batch norm that follows."""

    def __init__(self, channels: int, momentum: float, forms: Forms, rngs: nnx.Rngs):
        self.form = forms.stem
        self.kernel = nnx.Param(he_normal(rngs.params(), (27, channels)))
        self.norm = BatchNorm(channels, momentum, forms)

    def convolve(self, x: Float[Array, "b h w 3"]) -> Float[Array, "b i j c"]:
        """Halves the height and the width, rounding up."""
        return STEM[self.form](pad_odd(x), self.kernel[...].astype(x.dtype))


def run_block(block: nnx.Module, forms: Forms, *arguments) -> Float[Array, "b i j o"]:
    """Calls a block, and its inner activations again in the backward pass where `forms` says so."""
    run = type(block).__call__
    return (nnx.remat(run) if forms.rematerialize else run)(block, *arguments)
