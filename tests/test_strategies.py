"""Values of `sampling_strategy` that hold for any y."""

import pickle

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE as THEIRS
from imblearn.pipeline import make_pipeline
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from twostage_jax import SMOTE, RandomOverSampler, at_least
from twostage_jax.support.errors import InputError


def test_no_class_is_smaller_than_the_share():
    y = np.repeat(["a", "b", "c"], [40, 30, 5])
    x = np.arange(len(y))[:, None]
    _, label = RandomOverSampler(sampling_strategy=at_least(0.55)).fit_resample(x, y)
    np.testing.assert_array_equal(np.unique(label, return_counts=True)[1], [40, 30, 22])


@pytest.mark.parametrize("largest", [10, 25, 100, 300, 1000])
def test_a_share_of_whole_percents_is_exact(largest):
    """0.55 * 100 is a little more than 55."""
    y = np.repeat([0, 1], [largest, 1])
    grown = [at_least(percent / 100)(y).get(1, 1) for percent in range(1, 101)]
    assert grown == [max(1, -(-percent * largest // 100)) for percent in range(1, 101)]


@pytest.mark.parametrize("sampler", [SMOTE, THEIRS])
def test_a_share_survives_cross_validation(sampler):
    """A dict of numbers does not: a training part has fewer samples than it asks to keep."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [60, 40, 20])
    x = rng.standard_normal((len(y), 4)) + y[:, None]
    model = make_pipeline(
        sampler(random_state=0, sampling_strategy=at_least(0.9)), LogisticRegression()
    )
    assert np.isfinite(cross_val_score(model, x, y, cv=4)).all()
    strategy = clone(model).named_steps["smote"].sampling_strategy
    assert pickle.loads(pickle.dumps(strategy))(y) == {1: 54, 2: 54}


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
def test_other_shares_are_refused(share):
    with pytest.raises(InputError, match=r"at_least\(.*\) found, a share above 0"):
        at_least(share)
