"""What libraries would print beside a command's own lines."""

import logging


def silence_orbax() -> None:
    """Keeps Orbax from logging the traceback of an error that a command says in one line."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
