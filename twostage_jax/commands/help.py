"""The help of a command, from the dataclass of its options: a line per option."""

import ast
import dataclasses
import inspect
import textwrap
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}
_WIDTH = 100


def print_help(kind: type, program: str, arguments: Sequence[str], default: Any = None) -> None:
    """Prints the help of a command and ends it, if a command line asks for that.

    Args:
        kind: dataclass of the options. Its docstring says what the command does, with an example;
            a string after each field says what that is.
        program: the command's name.
        arguments: of the command line.
        default: has the values that options have by default; None for the fields' own.

    Raises:
        SystemExit: with status 0, once it is printed.
    """
    if {"-h", "--help"} & set(arguments):
        print(help_text(kind, program, default))
        raise SystemExit(0)


def help_text(kind: type, program: str, default: Any = None) -> str:
    """What `print_help` prints."""
    hints, texts = typing.get_type_hints(kind, include_extras=True), _field_texts(kind)
    positional, options = [], []
    own = inspect.get_annotations(kind)
    # The command's own options come first, then those that it shares with others.
    for field in sorted(dataclasses.fields(kind), key=lambda field: field.name not in own):
        value = getattr(default, field.name, field.default)
        text = texts[field.name].rstrip(".")
        if tyro.conf.Positional[Any].__metadata__[0] in getattr(
            hints[field.name], "__metadata__", ()
        ):
            name = field.name.upper()
            positional.append((f"[{name} ...]" if value == () else name, text))
            continue
        metavar = _metavar(hints[field.name])
        if value in (dataclasses.MISSING, tyro.MISSING):
            text += " (required)"
        elif value is not None and not isinstance(value, bool | tuple):
            text += f" ({value})"
        options.append((f"--{field.name.replace('_', '-')} {metavar}".strip(), text))
    usage = " ".join([f"usage: {program} [OPTIONS]", *(name for name, _ in positional)])
    return "\n".join([usage, "", inspect.getdoc(kind) or "", "", *_columns(positional + options)])


def _columns(rows: Sequence[tuple[str, str]]) -> list[str]:
    left = 2 + max(len(name) for name, _ in rows)
    lines = []
    for name, text in rows:
        first, *others = textwrap.wrap(text, _WIDTH - left, break_on_hyphens=False)
        lines.append(f"{name:{left}}{first}")
        lines += [" " * left + line for line in others]
    return lines


def _metavar(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return _metavar(next(own for own in typing.get_args(hint) if own is not types.NoneType))
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        return "NAME ..."
    return _METAVARS.get(hint, "")


def _field_texts(kind: type) -> dict[str, str]:
    """The string that follows each field in the source."""
    texts = {}
    for owner in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(owner):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                assert isinstance(text, ast.Expr)
                texts[field.target.id] = " ".join(ast.literal_eval(text.value).split())
    return texts
