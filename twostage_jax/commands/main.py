"""The command line: `python -m twostage_jax COMMAND ...`, or `twostage COMMAND ...`."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import twostage_jax
from twostage_jax.commands.ending import leave_on_signals
from twostage_jax.support.errors import InputError, require_known

PROGRAM = "python -m twostage_jax"


class Command(NamedTuple):
    """One command, which is imported when it is called."""

    module: str
    """It has `main(arguments, *, leave=False) -> int`, which returns an exit status."""
    line: str
    """What it does."""


COMMANDS = {
    "compare": Command(
        "twostage_jax.commands.compare",
        "compare approaches on your images by cross-validation: a page and a recommendation",
    ),
    "fit": Command(
        "twostage_jax.commands.fit", "train one approach on all images and save the model"
    ),
    "predict": Command(
        "twostage_jax.commands.predict", "predict new images with a saved model: CSV, JSON, Parquet"
    ),
    "evaluate": Command(
        "twostage_jax.commands.evaluate", "score a saved model on labeled images: a page"
    ),
}

_HELP = f"""usage: {PROGRAM} COMMAND ...

Train image classifiers when some classes are rare.

commands:
{{commands}}

example: which approach suits the images of cells/ (one sub-folder per class), a model, predictions
  {PROGRAM} compare cells/
  {PROGRAM} fit cells/ --output cells.model
  {PROGRAM} predict cells.model new/ --output predictions.csv
  {PROGRAM} evaluate cells.model held-out/

{PROGRAM} COMMAND --help lists the options of a command.
"""


def run() -> int:
    """Runs this process's command line and returns its exit status."""
    # The commands import JAX and others for seconds. An interruption meanwhile is one line, too.
    leave_on_signals("interrupted")
    return main(sys.argv[1:], leave=True)


def main(arguments: Sequence[str], *, leave: bool = False) -> int:
    """Runs a command line and returns its exit status.

    0: all is done. 1: it is done in part, as the command says. 2: bad input, or a machine that
    cannot go on. 130: interrupted.

    Args:
        arguments: the name of a command, and what it is given.
        leave: as for `ending.run_command`.

    Raises:
        SystemExit: for a command's `--help`, or an option that does not exist.
    """
    name, *others = arguments or [""]
    if name in ("-h", "--help"):
        print(help_text(), end="")
        return 0
    if name == "--version":
        print(f"twostage_jax {twostage_jax.__version__}")
        return 0
    if not name:
        print(help_text(), end="", file=sys.stderr)
        return 2
    try:
        command = COMMANDS[require_known("command", name, COMMANDS)]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if name == "compare":
        listed = import_module("twostage_jax.commands.approach_list")
        if listed.print_if_asked(others):  # without the seconds that JAX takes
            return 0
    return import_module(command.module).main(others, leave=leave)


def help_text() -> str:
    """What `--help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{command.line}" for name, command in COMMANDS.items()]
    return _HELP.format(commands="\n".join(lines))
