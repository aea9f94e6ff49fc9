"""The work of this package: training as a study does it."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt8

from experiments.benchmark_training.cases import Job
from experiments.benchmark_training.work import Work
from twostage_jax.models.forms import fastest_forms
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.lifting import Lifted, replicate
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages, Tally

# Batches of the longest call. Which rows a batch has makes no difference to the program.
_STEPS = 2048


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Puts the data of a job on the device. The first call compiles."""
    members = job.members
    protocol = Protocol(width=job.size.width, precision=job.precision)
    forms = dataclasses.replace(fastest_forms(jax.default_backend()), **dict(job.changed))
    stages = Stages(protocol, int(labels.max()) + 1, forms)
    program = Lifted(stages.train_network)
    network = jax.jit(stages.init_network)(jax.random.key(protocol.seed))
    zero = np.zeros(members, np.float32)
    carry = [jax.device_put((_repeated(network, members), Tally(zero, zero)))]
    table = replicate(images)
    plans = jax.device_put(_random_batches(labels, members, protocol))

    def call(steps: int) -> None:
        carry[0] = program(*carry[0], table, plans, replicate(0), replicate(steps))
        jax.block_until_ready(carry[0])

    def device_memory() -> int | None:
        if jax.default_backend() == "cpu":
            return None
        return program.memory(*carry[0], table, plans, replicate(0), replicate(1))

    return Work(call, members * protocol.batch_size, _STEPS, device_memory)


def _random_batches(labels: Int[np.ndarray, " n"], members: int, protocol: Protocol) -> DevicePlan:
    """Synthetic samples in full batches, different ones for each member."""
    random = np.random.default_rng(protocol.seed)
    shape = (members, _STEPS, protocol.batch_size)
    base, neighbor = random.integers(len(labels), size=(2, *shape), dtype=np.int32)
    step = random.random(shape, dtype=np.float32)
    return DevicePlan(base, neighbor, step, labels[base].astype(np.int32))


def _repeated(tree: Any, members: int) -> Any:
    return jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], members, axis=0), tree)
