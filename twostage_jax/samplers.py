"""The samplers under their public name, as imbalanced-learn's users look for them."""

from twostage_jax.resampling.samplers import *  # noqa: F403
from twostage_jax.resampling.samplers import keyed as keyed
