"""Named random streams: what a stream yields depends on its name, never on execution order."""

import hashlib
from collections.abc import Callable

# The seed of the stream of a name, within some family of streams.
Stream = Callable[..., int]


def derive(seed: int, *names: str | int | float) -> int:
    """A 32-bit seed of the stream `names` under `seed`.

    It is a prefix of the SHA-256 of both, so that streams of different names are independent for
    every practical purpose, and `derive(7, "fold", 3, "class order")` is the same number on every
    machine and in every process.
    """
    parts = [f"{name:g}" if isinstance(name, float) else str(name) for name in names]
    digest = hashlib.sha256("/".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:4], "little")
