"""Resident memory of this process, as the system counts it."""

import ctypes
import gc
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path


def give_back() -> None:
    """Returns to the system what was freed, where the C library keeps it for what comes next."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> int:
    """Starts a new count of the highest resident memory, and says what it is now, in bytes.

    Only Linux can start anew. Elsewhere the growth of the highest so far is all that can be had,
    which may be less.
    """
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return resident("VmHWM")
    return resident("VmRSS")


def resident(field: str) -> int:
    """Bytes of resident memory, now (`VmRSS`) or at most (`VmHWM`)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) * 1024
