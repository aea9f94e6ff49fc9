"""The depthwise convolution and its derivative, against XLA's grouped convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.models.depthwise import depthwise

pytestmark = pytest.mark.integration


def grouped(x, taps, stride):
    """The same by `lax.conv`."""
    padding = ((1, 1), (1, 1)) if stride == 1 else ((0, 1), (0, 1))
    kernel = taps.reshape(3, 3, 1, -1)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
        precision="highest",
    )


def with_gradients(function, x, taps, stride, seed):
    """The result, and the gradients of a random weighting of it."""
    result, pull = jax.vjp(lambda x, taps: function(x, taps, stride), x, taps)
    weights = np.random.default_rng(seed).standard_normal(result.shape)
    return result, *pull(jnp.asarray(weights, result.dtype))


def draw(shape, dtype, seed):
    rng = np.random.default_rng(seed)
    x, taps = rng.standard_normal(shape), rng.standard_normal((9, shape[-1]))
    return jnp.asarray(x, dtype), jnp.asarray(taps, dtype)


@settings(max_examples=5, deadline=None)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 4), st.sampled_from([1, 2]))
def test_result_and_gradients_are_those_of_a_grouped_convolution(height, width, channels, stride):
    x, taps = draw((2, height, width, channels), jnp.float32, height + 10 * width)
    found = with_gradients(depthwise, x, taps, stride, 1)
    expected = with_gradients(grouped, x, taps, stride, 1)
    for own, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_lifted_over_networks(stride):
    """Each with its own input and its own filters, gradients included."""
    x, taps = zip(*(draw((2, 7, 6, 3), jnp.float32, seed) for seed in range(3)), strict=True)
    lifted = jax.jit(jax.vmap(lambda x, taps: with_gradients(depthwise, x, taps, stride, 2)))
    found = lifted(jnp.stack(x), jnp.stack(taps))
    for member in range(3):
        expected = with_gradients(depthwise, x[member], taps[member], stride, 2)
        for own, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(own[member], other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_stays_bfloat16(stride):
    """And the gradient of the filters, a sum over all pixels, keeps bfloat16's three digits."""
    x, taps = draw((8, 20, 20, 4), jnp.bfloat16, 0)
    found = with_gradients(depthwise, x, taps, stride, 3)
    wide = (leaf.astype(jnp.float32) for leaf in (x, taps))
    expected = with_gradients(depthwise, *wide, stride, 3)
    for own, other in zip(found, expected, strict=True):
        assert own.dtype == jnp.bfloat16
        assert np.abs(own.astype(jnp.float32) - other).max() < 0.02 * np.abs(other).max()
