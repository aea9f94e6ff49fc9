"""Work on rows of NumPy arrays, divided among the processor's cores."""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
from threadpoolctl import ThreadpoolController


@cache
def cores() -> int:
    """How many cores this process may use, which a container may limit."""
    return joblib.cpu_count()


def for_row_blocks(work: Callable[[slice], None], rows: int, block: int) -> None:
    """Calls `work` for every block of rows, in one thread per core.

    NumPy releases Python's lock while it works on arrays. Each call of `work` writes its own rows
    of a result, and calls this function no more. Callers in several threads take turns: each would
    use all cores.

    This changes a limit of the whole process: until all calls have returned, BLAS uses one thread,
    in the caller's other threads, too. OpenBLAS's threads wait for each other in busy loops, and
    become ten times slower on a machine with other work.

    Args:
        work: takes a slice of rows.
        rows: number of rows.
        block: rows per call, few enough that the arrays made of them fit the cache.
    """
    slices = [slice(start, min(start + block, rows)) for start in range(0, rows, block)]
    threads = min(len(slices), cores())
    # Four shares per thread: with fewer a thread may idle, with more handing them out takes time.
    shares = [slices[first :: 4 * threads] for first in range(4 * threads)]

    def do(share: list[slice]) -> None:
        for part in share:
            work(part)

    with _TURN, _libraries().limit(limits=1, user_api="blas"):
        if threads <= 1:
            do(slices)
            return
        list(_pool().map(do, shares))


@cache
def _pool() -> ThreadPoolExecutor:
    """A thread per core, kept because starting them takes half a millisecond."""
    return ThreadPoolExecutor(cores())


@cache
def _libraries() -> ThreadpoolController:
    """The loaded BLAS libraries, looked for once because that takes milliseconds."""
    return ThreadpoolController()


# One caller at a time limits BLAS. A second one would save the first one's limit of one thread, and
# restore it for good.
_TURN = threading.Lock()


def _forget() -> None:
    """In a forked child: it has no threads, and one that it lacks may hold the lock."""
    global _TURN
    _TURN = threading.Lock()
    _pool.cache_clear()


os.register_at_fork(after_in_child=_forget)
