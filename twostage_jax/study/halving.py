"""Running groups where memory may not suffice for as many networks as they have."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import jax

from twostage_jax.study.jobs import Group
from twostage_jax.support.errors import is_out_of_memory

Result = TypeVar("Result")


def run_halving(
    groups: Sequence[Group], run: Callable[[Group], Result | None]
) -> Iterator[tuple[Group, Result, float]]:
    """Runs groups one after another; those that do not fit into memory, in halves.

    Args:
        groups: to run.
        run: runs one group; where it returns None, the group is left out.

    Yields:
        each group that was run, what `run` returned, and its seconds.

    Raises:
        JaxRuntimeError: the device has too little memory for a single network.
    """
    waiting, most = list(groups), max(map(len, groups), default=0)
    while waiting:
        group = waiting.pop(0)
        if len(group) > most:
            waiting[:0] = [group[i : i + most] for i in range(0, len(group), most)]
            continue
        started = time.perf_counter()
        try:
            result = run(group)
        except jax.errors.JaxRuntimeError as error:
            if not is_out_of_memory(error) or len(group) == 1:
                raise
            most = len(group) // 2
            warn_of_halving(len(group), most)
            waiting.insert(0, group)
            continue
        if result is not None:
            yield group, result, time.perf_counter() - started


def warn_of_halving(members: int, most: int) -> None:
    """Warns that `members` networks did not fit, and that at most `most` are tried from now on."""
    warnings.warn(
        f"the device has too little memory for {members} networks at a time; "
        f"the study goes on with {most} (--members {most} starts with as many)",
        stacklevel=3,
    )
