"""Every form of computation of the layers gives the same outputs and gradients."""

import re
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from twostage_jax.models.forms import FASTEST, Forms
from twostage_jax.models.layers import Stem, run_block
from twostage_jax.models.mobilenet_v1 import SeparableBlock
from twostage_jax.models.mobilenet_v2 import InvertedResidual
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages

pytestmark = pytest.mark.integration

# Each form, and a pattern that its program alone has.
OTHERS = {
    Forms(depthwise="shifts_autodiff", stem="convolution"): "feature_group_count=1",
    Forms(depthwise="convolution", rematerialize=True): "feature_group_count=8",
    FASTEST["gpu"]: r"\w+:f32\[8\] \w+:f32\[8\] = reduce\[",  # two sums at once
    FASTEST["tpu"]: "custom_vmap",
    Forms(kernel=True): "pallas_call",
}
MEMBERS = 2
MOMENTUM = 0.9


class Small(nnx.Module):
    """A stem, and a block of each kind."""

    def __init__(self, forms: Forms, rngs: nnx.Rngs):
        self.forms = forms
        self.stem = Stem(8, MOMENTUM, forms, rngs)
        self.blocks = nnx.List(
            [
                SeparableBlock(8, 8, 2, MOMENTUM, forms, rngs),
                InvertedResidual(8, 8, 1, 2, MOMENTUM, forms, rngs),
            ]
        )

    def __call__(self, x, valid):
        separable, inverted = self.blocks
        x = run_block(separable, self.forms, self.stem.convolve(x), self.stem.norm, valid)
        x = separable.pointwise_norm(x, valid, relu6=True)
        return run_block(inverted, self.forms, x, valid)


@cache
def outputs(forms: Forms):
    """The program of one network as text; results of two networks that differ in their weights.

    Results are both modes' outputs, the moved statistics and the gradients. The size of the images
    is odd: forms that pad differently would show.
    """

    def new(key):
        return nnx.split(Small(forms, nnx.Rngs(params=key)), nnx.Param, nnx.BatchStat)

    def run(params, stats, images):
        def loss(params):
            network = nnx.merge(graph, params, stats, copy=True)
            inference = network(images, None)
            training = network(images, jnp.array([True, True, True, False]))
            weights = np.random.default_rng(1).normal(size=training.shape)
            return jnp.sum(weights * training), (
                inference,
                training,
                nnx.state(network, nnx.BatchStat),
            )

        return jax.value_and_grad(loss, has_aux=True)(params)

    graph, *own = new(jax.random.key(0))
    params, stats = jax.vmap(lambda key: new(key)[1:])(jax.random.split(jax.random.key(0), MEMBERS))
    images = np.random.default_rng(0).normal(size=(MEMBERS, 4, 21, 21, 3)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        program = str(jax.make_jaxpr(run)(*own, images[0]))
        return program, jax.jit(jax.vmap(run))(params, stats, images)


@pytest.mark.parametrize("forms", OTHERS)
def test_every_form_gives_the_same_outputs_and_gradients(forms):
    own_program, expected = outputs(Forms())
    program, found = outputs(forms)
    for text, asked in ((OTHERS[forms], True), ("remat", forms.rematerialize)):
        assert bool(re.search(text, program)) == asked
        assert not re.search(text, own_program)
    # A part of the shifts' own derivative, on a CPU.
    assert "scan[" in own_program
    assert ("scan[" in program) == (forms.depthwise == "shifts")
    jax.tree.map(
        lambda found, expected: np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4),
        found,
        expected,
    )


def test_features_are_extracted_where_blocks_are_computed_again():
    stages = Stages(Protocol(width=0.25), 4, Forms(rematerialize=True))
    state = jax.eval_shape(stages.init_network, jax.random.key(0))
    images = jax.ShapeDtypeStruct((9, 32, 32, 3), jnp.uint8)
    rows = jax.ShapeDtypeStruct((2, 4), jnp.int32)
    assert jax.eval_shape(stages.extract, state, images, rows, 2).shape == (8, 256)
