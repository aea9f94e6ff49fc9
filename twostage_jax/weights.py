"""ImageNet weights of MobileNet v1, ported from Keras's HDF5 files.

A file is converted once, to safetensors under our own parameter names, in the weights cache
(`checkpoints/weights` in a clone). Downloads come from the address that Keras itself uses.
"""

import base64
import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import safetensors
import safetensors.numpy
from flax import nnx
from rich.progress import wrap_file

from twostage_jax.errors import InputError
from twostage_jax.files import write_atomically
from twostage_jax.mobilenet import STEM_CHANNELS, MobileNet

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

_NORM = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def _flat(kernel: np.ndarray) -> np.ndarray:
    """(3, 3, in, out) -> (9 in, out); for a 1 x 1 kernel (in, out)."""
    return kernel.reshape(-1, kernel.shape[-1])


def _taps(kernel: np.ndarray) -> np.ndarray:
    """(3, 3, channels, 1) -> (9, channels)."""
    return kernel.reshape(9, -1)


def _same(vector: np.ndarray) -> np.ndarray:
    return vector


# Keras's `layer/weight` -> our parameter's name and layout. Keras counts blocks from 1.
_PORT: tuple[tuple[str, Callable[[re.Match], str], Callable[[np.ndarray], np.ndarray]], ...] = (
    (r"conv1/kernel", lambda m: "stem.kernel", _flat),
    (r"conv1_bn/(\w+)", lambda m: f"stem.norm.{_NORM[m[1]]}", _same),
    (
        r"conv_dw_(\d+)/depthwise_kernel",
        lambda m: f"blocks.{int(m[1]) - 1}.depthwise",
        _taps,
    ),
    (
        r"conv_dw_(\d+)_bn/(\w+)",
        lambda m: f"blocks.{int(m[1]) - 1}.depthwise_norm.{_NORM[m[2]]}",
        _same,
    ),
    (r"conv_pw_(\d+)/kernel", lambda m: f"blocks.{int(m[1]) - 1}.pointwise", _flat),
    (
        r"conv_pw_(\d+)_bn/(\w+)",
        lambda m: f"blocks.{int(m[1]) - 1}.pointwise_norm.{_NORM[m[2]]}",
        _same,
    ),
)


class Weights(NamedTuple):
    """Everything of a MobileNet but its head.

    Attributes:
        arrays: float32 by parameter name, such as `blocks.0.depthwise`.
        digest: SHA-256 of the Keras file that they were ported from.
    """

    arrays: dict[str, np.ndarray]
    digest: str


def parameter_names(model: nnx.Module) -> dict[str, nnx.Variable]:
    """The variables of a model by dotted name; the head, which has no ported weights, left out."""
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    named = {".".join(map(str, path)): leaf for path, leaf in nnx.to_flat_state(state)}
    return {name: leaf for name, leaf in named.items() if not name.startswith("head.")}


def set_weights(model: MobileNet, weights: Weights) -> None:
    """Overwrites everything of `model` but its head."""
    for name, variable in parameter_names(model).items():
        variable[...] = weights.arrays[name]


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
    digests = {"md5": hashlib.md5(usedforsecurity=False), "sha256": hashlib.sha256()}
    data = bytearray()
    remedy = f"download {url} by hand and pass it with --weights, or choose --weights random"
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            size = int(response.headers.get("Content-Length", 0))
            stated = ",".join(response.headers.get_all("x-goog-hash") or [])
            with wrap_file(response, size, description=f"downloading {path.name}") as stream:
                while block := stream.read(1 << 18):
                    data += block
                    for digest in digests.values():
                        digest.update(block)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise InputError(f"cannot download {url}: {reason}; {remedy}") from error
    if size and len(data) != size:
        raise InputError(f"{url}: {len(data)} bytes received, {size} expected; {remedy}")
    found, expected = digests["sha256"].hexdigest(), SHA256.get(path.name)
    if expected is None and (match := re.search(r"md5=([A-Za-z0-9+/]+=*)", stated)):
        found, expected = digests["md5"].hexdigest(), base64.b64decode(match[1]).hex()
    if expected is None:
        raise InputError(f"{url}: the server states no checksum to compare with; {remedy}")
    if found != expected:
        raise InputError(f"{url}: checksum {found} found, {expected} expected; {remedy}")
    write_atomically(path, bytes(data))


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
    if copy.exists():
        try:
            arrays = safetensors.numpy.load_file(copy)
        except safetensors.SafetensorError:
            copy.unlink()  # a cache entry that cannot be read is made again
        else:
            _check(path, arrays, width)
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
    tensors, foreign = {}, []
    try:
        with h5py.File(path) as file:
            for layer in file.attrs["layer_names"]:
                group = file[layer]
                for weight in group.attrs["weight_names"]:
                    name = weight.decode().removesuffix(":0")
                    tensors[name] = np.asarray(group[weight], np.float32)
    except (OSError, KeyError) as error:
        raise InputError(
            f"{path} is not a whole Keras HDF5 weights file ({error}); download "
            "mobilenet_*_224_tf_no_top.h5 again"
        ) from error
    arrays = {}
    for name, tensor in tensors.items():
        for pattern, rename, layout in _PORT:
            if match := re.fullmatch(pattern, name):
                arrays[rename(match)] = layout(tensor)
                break
        else:
            foreign.append(f"'{name}' is not part of MobileNet v1 without its classifier")
    _check(path, arrays, width, foreign)
    return arrays


def _check(
    path: Path, arrays: dict[str, np.ndarray], width: float, problems: list[str] | None = None
) -> None:
    """Raises one InputError that names everything that is missing, foreign or of another shape."""
    if "stem.kernel" in arrays:
        found = arrays["stem.kernel"].shape[-1] / STEM_CHANNELS
        if int(STEM_CHANNELS * width) != arrays["stem.kernel"].shape[-1]:
            raise InputError(
                f"{path} holds a MobileNet of width {found:g}, width {width:g} expected; pass "
                f"--width {found:g} or the file of the other width"
            )
    problems = list(problems or ())
    model = nnx.eval_shape(lambda: MobileNet(2, width, rngs=nnx.Rngs(0)))
    expected = {name: tuple(leaf.shape) for name, leaf in parameter_names(model).items()}
    for name, shape in expected.items():
        if name not in arrays:
            problems.append(f"'{name}' is missing")
        elif arrays[name].shape != shape:
            problems.append(f"'{name}' has shape {arrays[name].shape}, {shape} expected")
        elif not np.isfinite(arrays[name]).all():
            problems.append(f"'{name}' is not finite")
    problems += [f"'{name}' is unexpected" for name in arrays.keys() - expected.keys()]
    if problems:
        raise InputError(
            f"{path} is not Keras's MobileNet of width {width:g}: {'; '.join(problems)}"
        )
