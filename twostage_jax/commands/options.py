"""Options that the commands `compare` and `fit` have in common."""

import argparse
import dataclasses
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import jax
import tyro

from twostage_jax.commands.device import ACCELERATORS, fix_numerics, use_accelerator
from twostage_jax.commands.help import print_help
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import SOURCES, find_source
from twostage_jax.data.sources.options import MAX_PIXELS, SourceOptions
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path
from twostage_jax.training.bounds import option_name, require_image_size, require_valid
from twostage_jax.training.protocol import Protocol


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read images."""

    max_pixels: int = MAX_PIXELS
    """The most pixels that an image file may have."""
    on_unreadable: Literal["error", "skip"] = "error"
    """What to do with unreadable files."""
    duplicates: Literal["keep", "drop", "error"] | None = None
    """What to do with equal pictures; by default keep, or error if in two classes."""

    @property
    def reading(self) -> dict[str, Any]:
        """These fields of `SourceOptions`."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Reading)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How to train."""

    network: str = "mobilenet_v1"
    """Backbone: mobilenet_v1 or mobilenet_v2."""
    width: float = 1.0
    """Width multiplier of the network's channels."""
    weights: str = "imagenet"
    """imagenet, random, or a *_no_top.h5 file of Keras."""
    image_size: int = 150
    """Side of the squares, in pixels, that images are fitted to."""
    epochs: int = 20
    """Epochs of stage 1."""
    head_epochs: int | None = None
    """Epochs of stage 2; by default as many."""
    batch_size: int = 32
    """Samples per step."""
    learning_rate: float = 1e-4
    """Step size of RMSprop."""
    bn_momentum: float = 0.99
    """Momentum of batch statistics; 0.9 for random weights."""
    k_neighbors: int = 5
    """Neighbors of over-samplers, below the smallest class's size."""
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"
    """Precision of products and activations."""
    seed: int = 0
    """Seed of every random stream."""

    @property
    def training(self) -> dict[str, Any]:
        """These fields."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(Training)}

    @property
    def protocol(self) -> Protocol:
        """The protocol of a study."""
        known = {field.name for field in dataclasses.fields(Protocol)}
        return Protocol(**{name: own for name, own in self.training.items() if name in known})

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of `TwoStageClassifier`."""
        own = self.training
        own["random_state"] = own.pop("seed")
        own["weights"] = None if self.weights == "random" else self.weights
        return own

    def to_arguments(self) -> list[str]:
        """A command line that gives the same, whatever the device."""
        usual = Training().training
        always = ("width", "image_size", "epochs", "weights")
        arguments = []
        for name, own in self.training.items():
            if name in always or own != usual[name]:
                arguments += [option_name(name), str(own)]
        return arguments


_LARGEST = 4096  # pixels

ON_CPU = Training(width=0.25, image_size=96, epochs=10)
"""The default on a CPU, where the paper's network takes hours."""

Options = TypeVar("Options", bound=Training)


def start_device(arguments: Sequence[str]) -> Training:
    """Starts JAX on the device that a command line names; returns the default training there.

    Both are needed before the other options can be read.

    Raises:
        InputError: JAX does not find the device.
    """
    fix_numerics()
    if (device := named_device(arguments)) in ACCELERATORS:  # tyro says what is wrong with others
        use_accelerator(device, option="--device")
    return default_training(jax.default_backend())


def named_device(arguments: Sequence[str]) -> str:
    """The device that a command line names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--device", default="auto")
    known, _ = parser.parse_known_args(arguments)
    return known.device


def default_training(platform: str) -> Training:
    """The default training on a platform of JAX's."""
    return ON_CPU if platform == "cpu" else Training()


def read(
    kind: type[Options], program: str, arguments: Sequence[str], training: Training
) -> Options:
    """Reads a command's options without a look at their values; arguments as for `parse`.

    Raises:
        SystemExit: `--help`, or an option that does not exist.
    """
    print_help(kind, program, arguments, training)
    given = [*training.to_arguments(), *arguments]  # of two values of an option, the last counts
    return tyro.cli(kind, prog=program, args=given, config=(tyro.conf.FlagCreatePairsOff,))


def parse(
    kind: type[Options], program: str, arguments: Sequence[str], training: Training
) -> Options:
    """Reads a command's options.

    Args:
        kind: of the options.
        program: the command's name, for its help.
        arguments: of the command line.
        training: the default on this device.

    Raises:
        InputError: a value is not valid.
        SystemExit: `--help`, or an option that does not exist.
    """
    options = read(kind, program, arguments, training)
    if options.weights.startswith("~"):
        weights = str(user_path(Path(options.weights), "--weights"))
        options = dataclasses.replace(options, weights=weights)
    require_valid(options.protocol, option_name)
    require_image_size(options.protocol, options.image_size, option_name)
    if options.image_size > _LARGEST:
        raise InputError(
            f"--image-size {options.image_size} found, at most {_LARGEST} expected; lower it"
        )
    return options


def find_data(data: str) -> tuple[str, Path | None]:
    """What the argument DATA means: the name of a source, and the path that it reads.

    A folder is one of class folders, a file a NumPy archive. What is neither may be the name of a
    source, such as `digits` or `tfds:NAME`.
    """
    path = user_path(Path(data), "DATA")
    if path.is_file() or path.suffix == ".npz":
        return "npz", path
    if not path.exists() and (data in SOURCES or data.startswith("tfds:")):
        return data, None
    return "folder", path


def data_name(data: str) -> str:
    """The name of DATA for paths: of the folder, of the file without its suffix, or its own."""
    source, path = find_data(data)
    if path is None:
        return re.sub(r"[/:*]", "-", source)
    # The name of `.` is that of the folder which it stands for; a link keeps its own name.
    name = Path(os.path.abspath(path)).name
    return Path(name).stem if source == "npz" else name


def read_data(
    data: str, image_size: int, reading: Reading, leave_out: tuple[Path, ...] = ()
) -> ImageSet:
    """Reads the images.

    Args:
        data: as for `find_data`.
        image_size: side of the squares that images are fitted to.
        reading: says what to do with files that are not as expected.
        leave_out: folders that are no classes.

    Raises:
        InputError: they cannot be read.
    """
    source, path = find_data(data)
    options = SourceOptions(
        data_dir=path, image_size=image_size, leave_out=leave_out, **reading.reading
    )
    return find_source(source)(options)


def command_line(program: str, arguments: Sequence[str]) -> str:
    """A command line as a shell reads it."""
    return shlex.join([*program.split(), *arguments])
