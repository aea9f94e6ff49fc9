"""Section part: learning curves of both stages, and the map of features around stage 2."""

from collections.abc import Mapping

import numpy as np

from twostage_jax.evaluation import paper
from twostage_jax.report import charts, pictures, training_charts
from twostage_jax.report.blocks import Block, Notice, Picture
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import Approach, Stage1
from twostage_jax.training.objective import CROSS_ENTROPY


def networks(approaches: Mapping[str, Approach]) -> dict[Stage1, str]:
    """Returns the approach that stands for each network in charts.

    It is the first in `approaches` that only trains the network, or else the first that uses it.
    """
    plain = [name for name, a in approaches.items() if a.stage2 is None and a.correction is None]
    # The first of each network comes last in this order, and stays.
    return {approaches[name].stage1: name for name in reversed([*plain, *approaches])}


def is_corrected_copy(approach: Approach, approaches: Mapping[str, Approach]) -> bool:
    """Says whether it only corrects what another one of `approaches` has trained."""
    return approach.base_name != approach.name and approach.base_name in approaches


def curves(results: Results) -> Picture:
    """Returns mean curves over all partitions; a network that approaches share is drawn once."""
    approaches = results.approaches
    shown = networks(approaches).values()
    stage1, stage2 = {}, {}
    for name, approach in approaches.items():
        records = [record for record in results.done if record.key.approach == name]
        if name in shown:
            stage1[name] = np.mean([record.curve1 for record in records], axis=0)
        heads = [record.curve2 for record in records if len(record.curve2)]
        if heads and not is_corrected_copy(approach, approaches):
            stage2[name] = np.mean(heads, axis=0)
    told = (
        "Training loss and accuracy of each epoch on the resampled data, means over all "
        f"{results.words.partition}s. Approaches that train on the same images share a network: "
        "stage 1 shows it once, as the first of them."
    )
    unit = "cross-entropy (nats)"
    if not all(map(_minimizes_cross_entropy, approaches.values())):
        unit = "loss"
        told += (
            " The loss is what each approach minimizes; kinds of losses cannot be compared with "
            "one another. An approach with another loss or with mixing has a network of its own."
        )
    drawn = training_charts.learning_curves(stage1, stage2, results.looks, unit)
    return Picture("learning-curves", "Learning curves of both stages", told, drawn)


def _minimizes_cross_entropy(approach: Approach) -> bool:
    stages = [approach.stage1, *([] if approach.stage2 is None else [approach.stage2])]
    return all(stage.loss == CROSS_ENTROPY for stage in stages) and approach.stage1.mixing is None


def feature_map(results: Results) -> Block:
    """Returns the map of features, or why there is none."""
    features = results.features
    absent = "The map of features before and after stage 2 is absent: "
    if features is None and any(len(record.curve2) for record in results.done):
        return Notice(
            f"{absent}this folder holds no features. They are saved when the group of the record "
            f"that the map shows is trained. It is a record with a stage 2, {_place(results)} "
            f"({results.title(paper.PROPOSED)} where the study has "
            "it). If that record is there already, delete it and run the study's command again to "
            "have the map."
        )
    if features is None:
        return Notice(f"{absent}no record with a stage 2 is there yet.")
    key = features.key
    where = f"{charts.title_of(key.scenario)}, ratio {key.ratio:g}, fold {key.fold}"
    where = f"{where}: the whole test fold ({len(features.label)} images)"
    if results.as_found:
        where = f"split {key.fold}: its {len(features.label)} test images"
    fresh = " Stage 2 started from a new head, so that its units are different ones."
    return Picture(
        "feature-map",
        "Features before and after stage 2",
        f"{results.title(key.approach)}, {where} as the head's hidden layer sees it (1,024 units "
        "after the ReLU). Stage 2 changes the head and not the features that it is trained on; "
        "this layer shows what changes. Both panels share one principal component analysis and "
        "therefore their axes."
        f"{fresh * results.settings['fresh_head']}{results.numbered_classes}",
        pictures.feature_map(features, results.class_labels),
    )


def _place(results: Results) -> str:
    if results.as_found:
        return "of the first split"
    return "at the highest ratio, of the first scenario and fold"
