"""Fixtures of several test modules; types and shapes of the package are checked while it is tested.

Hook and environment have to stand before the first import of the package and of JAX.
"""

import os
import tempfile

import jaxtyping
import pytest

# Compiled programs are shared by all tests of a run, and by the processes that they start; workers
# of pytest-xdist inherit the folder of the process that started them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _compiled = tempfile.TemporaryDirectory(prefix="twostage_jax-compiled-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _compiled.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"  # by default one second

jaxtyping.install_import_hook("twostage_jax", "beartype.beartype")


def pytest_configure(config):
    """Flax annotates `nnx.State` with `typing.Hashable`, of which beartype complains."""
    config.addinivalue_line(
        "filterwarnings", "ignore::beartype.roar.BeartypeDecorHintPep585DeprecationWarning"
    )


@pytest.fixture
def unchecked_types():
    """Turns off the hook's checks, which would refuse bad arrays before the package does."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(scope="session")
def small_image_set():
    """Eight classes of twelve synthetic textures, 32 pixels wide."""
    from twostage_jax.data.sources import synthetic

    return synthetic.generate(image_size=32, seed=0, images_per_class=12)
