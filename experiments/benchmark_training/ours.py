"""What this package does, with the functions that a study calls."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int, UInt8

from experiments.benchmark_training import paper
from experiments.benchmark_training.ablation import CHOICES, Choice, undone
from experiments.benchmark_training.cases import Job
from experiments.benchmark_training.flops import feature_width
from experiments.benchmark_training.work import Work
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.lifting import SEQUENTIAL, Lifted, replicate
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages, Tally, TrainState, make_stages

# The longest call. What is in the table of batches makes no difference to the program.
_STEPS = 2048


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Puts the data of a job on the device; nothing is compiled but the initialisation."""
    engine = job.engine
    protocol = Protocol(width=job.case.size.width, precision=engine.precision)
    choice = CHOICES[engine.choice] if engine.choice else Choice("")
    stages = make_stages(protocol, int(labels.max()) + 1, choice.forms)
    network = jax.jit(stages.init_network)(jax.random.key(protocol.seed))
    order = {"sequential": choice.sequential}
    match job.case.task:
        case "extraction":
            return _extraction(stages, network, engine.members, images, protocol, order)
        case "heads":
            networks = engine.members // paper.heads_of_network()
            table = _features(len(images) * networks, feature_width(protocol.width))
            own_labels = np.tile(labels, networks)
            state = jax.jit(stages.start_head)(network.params["head"])
            function, share = stages.train_head, paper.rows_of_head()
        case _:
            table, own_labels, state, share = images, labels, network, 1
            function = undone(stages.train_network, engine.choice)
    program = Lifted(function, shared=(2, 4, 5), donated=(0, 1), **order)
    items = engine.members * protocol.batch_size / share
    return _training(program, state, engine.members, table, own_labels, items, choice.batches)


def _training(
    program: Lifted,
    state: TrainState,
    members: int,
    table: np.ndarray,
    labels: Int[np.ndarray, " n"],
    items: float,
    batches: int | None,
) -> Work:
    zero = np.zeros(members, np.float32)
    carry = [_of_each((_repeated(state, members), Tally(zero, zero)), members)]
    shared = replicate(table)
    plans = _of_each(_random_batches(labels, members), members)

    def call(steps: int) -> None:
        carry[0] = program(*carry[0], shared, plans, replicate(0), replicate(steps))
        jax.block_until_ready(carry[0])

    def compile_ahead() -> int:
        return program.memory(*carry[0], shared, plans, replicate(0), replicate(1))

    return Work(call, items, _STEPS, batches=batches, compile=_ahead(compile_ahead))


def _extraction(
    stages: Stages,
    network: TrainState,
    members: int,
    images: UInt8[np.ndarray, "n h w 3"],
    protocol: Protocol,
    order: dict[str, bool | None],
) -> Work:
    program = Lifted(stages.extract, shared=(1, 3), **order)
    steps = -(-paper.IMAGES // protocol.batch_size)
    rows = np.random.default_rng(protocol.seed).integers(
        len(images), size=(members, steps, protocol.batch_size), dtype=np.int32
    )
    arguments = _of_each(_repeated(network, members), members), replicate(images)
    rows = _of_each(rows, members)

    def call(count: int) -> None:
        jax.block_until_ready(program(*arguments, rows, replicate(count)))

    def compile_ahead() -> int:
        return program.memory(*arguments, rows, replicate(1))

    items = members * protocol.batch_size
    return Work(call, items, steps, compile=_ahead(compile_ahead))


def _ahead(compile_ahead: Callable[[], int]) -> Callable[[], int] | None:
    """Where members run one after another, `Lifted.memory` compiles a program of its own."""
    return None if jax.default_backend() in SEQUENTIAL else compile_ahead


def _features(rows: int, columns: int) -> np.ndarray:
    random = np.random.default_rng(Protocol().seed)
    return np.maximum(random.standard_normal((rows, columns), dtype=np.float32), 0)


def _random_batches(labels: Int[np.ndarray, " n"], members: int) -> DevicePlan:
    """Synthetic samples in full batches, other ones for each member."""
    random = np.random.default_rng(Protocol().seed)
    shape = (members, _STEPS, Protocol().batch_size)
    base, neighbor = random.integers(len(labels), size=(2, *shape), dtype=np.int32)
    step = random.random(shape, dtype=np.float32)
    return DevicePlan(base, neighbor, step, labels[base].astype(np.int32))


def _repeated(tree, members: int):
    return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], members, axis=0), tree)


def _of_each(tree, members: int):
    """Puts the members' arrays where a call of a lifted function wants them."""
    mesh = replicate(0).sharding.mesh
    if members % mesh.size:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(*mesh.axis_names)))
