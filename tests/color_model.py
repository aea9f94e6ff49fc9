"""A stand-in for a fitted model: it tells red, green and blue pictures apart, and counts calls."""

from pathlib import Path

import numpy as np
from PIL import Image

COLORS = {"blue": (10, 20, 200), "green": (10, 200, 20), "red": (200, 20, 10)}


class ColorModel:
    """The probability of a class is the share of its color in the brightness."""

    def __init__(self, classes=tuple(COLORS), image_shape=(8, 8, 3)):
        self.classes_ = np.array(classes)
        self.image_shape_ = image_shape
        self.batches = []

    def predict_proba(self, images):
        assert images.dtype == np.uint8
        assert images.shape[1:] == self.image_shape_
        self.batches.append(len(images))
        means = images.mean(axis=(1, 2))[:, ::-1]
        return (means / means.sum(axis=1, keepdims=True)).astype(np.float32)


def draw(path: Path, color: str, size: tuple[int, int] = (8, 8)) -> Path:
    """Draws a picture of one color, of a width and height."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, COLORS[color]).save(path, "png")
    return path
