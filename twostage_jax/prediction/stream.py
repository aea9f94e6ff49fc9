"""Predictions of image files in a stream: memory does not grow with the number of files."""

import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from twostage_jax.data.sources.decode import (
    Decoded,
    is_narrow,
    narrow_text,
    own_limits,
    reason,
    try_decode,
)
from twostage_jax.data.sources.options import MAX_PIXELS
from twostage_jax.support.errors import InputError

# Images of one chunk: enough to keep a device busy, and few bytes beside a network's own.
_MOST_IMAGES = 256
_MOST_BYTES = 2**25


@runtime_checkable
class Model(Protocol):
    """What predicts: a fitted `TwoStageClassifier`, or anything that has these members."""

    @property
    def classes_(self) -> Shaped[np.ndarray, " classes"]:
        """The classes, texts or integers, in the order of the probabilities."""
        ...

    @property
    def image_shape_(self) -> tuple[int, int, int] | None:
        """Height, width and 3; None for a model of features."""
        ...

    def predict_proba(self, X: UInt8[np.ndarray, "n h w 3"], /) -> Float32[np.ndarray, "n classes"]:
        """Probabilities of images; those of one image do not depend on the others."""
        ...


class Prediction(NamedTuple):
    """What came of one file."""

    name: str
    """The file, as it was given."""
    probabilities: Float32[np.ndarray, " classes"] | None = None
    """The probability of each class; None where the file cannot be read."""
    reason: str = ""
    """Why it cannot be read; empty where it is."""
    size: tuple[int, int] | None = None
    """Height and width of the picture before it was fitted."""


def file_size(model: Model) -> tuple[int, int]:
    """Height and width of the images that a model takes.

    Raises:
        InputError: it takes features.
    """
    if model.image_shape_ is None:
        raise InputError(
            "the model was fitted on features and takes no image files; expected a model that was "
            "fitted on images: call its predict_proba with features, in Python"
        )
    return model.image_shape_[0], model.image_shape_[1]


def predict_files(
    model: Model, paths: Iterable[str | os.PathLike[str]], *, max_pixels: int = MAX_PIXELS
) -> Iterator[Prediction]:
    """Predicts image files one after the other, in their order.

    Files are decoded and fitted to the model's size as for training, in threads, a chunk ahead of
    the model. At most two chunks are decoded at a time. Close the iterator (or exhaust it) before
    other code changes what Python does with warnings.

    Args:
        model: that predicts.
        paths: the files, which need not all be known at the start.
        max_pixels: the most pixels that an image may have.

    Returns:
        one prediction per path. A file that cannot be read has a reason instead of probabilities.

    Raises:
        InputError: the model takes features.
    """
    return _predict_files(model, (os.fspath(path) for path in paths), file_size(model), max_pixels)


def _predict_files(
    model: Model, names: Iterator[str], size: tuple[int, int], max_pixels: int
) -> Iterator[Prediction]:
    images = max(1, min(_MOST_IMAGES, _MOST_BYTES // (size[0] * size[1] * 3)))
    read = partial(_read, size=size, max_pixels=max_pixels)
    pool = ThreadPoolExecutor()

    def start() -> list[tuple[str, Future[Decoded]]]:
        return [(name, pool.submit(read, name)) for name in islice(names, images)]

    warned = False
    # The model may catch warnings while the threads decode; see `own_limits`.
    with own_limits:
        try:
            chunk = start()
            while chunk:
                following = start()
                decoded = [(name, future.result()) for name, future in chunk]
                del chunk  # the futures hold their images
                narrow = [(name, own.bits) for name, own in decoded if is_narrow(own.bits)]
                if narrow and not warned:
                    warnings.warn(narrow_text(narrow[0][1], [0], [narrow[0][0]]), stacklevel=2)
                    warned = True
                predictions = _predict_chunk(model, decoded, max_pixels)
                del decoded
                yield from predictions
                chunk = following
        finally:
            pool.shutdown(cancel_futures=True)


def _predict_chunk(
    model: Model, decoded: list[tuple[str, Decoded]], max_pixels: int
) -> list[Prediction]:
    pixels: list[Any] = [own.pixels for _, own in decoded if own.pixels is not None]
    rows = iter(model.predict_proba(np.stack(pixels)) if pixels else ())
    return [
        Prediction(name, reason=reason(own.error, max_pixels))
        if own.pixels is None
        else Prediction(name, next(rows), size=own.size)
        for name, own in decoded
    ]


def _read(name: str, size: tuple[int, int], max_pixels: int) -> Decoded:
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as error:
        return Decoded(error=error.with_traceback(None))
    if not stat.S_ISREG(mode):  # opening a pipe would wait for another program
        kind = "a folder" if stat.S_ISDIR(mode) else "a special file"
        return Decoded(error=ValueError(f"{kind}, not an image file"))
    return try_decode(Path(name), size, max_pixels)
