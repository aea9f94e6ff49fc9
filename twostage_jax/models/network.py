"""The contract of a network: what training and studies ask of every backbone."""

from flax import nnx
from jaxtyping import Array, Bool, Float, Float32

from twostage_jax.models.head import Head


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
