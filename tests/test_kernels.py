"""The depthwise layer as kernels for a GPU, interpreted, beside the layers one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from twostage_jax.models.forms import Forms
from twostage_jax.models.kernels import CHANNELS, ROWS, TILES
from twostage_jax.models.layers import BatchNorm
from twostage_jax.models.mobilenet_v1 import SeparableBlock

pytestmark = pytest.mark.integration

MEMBERS, BATCH = 2, 3


class Layer(nnx.Module):
    """Wide scales and biases bring many activations below 0 and above 6."""

    def __init__(self, channels: int, stride: int, forms: Forms, rng: np.random.Generator):
        self.norm = BatchNorm(channels, 0.9, forms)
        self.block = SeparableBlock(channels, 4, stride, 0.9, forms, nnx.Rngs(0))
        for norm in self.norm, self.block.depthwise_norm:
            norm.scale[...], norm.bias[...] = rng.normal(0, 3, (2, channels)).astype(np.float32)
            norm.mean[...] = rng.normal(0, 0.3, channels).astype(np.float32)

    def __call__(self, x, valid):
        return self.block(x, self.norm, valid)


def results(forms: Forms, shape: tuple[int, int, int], stride: int):
    """Outputs, moved statistics, and the gradients of a random weighting of the outputs."""
    valid = jnp.array([True, False, True])

    def run(params, stats, x):
        def loss(params, x):
            own = nnx.merge(graph, params, stats, copy=True)
            y = own(x, valid)[::2]
            weights = np.random.default_rng(9).normal(size=y.shape)
            return jnp.sum(weights * y), (y, nnx.state(own, nnx.BatchStat))

        return jax.grad(loss, (0, 1), has_aux=True)(params, x)

    members = []
    for seed in range(MEMBERS):
        rng = np.random.default_rng(seed)
        layer = Layer(shape[-1], stride, forms, rng)
        graph, *state = nnx.split(layer, nnx.Param, nnx.BatchStat)
        members.append((*state, jnp.asarray(rng.normal(size=(BATCH, *shape)), jnp.float32)))
    with jax.default_matmul_precision("highest"):
        return jax.jit(jax.vmap(run))(*jax.tree.map(lambda *leaves: jnp.stack(leaves), *members))


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ((5, 7, 3), 2),
        pytest.param((6, 4, 3), 1, marks=pytest.mark.slow),
        # More channels and pixels than one program takes.
        pytest.param((14, 13, CHANNELS + 8), 1, marks=pytest.mark.slow),
        pytest.param((27, 26, CHANNELS + 8), 2, marks=pytest.mark.slow),
    ],
)
def test_outputs_and_gradients_are_those_of_the_layers(shape, stride):
    if shape[-1] > CHANNELS:
        assert BATCH * shape[0] * shape[1] > ROWS * TILES
    expected = results(Forms(depthwise="shifts_autodiff"), shape, stride)
    found = results(Forms(kernel=True), shape, stride)

    def compare(one, other):
        largest = max(1, np.abs(other).max())
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * largest)

    jax.tree.map(compare, found, expected)
