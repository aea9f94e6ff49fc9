"""Names that users gave, as text that any page, table and terminal can show.

A class is called what its folder is called, and a folder may be called almost anything.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

_JOINERS = "\u200c\u200d"  # they have no shape, but change that of their neighbors
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and signs without any ink


def readable(text: str) -> str:
    r"""Returns the text with an escape for each character that cannot be seen or encoded.

    Line breaks, control characters, marks that turn the direction of writing, odd spaces and lone
    surrogates (from file names that are not UTF-8) become escapes such as `\n`, `\x1b`, `\xa0`
    and `\udce9`. Readable text stays as it is.
    """
    if text.isprintable() and not set(text) & set(_BLANKS):
        return text
    return "".join(
        char
        if (char.isprintable() and char not in _BLANKS) or char in _JOINERS
        else ascii(char)[1:-1]
        for char in text
    )


def class_titles(names: Sequence[str]) -> list[str]:
    """Returns the printed forms of all classes of a study: readable and different to the eye.

    An underscore prints as a space, unless that makes two titles look alike: `a_b` and `a b` print
    as they are. Titles that still look alike, or empty, carry the label of their class.

    Args:
        names: the names of the classes, by label.
    """
    titles = [readable(name.replace("_", " ")) for name in names]
    alike = Counter(map(_seen, titles))
    plain = [
        title if _seen(title) and alike[_seen(title)] == 1 else readable(name)
        for title, name in zip(titles, names, strict=True)
    ]
    return tell_apart(plain, [f"(label {label})" for label in range(len(names))])


def tell_apart(titles: Iterable[str], marks: Iterable[str]) -> list[str]:
    """Returns the titles; those that look empty or like another one are followed by their mark."""
    titles = list(titles)
    alike = Counter(map(_seen, titles))
    taken, apart = set(alike), []
    for title, mark in zip(titles, marks, strict=True):
        look = _seen(title)
        if not look or alike[look] > 1:
            while not look or look in taken:
                title = f"{title} {mark}".strip()
                look = _seen(title)
            taken.add(look)
        apart.append(title)
    return apart


def _seen(title: str) -> str:
    """Returns what the eye compares: a page prints any number of spaces as one."""
    visible = title.translate(dict.fromkeys(map(ord, _JOINERS)))
    return " ".join(unicodedata.normalize("NFC", visible).split())
