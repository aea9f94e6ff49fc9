"""Approaches in words: what each does, where it comes from and what it trains."""

import dataclasses
from collections.abc import Iterable

from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import PAPER, Approach, Stage1, find
from twostage_jax.study.recipe import LEARNED
from twostage_jax.support.errors import InputError
from twostage_jax.training.objective import CROSS_ENTROPY, LOSSES

_SOURCES = {
    "smote": "Chawla et al. 2002",
    "borderline": "Han et al. 2005",
    "adasyn": "He et al. 2008",
    "nearmiss1": "Zhang and Mani 2003",
    "nearmiss2": "Zhang and Mani 2003",
    "nearmiss3": "Zhang and Mani 2003",
    "tomek": "Tomek 1976",
    "enn": "Wilson 1972",
    "rbu": "Koziarski 2020 (RBU)",
}
"""Of the samplers that somebody published; random ones are older than any paper on them."""


def count_trained(approaches: Iterable[Approach]) -> tuple[int, int]:
    """Returns how many networks and heads approaches train per partition.

    The network that the baseline trains is not counted. A corrected approach has the head of the
    one that it corrects.
    """
    approaches = list(approaches)
    networks = {approach.stage1 for approach in approaches} - {Stage1()}
    heads = {
        approach.base_name
        for approach in approaches
        if approach.stage2 is not None and approach.stage2.is_trained
    }
    return len(networks), len(heads)


def about(approach: Approach) -> str:
    """Returns what an approach does, in one line; its own text, or what its recipe says."""
    own = _registered(approach)
    text = own.about or _recipe(approach)
    if approach.correction is not None and (not own.about or approach.base_name != approach.name):
        text += "; then the probabilities divided by the class frequencies that were learned"
    return text


def _registered(approach: Approach) -> Approach:
    """The registered approach of the name and recipe; the folder of a study keeps no texts."""
    try:
        found = find(approach.name)
    except InputError:
        return approach
    return found if found.recipe == approach.recipe else approach


def _recipe(approach: Approach) -> str:
    stage1, stage2 = approach.stage1, approach.stage2
    images = "images as they are"
    if stage1 == Stage1(stage1.sampler) != Stage1():
        images = f"images resampled by {stage1.title}"
    elif stage1 != Stage1():
        images = f"images with {stage1.title}"
    if stage2 is None:
        return f"a network trained on {images}"
    head = "the head, retrained on" if stage2.learns == "head" else f"{LEARNED[stage2.learns]}, on"
    features = "features as they are"
    if stage2.sampler is not None:
        title = SAMPLERS[stage2.sampler].title if stage2.sampler in SAMPLERS else stage2.sampler
        features = f"features resampled by {title}"
    if stage2.loss != CROSS_ENTROPY:
        features += f" with {LOSSES[stage2.loss.name].title}"
    if stage2.balanced_batches:
        features += " in class-balanced batches"
    head = f"{head} {features}"
    return head if stage1 == Stage1() else f"a network trained on {images}, then {head}"


_CORRECTION = "Buda et al. 2018"


def source(approach: Approach) -> str:
    """Returns where an approach comes from: author and year, or `-`."""
    if approach.base_name != approach.name:
        base = dataclasses.replace(approach, name=approach.base_name, correction=None)
        return f"{source(base)}; {_CORRECTION}".removeprefix("-; ")
    if own := _registered(approach).source:
        return own
    if approach.name in PAPER:
        return "compared in Koziarski 2020"
    samplers = [stage.sampler for stage in (approach.stage1, approach.stage2) if stage is not None]
    known = dict.fromkeys(_SOURCES[name] for name in samplers if name in _SOURCES)
    return "; ".join(known) or "-"
