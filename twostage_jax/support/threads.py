"""Work on rows of NumPy arrays, shared by the processor's cores."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from threadpoolctl import ThreadpoolController


def for_row_blocks(work: Callable[[slice], None], rows: int, block: int) -> None:
    """Calls `work` for every block of rows, in one thread a core.

    NumPy lets other threads run while it works on arrays; `work` writes its own rows of a result.
    Matrix products run in the thread that asks for them: OpenBLAS's threads wait for each other
    awake, and become ten times slower on a machine that has anything else to do.

    Args:
        work: takes the slice of rows that it is to work on.
        rows: how many there are.
        block: how many a call gets, few enough that what it makes of them stays in the cache.
    """
    slices = [slice(start, min(start + block, rows)) for start in range(0, rows, block)]
    threads = min(len(slices), os.cpu_count() or 1)
    # Some shares a thread, so that none waits long for another; handing out a share takes time.
    shares = [slices[first :: 4 * threads] for first in range(4 * threads)]

    def do(share: list[slice]) -> None:
        for part in share:
            work(part)

    with _libraries().limit(limits=1, user_api="blas"):
        if threads <= 1:
            do(slices)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(do, shares))


@cache
def _libraries() -> ThreadpoolController:
    """Looks for the loaded BLAS once: that takes milliseconds."""
    return ThreadpoolController()
