"""What the settings of a protocol may be."""

from collections.abc import Callable

from twostage_jax.models.backbones import find_backbone
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.training.protocol import PRECISIONS, Protocol

# Beyond what any data and device can hold. A number below the smallest float32 would count as 0.
_BOUNDS = {
    "width": (0.0, 32.0),
    "epochs": (1, 100_000),
    "head_epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "learning_rate": (1e-45, 1e38),
    "epsilon": (1e-45, 1e38),
    "k_neighbors": (1, 10_000),
}


def option_name(name: str) -> str:
    """How a command calls a setting: `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def require_valid(protocol: Protocol, call: Callable[[str], str] = str) -> None:
    """Checks the values of a protocol.

    Args:
        protocol: to check.
        call: what the user calls a setting of this name.

    Raises:
        InputError: a number is out of bounds, a name is unknown, or the width leaves a layer of
            the network without channels.
    """
    require_known("precision", protocol.precision, PRECISIONS)
    for name, (least, most) in _BOUNDS.items():
        value = getattr(protocol, name)
        if value is None:
            continue
        if not 0 < value <= most:
            raise InputError(
                f"{call(name)} {str(value)[:40]} found, a number above 0 and at most {most:g} "
                "expected"
            )
        if value < least:
            raise InputError(f"{call(name)} {value:g} found, {least:g} or more expected")
    for name in ("decay", "bn_momentum"):
        if not 0 <= (value := getattr(protocol, name)) < 1:
            raise InputError(f"{call(name)} {value:g} found, a number from 0 to below 1 expected")
    find_backbone(protocol.network).check_width(protocol.width)


def require_image_size(protocol: Protocol, side: int, call: Callable[[str], str] = str) -> None:
    """Checks that images are large enough for the network.

    Args:
        protocol: names the network.
        side: of the images, in pixels.
        call: as in `require_valid`.

    Raises:
        InputError: they are too small.
    """
    backbone = find_backbone(protocol.network)
    if side < backbone.min_image_size:
        raise InputError(
            f"{call('image_size')} {side} found, {backbone.min_image_size} or more expected by "
            f"{backbone.title}; choose a larger one"
        )
