"""Samplers with imbalanced-learn's contract; each also gives its plan.

The samplers that imbalanced-learn has, too, inherit their arguments. `OverSampler`, `UnderSampler`
and `CleaningSampler` in `base.py` say what the common arguments and attributes mean.
"""

from twostage_jax.resampling.samplers.cleaning import (
    AllKNN,
    EditedNearestNeighbours,
    NeighbourhoodCleaningRule,
    RepeatedEditedNearestNeighbours,
    TomekLinks,
)
from twostage_jax.resampling.samplers.combined import SMOTEENN, SMOTETomek
from twostage_jax.resampling.samplers.condensed import CondensedNearestNeighbour, OneSidedSelection
from twostage_jax.resampling.samplers.near_miss import NearMiss
from twostage_jax.resampling.samplers.radial import RadialBasedUndersampler
from twostage_jax.resampling.samplers.random import RandomOverSampler, RandomUnderSampler
from twostage_jax.resampling.samplers.smote import ADASYN, SMOTE, SVMSMOTE, BorderlineSMOTE
from twostage_jax.resampling.samplers.strategies import at_least

__all__ = [
    "ADASYN",
    "SMOTE",
    "SMOTEENN",
    "SVMSMOTE",
    "AllKNN",
    "BorderlineSMOTE",
    "CondensedNearestNeighbour",
    "EditedNearestNeighbours",
    "NearMiss",
    "NeighbourhoodCleaningRule",
    "OneSidedSelection",
    "RadialBasedUndersampler",
    "RandomOverSampler",
    "RandomUnderSampler",
    "RepeatedEditedNearestNeighbours",
    "SMOTETomek",
    "TomekLinks",
    "at_least",
]
