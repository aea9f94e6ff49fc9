"""The paper's images: 5,000 tiles of colorectal cancer tissue in eight classes (Kather, 2016).

They are read from the unpacked Zenodo archive if `data_dir` is that, and otherwise through
TensorFlow Datasets, which downloads, checks and keeps the archive. Both give the same image set.
"""

import dataclasses
import functools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import folder, prepared
from twostage_jax.data.sources.decode import decode
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path

CLASS_NAMES = ("tumor", "stroma", "complex", "lympho", "debris", "mucosa", "adipose", "empty")
"""The class names of TensorFlow Datasets, in the order of its labels."""

SET = "colorectal_histology"
"""What TensorFlow Datasets calls these tiles."""

ARCHIVE = "Kather_texture_2016_image_tiles_5000"
"""Name of the Zenodo archive, and of the one folder in it."""
ARCHIVE_URL = f"https://zenodo.org/record/53169/files/{ARCHIVE}.zip"
ARCHIVE_BYTES = 258_098_431
ARCHIVE_SHA256 = "936d0b95ae0f04f1f7b18a2b7e8c55776c3e887d102f645bcee752d1a6626a32"

_FOLDERS = tuple(f"{i + 1:02d}_{name.upper()}" for i, name in enumerate(CLASS_NAMES))

_BY_HAND = (
    f"download {ARCHIVE}.zip by hand from Zenodo record 53169 (zenodo.org/records/53169), unpack "
    "it, and pass the unpacked folder as data dir (--data-dir)"
)


def read(options: SourceOptions) -> ImageSet:
    """Reads the tiles as uint8 n x h x w x 3, named `<class>/<file>`.

    Args:
        options: `data_dir` is the unpacked Zenodo archive (the folder that holds `01_TUMOR` to
            `08_EMPTY`, or the one above it). Any other folder is taken as the data dir of
            TensorFlow Datasets. It need not exist; the archive (246 MiB) is downloaded into it
            once. None stands for TensorFlow Datasets' own default. An `image_size` of None keeps
            the tiles' 150 pixels. Tiles of equal pixels are kept where `duplicates` is None.

    Raises:
        InputError: an incomplete folder, images that cannot be read, a download that fails or
            is not the published archive.
    """
    # The published set is what it is: its labels are not for the user to mend.
    options = dataclasses.replace(options, duplicates=options.duplicates or "keep")
    data_dir = options.data_dir and user_path(options.data_dir, "data dir")
    if (unpacked := _unpacked_archive(data_dir)) is not None:
        return folder.read_classes(
            unpacked,
            folders=_FOLDERS,
            class_names=CLASS_NAMES,
            source="colorectal histology (Kather 2016), unpacked Zenodo archive",
            options=options,
        )
    encoded, labels, files = zip(*_tfds_examples(data_dir), strict=True)
    names = [f"{CLASS_NAMES[label]}/{file}" for label, file in zip(labels, files, strict=True)]
    return folder.make_image_set(
        encoded,
        labels=np.array(labels, np.int32),
        class_names=CLASS_NAMES,
        names=names,
        source="colorectal histology (Kather 2016), TensorFlow Datasets colorectal_histology 2.0.0",
        options=options,
    )


def load(data_dir: Path | None, image_size: int | None, **options: Any) -> ImageSet:
    """Reads the tiles as `read` does; `options` are further fields of `SourceOptions`."""
    return read(SourceOptions(data_dir, image_size, **options))


def _unpacked_archive(data_dir: Path | None) -> Path | None:
    """The folder that holds the eight class folders, or None."""
    if data_dir is None or not data_dir.exists():
        return None
    for root in (data_dir, data_dir / ARCHIVE):
        present = folder.subfolders(root) if root == data_dir or root.is_dir() else []
        missing = [name for name in _FOLDERS if name not in present]
        if not missing:
            return root
        if len(missing) < len(_FOLDERS):
            raise InputError(
                f"{root} lacks {', '.join(missing)}; expected {_FOLDERS[0]} to {_FOLDERS[-1]}: "
                f"unpack {ARCHIVE}.zip again"
            )
    return None


def _tfds_examples(data_dir: Path | None) -> list[tuple[bytes, int, str]]:
    """Encoded image, label and file name of every tile, in no particular order."""
    try:
        builder = builder_class()(data_dir=data_dir)
        if not builder.is_prepared():
            _prepare(builder)
        return [
            (bytes(example["image"]), int(example["label"]), example["filename"].decode())
            for example in prepared.read_split(builder, "train")
        ]
    except OSError as error:
        raise InputError(
            f"cannot use {data_dir or 'the default data dir'} as data dir of TensorFlow Datasets: "
            f"{prepared.one_line(error)}; check its permissions and free space, or pass another"
        ) from error


@functools.cache
def builder_class() -> type:
    """TensorFlow Datasets' builder of these tiles, without the parts that need TensorFlow.

    The dataset that it writes has the same name, version, features and order as the original's.
    """
    # Imported here because it takes a second that other sources do not need.
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.units import Size
    from tensorflow_datasets.image_classification import colorectal_histology

    class Builder(colorectal_histology.ColorectalHistology, skip_registration=True):
        name = SET
        # With a code path the builder looks for a checksum file, which needs a package that
        # TensorFlow Datasets does not declare. `url_infos` below holds the checksum instead.
        code_path = None

        # The original's annotations say a list; TensorFlow Datasets takes this dictionary, too.
        def _split_generators(self, dl_manager):  # pyright: ignore[reportIncompatibleMethodOverride]
            return {"train": self._generate_examples(dl_manager.download(ARCHIVE_URL))}

        def _generate_examples(self, root_dir):
            for label, file, image in _archive_tiles(str(root_dir)):
                record = {"image": image, "label": label, "filename": file}
                yield f"{CLASS_NAMES[label]}/{file}", record

    Builder.url_infos = {
        ARCHIVE_URL: UrlInfo(Size(ARCHIVE_BYTES), ARCHIVE_SHA256, f"{ARCHIVE}.zip")
    }
    return Builder


def _archive_tiles(archive: str) -> Iterator[tuple[int, str, Image.Image]]:
    """Label, file name and image of every tile in the Zenodo archive."""
    with zipfile.ZipFile(archive) as members:
        for member in sorted(members.namelist()):
            root, _, tile = member.partition("/")
            class_folder, _, file = tile.rpartition("/")
            if root == ARCHIVE and class_folder in _FOLDERS and folder.is_image_name(file):
                # A Pillow image: TensorFlow Datasets would ask TensorFlow to encode an array.
                image = Image.fromarray(decode(members.read(member), None))
                yield _FOLDERS.index(class_folder), file, image


def _prepare(builder) -> None:
    """Downloads the archive and writes the prepared form."""
    import requests
    from tensorflow_datasets.core.download import download_manager, util

    try:
        prepared.prepare(builder, require_checksums=True)
    except (requests.RequestException, util.DownloadError) as error:
        reason = prepared.one_line(error)
        raise InputError(f"cannot download {ARCHIVE_URL}: {reason}; {_BY_HAND}") from error
    except (download_manager.NonMatchingChecksumError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{ARCHIVE_URL} is not the published archive: {prepared.one_line(error)}; {_BY_HAND}"
        ) from error
