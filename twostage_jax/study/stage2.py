"""Stage 2 of a recipe: heads that are trained, and heads that are computed."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from twostage_jax.resampling.plan import Plan
from twostage_jax.study.recipe import Stage2
from twostage_jax.support.streams import Stream
from twostage_jax.training.computed_heads import choose_tau, nearest_class_mean, normalize_norms
from twostage_jax.training.steps import TrainState
from twostage_jax.training.trainer import Progress, Trained, Trainer


def tune_heads(
    trainer: Trainer,
    networks: TrainState | None,
    members: Sequence[int],
    features: Float[Array, "members max_rows f"],
    plans: Sequence[Plan],
    streams: Sequence[Stream],
    stage2: Stage2,
    progress: Progress = lambda _: None,
) -> Trained:
    """Fine-tunes heads, or computes them where the recipe says so.

    Args:
        trainer: the compiled programs.
        networks: whose heads to start from; None where there are none and fresh ones are trained.
        members, features, plans, streams: as for `Trainer.train_heads`.
        stage2: how; the plans are its sampler's.
        progress: is told how far training is.
    """
    if stage2.is_trained:
        return trainer.train_heads(
            networks,
            members,
            features,
            plans,
            streams,
            progress,
            objective=stage2.objective,
            fresh=stage2.fresh,
            balanced=stage2.balanced_batches,
        )
    assert networks is not None, "computed heads are those of networks"
    compute = _COMPUTED[stage2.learns]
    return trainer.compute_heads(networks, members, features, plans, streams, compute)


def _tau(hidden, labels, kernel, bias, stream: Stream) -> tuple[np.ndarray, np.ndarray]:
    tau = choose_tau(hidden, labels, kernel, stream("tau"))
    return normalize_norms(kernel, tau), np.zeros_like(bias)


def _class_means(hidden, labels, kernel, bias, stream) -> tuple[np.ndarray, np.ndarray]:
    return nearest_class_mean(hidden, labels, len(bias))


_COMPUTED: dict[str, Callable[..., Any]] = {"tau": _tau, "class_means": _class_means}
