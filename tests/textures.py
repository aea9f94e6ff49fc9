"""Images for tests: noise around a color of each class, from which a network can learn."""

import numpy as np

from twostage_jax.data.image_set import ImageSet


def textures(image_size: int = 32, images_per_class: int = 20, seed: int = 0) -> ImageSet:
    """Eight classes of uint8 images; no two images are equal."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(8), images_per_class)
    color = 255 * (labels[:, None] >> np.arange(3) & 1)
    noise = rng.integers(0, 256, (len(labels), image_size, image_size, 3))
    return ImageSet.create(
        images=((color[:, None, None] + 2 * noise) // 3).astype(np.uint8),
        labels=labels,
        class_names=[f"class{label}" for label in range(8)],
        names=[f"class{label}/{row:05d}" for row, label in enumerate(labels)],
        source=f"textures of seed {seed}",
    )
