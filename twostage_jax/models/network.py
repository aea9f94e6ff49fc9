"""The contract of a backbone: what training and studies ask of a network and of its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.head import Head
from twostage_jax.models.weights import Shape, Weights


class Network(nnx.Module):
    """A convolutional network whose features a head classifies.

    A backbone is a subclass that sets the attributes and defines `features`. All of its parameters
    are `nnx.Param` and all of its running statistics are `nnx.BatchStat`, both float32. Training
    updates the one, and batches in training mode move the other.

    Attributes:
        feature_size: number of features per image.
        head: classifies features; stage 2 fine-tunes it alone.
    """

    feature_size: int
    head: Head

    def features(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float32[Array, "b f"]:
        """Returns the features of a batch.

        Args:
            images: pixel values in [0, 255].
            valid: None selects inference mode: batch norm uses the running statistics. Otherwise
                training mode: batch norm uses the statistics of the valid samples, the running
                statistics move, and samples that are not valid affect no other sample.
        """
        raise NotImplementedError

    def __call__(
        self, images: Float[Array, "b h w 3"], valid: Bool[Array, " b"] | None = None
    ) -> Float[Array, "b classes"]:
        """Returns unnormalized log-probabilities; takes the arguments of `features`."""
        return self.head(self.features(images, valid))


@dataclass(frozen=True)
class Backbone:
    """A kind of network that a study can train, and where its weights come from."""

    title: str
    """Name of the network, as messages and reports print it."""
    build: Callable[..., Network]
    """Called as `build(classes, width, momentum=, dtype=, forms=, rngs=)`. `width` multiplies the
    channels, `momentum` is the share of the running statistics that one step keeps, `dtype` that of
    activations and products (parameters and statistics are float32), `forms` a `layers.Forms`, and
    the stream `params` of `rngs` initializes."""
    load_weights: Callable[[str, float, Path], Weights | None]
    """Called with a source (`imagenet`, `random` or a file), a width and the folder of downloaded
    and of converted weights, which is made if it is missing. Returns the weights that a run starts
    from, or None for random ones; raises InputError."""
    min_image_size: int
    """Smallest side of an image in pixels."""
    check_width: Callable[[float], None] = lambda width: None
    """Raises InputError for a width that leaves a layer without channels."""
    recognize: Callable[[Mapping[str, Shape]], float | None] = lambda shapes: None
    """Called with the shapes of a file's tensors by `layer/weight`. Returns the width of the
    network of this kind that the file holds, or None if it holds another."""
