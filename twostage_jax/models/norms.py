"""Batch norm and ReLU6 in several forms of the same function.

A CPU is fastest with the parts one by one. An accelerator is as fast as it moves activations: its
forms have a derivative that keeps the input alone. What a part would store is computed again where
it is read.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

EPSILON = 1e-3
"""What is added to variances."""

# Rows per partial sum on a GPU. XLA would cut large sums itself, after writing out their terms.
_ROWS = 512
_FEW = 8


class Norm(NamedTuple):
    """What a batch norm is given: the trained scale and bias, and a value near the mean."""

    scale: Float32[Array, " c"]
    bias: Float32[Array, " c"]
    about: Float32[Array, " c"]


class Statistics(NamedTuple):
    """Per channel: mean and biased variance of a batch, and what normalizes with them."""

    mean: Float32[Array, " c"]
    var: Float32[Array, " c"]
    inverse: Float32[Array, " c"]
    factor: Float32[Array, " c"]
    offset: Float32[Array, " c"]


class Slopes(NamedTuple):
    """Gradients per channel: of the bias, and of the scale but for the inverse deviation."""

    level: Float32[Array, " c"]
    slope: Float32[Array, " c"]


Pair = tuple[Float32[Array, " c"], Float32[Array, " c"]]


class NormForm(NamedTuple):
    """Batch norm in one form.

    Attributes:
        training: of activations, `Norm`, the share of each sample's pixels and whether ReLU6
            follows. Returns the activations and the batch's mean and biased variance; the gradients
            of these two are ignored.
        inference: of activations, `Norm`, mean, variance and whether ReLU6 follows.
    """

    training: Callable[[Array, Norm, Array, bool], tuple[Array, Array, Array]]
    inference: Callable[[Array, Norm, Array, Array, bool], Array]


class Sums(NamedTuple):
    """How activations are summed over samples and pixels.

    Attributes:
        weighted: of activations, `about` and the share of each sample's pixels: `moments`.
        pair: of two arrays of the activations' shape: both sums per channel.
    """

    weighted: Callable[[Array, Array, Array], Pair]
    pair: Callable[[Array, Array], Pair]


def weighted_moments(
    x: Float[Array, "b h w c"], about: Float32[Array, " c"], share: Float32[Array, "b #c"]
) -> Pair:
    """Returns the weighted mean of `x` and of `(x - about) ** 2`, per channel.

    One pass over the activations suffices. Squares about a value near the mean lose no digits to
    cancellation, as squares about zero would. Sums per sample come first and are weighted
    afterwards.
    """
    exact = x.astype(jnp.float32)
    sums = jnp.sum(exact, (1, 2)), jnp.sum((exact - about) ** 2, (1, 2))
    # Not a matrix product with `share`: a study may lower the precision of matrix products.
    mean, square = (jnp.sum(share * each, 0) for each in sums)
    return mean, square


@jax.custom_vjp
def moments(
    x: Float[Array, "b h w c"], about: Float32[Array, " c"], share: Float32[Array, " b"]
) -> Pair:
    """Computes `weighted_moments` with a derivative that is linear in the activations.

    JAX's derivative keeps a shifted copy: 3 to 6 % slower on a CPU at width 1, as fast at width
    0.25.

    Args:
        x: activations.
        about: a value near the mean of each channel.
        share: weight of each sample's pixels.
    """
    return weighted_moments(x, about, share[:, None])


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


def mean_and_variance(sums: Pair, about: Float32[Array, " c"]) -> Pair:
    """From the weighted means of activations and of their squares about `about`."""
    mean, square = sums
    return mean, jnp.maximum(square - (mean - about) ** 2, 0)


def apply_statistics(
    x: Float[Array, "b h w c"],
    norm: Norm,
    mean: Float32[Array, " c"],
    var: Float32[Array, " c"],
    relu6: bool,
) -> Float[Array, "b h w c"]:
    """Normalizes with given statistics."""
    factor = norm.scale * jax.lax.rsqrt(var + EPSILON)
    offset = norm.bias - mean * factor
    x = x * factor.astype(x.dtype) + offset.astype(x.dtype)
    return jax.nn.relu6(x) if relu6 else x


def _by_parts(x, norm, share, relu6):
    mean, var = mean_and_variance(moments(x, norm.about, share), norm.about)
    return apply_statistics(x, norm, mean, var, relu6), mean, var


BY_PARTS = NormForm(_by_parts, apply_statistics)
"""For CPUs: derivatives are JAX's, but for that of `moments`."""


def statistics_of(sums: Pair, norm: Norm) -> Statistics:
    """From the weighted means of activations and of their squares about `norm.about`."""
    mean, var = mean_and_variance(sums, norm.about)
    inverse = jax.lax.rsqrt(var + EPSILON)
    factor = norm.scale * inverse
    return Statistics(mean, var, inverse, factor, norm.bias - mean * factor)


def normalize(
    x: Float[Array, "*b c"], statistics: Statistics, relu6: bool
) -> Float32[Array, "*b c"]:
    """The output of batch norm, or of ReLU6 after it."""
    x = x.astype(jnp.float32) * statistics.factor + statistics.offset
    return jnp.clip(x, 0, 6) if relu6 else x


def slopes_of(
    sums: Sums,
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b h w c"],
    statistics: Statistics,
    relu6: bool,
) -> Slopes:
    """The gradients of the parameters, from that of the output."""
    passed = _passed(x, gradient, statistics, relu6)
    return Slopes(*sums.pair(passed, passed * (x.astype(jnp.float32) - statistics.mean)))


def towards_input(
    x: Float[Array, "b h w c"],
    gradient: Float[Array, "b h w c"],
    statistics: Statistics,
    slopes: Slopes,
    share: Float32[Array, "b #c"],
    relu6: bool,
) -> Float[Array, "b h w c"]:
    """The gradient of the input, from that of the output."""
    off = x.astype(jnp.float32) - statistics.mean
    bend = slopes.level + off * statistics.inverse**2 * slopes.slope
    straight = _passed(x, gradient, statistics, relu6)
    towards_x = statistics.factor * (straight - share[:, None, None] * bend)
    return towards_x.astype(x.dtype)


def _passed(x, gradient, statistics, relu6) -> Array:
    """The part of a gradient that ReLU6 lets through."""
    gradient = gradient.astype(jnp.float32)
    if not relu6:
        return gradient
    normal = normalize(x, statistics, relu6=False)
    return jnp.where((normal > 0) & (normal < 6), gradient, 0)


Forward = Callable[..., tuple[Array, Statistics]]
Backward = Callable[..., tuple[Array, Slopes]]


def forward_of(sums: Sums, relu6: bool) -> Forward:
    """Computes activations and statistics of `x`, `norm` and `share` (b, or b x c)."""

    def forward(x, norm: Norm, share):
        statistics = statistics_of(sums.weighted(x, norm.about, share), norm)
        return normalize(x, statistics, relu6).astype(x.dtype), statistics

    return forward


def backward_of(sums: Sums, relu6: bool) -> Backward:
    """Computes the gradients of `x` and of the parameters."""

    def backward(gradient, x, statistics: Statistics, share):
        slopes = slopes_of(sums, x, gradient, statistics, relu6)
        return towards_input(x, gradient, statistics, slopes, share, relu6), slopes

    return backward


def keeping_the_input(forward: Forward, backward: Backward) -> Callable:
    """The form made of a forward and a backward pass."""

    @jax.custom_vjp
    def form(x, norm, share):
        y, statistics = forward(x, norm, share)
        return y, statistics.mean, statistics.var

    def keep(x, norm, share):
        y, statistics = forward(x, norm, share)
        return (y, statistics.mean, statistics.var), (x, statistics, share)

    def pull(kept, gradients):
        x, statistics, share = kept
        towards_x, slopes = backward(gradients[0], x, statistics, share)
        untrained = jnp.zeros_like(statistics.mean)
        of_norm = Norm(slopes.slope * statistics.inverse, slopes.level, untrained)
        return towards_x, of_norm, jnp.zeros_like(share)

    form.defvjp(keep, pull)
    return form


def _in_rows(x: Float[Array, "*b c"]) -> Float[Array, "rows c"]:
    return x.reshape(-1, x.shape[-1])


def _sum_pair(one: Array, other: Array, axis: int) -> tuple[Array, Array]:
    """Two sums as one reduction, so that what both are made of is read once."""
    zero = jnp.zeros((), jnp.float32)
    first, second = jax.lax.reduce(
        (one, other), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), (axis,)
    )
    return first, second


def sum_pair(one: Float32[Array, "*b c"], other: Float32[Array, "*b c"]) -> Pair:
    """Sums over all axes but the last, for a GPU: in two stages, and both at once."""
    one, other = _in_rows(one), _in_rows(other)
    rows, channels = one.shape
    parts = next(n for n in range(1, rows + 1) if rows % n == 0 and rows <= _ROWS * n)
    if parts > 1:
        shape = parts, rows // parts, channels
        one, other = _sum_pair(one.reshape(shape), other.reshape(shape), 1)
    if len(one) <= _FEW:
        # XLA adds few parts within the kernel that reads the sums.
        return jnp.sum(one, 0), jnp.sum(other, 0)
    return _sum_pair(one, other, 0)


def _sum_weighted(x, about, share) -> Pair:
    weight = jnp.repeat(share, x.shape[1] * x.shape[2], axis=0)
    x = _in_rows(x).astype(jnp.float32)
    return sum_pair(weight * x, weight * (x - about) ** 2)


IN_STAGES = Sums(_sum_weighted, sum_pair)
PLAIN = Sums(
    weighted_moments, lambda one, other: (jnp.sum(one, (0, 1, 2)), jnp.sum(other, (0, 1, 2)))
)


def _backward_apart(relu6: bool) -> Backward:
    """The backward pass, not fused with what makes its inputs.

    Otherwise a GPU would read what the layers around keep in addition, or compute it again in
    every sum.
    """
    backward = backward_of(IN_STAGES, relu6)

    def apart(gradient, x, statistics, share):
        gradient, x = jax.lax.optimization_barrier((gradient, x))
        return backward(gradient, x, statistics, share)

    return apart


_FUSED = {
    relu6: keeping_the_input(forward_of(IN_STAGES, relu6), _backward_apart(relu6))
    for relu6 in (False, True)
}


def _fused(x, norm, share, relu6):
    return _FUSED[relu6](x, norm, share[:, None])


FUSED = NormForm(_fused, apply_statistics)
"""For GPUs: one pass over the activations forward and two backward."""
