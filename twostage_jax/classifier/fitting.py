"""Fitting one model: the study's plans, programs and streams, on all samples that there are."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, Float64, Int32, Int64, Shaped

from twostage_jax.classifier.recipe import Recipe
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import ORIGINAL, Partition, PartitionKey
from twostage_jax.models.weights import Weights
from twostage_jax.resampling.plan import Plan
from twostage_jax.study.approaches import Approach, Stage2
from twostage_jax.study.plans import Plans
from twostage_jax.study.stage2 import tune_heads
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive
from twostage_jax.training.objective import require_counts
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.trainer import Advance, Progress, Trained, Trainer

# The name of the random streams: those of the first split of a study of the data as they are, so
# that a model fitted on its training images is that study's.
_KEY = PartitionKey(ORIGINAL, 1.0, 0)

# Called with the stage (1 or 2), the epoch (from 0) and the number of epochs, when one is done.
OnEpoch = Callable[[int, int, int], None]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Fitted:
    """What training leaves, and all that prediction needs."""

    protocol: Protocol
    arrays: Mapping[str, np.ndarray]
    """Parameters and running statistics, float32 by name, such as `head.output.kernel`."""
    feature_size: int
    """Features per sample."""
    image_shape: tuple[int, int, int] | None
    """Height, width and channels of the images; None for a head on features."""
    classes: int
    """Number of classes."""
    learned: Float64[np.ndarray, " classes"] | None
    """Class frequencies under which the probabilities hold before they are corrected, see
    `Approach.learned_prior`."""
    cosine_scale: float | None
    """What a cosine classifier multiplies its cosines by; None for any other head."""
    correction: str | None
    """As `Approach.correction`."""
    curves: Mapping[str, Float32[np.ndarray, "epochs 2"]]
    """By stage: mean training loss (nats) and training accuracy of each epoch."""

    @property
    def history(self) -> dict[str, dict[str, list[float]]]:
        """The curves by stage, as lists of `loss` and of `accuracy`."""
        return {
            stage: {"loss": curve[:, 0].tolist(), "accuracy": curve[:, 1].tolist()}
            for stage, curve in self.curves.items()
        }

    @property
    def prior(self) -> Float64[np.ndarray, " classes"] | None:
        """Class frequencies under which the probabilities hold, once corrected."""
        if self.correction is not None:  # the only one there is gives equal frequencies
            return np.full(self.classes, 1 / self.classes)
        return self.learned


class _Schedule(NamedTuple):
    """Counts samples into epochs."""

    stage: int
    samples: int
    epochs: int
    on_epoch: OnEpoch

    def progress(self) -> Progress:
        done = 0

        def advance(event: Advance) -> None:
            nonlocal done
            before, done = done // self.samples, done + event.images
            for epoch in range(before, done // self.samples):
                self.on_epoch(self.stage, epoch, self.epochs)

        return advance


def fit_images(
    image_set: ImageSet,
    protocol: Protocol,
    recipe: Recipe,
    weights: Weights | None,
    on_epoch: OnEpoch = lambda *_: None,
) -> Fitted:
    """Fits a network, and where the recipe has a stage 2, its head again, on all images.

    Args:
        image_set: the images.
        protocol: how to train.
        recipe: what to train on.
        weights: what the network starts from; None for random weights.
        on_epoch: is told of every epoch that is done.

    Raises:
        InputError: a sampler cannot decide on these classes or features, or training diverged.
    """
    approach = recipe.approach
    plans = Plans(
        image_set,
        protocol,
        partition=partial(_everything, len(image_set)),
        make=partial(_make, recipe, protocol),
    )
    _require_classes(recipe, protocol, np.array(image_set.class_names)[image_set.labels])
    trainer = Trainer(protocol, image_set.class_counts, image_set.images, weights)
    plan, stream = plans.of_images(_KEY, approach.stage1), plans.stream(_KEY, approach.stage1)
    schedule = _Schedule(1, len(plan), protocol.epochs, on_epoch)
    trained = trainer.train_networks(
        [plan],
        [stream],
        None,
        schedule.progress(),
        objective=approach.stage1.objective,
        mixing=approach.stage1.mixing,
    )
    curves = {"stage1": trained.curves[0]}
    _require_finite(curves)
    arrays = _flat(trained.state.params) | _flat(trained.state.stats)
    if approach.stage2 is not None:
        rows = np.arange(len(image_set), dtype=np.int32)
        features = trainer.extract(trained.state, [rows])
        own = np.asarray(features[0, : len(rows)])
        if not np.isfinite(own).all():
            raise _diverged("the features are not finite")
        plan = _decided(lambda: plans.of_features(_KEY, approach, own)).of_rows(rows)
        head = _fit_head(trainer, protocol, plans, recipe, trained, features, plan, on_epoch)
        curves["stage2"] = head.curves[0]
        arrays |= {f"head.{name}": array for name, array in _flat(head.state.params).items()}
    return Fitted(
        protocol=protocol,
        arrays=_require_finite(arrays),
        feature_size=_feature_size(arrays),
        image_shape=image_set.images.shape[1:],
        **_predicting(approach, np.bincount(plan.label, minlength=image_set.num_classes)),
        curves=_require_finite(curves),
    )


def fit_features(
    features: Float32[np.ndarray, "n f"],
    labels: Int32[np.ndarray, " n"],
    class_names: Sequence[str],
    protocol: Protocol,
    recipe: Recipe,
    on_epoch: OnEpoch = lambda *_: None,
) -> Fitted:
    """Fits a head on features that come from elsewhere: stage 2 alone.

    Args:
        features: of each sample.
        labels: class of each sample, from 0; every class has one.
        class_names: what messages call the classes.
        protocol: how to train.
        recipe: only its stage 2 counts.
        on_epoch: is told of every epoch that is done.

    Raises:
        InputError: as `fit_images`.
    """
    approach = recipe.approach
    counts = np.bincount(labels)
    stream = partial(derive, protocol.seed, *_KEY, approach.stage1.stream, approach.base_name)
    stage2 = approach.stage2 or Stage2()
    name = stage2.sampler
    if name is None:
        plan = Plan.of_all(labels)
    else:
        _require_classes(recipe, protocol, np.array(class_names)[labels], stages=(2,))
        sampler = _make(recipe, protocol, name, 2, stream("plan"))
        plan = _decided(lambda: sampler.plan(features, labels))
    plan = plan.of_rows(np.arange(len(features)))
    left = np.bincount(plan.label, minlength=len(counts))
    require_counts(stage2.functions, left, class_names, "these features")
    trainer = Trainer(protocol, counts, feature_size=features.shape[1])
    schedule = _Schedule(2, len(plan), protocol.epochs_of_heads, on_epoch)
    room = -len(features) % protocol.batch_size  # as many rows as sizes of programs allow
    table = jnp.asarray(np.pad(features, ((0, room), (0, 0)))[None])
    head = tune_heads(trainer, None, [0], table, [plan], [stream], stage2, schedule.progress())
    curves = {"stage2": head.curves[0]}
    arrays = {f"head.{own}": array for own, array in _flat(head.state.params).items()}
    return Fitted(
        protocol=protocol,
        arrays=_require_finite(arrays),
        feature_size=features.shape[1],
        image_shape=None,
        **_predicting(approach, np.bincount(plan.label, minlength=len(counts))),
        curves=_require_finite(curves),
    )


def _predicting(approach: Approach, counts: Int64[np.ndarray, " classes"]) -> dict[str, Any]:
    """What predictions depend on, for an approach and the samples of each class it saw."""
    return {
        "classes": len(counts),
        "learned": approach.learned_prior(counts),
        "cosine_scale": approach.head_objective.cosine_scale,
        "correction": approach.correction,
    }


def _everything(samples: int, key: PartitionKey) -> Partition:
    rows = np.arange(samples, dtype=np.int32)
    return Partition(key, rows, rows[:0], np.zeros(0, bool))


def _require_classes(
    recipe: Recipe,
    protocol: Protocol,
    names: Shaped[np.ndarray, " n"],
    stages: Sequence[int] = (1, 2),
) -> None:
    """Checks before the work that no class (`names`: of each sample) is too small."""
    approach = recipe.approach
    for number, stage in enumerate((approach.stage1, approach.stage2), start=1):
        if number not in stages or stage is None or stage.sampler is None:
            continue
        try:
            _make(recipe, protocol, stage.sampler, number, 0).require_classes(names)
        except InputError as error:
            raise InputError(f"{approach.title}: {error}") from error


def _make(recipe: Recipe, protocol: Protocol, name: str, stage: int, seed: int) -> Any:
    return recipe.make(name, stage, seed, protocol.k_neighbors)


def _fit_head(
    trainer: Trainer,
    protocol: Protocol,
    plans: Plans,
    recipe: Recipe,
    networks: Trained,
    features,
    plan: Plan,
    on_epoch: OnEpoch,
) -> Trained:
    approach = recipe.approach
    assert approach.stage2 is not None, "an approach without stage 2 has no head to fit"
    schedule = _Schedule(2, len(plan), protocol.epochs_of_heads, on_epoch)
    stream = plans.stream(_KEY, approach.stage1, approach.base_name)
    own, stage2, progress = networks.state, approach.stage2, schedule.progress()
    return tune_heads(trainer, own, [0], features, [plan], [stream], stage2, progress)


def _decided(decide: Callable[[], Plan]) -> Plan:
    """A plan on features, or in one line why there is none."""
    try:
        return decide()
    except InputError:
        raise
    except RuntimeError as error:  # ADASYN's
        raise InputError(
            f"stage 2 has no samples to train on: {str(error).splitlines()[0]}; choose another "
            "feature_sampler"
        ) from error


def _flat(state: nnx.State) -> dict[str, np.ndarray]:
    """The arrays of the only network or head of a state, by name."""
    return {
        ".".join(map(str, path)): np.asarray(leaf[...])[0]
        for path, leaf in nnx.to_flat_state(state)
    }


def _feature_size(arrays: Mapping[str, np.ndarray]) -> int:
    return arrays["head.hidden.kernel"].shape[0]


def _require_finite(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise _diverged(f"{name} is not finite")
    return arrays


def _diverged(reason: str) -> InputError:
    return InputError(f"training diverged ({reason}); lower learning_rate")
