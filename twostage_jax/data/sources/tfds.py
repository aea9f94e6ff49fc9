"""Any image-classification set of TensorFlow Datasets, read without TensorFlow."""

import contextlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources import colorectal, prepared
from twostage_jax.data.sources.folder import make_image_set
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import user_path

PREFIX = "tfds:"
"""What the name of a source begins with that is a set of TensorFlow Datasets."""

_NAME = re.compile(r"(\w+)(/[^/:=,\s]+)?(:\d+(\.[\d*]+){2})?", re.ASCII)

_FILE_NAMES = ("filename", "file_name", "image/filename")
"""What sets call the feature that holds the name of an image's file."""

_ELSEWHERE = (
    "prepare the set where that is possible, by tfds.load(...) of TensorFlow Datasets, and pass "
    "the data dir with it (--data-dir)"
)


def find_set(name: str) -> Callable[[SourceOptions], ImageSet]:
    """The source that reads a set, as `read` does. Nothing is looked for yet.

    Raises:
        InputError: it is no name of a set.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"dataset '{PREFIX}{name}' found, {PREFIX}NAME, {PREFIX}NAME/CONFIG or "
            f"{PREFIX}NAME/CONFIG:VERSION expected, such as {PREFIX}beans or {PREFIX}mnist:3.0.1"
        )
    return partial(read, name)


def read(name: str, options: SourceOptions) -> ImageSet:
    """Reads all splits of a set together, as uint8 n x h x w x 3.

    The set needs the features `image` and `label`. Images are named `<class>/<file>` where the set
    keeps file names, `<split>/<class>/<file>` where two of those are equal, and else
    `<split>/<index>`. Images without a label (-1) are left out with a warning.

    Args:
        name: `NAME`, `NAME/CONFIG`, and either with `:VERSION`.
        options: `data_dir` is the data dir of TensorFlow Datasets, None its default. A set that is
            not there is downloaded and prepared. The code of many sets needs TensorFlow for that.

    Raises:
        InputError: an unknown set, one without `image` or `label`, one that cannot be prepared
            here, or files that are damaged.
    """
    data_dir = options.data_dir and user_path(options.data_dir, "data dir")
    builder = _find_builder(name, data_dir)
    class_names, file_name = _require_features(name, builder)
    if not builder.is_prepared():
        _prepare(name, builder)
    with _as_input_error(
        f"cannot read {PREFIX}{name} in {builder.data_dir}",
        "delete that folder to prepare it again",
    ):
        splits = {
            split: prepared.read_split(builder, split) for split in sorted(builder.info.splits)
        }
    encoded, labels, names = [], [], []
    unlabeled: Counter[str] = Counter()
    for split, index, example in _examples(splits):
        label = int(example["label"])
        if label < 0:
            unlabeled[split] += 1
            continue
        own = bytes(example[file_name]).decode(errors="surrogateescape") if file_name else ""
        encoded.append(bytes(example["image"]))
        labels.append(label)
        names.append((f"{class_names[label]}/{own}" if own else "", split, index))
    if unlabeled:
        which = ", ".join(f"{count} of {split}" for split, count in unlabeled.items())
        warnings.warn(f"{unlabeled.total()} images without a label left out: {which}", stacklevel=2)
    if not encoded:
        raise InputError(f"{PREFIX}{name} holds no labeled images; choose another set")
    return make_image_set(
        encoded,
        labels=np.array(labels, np.int32),
        class_names=class_names,
        names=_distinct(names),
        source=f"TensorFlow Datasets {builder.info.full_name}",
        options=options,
    )


def _examples(splits: dict[str, list[dict]]) -> Iterator[tuple[str, int, dict]]:
    for split, examples in splits.items():
        for index, example in enumerate(examples):
            yield split, index, example


def _distinct(names: list[tuple[str, str, int]]) -> list[str]:
    """The first way of naming images under which all names differ."""
    if all(file for file, *_ in names):
        for found in ([f for f, *_ in names], [f"{split}/{f}" for f, split, _ in names]):
            if len(set(found)) == len(found):
                return found
    return [f"{split}/{index:06d}" for _, split, index in names]


def _find_builder(name: str, data_dir: Path | None) -> Any:
    """The set's builder: of the files that are there, or else of the set's code."""
    # Imported here because it takes a second that other sources do not need.
    from tensorflow_datasets.core import load, read_only_builder
    from tensorflow_datasets.core.registered import DatasetNotFoundError

    where: dict[str, Any] = {} if data_dir is None else {"data_dir": str(data_dir)}
    with _as_input_error(
        f"cannot find {PREFIX}{name}", "check the name and the data dir (--data-dir)"
    ):
        # Reading what is there needs no code, which may need TensorFlow.
        with contextlib.suppress(DatasetNotFoundError, ImportError):
            return read_only_builder.builder_from_files(name, **where)
        if name == colorectal.SET:
            return colorectal.builder_class()(**where)
        try:
            return load.builder(name, **where)
        except DatasetNotFoundError:
            known = load.list_builders(with_community_datasets=False)
            require_known("set of TensorFlow Datasets", re.split("[/:]", name)[0], known)
            raise


def _require_features(name: str, builder: Any) -> tuple[list[str], str | None]:
    """The names of the classes, and of the feature that holds file names, if there is one."""
    from tensorflow_datasets.core import features as kinds

    with _as_input_error(f"cannot use {PREFIX}{name}", _ELSEWHERE):
        features: dict[str, Any] = dict(builder.info.features or {})
    image: Any = features.get("image")
    label = features.get("label")
    if not isinstance(image, kinds.Image) or not isinstance(label, kinds.ClassLabel):
        found = ", ".join(f"{key} ({type(own).__name__})" for key, own in sorted(features.items()))
        raise InputError(
            f"{PREFIX}{name} has the features {found or 'none'}; expected image (Image) and label "
            "(ClassLabel): choose an image-classification set"
        )
    if image.np_dtype not in (np.uint8, np.uint16):
        raise InputError(
            f"the images of {PREFIX}{name} are {image.np_dtype}; expected uint8 or "
            "uint16: choose another set"
        )
    texts = (key for key in _FILE_NAMES if isinstance(features.get(key), kinds.Text))
    return list(label.names), next(texts, None)


def _prepare(name: str, builder: Any) -> None:
    with _as_input_error(f"cannot prepare {PREFIX}{name} in {builder.data_dir}", _ELSEWHERE):
        prepared.prepare(builder)


@contextlib.contextmanager
def _as_input_error(what: str, advice: str) -> Iterator[None]:
    """Tells errors of TensorFlow Datasets, and of the code of its sets, in one line."""
    try:
        # What is printed there is advice to programmers.
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (InputError, MemoryError):
        raise
    except ImportError as error:
        found = re.search(r"No module named '([\w.]+)'", str(error))
        missing = found[1] if found else prepared.one_line(error)
        raise InputError(
            f"{what}: it needs the package {missing}, which is not installed; install it, or "
            f"{advice}"
        ) from error
    except Exception as error:  # the code of a set raises errors of many kinds
        raise InputError(f"{what}: {prepared.one_line(error)}; {advice}") from error
