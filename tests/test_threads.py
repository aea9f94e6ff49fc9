"""Work on blocks of rows in threads, and the limit on BLAS's threads while it goes on."""

import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from twostage_jax.support.threads import for_row_blocks


def blas_threads() -> list[int]:
    return [own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"]


@pytest.mark.parametrize(("rows", "block"), [(0, 1), (1, 5), (10, 3), (1000, 1)])
def test_every_row_is_worked_on_once(rows, block):
    counts = np.zeros(rows, int)

    def count(part: slice) -> None:
        counts[part] += 1

    for_row_blocks(count, rows, block)
    assert (counts == 1).all()


def test_an_error_of_a_block_reaches_the_caller_and_the_limit_ends():
    def fail(part: slice) -> None:
        raise KeyError(part.start)

    with threadpool_limits(2, "blas"):
        before = blas_threads()
        with pytest.raises(KeyError):
            for_row_blocks(fail, 100, 1)
        assert blas_threads() == before


def test_callers_take_turns_and_leave_the_limit_on_blas_as_it_was():
    """Inside at the same time, the second would save the first one's limit, and restore it."""
    second_in = threading.Event()

    def first(part: slice) -> None:
        second.start()
        assert not second_in.wait(0.2)

    second = threading.Thread(target=lambda: for_row_blocks(lambda _: second_in.set(), 1, 1))
    before = blas_threads()
    for_row_blocks(first, 1, 1)
    second.join()
    assert second_in.is_set()
    assert blas_threads() == before


@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_a_forked_child_works_with_threads_of_its_own():
    for_row_blocks(lambda part: None, 100, 1)
    child = os.fork()
    if not child:
        done = []
        for_row_blocks(lambda part: done.append(part), 100, 1)
        os._exit(0 if len(done) == 100 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
