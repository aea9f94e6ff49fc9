"""Printed tables: cells of text, as CSV, as Markdown and for the screen."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
import rich.table
from rich.text import Text

from twostage_jax.evaluation.names import readable

# The wide forms count as well: a spreadsheet with an East Asian keyboard takes them for these.
_FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


class Cell(NamedTuple):
    """One printed cell."""

    text: str
    best: bool = False
    """Whether it is the best of its row or column and is emphasized."""


class Sheet(NamedTuple):
    """One table as it is printed."""

    title: str
    header: list[str]
    labels: int
    """Number of columns, from the left, that name the row and hold no numbers."""
    rows: list[list[Cell]]


def csv(frame: pd.DataFrame, decimals: Mapping[str, int] = MappingProxyType({})) -> str:
    """Returns the frame as CSV that no spreadsheet takes for formulas.

    Args:
        frame: numbers and texts. NaN is an empty field. Texts are made readable
            (`names.readable`). One that a spreadsheet would compute, such as `=1+1`, follows an
            apostrophe; a number in a text does not.
        decimals: the decimals of some columns of numbers.
    """
    printed = {
        name: frame[name].map(lambda value, n=n: f"{value:.{n}f}", na_action="ignore")
        for name, n in decimals.items()
    }
    texts = frame.assign(**printed).map(as_text)
    texts = texts.set_axis([*map(as_text, texts.columns)], axis="columns")
    return texts.to_csv(index=False, lineterminator="\n")


def as_text(value: object) -> object:
    """Returns a text as a spreadsheet may read it, as in `csv`; any other value as it is."""
    if not isinstance(value, str):
        return value
    text = readable(value)
    if not text.lstrip().startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def to_markdown(sheet: Sheet) -> str:
    """Returns the table under its title in Markdown; best cells are bold."""
    rows = [
        sheet.header,
        ["---"] * sheet.labels + ["---:"] * (len(sheet.header) - sheet.labels),
        *([f"**{cell.text}**" if cell.best else cell.text for cell in r] for r in sheet.rows),
    ]
    return f"## {sheet.title}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_rich(sheet: Sheet) -> rich.table.Table:
    """Returns the table for `rich.print`; best cells are bold."""
    table = rich.table.Table(title=sheet.title, title_justify="left")
    for i, name in enumerate(sheet.header):
        table.add_column(name, justify="left" if i < sheet.labels else "right", no_wrap=True)
    for row in sheet.rows:
        table.add_row(*(Text(cell.text, "bold" if cell.best else "") for cell in row))
    return table
