"""Sets of TensorFlow Datasets: tiny ones, which the tests define and prepare without a network."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_data_source import ArrayRecordDataSource
from PIL import Image

from twostage_jax.data import sources
from twostage_jax.support.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = {
    split: RNG.integers(0, 256, (count, 12, 12, 3), np.uint8)
    for split, count in {"train": 9, "test": 4}.items()
}
CLASSES = ("bean", "leaf", "root")


class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Thirteen images in two splits; subclasses change features and examples."""

    VERSION = tfds.core.Version("1.2.0")
    # With a code path, TensorFlow Datasets looks for a checksum file.
    code_path = None
    url_infos: ClassVar = {}
    features: ClassVar = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=CLASSES),
    }

    def _info(self):
        features = tfds.features.FeaturesDict(self.features)
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in IMAGES}

    def _generate_examples(self, split):
        for row in range(len(IMAGES[split])):
            yield row, self.example(split, row)

    def example(self, split, row):
        return {"image": Image.fromarray(IMAGES[split][row]), "label": CLASSES[row % 3]}


class Plain(Tiny, skip_registration=True):
    name = "plain"


class Named(Tiny, skip_registration=True):
    name = "named"
    features: ClassVar = Tiny.features | {"file_name": tfds.features.Text()}

    def example(self, split, row):
        return super().example(split, row) | {"file_name": f"{split}_{row}.png"}


class NamedAlike(Named, skip_registration=True):
    name = "named_alike"

    def example(self, split, row):
        return super().example(split, row) | {"file_name": f"{row}.png"}


class NamedTwice(Named, skip_registration=True):
    name = "named_twice"

    def example(self, split, row):
        return super().example(split, row) | {"file_name": "image.png"}


class Unlabeled(Tiny, skip_registration=True):
    name = "unlabeled"

    def example(self, split, row):
        return super().example(split, row) | ({"label": -1} if split == "test" else {})


class Gray(Tiny, skip_registration=True):
    name = "gray"
    features: ClassVar = Tiny.features | {"image": tfds.features.Image(shape=(12, 12, 1))}

    def example(self, split, row):
        gray = Image.fromarray(IMAGES[split][row, ..., 0])
        return super().example(split, row) | {"image": gray}


class Texts(Tiny, skip_registration=True):
    name = "texts"
    features: ClassVar = Tiny.features | {"label": tfds.features.Text()}


class Configured(Tiny, skip_registration=True):
    name = "configured"
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=name, version=Tiny.VERSION) for name in ("small", "large")
    ]


def prepare(builder_class, data_dir: Path, **options) -> Path:
    """Writes the set into a data dir; gives the folder of its files."""
    builder = builder_class(data_dir=data_dir, **options)
    builder.download_and_prepare(
        file_format="array_record",
        download_config=tfds.download.DownloadConfig(try_download_gcs=False),
    )
    return Path(builder.data_dir)


@pytest.fixture
def load(tmp_path):
    def load(name, **options):
        return sources.load(f"tfds:{name}", data_dir=tmp_path, **options)

    return load


def originals(images, axis=slice(None)) -> set[bytes]:
    return {image[..., axis].tobytes() for image in images}


def test_all_splits_are_read_together(load, tmp_path):
    prepare(Plain, tmp_path)
    made = load("plain")
    assert made.class_names == CLASSES
    assert made.source == "TensorFlow Datasets plain/1.2.0"
    assert sorted(made.names) == [
        *(f"test/{row:06d}" for row in range(4)),
        *(f"train/{row:06d}" for row in range(9)),
    ]
    assert originals(made.images) == originals(np.concatenate(list(IMAGES.values())))
    # Every third image is of one class.
    for image, label in zip(made.images, made.labels, strict=True):
        found = [
            row % 3
            for own in IMAGES.values()
            for row in range(len(own))
            if (own[row] == image).all()
        ]
        assert found == [label]
    assert load("plain:1.2.0").fingerprint == load("plain:1.*.*").fingerprint == made.fingerprint
    assert load("plain", image_size=6).images.shape == (13, 6, 6, 3)


def test_file_names_are_kept_as_far_as_they_tell_images_apart(load, tmp_path):
    for builder in (Named, NamedAlike, NamedTwice):
        prepare(builder, tmp_path)
    assert load("named").names[:2] == ("bean/test_0.png", "bean/test_3.png")
    assert load("named_alike").names[:2] == ("test/bean/0.png", "test/bean/3.png")
    assert load("named_twice").names[0].startswith("test/00000")


def test_grayscale_is_repeated(load, tmp_path):
    prepare(Gray, tmp_path)
    images = load("gray").images
    assert (images[..., :1] == images).all()
    assert originals(images, 0) == originals(np.concatenate(list(IMAGES.values())), 0)


def test_images_without_a_label_are_left_out(load, tmp_path):
    prepare(Unlabeled, tmp_path)
    with pytest.warns(UserWarning, match="4 images without a label left out: 4 of test"):
        made = load("unlabeled")
    assert originals(made.images) == originals(IMAGES["train"])


def test_a_configuration_is_named(load, tmp_path):
    prepare(Configured, tmp_path, config="large")
    assert load("configured/large").source == "TensorFlow Datasets configured/large/1.2.0"
    with pytest.raises(InputError, match=r"cannot find tfds:configured/small|unknown set of"):
        load("configured/small")


def test_files_of_tensorflows_format_are_read(load, tmp_path):
    folder = prepare(Plain, tmp_path)
    expected = load("plain").fingerprint
    for shard in folder.glob("*.array_record-*"):
        records = list(ArrayRecordDataSource([str(shard)]))
        framed = [len(r).to_bytes(8, "little") + bytes(4) + r + bytes(4) for r in records]
        (folder / shard.name.replace("array_record", "tfrecord")).write_bytes(b"".join(framed))
        shard.unlink()
    info = folder / "dataset_info.json"
    content = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
    info.write_text(json.dumps(content).replace("array_record", "tfrecord"))
    assert load("plain").fingerprint == expected


def test_damaged_files_are_one_line(load, tmp_path):
    folder = prepare(Plain, tmp_path)
    (shard,) = folder.glob("*train.array_record-*")
    whole = shard.read_bytes()
    for content in (whole[: len(whole) // 2], b"", whole[:100] + bytes(200) + whole[300:]):
        shard.write_bytes(content)
        with pytest.raises(
            InputError, match=r"tfds:plain in .*plain|holds \d images of the split"
        ) as e:
            load("plain")
        assert "\n" not in str(e.value)
    shard.write_bytes(whole)
    info = folder / "dataset_info.json"
    info.write_text("{")
    with pytest.raises(InputError, match="cannot find tfds:plain"):
        load("plain")


def test_sets_that_are_not_of_this_kind_are_refused(load, tmp_path):
    prepare(Texts, tmp_path)
    with pytest.raises(InputError, match=r"features image \(Image\), label \(Text\); expected"):
        load("texts")
    with pytest.raises(InputError, match=r"tfds:iris has the features features \(Tensor\), label"):
        load("iris")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "unknown set of TensorFlow Datasets 'minst'; did you mean mnist"),
        ("mnist/large", "cannot find tfds:mnist/large: .*BuilderConfig large not found"),
        ("mnist:0.0.1", r"cannot find tfds:mnist:0\.0\.1: .*cannot be loaded at version 0\.0\.1"),
        ("", "dataset 'tfds:' found, tfds:NAME, tfds:NAME/CONFIG or"),
        ("../mnist", r"dataset 'tfds:\.\./mnist' found"),
        ("mnist/a=1", "dataset 'tfds:mnist/a=1' found"),
    ],
)
def test_names_that_are_not_known_are_one_line(load, name, message):
    with pytest.raises(InputError, match=message) as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_a_source_finds_what_is_registered_and_suggests_this_kind(monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", dict(sources.SOURCES))
    own = sources.SOURCES["digits"]
    sources.register_source("tfds:mine", own)
    assert sources.find_source("tfds:mine") is own
    with pytest.raises(InputError, match=r"valid: .*npz, tfds:mine, tfds:NAME"):
        sources.find_source("nothing")


class PreparedHere(Tiny):
    """Registered, as the sets of the library are."""

    name = "tiny_prepared_here"
    failure: ClassVar[Exception | None] = None

    def _split_generators(self, dl_manager):
        if self.failure:
            raise self.failure
        return super()._split_generators(dl_manager)


def test_a_set_is_prepared_once(load, monkeypatch):
    made = load(PreparedHere.name)
    monkeypatch.setattr(PreparedHere, "failure", ValueError("prepared again"))
    assert load(PreparedHere.name).fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (
            ModuleNotFoundError("No module named 'tensorflow'"),
            "needs the package tensorflow, which",
        ),
        (AssertionError("Manual directory does not exist.\nGet it"), "not exist. Get it; prepare"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_a_set_that_cannot_be_prepared_here_is_one_line(load, monkeypatch, failure, message):
    monkeypatch.setattr(PreparedHere, "failure", failure)
    with pytest.raises(InputError, match=f"cannot prepare tfds:tiny_.*{message}") as caught:
        load(PreparedHere.name)
    assert "\n" not in str(caught.value)
    assert "--data-dir" in str(caught.value)


def test_tensorflow_is_never_imported(tmp_path):
    prepare(Plain, tmp_path)
    program = f"""
import sys
from pathlib import Path
from twostage_jax.data import sources
made = sources.load("tfds:plain", data_dir=Path({str(tmp_path)!r}))
print(len(made), "tensorflow" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["13 False"]
