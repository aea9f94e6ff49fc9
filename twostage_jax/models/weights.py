"""ImageNet weights from Keras's HDF5 files, for any backbone that states how Keras names its parts.

A file is converted once, to safetensors under our own parameter names, in the weights cache
(`checkpoints/weights` in a clone). Downloads come from the address that Keras itself uses.
"""

import base64
import contextlib
import functools
import hashlib
import http.client
import re
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from rich.progress import wrap_file

from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

Shape = tuple[int, ...]

_LISTED = 8  # differences in a message
_MOST_INFLATED = 1000  # bytes of tensors per byte of a file, which may be compressed

# Our names of a batch norm's arrays -> Keras's.
NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


class Weights(NamedTuple):
    """All arrays of a network except its head's.

    Attributes:
        arrays: float32 by parameter name, such as `stem.kernel`.
        digest: SHA-256 of the file that they come from.
    """

    arrays: dict[str, np.ndarray]
    digest: str


class UnfitWeightsError(InputError):
    """A weights file that can be read but does not hold the network that was asked for.

    Attributes:
        path: the file.
        shapes: the shape of each of its tensors by `layer/weight`.
    """

    def __init__(self, message: str, path: Path, shapes: dict[str, Shape]):
        super().__init__(message)
        self.path = path
        self.shapes = shapes


def set_weights(state: nnx.State, weights: Weights) -> nnx.State:
    """Returns the parameters or statistics of a network with all but its head's replaced.

    Where `state` has a leading member axis, every member gets the same weights.
    """

    def replace(path: tuple, leaf: nnx.Variable) -> nnx.Variable:
        array = weights.arrays.get(".".join(map(str, path)))
        return leaf if array is None else leaf.replace(jnp.broadcast_to(array, leaf.shape))

    return nnx.map_state(replace, state)


@dataclass(frozen=True)
class KerasWeights:
    """The weights files that Keras publishes for one kind of network, and how to read them."""

    title: str
    """Name of the network, as messages print it."""
    base_url: str
    """Address of the folder of the published files."""
    file: str
    """Name of a published file, with {} for the width."""
    published: Mapping[float, str]
    """The widths that are published, and how a file's name spells each."""
    sha256: Mapping[str, str]
    """SHA-256 by file name, of the files that we have downloaded and hashed ourselves. A download
    of any other file is checked against the MD5 that the server states."""
    build: Callable[[float], nnx.Module]
    """Makes a network of the given width; only its shapes are used."""
    in_keras: Callable[[str, Shape], tuple[str, Shape]]
    """Called with the name and shape of a parameter. Returns Keras's `layer/weight` and the shape
    there; the values have the same order."""
    layer_name: Callable[[str], str] = str
    """Maps a layer's name in a file to the name that `in_keras` uses; old files have other ones."""

    def load(self, source: str, width: float, cache: Path) -> Weights | None:
        """Returns the weights that a run starts from, see `Backbone.load_weights`.

        A file is one of Keras's without the classifier ("no_top"). ImageNet weights are downloaded
        if they are not in the cache.

        Raises:
            UnfitWeightsError: the file is of another width or another network, or tensors are
                missing, misshapen, not finite or too many.
            InputError: no weights are published at that width, the file is missing, truncated or
                not Keras's, its checksum is wrong, or the download failed.
        """
        if source == "random":
            return None
        if source != "imagenet":
            return self._converted(Path(source), width, cache)
        if width not in self.published:
            widths = ", ".join(f"{w:g}" for w in self.published)
            raise InputError(
                f"no ImageNet weights of {self.title} are published at width {width:g} (at "
                f"{widths}); choose one of these widths, or --weights random"
            )
        path = cache / self.file.format(self.published[width])
        if not path.exists():
            _download(self.base_url + path.name, path, self.sha256.get(path.name))
        return self._converted(path, width, cache)

    def _converted(self, path: Path, width: float, cache: Path) -> Weights:
        """Reads an HDF5 file's converted copy in the cache; makes the copy if there is none."""
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(
                f"cannot read the weights file {path}: {error.strerror}; pass one of Keras's "
                f"{self.file.format('*')} files, 'imagenet' or 'random'"
            ) from error
        expected = self.sha256.get(path.name, digest)
        if digest != expected:
            raise InputError(
                f"{path}: SHA-256 {digest[:16]}... found, {expected[:16]}... expected of Keras's "
                "file of that name; it is truncated or altered: download it again, or rename it if "
                "you mean to use it"
            )
        copy = cache / f"{path.stem}-{digest[:16]}.safetensors"
        # A copy that cannot be read, or is of another width or version, is made again.
        with contextlib.suppress(OSError, safetensors.SafetensorError):
            arrays = safetensors.numpy.load_file(copy)
            if {name: array.shape for name, array in arrays.items()} == _shapes(self.build, width):
                return Weights(arrays, digest)
        arrays = self.port(path, width)
        write_atomically(copy, safetensors.numpy.save(arrays, {"source_sha256": digest}))
        return Weights(arrays, digest)

    def port(self, path: Path, width: float) -> dict[str, np.ndarray]:
        """Converts one of Keras's HDF5 files (Keras 2 layout) to our parameter names and layouts.

        Raises:
            UnfitWeightsError: the file is of another width, or does not hold exactly the expected
                tensors; the message names all that is wrong.
            InputError: the file cannot be read.
        """
        tensors = self._read(path)
        shapes = {name: tensor.shape for name, tensor in tensors.items()}
        arrays, problems = {}, []
        for name, shape in _shapes(self.build, width).items():
            keras_name, keras_shape = self.in_keras(name, shape)
            tensor = tensors.pop(keras_name, None)
            if tensor is None:
                problems.append(f"'{keras_name}' is missing")
            elif tensor.shape != keras_shape:
                problems.append(f"'{keras_name}' has shape {tensor.shape}, {keras_shape} expected")
            elif not np.isfinite(tensor).all():
                problems.append(f"'{keras_name}' is not finite")
            else:
                arrays[name] = tensor.reshape(shape)
        problems += [f"'{foreign[:60]}' is not part of it" for foreign in tensors]
        if not problems:
            return arrays
        listed = "; ".join(problems[:_LISTED])
        if len(problems) > _LISTED:
            listed += f"; and {len(problems) - _LISTED} more of {len(problems)} differences"
        message = (
            f"{path} is not Keras's {self.title} of width {width:g} without its classifier: "
            f"{listed}; download {self.file.format('*')} again"
        )
        if (found := self.width_of(shapes)) not in (None, width):
            message = (
                f"{path} holds a {self.title} of width {found:g}, width {width:g} expected; pass "
                f"--width {found:g} or the file of the other width"
            )
        raise UnfitWeightsError(message, path, shapes)

    def width_of(self, shapes: Mapping[str, Shape]) -> float | None:
        """Returns the published width that has tensors of these shapes, by `layer/weight`."""
        shapes = {self._renamed(name): shape for name, shape in shapes.items()}
        for width in self.published:
            own = _shapes(self.build, width)
            if shapes == dict(self.in_keras(name, shape) for name, shape in own.items()):
                return width
        return None

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        """Reads the tensors of a Keras HDF5 file by `layer/weight`."""
        tensors, bytes_left = {}, path.stat().st_size * _MOST_INFLATED
        try:
            with h5py.File(path) as opened:
                file: Any = opened  # h5py's own types know no groups by name
                if (layout := _other_layout(file)) is not None:
                    raise InputError(
                        f"{path} holds {layout}, weights in the layout of Keras 2 without the "
                        f"classifier expected; pass {self.file.format('*')} as Keras publishes it"
                    )
                for layer in file.attrs["layer_names"]:
                    for weight in file[layer].attrs["weight_names"]:
                        dataset = file[layer][weight]  # its name: /layer/[.../]weight[:0]
                        parts = dataset.name.removesuffix(":0").split("/")
                        name = self._renamed(f"{parts[1]}/{parts[-1]}")
                        # A damaged or hostile file may claim terabytes.
                        bytes_left -= dataset.size * max(4, dataset.dtype.itemsize)
                        if bytes_left < 0:
                            raise ValueError(f"{dataset.name} claims the shape {dataset.shape}")
                        tensors[name] = np.asarray(dataset, np.float32)
        except InputError:
            raise
        # h5py's exceptions for damaged bytes are of any kind.
        except Exception as error:
            if zipfile.is_zipfile(path):
                raise InputError(
                    f"{path} is a ZIP archive, as model.save('x.keras') of Keras 3 writes; a Keras "
                    f"2 HDF5 file expected: pass {self.file.format('*')} as Keras publishes it"
                ) from error
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise InputError(
                f"{path} is not a whole Keras HDF5 weights file ({reason}); download "
                f"{self.file.format('*')} again"
            ) from error
        return tensors

    def _renamed(self, name: str) -> str:
        layer, weight = name.split("/")
        return f"{self.layer_name(layer)}/{weight}"


def _other_layout(file: Any) -> str | None:
    """What an HDF5 file of Keras holds that is not in the layout of published weights."""
    if "layer_names" in file.attrs:
        return None
    if "model_weights" in file:
        return "a whole model (model.save of Keras 2, or its .h5 form)"
    if {"layers", "_layer_checkpoint_dependencies"} & set(file) or "vars" in file:
        return "weights in the layout of Keras 3 (save_weights to .weights.h5)"
    return None


def _download(url: str, path: Path, sha256: str | None) -> None:
    """Downloads a file and writes it only if it is whole and its checksum is right."""
    remedy = f"download {url} by hand and pass it with --weights, or choose --weights random"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            size = int(response.headers.get("Content-Length", 0))  # 0: the server does not say
            stated = ",".join(response.headers.get_all("x-goog-hash", []))
            with wrap_file(response, size, description=f"downloading {path.name}") as stream:
                data = b"".join(iter(functools.partial(stream.read, 1 << 18), b""))
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise InputError(f"cannot download {url}: {error}; {remedy}") from error
    if size and len(data) != size:
        raise InputError(f"{url}: {len(data)} bytes received, {size} expected; {remedy}")
    if sha256:
        found, expected = hashlib.sha256(data).hexdigest(), sha256
    elif match := re.search(r"md5=([^,\s]+)", stated):
        md5 = hashlib.md5(data, usedforsecurity=False)
        found, expected = base64.b64encode(md5.digest()).decode(), match[1]
    else:
        raise InputError(f"{url}: the server states no checksum to compare with; {remedy}")
    if found != expected:
        raise InputError(f"{url}: checksum {found} found, {expected} expected; {remedy}")
    write_atomically(path, data)


@functools.cache
def _shapes(build: Callable[[float], nnx.Module], width: float) -> dict[str, Shape]:
    """Returns the shapes of all arrays of a network except its head's, by parameter name."""
    model = nnx.eval_shape(lambda: build(width))
    state = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    named = {".".join(map(str, path)): tuple(leaf.shape) for path, leaf in state}
    return {name: shape for name, shape in named.items() if not name.startswith("head.")}
