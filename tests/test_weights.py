"""Keras's weights: the port, the cache of converted ones, the download from a loopback server."""

import base64
import dataclasses
import hashlib
import http.server
import socket
import threading
from pathlib import Path

import h5py
import jax
import numpy as np
import pytest
from flax import nnx
from keras_files import write_keras

from twostage_jax.models import weights
from twostage_jax.models.mobilenet_v1 import WEIGHTS, MobileNet
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

SHARED = Path(__file__).parents[2] / "shared" / "weights"
REAL = {0.25: "mobilenet_2_5_224_tf_no_top.h5", 0.75: "mobilenet_7_5_224_tf_no_top.h5"}


def keras_tensors(width: float = 0.25) -> dict[str, np.ndarray]:
    """Random tensors under Keras's names and in its shapes, written down a second time here."""
    rng = np.random.default_rng(0)
    tensors = {}

    def add_norm(layer, channels):
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            tensors[f"{layer}/{name}"] = rng.uniform(0.5, 1.5, channels)

    def add(name, *shape):
        tensors[name] = rng.normal(size=shape)

    before = int(32 * width)
    add("conv1/kernel", 3, 3, 3, before)
    add_norm("conv1_bn", before)
    out_channels = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    for i, out in enumerate(out_channels, start=1):
        out = int(out * width)
        add(f"conv_dw_{i}/depthwise_kernel", 3, 3, before, 1)
        add_norm(f"conv_dw_{i}_bn", before)
        add(f"conv_pw_{i}/kernel", 1, 1, before, out)
        add_norm(f"conv_pw_{i}_bn", out)
        before = out
    return {name: tensor.astype(np.float32) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    return keras_tensors()


@pytest.fixture(scope="module")
def body(tensors, tmp_path_factory) -> bytes:
    """The bytes of a good file."""
    return write_keras(tmp_path_factory.mktemp("body") / "a.h5", tensors).read_bytes()


@pytest.fixture
def good(body, tmp_path) -> Path:
    path = tmp_path / "good.h5"
    path.write_bytes(body)
    return path


def error_of(function, *arguments) -> str:
    with pytest.raises(InputError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- Port ---


def check_port(arrays, tensors):
    assert len(arrays) == len(tensors) == 135
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    kernel = tensors["conv1/kernel"]
    for i, j, color in np.ndindex(3, 3, 3):
        row = arrays["stem.kernel"][9 * i + 3 * j + color]
        np.testing.assert_array_equal(row, kernel[i, j, color])
    for i, j in np.ndindex(3, 3):
        row = arrays["blocks.12.depthwise"][3 * i + j]
        np.testing.assert_array_equal(row, tensors["conv_dw_13/depthwise_kernel"][i, j, :, 0])
    pairs = {
        "blocks.0.pointwise": tensors["conv_pw_1/kernel"][0, 0],
        "stem.norm.scale": tensors["conv1_bn/gamma"],
        "stem.norm.bias": tensors["conv1_bn/beta"],
        "blocks.0.depthwise_norm.mean": tensors["conv_dw_1_bn/moving_mean"],
        "blocks.12.pointwise_norm.var": tensors["conv_pw_13_bn/moving_variance"],
    }
    for ours, theirs in pairs.items():
        np.testing.assert_array_equal(arrays[ours], theirs)


def test_port(good, tensors):
    check_port(WEIGHTS.port(good, 0.25), tensors)


@pytest.mark.parametrize("width", REAL)
def test_port_of_a_real_file(width):
    path = SHARED / REAL[width]
    if not path.exists():
        pytest.skip("Keras's file is not on this machine")
    with h5py.File(path) as file:
        tensors = {}
        file.visititems(
            lambda name, node: (
                tensors.update({name.split("/", 1)[1].removesuffix(":0"): node[:]})
                if isinstance(node, h5py.Dataset)
                else None
            )
        )
    check_port(WEIGHTS.port(path, width), tensors)


def test_port_goes_by_layer_and_weight(tmp_path, tensors):
    """Whether or not a name has an output's number, or a scope between layer and weight."""
    scoped = {"{}/scope/{}".format(*name.split("/")): array for name, array in tensors.items()}
    for written, suffix in ((tensors, ""), (scoped, ":0")):
        check_port(WEIGHTS.port(write_keras(tmp_path / "a.h5", written, suffix), 0.25), tensors)


def test_everything_wrong_is_named_at_once(tmp_path, tensors):
    bad = dict(tensors)
    del bad["conv_dw_3/depthwise_kernel"]
    bad["conv_pw_2/kernel"] = np.swapaxes(bad["conv_pw_2/kernel"], 2, 3)
    bad["conv_dw_5/depthwise_kernel"] = np.ones((5, 5, 7, 1), np.float32)
    bad["conv1/kernel"] = np.float32(1)
    bad["dense/kernel"] = np.ones((2, 2), np.float32)
    bad["conv1_bn/renorm_mean"] = np.ones(8, np.float32)
    bad["conv_dw_14/depthwise_kernel"] = np.ones((3, 3, 256, 1), np.float32)
    bad["conv1_bn/beta"] = np.full(8, np.nan, np.float32)
    path = write_keras(tmp_path / "bad.h5", bad)
    message = error_of(WEIGHTS.port, path, 0.25)
    for part in (
        str(path),
        "'conv_dw_3/depthwise_kernel' is missing",
        "'conv_pw_2/kernel' has shape (1, 1, 32, 16), (1, 1, 16, 32) expected",
        "'conv_dw_5/depthwise_kernel' has shape (5, 5, 7, 1), (3, 3, 64, 1) expected",
        "'conv1/kernel' has shape ()",
        "'dense/kernel' is not part of it",
        "'conv1_bn/renorm_mean' is not part of it",
        "'conv_dw_14/depthwise_kernel' is not part of it",
        "'conv1_bn/beta' is not finite",
    ):
        assert part in message


@pytest.mark.parametrize(("name", "value"), [("conv1_bn/gamma", np.inf), ("conv1/kernel", np.nan)])
def test_tensors_that_are_not_finite(tmp_path, tensors, name, value):
    bad = tensors[name].copy()
    bad.flat[3] = value
    path = write_keras(tmp_path / "bad.h5", tensors | {name: bad})
    assert f"'{name}' is not finite" in error_of(WEIGHTS.port, path, 0.25)


def test_wrong_width_names_both(good, tmp_path):
    message = error_of(WEIGHTS.load, str(good), 0.5, tmp_path / "cache")
    assert "holds a MobileNet v1 of width 0.25, width 0.5 expected" in message
    assert "--width 0.25" in message
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kept", [0, 7, 2000, -1])
def test_truncated_file(good, tmp_path, kept):
    good.write_bytes(good.read_bytes()[:kept])
    message = error_of(WEIGHTS.load, str(good), 0.25, tmp_path / "cache")
    assert f"{good} is not a whole Keras HDF5 weights file" in message
    assert "download" in message


def test_other_files(tmp_path):
    text = tmp_path / "notes.h5"
    text.write_text("not HDF5")
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = 1
    strings = tmp_path / "strings.h5"
    write_keras(strings, {"conv1/kernel": np.array(b"text")})
    for path in (text, other, strings):
        message = error_of(WEIGHTS.load, str(path), 0.25, tmp_path / "cache")
        assert f"{path} is not a whole Keras HDF5 weights file" in message


def test_missing_file(tmp_path):
    for path in (tmp_path / "missing.h5", tmp_path):
        message = error_of(WEIGHTS.load, str(path), 0.25, tmp_path / "cache")
        assert f"cannot read the weights file {path}" in message
        assert "'imagenet' or 'random'" in message


def test_wrong_checksum_of_a_file_of_a_known_name(good, tmp_path):
    known = good.rename(tmp_path / REAL[0.25])
    message = error_of(WEIGHTS.load, str(known), 0.25, tmp_path / "cache")
    assert hashlib.sha256(known.read_bytes()).hexdigest()[:16] in message
    assert WEIGHTS.sha256[known.name][:16] in message
    assert "rename it" in message


def test_random_weights_are_none(tmp_path):
    assert WEIGHTS.load("random", 0.3, tmp_path / "cache") is None
    assert not (tmp_path / "cache").exists()


def test_width_that_is_not_published(tmp_path):
    message = error_of(WEIGHTS.load, "imagenet", 0.3, tmp_path)
    assert "width 0.3 (at 0.25, 0.5, 0.75, 1)" in message
    assert "--weights random" in message


# --- Cache ---


def test_converted_once(good, tmp_path, tensors, monkeypatch):
    cache = tmp_path / "new" / "cache"
    first = WEIGHTS.load(str(good), 0.25, cache)
    check_port(first.arrays, tensors)
    assert first.digest == hashlib.sha256(good.read_bytes()).hexdigest()
    assert [path.suffix for path in cache.iterdir()] == [".safetensors"]

    monkeypatch.setattr(weights.KerasWeights, "port", lambda *_: pytest.fail("converted again"))
    again = WEIGHTS.load(str(good), 0.25, cache)
    assert again.digest == first.digest
    check_port(again.arrays, tensors)


def test_another_file_of_the_same_name_is_converted_anew(good, tmp_path, tensors):
    cache = tmp_path / "cache"
    first = WEIGHTS.load(str(good), 0.25, cache)
    changed = tensors | {"conv1_bn/beta": tensors["conv1_bn/beta"] + 1}
    write_keras(good, changed)
    second = WEIGHTS.load(str(good), 0.25, cache)
    check_port(second.arrays, changed)
    assert second.digest != first.digest


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:1000],
        lambda data: data[:-1],
        lambda data: b"\xff" * len(data),
        lambda data: data.replace(b"stem.kernel", b"old__kernel"),  # of another version of ours
    ],
    ids=["empty", "header cut", "data cut", "garbage", "other names"],
)
def test_bad_cache_entry_is_made_again(good, tmp_path, tensors, spoil):
    cache = tmp_path / "cache"
    WEIGHTS.load(str(good), 0.25, cache)
    (entry,) = cache.iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(spoil(whole))
    assert entry.read_bytes() != whole
    check_port(WEIGHTS.load(str(good), 0.25, cache).arrays, tensors)
    assert entry.read_bytes() == whole


def test_cached_entry_of_another_width_says_so(good, tmp_path):
    WEIGHTS.load(str(good), 0.25, tmp_path / "cache")
    message = error_of(WEIGHTS.load, str(good), 1.0, tmp_path / "cache")
    assert "width 0.25, width 1 expected" in message


def test_set_weights_leaves_the_head_and_reaches_every_member(good, tensors):
    ported = weights.Weights(WEIGHTS.port(good, 0.25), "")
    shapes = nnx.eval_shape(lambda: nnx.state(MobileNet(3, 0.25, rngs=nnx.Rngs(0))))
    state = jax.tree.map(lambda leaf: np.zeros((2, *leaf.shape), leaf.dtype), shapes)
    after = weights.set_weights(state, ported)
    kernel = after["blocks"][0]["pointwise"][...]
    assert kernel.shape == (2, 8, 16)
    for member in kernel:
        np.testing.assert_array_equal(member, tensors["conv_pw_1/kernel"][0, 0])
    left = [path for path, leaf in nnx.to_flat_state(after) if not np.any(leaf[...])]
    assert {path[0] for path in left} == {"head"}
    assert len(left) == 4


# --- Download ---


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with `content`, `status` and `headers`, and notes the paths asked."""

    content = b""
    status = 200
    headers: dict = {}  # noqa: RUF012
    asked: list
    files: weights.KerasWeights


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.send_response(self.server.status)
        for name, value in self.server.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        server.files = dataclasses.replace(WEIGHTS, base_url=address)
        monkeypatch.setenv("no_proxy", "*")
        yield server
        server.shutdown()
        thread.join()


def headers_for(body: bytes, **replaced) -> list[tuple[str, str]]:
    """As the real server: two checksums, each in a header of its own."""
    md5 = base64.b64encode(hashlib.md5(replaced.get("hashed", body)).digest()).decode()
    return [
        ("Content-Length", str(replaced.get("length", len(body)))),
        ("x-goog-hash", "crc32c=AAAAAA=="),
        ("x-goog-hash", f"md5={md5}"),
    ]


def refused(files: weights.KerasWeights, cache: Path, width: float = 0.5) -> str:
    message = error_of(files.load, "imagenet", width, cache)
    assert files.base_url in message
    assert "by hand" in message
    assert "--weights random" in message
    assert not cache.exists() or not list(cache.iterdir())
    return message


@pytest.fixture
def half(tmp_path) -> bytes:
    """A good file of a width whose checksum we do not know by heart."""
    return write_keras(tmp_path / "half.h5", keras_tensors(0.5)).read_bytes()


def test_download(server, half, tmp_path, capsys):
    server.content, server.headers = half, headers_for(half)
    cache = tmp_path / "cache"
    loaded = server.files.load("imagenet", 0.5, cache)
    check_port(loaded.arrays, keras_tensors(0.5))
    assert (cache / "mobilenet_5_0_224_tf_no_top.h5").read_bytes() == half
    assert "downloading mobilenet_5_0_224_tf_no_top.h5" in capsys.readouterr().out
    assert server.asked == ["/mobilenet_5_0_224_tf_no_top.h5"]
    server.files.load("imagenet", 0.5, cache)
    assert len(server.asked) == 1
    assert capsys.readouterr().out == ""


def test_download_of_unknown_length(server, half, tmp_path, capsys):
    server.content, server.headers = half, headers_for(half)[1:]
    check_port(server.files.load("imagenet", 0.5, tmp_path).arrays, keras_tensors(0.5))
    assert "downloading" in capsys.readouterr().out


def test_download_against_a_checksum_known_by_heart(server, body, tmp_path):
    server.content, server.headers = body, headers_for(body)
    assert WEIGHTS.sha256[REAL[0.25]] in refused(
        server.files, tmp_path / "cache", 0.25
    )  # the server's MD5 fits
    known = {REAL[0.25]: hashlib.sha256(body).hexdigest()}
    files = dataclasses.replace(server.files, sha256=known)
    server.headers = []
    assert files.load("imagenet", 0.25, tmp_path / "cache") is not None


@pytest.mark.parametrize("stated", ["md5=", "md5=!", "md5=AAAA", None])
def test_download_with_a_wrong_checksum(server, half, tmp_path, stated):
    server.content, server.headers = half, headers_for(half, hashed=b"other")
    if stated is not None:
        server.headers = [("x-goog-hash", stated)]
    assert "checksum" in refused(server.files, tmp_path / "cache")


def test_download_without_a_checksum(server, half, tmp_path):
    server.content, server.headers = half, headers_for(half)[:2]
    assert "no checksum" in refused(server.files, tmp_path / "cache")


def test_download_cut_short(server, half, tmp_path):
    server.content, server.headers = half, headers_for(half, length=len(half) + 1000)
    assert f"{len(half)} bytes received, {len(half) + 1000} expected" in refused(
        server.files, tmp_path / "cache"
    )


def test_download_cut_short_in_chunks(server, half, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
    chunk = b"fffff\r\n" + half[:1000]
    server.content = chunk
    server.headers = [("Transfer-Encoding", "chunked"), ("Connection", "close")]
    assert "IncompleteRead" in refused(server.files, tmp_path / "cache")


def test_download_not_found(server, tmp_path):
    server.status = 404
    assert "404" in refused(server.files, tmp_path / "cache")


def test_connection_refused(monkeypatch, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    files = dataclasses.replace(WEIGHTS, base_url=f"http://127.0.0.1:{port}/")
    monkeypatch.setenv("no_proxy", "*")
    assert "refused" in refused(files, tmp_path / "cache")


def test_download_that_is_not_a_mobilenet(server, tmp_path):
    """The checksum fits, yet the file does not: that is a message, too."""
    server.content, server.headers = b"<html>", headers_for(b"<html>")
    assert "not a whole Keras HDF5" in error_of(server.files.load, "imagenet", 0.5, tmp_path)
