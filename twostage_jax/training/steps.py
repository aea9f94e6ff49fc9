"""Both stages of training, and what lies between: pure functions of one network or one head.

Stage 1 trains the whole network on interpolated images, stage 2 the head alone on interpolated
features. The two differ in their loss and in the table that batches are gathered from.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from twostage_jax.models.backbones import find_backbone
from twostage_jax.models.head import Head
from twostage_jax.models.layers import Forms
from twostage_jax.models.network import Network
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.lifting import over_members
from twostage_jax.training.losses import cross_entropy
from twostage_jax.training.protocol import Protocol

_DTYPE = {"float32": jnp.float32, "tf32": jnp.float32, "bfloat16": jnp.bfloat16}
_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


class TrainState(NamedTuple):
    """What a training step changes.

    Attributes:
        params: trained parameters.
        stats: running batch statistics; empty for a head.
        optimizer: state of RMSprop.
    """

    params: nnx.State
    stats: nnx.State
    optimizer: optax.OptState


class Tally(NamedTuple):
    """Sums over the samples trained on so far in an epoch, float32."""

    loss: Float[Array, "*members"]
    correct: Float[Array, "*members"]


# Takes parameters, statistics, table and batch; gives the mean loss, and (statistics, tally).
Loss = Callable[[nnx.State, nnx.State, Array, DevicePlan], tuple[Array, tuple[nnx.State, Tally]]]


def _score(logits: Float[Array, "b c"], batch: DevicePlan) -> tuple[Float[Array, ""], Tally]:
    """Mean loss over the samples of a batch without its padding, and the sums of the tally."""
    label = jnp.maximum(batch.label, 0)
    losses = cross_entropy(logits, label)
    total = jnp.sum(losses, where=batch.valid)
    correct = jnp.sum(jnp.argmax(logits, -1) == label, where=batch.valid, dtype=jnp.float32)
    return total / jnp.maximum(jnp.sum(batch.valid), 1), Tally(total, correct)


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
    """

    def __init__(
        self,
        protocol: Protocol,
        classes: int,
        forms: Forms | None = None,
        feature_size: int | None = None,
    ):
        """Nothing is computed yet.

        Args:
            protocol: how to train.
            classes: number of classes.
            forms: in which of several equivalent forms to compute; None for the fastest known.
            feature_size: number of features per sample where they come from elsewhere and only
                heads are trained; None for those of the protocol's network.
        """
        self.protocol = protocol
        self._classes = classes
        self._forms = forms or Forms()
        self._backbone = find_backbone(protocol.network)
        self._optimizer = optax.rmsprop(
            protocol.learning_rate,
            decay=protocol.decay,
            eps=protocol.epsilon,
            eps_in_sqrt=protocol.epsilon_in_root,
        )
        shapes = nnx.eval_shape(lambda: self._new_network(jax.random.key(0)))
        self._network = nnx.graphdef(shapes)
        self._foreign_features = feature_size
        self._head = nnx.graphdef(nnx.eval_shape(lambda: self._new_head(jax.random.key(0))))
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
        return TrainState(params, nnx.State({}), self._optimizer.init(params))

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
    ) -> tuple[TrainState, Tally]:
        """Stage 1: trains on the batches from `start` to `stop`, which are run-time values."""
        return self._train_steps(self._network_loss, state, tally, images, batches, start, stop)

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
    ) -> tuple[TrainState, Tally]:
        """Stage 2: the same on a table of features in place of the images."""
        return self._train_steps(self._head_loss, state, tally, features, batches, start, stop)

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
        model: Network = nnx.merge(self._network, state.params, state.stats)

        def add_batch(step, table):
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
        return jax.nn.softmax(nnx.merge(self._head, params)(features))

    @over_members()
    @_at_precision
    def represent(
        self, params: nnx.State, features: Float[Array, "n f"]
    ) -> Float[Array, "n hidden"]:
        """Activations of a head's hidden layer."""
        return nnx.merge(self._head, params).represent(features)

    def _network_loss(self, params, stats, images, batch):
        model: Network = nnx.merge(self._network, params, stats, copy=True)
        loss, tally = _score(model(batch.gather(images), batch.valid), batch)
        return loss, (nnx.state(model, nnx.BatchStat), tally)

    def _head_loss(self, params, stats, features, batch):
        model = nnx.merge(self._head, params)
        loss, tally = _score(model(batch.gather(features)), batch)
        return loss, (stats, tally)

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
