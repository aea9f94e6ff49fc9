"""A process that works for a limited time and leaves nothing behind."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
"""Of the checkout: where commands run, so that they find `experiments` and `tests`."""

GRACE = 10.0
"""Seconds that a process has after an interruption to write what it has."""


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
        status: its exit status, negative for a signal.
        seconds: that it took.
        cause: why it was ended, `late` or `interrupted`; empty where it ended by itself.
    """

    status: int
    seconds: float
    cause: str


def run_child(
    command: Sequence[str],
    log: Path,
    limit: float,
    environment: Mapping[str, str] | None = None,
    grace: float = GRACE,
) -> Ended:
    """Runs a command with its output in a file.

    After `limit` seconds, or where this process is interrupted, the command gets a SIGTERM, and is
    killed `grace` seconds later. What it started and left behind is killed in any case.
    """
    variables = os.environ | {"PYTHONUNBUFFERED": "1"} | dict(environment or {})
    log.parent.mkdir(parents=True, exist_ok=True)
    started, cause = time.monotonic(), ""
    with open(log, "wb") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,  # Ctrl-C reaches this process alone, which passes it on
        )
        try:
            child.wait(max(limit, 0))
        except subprocess.TimeoutExpired:
            cause = "late"
        except KeyboardInterrupt:
            cause = "interrupted"
        try:
            if cause:
                child.terminate()  # not SIGINT, which it may ignore, as after nohup
                with suppress(subprocess.TimeoutExpired):
                    child.wait(grace)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return Ended(child.returncode, time.monotonic() - started, cause)
