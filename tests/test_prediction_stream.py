"""Predictions of files in a stream."""

import os
import weakref
from itertools import count

import numpy as np
import pytest
from awkward_files import png
from color_model import ColorModel, draw
from PIL import Image

from twostage_jax.data.sources.decode import Decoded
from twostage_jax.prediction import stream
from twostage_jax.prediction.stream import predict_files
from twostage_jax.support.errors import InputError


@pytest.fixture
def picture(tmp_path):
    """A file of one picture."""
    return draw(tmp_path / "b.png", "red")


def test_a_model_of_oblong_images_takes_files_of_its_size_as_they_are(picture):
    model = ColorModel(image_shape=(6, 10, 3))
    pixels = np.random.default_rng(1).integers(0, 256, (6, 10, 3), np.uint8)
    Image.fromarray(pixels).save(picture)
    (prediction,) = predict_files(model, [picture])
    np.testing.assert_array_equal(prediction.probabilities, model.predict_proba(pixels[None])[0])


def test_dark_16_bit_images_are_warned_of_once(picture):
    files = [picture.with_name(name) for name in ("dark.png", "darker.png")]
    for file in files:
        file.write_bytes(png(np.full((8, 8), 900)))
    with pytest.warns(UserWarning, match="16-bit image uses at most 14 bits") as caught:
        assert len([*predict_files(ColorModel(), files)]) == 2
    assert len(caught) == 1


def test_a_model_of_features_takes_no_files():
    with pytest.raises(InputError, match="fitted on features and takes no image files; expected"):
        predict_files(ColorModel(image_shape=None), ["a.png"])


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch):
    live, most, asked = set(), 0, 0

    def read(name, size, max_pixels):
        nonlocal most
        pixels = np.full((*size, 3), 7, np.uint8)
        live.add(name)
        weakref.finalize(pixels, live.discard, name)
        most = max(most, len(live))
        return Decoded(pixels, size=size)

    def names():
        nonlocal asked
        for asked in range(1, 2001):
            yield str(asked)

    monkeypatch.setattr(stream, "try_decode", read)
    here = os.stat(__file__)
    monkeypatch.setattr(stream.os, "stat", lambda _: here)
    model = ColorModel()
    for done, prediction in enumerate(predict_files(model, names()), 1):
        assert prediction.probabilities is not None
        assert asked - done <= 3 * 256
    assert done == 2000
    assert len(model.batches) == 8
    assert most <= 2 * 256
    assert not live


def test_large_images_come_in_small_chunks(picture):
    model = ColorModel(image_shape=(2000, 2000, 3))
    assert len([*predict_files(model, [picture] * 5)]) == 5
    assert model.batches == [2, 2, 1]


def test_a_stream_that_is_left_early_stops_decoding(picture):
    predictions = predict_files(ColorModel(), (picture for _ in count()))
    assert next(predictions).probabilities is not None
    predictions.close()
    assert Image.MAX_IMAGE_PIXELS is not None
