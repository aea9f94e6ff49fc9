"""The one exception that a user's mistake, or the state of a user's machine, raises."""

import difflib
from collections.abc import Iterable

_LISTED = 12


class InputError(ValueError):
    """Bad input. The message is one line: what was found, what was expected, what to do.

    Programs print the message without a traceback and exit with status 2; any other exception
    is a defect of ours and keeps its traceback.
    """


def require_known(kind: str, name: str, valid: Iterable[str]) -> str:
    """Returns `name` if it is one of `valid`.

    Raises:
        InputError: the message has the nearest valid names, and the first dozen of all.
    """
    valid = list(valid)
    if name in valid:
        return name
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.4)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    listed = ", ".join(valid[:_LISTED])
    if len(valid) > _LISTED:
        listed += f" and {len(valid) - _LISTED} more"
    raise InputError(f"unknown {kind} '{name}'{hint} (valid: {listed})")


def is_out_of_memory(error: Exception) -> bool:
    """Whether JAX says that a device has too little memory."""
    return "RESOURCE_EXHAUSTED" in str(error)
