"""The product's own programs at the shapes of a study, lowered for devices that are not there."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.forecast.targets import on_all
from twostage_jax.models.forms import fastest_forms
from twostage_jax.resampling.neighbors.device import block_rows, tile_rows
from twostage_jax.resampling.neighbors.search import MEMORY, SPARE
from twostage_jax.resampling.neighbors.tiles import Best, Rows, take_tile_twice
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.course import usual_steps
from twostage_jax.training.lifting import Lifted
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import Stages, Tally

# Heads per network: of the paper's study, where a baseline's network has three.
HEADS = 3


class Setting(NamedTuple):
    """What the shapes of all programs follow from.

    Attributes:
        class_counts: images of each class.
        pixels: side of the images.
        protocol: how to train; its precision is that of each job.
    """

    class_counts: tuple[int, ...]
    pixels: int
    protocol: Protocol

    @property
    def images(self) -> int:
        """Number of images."""
        return sum(self.class_counts)

    def __str__(self) -> str:
        """What forecasts in one folder have in common."""
        own = self.protocol
        return (
            f"{own.network} of width {own.width:g}, {self.pixels} px, batches of {own.batch_size}, "
            f"{self.images} images in {len(self.class_counts)} classes of at most "
            f"{max(self.class_counts)}, {own.k_neighbors} neighbors"
        )


class Program(NamedTuple):
    """A lowered program.

    Attributes:
        lowered: to compile.
        loop: whether a step is an iteration of its loop, or else a call.
        samples: images (or features, or queries of a neighbor search) per step.
    """

    lowered: jax.stages.Lowered
    loop: bool
    samples: int


def lower(
    name: str, setting: Setting, precision: str, members: int, devices: Sequence[jax.Device]
) -> Program:
    """Lowers one of `PROGRAMS` for devices, for `members` networks at a time."""
    return PROGRAMS[name](_Maker(setting, precision, members, devices))


class _Maker:
    """Makes the arguments of programs as shapes."""

    def __init__(self, setting: Setting, precision: str, members: int, devices):
        self.setting, self.members, self._devices = setting, members, devices
        self.batch = setting.protocol.batch_size
        protocol = Protocol(**{**vars(setting.protocol), "precision": precision})
        forms = fastest_forms(devices[0].platform)
        self.stages = Stages(protocol, len(setting.class_counts), forms)
        self.steps = usual_steps(np.array(setting.class_counts), self.batch)
        self.rows = -(-setting.images // self.batch) * self.batch
        self.images = self.of((setting.images, setting.pixels, setting.pixels, 3), "uint8")
        self.step = self.of((), "int32")

    def of(self, shape: tuple[int, ...], dtype: str) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=on_all(self._devices))

    def init(self, count: int, make: Callable) -> Any:
        keys = self.of((count,), jax.random.key(0).dtype)
        state = jax.eval_shape(jax.vmap(make), keys)
        return jax.tree.map(lambda leaf: self.of(leaf.shape, leaf.dtype), state)

    def tally(self, count: int) -> Tally:
        return Tally(*[self.of((count,), "float32")] * 2)

    def batches(self, count: int) -> DevicePlan:
        shape = count, self.steps, self.batch
        return DevicePlan(*(self.of(shape, d) for d in ("int32", "int32", "float32", "int32")))

    def lifted(self, function: Callable, *arguments: Any) -> jax.stages.Lowered:
        return Lifted(function, devices=self._devices).program.lower(*arguments)


def _stage1(maker: _Maker) -> Program:
    own = maker.members
    state = maker.init(own, maker.stages.init_network)
    arguments = state, maker.tally(own), maker.images, maker.batches(own), maker.step, maker.step
    lowered = maker.lifted(maker.stages.train_network, *arguments)
    return Program(lowered, True, own * maker.batch)


def _features(maker: _Maker) -> Program:
    own = maker.members
    rows = maker.of((own, maker.rows // maker.batch, maker.batch), "int32")
    state = maker.init(own, maker.stages.init_network)
    lowered = maker.lifted(maker.stages.extract, state, maker.images, rows, maker.step)
    return Program(lowered, True, own * maker.batch)


def _heads(maker: _Maker) -> Program:
    heads = HEADS * maker.members
    table = maker.of((maker.members * maker.rows, feature_size(maker.setting)), "float32")

    def start(key):
        return maker.stages.start_head(maker.stages.init_head(key))

    state, tally = maker.init(heads, start), maker.tally(heads)
    arguments = state, tally, table, maker.batches(heads), maker.step, maker.step
    lowered = maker.lifted(maker.stages.train_head, *arguments)
    return Program(lowered, True, heads * maker.batch)


def _neighbors(maker: _Maker, columns: int, pixels: bool) -> Program:
    size = neighbor_rows(maker.setting.images, columns, pixels)
    wanted = maker.setting.protocol.k_neighbors + SPARE
    own = (size,), "int32"
    norms = own if pixels else ((size,), "float32")
    values = maker.of((size, columns), "int8" if pixels else "float32")
    rows = Rows(values, maker.of(*norms), maker.of(*own), maker.of(*own))
    half = maker.of((size, wanted), "uint32") if pixels else None
    best = Best(maker.of((size, wanted), "float32"), maker.of((size, wanted), "int32"), half)
    lowered = take_tile_twice.lower(best, best, rows, rows, farthest=False)
    return Program(lowered, False, 2 * size)


def feature_size(setting: Setting) -> int:
    """Number of features per image."""
    stages = Stages(setting.protocol, len(setting.class_counts))
    head = jax.eval_shape(stages.init_head, jax.random.key(0))
    return head["hidden"]["kernel"].get_value().shape[0]


def neighbor_rows(images: int, columns: int, pixels: bool) -> int:
    """Rows of the tiles in which the product searches neighbors among images or features."""
    return block_rows(images, tile_rows(columns, 1 if pixels else 4, MEMORY))


PROGRAMS: dict[str, Callable[[_Maker], Program]] = {
    "stage1": _stage1,
    "features": _features,
    "heads": _heads,
    "pixel_neighbors": lambda maker: _neighbors(maker, 3 * maker.setting.pixels**2, True),
    "feature_neighbors": lambda maker: _neighbors(maker, feature_size(maker.setting), False),
}
"""The programs of a study by their names: training of networks, extraction of features, training of
heads, and a tile of the neighbor search on pixels and on features."""
