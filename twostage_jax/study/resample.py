"""What the samplers of an approach decide, by their short names."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import sampling_targets
from twostage_jax.resampling.samplers.random import random_oversample, random_undersample
from twostage_jax.resampling.samplers.smote import smote
from twostage_jax.support.errors import InputError


def resample(
    sampler: str | None,
    labels: Int[np.ndarray, " n"],
    seed: int,
    neighbors: Callable[[], Int[np.ndarray, "n k"]],
) -> Plan:
    """The plan that balances all classes, of a sampler by its short name.

    Args:
        sampler: None (keep all), `rus`, `ros` or `smote`.
        labels: class of each sample.
        seed: of the random stream.
        neighbors: computes the same-class neighbour lists; only called where they are needed.

    Raises:
        InputError: an unknown name, or a class too small for SMOTE.
    """
    match sampler:
        case None:
            return Plan.of_all(labels)
        case "rus":
            targets = sampling_targets("auto", labels, "under-sampling")
            return random_undersample(labels, targets, seed)
        case "ros":
            targets = sampling_targets("auto", labels, "over-sampling")
            return random_oversample(labels, targets, seed)
        case "smote":
            targets = sampling_targets("auto", labels, "over-sampling")
            return smote(labels, targets, seed, neighbors())
    raise InputError(f"sampler {sampler!r} found, 'rus', 'ros', 'smote' or None expected")
