"""Figure data: what a report's figures show of a study and its records do not hold.

Two small files beside the records: a few images with one pair that SMOTE interpolates between,
and the test samples of one partition as a head's hidden layer sees them before and after stage 2.
"""

import dataclasses
import json
from pathlib import Path
from typing import TypeVar

import numpy as np
import safetensors.numpy
from jaxtyping import Bool, Float, Float32, Int32, UInt8
from PIL import Image
from safetensors import SafetensorError, safe_open
from sklearn.decomposition import PCA

from twostage_jax.data.image_set import ImageSet
from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.record import RecordKey
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

FORMAT = 1
"""Of both files; a file without a number has format 1."""

_SAMPLES = 5  # per class
_SIDE = 64  # pixels: eight classes fit in half a megabyte

Data = TypeVar("Data", "FigureImages", "FigureFeatures")


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FigureImages:
    """Images of a data set, and a pair of neighbors from the study's own SMOTE plan."""

    settings_hash: str
    """Of the study that it belongs to."""
    samples: UInt8[np.ndarray, "classes samples side side2 3"]
    """Some images of each class, reduced to at most 64 pixels."""
    pair: UInt8[np.ndarray, "pair h w 3"]
    """A base and its neighbor in full size; empty where the study interpolates no images."""
    pair_class: int
    """Class of the pair, -1 without one."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FigureFeatures:
    """Hidden activations of one partition's whole test fold, in one plane for both stages.

    Stage 2 does not change the features that it is trained on, only the head. What can be seen
    before and after it is therefore the head's hidden layer.
    """

    settings_hash: str
    """Of the study that it belongs to."""
    key: RecordKey
    """The record whose network it is."""
    before: Float32[np.ndarray, "n 2"]
    """After stage 1, in the plane of the first two principal components of both together."""
    after: Float32[np.ndarray, "n 2"]
    """After stage 2, in the same plane."""
    variance: Float32[np.ndarray, "2"]
    """Share of the variance of both together that each axis holds."""
    label: Int32[np.ndarray, "n"]
    """True class of each sample."""
    kept: Bool[np.ndarray, "n"]
    """Whether the imbalanced test fold keeps the sample."""


def choose_images(
    image_set: ImageSet, settings_hash: str, pair: tuple[int, int] | None
) -> FigureImages:
    """Chooses up to five evenly spaced images per class; the smallest class decides how many.

    Args:
        image_set: of the study.
        settings_hash: of the study.
        pair: rows of two neighbors, or None.
    """
    count = min(_SAMPLES, int(image_set.class_counts.min()))
    rows = [
        members[np.linspace(0, len(members) - 1, count).astype(int)]
        for members in (
            np.flatnonzero(image_set.labels == label) for label in range(image_set.num_classes)
        )
    ]
    return FigureImages(
        settings_hash=settings_hash,
        samples=np.stack([[_thumbnail(image_set.images[row]) for row in own] for own in rows]),
        pair=image_set.images[list(pair or ())],
        pair_class=int(image_set.labels[pair[0]]) if pair else -1,
    )


def _thumbnail(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side2 3"]:
    picture = Image.fromarray(image)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def project_features(
    key: RecordKey,
    settings_hash: str,
    before: Float[np.ndarray, "n f"],
    after: Float[np.ndarray, "n f"],
    *,
    label: Int32[np.ndarray, "n"],
    kept: Bool[np.ndarray, "n"],
) -> FigureFeatures:
    """Projects both representations on the principal components of the two together.

    There is one projection for both: equal places are equal activations, and movement is movement.
    """
    pca = PCA(2, svd_solver="full").fit(np.concatenate([before, after]).astype(np.float64))
    return FigureFeatures(
        settings_hash=settings_hash,
        key=key,
        before=pca.transform(before).astype(np.float32),
        after=pca.transform(after).astype(np.float32),
        variance=pca.explained_variance_ratio_.astype(np.float32),
        label=label,
        kept=kept,
    )


def write_figure_data(folder: Path, data: FigureImages | FigureFeatures) -> None:
    """Writes figure data into a study's folder, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    paths = StudyFolder(folder)
    values = dataclasses.asdict(data)  # a key becomes a table, arrays stay arrays
    tensors = {
        name: np.ascontiguousarray(values.pop(name))
        for name in [*values]
        if isinstance(values[name], np.ndarray)
    }
    text = json.dumps(values | {"format": FORMAT}, sort_keys=True)
    write_atomically(
        paths.images if isinstance(data, FigureImages) else paths.features,
        safetensors.numpy.save(tensors, metadata={"exhibit": text}),
    )


def read_figure_data(kind: type[Data], folder: Path, settings_hash: str) -> Data | None:
    """Reads the images or the features of a study's folder; None if there are none.

    Raises:
        InputError: the file is damaged, of another study or of a newer version.
        OSError: it cannot be read.
    """
    paths = StudyFolder(folder)
    path = paths.images if kind is FigureImages else paths.features
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            fields = json.loads(file.metadata()["exhibit"])
            fields |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if (number := fields.pop("format", 1)) != FORMAT:
            raise InputError(f"its format is {number!r}, this version reads {FORMAT}")
        if "key" in fields:
            fields["key"] = RecordKey(**fields["key"])
        data = kind(**fields)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path} cannot be read ({reason}); expected figure data that this version wrote; "
            "delete it"
        ) from error
    if data.settings_hash != settings_hash:
        raise InputError(
            f"{path} is of a study with settings {data.settings_hash[:12]}, those of this "
            f"folder are {settings_hash[:12]}; delete it"
        )
    return data
