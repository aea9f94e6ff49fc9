"""Two-stage resampling for training image classifiers on imbalanced data.

The samplers stand at the top, as in imbalanced-learn: `from twostage_jax import SMOTE`. They are
imported when they are first asked for.
"""

from importlib import import_module

__version__ = "0.1.0"

_SAMPLERS = (
    "ADASYN",
    "SMOTE",
    "BorderlineSMOTE",
    "EditedNearestNeighbours",
    "NearMiss",
    "RadialBasedUndersampler",
    "RandomOverSampler",
    "RandomUnderSampler",
    "TomekLinks",
)
__all__ = [*_SAMPLERS]


def __getattr__(name: str):
    if name in _SAMPLERS:
        return getattr(import_module("twostage_jax.resampling.samplers"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SAMPLERS})
