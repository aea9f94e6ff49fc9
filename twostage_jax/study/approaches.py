"""The registry of approaches: an approach is data, and anybody may add one.

A recipe says what stage 1 trains on and what it minimizes, what stage 2 does with the head, and
what is done to the probabilities afterwards. Nothing else in the package knows how many approaches
there are. Besides those that are registered (`study.methods` lists ours), every pair of samplers is
an approach by its name: `is_S` resamples images, `fs_S` features and `ts_S_T` images with S and
features with T. Any of them may be followed by a correction: `fs_enn+prior`.
"""

import dataclasses
from collections.abc import Sequence

from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.study.methods import METHODS
from twostage_jax.study.recipe import (
    FAMILIES,
    NAME,
    Approach,
    Stage1,
    Stage2,
    Style,
    require_possible,
    require_prior,
)
from twostage_jax.support.errors import InputError, require_known

__all__ = [
    "FAMILIES",
    "NAME",
    "Approach",
    "Stage1",
    "Stage2",
    "Style",
]

APPROACHES: dict[str, Approach] = {}
"""The registered approaches by name; pairs of samplers are not among them."""


def register(approach: Approach) -> Approach:
    """Adds an approach; registering an equal one again changes nothing. Returns it.

    Raises:
        InputError: the name is taken, or the recipe cannot be (`recipe.require_possible`).
    """
    require_possible(approach)
    if approach.name in _WORDS:
        raise InputError(
            f"approach name '{approach.name}' stands for several approaches; choose another name"
        )
    taken = APPROACHES.get(approach.name) or _pair(approach.name)
    if taken is not None and taken != approach:
        raise InputError(
            f"approach name '{approach.name}' is taken by {taken.title}; choose another name"
        )
    return APPROACHES.setdefault(approach.name, approach)


def find(name: str) -> Approach:
    """The approach of a name: a registered one or a pair of samplers, perhaps with a correction.

    Raises:
        InputError: there is none, and the message has the nearest valid names; or the approach
            already has a correction, or cannot have one.
    """
    base, plus, correction = name.partition("+")
    found = APPROACHES.get(base) or _pair(base)
    if found is None:
        require_known("approach", base, names())
        raise AssertionError("the names that are known were looked up before")
    if not plus:
        return found
    require_known("correction", correction, CORRECTIONS)
    if found.correction is not None:
        raise InputError(
            f"approach '{name}' found, but '{base}' already corrects its probabilities "
            f"({found.correction}); name '{base}' alone"
        )
    title = f"{found.title} + {correction}"
    corrected = dataclasses.replace(
        found, name=name, title=title, family="correction", correction=correction, style=None
    )
    require_prior(corrected)
    return corrected


_WORDS = {"paper", "all", *FAMILIES} - {"baseline"}
"""What stands for several approaches in a list, see `choose`. The baseline is a family of one."""


def names() -> list[str]:
    """All valid names, in the order of tables."""
    pairs = [f"{space}_{sampler}" for space in ("is", "fs") for sampler in SAMPLERS]
    pairs += [f"ts_{one}_{other}" for one in SAMPLERS for other in SAMPLERS]
    return sorted({*APPROACHES, *pairs}, key=position)


def position(name: str) -> tuple:
    """The sort key of a name in tables and in lists of records.

    The paper's approaches come first, then pairs of samplers, then all others by their names: the
    order does not depend on what else is registered. A corrected one follows the one that it
    corrects.
    """
    base, _, correction = name.partition("+")
    if base in PAPER:
        return 0, PAPER.index(base), correction
    space, *samplers = base.split("_")
    order = list(SAMPLERS)
    if _pair(base) is not None:
        return 1, ("is", "fs", "ts").index(space), *map(order.index, samplers), correction
    return 2, base, correction


def choose(wanted: Sequence[str]) -> tuple[Approach, ...]:
    """The approaches that a list names, each once, in the order of the list.

    Args:
        wanted: names of approaches; `paper` for the paper's nine, `all` for these and all that are
            registered, or a key of `FAMILIES` for those of `all` that belong to it.

    Raises:
        InputError: a name is unknown.
    """
    found: dict[str, None] = {}
    for name in wanted:
        if name == "paper":
            found |= dict.fromkeys(PAPER)
        elif name == "all":
            found |= dict.fromkeys(listed())
        elif name in FAMILIES and name not in APPROACHES:
            found |= dict.fromkeys(own for own in listed() if find(own).family == name)
        else:
            found[name] = None
    return tuple(map(find, found))


def listed() -> list[str]:
    """The names that `all` stands for: the paper's, those registered, and RBU on features."""
    return sorted({*PAPER, "fs_rbu", *APPROACHES}, key=position)


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

for _approach in (Approach("baseline", "Baseline", "baseline"), *METHODS):
    register(_approach)
