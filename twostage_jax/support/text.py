"""Names in messages: on one line, and not too many."""

from collections.abc import Sequence

# How many names a message lists before it stops at a count.
_NAMES_SHOWN = 5


def printable(name: str) -> str:
    """The name on one line of valid text: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def list_names(names: Sequence[str]) -> str:
    """The first few of the names, and how many more there are."""
    shown = ", ".join(printable(name) for name in names[:_NAMES_SHOWN])
    return shown + (f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else "")
