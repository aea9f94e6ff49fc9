"""How a command ends: with a status, and with one line where something is wrong."""

import sys
import warnings
from collections.abc import Callable

from twostage_jax.support.errors import InputError


def run_command(work: Callable[[], int], interrupted: str, advice: str = "") -> int:
    """Does the work of a command and returns its exit status.

    The status is 2 for bad input or a machine that cannot go on, 130 for an interruption, and
    otherwise that of the work.

    Args:
        work: gives a status, or raises.
        interrupted: the line printed for an interruption.
        advice: added to what the operating system refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            return work()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}{advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130


def _print_warning(message: Warning | str, *_, **__) -> None:
    """Prints a warning as one line, without the place in the code that raised it."""
    print(f"warning: {message}", file=sys.stderr)
