"""The paper's tiles: the unpacked archive and TensorFlow Datasets must give one image set."""

import functools
import hashlib
import http.server
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from twostage_jax.data.sources import colorectal, folder, prepared
from twostage_jax.support.errors import InputError

REAL_TILES = Path(__file__).parents[2] / "shared" / "data" / "kather24"

FOLDERS = (
    "01_TUMOR",
    "02_STROMA",
    "03_COMPLEX",
    "04_LYMPHO",
    "05_DEBRIS",
    "06_MUCOSA",
    "07_ADIPOSE",
    "08_EMPTY",
)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    """An unpacked archive in small: 24 real tiles where at hand, else random ones."""
    root = tmp_path_factory.mktemp("unpacked") / colorectal.ARCHIVE
    if REAL_TILES.is_dir():
        shutil.copytree(REAL_TILES, root)
        return root
    rng = np.random.default_rng(0)
    for i, class_folder in enumerate(FOLDERS):
        (root / class_folder).mkdir(parents=True)
        for j in range(3):
            pixels = rng.integers(0, 256, (150, 150, 3), np.uint8)
            file = f"1{'ACB'[j]}{i}_CRC-Prim-HE-0{j}.tif_Row_{150 * i + 1}_Col_{j}.tif"
            Image.fromarray(pixels).save(root / class_folder / file)
    return root


def pack(tiles: Path, archive: Path) -> None:
    """Zips the tiles as Zenodo's archive is: one folder at the root, and what is no tile."""
    with zipfile.ZipFile(archive, "w") as members:
        for path in sorted(tiles.rglob("*.tif"), reverse=True):
            members.write(path, f"{colorectal.ARCHIVE}/{path.relative_to(tiles)}")
        members.writestr(f"{colorectal.ARCHIVE}/01_TUMOR/Thumbs.db", b"no tile")
        members.writestr(f"__MACOSX/{colorectal.ARCHIVE}/01_TUMOR/._1A.tif", b"no tile")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def published(tiles, tmp_path, monkeypatch) -> str:
    """Serves the packed tiles on the loopback interface, in place of Zenodo. Returns the URL."""
    www = tmp_path / "www"
    www.mkdir()
    archive = www / f"{colorectal.ARCHIVE}.zip"
    pack(tiles, archive)
    handler = functools.partial(QuietHandler, directory=str(www))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
    monkeypatch.setattr(colorectal, "ARCHIVE_URL", url)
    monkeypatch.setattr(colorectal, "ARCHIVE_BYTES", archive.stat().st_size)
    monkeypatch.setattr(
        colorectal, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest()
    )
    monkeypatch.setattr(prepared, "DOWNLOAD_TRIES", 0)
    colorectal.builder_class.cache_clear()
    yield url
    colorectal.builder_class.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("image_size", [None, 64])
def test_tfds_gives_what_the_folder_gives(tiles, published, tmp_path, image_size):
    from_folder = colorectal.load(tiles, image_size)
    downloaded = colorectal.load(tmp_path / "tfds", image_size)
    assert downloaded.names == from_folder.names
    assert downloaded.class_names == from_folder.class_names == colorectal.CLASS_NAMES
    np.testing.assert_array_equal(downloaded.labels, from_folder.labels)
    np.testing.assert_array_equal(downloaded.images, from_folder.images)
    assert downloaded.fingerprint == from_folder.fingerprint
    size = image_size or 150
    assert downloaded.images.shape == (24, size, size, 3)
    assert list(downloaded.class_counts) == [3] * 8


def test_second_read_does_not_download(published, tmp_path, monkeypatch):
    first = colorectal.load(tmp_path / "tfds", 32)
    (tmp_path / "www" / f"{colorectal.ARCHIVE}.zip").unlink()
    assert colorectal.load(tmp_path / "tfds", 32).fingerprint == first.fingerprint


def test_reads_what_tensorflow_prepared(published, tmp_path):
    """A data dir in TFRecord format, TensorFlow Datasets' default, is read without TensorFlow."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    expected = colorectal.load(tmp_path / "tfds", 32)
    prepared = tmp_path / "tfds" / "colorectal_histology" / "2.0.0"
    (shard,) = prepared.glob("*.array_record-*")
    records = ArrayRecordDataSource([str(shard)])
    framed = [len(r).to_bytes(8, "little") + bytes(4) + r + bytes(4) for r in list(records)]
    tfrecord = prepared / shard.name.replace("array_record", "tfrecord")
    tfrecord.write_bytes(b"".join(framed))
    shard.unlink()
    info = prepared / "dataset_info.json"
    content = json.loads(info.read_text())
    content["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(content).replace("array_record", "tfrecord"))

    assert colorectal.load(tmp_path / "tfds", 32).fingerprint == expected.fingerprint

    tfrecord.write_bytes(b"".join(framed)[:-1])
    with pytest.raises(InputError, match="cut short"):
        colorectal.load(tmp_path / "tfds", 32)
    tfrecord.write_bytes(b"".join(framed[:-1]))
    with pytest.raises(InputError, match="holds 23 images of the split train; expected the 24 of"):
        colorectal.load(tmp_path / "tfds", 32)


def test_tensorflow_is_never_imported(published, tmp_path):
    """In a fresh process, in which no other test can have imported it."""
    program = f"""
import sys
from pathlib import Path
from twostage_jax.data.sources import colorectal
colorectal.ARCHIVE_URL = {published!r}
colorectal.ARCHIVE_BYTES = {colorectal.ARCHIVE_BYTES}
colorectal.ARCHIVE_SHA256 = {colorectal.ARCHIVE_SHA256!r}
print(len(colorectal.load(Path({str(tmp_path / "tfds")!r}), 32)), "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "24 False"


def assert_advises_download_by_hand(error: InputError) -> None:
    assert "\n" not in str(error)
    for part in ("53169", colorectal.ARCHIVE, "--data-dir"):
        assert part in str(error)


def test_wrong_archive_is_refused(published, tmp_path, monkeypatch):
    monkeypatch.setattr(colorectal, "ARCHIVE_SHA256", "0" * 64)
    with pytest.raises(InputError, match="is not the published archive") as caught:
        colorectal.load(tmp_path / "tfds", None)
    assert_advises_download_by_hand(caught.value)


def test_missing_archive_is_reported(published, tmp_path):
    (tmp_path / "www" / f"{colorectal.ARCHIVE}.zip").unlink()
    with pytest.raises(InputError, match=r"cannot download .*404") as caught:
        colorectal.load(tmp_path / "tfds", None)
    assert_advises_download_by_hand(caught.value)


def test_no_network_is_reported(published, tmp_path, monkeypatch):
    monkeypatch.setattr(colorectal, "ARCHIVE_URL", "http://127.0.0.1:9/none.zip")
    with pytest.raises(InputError, match="cannot download") as caught:
        colorectal.load(tmp_path / "tfds", None)
    assert_advises_download_by_hand(caught.value)


def test_data_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        colorectal.load(tmp_path / "file", None)


def test_folder_above_the_archive(tiles):
    assert colorectal.load(tiles.parent, 32).fingerprint == colorectal.load(tiles, 32).fingerprint


def test_names_and_rows(tiles):
    image_set = colorectal.load(tiles, None)
    for row, name in enumerate(image_set.names):
        class_name, file = name.split("/")
        label = colorectal.CLASS_NAMES.index(class_name)
        assert image_set.labels[row] == label
        with Image.open(tiles / FOLDERS[label] / file) as image:
            np.testing.assert_array_equal(image_set.images[row], np.asarray(image))


def test_incomplete_archive_names_what_lacks(tiles, tmp_path):
    root = tmp_path / "partial"
    shutil.copytree(tiles, root)
    shutil.rmtree(root / "05_DEBRIS")
    with pytest.raises(InputError, match="lacks 05_DEBRIS"):
        colorectal.load(root, None)


def test_folder_reader_keeps_its_own_class_names(tiles):
    assert folder.load(tiles, 32).class_names == FOLDERS
