"""Radial-based undersampling, reference [10] of the paper."""

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.utils._param_validation import Interval, StrOptions

from twostage_jax.resampling.neighbors import squared_distances
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import UnderSampler, keep_of_classes

# Number of pairs whose potentials are held at a time, 8 bytes each.
PAIRS = 2**27


class RadialBasedUndersampler(UnderSampler):
    """Removes samples one by one from where a class is densest and the other classes are far.

    Every sample of a class to be reduced has a mutual class potential: the sum over the samples of
    its class of exp(-(distance / gamma)^2), minus the same sum over the samples of all other
    classes. The sample with the highest potential (the first of several) is removed, the potentials
    are updated, and so on until enough are removed (M. Koziarski, *Radial-Based Undersampling for
    imbalanced data classification*, Pattern Recognition 102, 2020). That paper has two classes;
    here all other classes count as one.

    It takes 8 n_c^2 bytes for a class of n_c samples, up to 1 GiB. Beyond that, distances are
    computed again at every removal.

    Args:
        gamma: width of the radial basis, in the units of X. `scale` is the square root of the
            number of features times the variance of X, as in scikit-learn's support vector
            machines.

    Attributes:
        gamma_: the width that was used.
    """

    _parameter_constraints: ClassVar[dict] = {
        **UnderSampler._parameter_constraints,
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale"})],
    }

    def __init__(self, *, sampling_strategy="auto", gamma="scale"):
        super().__init__(sampling_strategy=sampling_strategy)
        self.gamma = gamma

    def _decide(self, x, y) -> Plan:
        self.gamma_: Any = self.gamma
        if self.gamma == "scale":
            # Equal samples have no variance; any width gives them equal potentials.
            self.gamma_ = float(np.sqrt(x[0].size * x.var(dtype=np.float64))) or 1.0
        kept = {}
        for label, size in self.sampling_strategy_.items():
            members = np.flatnonzero(y == label)
            kept[label] = members[self._survivors(x[members], x[y != label], size)]
        return keep_of_classes(y, kept)

    def _basis(
        self, a: Shaped[np.ndarray, "n *shape"], b: Shaped[np.ndarray, "m *shape"]
    ) -> Float[np.ndarray, "n m"]:
        return np.exp(-squared_distances(a, b) / self.gamma_**2)

    def _survivors(self, own, others, size):
        rows = max(1, PAIRS // (len(own) + len(others)))
        potential = np.empty(len(own))
        for start in range(0, len(own), rows):
            part = slice(start, start + rows)
            potential[part] = self._basis(own[part], own).sum(1)
            potential[part] -= self._basis(own[part], others).sum(1)
        table = self._basis(own, own) if len(own) ** 2 <= PAIRS else None
        for _ in range(len(own) - size):
            densest = potential.argmax()
            row = self._basis(own[[densest]], own)[0] if table is None else table[densest]
            potential -= row
            potential[densest] = -np.inf
        return np.flatnonzero(np.isfinite(potential))
