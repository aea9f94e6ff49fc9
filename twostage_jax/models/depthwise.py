"""The depthwise 3 x 3 convolution as nine shifted multiply-adds, with a derivative of its own.

Lifting `lax.conv` over networks that differ in their filters makes it a grouped convolution, slow
on every backend. The derivative that JAX would make of the shifts keeps nine copies of the input
and adds nine padded arrays, each with a test of the border at every pixel. This one keeps the input
alone; the gradient of the input is again nine shifted multiply-adds, of one padded array.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32


def shifts(x: Float[Array, "b h w c"], stride: int) -> list[Float[Array, "b i j c"]]:
    """The nine views of `x` that a 3 x 3 kernel meets, in row-major kernel order.

    Stride 1 pads one pixel on each side, stride 2 one pixel after the end, as Keras's blocks do
    ("same" padding would turn 75 pixels into 38, not 37).
    """
    return _views(_padded(x, stride), stride)


def _padded(x: Array, stride: int) -> Array:
    before = 1 if stride == 1 else 0
    return _stored(jnp.pad(x, ((0, 0), (before, 1), (before, 1), (0, 0))))


def _views(padded: Float[Array, "*b h w c"], stride: int) -> list[Float[Array, "*b i j c"]]:
    height, width = (size - 2 for size in padded.shape[-3:-1])
    return [
        padded[..., i : i + height : stride, j : j + width : stride, :]
        for i in range(3)
        for j in range(3)
    ]


def _stored(x: Array) -> Array:
    """Has a CPU write a padded array out once, instead of asking at every read if it is padding.

    Training ran 1.1 times faster so; accelerators hide the question behind their memory.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    """Convolves each channel with its own 3 x 3 kernel, padding as `shifts` does.

    Args:
        x: activations.
        taps: the kernel of each channel, in row-major order; of the dtype of `x`.
        stride: 1 or 2.
    """
    return sum(view * tap for view, tap in zip(shifts(x, stride), taps, strict=True))


def _forward(x, taps, stride):
    return depthwise(x, taps, stride), (x, taps)


def _backward(stride, kept, gradient):
    x, taps = kept
    before = 1 if stride == 1 else 0
    # The convolution transposed: the gradient, its pixels `stride` apart, meets the kernel turned
    # around. So padded, pixel p of the input sees pixels p to p + 2.
    edges = [
        (2 - before, before + size - stride * (outputs - 1) - 1, stride - 1)
        for size, outputs in zip(x.shape[1:3], gradient.shape[1:3], strict=True)
    ]
    zero = jnp.zeros((), gradient.dtype)
    spread = _stored(jax.lax.pad(gradient, zero, [(0, 0, 0), *edges, (0, 0, 0)]))
    views = _views(spread, stride=1)
    towards_x = sum(view * tap for view, tap in zip(views, taps[::-1], strict=True))
    towards_taps = jax.lax.platform_dependent(
        _padded(x, stride),
        gradient,
        cpu=partial(_towards_taps_by_sample, stride),
        default=partial(_towards_taps, stride),
    )
    return towards_x, towards_taps.astype(taps.dtype)


def _towards_taps(
    stride: int, padded: Float[Array, "b h w c"], gradient: Float[Array, "b i j c"]
) -> Float32[Array, "9 c"]:
    sums = [
        jnp.sum(view * gradient, (0, 1, 2), dtype=jnp.float32) for view in _views(padded, stride)
    ]
    return jnp.stack(sums)


def _towards_taps_by_sample(
    stride: int, padded: Float[Array, "b h w c"], gradient: Float[Array, "b i j c"]
) -> Float32[Array, "9 c"]:
    """The same sums for a CPU, where nine views of one sample stay in the cache.

    Nine views of a whole batch went through main memory, in a third of the time of a step.
    """

    def add_sample(sums, sample):
        padded, gradient = sample
        products = [view * gradient for view in _views(padded, stride)]
        return [
            total + _sum_columns(product) for total, product in zip(sums, products, strict=True)
        ], None

    _, height, _, channels = gradient.shape
    start = [jnp.zeros((height, channels))] * 9
    sums, _ = jax.lax.scan(add_sample, start, (padded, gradient))
    return jnp.stack([jnp.sum(total, 0) for total in sums])


def _sum_columns(x: Float[Array, "h w c"]) -> Float32[Array, "h c"]:
    """A plain sum, in a form in which XLA runs it itself.

    It knows sums by the addition in them and hands large ones to a library for CPUs, which takes
    1.3 to 7 times as long for arrays of this size.
    """
    zero = np.zeros((), np.float32)
    return jax.lax.reduce(x.astype(jnp.float32), zero, lambda a, b: a - (-b), (1,))


depthwise.defvjp(_forward, _backward)
