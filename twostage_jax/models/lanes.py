"""Layers of many networks as layers of one: the channels of all members lie side by side.

A TPU works on 128 channels at a time. Behind the member axis that `jax.vmap` puts in front, a layer
of 32 channels fills a quarter of them. The functions here are written for one network, as all are,
but have a rule of their own under `jax.vmap`: the members move into the channels, and out again
afterwards. XLA cancels the two moves that meet between layers, so that activations stay as they are
from the stem to the pooling. Layers are then grouped convolutions, which a TPU is good at.

Compiled for a TPU v5e, a training step of ten networks of width 1 takes about a third of the cycles
of shifted multiply-adds under the usual rule.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array, Float

from twostage_jax.models import norms
from twostage_jax.models.convolution import Window, convolve, window_of

LANES = 128


def _side_by_side(x: Float[Array, "m *any c"]) -> Float[Array, "*any mc"]:
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)


def _apart(x: Float[Array, "*any mc"], members: int) -> Float[Array, "m *any c"]:
    return jnp.moveaxis(x.reshape(*x.shape[:-1], members, -1), -2, 0)


def _all_members(members: int, batched: Any, arguments: Any) -> Any:
    """Gives every argument a member axis."""

    def of_all(x, has_axis):
        return x if has_axis else jnp.broadcast_to(x, (members, *x.shape))

    return jax.tree.map(of_all, arguments, tuple(batched))


def channelwise(function: Callable) -> Callable:
    """Gives a function that treats each channel by itself the rule for many networks.

    Channels are the last axis of every argument and of every result. What it returns has no
    derivative: `_with_derivative` or `norms.keeping_the_input` gives one.
    """
    lifted = custom_vmap(function)

    @lifted.def_vmap
    def _(members, batched, *arguments):
        merged = jax.tree.map(_side_by_side, _all_members(members, batched, arguments))
        results = jax.tree.map(partial(_apart, members=members), lifted(*merged))
        return results, jax.tree.map(lambda _: True, results)

    return lifted


def _pull(function: Callable) -> Callable:
    """JAX's derivative: takes the gradient of the result and the arguments of `function`."""
    return lambda gradient, *arguments: jax.vjp(function, *arguments)[1](gradient)


def _with_derivative(forward: Callable, backward: Callable) -> Callable:
    """`forward` with a derivative that keeps the arguments and nothing else."""
    function = jax.custom_vjp(lambda *arguments: forward(*arguments))
    function.defvjp(
        lambda *arguments: (forward(*arguments), arguments),
        lambda arguments, gradient: backward(gradient, *arguments),
    )
    return function


def _members_per_group(members: int, channels: int) -> int:
    """How many members share a kernel, as blocks on its diagonal.

    Groups that fill whole lanes need no other layout. A small kernel may as well hold all members.
    """
    divisors = [size for size in range(1, members + 1) if members % size == 0]
    whole = [size for size in divisors if size * channels % LANES == 0]
    if whole:
        return whole[0]
    if members * channels <= 4 * LANES:
        return members
    return max(size for size in divisors if size * channels <= max(LANES, channels))


def _convolve_members(
    x: Float[Array, "b h w mc"], kernels: Float[Array, "m i j c o"], window: Window
) -> Float[Array, "b p q mo"]:
    """Convolves the channels of each member with its own kernel."""
    members, i, j, c, o = kernels.shape
    size = _members_per_group(members, c)
    diagonal = jnp.einsum(
        "kgijco,gh->ijgckho",
        kernels.reshape(members // size, size, i, j, c, o),
        jnp.eye(size, dtype=kernels.dtype),
    )
    return convolve(x, diagonal.reshape(i, j, size * c, members * o), window)


@cache
def _mixing_channels(window: Window) -> Callable:
    """A convolution over all channels of a network, with its rule for members and derivative."""
    one, many = partial(convolve, window=window), partial(_convolve_members, window=window)
    forward, backward = custom_vmap(one), custom_vmap(_pull(one))

    @forward.def_vmap
    def _(members, batched, x, kernel):
        x, kernels = _all_members(members, batched, (x, kernel))
        return _apart(many(_side_by_side(x), kernels), members), True

    @backward.def_vmap
    def _(members, batched, gradient, x, kernel):
        gradient, x, kernels = _all_members(members, batched, (gradient, x, kernel))
        pulled = _pull(many)(_side_by_side(gradient), _side_by_side(x), kernels)
        return (_apart(pulled[0], members), pulled[1]), (True, True)

    return _with_derivative(forward, backward)


@cache
def _each_channel(window: Window) -> Callable:
    """A convolution of each channel by itself, likewise."""

    def of_channels(x, taps):
        return convolve(x, taps.reshape(3, 3, 1, -1), window)

    return _with_derivative(channelwise(of_channels), channelwise(_pull(of_channels)))


def depthwise(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    """Computes a depthwise 3 x 3 convolution, padded as `window_of` says."""
    return _each_channel(window_of(stride))(x, taps)


def pointwise(x: Float[Array, "b h w c"], kernel: Float[Array, "c o"]) -> Float[Array, "b h w o"]:
    """Computes a 1 x 1 convolution."""
    return _mixing_channels(Window())(x, kernel[None, None])


def stem(x: Float[Array, "b h w 3"], kernel: Float[Array, "27 c"]) -> Float[Array, "b i j c"]:
    """Computes a 3 x 3 convolution of stride 2; pads by one pixel at the end."""
    return _mixing_channels(window_of(2))(x, kernel.reshape(3, 3, 3, -1))


_TRAINING = {
    relu6: norms.keeping_the_input(
        channelwise(norms.forward_of(norms.PLAIN, relu6)),
        channelwise(norms.backward_of(norms.PLAIN, relu6)),
    )
    for relu6 in (False, True)
}


def _by_statistics(relu6: bool) -> Callable:
    apply = partial(norms.apply_statistics, relu6=relu6)
    return _with_derivative(channelwise(apply), channelwise(_pull(apply)))


_INFERENCE = {relu6: _by_statistics(relu6) for relu6 in (False, True)}


def _normalize(x, norm, share, relu6):
    return _TRAINING[relu6](x, norm, jnp.broadcast_to(share[:, None], (len(x), x.shape[-1])))


NORM = norms.NormForm(
    _normalize, lambda x, norm, mean, var, relu6: _INFERENCE[relu6](x, norm, mean, var)
)
