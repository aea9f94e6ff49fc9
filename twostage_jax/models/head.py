"""The head: the part of a network that stage 2 fine-tunes."""

import jax
from flax import nnx
from jaxtyping import Array, Float

HIDDEN_UNITS = 1024


class Head(nnx.Module):
    """A fully connected ReLU layer and the class scores."""

    def __init__(self, features: int, classes: int, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()  # Keras's default for Dense
        self.hidden = nnx.Linear(features, HIDDEN_UNITS, kernel_init=glorot, rngs=rngs)
        self.output = nnx.Linear(HIDDEN_UNITS, classes, kernel_init=glorot, rngs=rngs)

    def represent(self, features: Float[Array, "b f"]) -> Float[Array, "b hidden"]:
        """Returns the activations of the hidden layer; the class scores are linear in them."""
        return jax.nn.relu(self.hidden(features))

    def __call__(self, features: Float[Array, "b f"]) -> Float[Array, "b classes"]:
        """Returns unnormalized log-probabilities."""
        return self.output(self.represent(features))
