"""Losses: pure functions of class scores and labels, one value per sample."""

import optax
from jaxtyping import Array, Float, Int


def cross_entropy(
    logits: Float[Array, "b classes"], labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """Cross-entropy in nats.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
