"""A network of two layers, for tests of what surrounds a network; importing it registers it.

It has all that training and studies ask of one (batch norm, a partial batch, a width), and compiles
in a tenth of MobileNet's time.
"""

import jax.numpy as jnp

from twostage_jax.models import mobilenet_v1
from twostage_jax.models.backbones import register_backbone
from twostage_jax.models.forms import Forms
from twostage_jax.models.head import Head
from twostage_jax.models.layers import Stem
from twostage_jax.models.network import Backbone, Network


class Tiny(Network):
    """A strided convolution and a block of MobileNet's, of 16 and 32 channels at width 1."""

    def __init__(self, classes, width=1.0, *, momentum=0.99, dtype=jnp.float32, forms=None, rngs):
        forms = forms or Forms()
        first, last = int(16 * width), int(32 * width)
        self.dtype = dtype
        self.stem = Stem(first, momentum, forms, rngs)
        self.block = mobilenet_v1.SeparableBlock(first, last, 2, momentum, forms, rngs)
        self.feature_size = last
        self.head = Head(last, classes, rngs)

    def features(self, images, valid=None):
        x = self.stem.convolve((images / 127.5 - 1).astype(self.dtype))
        x = self.block(x, self.stem.norm, valid)
        x = self.block.pointwise_norm(x, valid, relu6=True)
        return jnp.mean(x.astype(jnp.float32), axis=(1, 2))


BACKBONE = Backbone(
    title="Tiny", build=Tiny, load_weights=mobilenet_v1.WEIGHTS.load, min_image_size=32
)
TINY = "tiny"
register_backbone(TINY, BACKBONE)
