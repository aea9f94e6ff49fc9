"""Both stages of training, and what lies between: pure functions of one network or one head.

Stage 1 trains the whole network on interpolated images, stage 2 the head alone on interpolated
features; they differ in their loss and in the table that batches are gathered from.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
from twostage_jax.training.protocol import Protocol

_DTYPE = {"float32": jnp.float32, "tf32": jnp.float32, "bfloat16": jnp.bfloat16}
_PRODUCTS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
PRECISIONS = tuple(_DTYPE)


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


# Of parameters, statistics, table and batch: the mean loss, and (statistics, tally).
Loss = Callable[[nnx.State, nnx.State, Array, DevicePlan], tuple[Array, tuple[nnx.State, Tally]]]


def _score(logits: Float[Array, "b c"], batch: DevicePlan) -> tuple[Float[Array, ""], Tally]:
    """Mean cross-entropy over the samples of a batch, padding left out."""
    label = jnp.maximum(batch.label, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    total = jnp.sum(losses, where=batch.valid)
    correct = jnp.sum(jnp.argmax(logits, -1) == label, where=batch.valid, dtype=jnp.float32)
    return total / jnp.maximum(jnp.sum(batch.valid), 1), Tally(total, correct)


class Stages(NamedTuple):
    """The functions of both stages for one protocol; each for one network, to be lifted.

    Attributes:
        init_network: (key) -> state of a randomly initialised network.
        init_head: (key) -> parameters of a randomly initialised head.
        start_head: (parameters of a head) -> state of stage 2.
        train_network: (state, tally, images, batches, start, stop) -> state, tally; runs the
            steps from start to stop, which are run-time values, of an epoch.
        train_head: the same with a table of features in place of the images.
        extract: (state of a network, images, rows, steps) -> features.
        predict: (parameters of a head, features) -> class probabilities.
        represent: (parameters of a head, features) -> activations of its hidden layer.
    """

    init_network: Callable
    init_head: Callable
    start_head: Callable
    train_network: Callable
    train_head: Callable
    extract: Callable
    predict: Callable
    represent: Callable


def make_stages(protocol: Protocol, classes: int, forms: Forms = Forms()) -> Stages:  # noqa: B008
    """Builds the functions of both stages for `classes` classes."""
    optimizer = optax.rmsprop(
        protocol.learning_rate,
        decay=protocol.decay,
        eps=protocol.epsilon,
        eps_in_sqrt=protocol.epsilon_in_root,
    )

    backbone = find_backbone("mobilenet_v1")

    def new_network(key) -> Network:
        return backbone.build(
            classes,
            protocol.width,
            momentum=protocol.bn_momentum,
            dtype=_DTYPE[protocol.precision],
            forms=forms,
            rngs=nnx.Rngs(params=key),
        )

    network = nnx.graphdef(nnx.eval_shape(lambda: new_network(jax.random.key(0))))
    head = nnx.graphdef(nnx.eval_shape(lambda: new_network(jax.random.key(0)).head))

    def init_network(key) -> TrainState:
        _, params, stats = nnx.split(new_network(key), nnx.Param, nnx.BatchStat)
        return TrainState(params, stats, optimizer.init(params))

    def init_head(key) -> nnx.State:
        return init_network(key).params["head"]

    def start_head(params: nnx.State) -> TrainState:
        return TrainState(params, nnx.State({}), optimizer.init(params))

    def network_loss(params, stats, images, batch):
        model: Network = nnx.merge(network, params, stats, copy=True)
        loss, tally = _score(model(batch.gather(images), batch.valid), batch)
        return loss, (nnx.state(model, nnx.BatchStat), tally)

    def head_loss(params, stats, features, batch):
        model: Head = nnx.merge(head, params)
        loss, tally = _score(model(batch.gather(features)), batch)
        return loss, (stats, tally)

    def extract(state, images, rows, steps):
        model: Network = nnx.merge(network, state.params, state.stats)

        def add_batch(step, table):
            batch = model.features(images[rows[step]].astype(jnp.float32))
            return jax.lax.dynamic_update_index_in_dim(table, batch, step, 0)

        width = model.feature_size
        table = jnp.zeros((*rows.shape, width), jnp.float32)
        return jax.lax.fori_loop(0, steps, add_batch, table).reshape(-1, width)

    def predict(params, features):
        return jax.nn.softmax(nnx.merge(head, params)(features))

    def represent(params, features):
        return nnx.merge(head, params).represent(features)

    def at_precision(function):
        def traced(*arguments):
            with jax.default_matmul_precision(_PRODUCTS[protocol.precision]):
                return function(*arguments)

        return traced

    return Stages(
        init_network,
        init_head,
        start_head,
        at_precision(partial(_train_steps, network_loss, optimizer)),
        at_precision(partial(_train_steps, head_loss, optimizer)),
        at_precision(extract),
        at_precision(predict),
        at_precision(represent),
    )


def _train_steps(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    tally: Tally,
    table: UInt8[Array, "n h w c"] | Float[Array, "n f"],
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
        updates, moments = optimizer.update(grads, state.optimizer)
        moved = TrainState(optax.apply_updates(state.params, updates), stats, moments)
        # A member whose epoch is over waits for the others of its group unchanged.
        active = jnp.any(batch.valid)
        state = jax.tree.map(lambda new, old: jnp.where(active, new, old), moved, state)
        return state, jax.tree.map(jnp.add, tally, scored)

    return jax.lax.fori_loop(start, stop, train_step, (state, tally))
