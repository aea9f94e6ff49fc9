"""Images from a NumPy archive: both layouts, and files that are not what they say."""

import io
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from experiments import options as command_line
from twostage_jax.data import sources
from twostage_jax.data.sources.decode import decode
from twostage_jax.support.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 12, 8, 3), np.uint8)
LABELS = np.array([2, 0, 2, 10, 0, 10])


@pytest.fixture
def write(tmp_path):
    def write(compressed: bool = False, **arrays):
        path = tmp_path / "cells.npz"
        (np.savez_compressed if compressed else np.savez)(path, **arrays)
        return path

    return write


def test_images_and_labels(write):
    made = sources.load("npz", data_dir=write(images=IMAGES, labels=LABELS))
    assert made.class_names == ("0", "2", "10")  # in the order of numbers
    assert made.names == (
        *("0/000001", "0/000004", "2/000000", "2/000002", "10/000003", "10/000005"),
    )
    assert made.source == "NumPy archive cells.npz"
    for row, name in enumerate(made.names):
        np.testing.assert_array_equal(made.images[row], IMAGES[int(name.split("/")[1])])


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["gray", "one channel", "fortran"])
def test_grayscale_is_repeated_and_labels_may_be_a_column_of_texts(write, kind, compressed):
    gray = IMAGES[..., 0]
    given = gray[..., None] if kind == "one channel" else gray
    given = np.asfortranarray(given) if kind == "fortran" else given
    texts = np.array([f"c{label}" for label in LABELS])[:, None]
    for labels in (texts, texts.astype("S4")):
        path = write(images=given, labels=labels, compressed=compressed)
        made = sources.load("npz", data_dir=path)
        assert made.class_names == ("c0", "c10", "c2")
        rows = [int(name.split("/")[1]) for name in made.names]
        np.testing.assert_array_equal(made.images, np.repeat(gray[rows][..., None], 3, axis=-1))


def test_the_layout_of_medmnist(write):
    parts = {"train": 3, "val": 2, "test": 1}
    starts = np.cumsum([0, *parts.values()])
    arrays = {}
    for start, (split, count) in zip(starts, parts.items(), strict=False):
        arrays[f"{split}_images"] = IMAGES[start : start + count, :, :, 0]
        arrays[f"{split}_labels"] = LABELS[start : start + count, None].astype(np.uint8)
    made = sources.load("npz", data_dir=write(**arrays))
    assert made.names == (
        *("0/train/000001", "0/val/000001", "2/train/000000", "2/train/000002"),
        *("10/test/000000", "10/val/000000"),
    )
    without = {name: array for name, array in arrays.items() if not name.startswith("val")}
    assert len(sources.load("npz", data_dir=write(**without))) == 4
    small = arrays | {"val_images": RNG.integers(0, 256, (2, 9, 9), np.uint8)}
    assert sources.load("npz", data_dir=write(**small), image_size=6).images.shape == (6, 6, 6, 3)
    with pytest.raises(InputError, match=r"2 sizes \(height x width: 9x9, 12x8\); expected one"):
        sources.load("npz", data_dir=write(**small))


def test_class_names_may_be_given(write):
    labels, names = np.array([1, 0, 1, 2, 0, 2]), np.array(["wolf", "bear", "ape"])
    made = sources.load("npz", data_dir=write(images=IMAGES, labels=labels, class_names=names))
    assert made.class_names == ("wolf", "bear", "ape")
    assert list(made.labels) == sorted(labels)
    texts = names[labels]
    other = sources.load("npz", data_dir=write(images=IMAGES, labels=texts, class_names=names))
    assert other.fingerprint == made.fingerprint
    with pytest.raises(InputError, match="labels 10 have no name among the 3 class_names"):
        sources.load("npz", data_dir=write(images=IMAGES, labels=LABELS, class_names=names))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_fitted_as_those_of_files_are(write, channels):
    images = IMAGES[..., :channels]
    made = sources.load("npz", data_dir=write(images=images, labels=LABELS), image_size=5)
    for row, name in enumerate(made.names):
        file = io.BytesIO()
        Image.fromarray(images[int(name.split("/")[1])].squeeze()).save(file, "png")
        np.testing.assert_array_equal(made.images[row], decode(file.getvalue(), 5))


def test_equal_images_are_settled(write):
    images = IMAGES.copy()
    images[2] = images[0]
    path = write(images=images, labels=LABELS)
    with pytest.warns(UserWarning, match="1 image has the pixels of another in the same class"):
        assert len(sources.load("npz", data_dir=path)) == 6
    with pytest.warns(UserWarning, match="the first of each is kept"):
        assert len(sources.load("npz", data_dir=path, duplicates="drop")) == 5


OBJECTS = np.array(["a", 1, None, "b", 2, 3], dtype=object)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, "holds the arrays images; expected the arrays images and labels"),
        ({"x": IMAGES, "y": LABELS}, "holds the arrays x, y; expected"),
        ({"images": IMAGES, "labels": LABELS, "val_images": IMAGES}, "holds the arrays"),
        ({"images": IMAGES / 255, "labels": LABELS}, r"are float64; expected uint8 .*rint\(255"),
        ({"images": IMAGES.astype(np.int64), "labels": LABELS}, "are int64; expected uint8"),
        ({"images": IMAGES[..., :2], "labels": LABELS}, r"shape \(6, 12, 8, 2\); expected n x h"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"shape \(0, 12, 8, 3\)"),
        ({"images": IMAGES, "labels": LABELS[:4]}, "6 images and 4 labels; expected one label"),
        ({"images": IMAGES, "labels": LABELS * 1.0}, r"labels are float64 of shape \(6,\)"),
        ({"images": IMAGES, "labels": np.ones((6, 14), int)}, r"labels are int64 of shape \(6, 14"),
        ({"images": IMAGES, "labels": OBJECTS}, "labels holds Python objects, which only pickle"),
        ({"images": IMAGES, "labels": np.array([b"\xff"] * 6)}, "labels are not UTF-8"),
        ({"images": IMAGES, "labels": LABELS * 0}, "1 classes; expected at least two"),
        ({"images": OBJECTS, "labels": LABELS}, "images holds Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_one_line(write, arrays, message):
    path = write(**arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what NumPy pickled
        with pytest.raises(InputError, match=message) as caught:
            sources.load("npz", data_dir=path)
    assert "\n" not in str(caught.value)


def test_max_pixels_holds(write):
    with pytest.raises(InputError, match="8x12 pixels each, at most 95 pixels expected"):
        sources.load("npz", data_dir=write(images=IMAGES, labels=LABELS), max_pixels=95)


def test_labels_of_two_kinds_are_refused(write):
    arrays = {"train_images": IMAGES[:3], "test_images": IMAGES[3:]}
    labels = {"train_labels": LABELS[:3], "test_labels": np.array(["a", "b", "c"])}
    with pytest.raises(InputError, match="labels are integers and texts"):
        sources.load("npz", data_dir=write(**arrays, **labels))


def test_paths_that_are_no_archive(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"PK\3\4 not")
    np.save(tmp_path / "y.npy", IMAGES)
    for path, message in {
        None: "dataset 'npz' without a data dir",
        tmp_path / "none.npz": "no file",
        tmp_path: "is a folder",
        tmp_path / "x.npz": "is no .npz file",
        tmp_path / "y.npy": "is no .npz file",
    }.items():
        with pytest.raises(InputError, match=message):
            sources.load("npz", data_dir=path)


def npy(shape: str, content: bytes, descr: str = "|u1") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    "images",
    [
        npy("(1000000, 1000, 1000)", b"\0" * 96),
        npy("(2, 4, 6)", b"\0" * 96),
        npy("(-2, -4, 12)", b"\0" * 96),
        npy("(2, 4, 12)", b"\0" * 95),
        npy("(2, 4, " + "(" * 5000, b""),
        npy("(2, 4, 12.0)", b"\0" * 96),
        npy("(2, 4, 12)", b"\0" * 96, "|u9"),
        npy("(2, 4, 12)", b"\0" * 96)[:9],
        b"\x93NUMPY\x09\x00" + b"\0" * 96,
        b"",
    ],
)
def test_a_header_that_lies_is_one_line_and_no_memory(tmp_path, images):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", npy("(2,)", b"\0\1"))
    tracemalloc.start()
    with pytest.raises(InputError, match="images cannot be read") as caught:
        sources.load("npz", data_dir=path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert "\n" not in str(caught.value)


def test_a_directory_that_lies_about_a_size_is_one_line_and_no_memory(write):
    """The entry of `images` says terabytes, as its header does."""
    big = 2**31
    path = write(images=IMAGES, labels=LABELS)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy(f"({big}, 1, 1)", b"\0" * 96))
        archive.writestr("labels.npy", npy("(2,)", b"\0\1"))
        size = archive.getinfo("images.npy").file_size
    content = path.read_bytes()
    claimed = (big + size - 96).to_bytes(4, "little")
    path.write_bytes(content.replace(size.to_bytes(4, "little"), claimed))
    tracemalloc.start()
    with pytest.raises(InputError, match="images cannot be read"):
        sources.load("npz", data_dir=path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_content_is_one_line(write, compressed):
    path = write(images=IMAGES, labels=LABELS, compressed=compressed)
    content = bytearray(path.read_bytes())
    content[400] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="images cannot be read"):
        sources.load("npz", data_dir=path)


def test_the_results_are_named_after_the_file():
    options = command_line.parse(["--dataset", "npz", "--data-dir", "x/cells.npz"], "quick")
    assert options.results.name == "quick-cells"
    options = command_line.parse(["--dataset", "tfds:a/b:1.0.0"], "quick")
    assert options.results.name == "quick-tfds-a-b-1.0.0"
    with pytest.raises(InputError, match="unknown dataset 'npx'; did you mean npz"):
        command_line.parse(["--dataset", "npx"], "quick")
