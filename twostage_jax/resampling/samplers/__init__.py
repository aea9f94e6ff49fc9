"""Samplers with imbalanced-learn's contract; each also gives its plan.

The samplers that imbalanced-learn has, too, inherit their arguments. `OverSampler`, `UnderSampler`
and `CleaningSampler` in `base.py` say what the common arguments and attributes mean.
"""

from twostage_jax.resampling.samplers.radial import RadialBasedUndersampler
from twostage_jax.resampling.samplers.random import RandomOverSampler, RandomUnderSampler
from twostage_jax.resampling.samplers.selection import EditedNearestNeighbours, NearMiss, TomekLinks
from twostage_jax.resampling.samplers.smote import ADASYN, SMOTE, BorderlineSMOTE

__all__ = [
    "ADASYN",
    "SMOTE",
    "BorderlineSMOTE",
    "EditedNearestNeighbours",
    "NearMiss",
    "RadialBasedUndersampler",
    "RandomOverSampler",
    "RandomUnderSampler",
    "TomekLinks",
]
