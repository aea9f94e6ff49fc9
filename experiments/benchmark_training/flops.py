"""Operations of the network, and operations per second that devices can do."""

import time
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.models.mobilenet_v1 import BLOCKS, STEM_CHANNELS


def network_flops(width: float, pixels: int) -> int:
    """Operations of the forward pass of one image through the network without its head.

    A multiply-add counts as two. Batch norm, activations and pooling are left out, as is usual.
    """
    channels = int(STEM_CHANNELS * width)
    side = -(-pixels // 2)
    products = side**2 * 27 * channels
    for out, stride in BLOCKS:
        out = int(out * width)
        side //= stride
        products += side**2 * channels * (9 + out)
        channels = out
    return 2 * products


def training_flops(width: float, pixels: int, classes: int) -> int:
    """Operations of a training step per image.

    The backward pass has two products for each product of the forward pass: one for the gradient of
    the input, one for that of the kernel.
    """
    head = 2 * HIDDEN_UNITS * (int(BLOCKS[-1][0] * width) + classes)
    return 3 * (network_flops(width, pixels) + head)


def measure_peaks(precisions: Sequence[str], side: int, products: int = 5) -> dict[str, float]:
    """Operations per second of the fastest of some products of large matrices, by precision."""
    peaks = {}
    for precision in precisions:
        x = jnp.ones((side, side), jnp.bfloat16 if precision == "bfloat16" else jnp.float32)
        named = {"float32": "highest", "tf32": "tensorfloat32"}.get(precision)
        product = jax.jit(partial(jnp.matmul, precision=named))
        seconds = []
        for _ in range(1 + products):  # the first one compiles
            started = time.perf_counter()
            product(x, x).block_until_ready()
            seconds.append(time.perf_counter() - started)
        peaks[precision] = 2 * side**3 / min(seconds[1:])
    return peaks
