"""How a command ends: with a status, and with one line where something is wrong."""

import sys
from collections.abc import Callable

from twostage_jax.support.errors import InputError


def run_command(work: Callable[[], int], interrupted: str, advice: str = "", who: str = "") -> int:
    """Does the work of a command and returns its exit status.

    2: bad input, or a machine that cannot go on. 130: interrupted. Otherwise that of the work.

    Args:
        work: gives a status, or raises.
        interrupted: what is said of an interruption.
        advice: what is said after what the machine cannot do.
        who: says so, where there are several; ends with a colon and a space.
    """
    try:
        return work()
    except InputError as error:
        print(f"error: {who}{error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {who}{where}{error.strerror or error}{advice}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130
