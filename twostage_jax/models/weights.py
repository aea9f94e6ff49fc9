"""ImageNet weights of MobileNet v1, ported from Keras's HDF5 files.

A file is converted once, to safetensors under our own parameter names, in the weights cache
(`checkpoints/weights` in a clone). Downloads come from the address that Keras itself uses.
"""

import base64
import contextlib
import functools
import hashlib
import http.client
import re
import urllib.request
from pathlib import Path
from typing import NamedTuple

import h5py
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from rich.progress import wrap_file

from twostage_jax.models.mobilenet_v1 import STEM_CHANNELS, MobileNet
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

BASE_URL = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"

# Width multiplier -> how Keras writes it in the file's name.
PUBLISHED_WIDTHS = {0.25: "2_5", 0.5: "5_0", 0.75: "7_5", 1.0: "1_0"}

# SHA-256 of the published files that we have held in hand. The others are checked against the MD5
# that the server itself states for the file.
SHA256 = {
    "mobilenet_2_5_224_tf_no_top.h5": (
        "dbdb03ee2a22fd895301636cd328b234bb3a9952358f436d82f46b81e0d5b0bf"
    ),
}

# Our names of a batch norm's place and of its arrays -> Keras's.
_PLACE = {"depthwise_norm": "dw", "pointwise_norm": "pw"}
_NORM = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}


class Weights(NamedTuple):
    """Everything of a MobileNet but its head.

    Attributes:
        arrays: float32 by parameter name, such as `blocks.0.depthwise`.
        digest: SHA-256 of the Keras file that they were ported from.
    """

    arrays: dict[str, np.ndarray]
    digest: str


def set_weights(state: nnx.State, weights: Weights) -> nnx.State:
    """The parameters or statistics of a MobileNet, all but its head's replaced by `weights`.

    Where `state` has a leading member axis, every member gets the same.
    """

    def replace(path: tuple, leaf: nnx.Variable) -> nnx.Variable:
        array = weights.arrays.get(".".join(map(str, path)))
        return leaf if array is None else leaf.replace(jnp.broadcast_to(array, leaf.shape))

    return nnx.map_state(replace, state)


def load_weights(source: str, width: float, cache: Path) -> Weights | None:
    """The weights that a run starts from.

    Args:
        source: `imagenet` (from the cache, else downloaded), `random` (gives None), or the path
            of one of Keras's `mobilenet_*_tf_no_top.h5` files.
        width: multiplier of the network's channels.
        cache: folder of downloaded and of converted weights; made where it is missing.

    Raises:
        InputError: no weights are published at that width, the file is missing, truncated, of
            another width or not Keras's, its checksum is wrong, or the download failed.
    """
    if source == "random":
        return None
    if source != "imagenet":
        return _converted(Path(source), width, cache)
    if width not in PUBLISHED_WIDTHS:
        raise InputError(
            f"no ImageNet weights are published at width {width:g} (at "
            f"{', '.join(f'{w:g}' for w in PUBLISHED_WIDTHS)}); choose one of these widths, or "
            "--weights random"
        )
    path = cache / f"mobilenet_{PUBLISHED_WIDTHS[width]}_224_tf_no_top.h5"
    if not path.exists():
        _download(BASE_URL + path.name, path)
    return _converted(path, width, cache)


def _download(url: str, path: Path) -> None:
    """Fetches a file whole and checked, or not at all, with a progress bar."""
    remedy = f"download {url} by hand and pass it with --weights, or choose --weights random"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            size = int(response.headers.get("Content-Length", 0))  # 0: the server does not say
            stated = ",".join(response.headers.get_all("x-goog-hash", []))
            with wrap_file(response, size, description=f"downloading {path.name}") as stream:
                data = b"".join(iter(functools.partial(stream.read, 1 << 18), b""))
    except (OSError, http.client.HTTPException) as error:
        raise InputError(f"cannot download {url}: {error}; {remedy}") from error
    if size and len(data) != size:
        raise InputError(f"{url}: {len(data)} bytes received, {size} expected; {remedy}")
    if path.name in SHA256:
        found, expected = hashlib.sha256(data).hexdigest(), SHA256[path.name]
    elif match := re.search(r"md5=([^,\s]+)", stated):
        md5 = hashlib.md5(data, usedforsecurity=False)
        found, expected = base64.b64encode(md5.digest()).decode(), match[1]
    else:
        raise InputError(f"{url}: the server states no checksum to compare with; {remedy}")
    if found != expected:
        raise InputError(f"{url}: checksum {found} found, {expected} expected; {remedy}")
    write_atomically(path, data)


def _converted(path: Path, width: float, cache: Path) -> Weights:
    """The weights of an HDF5 file, from its converted copy in the cache where there is one."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"cannot read the weights file {path}: {error.strerror}; pass one of Keras's "
            "mobilenet_*_tf_no_top.h5 files, 'imagenet' or 'random'"
        ) from error
    expected = SHA256.get(path.name, digest)
    if digest != expected:
        raise InputError(
            f"{path}: SHA-256 {digest[:16]}... found, {expected[:16]}... expected of Keras's file "
            "of that name; it is truncated or altered: download it again, or rename it if you "
            "mean to use it"
        )
    copy = cache / f"{path.stem}-{digest[:16]}.safetensors"
    # A copy that cannot be read, or is of another width or version, is made again.
    with contextlib.suppress(OSError, safetensors.SafetensorError):
        arrays = safetensors.numpy.load_file(copy)
        if {name: array.shape for name, array in arrays.items()} == _shapes(width):
            return Weights(arrays, digest)
    arrays = port(path, width)
    write_atomically(copy, safetensors.numpy.save(arrays, {"source_sha256": digest}))
    return Weights(arrays, digest)


def port(path: Path, width: float) -> dict[str, np.ndarray]:
    """Converts one of Keras's HDF5 files (Keras 2 layout) to our parameter names and layouts.

    Raises:
        InputError: the file cannot be read, is of another width, or does not hold exactly the
            tensors expected; all that is wrong is named at once.
    """
    tensors = _read(path)
    stem = tensors.get("conv1/kernel", np.empty(0)).shape
    if stem[:-1] == (3, 3, 3) and stem[-1] != int(STEM_CHANNELS * width):
        found = stem[-1] / STEM_CHANNELS
        raise InputError(
            f"{path} holds a MobileNet of width {found:g}, width {width:g} expected; pass "
            f"--width {found:g} or the file of the other width"
        )
    arrays, problems = {}, []
    for name, shape in _shapes(width).items():
        keras_name, keras_shape = _in_keras(name, shape)
        tensor = tensors.pop(keras_name, None)
        if tensor is None:
            problems.append(f"'{keras_name}' is missing")
        elif tensor.shape != keras_shape:
            problems.append(f"'{keras_name}' has shape {tensor.shape}, {keras_shape} expected")
        elif not np.isfinite(tensor).all():
            problems.append(f"'{keras_name}' is not finite")
        else:
            arrays[name] = tensor.reshape(shape)
    problems += [f"'{foreign}' is not part of it" for foreign in tensors]
    if problems:
        raise InputError(
            f"{path} is not Keras's MobileNet v1 of width {width:g} without its classifier: "
            f"{'; '.join(problems)}; download mobilenet_*_224_tf_no_top.h5 again"
        )
    return arrays


def _read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a Keras HDF5 file by `layer/weight`."""
    tensors = {}
    try:
        with h5py.File(path) as file:
            for layer in file.attrs["layer_names"]:
                for weight in file[layer].attrs["weight_names"]:
                    dataset = file[layer][weight]  # its name: /layer/[.../]weight[:0]
                    parts = dataset.name.removesuffix(":0").split("/")
                    tensors[f"{parts[1]}/{parts[-1]}"] = np.asarray(dataset, np.float32)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a whole Keras HDF5 weights file ({error}); download "
            "mobilenet_*_224_tf_no_top.h5 again"
        ) from error
    return tensors


def _in_keras(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Keras's `layer/weight` for a parameter of ours, and its shape there.

    The values lie in the same order. Keras counts blocks from 1.
    """
    match name.split("."):
        case ["stem", "kernel"]:
            return "conv1/kernel", (3, 3, 3, shape[-1])
        case ["stem", "norm", array]:
            return f"conv1_bn/{_NORM[array]}", shape
        case ["blocks", i, "depthwise"]:
            return f"conv_dw_{int(i) + 1}/depthwise_kernel", (3, 3, shape[-1], 1)
        case ["blocks", i, "pointwise"]:
            return f"conv_pw_{int(i) + 1}/kernel", (1, 1, *shape)
        case ["blocks", i, place, array]:
            return f"conv_{_PLACE[place]}_{int(i) + 1}_bn/{_NORM[array]}", shape
    raise KeyError(name)


@functools.cache
def _shapes(width: float) -> dict[str, tuple[int, ...]]:
    """The shapes of everything that a MobileNet has but its head, by parameter name."""
    model = nnx.eval_shape(lambda: MobileNet(2, width, rngs=nnx.Rngs(0)))
    state = nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    named = {".".join(map(str, path)): tuple(leaf.shape) for path, leaf in state}
    return {name: shape for name, shape in named.items() if not name.startswith("head.")}
