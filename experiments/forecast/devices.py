"""The accelerators of `devices.toml`."""

import dataclasses
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Device:
    """An accelerator by its published numbers, see `devices.toml` for their meaning and units."""

    name: str
    kind: Literal["gpu", "tpu"]
    memory: float
    bandwidth: float
    launch: float
    peaks: Mapping[str, float | str]
    sources: Mapping[str, str]
    clock: float | None = None
    topology: str | None = None
    description: str | None = None

    def peak(self, kind: str) -> float | None:
        """Operations per second of a kind of `peaks`; None where it is not published."""
        found = self.peaks.get(kind)
        return self.peak(found) if isinstance(found, str) else found

    @property
    def digest(self) -> str:
        """All that a forecast depends on, as text."""
        numbers = {key: value for key, value in vars(self).items() if key != "sources"}
        return json.dumps(numbers, sort_keys=True)


@cache
def devices() -> Mapping[str, Device]:
    """All devices by their short names."""
    tables = tomllib.loads(Path(__file__).with_name("devices.toml").read_text())
    return {key: Device(**table) for key, table in tables.items()}
