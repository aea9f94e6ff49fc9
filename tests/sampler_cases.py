"""The samplers that tests run through, and data for them."""

import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn.base import clone

from twostage_jax import (
    ADASYN,
    SMOTE,
    SMOTEENN,
    SVMSMOTE,
    AllKNN,
    BorderlineSMOTE,
    CondensedNearestNeighbour,
    EditedNearestNeighbours,
    NearMiss,
    NeighbourhoodCleaningRule,
    OneSidedSelection,
    RadialBasedUndersampler,
    RandomOverSampler,
    RandomUnderSampler,
    RepeatedEditedNearestNeighbours,
    SMOTETomek,
    TomekLinks,
)
from twostage_jax.support.errors import InputError

INTERPOLATING = [
    SMOTE(random_state=0),
    BorderlineSMOTE(random_state=0),
    BorderlineSMOTE(random_state=0, kind="borderline-2"),
    ADASYN(random_state=0),
]
# Their output is not X and samples between its own, but new samples all the same.
SYNTHESIZING = [
    *INTERPOLATING,
    SVMSMOTE(random_state=0),
    SMOTEENN(random_state=0),
    SMOTETomek(random_state=0),
]
OVER = [RandomOverSampler(random_state=0), *INTERPOLATING]
UNDER = [
    RandomUnderSampler(random_state=0),
    NearMiss(),
    NearMiss(version=2),
    RadialBasedUndersampler(),
]
CLEANING = [
    TomekLinks(),
    EditedNearestNeighbours(),
    EditedNearestNeighbours(kind_sel="mode"),
    RepeatedEditedNearestNeighbours(),
    AllKNN(),
    NeighbourhoodCleaningRule(),
]
CONDENSING = [CondensedNearestNeighbour(random_state=0), OneSidedSelection(random_state=0)]
# NearMiss 3 keeps fewer than it is asked to where few are near.
SAMPLERS = [OVER[0], *SYNTHESIZING, *UNDER, NearMiss(version=3), *CLEANING, *CONDENSING]
# Without those that differ from another one by an option that neither checks nor forms depend on.
CHECKED = [s for s in SAMPLERS if str(s) not in {str(UNDER[2]), str(CLEANING[2])}]
DETERMINISTIC = [*UNDER[1:], *CLEANING]


def counts_of(y):
    return dict(zip(*np.unique(y, return_counts=True), strict=True))


def each(samplers):
    return pytest.mark.parametrize("sampler", samplers, ids=str)


@st.composite
def data(draw):
    """Two to four overlapping classes, each of at least 8 samples and of another size."""
    sizes = draw(st.lists(st.integers(8, 30), min_size=2, max_size=4, unique=True))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return rng.standard_normal((len(y), draw(st.integers(1, 6)))) + 0.3 * y[:, None], y


def plan_or_none(sampler, x, y):
    """ADASYN adds nothing if a class is far from all others, or if all shares are rounded to 0, and
    SVMSMOTE nothing if all support vectors are noise."""
    try:
        return clone(sampler).plan(x, y)
    except (RuntimeError, InputError):
        assert isinstance(sampler, ADASYN | SVMSMOTE)
        return None
