"""Trains many networks and many heads: the compiled programs of one protocol on one data set."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Float32, Int, UInt8

from twostage_jax.data.partition import FOLDS
from twostage_jax.models.weights import Weights, set_weights
from twostage_jax.resampling.plan import DevicePlan, Plan
from twostage_jax.support.streams import Stream
from twostage_jax.training.checkpoints import Checkpoints
from twostage_jax.training.course import Course, usual_steps
from twostage_jax.training.lifting import SEQUENTIAL, Lifted, replicate
from twostage_jax.training.objective import PLAIN, Call, Objective
from twostage_jax.training.programs import programs
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Tally, TrainState

# Fraction of the free memory that is used for networks. The rest is left for features, heads and
# fragmentation.
SHARE_OF_MEMORY = 0.8
MOST_MEMBERS = 40  # per device: the largest group that was ever measured


class Advance(NamedTuple):
    """Training went on.

    Attributes:
        images: how many samples went forward and backward; images in stage 1, features in stage 2.
        resumed: whether they did before this process; a checkpoint stands for them.
    """

    images: int
    resumed: bool = False


Progress = Callable[[Advance], None]


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


class CallLength:
    """How many steps a call of a compiled program takes, adapted towards a duration.

    Shorter calls cost throughput, because temporary memory is allocated anew per call: at width 1
    and 150 pixels, calls of one step ran at two thirds of the speed of calls of six. Longer ones
    delay progress and Ctrl-C.
    """

    def __init__(self, seconds: float = 4.0, first: int = 4):
        """Starts with `first` steps; later calls are to take about `seconds`."""
        self._seconds = seconds
        self.steps = first

    def took(self, steps: int, elapsed: float) -> None:
        """Learns from a call. The length at most grows fourfold: the first call also compiles."""
        self.steps = max(1, min(4 * self.steps, int(steps * self._seconds / elapsed)))


class Trainer:
    """The programs of both stages, each compiled once per size, and the images on the device."""

    def __init__(
        self,
        protocol: Protocol,
        class_counts: Int[np.ndarray, " classes"],
        images: UInt8[np.ndarray, "n h w 3"] | None = None,
        weights: Weights | None = None,
        feature_size: int | None = None,
    ):
        """Nothing is compiled before it is used.

        Args:
            protocol: how to train.
            class_counts: samples of each class of the whole data set.
            images: what rows of plans refer to; None where only heads are trained.
            weights: what networks start from, apart from their heads; None for random weights.
            feature_size: number of features per sample where only heads are trained, on features
                that come from elsewhere.
        """
        self._protocol = protocol
        self._weights = weights
        self._images: Any = None if images is None else replicate(images)
        # Sizes follow from the whole data set, not from what is trained: one program serves
        # every study on it, and a record does not depend on what else is trained.
        self._usual_steps = usual_steps(class_counts, protocol.batch_size)
        self._max_rows = self._steps(int(class_counts.sum())) * protocol.batch_size

        self._classes = len(class_counts)
        self._programs = programs(protocol, self._classes, feature_size)
        self.trainers = self._programs.trainers
        self._call_length: dict[Lifted, CallLength] = defaultdict(CallLength)

    def members_that_fit(self) -> int:
        """How many networks to train at a time on all devices of this process.

        A CPU trains one network per device. An accelerator gets as many as its free memory holds,
        at most 40 per device (the largest size measured). If the backend reports no memory limit,
        it gets 10 per device, the paper's folds. The first call compiles the program of one
        network per device.
        """
        devices = jax.local_devices()
        if jax.default_backend() in SEQUENTIAL:
            return len(devices)
        stats = devices[0].memory_stats()
        if not stats or "bytes_limit" not in stats:
            return FOLDS * len(devices)
        total = self.device_memory(len(devices))
        if total is None:
            return FOLDS * len(devices)
        free = stats["bytes_limit"] - stats["bytes_in_use"]
        fitting = int(SHARE_OF_MEMORY * free / (total - self._images.nbytes))
        return max(1, min(fitting, MOST_MEMBERS)) * len(devices)

    def device_memory(self, members: int) -> int | None:
        """Bytes of a device's memory that training `members` networks takes, as XLA plans it.

        None where the backend does not say.
        """
        shape = (members, self._usual_steps, self._protocol.batch_size)

        def arguments() -> tuple[TrainState, Tally, DevicePlan]:
            integers, reals = jnp.zeros(shape, jnp.int32), jnp.zeros(shape, jnp.float32)
            state = self._programs.init_network(_keys([lambda _: 0] * members))
            tally = Tally(*jnp.zeros((2, members), jnp.float32))
            return state, tally, DevicePlan(integers, integers, reals, integers)

        state, tally, batches = jax.eval_shape(arguments)
        program = self.trainers(PLAIN).network
        return program.memory(state, tally, self._images, batches, 0, 1)

    def _room(self, steps: int) -> int:
        """Steps that the program of an epoch has room for.

        Plans of most samplers fit into the usual room. A larger one gets a multiple of it: few
        sizes are few programs, and the usual one stays the same for all others.
        """
        room = self._usual_steps
        while room < steps:
            room *= 2
        return room

    def _steps(self, rows: int) -> int:
        return -(-rows // self._protocol.batch_size)

    def train_networks(
        self,
        plans: Sequence[Plan],
        streams: Sequence[Stream],
        checkpoints: Path | None,
        progress: Progress = lambda _: None,
        *,
        objective: Objective = PLAIN,
        mixing: Call | None = None,
    ) -> Trained:
        """Stage 1: trains a network on each plan.

        Args:
            plans: on rows of the images.
            streams: each network's random streams, for its head and its shuffles.
            checkpoints: folder of these networks' checkpoints; training resumes from the last.
                None writes none.
            progress: is told how far training is, every few seconds.
            objective: what is minimized.
            mixing: how images are mixed, one of `mixing.MIXINGS`; given if `objective.mixed`.

        Raises:
            InputError: synthetic images are to be mixed.
            OSError: a checkpoint cannot be written, or a damaged one cannot be removed.
        """
        state = self._initial_networks(streams)
        epochs = self._protocol.epochs
        program, sizes = self.trainers(objective).network, self._sizes(objective, plans)
        course = Course(program, plans, streams, epochs, sizes, mixing=mixing)
        curves = np.zeros((len(plans), epochs, 2), np.float32)
        if checkpoints is None:
            started = time.perf_counter()
            for epoch in range(epochs):
                state, curves[:, epoch] = self._train_epoch(
                    course, state, self._images, epoch, progress
                )
            return Trained(state, curves, time.perf_counter() - started)
        # Checkpoints hold the state as one flat array per network: four times faster to write
        # than its 224 small arrays.
        _, unravel = ravel_pytree(jax.tree.map(lambda leaf: leaf[0], state))
        saved = {
            "state": np.asarray(self._programs.ravel(state)),
            "curves": curves,
            "seconds": np.zeros(()),
        }
        with Checkpoints(checkpoints) as kept:
            done, saved = kept.restore(saved, epochs)
            if done:
                state = jax.vmap(unravel)(jnp.asarray(saved["state"]))
                progress(Advance(done * sum(map(len, plans)), resumed=True))
            for epoch in range(done, epochs):
                started = time.perf_counter()
                state, saved["curves"][:, epoch] = self._train_epoch(
                    course, state, self._images, epoch, progress
                )
                saved["state"] = np.asarray(self._programs.ravel(state))
                saved["seconds"] += time.perf_counter() - started
                kept.save(epoch + 1, saved)
        return Trained(state, saved["curves"], float(saved["seconds"]))

    def _initial_networks(self, streams: Sequence[Stream]) -> TrainState:
        state = self._programs.init_network(_keys(streams))
        if self._weights is None:
            return state
        return state._replace(
            params=set_weights(state.params, self._weights),
            stats=set_weights(state.stats, self._weights),
        )

    def extract(
        self, networks: TrainState, rows: Sequence[Int[np.ndarray, " _"]]
    ) -> Float[Array, "members max_rows f"]:
        """Features of rows of the images, batch norm in inference mode; one list per network.

        The result has room for every image; a network's features are its first `len(rows)` ones.
        """
        steps = max(self._steps(len(own)) for own in rows)
        padded = np.zeros((len(rows), self._max_rows), np.int32)
        for line, own in zip(padded, rows, strict=True):
            line[: len(own)] = own
        batches = padded.reshape(len(rows), -1, self._protocol.batch_size)
        return self._programs.extract(networks, self._images, jnp.asarray(batches), steps)

    def train_heads(
        self,
        networks: TrainState | None,
        members: Sequence[int],
        features: Float[Array, "members max_rows f"],
        plans: Sequence[Plan],
        streams: Sequence[Stream],
        progress: Progress = lambda _: None,
        *,
        objective: Objective = PLAIN,
        fresh: bool = False,
        balanced: bool = False,
    ) -> Trained:
        """Stage 2: fine-tunes heads of trained networks on features.

        Args:
            networks: whose heads to start from, unless fresh ones are asked for; None where there
                are none.
            members: which network each head belongs to.
            features: of each network.
            plans: of each head, on rows of its network's features.
            streams: each head's random streams.
            progress: is told how far training is, every few seconds.
            objective: what is minimized, and what learns.
            fresh: begin with new heads; the protocol may ask for that, too.
            balanced: draw the samples of each epoch with equal classes.
        """
        started = time.perf_counter()
        chosen = np.asarray(members)
        # Scales are learned on top of a trained head, whatever the protocol says.
        fresh = fresh or (self._protocol.fresh_head and not objective.scales)
        params = (
            self._programs.init_head(_keys(streams))
            if networks is None or fresh
            else jax.tree.map(lambda leaf: leaf[chosen], networks.params["head"])
        )
        # All heads share one table; a head's rows are those of its network in it.
        table = replicate(features.reshape(-1, features.shape[-1]))
        plans = [
            plan.of_rows(member * features.shape[1] + np.arange(features.shape[1]))
            for plan, member in zip(plans, members, strict=True)
        ]
        trainers, epochs = self.trainers(objective), self._protocol.epochs_of_heads
        sizes = self._sizes(objective, plans)
        course = Course(trainers.head, plans, streams, epochs, sizes, balanced=balanced)
        state = trainers.start_head(params)
        curves = []
        for epoch in range(epochs):
            state, curve = self._train_epoch(course, state, table, epoch, progress)
            curves.append(curve)
        state = state._replace(params=trainers.end_head(state))
        return Trained(state, np.stack(curves, axis=1), time.perf_counter() - started)

    def compute_heads(
        self,
        networks: TrainState,
        members: Sequence[int],
        features: Float[Array, "members max_rows f"],
        plans: Sequence[Plan],
        streams: Sequence[Stream],
        compute: Callable[..., tuple[np.ndarray, np.ndarray]],
    ) -> Trained:
        """Stage 2 without gradients: new last layers of the heads of trained networks.

        Args:
            networks, members, features, plans, streams: as for `train_heads`; plans without
                synthetic samples.
            compute: called with the activations of the hidden layer (m x hidden, float32), the
                labels, the last layer's kernel and bias and a random stream. Returns a new kernel
                and bias.
        """
        started = time.perf_counter()
        heads = jax.tree.map(lambda leaf: leaf[np.asarray(members)], networks.params["head"])
        kernels, biases = [], []
        for i, (member, plan, stream) in enumerate(zip(members, plans, streams, strict=True)):
            own = jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], heads)
            hidden = self.represent(own, features[member][None])[0][plan.base]
            last = own["output"]
            old = (np.asarray(last[name][...][0]) for name in ("kernel", "bias"))
            kernel, bias = compute(hidden, plan.label, *old, stream)
            kernels.append(kernel)
            biases.append(bias)
        for name, found in (("kernel", kernels), ("bias", biases)):
            heads["output"][name][...] = jnp.asarray(np.stack(found), jnp.float32)
        curves = np.zeros((len(plans), 0, 2), np.float32)
        state = TrainState(heads, nnx.State({}), ())
        return Trained(state, curves, time.perf_counter() - started)

    def _sizes(
        self, objective: Objective, plans: Sequence[Plan]
    ) -> Float32[np.ndarray, "_ c"] | None:
        """The samples of each class per epoch of each plan, where the objective asks for them."""
        if not objective.needs_sizes:
            return None
        counts = [np.bincount(plan.label, minlength=self._classes) for plan in plans]
        return np.array(counts, np.float32)

    def _train_epoch(
        self,
        course: Course,
        state: TrainState,
        table: Array,
        epoch: int,
        progress: Progress = lambda _: None,
    ) -> tuple[TrainState, Float32[np.ndarray, "members 2"]]:
        """One epoch of all members, a few seconds at a time; where it is cut changes nothing."""
        size, length = self._protocol.batch_size, self._call_length[course.program]
        rows = np.array([len(plan) for plan in course.plans])
        steps = self._steps(int(rows.max()))
        made = course.batches(epoch, size, self._room(steps))
        batches = jax.tree.map(lambda *column: jnp.asarray(np.stack(column)), *made)
        extra = course.sizes(epoch)
        tally = Tally(*jnp.zeros((2, len(rows)), jnp.float32))
        start = 0
        while start < steps:
            called = time.perf_counter()
            stop = min(start + length.steps, steps)
            state, tally = course.program(state, tally, table, batches, start, stop, *extra)
            jax.block_until_ready(tally)
            done = np.minimum(stop * size, rows) - np.minimum(start * size, rows)
            progress(Advance(int(done.sum())))
            length.took(stop - start, time.perf_counter() - called)
            start = stop
        return state, np.stack(tally, axis=-1) / rows.astype(np.float32)[:, None]

    def predict(
        self,
        heads: nnx.State,
        features: Float[Array, "members rows f"],
        objective: Objective = PLAIN,
    ) -> Float32[np.ndarray, "members rows classes"]:
        """Class probabilities; one head per member, of a network with this objective."""
        return np.asarray(self.trainers(objective).predict(heads, features))

    def represent(
        self, heads: nnx.State, features: Float[Array, "members rows f"]
    ) -> Float32[np.ndarray, "members rows hidden"]:
        """Activations of the hidden layer, which stage 2 changes; one head per member."""
        return np.asarray(self._programs.represent(heads, features))


def _keys(streams: Sequence[Stream]) -> Array:
    return jax.vmap(jax.random.key)(np.array([stream("head") for stream in streams], np.uint32))
