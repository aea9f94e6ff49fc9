"""Recipes: what an approach is made of, as data."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from twostage_jax.resampling.mixing import MIXINGS
from twostage_jax.resampling.registry import SAMPLERS, from_recorded, to_recorded
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.training.objective import (
    CROSS_ENTROPY,
    DEFERRED_BETA,
    LOSSES,
    Call,
    Counts,
    Entry,
    Frequencies,
    Objective,
    as_they_are,
    require_call,
)

FAMILIES = {
    "baseline": "no resampling",
    "image": "image space",
    "feature": "feature space",
    "two-stage": "two stages",
    "loss": "losses",
    "mixing": "mixing",
    "head": "heads",
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
    loss: Call = CROSS_ENTROPY
    """What is minimized, one of `objective.LOSSES`."""
    deferred: bool = False
    """Weigh the classes in the last fifth of the epochs (`Objective.deferred`)."""
    mixing: Call | None = None
    """How images are mixed, one of `mixing.MIXINGS`; None: not at all. Synthetic images of a
    sampler cannot be mixed."""

    @property
    def stream(self) -> str:
        """What stands for it in the names of random streams; records depend on it.

        Networks that differ in what they minimize or mix start from the same head and see the same
        batches, so that chance does not tell them apart.
        """
        return self.sampler or "none"

    @property
    def objective(self) -> Objective:
        """What its program minimizes."""
        return Objective(self.loss, self.deferred, mixed=self.mixing is not None)

    @property
    def functions(self) -> list[Entry]:
        """The losses and mixings that it uses."""
        mixing = [] if self.mixing is None else [MIXINGS[self.mixing.name]]
        return [LOSSES[self.loss.name], *mixing, *_DEFERRED[: self.deferred]]

    @property
    def has_cosine_head(self) -> bool:
        """Whether its loss takes cosines: then the head's last layer is a cosine classifier."""
        return self.loss.name in LOSSES and self.objective.cosine_scale is not None

    @property
    def title(self) -> str:
        """For people: `SMOTE`, `LDAM loss, deferred weights` or, where it is plain, `plain`."""
        parts = [] if self.sampler is None else [_title(SAMPLERS, self.sampler)]
        if self.loss != CROSS_ENTROPY:
            parts.append(_title(LOSSES, self.loss.name))
        if self.mixing is not None:
            parts.append(_title(MIXINGS, self.mixing.name))
        if self.deferred:
            parts.append("deferred weights")
        return ", ".join(parts) or "plain"


_DEFERRED = [LOSSES["class_balanced"]]


def _title(registry: Mapping[str, Any], name: str) -> str:
    """The title of a name; the name itself where it is registered elsewhere."""
    return registry[name].title if name in registry else name


LEARNED = {
    "head": "all parameters of the head",
    "scales": "one scale per class, on top of stage 1's head",
    "tau": "one exponent of the norms of stage 1's class weights",
    "class_means": "the mean of each class in the hidden layer of stage 1's head",
}
"""What stage 2 may learn. The first two are trained by gradients, the others computed."""


@dataclasses.dataclass(frozen=True)
class Stage2:
    """How the head is fine-tuned on the features of the original training images."""

    sampler: str | None = None
    """Short name of the sampler of the features; None keeps all."""
    learns: str = "head"
    """One of `LEARNED`."""
    loss: Call = CROSS_ENTROPY
    """What is minimized, one of `objective.LOSSES` that takes class scores."""
    fresh: bool = False
    """Begin with a new head, whatever the protocol says, and not with stage 1's."""
    balanced_batches: bool = False
    """Draw samples anew per epoch: a class first, then one of its samples."""

    @property
    def objective(self) -> Objective:
        """What its program minimizes."""
        return Objective(self.loss, scales=self.learns == "scales")

    @property
    def functions(self) -> list[Entry]:
        """The losses that it uses."""
        return [LOSSES[self.loss.name]]

    @property
    def is_trained(self) -> bool:
        """Whether gradients are followed."""
        return self.learns in ("head", "scales")


@dataclasses.dataclass(frozen=True)
class Style:
    """How charts draw an approach, in matplotlib's terms."""

    color: str
    marker: str
    line: str = "-"


@dataclasses.dataclass(frozen=True)
class Approach:
    """One recipe. `require_possible` checks it."""

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
    about: str = ""
    """What it does, in one line of a list; a study's folder does not keep it."""
    source: str = ""
    """Where it comes from: author and year; likewise."""

    @property
    def is_plain(self) -> bool:
        """Whether it only trains a network on the images as they are."""
        return self.stage1 == Stage1() and self.stage2 is None and self.correction is None

    @property
    def recipe(self) -> tuple:
        """What a record depends on, without what is only shown."""
        return self.stage1, self.stage2, self.correction

    @property
    def head_objective(self) -> Objective:
        """That of the head which predicts: it may be a cosine classifier."""
        return self.stage1.objective if self.stage2 is None else self.stage2.objective

    @property
    def base_name(self) -> str:
        """Name of the approach that it corrects; its own name where it corrects none."""
        return self.name.removesuffix(f"+{self.correction}")

    def learned_prior(self, counts: Counts) -> Frequencies | None:
        """Class frequencies under which the probabilities hold, before any correction.

        A sampler, a loss or a way of drawing batches that favors rare classes changes them: heads
        on balanced samples learn equal ones. None where they are not known: scales and norms of
        class weights, margins and smoothed labels change probabilities in other ways.

        Args:
            counts: samples of each class in an epoch of the last stage; a class without any counts
                as one with a single sample.
        """
        seen = np.maximum(counts, 1)
        own, equal = as_they_are(seen), np.full(len(seen), 1 / len(seen))
        stage1, stage2 = self.stage1, self.stage2
        if stage2 is not None and stage2.learns == "class_means":
            return equal
        if stage2 is not None and stage2.learns != "head":
            return None
        calls = [(LOSSES, stage1.loss if stage2 is None else stage2.loss)]
        if stage2 is None and stage1.mixing is not None:
            calls.append((MIXINGS, stage1.mixing))
        if stage2 is None and stage1.deferred:
            calls.append((LOSSES, Call.of("class_balanced", beta=DEFERRED_BETA)))
        # Each changes the weight of the classes by a factor, as training multiplies them.
        prior = equal if stage2 is not None and stage2.balanced_batches else own
        for registry, call in calls:
            learned = registry[call.name].learned(seen, **dict(call.parameters))
            if learned is None:
                return None
            prior = prior * learned / own
        return prior / prior.sum()

    def to_json(self) -> dict:
        """The recipe in values that JSON can hold; the name stands outside.

        Fields of stages that are younger than the first folders are there only where they are not
        the default: the file stays that of earlier versions where it says nothing new.
        """
        fields = dataclasses.asdict(self)
        for name in ("name", "about", "source"):
            del fields[name]
        for part in ("stage1", "stage2"):
            stage = getattr(self, part)
            if stage is not None:
                fields[part] = _stage_to_json(stage)
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
                    own = dict(values[part])
                    if isinstance(own.get("sampler"), str):
                        own["sampler"] = from_recorded(own["sampler"])
                    for field in _CALLS & own.keys():
                        own[field] = Call.from_json(own[field])
                    values[part] = kind(**own)
            approach = cls(name, **values)
            samplers = [stage.sampler for stage in (approach.stage1, approach.stage2) if stage]
            optional = [*samplers, approach.correction]
            texts = [approach.title, approach.family, *filter(None, optional)]
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a text is not one")
            if not isinstance(approach.stage1, Stage1) or not NAME.fullmatch(name):
                raise TypeError("it has no stage 1, or no possible name")
            return approach
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(
                f"the recipe of approach '{name}' cannot be read ({error}); a newer version may "
                "have written it: use that version"
            ) from error


_CALLS = {"loss", "mixing"}


def _stage_to_json(stage: Stage1 | Stage2) -> dict:
    fields = {}
    for field in dataclasses.fields(stage):
        value = getattr(stage, field.name)
        if field.name == "sampler" or value != field.default:
            fields[field.name] = value.to_json() if isinstance(value, Call) else value
    if stage.sampler is not None:
        fields["sampler"] = to_recorded(stage.sampler)
    return fields


def require_possible(approach: Approach) -> None:
    """Checks a recipe.

    Raises:
        InputError: an unknown sampler, loss, mixing, correction or family, a parameter out of its
            range, parts that exclude each other, a family that works on features without a stage
            2, or a name that is not lowercase letters, digits and `_-`.
    """
    name, stage1, stage2 = approach.name, approach.stage1, approach.stage2
    if not NAME.fullmatch(name) or "+" in name:
        raise InputError(
            f"approach name '{name}' found, lowercase letters, digits and _- expected (a + begins "
            "a correction); rename it"
        )
    require_known("family", approach.family, FAMILIES)
    for stage in (stage1, stage2):
        if stage is not None:
            if stage.sampler is not None:
                require_known("sampler", stage.sampler, SAMPLERS)
            require_call("loss", stage.loss, LOSSES)
    if stage1.mixing is not None:
        require_call("mixing", stage1.mixing, MIXINGS)
    if stage2 is not None:
        _require_stage2(name, stage1, stage2)
    if approach.correction is not None:
        require_known("correction", approach.correction, CORRECTIONS)
        require_prior(approach)
    if approach.family in ("feature", "two-stage", "head") and stage2 is None:
        raise InputError(
            f"approach '{name}' is of the family '{approach.family}', which works on "
            "features, but has no stage 2; add stage2=Stage2(...) or name another family"
        )


def _require_stage2(name: str, stage1: Stage1, stage2: Stage2) -> None:
    require_known("value of learns", stage2.learns, LEARNED)
    if stage2.objective.cosine_scale is not None:
        raise InputError(
            f"stage 2 of approach '{name}' minimizes {stage2.loss}, which needs a cosine "
            "classifier; only stage 1 trains one: choose another loss"
        )
    if not stage2.is_trained and stage2 != Stage2(learns=stage2.learns):
        raise InputError(
            f"stage 2 of approach '{name}' computes {LEARNED[stage2.learns]} from all features; "
            "sampler, loss, fresh and balanced_batches have no meaning there: leave them out"
        )
    if stage2.learns == "scales" and stage2.fresh:
        raise InputError(
            f"stage 2 of approach '{name}' scales stage 1's head, but asks for a fresh one; leave "
            "out fresh=True"
        )
    if stage1.has_cosine_head and stage2.learns != "head":
        raise InputError(
            f"stage 1 of approach '{name}' trains a cosine classifier, and stage 2 learns "
            f"'{stage2.learns}' of class scores; use learns='head'"
        )


def require_prior(approach: Approach) -> None:
    """Checks that it is known under which class frequencies the probabilities hold.

    Raises:
        InputError: it is not, so that there is nothing to correct.
    """
    if approach.learned_prior(np.ones(2)) is None:
        raise InputError(
            f"approach '{approach.name}' cannot be corrected: it is not known which class "
            "frequencies it learns; leave out the correction"
        )
