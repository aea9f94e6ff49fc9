"""What a report is made of: sections of text, notices, pictures, tables and a matrix to choose."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from twostage_jax.evaluation.tables import Cell, Sheet, csv


class Text(NamedTuple):
    """Paragraphs."""

    paragraphs: tuple[str, ...]


class Notice(NamedTuple):
    """What a reader has to know before the rest, or why something is not here."""

    text: str


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """A figure, also written as `NAME.svg`."""

    name: str
    title: str
    caption: str
    """What it shows, how to read it; also the text for those who do not see it."""
    figure: Figure


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A table, also written as `NAME.csv`."""

    name: str
    caption: str
    sheet: Sheet
    csv: str
    folded: bool = False
    """Closed at first, for long tables."""


@dataclasses.dataclass(frozen=True, eq=False)
class Confusions:
    """Confusion matrices of which the reader chooses one.

    `data` is what the page's script reads: classes, approaches, cells and counts.
    """

    data: dict
    default: Sheet
    """Shown first, and on paper."""
    csv: str
    """All of them, a row a true class."""


Block = Text | Notice | Picture | Table | Confusions


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
    *,
    header: Mapping[str, str],
    decimals: Mapping[str, int],
    small: Collection[str] = (),
    folded: bool = False,
) -> Table:
    """A table of a frame's columns.

    Args:
        name: of its CSV file, which has all columns of `frame`.
        title: printed above it.
        caption: printed below it.
        frame: its rows.
        header: the columns to print, and what to call them.
        decimals: of the columns with numbers; they stand to the right of the others.
        small: columns whose values below the last decimal are printed as that, such as <0.001.
        folded: closed at first.
    """
    columns = sorted(header, key=lambda column: column in decimals)
    rows = [
        [Cell(_printed(row[name], decimals.get(name), name in small)) for name in columns]
        for row in frame.to_dict("records")
    ]
    labels = sum(column not in decimals for column in columns)
    sheet = Sheet(title, [header[column] for column in columns], labels, rows)
    return Table(name, caption, sheet, csv(frame, {}), folded)


def _printed(value, decimals: int | None, small: bool) -> str:
    if pd.isna(value):
        return "-"
    if small and value < 10**-decimals:
        return f"<{10**-decimals:.{decimals}f}"
    return str(value) if decimals is None else f"{value:,.{decimals}f}"
