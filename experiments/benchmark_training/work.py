"""What an engine's part consists of, for the worker to time."""

from collections.abc import Callable
from typing import NamedTuple


class Work(NamedTuple):
    """Something that is done in calls of some batches.

    Attributes:
        call: does so many batches and waits for them.
        items: of a batch, images or (parts of) heads.
        most: batches that a call can do.
        epoch: batches of which longer calls do a multiple.
        batches: of every call; None: as many as a turn takes.
        compile: compiles ahead, and says what memory of the device is planned, in bytes; None
            where the first call does.
        peak: the highest memory of the device in use since `call` was made, in bytes; None where
            it is not counted.
        keeps: whether the engine keeps memory of the host that it has freed, so that the growth of
            resident memory in a call says nothing.
    """

    call: Callable[[int], None]
    items: float
    most: int
    epoch: int | None = None
    batches: int | None = None
    compile: Callable[[], int] | None = None
    peak: Callable[[], int] | None = None
    keeps: bool = False
