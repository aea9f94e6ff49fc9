"""Labels of charts: names of any script and length, in letters that an installed font has."""

import contextlib
import functools
import logging
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from twostage_jax.evaluation.names import readable, tell_apart

FONT = "DejaVu Sans"
"""It comes with matplotlib: the same on every machine."""

_LONGEST = 40  # letters of a label; longer ones would leave no room for the data
_UNFIT = ("Last Resort", ".LastResort", "Adobe Blank", "cm", "STIX")
"""How the families begin that have boxes or blanks for letters, or letters of their own code."""


def labels(titles: Sequence[str], kind: str) -> list[str]:
    """Returns the labels by which a chart shows titles, as matplotlib takes them.

    A title that no installed font has all letters of becomes its number and the letters that
    there are, such as `label 3 (B)`. A long one loses its middle. Labels differ as titles do.

    Args:
        titles: what to show; readable.
        kind: the word before a number.
    """
    _, missing = _find_fonts(frozenset("".join(titles)))
    numbers = [f"{kind} {i}" for i in range(len(titles))]
    made = []
    for title, number in zip(titles, numbers, strict=True):
        rest = "".join(char for char in readable(title) if char not in missing).strip()
        if missing & set(title):
            title = f"{number} ({rest})" if rest else number
        made.append(_shorten(title))
    if len(set(titles)) == len(titles):
        made = tell_apart(made, [f"({number})" for number in numbers])
    # A legend leaves out what begins with an underscore, and dollars would make a formula.
    return [" " * own.startswith("_") + own.replace("$", r"\$") for own in made]


def families(texts: Iterable[str]) -> list[str]:
    """Returns the families of fonts that draw the texts: the common one, then what it lacks."""
    return [FONT, *_find_fonts(frozenset("".join(texts)))[0]]


def width(text: str) -> int:
    """Returns about how wide a text is, in Latin letters; Chinese ones count twice."""
    return sum(1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def _shorten(title: str) -> str:
    keep = len(title)
    while width(title) > _LONGEST and keep:
        keep -= 1
        short = f"{title[: keep - keep // 2]}…{title[len(title) - keep // 2 :]}"
        if width(short) <= _LONGEST:
            return short
    return title


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Keeps matplotlib from logging that a family lacks the usual weight: it takes another."""
    log = logging.getLogger("matplotlib.font_manager")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


@functools.cache
@hushed()
def _find_fonts(chars: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Returns which installed families have what the common one lacks, and what none has."""
    missing, found = chars - _drawn(FONT, chars), []
    others = {entry.name for entry in font_manager.fontManager.ttflist} - {FONT}
    for family in sorted(others):
        if not missing:
            break
        if not family.startswith(_UNFIT) and (own := _drawn(family, missing)):
            found.append(family)
            missing -= own
    return tuple(found), frozenset(missing)


def _drawn(family: str, chars: Iterable[str]) -> frozenset[str]:
    """Returns the characters that the family draws in lines; pictures in color are none."""
    try:
        properties = font_manager.FontProperties(family=family)
        font = FT2Font(font_manager.findfont(properties, fallback_to_default=False))
        font.set_size(10, 72)
        return frozenset(c for c in chars if _has_outline(font, c, family == FONT))
    except (OSError, RuntimeError, ValueError):  # a font that matplotlib cannot use
        return frozenset()


def _has_outline(font: FT2Font, char: str, blank: bool) -> bool:
    """Says whether the font has the character; `blank` takes those without any line."""
    index = font.get_char_index(ord(char))
    if index and not blank:
        font.load_glyph(index)
    return bool(index) and (blank or len(font.get_path()[0]) > 0)
