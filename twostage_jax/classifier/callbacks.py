"""scikit-learn's callbacks, where its version has them, and lines about epochs."""

import contextlib
from collections.abc import Iterator
from typing import Any

from twostage_jax.classifier.fitting import OnEpoch
from twostage_jax.study.approaches import Approach
from twostage_jax.training.protocol import Protocol

try:
    from sklearn.callback import CallbackSupportMixin as Support  # pyright: ignore[reportAssignmentType]
    from sklearn.callback import with_callbacks as managed
except ImportError:  # before 1.9

    class Support:
        """Takes no callbacks."""

    def managed(method):
        """Returns the method as it is."""
        return method


@contextlib.contextmanager
def epochs(
    estimator: Any, protocol: Protocol, approach: Approach, images: bool
) -> Iterator[OnEpoch]:
    """Gives what is to be called after every epoch of a fit.

    With scikit-learn's callbacks, each epoch is a subtask of the fit.

    Args:
        estimator: that is fitted.
        protocol: says how many epochs there are.
        approach: says whether there is a stage 2.
        images: whether there is a stage 1.
    """
    total = protocol.epochs * images
    total += protocol.epochs_of_heads * (approach.stage2 is not None or not images)
    task = None
    if hasattr(estimator, "_init_callback_context"):
        task = estimator._init_callback_context(max_subtasks=total)
        task.call_on_fit_task_begin(estimator=estimator)
    left, current = total, None

    def begin() -> None:
        nonlocal current
        current = task.subcontext(task_name="epoch") if task is not None and left else None
        if current is not None:
            current.call_on_fit_task_begin(estimator=estimator)

    def on_epoch(stage: int, epoch: int, of: int) -> None:
        nonlocal left
        left -= 1
        if estimator.verbose:
            print(f"stage {stage}: epoch {epoch + 1} of {of} is done", flush=True)
        if current is not None:
            current.call_on_fit_task_end(estimator=estimator)
            begin()

    begin()
    yield on_epoch
    if task is not None:
        task.call_on_fit_task_end(estimator=estimator)
