"""How approaches look in a report: a title, a color, a marker and a line for any number of them."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.colors import to_hex, to_rgb
from matplotlib.lines import Line2D

from twostage_jax.report.lettering import labels
from twostage_jax.study.approaches import FAMILIES, Approach, Style
from twostage_jax.support.errors import InputError


class Look(NamedTuple):
    """How charts show one approach."""

    title: str
    """As `lettering.labels` makes it."""
    family: str
    """One of `FAMILIES`."""
    color: str
    """In matplotlib's terms, like marker and line."""
    marker: str
    line: str

    def lines(self, joined: bool = True) -> dict[str, str]:
        """Returns arguments of `plot` for markers, which a line joins or not."""
        return {"color": self.color, "marker": self.marker, "linestyle": self.line * joined}


# The "muted" colors of P. Tol, made for readers with any color vision. The baseline is black: to
# a reader without green cones his gray and most others are near the wine red. The sampler of the
# last stage decides the marker, so that the chart can be read when printed without color.
PAPER = {
    "baseline": Style("#000000", "D", "-"),
    "is_rus": Style("#DDCC77", "v", "--"),
    "is_ros": Style("#999933", "s", "--"),
    "is_smote": Style("#117733", "o", "--"),
    "fs_rus": Style("#88CCEE", "v", ":"),
    "fs_ros": Style("#44AA99", "s", ":"),
    "fs_smote": Style("#332288", "o", ":"),
    "ts_smote_smote": Style("#CC6677", "X", "-"),
    "ts_smote_rus": Style("#882255", "P", "-"),
}
"""The fixed styles of the paper's approaches."""

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "p", "d", "h")

_FAMILY = {
    "baseline": ("#808080", "-"),
    "image": ("#4B6437", "--"),
    "feature": ("#1789C5", ":"),
    "two-stage": ("#A51F7E", "-"),
    "loss": ("#980101", "-"),
    "mixing": ("#0E614E", "--"),
    "head": ("#6D1FCB", "-"),
    "correction": ("#BC6E0C", "-."),
    "other": ("#978145", "-."),
}
"""Color and line of the other members of each family.

The colors were searched for: with all cones and without one kind, any two are at least 17 apart in
CIELAB, lightness included, and the contrast of each with white is above 3.
"""

_DARKEST, _LIGHTEST = 25.0, 61.0  # L* of CIELAB; lighter ones have a contrast below 3 on white
_SHADE = 4.0  # L* between two members of a family, as long as there is room


def make_looks(approaches: Mapping[str, Approach]) -> dict[str, Look]:
    """Gives each approach of a report its look; no two share both color and marker.

    An approach's own style comes first, then the paper's. All others have shades of their family's
    color, the nearer to it the fewer they are, and as many different markers as there are.

    Args:
        approaches: the approaches of the report, by name, in the order of tables.

    Raises:
        InputError: matplotlib does not know the color, marker or line of an approach's style.
    """
    own = {name: approach.style or PAPER.get(name) for name, approach in approaches.items()}
    styles = {name: style for name, style in own.items() if style is not None}
    for name, style in styles.items():
        try:
            Line2D([], [], color=style.color, marker=style.marker, linestyle=style.line)
        except ValueError as error:
            raise InputError(
                f"the style of approach '{name}' cannot be drawn ({error}); expected a color, a "
                "marker and a line that matplotlib knows; change Approach.style"
            ) from error
    for family in FAMILIES:
        members = [name for name, approach in approaches.items() if approach.family == family]
        others = [name for name in members if name not in styles]
        taken = {styles[name].marker for name in members if name in styles}
        markers = [marker for marker in _MARKERS if marker not in taken] or _MARKERS
        hue, line = _FAMILY[family]
        levels = _levels(_lightness(hue), len(others))
        for i, (name, level) in enumerate(zip(others, levels, strict=True)):
            styles[name] = Style(shade(hue, level), markers[i % len(markers)], line)
    titles = labels([approach.title for approach in approaches.values()], "approach")
    return {
        name: Look(title, approach.family, *vars(styles[name]).values())
        for title, (name, approach) in zip(titles, approaches.items(), strict=True)
    }


def _levels(middle: float, count: int) -> Float64[np.ndarray, " count"]:
    """L* of the shades of a family, from dark to light: around its color, as far as that goes."""
    reach = min(_SHADE * (count + 1), _LIGHTEST - _DARKEST) / 2
    middle = float(np.clip(middle, _DARKEST + reach, _LIGHTEST - reach))
    return np.linspace(middle - reach, middle + reach, count + 2)[1:-1]


def shade(hue: str, lightness: float) -> str:
    """Returns the shade of a color that has this lightness, by mixing it with black or white.

    Args:
        hue: any color.
        lightness: L* of CIELAB, 8 to 100.
    """
    wanted = ((lightness + 16) / 116) ** 3  # relative luminance; linear in linear RGB
    linear = _linear(hue)
    luminance = linear @ _LUMINANCE
    if wanted <= luminance:
        linear = linear * wanted / luminance
    else:
        linear = 1 - (1 - linear) * (1 - wanted) / (1 - luminance)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return to_hex(np.clip(srgb, 0, 1))


_LUMINANCE = [0.2126, 0.7152, 0.0722]


def _linear(color: str) -> Float64[np.ndarray, "3"]:
    srgb = np.array(to_rgb(color))
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _lightness(color: str) -> float:
    return float(116 * np.cbrt(_linear(color) @ _LUMINANCE) - 16)
