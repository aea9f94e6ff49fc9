"""The samplers by the short names that recipes use; the table is open.

Classes are imported when a sampler is made: whoever only reads records needs no names but these.
"""

import re
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from twostage_jax.support.errors import InputError, require_known


class SamplerEntry(NamedTuple):
    """A sampler that recipes may name.

    Attributes:
        title: what tables and charts call it.
        sampler: a class of this package by its name, or any class with the contract of
            `resampling.samplers.base.PlanSampler`.
        parameters: arguments of the constructor that differ from its defaults.
        recorded: its name in the folders of studies, where the short name once meant other
            parameters: an older folder is then not mixed with what the name means now.
    """

    title: str
    sampler: str | type
    parameters: Mapping[str, Any] = MappingProxyType({})
    recorded: str | None = None


def balance_lacking(y: Shaped[np.ndarray, " n"]) -> dict:
    """A `sampling_strategy` that grows all classes but those that lack less than 1 %.

    ADASYN gives each sample a share of what its class lacks. Of a few samples all shares may round
    to zero, which is an error, and folds leave classes of equal size an image apart.
    """
    classes, counts = np.unique(y, return_counts=True)
    return dict.fromkeys(classes[counts < 0.99 * counts.max()], int(counts.max()))


SAMPLERS: dict[str, SamplerEntry] = {
    "rus": SamplerEntry("RUS", "RandomUnderSampler"),
    "ros": SamplerEntry("ROS", "RandomOverSampler"),
    "smote": SamplerEntry("SMOTE", "SMOTE"),
    "borderline": SamplerEntry("Borderline", "BorderlineSMOTE"),
    "adasyn": SamplerEntry("ADASYN", "ADASYN", {"sampling_strategy": balance_lacking}),
    "nearmiss1": SamplerEntry("NearMiss-1", "NearMiss", {"version": 1}),
    "nearmiss2": SamplerEntry("NearMiss-2", "NearMiss", {"version": 2}),
    "nearmiss3": SamplerEntry("NearMiss-3", "NearMiss", {"version": 3}),
    "tomek": SamplerEntry("Tomek", "TomekLinks"),
    "enn": SamplerEntry("ENN", "EditedNearestNeighbours"),
    "rbu": SamplerEntry("RBU", "RadialBasedUndersampler", {"gamma": "cv"}, recorded="rbu-cv"),
}


def to_recorded(name: str) -> str:
    """A sampler's name in the folder of a study, see `SamplerEntry.recorded`."""
    return (SAMPLERS[name].recorded or name) if name in SAMPLERS else name


def from_recorded(name: str) -> str:
    """The short name of a sampler that a study's folder names; of no sampler where it changed."""
    for own, entry in SAMPLERS.items():
        if entry.recorded == name:
            return own
        if entry.recorded is not None and own == name:
            return f"{name} of an older version"
    return name


def register_sampler(name: str, entry: SamplerEntry) -> None:
    """Adds a sampler, so that `is_NAME`, `fs_NAME` and the `ts_` pairs with it are approaches.

    Registering an equal entry again changes nothing.

    Raises:
        InputError: the name is taken, or is not lowercase letters and digits.
    """
    if not re.fullmatch("[a-z0-9]+", name):
        raise InputError(
            f"sampler name '{name}' found, lowercase letters and digits expected; rename it"
        )
    if SAMPLERS.setdefault(name, entry) != entry:
        raise InputError(
            f"sampler name '{name}' is taken by {SAMPLERS[name].title}; choose another name"
        )


def make_sampler(name: str, *, seed: int, k_neighbors: int):
    """A new sampler that balances all classes.

    A sampler that draws takes `seed`, and an over-sampler interpolates toward `k_neighbors`. Other
    samplers keep the number of neighbors of their definition.

    Raises:
        InputError: an unknown name; the message has the nearest valid ones.
    """
    entry = SAMPLERS[require_known("sampler", name, SAMPLERS)]
    made: Any = entry.sampler
    if isinstance(made, str):
        made = getattr(import_module("twostage_jax.resampling.samplers"), made)
    sampler = made(**entry.parameters)
    given = {"random_state": seed}
    if sampler._sampling_type == "over-sampling":
        given |= dict.fromkeys(("k_neighbors", "n_neighbors"), k_neighbors)
    taken = sampler.get_params(deep=False).keys() - entry.parameters.keys()
    return sampler.set_params(**{key: value for key, value in given.items() if key in taken})
