"""Running a group of networks: from plans to records, without a look at the study's folder."""

import dataclasses
import platform
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from twostage_jax import __version__
from twostage_jax.resampling.plan import Plan
from twostage_jax.study.approaches import Approach, Stage2
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.study.figure_data import FigureFeatures, project_features
from twostage_jax.study.jobs import Group, Network
from twostage_jax.study.plans import Plans
from twostage_jax.study.record import Record, RecordKey, failed_record, known_prior
from twostage_jax.study.stage2 import tune_heads
from twostage_jax.training.trainer import Progress, Trained, Trainer

_VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "scikit-learn")


def versions() -> dict[str, str]:
    """The versions of what records depend on, as installed here."""
    found = {name: version(name) for name in _VERSIONED}
    return found | {"python": platform.python_version(), "twostage_jax": __version__}


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
        approaches: with a stage 2; they differ in what is done to the probabilities afterwards.
        plan: on rows of its network's features.
    """

    member: int
    approaches: tuple[Approach, ...]
    plan: Plan

    @property
    def stage2(self) -> Stage2:
        """How it is tuned, by a sampler or none: the sampler's part is in the plan."""
        stage2 = self.approaches[0].stage2
        assert stage2 is not None, "approaches of a head have one"
        return dataclasses.replace(stage2, sampler=None)


class Tuned(NamedTuple):
    """What a head's stage 2 leaves for its record."""

    probabilities: Float32[np.ndarray, "rows classes"]
    curve: Float32[np.ndarray, "epochs 2"]
    seconds: float
    features: int
    counts: Int[np.ndarray, " classes"]


def run_group(
    trainer: Trainer,
    plans: Plans,
    group: Group,
    checkpoints: Path | None,
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
        checkpoints: folder for the checkpoints of this group; training resumes from the last. None
            writes none.
        provenance: for the records.
        shown: the record whose features a report is to show; None for none.
        progress: is told how far training is.

    Raises:
        OSError: a checkpoint cannot be written or read.
        JaxRuntimeError: the device has too little memory.
    """
    networks = _train_networks(trainer, plans, group, checkpoints, progress)
    make_record = partial(_record, plans, provenance, networks)
    records = [
        make_record(member, approach)
        for member, network in enumerate(group)
        for approach in network.approaches
        if approach.stage2 is None
    ]
    heads = []
    for member, network in enumerate(group):
        for sharing in _sharing_heads(network):
            head, reason = _plan_head(plans, networks, member, sharing)
            if head is None:
                records += [make_record(member, own, reason=reason) for own in sharing]
            else:
                heads.append(head)
    features = None
    for stage2 in dict.fromkeys(head.stage2 for head in heads):
        alike = [head for head in heads if head.stage2 == stage2]
        trained = _tune_heads(trainer, plans, networks, stage2, alike)
        probabilities = trainer.predict(
            trained.state.params, networks.features[np.array([head.member for head in alike])]
        )
        for i, head in enumerate(alike):
            counts = np.bincount(head.plan.label, minlength=plans.image_set.num_classes)
            seconds, samples = trained.seconds / len(alike), len(head.plan)
            tuned = Tuned(probabilities[i], trained.curves[i], seconds, samples, counts)
            records += [make_record(head.member, own, tuned) for own in head.approaches]
        features = features or _shown_features(
            trainer, plans, networks, alike, trained, shown, provenance
        )
    return GroupResult(records, features)


def failed_group(plans: Plans, group: Group, provenance: Provenance, reason: str) -> GroupResult:
    """What a group leaves that cannot be run: a failed record of every approach."""
    common = vars(provenance)
    records = [
        failed_record(key, reason, class_counts=plans.class_counts(network.partition), **common)
        for network in group
        for key in network.keys
    ]
    return GroupResult(records)


def _sharing_heads(network: Network) -> list[tuple[Approach, ...]]:
    """The approaches of a network that have a stage 2; those that share a head together."""
    sharing: dict[str, list[Approach]] = {}
    for approach in network.approaches:
        if approach.stage2 is not None:
            sharing.setdefault(approach.base_name, []).append(approach)
    return [tuple(own) for own in sharing.values()]


def _train_networks(
    trainer: Trainer, plans: Plans, group: Group, checkpoints: Path | None, progress: Progress
) -> Networks:
    """Stage 1, and what the networks make of the images that are needed later."""
    objective = group[0].stage1.objective  # equal for the group, see `jobs.make_groups`
    trained = trainer.train_networks(
        [plans.of_images(network.partition, network.stage1) for network in group],
        [plans.stream(network.partition, network.stage1) for network in group],
        checkpoints,
        progress,
        objective=objective,
        mixing=group[0].stage1.mixing,
    )
    started = perf_counter()
    features = trainer.extract(trained.state, [_feature_rows(plans, net) for net in group])
    probabilities = trainer.predict(trained.state.params["head"], features, objective)
    seconds = {
        "stage1": trained.seconds / len(group),
        "features": (perf_counter() - started) / len(group),
    }
    return Networks(group, trained, features, probabilities, seconds)


def _feature_rows(plans: Plans, network: Network) -> Int[np.ndarray, " n"]:
    """The images whose features are needed; those of the test fold, which all need, come first."""
    partition = plans.partition(network.partition)
    if all(approach.stage2 is None for approach in network.approaches):
        return partition.test
    return np.concatenate([partition.test, partition.train])


def _plan_head(
    plans: Plans, networks: Networks, member: int, approaches: tuple[Approach, ...]
) -> tuple[Head | None, str]:
    """The head of some approaches; or None, and why it cannot be trained."""
    network = networks.group[member]
    partition = plans.partition(network.partition)
    rows = len(partition.test) + np.arange(len(partition.train))
    features = np.asarray(networks.features[member, rows])
    if not np.isfinite(features).all():
        return None, "the features are not finite"
    try:
        plan = plans.of_features(network.partition, approaches[0], features)
    except (ValueError, RuntimeError) as error:  # what a sampler cannot decide
        return None, f"stage 2 has no samples to train on: {str(error).splitlines()[0]}"
    return Head(member, approaches, plan.of_rows(rows)), ""


def _tune_heads(
    trainer: Trainer, plans: Plans, networks: Networks, stage2: Stage2, heads: Sequence[Head]
) -> Trained:
    """Stage 2, all heads that are tuned alike at once."""
    of_head = [networks.group[head.member] for head in heads]
    streams = [
        plans.stream(network.partition, network.stage1, head.approaches[0].base_name)
        for network, head in zip(of_head, heads, strict=True)
    ]
    members, own = [head.member for head in heads], [head.plan for head in heads]
    return tune_heads(
        trainer, networks.trained.state, members, networks.features, own, streams, stage2
    )


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
    keys = [[networks.group[head.member].key(own) for own in head.approaches] for head in heads]
    position = next((i for i, own in enumerate(keys) if shown in own), None)
    if shown is None or position is None:
        return None
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


def _record(
    plans: Plans,
    provenance: Provenance,
    networks: Networks,
    member: int,
    approach: Approach,
    tuned: Tuned | None = None,
    reason: str = "",
) -> Record:
    """The record of an approach: with its head's stage 2 (`tuned`), or why that failed."""
    network, curve1 = networks.group[member], networks.trained.curves[member]
    partition = plans.partition(network.partition)
    counts = plans.class_counts(network.partition)
    common = {"class_counts": counts, **vars(provenance)}
    curve2 = tuned.curve if tuned else np.zeros((0, 2), np.float32)
    probabilities = tuned.probabilities if tuned else networks.probabilities[member]
    probabilities = probabilities[: len(partition.test)]
    prior = approach.learned_prior(tuned.counts if tuned else np.array(network.counts))
    reason = _divergence(1, curve1) or _divergence(2, curve2) or reason
    if not reason and not np.isfinite(probabilities).all():
        reason = "the predictions are not finite"  # the last step diverged: no loss shows it
    if reason:
        return failed_record(network.key(approach), reason, **common)
    protocol = plans.protocol
    record = Record(
        key=network.key(approach),
        status="done",
        reason="",
        test_index=partition.test,
        label=plans.image_set.labels[partition.test],
        kept=partition.kept,
        probabilities=probabilities,
        prior=np.zeros(0) if prior is None else prior,
        curve1=curve1,
        curve2=curve2,
        seconds=networks.seconds | {"stage2": tuned.seconds if tuned else 0.0},
        images={
            "stage1": protocol.epochs * network.images,
            "stage2": len(tuned.curve) * tuned.features if tuned else 0,
        },
        **common,
    )
    return record if approach.correction is None else correct(record, approach)


def correct(record: Record, approach: Approach) -> Record:
    """The record of an approach that corrects the probabilities of another one's.

    Args:
        record: of the approach that is corrected.
        approach: of the same stages, with a correction.
    """
    prior = known_prior(record, dataclasses.replace(approach, correction=None))
    assert approach.correction is not None, "the caller asks for one"
    assert prior is not None, "see recipe.require_prior"
    made = CORRECTIONS[approach.correction](record.probabilities, prior)
    key = dataclasses.replace(record.key, approach=approach.name)
    equal = np.full(len(prior), 1 / len(prior))
    return dataclasses.replace(record, key=key, probabilities=made, prior=equal)
