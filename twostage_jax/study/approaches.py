"""The registry of approaches: an approach is data, and anybody may add one.

A recipe says what stage 1 trains on, what stage 2 does with the head, and what is done to the
probabilities afterwards. Nothing else in the package knows how many approaches there are. Besides
those that are registered here, every pair of samplers is an approach by its name: `is_S` resamples
images, `fs_S` features and `ts_S_T` images with S and features with T.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.support.errors import InputError, require_known

FAMILIES = {
    "baseline": "no resampling",
    "image": "image space",
    "feature": "feature space",
    "two-stage": "two stages",
    "correction": "corrections",
    "other": "others",
}
"""Families of approaches and what a report calls them, in the order of a report."""

NAME = re.compile("[a-z0-9][a-z0-9_+-]*")
"""What a name may be: it is part of paths and commands."""


@dataclasses.dataclass(frozen=True)
class Stage1:
    """What a network is trained on. It is the network's identity: equal ones share networks."""

    sampler: str | None = None
    """Short name of the sampler of the training images (`resampling.registry`); None keeps all."""

    @property
    def stream(self) -> str:
        """What stands for it in the names of random streams; records depend on it."""
        return self.sampler or "none"


@dataclasses.dataclass(frozen=True)
class Stage2:
    """How the head is fine-tuned on the features of the original training images."""

    sampler: str | None = None
    """Short name of the sampler of the features; None keeps all."""


@dataclasses.dataclass(frozen=True)
class Style:
    """How charts draw an approach, in matplotlib's terms."""

    color: str
    marker: str
    line: str = "-"


@dataclasses.dataclass(frozen=True)
class Approach:
    """One recipe. `register` checks it."""

    name: str
    """In commands, paths of records and names of random streams."""
    title: str
    """In tables and charts."""
    family: str
    """One of `FAMILIES`."""
    stage1: Stage1 = Stage1()
    stage2: Stage2 | None = None
    """None: stage 1's head predicts."""
    correction: str | None = None
    """What is done to the probabilities, one of `corrections.CORRECTIONS`; None: nothing."""
    style: Style | None = None
    """None: the report gives out a color and a marker."""

    @property
    def is_plain(self) -> bool:
        """Whether it only trains a network on the images as they are."""
        return self.stage1 == Stage1() and self.stage2 is None and self.correction is None

    @property
    def recipe(self) -> tuple:
        """What a record depends on, without what is only shown."""
        return self.stage1, self.stage2, self.correction

    def to_json(self) -> dict:
        """The recipe in values that JSON can hold; the name stands outside."""
        fields = dataclasses.asdict(self)
        del fields["name"]
        return fields

    @classmethod
    def from_json(cls, name: str, fields: Mapping) -> "Approach":
        """The approach whose recipe `to_json` returned; fields that it lacks have their default.

        The recipe need not be possible here: its sampler may be registered elsewhere.

        Raises:
            InputError: the recipe has a field that this version does not know, or a damaged one.
        """
        parts = {"stage1": Stage1, "stage2": Stage2, "style": Style}
        values: dict[str, Any] = dict(fields)
        try:
            for part, kind in parts.items():
                if values.get(part) is not None:
                    values[part] = kind(**values[part])
            approach = cls(name, **values)
            samplers = [stage.sampler for stage in (approach.stage1, approach.stage2) if stage]
            optional = [*samplers, approach.correction]
            texts = [approach.title, approach.family, *filter(None, optional)]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a text is not one")
            if not isinstance(approach.stage1, Stage1) or not NAME.fullmatch(name):
                raise TypeError("it has no stage 1, or no possible name")
            return approach
        except TypeError as error:
            raise InputError(
                f"the recipe of approach '{name}' cannot be read ({error}); a newer version may "
                "have written it: use that version"
            ) from error


APPROACHES: dict[str, Approach] = {}
"""The registered approaches by name; pairs of samplers are not among them."""


def register(approach: Approach) -> Approach:
    """Adds an approach; registering an equal one again changes nothing. Returns it.

    Raises:
        InputError: the name is taken, or the recipe cannot be: an unknown sampler, correction or
            family, a family that resamples features without a stage 2, or a name that is not
            lowercase letters, digits and `_+-`.
    """
    _require_possible(approach)
    taken = APPROACHES.get(approach.name) or _pair(approach.name)
    if taken is not None and taken != approach:
        raise InputError(
            f"approach name '{approach.name}' is taken by {taken.title}; choose another name"
        )
    return APPROACHES.setdefault(approach.name, approach)


def _require_possible(approach: Approach) -> None:
    if not NAME.fullmatch(approach.name):
        raise InputError(
            f"approach name '{approach.name}' found, lowercase letters, digits and _+- expected; "
            "rename it"
        )
    require_known("family", approach.family, FAMILIES)
    for stage in (approach.stage1, approach.stage2):
        if stage is not None and stage.sampler is not None:
            require_known("sampler", stage.sampler, SAMPLERS)
    if approach.correction is not None:
        require_known("correction", approach.correction, CORRECTIONS)
    if approach.family in ("feature", "two-stage") and approach.stage2 is None:
        raise InputError(
            f"approach '{approach.name}' is of the family '{approach.family}', which resamples "
            "features, but has no stage 2; add stage2=Stage2(...) or name another family"
        )


def find(name: str) -> Approach:
    """The approach of a name: a registered one, or a pair of samplers.

    Raises:
        InputError: there is none; the message has the nearest valid names.
    """
    found = APPROACHES.get(name) or _pair(name)
    return found if found is not None else APPROACHES[require_known("approach", name, names())]


def names() -> list[str]:
    """All valid names, in the order of tables."""
    pairs = [f"{space}_{sampler}" for space in ("is", "fs") for sampler in SAMPLERS]
    pairs += [f"ts_{one}_{other}" for one in SAMPLERS for other in SAMPLERS]
    return sorted({*APPROACHES, *pairs}, key=position)


def position(name: str) -> tuple:
    """The sort key of a name in tables and in lists of records.

    The paper's approaches come first, then pairs of samplers, then all others by their names: the
    order does not depend on what else is registered.
    """
    if name in PAPER:
        return 0, PAPER.index(name)
    space, *samplers = name.split("_")
    order = list(SAMPLERS)
    if _pair(name) is not None:
        return 1, ("is", "fs", "ts").index(space), *map(order.index, samplers)
    return 2, name


def _pair(name: str) -> Approach | None:
    """The approach that a pair's name stands for; None where it is no such name."""
    space, *samplers = name.split("_")
    known = SAMPLERS.keys() >= {*samplers}
    if not known or len(samplers) != {"is": 1, "fs": 1, "ts": 2}.get(space):
        return None
    title = f"{space.upper()} {'+'.join(SAMPLERS[sampler].title for sampler in samplers)}"
    first, last = samplers[0], samplers[-1]
    match space:
        case "is":
            return Approach(name, title, "image", Stage1(first))
        case "fs":
            return Approach(name, title, "feature", stage2=Stage2(last))
        case _:
            return Approach(name, title, "two-stage", Stage1(first), Stage2(last))


PAPER = (
    "baseline",
    "is_rus",
    "is_ros",
    "is_smote",
    "fs_rus",
    "fs_ros",
    "fs_smote",
    "ts_smote_smote",
    "ts_smote_rus",
)
"""The nine names of the paper, in the order of its Table II; only the paper's tables use them."""

register(Approach("baseline", "Baseline", "baseline"))
register(Approach("post_prior", "Prior correction", "correction", correction="prior"))
