"""Operations of the network, and what devices can do."""

import re
import time

import jax
import jax.numpy as jnp

from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.models.mobilenet_v1 import BLOCKS, STEM_CHANNELS
from twostage_jax.training.steps import PRECISIONS

# Backward takes two products for each of forward: one for the input, one for the kernel.
TRAINING = 3

# Makers' dense peaks in teraflops, without sparsity: float32 outside of tensor cores, tf32 and
# bfloat16 inside. A name stands before those that it contains.
_TERAFLOPS = {
    r"H100 PCIe": (51.2, 378, 756),
    r"H100 NVL": (60, 418, 835),
    r"H100|H200|GH200": (66.9, 494.7, 989.4),
    r"B200": (75, 1125, 2250),
    r"A100": (19.5, 156, 312),
    r"L40S": (91.6, 183, 366),
    r"L40\b": (90.5, 90.5, 181),
    r"L4\b": (30.3, 60, 121),
    r"A10\b|A10G": (31.2, 62.5, 125),
    r"RTX 4090": (82.6, 82.6, 165.2),
    r"RTX 3090": (35.6, 35.6, 71),
    r"V100": (15.7, None, None),
    r"T4": (8.1, None, None),
    r"TPU v6": (None, None, 918),
    r"TPU v5p?$": (None, None, 459),
    r"TPU v5": (None, None, 197),
    r"TPU v4": (None, None, 275),
}
_PRODUCT_SIDE = 2048
_PRODUCTS_TIMED = 5


def network_flops(width: float, pixels: int) -> int:
    """Operations of one image's way forward through the network without its head.

    A multiply-add counts as two; batch norm, activations and pooling are left out, as is usual.
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


def head_flops(width: float, classes: int) -> int:
    """Operations of one row of features' way forward through a head."""
    return 2 * HIDDEN_UNITS * (feature_width(width) + classes)


def feature_width(width: float) -> int:
    """Features of an image."""
    return int(BLOCKS[-1][0] * width)


def peak_of(kind: str, precision: str) -> float | None:
    """Operations a second that the maker names for a device; None: not known.

    Args:
        kind: of the device, as JAX names it.
        precision: one of `PRECISIONS`.
    """
    for name, peaks in _TERAFLOPS.items():
        if re.search(name, kind):
            peak = peaks[PRECISIONS.index(precision)]
            return None if peak is None else 1e12 * peak
    return None


def measured_peak() -> float:
    """Operations a second of a large float32 matrix product: what this CPU can do, in practice."""
    side = _PRODUCT_SIDE
    x = jnp.ones((side, side))
    product = jax.jit(lambda x: jnp.matmul(x, x, precision="highest"))
    seconds = []
    product(x).block_until_ready()
    for _ in range(_PRODUCTS_TIMED):
        started = time.perf_counter()
        product(x).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * side**3 / min(seconds)
