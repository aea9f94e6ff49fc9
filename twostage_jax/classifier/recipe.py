"""Which approach the two samplers of an estimator stand for, and the samplers themselves."""

import copy
import re
from collections.abc import Mapping
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Shaped
from sklearn.base import clone

from twostage_jax.resampling.registry import SAMPLERS, make_sampler
from twostage_jax.resampling.samplers.base import PlanSampler
from twostage_jax.study.approaches import Approach, Stage1, Stage2, find
from twostage_jax.support.errors import InputError, require_known

Choice = str | PlanSampler | None


class Recipe:
    """An approach, with samplers of the user's own in the places of registered ones."""

    def __init__(self, image_sampler: Choice, feature_sampler: Choice, approach: str | None):
        """Nothing is made yet.

        Args:
            image_sampler: of stage 1; a registered name, a sampler, or None for all images.
            feature_sampler: of stage 2, likewise; None leaves stage 2 out.
            approach: name of an approach that takes the place of the two.

        Raises:
            InputError: a name is unknown, or something is no sampler of this package.
        """
        self._own: dict[int, PlanSampler] = {}
        if approach is not None:
            if not isinstance(approach, str):
                raise InputError(f"approach {approach!r} found; expected None or a name")
            self.approach = find(approach)
            return
        first = self._name(1, "image_sampler", image_sampler)
        second = self._name(2, "feature_sampler", feature_sampler)
        parts = [part for part in (first, second) if part is not None]
        space = {(): "baseline", (first,): "is", (second,): "fs"}.get(tuple(parts), "ts")
        name = "_".join([space, *parts])
        titles = (SAMPLERS[part].title if part in SAMPLERS else part for part in parts)
        title = f"{space.upper()} {'+'.join(titles)}" if parts else "Baseline"
        family = {"is": "image", "fs": "feature", "ts": "two-stage"}.get(space, "baseline")
        self.approach = Approach(
            name, title, family, Stage1(first), None if second is None else Stage2(second)
        )

    def _name(self, stage: int, parameter: str, choice: Choice) -> str | None:
        """The short name of a sampler, which names its random streams; keeps the user's own."""
        if choice is None:
            return None
        if isinstance(choice, str):
            return require_known("sampler", choice, SAMPLERS)
        if not isinstance(choice, PlanSampler):
            raise InputError(
                f"{parameter} is a {type(choice).__name__}; expected None, a name such as 'smote', "
                "or a sampler of twostage_jax, such as twostage_jax.SMOTE()"
            )
        self._own[stage] = choice
        kind = type(choice).__name__
        entries = ((name, entry.sampler) for name, entry in SAMPLERS.items())
        registered = [name for name, made in entries if made in (kind, type(choice))]
        return registered[0] if registered else re.sub("[^a-z0-9]", "", kind.lower())

    def for_classes(self, classes: Shaped[np.ndarray, " classes"]) -> "Recipe":
        """The same recipe, whose samplers understand a `sampling_strategy` on the user's labels.

        Args:
            classes: the labels, in the order of their positions.
        """
        made = copy.copy(self)
        made._own = {stage: _on_positions(own, classes) for stage, own in self._own.items()}
        return made

    def make(self, name: str, stage: int, seed: int, k_neighbors: int) -> Any:
        """The sampler of a stage; it draws from the seed unless the user gave it one of its own."""
        own = self._own.get(stage)
        if own is None:
            return make_sampler(name, seed=seed, k_neighbors=k_neighbors)
        sampler: Any = clone(own)
        if sampler.get_params(deep=False).get("random_state", 0) is None:
            sampler.set_params(random_state=seed)
        return sampler


def _on_positions(sampler: PlanSampler, classes: np.ndarray) -> PlanSampler:
    strategy = sampler.get_params(deep=False).get("sampling_strategy")
    if strategy is None or isinstance(strategy, str | Real):  # names no class
        return sampler
    own = partial(_translated, strategy, classes)
    made: Any = clone(sampler)
    return made.set_params(sampling_strategy=own)


def _translated(strategy: Any, classes: np.ndarray, y: np.ndarray) -> Any:
    """A `sampling_strategy` on the user's labels as one on y's.

    Args:
        strategy: targets by label, a list of labels, or what gives either for labels.
        classes: the user's labels.
        y: the position of each sample's class or, before anything is trained, its name.
    """
    numbers = np.issubdtype(y.dtype, np.integer)
    known = {own: row if numbers else str(own) for row, own in enumerate(classes.tolist())}
    if callable(strategy):
        rows = {name: row for row, name in enumerate(known.values())}
        strategy = strategy(classes[[rows[own] for own in y.tolist()]])
    if unknown := [own for own in strategy if own not in known]:
        raise InputError(
            f"sampling_strategy names the class {unknown[0]!r}; expected some of "
            f"{', '.join(map(repr, known))}"
        )
    if isinstance(strategy, Mapping):
        return {known[own]: samples for own, samples in strategy.items()}
    return [known[own] for own in strategy]
