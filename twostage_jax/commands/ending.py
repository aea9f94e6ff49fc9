"""How a command ends: with a status, and with one line where something is wrong."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress

from twostage_jax.support.errors import InputError
from twostage_jax.support.unfinished import remove_unfinished

try:
    import resource
except ImportError:
    print(
        "error: this system is not supported (it has no resource limits); expected Linux or macOS; "
        "on Windows, run the command in the Windows Subsystem for Linux",
        file=sys.stderr,
    )
    raise SystemExit(2) from None

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_message = ""  # that an interruption prints; empty until `leave_on_signals`
_SHOW_CURSOR = "\x1b[?25h"


def leave_on_signals(message: str) -> None:
    """Makes Ctrl-C and SIGTERM end the process at once, with one line and status 130.

    No exception is raised: JAX swallows one where it collects garbage, and an interpreter that
    ends while XLA compiles crashes. What is written meanwhile is whole or absent, as after a kill.
    """

    # A thread ends the process: Python calls handlers of its main thread alone, and not before XLA
    # has compiled, which may take minutes.
    def leave(heard: int) -> None:
        while os.read(heard, 1)[0] not in _SIGNALS:
            pass
        with suppress(Exception):
            cursor = _SHOW_CURSOR if sys.stdout.isatty() else ""
            os.write(2, f"{cursor}\n{_message}\n".encode())
            sys.stdout.flush()
        remove_unfinished()
        os._exit(130)

    global _message
    if not _message:
        heard, told = os.pipe()
        os.set_blocking(told, False)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
        threading.Thread(target=leave, args=[heard], daemon=True).start()
    _message = message
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as after nohup
            signal.signal(number, lambda *_: None)


def _raise_on_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def peak_memory() -> int:
    """Bytes of memory that this process has held at most."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024)


def run_command(
    work: Callable[[], int], interrupted: str, advice: str = "", *, leave: bool = False
) -> int:
    """Does the work of a command and returns its exit status.

    The status is 2 for bad input or a machine that cannot go on, 130 for an interruption, and
    otherwise that of the work.

    Args:
        work: gives a status, or raises.
        interrupted: the line printed for an interruption.
        advice: added to what the operating system refused.
        leave: an interruption ends the process at once, see `leave_on_signals`. It has to be the
            process of this command.
    """
    if leave:
        leave_on_signals(interrupted)
    elif _message:
        _raise_on_signals()
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
    except MemoryError as error:
        reason = str(error).splitlines()[0] if str(error) else "the system gave none"
        print(f"error: too little memory ({reason}); lower the sizes asked for", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{interrupted}", file=sys.stderr)
        return 130


def _print_warning(message: Warning | str, *_, **__) -> None:
    """Prints a warning as one line, without the place in the code that raised it."""
    print(f"warning: {message}", file=sys.stderr)
