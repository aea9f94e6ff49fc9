"""The depthwise 3 x 3 convolution as nine shifted multiply-adds, with a derivative of its own.

`jax.vmap` turns `lax.conv` into a grouped convolution when networks differ in their filters.
Grouped convolutions are slow on every backend. JAX's own derivative of the shifts keeps nine copies
of the input and adds nine padded arrays, each with a bounds check per pixel. The derivative here
keeps only the input; the gradient of the input is nine shifted multiply-adds of one padded array.
"""

from functools import partial, reduce
from operator import add

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from twostage_jax.models.convolution import convolve, window_of


def shifts(x: Float[Array, "b h w c"], stride: int) -> list[Float[Array, "b i j c"]]:
    """Returns the nine views of `x` that a 3 x 3 kernel multiplies, in row-major kernel order.

    The padding is that of `convolution.window_of`.
    """
    return _views(_padded(x, stride), stride)


def _padded(x: Array, stride: int) -> Array:
    _, *edges = window_of(stride)
    return _stored(jnp.pad(x, ((0, 0), edges, edges, (0, 0))))


def _views(padded: Float[Array, "*b h w c"], stride: int) -> list[Float[Array, "*b i j c"]]:
    height, width = (size - 2 for size in padded.shape[-3:-1])
    return [
        padded[..., i : i + height : stride, j : j + width : stride, :]
        for i in range(3)
        for j in range(3)
    ]


def _stored(x: Array) -> Array:
    """Materializes a padded array on a CPU; has no effect on accelerators.

    Otherwise XLA fuses the padding and evaluates its bounds check at every read, which makes
    training 1.1 times slower.
    """
    return jax.lax.platform_dependent(x, cpu=jax.lax.optimization_barrier, default=lambda x: x)


def _multiply_add(views: list[Array], taps: Float[Array, "9 c"]) -> Array:
    return reduce(add, (view * tap for view, tap in zip(views, taps, strict=True)))


def multiply_shifts(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    """Computes `depthwise` with the derivative that JAX makes."""
    return _multiply_add(shifts(x, stride), taps)


def convolve_groups(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    """Computes `depthwise` by XLA's grouped convolution."""
    return convolve(x, taps.reshape(3, 3, 1, -1), window_of(stride))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    """Convolves each channel with its own 3 x 3 kernel; pads as `shifts` does.

    `taps` has the kernel of each channel, in row-major order, with the dtype of `x`.
    """
    return multiply_shifts(x, taps, stride)


def _forward(x, taps, stride):
    return depthwise(x, taps, stride), (x, taps)


def _backward(stride, kept, gradient):
    x, taps = kept
    before = window_of(stride).before
    # The transposed convolution: the gradient's pixels, `stride` apart, times the reversed kernel.
    # With these edges, pixel p of the input reads pixels p to p + 2 of the padded gradient.
    edges = [
        (2 - before, before + size - stride * (outputs - 1) - 1, stride - 1)
        for size, outputs in zip(x.shape[1:3], gradient.shape[1:3], strict=True)
    ]
    zero = jnp.zeros((), gradient.dtype)
    spread = _stored(jax.lax.pad(gradient, zero, [(0, 0, 0), *edges, (0, 0, 0)]))
    towards_x = _multiply_add(_views(spread, stride=1), taps[::-1])
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
    """Computes the gradient of the taps as one sum.

    A GPU then reads both arrays once and not nine times: a sixth of a training step's traffic.
    """
    products = jnp.stack(_views(padded, stride), -2) * gradient[..., None, :]
    return jnp.sum(products, (0, 1, 2), dtype=jnp.float32)


def _towards_taps_by_sample(
    stride: int, padded: Float[Array, "b h w c"], gradient: Float[Array, "b i j c"]
) -> Float32[Array, "9 c"]:
    """Computes the same sums sample by sample, for a CPU.

    Nine views of one sample fit in the cache. Nine views of a whole batch do not: the sums took a
    third of the time of a step.
    """

    def add_sample(sums, sample):
        padded, gradient = sample
        products = [view * gradient for view in _views(padded, stride)]
        return [
            total + _sum_columns(product) for total, product in zip(sums, products, strict=True)
        ], None

    _, height, _, channels = gradient.shape
    start = [jnp.zeros((height, channels), jnp.float32)] * 9
    sums, _ = jax.lax.scan(add_sample, start, (padded, gradient))
    return jnp.stack([jnp.sum(total, 0) for total in sums])


def _sum_columns(x: Float[Array, "h w c"]) -> Float32[Array, "h c"]:
    """Sums over columns in a form that XLA compiles itself.

    XLA's CPU backend recognizes a sum by its addition and calls Eigen, which is 1.3 to 7 times
    slower at this size. `a - (-b)` avoids the match.
    """
    zero = np.zeros((), np.float32)
    return jax.lax.reduce(x.astype(jnp.float32), zero, lambda a, b: a - (-b), (1,))


depthwise.defvjp(_forward, _backward)
