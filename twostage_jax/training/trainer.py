"""Trains many networks and many heads: the compiled programs of one protocol on one image set."""

import os
import re
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Float32, Int

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import FOLDS
from twostage_jax.models.weights import Weights, set_weights
from twostage_jax.resampling.plan import DevicePlan, Plan, epoch_batches
from twostage_jax.support.streams import Stream
from twostage_jax.training.lifting import SEQUENTIAL, Lifted, replicate
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Tally, TrainState, make_stages

# A call of a training program lasts about this long: short enough that progress is seen and Ctrl-C
# heard, long enough that a CPU does not wait for memory. Each call takes its temporary memory anew,
# and the system hands it out page by page: at width 1 and 150 pixels calls of one step ran at two
# thirds of the speed of calls of six.
_SECONDS_A_CALL = 4.0
_FIRST_CALL = 4  # steps, as long as nothing is measured
# The rest is for features, heads and the gaps between arrays.
_SHARE_OF_MEMORY = 0.8
_MOST_MEMBERS = 40  # a device: the largest group of the benchmark


class Advance(NamedTuple):
    """Training went on.

    Attributes:
        images: that went forward and backward through networks of stage 1.
        resumed: whether they did so before this process, and a checkpoint stands for them.
    """

    images: int
    resumed: bool = False


class Trained(NamedTuple):
    """What training leaves, of `members` networks or heads.

    Attributes:
        state: with a leading member axis.
        curves: mean training loss (nats) and training accuracy of each epoch.
        seconds: of wall time, compilation included.
    """

    state: TrainState
    curves: Float32[np.ndarray, "members epochs 2"]
    seconds: float


class Trainer:
    """The programs of both stages, compiled once each, and the images on the device."""

    def __init__(
        self,
        image_set: ImageSet,
        protocol: Protocol,
        weights: Weights | None,
    ):
        """Nothing is compiled before it is used.

        Args:
            image_set: what rows of plans refer to.
            protocol: how to train.
            weights: what networks start from, but for their heads; None for random weights.
        """
        self._protocol = protocol
        self._weights = weights
        self._images = replicate(image_set.images)
        # Sizes follow from the whole image set, not from what is trained, so that one program
        # serves every study on it and a record does not depend on what else is trained.
        largest_class = int(np.ceil(image_set.class_counts.max() * (1 - 1 / FOLDS)))
        self._max_steps = self._steps(image_set.num_classes * largest_class)
        self._max_rows = self._steps(len(image_set)) * protocol.batch_size

        stages = make_stages(protocol, image_set.num_classes)
        self._init_network = jax.jit(jax.vmap(stages.init_network))
        self._init_head = jax.jit(jax.vmap(stages.init_head))
        self._start_head = jax.jit(jax.vmap(stages.start_head))
        self._ravel = jax.jit(jax.vmap(lambda state: ravel_pytree(state)[0]))
        train = {"shared": (2, 4, 5), "donated": (0, 1)}
        self._train_network = Lifted(stages.train_network, **train)
        self._train_head = Lifted(stages.train_head, **train)
        self._extract = Lifted(stages.extract, shared=(1, 3))
        self._predict = Lifted(stages.predict)
        self._represent = Lifted(stages.represent)
        self._steps_a_call = {self._train_network: _FIRST_CALL, self._train_head: _FIRST_CALL}

    def members_that_fit(self) -> int:
        """How many networks to train at a time on all devices of this process.

        A CPU trains one a device. Accelerators get as many as their free memory holds, up to the
        number beyond which nothing was ever measured; where memory cannot be asked for, that of
        the paper's folds. The first call compiles the program of one network a device.
        """
        devices = jax.local_devices()
        if jax.default_backend() in SEQUENTIAL:
            return len(devices)
        stats = devices[0].memory_stats()
        if not stats or "bytes_limit" not in stats:
            return FOLDS * len(devices)
        free = stats["bytes_limit"] - stats["bytes_in_use"]
        network = self.device_memory(len(devices)) - self._images.nbytes
        fitting = int(_SHARE_OF_MEMORY * free / network)
        return max(1, min(fitting, _MOST_MEMBERS)) * len(devices)

    def device_memory(self, members: int) -> int:
        """Bytes of a device's memory that training `members` networks takes, as XLA plans it."""
        keys = jax.eval_shape(lambda: _keys([lambda _: 0] * members))
        state = jax.eval_shape(self._init_network, keys)
        shape = (members, self._max_steps, self._protocol.batch_size)
        batches = DevicePlan(
            *(
                jax.ShapeDtypeStruct(shape, dtype)
                for dtype in ("int32", "int32", "float32", "int32")
            )
        )
        one = jax.ShapeDtypeStruct((members,), "float32")
        return self._train_network.memory(state, Tally(one, one), self._images, batches, 0, 1)

    def _steps(self, rows: int) -> int:
        return -(-rows // self._protocol.batch_size)

    def train_networks(
        self, plans: Sequence[Plan], streams: Sequence[Stream], checkpoints: Path
    ) -> Generator[Advance, None, Trained]:
        """Stage 1: trains a network on each plan.

        Args:
            plans: on rows of the image set.
            streams: each network's random streams, for its head and its shuffles.
            checkpoints: folder of these networks' checkpoints; training goes on from the last.

        Raises:
            OSError: a checkpoint cannot be written or read.
        """
        state = self._initial_networks(streams)
        # One array a checkpoint: Orbax takes 0.4 s for the 224 arrays of a small state, 0.1 s so.
        _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], state))
        saved = {
            "state": np.asarray(self._ravel(state)),
            "curves": np.zeros((len(plans), self._protocol.epochs, 2), np.float32),
            "seconds": np.zeros(()),
        }
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        with ocp.CheckpointManager(checkpoints.resolve(), options=options) as manager:
            done = manager.latest_step() or 0
            if done:
                saved = _restore(manager, done, saved)
                state = jax.vmap(unravel)(saved["state"])
                yield Advance(done * sum(map(len, plans)), resumed=True)
            for epoch in range(done, self._protocol.epochs):
                started = time.perf_counter()
                state, saved["curves"][:, epoch] = yield from self._train_epoch(
                    self._train_network, state, self._images, plans, streams, epoch
                )
                saved["state"] = np.asarray(self._ravel(state))
                saved["seconds"] += time.perf_counter() - started
                _save(manager, epoch + 1, saved)
        return Trained(state, saved["curves"], float(saved["seconds"]))

    def _initial_networks(self, streams: Sequence[Stream]) -> TrainState:
        state = self._init_network(_keys(streams))
        if self._weights is None:
            return state
        return state._replace(
            params=set_weights(state.params, self._weights),
            stats=set_weights(state.stats, self._weights),
        )

    def extract(
        self, networks: TrainState, rows: Sequence[Int[np.ndarray, " _"]]
    ) -> Float[Array, "members max_rows f"]:
        """Features of rows of the image set, batch norm in inference mode, a list a network.

        The result has room for every image; a network's features are its first `len(rows)` ones.
        """
        steps = max(self._steps(len(own)) for own in rows)
        padded = np.zeros((len(rows), self._max_rows), np.int32)
        for line, own in zip(padded, rows, strict=True):
            line[: len(own)] = own
        batches = padded.reshape(len(rows), -1, self._protocol.batch_size)
        return self._extract(networks, self._images, jnp.asarray(batches), steps)

    def train_heads(
        self,
        networks: TrainState,
        members: Sequence[int],
        features: Float[Array, "members max_rows f"],
        plans: Sequence[Plan],
        streams: Sequence[Stream],
    ) -> Trained:
        """Stage 2: fine-tunes heads of trained networks on features.

        Args:
            networks: whose heads to start from (unless the protocol asks for fresh ones).
            members: which network each head belongs to.
            features: of each network.
            plans: of each head, on rows of its network's features.
            streams: each head's random streams.
        """
        started = time.perf_counter()
        chosen = np.asarray(members)
        params = (
            self._init_head(_keys(streams))
            if self._protocol.fresh_head
            else jax.tree.map(lambda leaf: leaf[chosen], networks.params["head"])
        )
        # One table for all heads: a head's rows are those of its network in it.
        table = replicate(features.reshape(-1, features.shape[-1]))
        plans = [
            plan.of_rows(member * features.shape[1] + np.arange(features.shape[1]))
            for plan, member in zip(plans, members, strict=True)
        ]
        state = self._start_head(params)
        curves = []
        for epoch in range(self._protocol.epochs):
            epochs = self._train_epoch(self._train_head, state, table, plans, streams, epoch)
            state, curve = _result_of(epochs)
            curves.append(curve)
        return Trained(state, np.stack(curves, axis=1), time.perf_counter() - started)

    def _train_epoch(
        self,
        program: Lifted,
        state: TrainState,
        table: Array,
        plans: Sequence[Plan],
        streams: Sequence[Stream],
        epoch: int,
    ) -> Generator[Advance, None, tuple[TrainState, Float32[np.ndarray, "members 2"]]]:
        """One epoch of all members, some seconds at a time; where it is cut changes nothing."""
        size = self._protocol.batch_size
        shuffled = [
            epoch_batches(plan, size, self._max_steps, stream("epoch", epoch))
            for plan, stream in zip(plans, streams, strict=True)
        ]
        batches = jax.tree.map(lambda *column: jnp.asarray(np.stack(column)), *shuffled)
        tally = Tally(jnp.zeros(len(plans)), jnp.zeros(len(plans)))
        rows = np.array([len(plan) for plan in plans])
        start, steps = 0, self._steps(int(rows.max()))
        while start < steps:
            called = time.perf_counter()
            stop = min(start + self._steps_a_call[program], steps)
            state, tally = program(state, tally, table, batches, start, stop)
            jax.block_until_ready(tally)
            elapsed = time.perf_counter() - called
            done = np.minimum(stop * size, rows) - np.minimum(start * size, rows)
            yield Advance(int(done.sum()))
            # The first call compiles: it says little, and the next ones make up for it.
            wanted = int((stop - start) * _SECONDS_A_CALL / elapsed)
            self._steps_a_call[program] = max(1, min(4 * self._steps_a_call[program], wanted))
            start = stop
        return state, np.stack(tally, axis=-1) / rows.astype(np.float32)[:, None]

    def predict(
        self, heads: nnx.State, features: Float[Array, "members rows f"]
    ) -> Float32[np.ndarray, "members rows classes"]:
        """Class probabilities, a head a member."""
        return np.asarray(self._predict(heads, features))

    def represent(
        self, heads: nnx.State, features: Float[Array, "members rows f"]
    ) -> Float32[np.ndarray, "members rows hidden"]:
        """Activations of the hidden layer, a head a member: what stage 2 changes."""
        return np.asarray(self._represent(heads, features))


def _save(manager: ocp.CheckpointManager, epoch: int, saved: dict) -> None:
    """Saves a checkpoint; where the system refuses, TensorStore only says so in a text."""
    try:
        manager.save(epoch, args=ocp.args.StandardSave(saved))
    except ValueError as error:
        if code := re.search(r"os_error_code='(\d+)'", str(error)):
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(manager.directory)) from error
        raise


def _restore(manager: ocp.CheckpointManager, epoch: int, like: dict) -> dict:
    try:
        return manager.restore(epoch, args=ocp.args.StandardRestore(like))
    except (ValueError, RuntimeError, FileNotFoundError) as error:
        raise OSError(
            f"{manager.directory} holds a checkpoint that cannot be read "
            f"({str(error).splitlines()[0][:200]}); remove that folder to train its networks anew"
        ) from error


def _keys(streams: Sequence[Stream]) -> Array:
    return jax.vmap(jax.random.key)(np.array([stream("head") for stream in streams], np.uint32))


def _result_of(generator: Generator) -> tuple:
    """Runs a generator to its end for what it returns."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
