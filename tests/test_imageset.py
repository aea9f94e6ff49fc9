"""Image sets, and the sources that need no network: folders and the digits."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from twostage_jax.data import sources
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import folder
from twostage_jax.data.sources.decode import decode
from twostage_jax.support.errors import InputError


def parts(n: int = 6, classes: int = 3, size: int = 4) -> dict:
    rng = np.random.default_rng(n)
    return {
        "images": rng.integers(0, 256, (n, size, size, 3), np.uint8),
        "labels": np.arange(n, dtype=np.int32) % classes,
        "class_names": [f"class{i}" for i in range(classes)],
        "names": [f"image{i}" for i in range(n)],
        "source": "test",
    }


# --- ImageSet ---


def test_create_sorts_by_label_then_name():
    image_set = ImageSet.create(**parts())
    assert list(image_set.labels) == [0, 0, 1, 1, 2, 2]
    assert image_set.names == ("image0", "image3", "image1", "image4", "image2", "image5")
    np.testing.assert_array_equal(image_set.images, parts()["images"][[0, 3, 1, 4, 2, 5]])
    assert image_set.num_classes == 3
    assert len(image_set) == 6
    assert list(image_set.class_counts) == [2, 2, 2]


@settings(max_examples=30)
@given(st.permutations(range(6)))
def test_read_order_does_not_matter(order):
    given_parts = parts()
    shuffled = given_parts | {
        "images": given_parts["images"][list(order)],
        "labels": given_parts["labels"][list(order)],
        "names": [given_parts["names"][i] for i in order],
    }
    a, b = ImageSet.create(**given_parts), ImageSet.create(**shuffled)
    assert a.fingerprint == b.fingerprint
    assert a.names == b.names
    np.testing.assert_array_equal(a.images, b.images)


def test_fingerprint_is_stable_between_versions():
    """Studies store fingerprints: this value may only change together with their format."""
    image_set = ImageSet.create(
        images=np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3),
        labels=np.array([0, 1]),
        class_names=("a", "b"),
        names=("x", "y"),
        source="",
    )
    blocks = [
        b"(2, 2, 2, 3)",
        bytes(range(24)),
        bytes([0, 0, 0, 0, 1, 0, 0, 0]),
        *(b"2", b"a", b"b"),
        *(b"2", b"x", b"y"),
    ]
    framed = b"".join(len(block).to_bytes(8, "little") + block for block in blocks)
    assert image_set.fingerprint == hashlib.sha256(framed).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p["images"].__setitem__((0, 0, 0, 0), p["images"][0, 0, 0, 0] ^ 1),
        lambda p: p["names"].__setitem__(0, "image00"),
        lambda p: p["class_names"].__setitem__(0, "other"),
        lambda p: p["labels"].__setitem__(0, 1),
        lambda p: p.update(images=p["images"].reshape(6, 2, 8, 3)),
    ],
    ids=["pixel", "name", "class name", "label", "shape"],
)
def test_fingerprint_sees_every_change(change):
    changed = parts()
    change(changed)
    assert ImageSet.create(**changed).fingerprint != ImageSet.create(**parts()).fingerprint


def test_fingerprint_ignores_where_images_came_from():
    elsewhere = ImageSet.create(**parts() | {"source": "elsewhere"})
    assert elsewhere.fingerprint == ImageSet.create(**parts()).fingerprint


def test_pixels_cannot_be_written():
    image_set = ImageSet.create(**parts())
    with pytest.raises(ValueError, match="read-only"):
        image_set.images[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        image_set.labels[0] = 1


def test_names_that_are_no_valid_text_have_a_fingerprint():
    assert ImageSet.create(**parts() | {"names": [*"abcde", "\udcff"]}).fingerprint


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"names": ["a"] * 6}, "image name 'a' occurs more than once"),
        ({"class_names": ["a", "a", "b"]}, "class name 'a' occurs more than once"),
        ({"names": ["a", "b"]}, "6 images, 6 labels and 2 names"),
        ({"labels": np.array([0, 1, 2, 3, 0, 1])}, "labels run from 0 to 3"),
        ({"labels": np.array([0, 1, 0, 1, 0, -1])}, "labels run from -1 to 1"),
        ({"labels": np.array([0, 1, 0, 1, 0, 1])}, "no image of class2"),
        ({"class_names": ["a"], "labels": np.zeros(6, int)}, "1 classes; expected at least two"),
        ({"images": np.zeros((6, 0, 4, 3), np.uint8)}, "at least one pixel"),
    ],
)
def test_create_refuses_parts_that_do_not_fit(wrong, message):
    with pytest.raises(InputError, match=message):
        ImageSet.create(**parts() | wrong)


# --- Folders ---


def save(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def two_classes(tmp_path) -> Path:
    for i, file in enumerate(("b/2.png", "b/1.PNG", "a/x.tif_Row_601_Col_151.tif", "a/y.tiff")):
        save(tmp_path / file, noise(20, 20, 3, seed=i))
    return tmp_path


def test_folder_names_classes_and_pixels(two_classes):
    image_set = folder.load(two_classes, None)
    assert image_set.class_names == ("a", "b")
    assert image_set.names == ("a/x.tif_Row_601_Col_151.tif", "a/y.tiff", "b/1.PNG", "b/2.png")
    assert list(image_set.labels) == [0, 0, 1, 1]
    for row, seed in enumerate((2, 3, 1, 0)):
        np.testing.assert_array_equal(image_set.images[row], noise(20, 20, 3, seed=seed))


def test_folder_ignores_what_is_no_image(two_classes):
    before = folder.load(two_classes, None).fingerprint
    for file in ("a/.hidden.png", "a/notes.txt", ".cache/1.png", "__MACOSX/1.png", "readme.md"):
        (two_classes / file).parent.mkdir(exist_ok=True)
        (two_classes / file).write_bytes(b"no image")
    (two_classes / "a" / "nested.png").mkdir()
    with pytest.warns(UserWarning, match=r"^1 file left out: 1 \.txt \(such as a/notes\.txt\)$"):
        assert folder.load(two_classes, None).fingerprint == before


def test_folder_descends_into_a_lone_folder(two_classes, tmp_path_factory):
    outer = tmp_path_factory.mktemp("outer")
    two_classes.rename(outer / "inner")
    assert folder.load(outer, None).class_names == ("a", "b")


def test_resizing_is_to_resize_the_shorter_side_and_crop_the_center(tmp_path):
    pixels = noise(40, 120, 3)
    save(tmp_path / "wide.png", pixels)
    save(tmp_path / "tall.png", pixels.transpose(1, 0, 2).copy())
    tall, wide = (decode(tmp_path / name, 10) for name in ("tall.png", "wide.png"))
    resized = Image.fromarray(pixels).resize((30, 10), Image.Resampling.LANCZOS)
    expected = np.asarray(resized)[:, 10:20].astype(int)
    assert abs(wide - expected).max() <= 1
    assert abs(tall - expected.transpose(1, 0, 2)).max() <= 1


def test_resizing_is_antialiased(tmp_path):
    """A fine checkerboard becomes its mean; picking every eighth pixel would keep 0 or 255."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    save(tmp_path / "1.png", board)
    middle = decode(tmp_path / "1.png", 8)[2:-2, 2:-2].astype(int)
    assert abs(middle - 127).max() <= 3


def test_image_of_the_wanted_size_is_left_as_it_is(two_classes):
    assert folder.load(two_classes, 20).fingerprint == folder.load(two_classes, None).fingerprint


def test_conversion_to_rgb(tmp_path):
    gray = noise(8, 8)
    clear = np.dstack([noise(8, 8, 3), np.zeros((8, 8), np.uint8)])
    palette = Image.fromarray(noise(8, 8, 3)).quantize(16)
    save(tmp_path / "gray.png", gray)
    save(tmp_path / "gray16.png", gray.astype(np.uint16) * 257)
    save(tmp_path / "gray16.tif", gray.astype(np.uint16) * 257)
    save(tmp_path / "clear.png", clear)
    palette.save(tmp_path / "palette.png")
    gray_rgb = np.repeat(gray[..., None], 3, -1)
    for name in ("gray.png", "gray16.png", "gray16.tif"):
        np.testing.assert_array_equal(decode(tmp_path / name, None), gray_rgb)
    assert (decode(tmp_path / "clear.png", None) == 255).all()
    found = decode(tmp_path / "palette.png", None)
    np.testing.assert_array_equal(found, np.asarray(palette.convert("RGB")))


def test_rotation_tag_is_applied(tmp_path):
    pixels = noise(6, 9, 3)
    turned = Image.Exif()
    turned[0x0112] = 6
    save(tmp_path / "1.png", pixels, exif=turned)
    np.testing.assert_array_equal(decode(tmp_path / "1.png", None), np.rot90(pixels, -1))


def test_all_unreadable_images_are_counted(two_classes):
    whole = (two_classes / "a" / "y.tiff").read_bytes()
    for i in range(7):
        (two_classes / "b" / f"cut{i}.tif").write_bytes(whole[: 40 + 100 * i])
    (two_classes / "a" / "text.jpg").write_text("no image")
    with pytest.raises(
        InputError, match=r"8 of 12 images cannot be read: a/text\.jpg, b/cut0\.tif"
    ):
        folder.load(two_classes, 16)
    with pytest.raises(InputError, match=r"and 3 more.*not an image of a known format"):
        folder.load(two_classes, 16)


def test_truncated_jpeg_is_refused(tmp_path):
    for name in "ab":
        save(tmp_path / name / "1.jpg", noise(64, 64, 3))
    path = tmp_path / "b" / "1.jpg"
    path.write_bytes(path.read_bytes()[:-800])
    with pytest.raises(InputError, match=r"1 of 2 images cannot be read: b/1\.jpg"):
        folder.load(tmp_path, None)


def test_float_pixels_are_refused(two_classes):
    save(two_classes / "a" / "float.tif", np.zeros((20, 20), np.float32))
    with pytest.raises(InputError, match="32-bit pixels"):
        folder.load(two_classes, None)


def test_sizes_must_agree_unless_one_is_set(two_classes):
    save(two_classes / "b" / "3.png", noise(20, 30, 3))
    with pytest.raises(InputError, match=r"1 of 5 images are not 20x20 .*b/3\.png .*30x20"):
        folder.load(two_classes, None)
    assert folder.load(two_classes, 12).images.shape == (5, 12, 12, 3)


def test_folder_that_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "only").mkdir(parents=True)
    save(tmp_path / "one" / "only" / "1.png", noise(4, 4, 3))
    save(tmp_path / "loose" / "1.png", noise(4, 4, 3))
    save(tmp_path / "lacking" / "a" / "1.png", noise(4, 4, 3))
    (tmp_path / "lacking" / "b").mkdir()
    for split in ("train", "test"):
        save(tmp_path / "splits" / split / "a" / "1.png", noise(4, 4, 3))
    for name, message in (
        ("none", "no folder"),
        ("file", "is a file"),
        ("empty", "no sub-folders"),
        ("one", "only one class, only"),
        ("loose", "1 images lie loose"),
        ("lacking", "no images in .*b; .*remove it if it is not a class"),
        ("splits", "it holds sub-folders .*the folder to pass"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            folder.load(tmp_path / name, None)
        assert "\n" not in str(caught.value), name


# --- Digits ---


def test_the_digits_are_scikit_learns_enlarged():
    image_set = sources.load("digits", images_per_class=30)
    assert image_set.images.shape == (300, 32, 32, 3)
    assert image_set.class_names == tuple("0123456789")
    raw = load_digits()
    for row in (0, 42, 299):
        image, label = image_set.images[row], image_set.labels[row]
        assert (image == image[..., :1]).all(), "gray"
        original = int(image_set.names[row].split("/")[1])
        assert raw.target[original] == label
        small = image[..., 0].reshape(8, 4, 8, 4).mean((1, 3))
        assert np.corrcoef(small.ravel(), raw.images[original].ravel())[0, 1] > 0.95


def test_the_digits_are_all_unless_fewer_are_asked_for():
    everything = sources.load("digits", image_size=8)
    assert len(everything) == 1797
    assert everything.images.shape[1:] == (8, 8, 3)
    few = sources.load("digits", image_size=8, images_per_class=4)
    rows = [everything.names.index(name) for name in few.names]
    np.testing.assert_array_equal(few.images, everything.images[rows])


# --- load ---


def test_load_by_name(two_classes):
    assert sources.load("folder", data_dir=two_classes).class_names == ("a", "b")


def test_load_refuses(two_classes):
    with pytest.raises(InputError, match="unknown dataset 'digit'; did you mean digits"):
        sources.load("digit")
    with pytest.raises(InputError, match="'folder' without a data dir"):
        sources.load("folder")
    with pytest.raises(InputError, match="leave the data dir out"):
        sources.load("digits", data_dir=two_classes)
    with pytest.raises(InputError, match="0 images per class; expected 1 or more"):
        sources.load("digits", images_per_class=0)
    with pytest.raises(InputError, match="image size 0"):
        sources.load("folder", data_dir=two_classes, image_size=0)


@pytest.fixture
def registered(monkeypatch):
    """A source from outside, forgotten after the test."""
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))

    def read(options):
        classes = options.images_per_class
        return ImageSet.create(**parts(n=2 * classes, classes=classes, size=options.image_size))

    sources.register_source("stripes", read)
    return read


def test_a_registered_source_is_loaded_by_name(registered):
    found = sources.load("stripes", image_size=5, images_per_class=3)
    assert found.images.shape == (6, 5, 5, 3)
    with pytest.raises(InputError, match="unknown dataset 'stripe'; did you mean stripes"):
        sources.load("stripe")


def test_a_name_of_a_source_is_given_once(registered):
    sources.register_source("stripes", registered)
    with pytest.raises(InputError, match="'folder' is taken by another source; choose another"):
        sources.register_source("folder", registered)
    assert sources.SOURCES["folder"] is folder.read
