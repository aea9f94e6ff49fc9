"""Shim."""
from twostage_jax.models.mobilenet_v1 import MobileNet
from twostage_jax.models.weights import load_weights as _lw
from twostage_jax.support.errors import require_known
class Backbone:
    title = "MobileNet v1"; min_image_size = 32
    build = staticmethod(MobileNet)
    load_weights = staticmethod(_lw)
    def check_width(self, width): pass
BACKBONES = {"mobilenet_v1": Backbone()}
def find_backbone(name):
    return BACKBONES[require_known("network", name, BACKBONES)]
