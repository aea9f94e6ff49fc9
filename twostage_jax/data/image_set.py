"""Labeled images in memory, in an order that does not depend on how they were read."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int32, Int64, Integer, UInt8

from twostage_jax.support.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labeled RGB images of one size. Build one with `create`, which validates and sorts.

    Folds and random streams depend on the order of rows, so that two ways of reading the same
    images must give the same rows. The arrays are read-only, which keeps the fingerprint true.
    """

    images: UInt8[np.ndarray, "n h w 3"]
    """Pixels, RGB, 0 to 255."""
    labels: Int32[np.ndarray, " n"]
    """Class index of each image, 0 to `num_classes` - 1, in ascending order."""
    class_names: tuple[str, ...]
    """Distinct name of each class, at least two; its position is the class index."""
    names: tuple[str, ...]
    """Unique name of each image, ascending within a class; equal for every way of reading."""
    source: str
    """One line on where the images came from, for people. It is not part of the fingerprint."""

    @classmethod
    def create(
        cls,
        *,
        images: UInt8[np.ndarray, "n h w 3"],
        labels: Integer[np.ndarray, " n"],
        class_names: Sequence[str],
        names: Sequence[str],
        source: str,
    ) -> "ImageSet":
        """Returns the image set of the given attributes, its rows sorted by (label, name).

        Sorted images are not copied: the image set holds a read-only view, and the caller must no
        longer write to the array.

        Raises:
            InputError: the parts do not fit together, a label has no class, a class has no
                image, or a name occurs twice.
        """
        _check_parts(images, labels, class_names, names)
        order = sorted(range(len(names)), key=lambda row: (labels[row], names[row]))
        if order != list(range(len(names))):
            images = images[order]
        labels = labels[order].astype(np.int32)
        images = images.view()
        images.flags.writeable = False
        labels.flags.writeable = False
        return cls(images, labels, tuple(class_names), tuple(names[row] for row in order), source)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def __repr__(self) -> str:
        """Counts and origin, without the pixels."""
        n, height, width, _ = self.images.shape
        return (
            f"ImageSet({n} images, {height}x{width}, {self.num_classes} classes, "
            f"source={self.source!r})"
        )

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> Int64[np.ndarray, " classes"]:
        """Number of images of each class."""
        return np.bincount(self.labels, minlength=self.num_classes).astype(np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of shape, pixels, labels, names and class names, as 64 hexadecimal digits.

        Two image sets have equal fingerprints exactly when a study of them gives equal results.
        """
        digest = hashlib.sha256()

        def add(part: bytes | memoryview) -> None:
            # The length before each part keeps different lists of parts from the same bytes.
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)

        add(repr(self.images.shape).encode())
        add(np.ascontiguousarray(self.images).data.cast("B"))
        add(self.labels.astype("<i4").tobytes())
        for group in (self.class_names, self.names):
            add(str(len(group)).encode())
            for name in group:
                # Python holds file names that are not valid UTF-8 with surrogates.
                add(name.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


def _check_parts(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str], names: Sequence[str]
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
        raise InputError(
            f"images are {images.dtype} of shape {images.shape}; expected uint8 RGB of shape "
            "(n, h, w, 3)"
        )
    if 0 in images.shape:
        raise InputError(f"images have shape {images.shape}; expected at least one pixel each")
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise InputError(
            f"labels are {labels.dtype} of shape {labels.shape}; expected one integer per image"
        )
    if not len(images) == len(labels) == len(names):
        raise InputError(
            f"{len(images)} images, {len(labels)} labels and {len(names)} names; expected the same "
            "number of each"
        )
    if len(class_names) < 2:
        raise InputError(f"{len(class_names)} classes; expected at least two")
    for kind, group in (("class name", class_names), ("image name", names)):
        name, times = Counter(group).most_common(1)[0]
        if times > 1:
            raise InputError(f"{kind} '{name}' occurs more than once; expected distinct names")
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}; expected 0 to "
            f"{len(class_names) - 1}, for {len(class_names)} classes"
        )
    counts = np.bincount(labels, minlength=len(class_names))
    if absent := [name for name, count in zip(class_names, counts, strict=True) if count == 0]:
        raise InputError(
            f"no image of {', '.join(absent)}; expected at least one image of every class"
        )
