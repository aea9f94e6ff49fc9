"""What training minimizes, as recipes name it: losses and their parameters, without JAX."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Num

from twostage_jax.support.errors import InputError, require_known

Counts = Num[np.ndarray, " classes"]
Frequencies = Float64[np.ndarray, " classes"]
Number = int | float

DEFERRED_FROM = 0.8
"""Share of the epochs after which deferred weights count, as in Cao et al. (2019): 160 of 200."""
DEFERRED_BETA = 0.9999
"""`beta` of the class-balanced weights that are deferred, as there."""


@dataclasses.dataclass(frozen=True)
class Call:
    """A function by its name in a registry, with the parameters that differ from its defaults."""

    name: str
    parameters: tuple[tuple[str, Number], ...] = ()

    @classmethod
    def of(cls, name: str, **parameters: Number) -> "Call":
        """The call of a function by name, `Call.of("focal", gamma=1.0)`."""
        return cls(name, tuple(sorted(parameters.items())))

    def to_json(self) -> dict:
        """In values that JSON can hold."""
        return {"name": self.name, "parameters": dict(self.parameters)}

    @classmethod
    def from_json(cls, fields: Mapping) -> "Call":
        """The call that `to_json` returned; a TypeError if it is none."""
        name, parameters = fields["name"], dict(fields["parameters"])
        numbers = all(isinstance(value, Number) for value in parameters.values())
        if len(fields) != 2 or not isinstance(name, str) or not numbers:
            raise TypeError(f"{str(fields)[:60]!r} names no function")
        return cls.of(name, **parameters)

    def __str__(self) -> str:
        """For people: `focal(gamma=1)`."""
        inside = ", ".join(f"{name}={value:g}" for name, value in self.parameters)
        return f"{self.name}({inside})" if inside else self.name


class Range(NamedTuple):
    """The values that a parameter may have: finite numbers from `least` to `most`."""

    least: float
    most: float = math.inf
    without_least: bool = False
    without_most: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether a value is a number in the range."""
        if isinstance(value, bool) or not isinstance(value, Number):
            return False
        above = value > self.least or (value == self.least and not self.without_least)
        below = value < self.most or (value == self.most and not self.without_most)
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        """For people: `0 or more and below 1`."""
        words = [f"above {self.least:g}" if self.without_least else f"{self.least:g} or more"]
        if self.most < math.inf:
            words.append(f"below {self.most:g}" if self.without_most else f"at most {self.most:g}")
        return " and ".join(words)


def as_they_are(counts: Counts) -> Frequencies:
    """The class frequencies of the samples themselves."""
    return counts / counts.sum()


class Entry(NamedTuple):
    """A function that recipes may name.

    Attributes:
        title: what tables call it.
        function: the function, or its name in the module of its kind.
        ranges: its parameters, with the values that they may have.
        counts: whether it needs a sample of every class.
        scale: None for a loss of class scores. A loss of cosines has the default of its parameter
            `scale` here: then the head is a cosine classifier, and predicts by the softmax of the
            cosines times the scale.
        required: the parameters that have no default.
        learned: called with the samples of each class and the parameters; tells under which class
            frequencies the probabilities hold that it teaches, or None where that is not known. By
            default they are those of the samples.
    """

    title: str
    function: str | Callable
    ranges: Mapping[str, Range] = MappingProxyType({})
    counts: bool = False
    scale: float | None = None
    required: tuple[str, ...] = ()
    learned: Callable[..., Frequencies | None] = lambda counts, **parameters: as_they_are(counts)


def _equal(counts: Counts) -> Frequencies:
    return np.full(len(counts), 1 / len(counts))


def _class_balanced(counts: Counts, beta: Number = 0.9999) -> Frequencies:
    seen = counts / -np.expm1(counts * (np.log(beta) if beta > 0 else -np.inf))
    return seen / seen.sum()


def _logit_adjusted(counts: Counts, tau: Number = 1.0) -> Frequencies:
    left = as_they_are(counts) ** (1 - tau)
    return left / left.sum()


def _unknown(counts: Counts, **parameters: Number) -> None:
    """Margins, sigmoids and smoothed labels teach scores that are no posteriors."""


def _smoothed(counts: Counts, **amounts: Number) -> Frequencies | None:
    # A softmax that was taught smoothed labels is not in proportion to the class frequencies.
    return None if any(amounts.values()) else as_they_are(counts)


_SHARE = Range(0, 1)

LOSSES: dict[str, Entry] = {
    "cross_entropy": Entry("cross-entropy", "cross_entropy"),
    "weighted": Entry("weighted loss", "weighted", counts=True, learned=_equal),
    "class_balanced": Entry(
        "class-balanced loss",
        "class_balanced",
        {"beta": Range(0, 1, without_most=True)},
        counts=True,
        learned=_class_balanced,
    ),
    "focal": Entry("focal loss", "focal", {"gamma": Range(0)}),
    "sigmoid_focal": Entry(
        "sigmoid focal loss", "sigmoid_focal", {"gamma": Range(0)}, learned=_unknown
    ),
    "logit_adjusted": Entry(
        "logit-adjusted loss",
        "logit_adjusted",
        {"tau": Range(0)},
        counts=True,
        learned=_logit_adjusted,
    ),
    "ldam": Entry(
        "LDAM loss",
        "ldam",
        {"scale": Range(0, without_least=True), "largest_margin": Range(0)},
        counts=True,
        scale=30.0,
        learned=_unknown,
    ),
    "label_smoothing": Entry(
        "label smoothing",
        "label_smoothing",
        {"amount": _SHARE},
        required=("amount",),
        learned=_smoothed,
    ),
    "label_aware_smoothing": Entry(
        "label-aware smoothing",
        "label_aware_smoothing",
        {"head": _SHARE, "tail": _SHARE},
        counts=True,
        learned=_unknown,
    ),
}
"""The losses that recipes may name; their functions are those of `training.losses`."""

CROSS_ENTROPY = Call("cross_entropy")


def register_loss(name: str, entry: Entry) -> None:
    """Adds a loss, so that recipes may name it; registering an equal entry changes nothing.

    Its function is called as `f(logits, labels, class_counts, **parameters)` and returns one loss
    per sample, see `training.losses`; `class_counts` is None unless the entry says `counts=True`.

    Raises:
        InputError: the name is taken, or a loss of cosines has no parameter `scale`.
    """
    if entry.scale is not None and "scale" not in entry.ranges:
        raise InputError(
            f"loss '{name}' takes cosines, but has no parameter 'scale'; add it to its ranges"
        )
    if LOSSES.setdefault(name, entry) != entry:
        raise InputError(f"loss name '{name}' is taken by {LOSSES[name].title}; choose another")


def require_call(kind: str, call: Call, registry: Mapping[str, Entry]) -> Entry:
    """The entry of a call whose name and parameters are valid.

    Args:
        kind: of function, for the message: `loss` or `mixing`.
        call: by name.
        registry: of the functions of this kind.

    Raises:
        InputError: an unknown name or parameter, a parameter out of its range, or one that has no
            default and is not given.
    """
    entry = registry[require_known(kind, call.name, registry)]
    for name in entry.required:
        if name not in dict(call.parameters):
            raise InputError(
                f"{kind} '{call.name}' has no {name}, {entry.ranges[name]} expected; give it one"
            )
    for name, value in call.parameters:
        require_known(f"parameter of {kind} '{call.name}'", name, entry.ranges)
        if value not in entry.ranges[name]:
            raise InputError(
                f"{name} {value!r} of {kind} '{call.name}' found, {entry.ranges[name]} expected; "
                f"change {name}"
            )
    return entry


def require_counts(
    functions: Iterable[Entry], counts: Counts, class_names: Sequence[str], where: str
) -> None:
    """Checks that every class has samples where a loss or a mixing needs their number.

    Args:
        functions: of a recipe.
        counts: samples of each class in an epoch.
        class_names: by label.
        where: the samples are, for the message.

    Raises:
        InputError: a class has none.
    """
    for entry in functions:
        if entry.counts and not np.all(counts):
            lacking = class_names[int(np.argmin(counts))]
            raise InputError(
                f"{entry.title} on {where}: class '{lacking}' has no samples left to train on, at "
                "least one of each class expected; choose another sampler or loss"
            )


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a compiled program of training minimizes: equal ones share it."""

    loss: Call = CROSS_ENTROPY
    """One of `LOSSES`."""
    deferred: bool = False
    """Class-balanced weights in the last fifth of the epochs."""
    mixed: bool = False
    """Samples are mixtures of two, with two labels."""
    scales: bool = False
    """Only one scale per class learns, on top of a head that stays."""

    @property
    def needs_sizes(self) -> bool:
        """Whether the program takes the sizes of the classes."""
        return self.deferred or LOSSES[self.loss.name].counts

    @property
    def cosine_scale(self) -> float | None:
        """What a cosine classifier multiplies its cosines by; None for any other head."""
        usual = LOSSES[self.loss.name].scale
        return None if usual is None else float(dict(self.loss.parameters).get("scale", usual))


PLAIN = Objective()
"""The paper's: cross-entropy of samples as they are."""
