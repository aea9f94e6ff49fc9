"""Single choices of ours undone, by patching names of the product while a program is traced."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from twostage_jax.models import depthwise
from twostage_jax.models import mobilenet_v1 as mobilenet
from twostage_jax.training.lifting import SEQUENTIAL

# The choice that an engine's precision makes, and no patch.
PRECISION = "precision"


class Choice(NamedTuple):
    """What stands in a choice's place.

    Attributes:
        text: in words.
        patches: names in the product and what they stand for instead.
        sequential: members one after another (True) or as one program; None: as the product does.
        batches: a call, instead of as many as a turn takes.
        platform: the only one that makes the choice; empty: all do.
    """

    text: str
    patches: tuple[tuple[object, str, Callable], ...] = ()
    sequential: bool | None = None
    batches: int | None = None
    platform: str = ""

    def is_made_on(self, platform: str) -> bool:
        """Whether the product makes the choice there, so that it can be undone."""
        # One order of the members is the product's own.
        own = platform in SEQUENTIAL
        return self.sequential is not own and self.platform in ("", platform)


# The functions without the derivatives that the product gives them.
_depthwise = mobilenet.depthwise.__wrapped__
_moments = mobilenet.moments.__wrapped__


def _grouped(
    x: Float[Array, "b h w c"], taps: Float[Array, "9 c"], stride: int
) -> Float[Array, "b i j c"]:
    channels = x.shape[-1]
    before = 1 if stride == 1 else 0
    return jax.lax.conv_general_dilated(
        x,
        taps.reshape(3, 3, 1, channels),
        (stride, stride),
        [(before, 1), (before, 1)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=channels,
    )


def _convolved(self, x, valid):
    edges = [(size % 2, 1) for size in x.shape[1:3]]
    kernel = self.kernel[...].astype(x.dtype).reshape(3, 3, x.shape[-1], -1)
    x = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), edges, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return jax.nn.relu6(self.norm(x, valid))


_block = mobilenet.SeparableBlock.__call__

CHOICES = {
    "derivative": Choice("depthwise derivative by JAX", ((mobilenet, "depthwise", _depthwise),)),
    "taps": Choice(
        "gradients of taps over whole batches",
        ((depthwise, "_towards_taps_by_sample", depthwise._towards_taps),),
        platform="cpu",
    ),
    "moments": Choice("derivative of batch moments by JAX", ((mobilenet, "moments", _moments),)),
    "grouped": Choice("depthwise as grouped convolution", ((mobilenet, "depthwise", _grouped),)),
    "stem": Choice("stem as convolution", ((mobilenet.Stem, "__call__", _convolved),)),
    "remat": Choice(
        "blocks rematerialised", ((mobilenet.SeparableBlock, "__call__", nnx.remat(_block)),)
    ),
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
