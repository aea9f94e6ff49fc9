"""Single choices of ours undone, by patching names of the product while a program is traced."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from twostage_jax.models import depthwise, layers
from twostage_jax.models.layers import Forms
from twostage_jax.training.lifting import SEQUENTIAL

# The choice that an engine's precision makes, and no patch.
PRECISION = "precision"


class Choice(NamedTuple):
    """What stands in a choice's place.

    Attributes:
        text: in words.
        forms: of computation, an argument of the network.
        patches: names in the product and what they stand for instead.
        sequential: members one after another (True) or as one program; None: as the product does.
        batches: a call, instead of as many as a turn takes.
        platform: the only one that makes the choice; empty: all do.
    """

    text: str
    forms: Forms = Forms()
    patches: tuple[tuple[object, str, Callable], ...] = ()
    sequential: bool | None = None
    batches: int | None = None
    platform: str = ""

    def is_made_on(self, platform: str) -> bool:
        """Whether the product makes the choice there, so that it can be undone."""
        # One order of the members is the product's own.
        own = platform in SEQUENTIAL
        return self.sequential is not own and self.platform in ("", platform)


CHOICES = {
    "derivative": Choice("depthwise derivative by JAX", Forms(depthwise="shifts_autodiff")),
    "taps": Choice(
        "gradients of taps over whole batches",
        patches=((depthwise, "_towards_taps_by_sample", depthwise._towards_taps),),
        platform="cpu",
    ),
    "moments": Choice(
        "derivative of batch moments by JAX",
        patches=((layers, "moments", layers.moments.__wrapped__),),
    ),
    "grouped": Choice("depthwise as grouped convolution", Forms(depthwise="convolution")),
    "stem": Choice("stem as convolution", Forms(stem="convolution")),
    "remat": Choice("blocks rematerialized", Forms(rematerialize=True)),
    "lifted": Choice("members as one program (vmap)", sequential=False),
    "sequential": Choice("members one after another", sequential=True),
    "calls": Choice("one step a call", batches=1),
    PRECISION: Choice("other precision"),
}

# Patches are of the whole process; programs may be traced in several threads.
_tracing = threading.Lock()


def undone(function: Callable, name: str) -> Callable:
    """The function of the product without a choice.

    Args:
        function: to be compiled.
        name: one of `CHOICES`; empty leaves all as they are.
    """

    def traced(*arguments):
        with _tracing, _patched(CHOICES[name].patches if name else ()):
            return function(*arguments)

    return traced


@contextmanager
def _patched(patches: tuple[tuple[object, str, Callable], ...]) -> Iterator[None]:
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in patches]
    for owner, name, instead in patches:
        setattr(owner, name, instead)
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
