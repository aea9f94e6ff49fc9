"""The head: the part of a network that stage 2 fine-tunes."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

HIDDEN_UNITS = 1024


def _unit(x: Float[Array, "m n"], axis: int) -> Float[Array, "m n"]:
    """Scales vectors to length 1; those shorter than 1e-6 grow, but stay shorter."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis, keepdims=True), 1e-12))


class Head(nnx.Module):
    """A fully connected ReLU layer and the class scores."""

    def __init__(self, features: int, classes: int, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()  # Keras's default for Dense
        self.hidden = nnx.Linear(features, HIDDEN_UNITS, kernel_init=glorot, rngs=rngs)
        self.output = nnx.Linear(HIDDEN_UNITS, classes, kernel_init=glorot, rngs=rngs)

    def represent(self, features: Float[Array, "b f"]) -> Float[Array, "b hidden"]:
        """Returns the activations of the hidden layer; the class scores are linear in them."""
        return jax.nn.relu(self.hidden(features))

    def cosines(self, features: Float[Array, "b f"]) -> Float[Array, "b classes"]:
        """Returns the cosines between the hidden layer's activations and the class weights.

        A cosine classifier (J. Deng et al., *ArcFace*, 2019, without its margin) has no bias: that
        of the last layer is not used.
        """
        weights = self.output.kernel[...]
        return _unit(self.represent(features), axis=1) @ _unit(weights, axis=0)

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b classes"]:
        """Returns unnormalized log-probabilities."""
        return self.output(self.represent(features))
