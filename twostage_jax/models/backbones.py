"""The backbones by name. `network.py` states their contract.

A new one is a module and a line in `BACKBONES`, or a call of `register_backbone` from outside.
"""

from pathlib import Path

from twostage_jax.models import mobilenet_v1, mobilenet_v2
from twostage_jax.models.network import Backbone
from twostage_jax.models.weights import UnfitWeightsError, Weights
from twostage_jax.support.errors import InputError, require_known

BACKBONES: dict[str, Backbone] = {
    "mobilenet_v1": mobilenet_v1.BACKBONE,
    "mobilenet_v2": mobilenet_v2.BACKBONE,
}


def register_backbone(name: str, backbone: Backbone) -> None:
    """Adds a backbone; registering the same one again changes nothing.

    Raises:
        InputError: the name is taken by another backbone.
    """
    if BACKBONES.setdefault(name, backbone) != backbone:
        raise InputError(
            f"the network name '{name}' is taken by {BACKBONES[name].title}; choose another name "
            f"for {backbone.title}"
        )


def find_backbone(name: str) -> Backbone:
    """Returns the backbone of that name.

    Raises:
        InputError: no backbone has that name; the message names the nearest ones.
    """
    return BACKBONES[require_known("network", name, BACKBONES)]


def load_weights(network: str, source: str, width: float, cache: Path) -> Weights | None:
    """Returns what the backbone named `network` gives, see `Backbone.load_weights`.

    Raises:
        InputError: the weights cannot be had, or the file holds another network or width; the
            message says which.
    """
    backbone = find_backbone(network)
    try:
        return backbone.load_weights(source, width, cache)
    except UnfitWeightsError as error:
        for name, other in BACKBONES.items():
            found = other.recognize(error.shapes)
            if name != network and found is not None:
                raise InputError(
                    f"{error.path} holds a {other.title} of width {found:g}, a {backbone.title} of "
                    f"width {width:g} expected; pass --network {name} --width {found:g}, or a file "
                    f"of {backbone.title}"
                ) from error
        raise
