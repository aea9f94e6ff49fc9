"""Fixtures of several test modules; the package's types and shapes are checked while it is tested.

The hook and the environment have to stand before the first import of the package and of JAX.
"""

import os
import tempfile

import hypothesis
import jaxtyping
import pytest

# Compiled programs are shared by all tests of a run, and by the processes that they start; workers
# of pytest-xdist inherit the folder of the process that started them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="twostage_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"  # by default one second

jaxtyping.install_import_hook("twostage_jax", "beartype.beartype")

# No example is tied to a time: the machine may have anything else to do. In CI the examples are
# the same in every run; elsewhere they are new ones.
hypothesis.settings.register_profile("everywhere", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "everywhere")


@pytest.fixture
def unchecked_types():
    """Turns off the hook's checks, which would refuse bad arrays before the package does."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def small_image_set():
    """Eight classes of twelve textures, 32 pixels wide."""
    from textures import textures

    return textures(images_per_class=12)
