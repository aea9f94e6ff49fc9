"""XLA's own convolution of images, and how the 3 x 3 kernels of MobileNet move over them."""

from typing import NamedTuple

import jax
from jaxtyping import Array, Float


class Window(NamedTuple):
    """How a kernel moves over an image: pixels per step, and pixels of padding at both ends."""

    stride: int = 1
    before: int = 0
    after: int = 0


def window_of(stride: int) -> Window:
    """The window of a 3 x 3 kernel of stride 1 or 2, padded as Keras's blocks are.

    Stride 1 pads one pixel on each side, stride 2 one pixel at the end. "same" padding would turn
    75 pixels into 38; this turns them into 37.
    """
    return Window(stride, 1 if stride == 1 else 0, 1)


def convolve(
    x: Float[Array, "b h w c"], kernel: Float[Array, "i j g o"], window: Window
) -> Float[Array, "b p q o"]:
    """A convolution in groups of as many channels as the kernel has inputs."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (window.stride, window.stride),
        [(window.before, window.after)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1] // kernel.shape[-2],
    )
