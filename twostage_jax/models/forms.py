"""In which of several equivalent forms layers are computed, and which is the fastest where."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from twostage_jax.models import depthwise, lanes, norms, pointwise
from twostage_jax.models.convolution import convolve, window_of
from twostage_jax.models.norms import NormForm

Form = Callable[..., Any]


def _stem_of_patches(
    product: Form, x: Float[Array, "b h w 3"], kernel: Float[Array, "27 c"]
) -> Float[Array, "b i j c"]:
    return product(jnp.concatenate(depthwise.shifts(x, stride=2), axis=-1), kernel)


def _stem_convolution(
    x: Float[Array, "b h w 3"], kernel: Float[Array, "27 c"]
) -> Float[Array, "b i j c"]:
    return convolve(x, kernel.reshape(3, 3, 3, -1), window_of(2))


# The forms of each layer, by the names in `Forms`.
DEPTHWISE: dict[str, Form] = {
    "shifts": depthwise.depthwise,
    "shifts_autodiff": depthwise.multiply_shifts,
    "convolution": depthwise.convolve_groups,
    "lanes": lanes.depthwise,
}
POINTWISE: dict[str, Form] = {
    "product": pointwise.product,
    "by_sample": pointwise.product_by_sample,
    "lanes": lanes.pointwise,
}
STEM: dict[str, Form] = {
    "patches": partial(_stem_of_patches, pointwise.product),
    "by_sample": partial(_stem_of_patches, pointwise.product_by_sample),
    "convolution": _stem_convolution,
    "lanes": lanes.stem,
}
NORM: dict[str, NormForm] = {
    "parts": norms.BY_PARTS,
    "fused": norms.FUSED,
    "lanes": lanes.NORM,
}


@dataclass(frozen=True)
class Forms:
    """How a network is computed. Every form gives the same outputs, up to rounding."""

    depthwise: Literal["shifts", "shifts_autodiff", "convolution", "lanes"] = "shifts"
    """The depthwise convolution: shifted multiply-adds with a derivative of their own, the same
    with JAX's derivative, XLA's grouped convolution, or that with members in the channels."""
    stem: Literal["patches", "by_sample", "convolution", "lanes"] = "patches"
    """The first convolution: a product of gathered patches, with its gradient summed per sample or
    not, XLA's convolution, or that with members in the channels."""
    pointwise: Literal["product", "by_sample", "lanes"] = "product"
    """The 1 x 1 convolution: a product, the same with its gradient summed per sample, or XLA's
    convolution with members in the channels."""
    norm: Literal["parts", "fused", "lanes"] = "parts"
    """Batch norm and ReLU6: part by part, as one function with a derivative of its own, or that
    with members in the channels."""
    kernel: bool = False
    """Batch norm, ReLU6, depthwise convolution, batch norm and ReLU6 of MobileNet v1 as one kernel,
    written for GPUs. No GPU has timed it yet; elsewhere it is interpreted, which is slow."""
    rematerialize: bool = False
    """Compute the activations within a block again in the backward pass instead of storing them."""


FASTEST = {
    "cpu": Forms(),
    "gpu": Forms(stem="by_sample", pointwise="by_sample", norm="fused"),
    "tpu": Forms(depthwise="lanes", stem="lanes", pointwise="lanes", norm="lanes"),
}
"""The fastest forms per platform: measured on CPUs, as compilers plan them elsewhere."""


def fastest_forms(platform: str) -> Forms:
    """The fastest forms of a platform, by its name in JAX; of one that is not known, a CPU's."""
    return FASTEST.get(platform, Forms())
