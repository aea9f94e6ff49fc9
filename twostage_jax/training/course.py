"""How networks or heads train, epoch by epoch: batches, mixtures and what losses ask of classes."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int

from twostage_jax.data.partition import FOLDS
from twostage_jax.resampling.mixing import MIXINGS, Mixture
from twostage_jax.resampling.plan import DevicePlan, Plan, epoch_batches
from twostage_jax.support.streams import Stream
from twostage_jax.training.lifting import Lifted
from twostage_jax.training.objective import DEFERRED_FROM, Call, require_call
from twostage_jax.training.steps import ClassSizes


class Course(NamedTuple):
    """How some networks or heads train: all but their state and the table.

    Attributes:
        program: of a step.
        plans: of each member, on rows of the table.
        streams: each member's random streams.
        epochs: number of them.
        counts: samples of each class per epoch; None where the program does not take them.
        mixing: how samples are mixed.
        balanced: draw samples with equal classes.
    """

    program: Lifted
    plans: Sequence[Plan]
    streams: Sequence[Stream]
    epochs: int
    counts: Float32[np.ndarray, "members classes"] | None
    mixing: Call | None = None
    balanced: bool = False

    def batches(self, epoch: int, size: int, steps: int) -> list[DevicePlan]:
        """The batches of an epoch, `steps` of `size` rows per member."""
        made = []
        for plan, stream in zip(self.plans, self.streams, strict=True):
            mix = self.mixing and _mix(self.mixing, plan, stream("mix", epoch))
            own = stream("epoch", epoch)
            made.append(epoch_batches(plan, size, steps, own, balanced=self.balanced, mix=mix))
        return made

    def sizes(self, epoch: int) -> tuple[ClassSizes, ...]:
        """The last argument of the program in an epoch, if it takes one."""
        if self.counts is None:
            return ()
        late = np.full(len(self.counts), epoch >= DEFERRED_FROM * self.epochs)
        return (ClassSizes(jnp.asarray(self.counts), jnp.asarray(late)),)


def usual_steps(class_counts: Int[np.ndarray, " classes"], batch_size: int) -> int:
    """Steps of an epoch for which programs have room: all classes as large as the largest.

    Args:
        class_counts: samples of each class of the whole data set, of which one fold is left out.
        batch_size: samples per step.
    """
    largest_class = int(np.ceil(class_counts.max() * (1 - 1 / FOLDS)))
    return -(-len(class_counts) * largest_class // batch_size)


def _mix(mixing: Call, plan: Plan, stream: int) -> Callable[[np.ndarray], Mixture]:
    """Decides on the mixtures of an epoch of a plan."""
    function = require_call("mixing", mixing, MIXINGS).function
    assert callable(function), "mixings are registered by their function"
    counts, rng = np.bincount(plan.label), np.random.default_rng(stream)
    return lambda labels: function(labels, counts, rng, **dict(mixing.parameters))
