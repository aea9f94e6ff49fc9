"""Both stages of training: against plain NumPy and Keras, and what lifting must not change."""

import os

os.environ["KERAS_BACKEND"] = "jax"

from functools import cache, partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from flax import nnx
from tiny_network import TINY

from twostage_jax.models.mobilenet_v1 import MobileNet
from twostage_jax.resampling.plan import DevicePlan, Plan, epoch_batches
from twostage_jax.training.lifting import Lifted
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages, Tally, TrainState

pytestmark = pytest.mark.integration

CLASSES, SIZE, BATCH, STEPS = 3, 64, 4, 4
ROWS = (16, 11, 7)  # of each member's plan: 4 steps, 3 with a partial one, 2 with a partial one
PROTOCOL = Protocol(width=0.25, batch_size=BATCH, learning_rate=1e-3, epsilon=1e-2)
# Heads alone are tested on few features: those of a network of one channel.
HEAD = Protocol(width=1 / 32, batch_size=BATCH, learning_rate=1e-3)
FEATURES = 32


def make_batches(rows=ROWS, table_rows: int = 20, steps: int = STEPS) -> DevicePlan:
    """An epoch of random plans, interpolated samples among them, with a member axis."""
    rng = np.random.default_rng(3)

    def plan(count):
        base, neighbor = rng.integers(0, table_rows, (2, count))
        step = np.where(rng.random(count) < 0.5, rng.random(count), 0)
        return Plan(base, np.where(step == 0, base, neighbor), step, np.arange(count) % CLASSES)

    cut = [epoch_batches(plan(count), BATCH, steps, seed) for seed, count in enumerate(rows)]
    return jax.tree.map(lambda *columns: np.stack(columns), *cut)


def no_tally(members: int = len(ROWS)) -> Tally:
    return Tally(np.zeros(members, np.float32), np.zeros(members, np.float32))


def of(tree, member: int):
    return jax.tree.map(lambda leaf: leaf[member], tree)


def to_host(tree):
    """Copies, which survive that the originals are donated."""
    return jax.tree.map(np.array, tree)


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, to_host(a), to_host(b))


def assert_moved_alike(before, after, expected):
    """Within 1 % of each parameter's step: batch norm of a few samples amplifies rounding."""
    for old, a, b in zip(*map(jax.tree.leaves, (before, after, expected)), strict=True):
        assert np.linalg.norm(a - b) <= 1e-2 * np.linalg.norm(b - old)


# --- The head: against NumPy and Keras ---


def random_heads(members: int, seed: int = 0) -> nnx.State:
    shapes = jax.eval_shape(Stages(HEAD, CLASSES).init_head, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.1, (members, *leaf.shape)).astype(np.float32), shapes
    )


def plain(params: nnx.State) -> dict[str, np.ndarray]:
    """Float64 arrays by name."""
    return {
        f"{layer}.{name}": np.asarray(params[layer][name][...], np.float64)
        for layer in ("hidden", "output")
        for name in ("kernel", "bias")
    }


def head_gradient(params: dict, x: np.ndarray, label: np.ndarray) -> tuple[dict, float, int]:
    """Of the mean cross-entropy, by hand; and the summed loss and the number of hits."""
    before = x @ params["hidden.kernel"] + params["hidden.bias"]
    hidden = np.maximum(before, 0)
    logits = hidden @ params["output.kernel"] + params["output.bias"]
    exp = np.exp(logits - logits.max(1, keepdims=True))
    probability = exp / exp.sum(1, keepdims=True)
    loss = -np.log(probability[np.arange(len(label)), label]).sum()
    d_logits = (probability - np.eye(logits.shape[1])[label]) / len(label)
    d_before = (d_logits @ params["output.kernel"].T) * (before > 0)
    gradient = {
        "hidden.kernel": x.T @ d_before,
        "hidden.bias": d_before.sum(0),
        "output.kernel": hidden.T @ d_logits,
        "output.bias": d_logits.sum(0),
    }
    return gradient, loss, int((logits.argmax(1) == label).sum())


def plain_rmsprop(protocol: Protocol):
    """Keras 2's: epsilon outside the root."""
    square = {}

    def update(params, gradient):
        for name, g in gradient.items():
            square[name] = protocol.decay * square.get(name, 0) + (1 - protocol.decay) * g**2
            step = protocol.learning_rate * g / (np.sqrt(square[name]) + protocol.epsilon)
            params[name] = params[name] - step

    return update


def keras_rmsprop(protocol: Protocol):
    """Keras 3's: epsilon inside the root."""
    optimizer = keras.optimizers.RMSprop(
        protocol.learning_rate, rho=protocol.decay, epsilon=protocol.epsilon
    )
    variables = {}

    def update(params, gradient):
        if not variables:
            variables.update({name: keras.Variable(value) for name, value in params.items()})
        grads = [jnp.asarray(gradient[name], jnp.float32) for name in variables]
        optimizer.apply(grads, list(variables.values()))
        params.update(
            {name: np.asarray(value.value, np.float64) for name, value in variables.items()}
        )

    return update


def reference_epoch(
    params: nnx.State, table, batches: DevicePlan, update
) -> tuple[dict, float, int]:
    """An epoch without padding, without JAX."""
    params, losses, hits = plain(params), 0.0, 0
    for step in range(len(batches.label)):
        kept = batches.label[step] >= 0
        if not kept.any():
            continue
        base, neighbor, fraction, label = (column[step][kept] for column in batches[:4])
        start = table[base].astype(np.float64)
        x = start + fraction[:, None] * (table[neighbor] - start)
        gradient, loss, correct = head_gradient(params, x, label)
        update(params, gradient)
        losses, hits = losses + loss, hits + correct
    return params, losses, hits


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.abs(np.random.default_rng(4).normal(size=(20, FEATURES))).astype(np.float32)


@cache
def head_programs(protocol: Protocol, sequential: bool) -> tuple:
    stages = Stages(protocol, CLASSES)
    program = Lifted(stages.train_head, sequential=sequential)
    return jax.jit(jax.vmap(stages.start_head)), program


def train_head(protocol, params, features, batches, stop=STEPS, sequential=False):
    start, program = head_programs(protocol, sequential)
    return program(start(params), no_tally(len(batches.label)), features, batches, 0, stop)


@pytest.mark.parametrize("epsilon", [1e-7, 1e-2])
@pytest.mark.parametrize(("in_root", "rule"), [(False, plain_rmsprop), (True, keras_rmsprop)])
def test_head_follows_the_reference(features, in_root, rule, epsilon):
    """Every member: parameters after an epoch, summed loss and hits."""
    protocol = Protocol(
        width=1 / 32, learning_rate=1e-3, epsilon=epsilon, epsilon_in_root=in_root, decay=0.8
    )
    heads, batches = random_heads(len(ROWS)), make_batches()
    state, tally = train_head(protocol, heads, features, batches)
    for member in range(len(ROWS)):
        expected, loss, hits = reference_epoch(
            of(heads, member), features, of(batches, member), rule(protocol)
        )
        found = plain(of(state.params, member))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=0, atol=2e-6, err_msg=name)
        np.testing.assert_allclose(tally.loss[member], loss, rtol=1e-5)
        assert tally.correct[member] == hits


def test_where_epsilon_stands_matters(features):
    """Else the tests above could not tell."""
    heads, batches = random_heads(1), make_batches(ROWS[:1])
    outside = plain(of(train_head(HEAD, heads, features, batches)[0].params, 0))
    inside = Protocol(**vars(HEAD) | {"epsilon_in_root": True})
    inside = plain(of(train_head(inside, heads, features, batches)[0].params, 0))
    assert max(np.abs(outside[name] - inside[name]).max() for name in inside) > 1e-3


@pytest.mark.parametrize("sequential", [False, True])
def test_heads_share_a_table(features, sequential):
    """Lifted heads get what each gets alone: bit for bit one after another, else nearly."""
    heads, batches = random_heads(3), make_batches()
    state, tally = train_head(HEAD, heads, features, batches, sequential=sequential)
    for member in range(3):
        own = jax.tree.map(lambda leaf, i=member: leaf[i : i + 1], (heads, batches))
        alone, own_tally = train_head(HEAD, own[0], features, own[1], sequential=sequential)
        found = of((state, tally), member)
        if sequential:
            assert_same(found, of((alone, own_tally), 0))
        for a, b in zip(*map(jax.tree.leaves, (found, of((alone, own_tally), 0))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_padding_of_a_head_batch_counts_for_nothing(features):
    """Whatever a row of padding says; and as if the batch were shorter."""
    heads, batches = random_heads(1), make_batches((3,), steps=1)
    expected = train_head(HEAD, heads, features, batches, stop=1)
    row = (0, 0, 3)
    loud = to_host(batches)
    loud.base[row], loud.neighbor[row], loud.step[row] = 7, 11, 0.5
    assert_same(train_head(HEAD, heads, features, loud, stop=1), expected)
    cut = jax.tree.map(lambda column: column[..., :3], batches)
    for a, b in zip(
        *map(jax.tree.leaves, (train_head(HEAD, heads, features, cut, stop=1), expected)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_predictions(features):
    heads = random_heads(2)
    predict = Lifted(Stages(HEAD, CLASSES).predict, sequential=False)
    found = predict(heads, np.stack([features, features[::-1]]))
    assert found.shape == (2, 20, CLASSES)
    params = plain(of(heads, 1))
    hidden = np.maximum(features[::-1] @ params["hidden.kernel"] + params["hidden.bias"], 0)
    logits = hidden @ params["output.kernel"] + params["output.bias"]
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found[1], expected, rtol=1e-4)


# --- The network ---


@pytest.fixture(scope="module")
def stages():
    return Stages(PROTOCOL, CLASSES)


@pytest.fixture(scope="module")
def sequential(stages) -> Lifted:
    return Lifted(stages.train_network, sequential=True)


@pytest.fixture(scope="module")
def vmapped(stages) -> Lifted:
    return Lifted(stages.train_network, sequential=False)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (20, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def networks(stages) -> TrainState:
    """States of three networks, on the host: a program that is given them may donate copies."""
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    shapes = jax.eval_shape(jax.vmap(stages.init_network), keys)
    rng = np.random.default_rng(6)

    def draw(path, leaf):
        values = np.zeros(leaf.shape) + ("var" in str(path) or "scale" in str(path))
        if len(leaf.shape) > 2:  # products and taps; biases and means start from 0
            fan_in = 9 if "depthwise'" in str(path) else leaf.shape[1]
            values = rng.normal(0, np.sqrt(2 / fan_in), leaf.shape)
        return values.astype(leaf.dtype)

    drawn = jax.tree_util.tree_map_with_path(draw, shapes)
    optimizer = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes.optimizer)
    return drawn._replace(optimizer=optimizer)


@pytest.fixture(scope="module")
def epoch(sequential, networks, images):
    """Of all members, one after another, in one call."""
    return to_host(sequential(networks, no_tally(), images, make_batches(), 0, STEPS))


def alone(tree, member: int):
    return jax.tree.map(lambda leaf: leaf[member : member + 1], tree)


@pytest.mark.parametrize("member", range(3))
def test_a_member_gets_what_it_gets_alone(sequential, networks, images, epoch, member):
    own, batches = alone(networks, member), alone(make_batches(), member)
    found = sequential(own, no_tally(1), images, batches, 0, STEPS)
    assert_same(found, alone(epoch, member))


@pytest.mark.parametrize("cuts", [(0, 2, 4), (0, 1, 2, 3, 4), (0, 3, 4)])
def test_where_an_epoch_is_cut_changes_nothing(sequential, networks, images, epoch, cuts):
    carry = networks, no_tally()
    for start, stop in pairwise(cuts):
        carry = sequential(*carry, images, make_batches(), start, stop)
    assert_same(carry, epoch)


def test_where_a_lifted_epoch_is_cut_changes_nothing(vmapped, networks, images):
    whole = to_host(vmapped(networks, no_tally(), images, make_batches(), 0, STEPS))
    carry = vmapped(networks, no_tally(), images, make_batches(), 0, 2)
    carry = vmapped(*carry, images, make_batches(), 2, STEPS)
    assert_same(carry, whole)


def test_lifted_members_get_nearly_what_they_get_alone(vmapped, sequential, networks, images):
    """To rounding, which the next steps would amplify."""
    batches = make_batches()
    state, tally = to_host(vmapped(networks, no_tally(), images, batches, 0, 1))
    expected, expected_tally = to_host(sequential(networks, no_tally(), images, batches, 0, 1))
    np.testing.assert_allclose(tally.loss, expected_tally.loss, rtol=1e-4)
    np.testing.assert_array_equal(tally.correct, expected_tally.correct)
    assert_moved_alike(networks.params, state.params, expected.params)


def test_a_member_whose_epoch_is_over_stays_as_it_is(vmapped, networks, images):
    """Bit for bit, while the others train on."""
    for member, steps in ((1, 3), (2, 2)):
        carry = to_host(vmapped(networks, no_tally(), images, make_batches(), 0, steps))
        after = to_host(vmapped(*carry, images, make_batches(), steps, STEPS))
        assert_same(of(after, member), of(carry, member))
        before, now = (each[0].params["head"]["hidden"]["kernel"][...] for each in (carry, after))
        assert (before[0] != now[0]).any()


def test_padding_of_a_network_batch_counts_for_nothing(sequential, networks, images, epoch):
    """Whatever a row of padding says."""
    batches = make_batches()
    padding = batches.label < 0
    assert padding.any()
    batches.base[padding], batches.neighbor[padding], batches.step[padding] = 7, 11, 0.5
    assert_same(sequential(networks, no_tally(), images, batches, 0, STEPS), epoch)


def test_one_step_of_a_network(stages, sequential, networks, images):
    """Against the definition: the gradient of the mean loss, RMSprop by hand, the tally."""
    model = nnx.eval_shape(lambda: MobileNet(CLASSES, 0.25, rngs=nnx.Rngs(0)))
    own, batches = jax.tree.map(jnp.asarray, of(networks, 2)), of(make_batches(), 2)
    base, neighbor, fraction, label = (column[1] for column in batches[:4])
    kept = label >= 0
    assert 0 < kept.sum() < BATCH
    x = images[base] + fraction[:, None, None, None] * (
        images[neighbor] - images[base].astype("f4")
    )

    @jax.jit
    @partial(jax.value_and_grad, has_aux=True)
    def gradient(params):
        network = nnx.merge(nnx.graphdef(model), params, own.stats, copy=True)
        logits = network(jnp.asarray(x, jnp.float32), jnp.asarray(kept))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
        return jnp.sum(losses * kept) / kept.sum(), (logits, nnx.state(network, nnx.BatchStat))

    (loss, (logits, stats)), grads = gradient(own.params)
    state, tally = sequential(
        alone(networks, 2), no_tally(1), images, alone(make_batches(), 2), 1, 2
    )
    np.testing.assert_allclose(tally.loss[0], loss * kept.sum(), rtol=1e-3)
    assert tally.correct[0] == (np.argmax(logits, -1) == label)[kept].sum()
    for a, b in zip(*map(jax.tree.leaves, (of(state.stats, 0), stats)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    def stepped(p, g):
        root = np.sqrt((1 - PROTOCOL.decay) * np.square(g))
        return p - PROTOCOL.learning_rate * g / (root + PROTOCOL.epsilon)

    assert_moved_alike(
        own.params, of(state.params, 0), jax.tree.map(stepped, own.params, to_host(grads))
    )


def test_one_program_serves_all(sequential, vmapped, networks, images):
    """Any start and stop, any plan, any table of the same size: nothing is compiled again."""
    for program in (sequential, vmapped):
        program(networks, no_tally(), images, make_batches(), 0, STEPS)
        compiled = program.compiled
        for start, stop in ((0, 1), (2, 4), (0, 0)):
            program(networks, no_tally(), 255 - images, make_batches((8, 8, 8)), start, stop)
        assert program.compiled == compiled


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_extracted_features(stages, networks, images, one_at_a_time):
    """Those of the network in inference mode, padding at the end."""
    extract = Lifted(stages.extract, sequential=one_at_a_time)
    rows = np.random.default_rng(7).integers(0, 20, (3, 5, BATCH), np.int32)
    found = np.asarray(extract(networks, images, rows, 2))
    assert found.shape == (3, 5 * BATCH, 256)
    assert not found[:, 2 * BATCH :].any()
    graph = nnx.graphdef(nnx.eval_shape(lambda: MobileNet(CLASSES, 0.25, rngs=nnx.Rngs(0))))
    infer = jax.jit(lambda p, s, x: nnx.merge(graph, p, s).features(x))
    for member in range(3):
        own = of(networks, member)
        x = images[rows[member, :2].ravel()].astype(np.float32)
        expected = infer(own.params, own.stats, x)
        np.testing.assert_allclose(found[member, : 2 * BATCH], expected, rtol=1e-3, atol=1e-4)
    extract(networks, images, rows, 5)
    assert extract.compiled == 1


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_memory_is_planned_from_shapes(features, one_at_a_time):
    """At least the arguments of all members; no array is made for it."""
    stages = Stages(HEAD, CLASSES)
    shapes = jax.eval_shape(jax.vmap(stages.start_head), random_heads(3))
    tally, batches = jax.eval_shape(lambda: (no_tally(), make_batches()))
    program = Lifted(stages.train_head, sequential=one_at_a_time)
    planned = program.memory(shapes, tally, features, batches, 0, 1)
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    assert state + features.nbytes < planned < 20 * (state + features.nbytes)


def test_the_momentum_of_the_protocol_reaches_the_network(images):
    """Running means start from 0: with 0.5, after a step, they are half of the batch's."""
    means = []
    for value in (0.5, 0.0):
        stages = Stages(Protocol(network=TINY, bn_momentum=value), CLASSES)
        program = Lifted(stages.train_network, sequential=True)
        own = jax.vmap(stages.init_network)(jax.random.split(jax.random.key(0), 1))
        batches = alone(make_batches(), 0)
        state, _ = program(own, no_tally(1), images, batches, 0, 1)
        means.append(np.asarray(state.stats["stem"]["norm"]["mean"][...]))
    np.testing.assert_allclose(means[0], 0.5 * means[1], rtol=1e-4, atol=1e-7)
    assert np.abs(means[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("precision", "product"),
    [("float32", "HIGHEST"), ("tf32", "HIGH"), ("bfloat16", "DEFAULT")],
)
def test_the_precision_of_the_protocol_reaches_the_products(features, precision, product):
    """In the program that the compiler gets, of the head that both stages share."""
    stages = Stages(Protocol(**vars(HEAD) | {"precision": precision}), CLASSES)
    heads = jax.eval_shape(jax.vmap(stages.start_head), random_heads(2))
    tally, batches = jax.eval_shape(lambda: (no_tally(2), make_batches(ROWS[:2])))
    lowered = Lifted(stages.train_head, sequential=False).program.lower(
        heads, tally, features, batches, 0, 1
    )
    products = [line for line in lowered.as_text().splitlines() if "dot_general" in line]
    assert len(products) >= 5
    assert all(f"precision = [{product}, {product}]" in line for line in products)


# --- Accelerators, from a machine without one ---


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(stages, platform):
    """The lifted programs of both stages."""

    def lower(program, *arguments):
        return jax.export.export(program, platforms=[platform])(*arguments).mlir_module()

    shape = jax.ShapeDtypeStruct
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 3))
    networks = jax.eval_shape(jax.vmap(stages.init_network), keys)
    heads = jax.eval_shape(jax.vmap(stages.start_head), networks.params["head"])
    tally, batches = jax.eval_shape(lambda: (no_tally(), make_batches()))
    images, table = shape((20, SIZE, SIZE, 3), jnp.uint8), shape((20, 256), jnp.float32)
    train_network, train_head, extract, predict = (
        Lifted(function, sequential=False).program
        for function in (stages.train_network, stages.train_head, stages.extract, stages.predict)
    )
    module = lower(train_network, networks, tally, images, batches, 0, 2)
    assert "stablehlo.dot_general" in module
    assert "stablehlo.convolution" not in module
    lower(train_head, heads, tally, table, batches, 0, 2)
    lower(extract, networks, images, shape((3, 5, BATCH), jnp.int32), 2)
    lower(predict, heads.params, shape((3, 20, 256), jnp.float32))
