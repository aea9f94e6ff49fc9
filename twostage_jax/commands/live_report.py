"""The report of a study that runs."""

import time
from collections.abc import Callable
from pathlib import Path

from twostage_jax.evaluation.names import readable
from twostage_jax.report import write_report
from twostage_jax.support.errors import InputError


class LiveReport:
    """Keeps a study's report current while the study runs, without disturbing it.

    The report is first drawn after a minute. From then on drawing takes at most one fiftieth of
    the time. A report that cannot be drawn is a one-line warning, whatever the reason.
    """

    _SHARE = 0.02
    _FIRST = 60.0  # seconds

    def __init__(self, folder: Path, warn: Callable[[str], None]):
        """Draws nothing yet.

        Args:
            folder: the study's folder.
            warn: shows one line to the user.
        """
        self._folder = folder
        self._warn = warn
        self._next = time.monotonic() + self._FIRST

    def update(self) -> None:
        """Draws the report if it is time."""
        if (started := time.monotonic()) >= self._next:
            self.draw(refresh=int(self._FIRST))
            ended = time.monotonic()
            self._next = ended + max(self._FIRST, (ended - started) / self._SHARE)

    def draw(self, refresh: int | None = None) -> Path | None:
        """Draws the report and returns the page; warns and returns None if that fails."""
        try:
            return write_report(self._folder, refresh=refresh)
        except Exception as error:
            again = f"the study is not affected; the same command draws it again in {self._folder}"
            self._warn(readable(f"no report: {_reason(error)} ({again})"))
            return None


def _reason(error: Exception) -> str:
    """Returns the first line with words of an error, after its type where it is a defect."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if line and isinstance(error, InputError | OSError):
        return line
    return ": ".join(filter(None, (type(error).__name__, line)))
