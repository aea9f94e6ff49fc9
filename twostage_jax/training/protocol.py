"""The training protocol: every setting that a record depends on, besides data and weights."""

import dataclasses
from collections.abc import Mapping

from twostage_jax.data.folds import Splitting

PRECISIONS = ("float32", "tf32", "bfloat16")

# Settings that are younger than the first records, and what was done before there was a choice.
# They are written down only where they differ from that, so that the settings (and their hash) of
# a study that does not use them stay those of older records.
_YOUNGER = {"network": "mobilenet_v1", "head_epochs": None}


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How networks and heads are trained. The defaults are the paper's, or Keras's behind it."""

    network: str = "mobilenet_v1"
    """Backbone: mobilenet_v1 (the paper's) or mobilenet_v2."""
    width: float = 1.0
    """Width multiplier of the network's channels."""
    epochs: int = 20
    """Epochs of stage 1, and again of stage 2."""
    head_epochs: int | None = None
    """Epochs of stage 2, where they differ from those of stage 1."""
    batch_size: int = 32
    """Samples per step; the last, partial batch of an epoch is kept."""
    learning_rate: float = 1e-4
    """Step size of RMSprop, in both stages."""
    decay: float = 0.9
    """Share of the running mean square of the gradients that RMSprop keeps per step."""
    epsilon: float = 1e-7
    """Added to the root of the mean square."""
    epsilon_in_root: bool = False
    """Add epsilon inside the root, as Keras 3 does, and not outside, as Keras 2 did."""
    bn_momentum: float = 0.99
    """Share of the running batch statistics that one step keeps."""
    k_neighbors: int = 5
    """Neighbors that SMOTE, Borderline-SMOTE and ADASYN interpolate towards."""
    fresh_head: bool = False
    """Initialize the head anew for stage 2 instead of continuing from stage 1's."""
    precision: str = "float32"
    """Precision of products and activations: float32, tf32 or bfloat16. Parameters are float32."""
    seed: int = 0
    """Seed of every random stream: folds, class orders, samplers, heads, shuffles."""

    @property
    def epochs_of_heads(self) -> int:
        """Epochs of stage 2."""
        return self.epochs if self.head_epochs is None else self.head_epochs

    def to_settings(self) -> dict:
        """The settings as records hold them."""
        settings = dataclasses.asdict(self)
        return {
            name: value
            for name, value in settings.items()
            if name not in _YOUNGER or value != _YOUNGER[name]
        }


def complete_settings(settings: Mapping) -> dict:
    """The settings of a study with those filled in that its folder is too old to have.

    A setting that is not there means the default of its day.
    """
    usual = dataclasses.asdict(Protocol()) | _YOUNGER | Splitting().all_settings
    return usual | dict(settings)
