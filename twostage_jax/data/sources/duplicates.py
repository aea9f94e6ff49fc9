"""Images of equal pixels: a fold would test on what it trained on."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Integer, UInt8

from twostage_jax.support.errors import InputError
from twostage_jax.support.text import list_names


def settle_duplicates(
    images: UInt8[np.ndarray, "n h w 3"],
    labels: Integer[np.ndarray, " n"],
    names: Sequence[str],
    choice: str | None,
) -> Bool[np.ndarray, " n"]:
    """Finds images of equal pixels, and says what is done with them in a warning.

    Args:
        images: pixels.
        labels: class of each image.
        names: of each image.
        choice: as `SourceOptions.duplicates`.

    Returns:
        which images to keep.

    Raises:
        InputError: there are some, and the choice is "error"; or a picture stands in two classes,
            and the choice is None.
    """
    order = sorted(range(len(names)), key=lambda row: (labels[row], names[row]))
    equal = _equal_rows(images, order)
    across = [rows for rows in equal if len({int(labels[row]) for row in rows}) > 1]
    within = [rows for rows in equal if len({int(labels[row]) for row in rows}) == 1]
    keep = np.ones(len(names), bool)
    if across:
        found = (
            f"{len(across)} picture{'s stand' if len(across) > 1 else ' stands'} in more than one "
            f"class: {_pairs(across, names)}"
        )
        if choice in (None, "error"):
            raise InputError(
                f"{found}; expected one label per picture: remove the wrong files, or pass "
                "--duplicates drop (leaves out all of them) or keep"
            )
        if choice == "drop":
            keep[np.concatenate(across)] = False
        done = "all of them are left out" if choice == "drop" else "they are kept"
        warnings.warn(f"{found}; {done}", stacklevel=2)
    if within:
        more = sum(len(rows) - 1 for rows in within)
        found = (
            f"{more} image{'s have' if more > 1 else ' has'} the pixels of another in the same "
            f"class: {_pairs(within, names)}"
        )
        if choice == "error":
            raise InputError(f"{found}; remove them, or pass --duplicates drop or keep")
        if choice == "drop":
            keep[[row for rows in within for row in rows[1:]]] = False
        done = (
            "the first of each is kept"
            if choice == "drop"
            else "they are kept, and may stand in training and test at once (--duplicates drop "
            "leaves them out)"
        )
        warnings.warn(f"{found}; {done}", stacklevel=2)
    return keep


def _equal_rows(images: UInt8[np.ndarray, "n h w 3"], order: Sequence[int]) -> list[list[int]]:
    """The rows of each picture that is there more than once, in the given order."""
    groups: dict[bytes, list[int]] = {}
    for row in order:
        digest = hashlib.blake2b(np.ascontiguousarray(images[row]).data, digest_size=16).digest()
        groups.setdefault(digest, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _pairs(groups: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """`a/0.png = b/1.png` for each group of rows."""
    return list_names([" = ".join(names[row] for row in rows[:4]) for rows in groups])
