"""How numbers are printed: three digits, and a dash for what was not measured."""

import math


def digits(number: float) -> str:
    """Three significant digits."""
    return f"{float(f'{number:.3g}'):,g}"


def seconds(duration: float | None) -> str:
    """A time, without its unit."""
    return "-" if duration is None else digits(duration)


def times(ratio: float | None) -> str:
    """How many times faster."""
    return "-" if ratio is None else f"{digits(ratio)}x"


def share(part: float | None) -> str:
    """Per cent, rounded down, so that only all is 100 %."""
    return "-" if part is None else f"{math.floor(1000 * part) / 10:g} %"


def size(count: float | None) -> str:
    """Bytes."""
    if count is None:
        return "-"
    units = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
    unit, name = next((pair for pair in units if count >= pair[0]), (1, "B"))
    return f"{digits(count / unit)} {name}"
