"""Turns sections into the files of a page: the HTML, its figures as SVG and its tables as CSV."""

import base64
from collections.abc import Sequence

import jinja2

from twostage_jax import __version__
from twostage_jax.evaluation.names import readable
from twostage_jax.report import style
from twostage_jax.report.blocks import Confusions, Picture, Section, Table


def _printed(value: object) -> object:
    """Returns what the page prints of a value; what is HTML already stays."""
    return readable(value) if type(value) is str else value


_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("twostage_jax.report", "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_printed,
)
_TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":")}


def render_page(
    sections: Sequence[Section],
    *,
    kind: str,
    title: str,
    status: str,
    refresh: int | None = None,
) -> dict[str, str]:
    """Returns the files of a page, by name: `index.html`, `NAME.svg`, `NAME.csv`.

    It has to be called inside `style.quiet`.

    Args:
        sections: what the page shows, in order.
        kind: what the page is about, which decides the terms that it explains: `study` (several
            ratios), `as found` (a study of the data as they are) or `model`.
        title: the headline.
        status: the line below it.
        refresh: seconds after which a browser loads the page again; None for never.
    """
    files = {}
    for section in sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                files[f"{block.name}.svg"] = style.svg(block.figure)
            elif isinstance(block, Table):
                files[f"{block.name}.csv"] = block.csv
            elif isinstance(block, Confusions):
                files["confusion.csv"] = block.csv
    files["index.html"] = _TEMPLATES.get_template("page.html.jinja").render(
        kind=kind,
        title=title,
        status=status,
        sections=sections,
        files=files,
        data_url=_data_url,
        refresh=refresh,
        version=__version__,
    )
    return files


def encode(files: dict[str, str]) -> dict[str, bytes]:
    """Returns the bytes of the files; what UTF-8 cannot hold is escaped, as `readable` does."""
    return {name: text.encode(errors="backslashreplace") for name, text in files.items()}


def _data_url(svg: str) -> str:
    """Returns a picture for `img`: as an element, its names would clash with another figure's."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
