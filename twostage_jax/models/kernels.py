"""Batch norm, ReLU6, a depthwise convolution, batch norm and ReLU6 as one function for GPUs.

A training step is as fast as it moves activations through memory. Between two products there are
two arrays that have to be written: what the first product and what the depthwise convolution puts
out. Two kernels, one per direction, compute all else from these where it is read: the forward one
normalizes its input, convolves it and sums for the batch norm that follows; the backward one gives
the gradients of its input, of the taps and of the batch norm before.

Rows are pixels of all samples, in tiles of `ROWS` x `CHANNELS`. A program works on `TILES` of them
and keeps its sums in registers. On other platforms than a GPU the kernels are interpreted.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
from jaxtyping import Array, Bool, Float, Float32, Int

from twostage_jax.models import norms
from twostage_jax.models.norms import IN_STAGES, Norm, Slopes, Statistics

CHANNELS = 32
ROWS = 32
TILES = 16

Matrix = Float32[Array, "rows channels"]


class Window(NamedTuple):
    """How a 3 x 3 kernel moves over an image, padded as `depthwise.shifts` does.

    Attributes:
        stride: pixels per step.
        height, width: of the input.
    """

    stride: int
    height: int
    width: int

    @property
    def before(self) -> int:
        """Rows and columns of zeros at the start; there is one of each at the end."""
        return 1 if self.stride == 1 else 0

    @property
    def outputs(self) -> tuple[int, int]:
        """Height and width of the output."""
        height, width = (
            (size + self.before - 2) // self.stride + 1 for size in (self.height, self.width)
        )
        return height, width


def separable(
    x: Float[Array, "b h w c"],
    first: Norm,
    taps: Float[Array, "9 c"],
    second: Norm,
    valid: Bool[Array, " b"],
    stride: int,
) -> tuple[Float[Array, "b i j c"], Statistics, Statistics]:
    """Batch norm, ReLU6, depthwise convolution, batch norm and ReLU6 in training mode.

    Args:
        x: what the first batch norm normalizes.
        first, second: the two batch norms.
        taps: the kernel of each channel, in row-major order.
        valid: which samples count.
        stride: of the convolution.

    Returns:
        the activations, and both batch norms' statistics, whose gradients are ignored.
    """
    window = Window(stride, *x.shape[1:3])
    height, width = window.outputs
    share = (valid / jnp.sum(valid))[:, None]
    shares = share / (window.height * window.width), share / (height * width)
    return _separable(window)(x, first, taps, second, shares)


@cache
def _separable(window: Window) -> Callable:
    @jax.custom_vjp
    def function(*arguments):
        return forward(*arguments)[0]

    def forward(x, first, taps, second, shares):
        one = norms.statistics_of(IN_STAGES.weighted(x, first.about, shares[0]), first)
        y, sums = _convolve(window, x, one, taps, second.about, shares[1])
        other = norms.statistics_of(sums, second)
        out = norms.normalize(y, other, relu6=True).astype(x.dtype)
        return (out, one, other), (x, y, taps, one, other, shares)

    def backward(kept, gradients):
        x, y, taps, one, other, shares = kept
        of_second = norms.slopes_of(IN_STAGES, y, gradients[0], other, relu6=True)
        passed, of_taps, of_first = _convolve_back(
            window, x, y, gradients[0], one, other, of_second, taps, shares[1]
        )
        # The kernel has applied the derivative of the first ReLU6.
        towards_x = norms.towards_input(x, passed, one, of_first, shares[0], relu6=False)
        return (
            towards_x,
            _gradient_of(one, of_first),
            of_taps.astype(taps.dtype),
            _gradient_of(other, of_second),
            jax.tree.map(jnp.zeros_like, shares),
        )

    function.defvjp(forward, backward)
    return function


def _gradient_of(statistics: Statistics, slopes: Slopes) -> Norm:
    scale = slopes.slope * statistics.inverse
    return Norm(scale, slopes.level, jnp.zeros_like(slopes.level))


def _convolve(window, x, first: Statistics, taps, about, share):
    """The convolution of the activated input, and the sums that `statistics_of` takes."""
    batch, channels = x.shape[0], x.shape[-1]
    height, width = window.outputs
    rows = batch * height * width
    y, *sums = _call(
        partial(_forward_kernel, window, rows, channels),
        x.dtype,
        [(), ()],
        rows,
        channels,
        x.reshape(-1, channels),
        first.factor,
        first.offset,
        taps.astype(jnp.float32),
        about,
        share[:, 0],
    )
    return y.reshape(batch, height, width, channels), IN_STAGES.pair(*sums)


def _convolve_back(window, x, y, gradient, first, second, slopes: Slopes, taps, share):
    """The gradient of the normalized input, of the taps and of the first batch norm."""
    channels = x.shape[-1]
    rows = x.size // channels
    passed, of_taps, level, slope = _call(
        partial(_backward_kernel, window, rows, channels),
        x.dtype,
        [(9,), (), ()],
        rows,
        channels,
        *(array.reshape(-1, channels) for array in (x, y, gradient)),
        first,
        second,
        slopes,
        taps.astype(jnp.float32),
        share[:, 0],
    )
    return passed.reshape(x.shape), jnp.sum(of_taps, 0), Slopes(*IN_STAGES.pair(level, slope))


def _call(
    kernel: Callable,
    dtype: Any,
    sums: Sequence[tuple[int, ...]],
    rows: int,
    channels: int,
    *arrays: Any,
) -> Sequence[Array]:
    """Runs a kernel over all tiles.

    Returns:
        its matrix (rows x channels), and for each shape in `sums` one sum per program (programs x
        shape x channels).
    """
    grid = -(-rows // (ROWS * TILES)), -(-channels // CHANNELS)
    partial_sums = [
        jax.ShapeDtypeStruct((grid[0], *shape, channels), jnp.float32) for shape in sums
    ]
    matrix = jax.ShapeDtypeStruct((rows, channels), dtype)

    def run(*arrays, interpret):
        return pl.pallas_call(
            kernel,
            out_shape=[matrix, *partial_sums],
            grid=grid,
            interpret=interpret,
            compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        )(*arrays)

    return jax.lax.platform_dependent(
        *arrays, cuda=partial(run, interpret=False), default=partial(run, interpret=True)
    )


class _Place(NamedTuple):
    """What a program works on: its channels, and which of them are there."""

    channel: Int[Array, " channels"]
    real: Bool[Array, " channels"]

    @classmethod
    def of(cls, channels: int) -> "_Place":
        channel = pl.program_id(1) * CHANNELS + jnp.arange(CHANNELS)
        return cls(channel, channel < channels)

    def vector(self, ref) -> Float32[Array, "1 channels"]:
        return triton.load(ref.at[self.channel], mask=self.real, other=0)[None, :]

    def taps(self, ref) -> list[Float32[Array, "1 channels"]]:
        return [
            triton.load(ref.at[k, self.channel], mask=self.real, other=0)[None, :] for k in range(9)
        ]

    def matrix(self, ref, row, mask) -> Matrix:
        at = ref.at[row[:, None], self.channel[None, :]]
        return triton.load(at, mask=mask, other=0).astype(jnp.float32)

    def store(self, ref, row, mask, value: Matrix) -> None:
        at = ref.at[row[:, None], self.channel[None, :]]
        triton.store(at, value.astype(ref.dtype), mask=mask)

    def store_sum(self, ref, total: Matrix, *tap: int) -> None:
        at = ref.at[(pl.program_id(0), *tap, self.channel)]
        triton.store(at, jnp.sum(total, 0), mask=self.real)


def _over_tiles(rows: int, one_tile: Callable, sums: int) -> tuple[Matrix, ...]:
    """Runs `one_tile(row, real, totals)` over the tiles of this program."""

    first = pl.program_id(0) * TILES  # the interpreter knows it outside the loop only

    def step(tile, totals):
        row = (first + tile) * ROWS + jnp.arange(ROWS)
        return one_tile(row, row < rows, totals)

    start = (jnp.zeros((ROWS, CHANNELS), jnp.float32),) * sums
    return jax.lax.fori_loop(0, TILES, step, start)


def _pixel(row, height: int, width: int):
    """Sample, row and column of the pixels."""
    sample = row // (height * width)
    rest = row - sample * (height * width)
    i = rest // width
    return sample, i, rest - i * width


def _relu6(x):
    return jnp.minimum(jnp.maximum(x, 0), 6)


def _forward_kernel(window, rows, channels, x, factor, offset, taps, about, share, y, one, other):
    out_height, out_width = window.outputs
    place = _Place.of(channels)
    factor, offset, about = map(place.vector, (factor, offset, about))
    tap = place.taps(taps)

    def one_tile(row, real, totals):
        sample, i, j = _pixel(row, out_height, out_width)
        total = jnp.zeros((ROWS, CHANNELS), jnp.float32)
        for k in range(9):
            u = i * window.stride + k // 3 - window.before
            v = j * window.stride + k % 3 - window.before
            inside = real & (u >= 0) & (u < window.height) & (v >= 0) & (v < window.width)
            mask = inside[:, None] & place.real[None, :]
            value = place.matrix(x, (sample * window.height + u) * window.width + v, mask)
            # What lies outside is zero after ReLU6, not before batch norm.
            total += jnp.where(mask, _relu6(value * factor + offset), 0) * tap[k]
        total = total.astype(y.dtype)
        place.store(y, row, real[:, None] & place.real[None, :], total)
        # Statistics are of what is stored.
        total = total.astype(jnp.float32)
        weight = triton.load(share.at[sample], mask=real, other=0)[:, None]
        off = total - about
        return totals[0] + weight * total, totals[1] + weight * off * off

    totals = _over_tiles(rows, one_tile, 2)
    place.store_sum(one, totals[0])
    place.store_sum(other, totals[1])


def _backward_kernel(
    window, rows, channels, x, y, gradient, first, second, slopes, taps, share, *results
):
    out_height, out_width = window.outputs
    place = _Place.of(channels)
    first, second = (Statistics(*map(place.vector, each)) for each in (first, second))
    level = second.factor * place.vector(slopes.level)
    slope = second.factor * second.inverse**2 * place.vector(slopes.slope)
    tap = place.taps(taps)
    towards_x, of_taps, of_level, of_slope = results

    def one_tile(row, real, totals):
        sample, i, j = _pixel(row, window.height, window.width)
        weight = triton.load(share.at[sample], mask=real, other=0)[:, None]
        own = real[:, None] & place.real[None, :]
        value = place.matrix(x, row, own)
        normal = value * first.factor + first.offset
        active = _relu6(normal)
        toward = jnp.zeros((ROWS, CHANNELS), jnp.float32)
        of_tap = []
        for k in range(9):
            u, v = i + window.before - k // 3, j + window.before - k % 3
            p, q = u // window.stride, v // window.stride
            inside = real & (u >= 0) & (v >= 0) & (p < out_height) & (q < out_width)
            if window.stride > 1:
                inside &= (p * window.stride == u) & (q * window.stride == v)
            mask = inside[:, None] & place.real[None, :]
            at = (sample * out_height + p) * out_width + q
            out, pulled = place.matrix(y, at, mask), place.matrix(gradient, at, mask)
            after = out * second.factor + second.offset
            pulled = second.factor * jnp.where((after > 0) & (after < 6), pulled, 0)
            pulled = jnp.where(mask, pulled - weight * (level + (out - second.mean) * slope), 0)
            toward += tap[k] * pulled
            of_tap.append(totals[k] + active * pulled)
        toward = jnp.where((normal > 0) & (normal < 6), toward, 0)
        place.store(towards_x, row, own, toward)
        return (*of_tap, totals[9] + toward, totals[10] + toward * (value - first.mean))

    totals = _over_tiles(rows, one_tile, 11)
    for k in range(9):
        place.store_sum(of_taps, totals[k], k)
    place.store_sum(of_level, totals[9])
    place.store_sum(of_slope, totals[10])
