"""Running a group of networks: from plans to records, without a look at the study's folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from twostage_jax.resampling.plan import Plan
from twostage_jax.study.approaches import Approach
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.study.figure_data import FigureFeatures, project_features
from twostage_jax.study.jobs import Group, Network
from twostage_jax.study.plans import Plans
from twostage_jax.study.record import Record, RecordKey, failed_record
from twostage_jax.training.trainer import Progress, Trained, Trainer

_NO_CURVE = np.zeros((0, 2), np.float32)


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What all records of a run have in common."""

    settings: dict
    settings_hash: str
    versions: dict[str, str]
    device: str


class GroupResult(NamedTuple):
    """What a group leaves.

    Attributes:
        records: one per approach of each network, done or failed.
        features: what a report shows of one of them, where it was asked for.
    """

    records: list[Record]
    features: FigureFeatures | None = None


class Outcome(NamedTuple):
    """What became of one approach of one network, before it is a record.

    Attributes:
        network: of the group.
        approach: of the network.
        probabilities: of the test fold, before any correction; none where it failed.
        curve1: of stage 1.
        curve2: of stage 2; no rows without one.
        seconds: of wall time by phase.
        features: rows per epoch of stage 2.
        reason: why it failed; empty where it did not.
    """

    network: Network
    approach: Approach
    probabilities: Float32[np.ndarray, "test classes"]
    curve1: Float32[np.ndarray, "epochs 2"]
    curve2: Float32[np.ndarray, "epochs2 2"]
    seconds: dict[str, float]
    features: int = 0
    reason: str = ""


class Networks(NamedTuple):
    """The networks of a group after stage 1.

    Attributes:
        group: which they are.
        trained: their states and curves.
        features: of the test fold, then, where a head needs them, of the training images.
        probabilities: that they predict from these features.
        seconds: of wall time per network, by phase.
    """

    group: Group
    trained: Trained
    features: Float[Array, "members rows f"]
    probabilities: Float32[np.ndarray, "members rows classes"]
    seconds: dict[str, float]


class Head(NamedTuple):
    """A head to fine-tune.

    Attributes:
        member: position of its network in the group.
        approach: with a stage 2.
        plan: on rows of its network's features.
    """

    member: int
    approach: Approach
    plan: Plan


def run_group(
    trainer: Trainer,
    plans: Plans,
    group: Group,
    checkpoints: Path,
    provenance: Provenance,
    *,
    shown: RecordKey | None = None,
    progress: Progress = lambda _: None,
) -> GroupResult:
    """Trains the networks of a group and the heads on them, and predicts their test folds.

    It is a function of its arguments. Apart from the checkpoints of training in flight it reads
    and writes no file.

    Args:
        trainer: the compiled programs.
        plans: of the same image set and protocol.
        group: networks that train at once.
        checkpoints: folder for the checkpoints of this group; training resumes from the last.
        provenance: for the records.
        shown: the record whose features a report is to show; None for none.
        progress: is told how far training is.

    Raises:
        OSError: a checkpoint cannot be written or read.
        JaxRuntimeError: the device has too little memory.
    """
    networks = _train_networks(trainer, plans, group, checkpoints, progress)
    outcomes = [
        Outcome(
            network,
            approach,
            networks.probabilities[member],
            networks.trained.curves[member],
            _NO_CURVE,
            networks.seconds,
        )
        for member, network in enumerate(group)
        for approach in network.approaches
        if approach.stage2 is None
    ]
    heads, failed = _plan_heads(plans, networks)
    features = None
    if heads:
        tuned = _train_heads(trainer, plans, networks, heads)
        outcomes += _predict_heads(trainer, networks, heads, tuned)
        features = _shown_features(trainer, plans, networks, heads, tuned, shown, provenance)
    records = [_record(plans, provenance, outcome) for outcome in outcomes + failed]
    return GroupResult(records, features)


def _train_networks(
    trainer: Trainer, plans: Plans, group: Group, checkpoints: Path, progress: Progress
) -> Networks:
    """Stage 1, and what the networks make of the images that are needed later."""
    trained = trainer.train_networks(
        [plans.of_images(network.partition, network.stage1) for network in group],
        [plans.stream(network.partition, network.stage1) for network in group],
        checkpoints,
        progress,
    )
    started = perf_counter()
    features = trainer.extract(trained.state, [_feature_rows(plans, net) for net in group])
    probabilities = trainer.predict(trained.state.params["head"], features)
    seconds = {
        "stage1": trained.seconds / len(group),
        "features": (perf_counter() - started) / len(group),
        "stage2": 0.0,
    }
    return Networks(group, trained, features, probabilities, seconds)


def _feature_rows(plans: Plans, network: Network) -> Int[np.ndarray, " n"]:
    """The images whose features are needed; those of the test fold, which all need, come first."""
    partition = plans.partition(network.partition)
    if all(approach.stage2 is None for approach in network.approaches):
        return partition.test
    return np.concatenate([partition.test, partition.train])


def _plan_heads(plans: Plans, networks: Networks) -> tuple[list[Head], list[Outcome]]:
    """The heads that can be trained, and those that cannot, with the reason."""
    heads, failed = [], []
    for member, network in enumerate(networks.group):
        partition = plans.partition(network.partition)
        rows = len(partition.test) + np.arange(len(partition.train))
        curve = networks.trained.curves[member]
        for approach in network.approaches:
            if approach.stage2 is None:
                continue
            reason = _divergence(1, curve)
            features = np.asarray(networks.features[member, rows])
            if not reason and not np.isfinite(features).all():
                reason = "the features are not finite"
            if not reason:
                try:
                    plan = plans.of_features(network.partition, approach, features)
                    heads.append(Head(member, approach, plan.of_rows(rows)))
                except (ValueError, RuntimeError) as error:  # what a sampler cannot decide
                    reason = f"stage 2 has no samples to train on: {str(error).splitlines()[0]}"
            if reason:
                probabilities = networks.probabilities[member]
                failed.append(
                    Outcome(network, approach, probabilities, curve, _NO_CURVE, {}, reason=reason)
                )
    return heads, failed


def _train_heads(
    trainer: Trainer, plans: Plans, networks: Networks, heads: Sequence[Head]
) -> Trained:
    """Stage 2, all heads at once."""
    of_head = [networks.group[head.member] for head in heads]
    return trainer.train_heads(
        networks.trained.state,
        [head.member for head in heads],
        networks.features,
        [head.plan for head in heads],
        [
            plans.stream(network.partition, network.stage1, head.approach.name)
            for network, head in zip(of_head, heads, strict=True)
        ],
    )


def _predict_heads(
    trainer: Trainer, networks: Networks, heads: Sequence[Head], tuned: Trained
) -> list[Outcome]:
    members = np.array([head.member for head in heads])
    probabilities = trainer.predict(tuned.state.params, networks.features[members])
    seconds = networks.seconds | {"stage2": tuned.seconds / len(heads)}
    return [
        Outcome(
            networks.group[head.member],
            head.approach,
            probabilities[i],
            networks.trained.curves[head.member],
            tuned.curves[i],
            seconds,
            len(head.plan),
        )
        for i, head in enumerate(heads)
    ]


def _shown_features(
    trainer: Trainer,
    plans: Plans,
    networks: Networks,
    heads: Sequence[Head],
    tuned: Trained,
    shown: RecordKey | None,
    provenance: Provenance,
) -> FigureFeatures | None:
    """What the hidden layer makes of the test images, with the heads before and after stage 2.

    None where the record to show is not of this group, or the activations are not finite.
    """
    keys = [networks.group[head.member].key(head.approach) for head in heads]
    if shown is None or shown not in keys:
        return None
    position = keys.index(shown)
    member = heads[position].member
    partition = plans.partition(networks.group[member].partition)
    test = networks.features[member][None, : len(partition.test)]

    def represent(params, index: int) -> Float32[np.ndarray, "test hidden"]:
        head = jax.tree.map(lambda leaf: leaf[index][None], params)
        return trainer.represent(head, test)[0]

    before = represent(networks.trained.state.params["head"], member)
    after = represent(tuned.state.params, position)
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return None
    label = plans.image_set.labels[partition.test]
    return project_features(
        shown, provenance.settings_hash, before, after, label=label, kept=partition.kept
    )


def _divergence(stage: int, curve: Float32[np.ndarray, "epochs 2"]) -> str:
    """Why a stage failed; empty if it did not."""
    finite = np.isfinite(curve).all(axis=1)
    if finite.all():
        return ""
    return f"the loss of stage {stage} is not finite in epoch {1 + finite.argmin()}"


def _record(plans: Plans, provenance: Provenance, outcome: Outcome) -> Record:
    network, approach = outcome.network, outcome.approach
    partition = plans.partition(network.partition)
    test = partition.test
    probabilities = outcome.probabilities[: len(test)]
    counts = plans.class_counts(network.partition)
    common = {"class_counts": counts, **vars(provenance)}
    reason = outcome.reason or _divergence(1, outcome.curve1) or _divergence(2, outcome.curve2)
    if not reason and not np.isfinite(probabilities).all():
        reason = "the predictions are not finite"  # the last step diverged: no loss shows it
    if reason:
        return failed_record(network.key(approach), reason, **common)
    if approach.correction is not None:
        probabilities = CORRECTIONS[approach.correction](probabilities, counts)
    epochs = plans.protocol.epochs
    return Record(
        key=network.key(approach),
        status="done",
        reason="",
        test_index=test,
        label=plans.image_set.labels[test],
        kept=partition.kept,
        probabilities=probabilities,
        curve1=outcome.curve1,
        curve2=outcome.curve2,
        seconds=outcome.seconds,
        images={"stage1": epochs * network.images, "stage2": epochs * outcome.features},
        **common,
    )
