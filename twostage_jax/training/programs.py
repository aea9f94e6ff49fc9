"""The compiled programs of a protocol, shared by all that train or predict with it."""

import dataclasses
from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree

from twostage_jax.training.lifting import Lifted
from twostage_jax.training.objective import Objective
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages

# A grid search trains many times with few protocols; each costs seconds to compile.
_KEPT = 16


class Trainers(NamedTuple):
    """The programs of one objective, lifted over networks and heads.

    Attributes:
        network, head: `Stages.train_network` and `Stages.train_head`.
        start_head, end_head: the functions of `Stages` of that name.
        predict: `Stages.predict`, of the heads of networks that are trained so.
    """

    network: Lifted
    head: Lifted
    start_head: Callable
    end_head: Callable
    predict: Lifted


class Programs:
    """The functions of both stages, lifted over networks and heads; compiled once per size."""

    def __init__(self, protocol: Protocol, classes: int, feature_size: int | None):
        """Nothing is compiled before it is used. Arguments are those of `Stages`."""
        stages = Stages(protocol, classes, feature_size=feature_size)
        self._make = partial(Stages, protocol, classes, None, feature_size)
        self._trainers: dict[Objective, Trainers] = {}
        self.init_network = jax.jit(jax.vmap(stages.init_network))
        self.init_head = jax.jit(jax.vmap(stages.init_head))
        self.ravel = jax.jit(jax.vmap(lambda state: ravel_pytree(state)[0]))
        self.extract = Lifted(stages.extract)
        self._predict = Lifted(stages.predict)
        self.represent = Lifted(stages.represent)

    def trainers(self, objective: Objective) -> Trainers:
        """The programs of an objective; those of equal ones are the same."""
        if objective not in self._trainers:
            stages = self._make(objective)
            self._trainers[objective] = Trainers(
                Lifted(stages.train_network),
                Lifted(stages.train_head),
                jax.jit(jax.vmap(stages.start_head)),
                jax.jit(jax.vmap(stages.end_head)),
                self._predict if objective.cosine_scale is None else Lifted(stages.predict),
            )
        return self._trainers[objective]


def programs(protocol: Protocol, classes: int, feature_size: int | None = None) -> Programs:
    """The programs of a protocol; those of equal ones are the same.

    Args:
        protocol: how to train. Its seed, epochs and samplers do not matter here.
        classes: number of classes.
        feature_size: as for `Stages`.
    """
    same = {"epochs": 1, "head_epochs": None, "batch_size": 1, "k_neighbors": 1, "seed": 0}
    return _kept(dataclasses.replace(protocol, fresh_head=False, **same), classes, feature_size)


_kept = lru_cache(_KEPT)(Programs)
