"""Folds: which images are tested together, once each, while all others are trained on.

Images are dealt to folds by class and, where groups are given, by group: the images of one patient,
slide or plant resemble each other, and a network that is trained on some of them scores too well on
the others.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from twostage_jax.data.image_set import ImageSet
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive

FOLDS = 10
"""The paper's number of folds."""

NO_GROUPS = "none"
"""What the settings of a study without groups hold in place of their digest."""


@dataclass(frozen=True)
class Splitting:
    """How the images of a set are dealt to folds. The default is the paper's way.

    Raises:
        InputError: fewer than two splits.
    """

    splits: int = FOLDS
    """Number of folds."""
    groups: tuple[str, ...] | None = None
    """Id of the group of each image, in the order of the image set; images of one group are in one
    fold. None: every image may be in any."""

    def __post_init__(self):
        """Refuses values that are not valid."""
        if self.splits < 2:
            raise InputError(f"--splits {self.splits} found, 2 or more expected")

    @property
    def all_settings(self) -> dict[str, int | str]:
        """`splits` and `groups`, which is the SHA-256 of the ids or `NO_GROUPS`."""
        digest = NO_GROUPS if self.groups is None else _digest(self.groups)
        return {"splits": self.splits, "groups": digest}

    def to_settings(self) -> dict[str, int | str]:
        """The settings as records hold them: only those that differ from the paper's.

        The settings (and their hash) of a study in the paper's way so stay those of older records.
        """
        usual = Splitting().all_settings
        return {name: own for name, own in self.all_settings.items() if own != usual[name]}


def deal_folds(image_set: ImageSet, seed: int, splitting: Splitting) -> Int[np.ndarray, " n"]:
    """The fold of each image, int32 from 0 to `splits` - 1, in stratified folds.

    Rows are sorted by name: the order of reading does not matter. Every fold, and what lies outside
    of it, has images of every class.

    Raises:
        InputError: a class has too few images or groups for that, there are fewer groups than
            splits, or there is not one group per image.
    """
    state = derive(seed, "folds")
    if splitting.groups is None:
        _require_images(image_set, splitting)
        splitter = StratifiedKFold(splitting.splits, shuffle=True, random_state=state)
        return _folds(splitter.split(image_set.names, image_set.labels), len(image_set))
    groups = np.array(splitting.groups, dtype=object)
    if len(groups) != len(image_set):
        raise InputError(f"{len(groups)} groups for {len(image_set)} images; expected one each")
    _require_images(image_set, splitting)
    _require_groups(image_set, groups, splitting.splits)
    splitter = StratifiedGroupKFold(splitting.splits, shuffle=True, random_state=state)
    split = splitter.split(image_set.names, image_set.labels, _numbers(groups))
    folds = _folds(split, len(image_set))
    for name, counts in zip(image_set.class_names, _counts(image_set, folds), strict=True):
        if not counts.all():
            raise InputError(
                f"fold {int(np.argmin(counts))} of {splitting.splits} would have no image of class "
                f"'{name}', because groups stay together; {_fewer(splitting.splits)}choose another "
                "--seed, or give the class more groups"
            )
    return folds


def most_splits(
    image_set: ImageSet, groups: tuple[str, ...] | None, *, seed: int, wanted: int
) -> int:
    """The largest number of splits, up to `wanted`, that `deal_folds` can do.

    It is the images of the smallest class or, with groups, at most the groups of the class that is
    in the fewest.

    Raises:
        InputError: not even two, and why.
    """
    labels = image_set.labels
    most = int(image_set.class_counts.min())
    if groups is not None and len(groups) == len(labels):
        numbers = _numbers(np.array(groups, dtype=object))
        of_class = (numbers[labels == label] for label in range(image_set.num_classes))
        most = min(len(np.unique(own)) for own in of_class)
    for splits in range(min(most, wanted), 2, -1):
        try:
            deal_folds(image_set, seed, Splitting(splits, groups))
        except InputError:  # groups of unequal classes can leave a fold without one
            continue
        return splits
    deal_folds(image_set, seed, Splitting(2, groups))
    return 2


def _folds(split, images: int) -> Int[np.ndarray, " n"]:
    fold = np.empty(images, np.int32)
    for index, (_, test) in enumerate(split):
        fold[test] = index
    return fold


def _numbers(groups: np.ndarray) -> Int[np.ndarray, " n"]:
    """Groups as integers in the order of their ids."""
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _counts(image_set: ImageSet, folds: np.ndarray) -> Int[np.ndarray, "classes splits"]:
    counts = np.zeros((image_set.num_classes, int(folds.max()) + 1), np.int64)
    np.add.at(counts, (image_set.labels, folds), 1)
    return counts


def _require_images(image_set: ImageSet, splitting: Splitting) -> None:
    splits = splitting.splits
    for name, count in zip(image_set.class_names, image_set.class_counts.tolist(), strict=True):
        if count < splits:
            raise InputError(
                f"class '{name}' has {count} image{'s' * (count != 1)}, at least {splits} "
                f"expected, one per fold; {_fewer(splits)}add images or remove the class"
            )


def _require_groups(image_set: ImageSet, groups: np.ndarray, splits: int) -> None:
    if (number := len(set(groups))) < splits:
        raise InputError(
            f"{number} groups found, at least {splits} expected, one per fold; {_fewer(splits)}"
            "check --groups, or leave it out"
        )
    for label, name in enumerate(image_set.class_names):
        own = sorted(set(groups[image_set.labels == label]))
        if len(own) == 1:
            raise InputError(
                f"group '{own[0]}' holds all images of class '{name}', which could not be trained "
                "and tested at once; expected images of a class in several groups: check --groups, "
                "add images of other groups, or remove the class"
            )
        if len(own) < splits:
            raise InputError(
                f"class '{name}' has images in {len(own)} groups, at least {splits} expected, one "
                f"per fold; {_fewer(splits)}add images of other groups, or remove the class"
            )


def _fewer(splits: int) -> str:
    # The paper's program always has ten, and no program has fewer than two.
    return "" if splits in (2, FOLDS) else "lower --splits, "


def _digest(groups: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for group in groups:
        text = group.encode("utf-8", "surrogateescape")
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
    return digest.hexdigest()
