"""Both stages of training, and what lies between: pure functions of one network or one head.

Stage 1 trains the whole network on interpolated images, stage 2 the head alone on interpolated
features. The two differ in what learns and in the table that batches are gathered from.
"""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt8

from twostage_jax.models.backbones import find_backbone
from twostage_jax.models.forms import Forms, fastest_forms
from twostage_jax.models.head import Head
from twostage_jax.models.network import Network
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training import losses
from twostage_jax.training.lifting import over_members
from twostage_jax.training.objective import (
    DEFERRED_BETA,
    LOSSES,
    PLAIN,
    Call,
    Objective,
    require_call,
)
from twostage_jax.training.protocol import Protocol

_DTYPE = {"float32": jnp.float32, "tf32": jnp.float32, "bfloat16": jnp.bfloat16}
_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


SCALES_RATE = 0.01
"""Step size of scales, whatever the protocol's. RMSprop's steps hardly depend on gradients: the
paper's 1e-4 moves a scale, which starts at 1, by at most about 0.1 in a thousand steps."""


class TrainState(NamedTuple):
    """What a training step changes.

    Attributes:
        params: trained parameters; one scale per class where only these learn.
        stats: what changes without a gradient: running batch statistics. Of a head nothing; where
            only scales learn, the parameters of the head that stays.
        optimizer: state of RMSprop.
    """

    params: Any
    stats: nnx.State
    optimizer: optax.OptState


class Tally(NamedTuple):
    """Sums over the samples trained on so far in an epoch, float32."""

    loss: Float[Array, "*members"]
    correct: Float[Array, "*members"]


class ClassSizes(NamedTuple):
    """What losses may ask of the classes, besides a batch.

    Attributes:
        counts: samples of each class per epoch, float32.
        late: whether deferred weights count in this epoch.
    """

    counts: Float[Array, "*members classes"]
    late: Bool[Array, "*members"]


# Takes parameters, statistics, table and batch; gives the mean loss, and (statistics, tally).
Loss = Callable[[Any, nnx.State, Array, DevicePlan], tuple[Array, tuple[nnx.State, Tally]]]


def _find_loss(call: Call) -> Callable[..., Float[Array, " b"]]:
    """The function of a loss with its parameters: of scores, labels and class counts."""
    function = require_call("loss", call, LOSSES).function
    if isinstance(function, str):
        function = getattr(losses, function)
    return partial(function, **dict(call.parameters))


def _at_precision(method: Callable) -> Callable:
    """Traces a method of `Stages` with products of the protocol's precision."""

    @functools.wraps(method)
    def traced(self: "Stages", *arguments):
        with jax.default_matmul_precision(_PRODUCTS[self.protocol.precision]):
            return method(self, *arguments)

    return traced


class Stages:
    """The functions of both stages for one protocol, each written for one network or one head.

    `lifting.Lifted` runs them for many; which of their arguments all members share is part of
    their definition (`over_members`).

    Attributes:
        protocol: how to train.
        network_graph, head_graph: what makes a network or a head of a state (`nnx.merge`).
    """

    def __init__(
        self,
        protocol: Protocol,
        classes: int,
        forms: Forms | None = None,
        feature_size: int | None = None,
        objective: Objective = PLAIN,
    ):
        """Nothing is computed yet.

        Args:
            protocol: how to train.
            classes: number of classes.
            forms: in which of several equivalent forms to compute; None for the fastest of this
                process's platform.
            feature_size: number of features per sample where they come from elsewhere and only
                heads are trained; None for those of the protocol's network.
            objective: what training minimizes.
        """
        self._objective, self._on_cosines = objective, objective.cosine_scale is not None
        self._loss = _find_loss(objective.loss)
        self.protocol = protocol
        self._classes = classes
        self._forms = forms or fastest_forms(jax.default_backend())
        self._backbone = find_backbone(protocol.network)
        self._optimizer = optax.rmsprop(
            SCALES_RATE if objective.scales else protocol.learning_rate,
            decay=protocol.decay,
            eps=protocol.epsilon,
            eps_in_sqrt=protocol.epsilon_in_root,
        )
        shapes = nnx.eval_shape(lambda: self._new_network(jax.random.key(0)))
        self.network_graph = nnx.graphdef(shapes)
        self._foreign_features = feature_size
        self.head_graph = nnx.graphdef(nnx.eval_shape(lambda: self._new_head(jax.random.key(0))))
        self._feature_size = shapes.feature_size

    def _new_network(self, key) -> Network:
        return self._backbone.build(
            self._classes,
            self.protocol.width,
            momentum=self.protocol.bn_momentum,
            dtype=_DTYPE[self.protocol.precision],
            forms=self._forms,
            rngs=nnx.Rngs(params=key),
        )

    def _new_head(self, key) -> Head:
        if self._foreign_features is None:
            return self._new_network(key).head
        return Head(self._foreign_features, self._classes, nnx.Rngs(params=key))

    def init_network(self, key) -> TrainState:
        """The state of a randomly initialized network."""
        _, params, stats = nnx.split(self._new_network(key), nnx.Param, nnx.BatchStat)
        return TrainState(params, stats, self._optimizer.init(params))

    def init_head(self, key) -> nnx.State:
        """The parameters of a randomly initialized head."""
        return nnx.state(self._new_head(key), nnx.Param)

    def start_head(self, params: nnx.State) -> TrainState:
        """The state in which stage 2 begins, from the parameters of a head."""
        if self._objective.scales:
            scales = jnp.ones(self._classes)
            return TrainState(scales, params, self._optimizer.init(scales))
        return TrainState(params, nnx.State({}), self._optimizer.init(params))

    def end_head(self, state: TrainState) -> nnx.State:
        """The parameters of the head that stage 2 leaves."""
        if not self._objective.scales:
            return state.params
        scaled = nnx.merge(self.head_graph, state.stats, copy=True)
        scaled.output.kernel[...] *= state.params
        scaled.output.bias[...] *= state.params
        return nnx.state(scaled, nnx.Param)

    @over_members(shared=("images", "start", "stop"), donated=("state", "tally"))
    @_at_precision
    def train_network(
        self,
        state: TrainState,
        tally: Tally,
        images: UInt8[Array, "n h w c"],
        batches: DevicePlan,
        start: Int[Array, ""] | int,
        stop: Int[Array, ""] | int,
        sizes: ClassSizes | None = None,
    ) -> tuple[TrainState, Tally]:
        """Stage 1: trains on the batches from `start` to `stop`, which are run-time values.

        `sizes` is needed where the objective asks for them (`Objective.needs_sizes`).
        """
        loss = partial(self._network_loss, sizes)
        return self._train_steps(loss, state, tally, images, batches, start, stop)

    @over_members(shared=("features", "start", "stop"), donated=("state", "tally"))
    @_at_precision
    def train_head(
        self,
        state: TrainState,
        tally: Tally,
        features: Float[Array, "n f"],
        batches: DevicePlan,
        start: Int[Array, ""] | int,
        stop: Int[Array, ""] | int,
        sizes: ClassSizes | None = None,
    ) -> tuple[TrainState, Tally]:
        """Stage 2: the same on a table of features in place of the images."""
        loss = partial(self._head_loss, sizes)
        return self._train_steps(loss, state, tally, features, batches, start, stop)

    @over_members(shared=("images", "steps"))
    @_at_precision
    def extract(
        self,
        state: TrainState,
        images: UInt8[Array, "n h w c"],
        rows: Int[Array, "batches b"],
        steps: Int[Array, ""] | int,
    ) -> Float[Array, "rows f"]:
        """Features of rows of the images, batch norm in inference mode, of `steps` batches."""

        def add_batch(step, table):
            # Inside the loop: blocks that are computed again write what they read.
            model: Network = nnx.merge(self.network_graph, state.params, state.stats, copy=True)
            batch = model.features(images[rows[step]].astype(jnp.float32))
            return jax.lax.dynamic_update_index_in_dim(table, batch, step, 0)

        table = jnp.zeros((*rows.shape, self._feature_size), jnp.float32)
        return jax.lax.fori_loop(0, steps, add_batch, table).reshape(-1, self._feature_size)

    @over_members()
    @_at_precision
    def predict(
        self, params: nnx.State, features: Float[Array, "n f"]
    ) -> Float[Array, "n classes"]:
        """Class probabilities of a head."""
        head = nnx.merge(self.head_graph, params)
        if self._on_cosines:
            return jax.nn.softmax(self._objective.cosine_scale * head.cosines(features))
        return jax.nn.softmax(head(features))

    @over_members()
    @_at_precision
    def represent(
        self, params: nnx.State, features: Float[Array, "n f"]
    ) -> Float[Array, "n hidden"]:
        """Activations of a head's hidden layer."""
        return nnx.merge(self.head_graph, params).represent(features)

    def _network_loss(self, sizes, params, stats, images, batch):
        model: Network = nnx.merge(self.network_graph, params, stats, copy=True)
        scores = self._scores(model.head, model.features(batch.gather(images), batch.valid))
        loss, tally = self._score(scores, batch, sizes)
        return loss, (nnx.state(model, nnx.BatchStat), tally)

    def _head_loss(self, sizes, params, stats, features, batch):
        scales, own = (params, stats) if self._objective.scales else (1, params)
        scores = self._scores(nnx.merge(self.head_graph, own), batch.gather(features))
        loss, tally = self._score(scales * scores, batch, sizes)
        return loss, (stats, tally)

    def _scores(self, head: Head, features: Float[Array, "b f"]) -> Float[Array, "b classes"]:
        """What the loss takes: class scores, or cosines."""
        return head.cosines(features) if self._on_cosines else head(features)

    def _score(
        self, scores: Float[Array, "b classes"], batch: DevicePlan, sizes: ClassSizes | None
    ) -> tuple[Float[Array, ""], Tally]:
        """Mean loss over the samples of a batch without its padding, and the sums of the tally.

        The loss of a mixture is the mean of those with either label, by their weights; accuracy is
        weighted alike.
        """
        found = jnp.argmax(scores, -1)

        def with_label(label) -> tuple[Array, Array]:
            label = jnp.maximum(label, 0)
            own = self._loss(scores, label, sizes and sizes.counts)
            if self._objective.deferred:
                assert sizes is not None, "see Objective.needs_sizes"
                weights = losses.class_balanced_weights(sizes.counts, DEFERRED_BETA)
                own *= jnp.where(sizes.late, weights, 1)[label]
            return own, found == label

        loss, right = with_label(batch.label)
        if self._objective.mixed:
            assert batch.weight is not None, "a mixed objective comes with a mixing"
            loss, right = (
                (1 - batch.weight) * one + batch.weight * other
                for one, other in zip((loss, right), with_label(batch.other), strict=True)
            )
        total = jnp.sum(loss, where=batch.valid)
        correct = jnp.sum(right, where=batch.valid, dtype=jnp.float32)
        return total / jnp.maximum(jnp.sum(batch.valid), 1), Tally(total, correct)

    def _train_steps(
        self,
        loss: Loss,
        state: TrainState,
        tally: Tally,
        table: Array,
        batches: DevicePlan,
        start: Int[Array, ""] | int,
        stop: Int[Array, ""] | int,
    ) -> tuple[TrainState, Tally]:
        """Trains on the batches from `start` to `stop`, without leaving the device."""

        def train_step(step, carry):
            state, tally = carry
            batch = jax.tree.map(lambda column: column[step], batches)
            gradient = jax.value_and_grad(loss, has_aux=True)
            (_, (stats, scored)), grads = gradient(state.params, state.stats, table, batch)
            updates, moments = self._optimizer.update(grads, state.optimizer)
            params: Any = optax.apply_updates(state.params, updates)
            moved = TrainState(params, stats, moments)
            # A member whose epoch is over waits, unchanged, for the others of its group.
            active = jnp.any(batch.valid)
            state = jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state)
            return state, jax.tree.map(jnp.add, tally, scored)

        return jax.lax.fori_loop(start, stop, train_step, (state, tally))
