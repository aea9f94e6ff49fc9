"""Two-stage resampling for training image classifiers on imbalanced data.

The estimator and the samplers stand at the top: `from twostage_jax import SMOTE`. They are imported
on first use, so that programs that only read records start without JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twostage_jax.classifier import TwoStageClassifier  # noqa: F401
    from twostage_jax.resampling.samplers import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str):
    if name == "TwoStageClassifier":
        return import_module("twostage_jax.classifier").TwoStageClassifier
    if name in ("__all__", "at_least") or name[0].isupper():
        samplers = import_module("twostage_jax.resampling.samplers")
        if name == "__all__":
            return [*samplers.__all__, "TwoStageClassifier"]
        if name in samplers.__all__:
            return getattr(samplers, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
