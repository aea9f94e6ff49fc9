"""Folders of class folders: what is read, what is left out, and what is said of it."""

import warnings

import numpy as np
import pytest
from awkward_files import RAMP, hundred_files, pattern, png
from PIL import Image

from twostage_jax.data import sources
from twostage_jax.data.sources import folder
from twostage_jax.support.errors import InputError


@pytest.fixture
def root(tmp_path):
    """Classes `a` and `b` of three images each."""
    for seed in range(6):
        put(tmp_path / "ab"[seed % 2] / f"{seed}.png", seed)
    return tmp_path


def put(path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pattern(seed)).save(path)


def said(root, **options) -> tuple[list[str], object]:
    """The warnings, and the image set."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image_set = folder.load(root, 32, **options)
    return [str(warning.message) for warning in caught], image_set


@pytest.mark.parametrize(
    "suffix", ["bmp", "gif", "webp", "jfif", "ppm", "tga", "jp2", "pcx", "JPG"]
)
def test_every_raster_format_is_read(root, suffix):
    put(root / "a" / f"more.{suffix}", 9)
    lines, image_set = said(root)
    assert f"a/more.{suffix}" in image_set.names
    assert not lines


def test_sub_folders_of_a_class_are_searched(root):
    put(root / "a" / "patient2" / "left" / "0.png", 8)
    put(root / "a" / "patient1" / "0.png", 9)
    (root / "b" / "linked").symlink_to(root / "a" / "patient2")
    lines, image_set = said(root, duplicates="keep")
    assert image_set.names[:5] == (
        "a/0.png",
        "a/2.png",
        "a/4.png",
        "a/patient1/0.png",
        "a/patient2/left/0.png",
    )
    assert image_set.names[-1] == "b/linked/left/0.png"
    assert len(lines) == 1, "of the picture in two classes"


def test_classes_of_sub_folders_only_are_read_but_splits_are_not(tmp_path):
    for seed in range(4):
        put(tmp_path / "patients" / "ab"[seed % 2] / f"p{seed}" / "0.png", seed)
        put(tmp_path / "splits" / ("train", "test")[seed % 2] / "a" / f"{seed}.png", seed)
    assert len(folder.load(tmp_path / "patients", None)) == 4
    with pytest.raises(InputError, match=r"it holds sub-folders .*the folder to pass"):
        folder.load(tmp_path / "splits", None)


def test_what_is_left_out_is_counted_in_one_line(root):
    for index in range(9):
        (root / "a" / f"{index}.txt").write_text("")
    for index in range(3):
        (root / "b" / f"gone{index}.png").symlink_to(root / "nowhere")
    (root / "a" / ".DS_Store").write_text("")
    lines, image_set = said(root)
    assert len(image_set) == 6
    assert len(lines) == 1
    assert lines[0].startswith("12 files left out: 9 .txt, 3 dead links (such as ")
    assert "b/gone0.png" in lines[0]


def test_a_class_that_is_a_dead_link_and_loose_images_are_named(root):
    (root / "c").symlink_to(root / "nowhere")
    put(root / "loose.png", 9)
    (line,), _ = said(root)
    assert "1 dead link" in line
    assert "1 image beside the class folders" in line
    assert "(such as loose.png, c)" in line


def test_names_are_printed_on_one_line(root):
    (root / "a" / "two\nlines.txt").write_text("")
    (root / "a" / "latin\udce9.csv").write_text("")
    (line,), _ = said(root)
    line.encode()
    assert "\n" not in line
    assert r"two\nlines.txt" in line


def test_unreadable_files_are_refused_or_skipped(root):
    (root / "b" / "cut.png").write_bytes(png(RAMP, bits=8)[:80])
    (root / "b" / "empty.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"2 of 8 images cannot be.*--on-unreadable skip"):
        folder.load(root, 32)
    (line,), image_set = said(root, on_unreadable="skip")
    assert "b/cut.png, b/empty.jpg" in line
    assert len(image_set) == 6
    for seed in (1, 3, 5):
        (root / "b" / f"{seed}.png").write_bytes(b"")
    with (
        pytest.raises(InputError, match="no image of b"),
        pytest.warns(UserWarning, match="5 of 8 images cannot be read"),
    ):
        folder.load(root, 32, on_unreadable="skip")


def test_equal_pictures_in_a_class(root):
    """The bytes may differ: what counts is the pixels."""
    put(root / "a" / "twin.bmp", 0)
    put(root / "a" / "third.gif", 0)
    (line,), kept = said(root)
    assert "2 images have the pixels of another" in line
    assert "a/0.png = a/third.gif = a/twin.bmp" in line
    assert len(kept) == 8
    (line,), dropped = said(root, duplicates="drop")
    assert dropped.names[:3] == ("a/0.png", "a/2.png", "a/4.png")
    assert "the first of each is kept" in line
    with pytest.raises(InputError, match=r"a/0\.png = .*--duplicates drop"):
        folder.load(root, 32, duplicates="error")


def test_one_picture_in_two_classes(root):
    put(root / "b" / "twin.bmp", 0)
    for choice in (None, "error"):
        with pytest.raises(InputError, match=r"1 picture .*a/0\.png = b/twin\.bmp.*--duplicates"):
            folder.load(root, 32, duplicates=choice)
    (line,), kept = said(root, duplicates="keep")
    assert "a/0.png = b/twin.bmp; they are kept" in line
    assert len(kept) == 7
    _, dropped = said(root, duplicates="drop")
    assert dropped.names == ("a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicates": "dorp"}, "did you mean drop"),
        ({"on_unreadable": "skp"}, "did you mean skip"),
        ({"max_pixels": 0}, "--max-pixels 0 found"),
    ],
)
def test_options_that_are_not_valid(root, options, message):
    with pytest.raises(InputError, match=message):
        sources.load("folder", data_dir=root, **options)


def test_a_studys_own_folders_are_no_classes(root):
    """Below the data folder, in a folder of results, and in a class."""
    before = folder.load(root, 32).fingerprint
    for study in ("results/quick-x", "own", "a/inside"):
        put(root / study / "report" / "figure.png", 7)
        (root / study / "study.json").write_text("{}")
    (root / "checkpoints" / "compiled").mkdir(parents=True)
    lines, image_set = said(root, leave_out=(root / "checkpoints",))
    assert image_set.fingerprint == before
    assert "a study's own folders" in lines[0]
    assert "results/quick-x" in lines[0]
    assert "checkpoints" in lines[0]
    with (
        pytest.raises(InputError, match=r"no images in .*checkpoints"),
        pytest.warns(UserWarning, match="own folders"),
    ):
        folder.load(root, 32)


def test_a_study_in_the_data_folder_itself(root):
    before = folder.load(root, 32).fingerprint
    (root / "study.json").write_text("{}")
    put(root / "report" / "figure.png", 7)
    (root / "records").mkdir()
    lines, image_set = said(root)
    assert image_set.fingerprint == before
    assert "records, report" in lines[0]


@pytest.mark.integration
def test_a_hundred_awkward_files(tmp_path):
    """All that can be read is read, and the rest is said, in a line of each kind."""
    root = hundred_files(tmp_path)
    assert sum(not path.is_dir() or path.is_symlink() for path in root.rglob("*")) == 100
    with pytest.raises(InputError, match=r"5 of 84 images cannot be read.*1 of 84 images have"):
        said(root, max_pixels=1_000_000)
    lines, image_set = said(root, max_pixels=1_000_000, on_unreadable="skip", duplicates="drop")
    left_out, unreadable, few_bits, twice = lines
    assert left_out.startswith("16 files left out: 9 .txt, 3 dead links, 1 .eps, 1 file without a")
    assert "1 link to a folder above" in left_out
    assert "1 image beside the class folders" in left_out
    assert "slide.png (9000x9000)" in unreadable
    for name in ("cut.png", "empty.png", "page.png", "postscript.jpg", "signed.tif"):
        assert f"b/{name}" in unreadable
    assert few_bits.startswith("4 16-bit images use")
    assert "b/75.png = b/76.png" in twice
    assert len(image_set) == 77
    by_name = dict(zip(image_set.names, image_set.images, strict=True))
    lossy = (".jfif", ".webp", ".jpg")
    for name, pixels in by_name.items():
        seed = int(name.split("/")[-1].split(".")[0])
        if not name.endswith(lossy) and seed not in range(68, 72):
            np.testing.assert_array_equal(pixels[..., 0], pattern(seed), err_msg=name)
