"""Fixtures of several test modules; types and shapes of the package are checked while it is tested.

The hook has to stand before the first import of the package.
"""

import jaxtyping
import pytest

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
    from twostage_jax.sources import synthetic

    return synthetic.generate(image_size=32, seed=0, images_per_class=12)
