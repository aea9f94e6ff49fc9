"""What a report is made of: sections of text, notices, pictures, tables, confusion matrices."""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from twostage_jax.evaluation.sheets import Cell, Sheet, csv


class Text(NamedTuple):
    """Paragraphs."""

    paragraphs: tuple[str, ...]


class Notice(NamedTuple):
    """What a reader has to know before the rest, or why something is absent."""

    text: str


class Code(NamedTuple):
    """A command to copy."""

    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A figure, also written as `NAME.svg`."""

    name: str
    title: str
    caption: str
    """What the figure shows and how to read it; also its alternative text."""
    figure: Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table, also written as `NAME.csv`."""

    name: str
    caption: str
    sheet: Sheet
    csv: str
    folded: bool = False
    """Whether the page shows it closed at first; for long tables."""


@dataclasses.dataclass(frozen=True, eq=False)
class Confusions:
    """All confusion matrices; the reader chooses which one the page shows."""

    data: dict
    """What the page's script reads: classes, approaches, cells and counts; for data as they are
    also the word for a fold (`unit`), and then neither cell nor test fold is a choice. Where there
    are many approaches, `families` has the names of each family."""
    default: Sheet
    """The matrix that the page shows first."""
    csv: str
    """All matrices, one row per true class."""


Block = Text | Notice | Code | Picture | Table | Confusions


class Section(NamedTuple):
    """A part of the page with a heading and an anchor."""

    anchor: str
    title: str
    blocks: Sequence[Block]


def make_table(
    name: str,
    title: str,
    caption: str,
    frame: pd.DataFrame,
    columns: str,
    headings: Mapping[str, str] = MappingProxyType({}),
    folded: bool = False,
) -> Table:
    """Makes a table of a frame's columns.

    Args:
        name: name of its CSV file, which has all columns of `frame`.
        title: printed above the table.
        caption: printed below it.
        frame: the rows.
        columns: names of the columns to print, separated by spaces. A name may end in a colon
            and a number of decimals; such columns stand to the right of the others. A p-value
            (column `p`) below the last decimal is printed as such, for example <0.001.
        headings: headings of the columns that are not headed by their capitalized names.
        folded: whether the page shows the table closed at first.
    """
    parts = [column.partition(":") for column in columns.split()]
    labels = [key for key, _, decimals in parts if not decimals]
    numbers = {key: int(decimals) for key, _, decimals in parts if decimals}
    rows = [
        [
            *(Cell("-" if pd.isna(row[key]) else str(row[key])) for key in labels),
            *(Cell(_printed(float(row[key]), n, key == "p")) for key, n in numbers.items()),
        ]
        for row in frame.to_dict("records")
    ]
    header = [headings.get(key, key[0].upper() + key[1:]) for key in (*labels, *numbers)]
    return Table(name, caption, Sheet(title, header, len(labels), rows), csv(frame), folded)


def _printed(value: float, decimals: int, small: bool) -> str:
    if pd.isna(value):
        return "-"
    if small and value < 10**-decimals:
        return f"<{10**-decimals:.{decimals}f}"
    return f"{value:,.{decimals}f}"
