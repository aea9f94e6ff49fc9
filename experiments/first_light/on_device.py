"""A plugin of pytest that runs the tests on an accelerator: `-p` with this module's name."""

import signal

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--accelerator`."""
    parser.addoption("--accelerator", default="auto", help="where JAX runs: auto, cpu, gpu or tpu")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ends the run where JAX does not find the accelerator: tests would pass on a CPU, too.

    SIGTERM becomes an interruption, after which pytest says what it has done.
    """
    # Not before: the environment and the hook of `conftest.py` have to stand first.
    from twostage_jax.commands.device import use_accelerator
    from twostage_jax.support.errors import InputError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        use_accelerator(session.config.getoption("accelerator"))
    except InputError as error:
        pytest.exit(f"error: {error}", returncode=2)
