"""The handwritten digits that scikit-learn carries: 1,797 real images that need no network.

E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, 1998 (UCI Machine Learning
Repository; the set's test part). They are 8 x 8 pixels with 17 gray levels; here they are enlarged
and repeated over the three channels.
"""

from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.sources.options import SourceOptions
from twostage_jax.support.errors import InputError

DEFAULT_SIZE = 32


def read(options: SourceOptions) -> ImageSet:
    """Reads the digits as uint8 n x h x w x 3, of the classes `0` to `9`.

    `images_per_class` takes the first ones of each class (None: all, 174 to 183).

    Raises:
        InputError: there is a data dir, or no image per class is asked for.
    """
    if options.data_dir is not None:
        raise InputError(
            f"dataset 'digits' with data dir {options.data_dir}; the digits come with "
            "scikit-learn: leave the data dir out, or choose dataset 'folder'"
        )
    if options.images_per_class is not None and options.images_per_class < 1:
        raise InputError(f"{options.images_per_class} images per class; expected 1 or more")
    digits: Any = load_digits()
    side = options.image_size or DEFAULT_SIZE
    rows = np.concatenate(
        [np.flatnonzero(digits.target == label)[: options.images_per_class] for label in range(10)]
    )
    gray = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)
    images = [
        Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC).convert("RGB")
        for image in gray
    ]
    return ImageSet.create(
        images=np.stack([np.asarray(image) for image in images]),
        labels=digits.target[rows],
        class_names=[str(label) for label in range(10)],
        names=[f"{digits.target[row]}/{row:04d}" for row in rows],
        source="handwritten digits of scikit-learn (Alpaydin and Kaynak, 1998)",
    )
