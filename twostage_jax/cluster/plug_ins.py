"""What was registered in one process, for others that do not run the same script."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from twostage_jax.models.backbones import BACKBONES
from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.training.objective import LOSSES


class PlugIns(NamedTuple):
    """The entries of the open tables that training looks into, by name.

    Attributes:
        backbones: of `models.backbones`.
        samplers: of `resampling.registry`.
        losses: of `training.objective`.
    """

    backbones: dict[str, Any]
    samplers: dict[str, Any]
    losses: dict[str, Any]

    def register(self) -> None:
        """Adds them to the tables of this process; what is there stays."""
        for table, own in zip((BACKBONES, SAMPLERS, LOSSES), self, strict=True):
            for name, entry in own.items():
                table.setdefault(name, entry)


def plug_ins() -> PlugIns:
    """All entries of this process, in a form that can be sent elsewhere."""
    return PlugIns(dict(BACKBONES), _sendable(SAMPLERS), _sendable(LOSSES))


def _sendable(table: Mapping[str, Any]) -> dict[str, Any]:
    """Entries whose read-only mappings, which cannot be sent, are plain ones."""
    return {
        name: type(entry)(*(dict(own) if isinstance(own, Mapping) else own for own in entry))
        for name, entry in table.items()
    }
