"""Which images belong together, such as those of one patient: `--groups` as one id per image."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

from twostage_jax.data.image_set import ImageSet
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import user_path
from twostage_jax.support.text import list_names, printable

_COLUMNS = ("filename", "group")

_EXAMPLE = r"expected one such as 'patient(\d+)', whose first group in parentheses is the id"


def parse_groups(spec: str) -> re.Pattern[str] | Path:
    """What `--groups` means: the path of a CSV file, or a regular expression.

    An existing file and a value that ends in `.csv` are a CSV file; image names do not end so.

    Raises:
        InputError: there is no such file, or the expression is not valid.
    """
    if spec.lower().endswith(".csv") or os.path.isfile(os.path.expanduser(spec)):
        path = user_path(Path(spec), "--groups")
        if not path.is_file():
            raise InputError(
                f"--groups {printable(spec)}: no such file; expected a CSV file with the columns "
                "filename and group, or a regular expression: check the path"
            )
        return path
    try:
        return re.compile(spec)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(
            f"--groups '{printable(spec)[:80]}' is neither a file nor a regular expression "
            f"({printable(str(error))}); {_EXAMPLE}"
        ) from None


def read_groups(spec: str, image_set: ImageSet) -> tuple[str, ...]:
    r"""The id of the group of each image.

    Args:
        spec: a regular expression, which is searched in the name of each image: its first group is
            the id, or the whole match where it has no group. `CRC-Prim-HE-(\d+)` is an example. Or
            the path of a CSV file with the columns `filename` and `group`. A file name is an
            image's name, such as `class/sub/file.png`, its part below the class, or the bare name
            of the file where no other image has it. Rows of other files are passed over.
        image_set: whose images are asked for.

    Returns:
        ids that are not empty, in the order of the image set.

    Raises:
        InputError: as `parse_groups`; an image that the expression does not match or that the file
            lacks; or a file that is no such CSV, or whose names are ambiguous or contradict each
            other.
    """
    rule = parse_groups(spec)
    if isinstance(rule, Path):
        return _from_csv(rule, image_set)
    return _from_names(rule, image_set)


def _from_names(pattern: re.Pattern[str], image_set: ImageSet) -> tuple[str, ...]:
    number = 1 if pattern.groups else 0
    found = [pattern.search(name) for name in image_set.names]
    ids = [match[number] if match else None for match in found]
    missing = [name for name, own in zip(image_set.names, ids, strict=True) if not own]
    if missing:
        raise InputError(
            f"--groups '{printable(pattern.pattern)[:80]}' finds no id in the names of "
            f"{len(missing)} of {len(ids)} images: {list_names(missing)}; {_EXAMPLE}, or the path "
            "of a CSV file"
        )
    return tuple(own for own in ids if own)


def _from_csv(path: Path, image_set: ImageSet) -> tuple[str, ...]:
    rows_of = _rows_of_names(image_set)
    ids: dict[int, str] = {}
    for name, group in _csv_rows(path):
        rows = next((level[name] for level in rows_of if name in level), [])
        if len(rows) > 1:
            several = list_names([image_set.names[row] for row in rows])
            raise InputError(
                f"{path}: '{printable(name)}' may be {several}; expected the name of one image: "
                "write it with its folders"
            )
        for row in rows:
            if ids.setdefault(row, group) != group:
                raise InputError(
                    f"{path}: image {printable(image_set.names[row])} is in the groups "
                    f"'{printable(ids[row])}' and '{printable(group)}'; expected one: correct the "
                    "rows"
                )
    missing = [name for row, name in enumerate(image_set.names) if row not in ids]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of {len(image_set)} images: {list_names(missing)}; "
            "expected a row for each: add them"
        )
    return tuple(ids[row] for row in range(len(image_set)))


def _rows_of_names(image_set: ImageSet) -> list[dict[str, list[int]]]:
    """Images by what a file may call them: whole names, parts below the class, bare names."""
    levels: list[dict[str, list[int]]] = [{}, {}, {}]
    for row, (name, label) in enumerate(zip(image_set.names, image_set.labels, strict=True)):
        below = name.removeprefix(f"{image_set.class_names[label]}/")
        for level, key in zip(levels, (name, below, name.rpartition("/")[2]), strict=True):
            level.setdefault(key, []).append(row)
    return levels


def _csv_rows(path: Path) -> Sequence[tuple[str, str]]:
    """The names and groups that the file lists."""
    try:
        # File names that are not valid UTF-8 are read as Python reads them from a folder.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [(name or "").strip() for name in reader.fieldnames or ()]
            if absent := [name for name in _COLUMNS if name not in columns]:
                raise InputError(
                    f"{path} lacks the column{'s' * (len(absent) > 1)} {' and '.join(absent)} (its "
                    f"first line has: {list_names(columns) or 'nothing'}); expected the columns "
                    "filename and group, with commas between them"
                )
            reader.fieldnames = columns
            rows = [(row["filename"] or "", (row["group"] or "").strip()) for row in reader]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check --groups") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV file ({error}); check --groups") from None
    if empty := [name for name, group in rows if not group]:
        raise InputError(
            f"{path} has no group for {len(empty)} of {len(rows)} files: {list_names(empty)}; "
            "expected an id in every row"
        )
    return rows
