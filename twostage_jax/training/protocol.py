"""The training protocol: every setting that a record depends on, the data and weights apart."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How networks and heads are trained. The defaults are the paper's, or Keras's behind it."""

    width: float = 1.0
    """Width multiplier of MobileNet's channels."""
    epochs: int = 20
    """Epochs of stage 1, and again of stage 2."""
    batch_size: int = 32
    """Samples a step; the last, partial batch of an epoch is kept."""
    learning_rate: float = 1e-4
    """Step size of RMSprop, in both stages."""
    decay: float = 0.9
    """Share of the running mean square of the gradients that RMSprop keeps a step."""
    epsilon: float = 1e-7
    """Added to the root of the mean square."""
    epsilon_in_root: bool = False
    """Add epsilon inside the root, as Keras 3 does, and not outside, as Keras 2 did."""
    bn_momentum: float = 0.99
    """Share of the running batch statistics that one step keeps."""
    k_neighbors: int = 5
    """Neighbours that SMOTE interpolates towards."""
    fresh_head: bool = False
    """Initialise the head anew for stage 2 instead of continuing from stage 1's."""
    precision: str = "float32"
    """Of products and activations: float32, tf32 or bfloat16. Parameters stay float32."""
    seed: int = 0
    """Seed of every random stream: folds, class orders, samplers, heads, shuffles."""
