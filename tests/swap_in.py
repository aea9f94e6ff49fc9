"""A plugin of pytest under which imbalanced-learn's own tests run on the samplers of this package.

`python -m pytest -p tests.swap_in --pyargs imblearn.over_sampling.tests.test_adasyn`
"""

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling

import twostage_jax
from twostage_jax.resampling import samplers

NAMES = [
    name
    for name in samplers.__all__
    for module in (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    if hasattr(module, name)
]


def pytest_configure() -> None:
    for module in (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine):
        for name in NAMES:
            if hasattr(module, name):
                setattr(module, name, getattr(twostage_jax, name))
