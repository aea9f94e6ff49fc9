"""Radial-based undersampling, reference [10] of the paper."""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int, Shaped
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.utils._param_validation import Interval, StrOptions

from twostage_jax.evaluation.metrics import confusion_matrix, scores
from twostage_jax.resampling.neighbors import squared_distances
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import Targets, UnderSampler, keep_of_classes
from twostage_jax.support.errors import InputError

# Number of pairs whose potentials are held at a time, 8 bytes each.
PAIRS = 2**27
# The most pairs of all samples that `gamma="cv"` holds: 8 GiB.
MOST_PAIRS = 2**30

MULTIPLES = (0.01, 0.1, 1.0, 10.0)
"""Widths that `gamma="cv"` tries, in multiples of `scale`."""
REPETITIONS = 3
"""Of the two-fold cross-validation, as in the author's experiments."""
NEIGHBORS = 5
"""Of the classifier that judges a width, likewise."""

# Columns that are standardized at a time, times rows; 8 bytes each.
BLOCK = 2**24

# Squared distances of all pairs of two lists of rows of X.
Distances = Callable[[Int[np.ndarray, " n"], Int[np.ndarray, " m"]], Float64[np.ndarray, "n m"]]
Labels = Shaped[np.ndarray, " n"]
Rows = Int[np.ndarray, " _"]


class RadialBasedUndersampler(UnderSampler):
    """Removes samples one by one from where a class is densest and the other classes are far.

    Every sample of a class to be reduced has a mutual class potential: the sum over the samples of
    its class of exp(-(distance / gamma)^2), minus the same sum over the samples of all other
    classes. The sample with the highest potential (the first of several) is removed, the potentials
    are updated, and so on until enough are removed (M. Koziarski, *Radial-Based Undersampling for
    imbalanced data classification*, Pattern Recognition 102, 2020). That paper has two classes;
    here all other classes count as one.

    It keeps 8 n_c^2 bytes for a class of n_c samples, up to 1 GiB, and takes twice as many while it
    computes these. Beyond 1 GiB, distances are computed again at every removal. A gamma of `cv`
    keeps 8 n^2 bytes for all n samples besides.

    `cv` chooses gamma as the author's experiments do: features are brought to mean 0 and variance
    1; of four widths the one is taken whose samples, kept of one half of X, let a classifier
    predict the other half best, in three repetitions of stratified 2-fold cross-validation; of
    equally good ones the smallest. Details are ours where his do not fit:

    - The widths are 0.01, 0.1, 1 and 10 times `scale` of the standardized features. He takes the
      plain numbers, which is the same for one feature. In 1,024 dimensions samples are about 45
      apart, and all potentials would be equal at three of his four widths.
    - The classifier is that of the five nearest neighbors, one of his four (he also takes naive
      Bayes, a support vector machine and a tree, each for itself). All widths see the same splits.
    - The score is the mean of the mean recall, the class balance accuracy and the geometric mean of
      recalls. He takes F-measure, geometric mean and AUC, of two classes.
    - A half keeps the same share of each class as X does. He also tries to remove only half or
      three quarters of the surplus; here `sampling_strategy` decides.

    Args:
        gamma: width of the radial basis, in the units of X. `scale` is the square root of the
            number of features times the variance of X, as in scikit-learn's support vector
            machines. `cv`: see above.
        random_state: of the splits of `cv`.

    Attributes:
        gamma_: the width that was used; for `cv` in the units of the standardized features.
    """

    _parameter_constraints: ClassVar[dict] = {
        **UnderSampler._parameter_constraints,
        "gamma": [Interval(Real, 0, None, closed="neither"), StrOptions({"scale", "cv"})],
        "random_state": ["random_state"],
    }

    def __init__(self, *, sampling_strategy="auto", gamma="scale", random_state=None):
        super().__init__(sampling_strategy=sampling_strategy)
        self.gamma = gamma
        self.random_state = random_state

    def _require(self, y: Labels, targets: Targets) -> None:
        classes, counts = np.unique(y, return_counts=True)
        if self.gamma == "cv" and counts.min() < 2:
            raise InputError(
                f"class {classes[counts.argmin()]} has 1 sample, RadialBasedUndersampler with "
                "gamma='cv' expects at least 2 of each class; add samples or use gamma='scale'"
            )
        if self.gamma == "cv" and len(y) ** 2 > MOST_PAIRS:
            raise InputError(
                f"{len(y)} samples found, RadialBasedUndersampler with gamma='cv' holds the "
                f"distances of all pairs and takes at most {int(MOST_PAIRS**0.5)}; use "
                "gamma='scale'"
            )

    def _decide(self, x, y) -> Plan:
        self.gamma_: Any = self.gamma
        if self.gamma == "cv":
            table, width = standardized_distances(x)

            def distances(rows, columns):
                return table[np.ix_(rows, columns)]

            shares = {
                label: size / np.count_nonzero(y == label)
                for label, size in self.sampling_strategy_.items()
            }
            self.gamma_ = choose_width(distances, y, shares, width, self.random_state)
        else:

            def distances(rows, columns):
                own = x[rows]
                found = squared_distances(own, own if columns is rows else x[columns])
                # The distance of a sample to itself is rounded, which would decide between equals.
                found[np.equal.outer(rows, columns)] = 0
                return found

            if self.gamma == "scale":
                self.gamma_ = _width(x[0].size * x.var(dtype=np.float64))
        rows = np.arange(len(y))
        kept = _kept(distances, rows, y, self.sampling_strategy_, float(self.gamma_))
        return keep_of_classes(y, kept)


def standardized_distances(
    x: Shaped[np.ndarray, "n *shape"],
) -> tuple[Float64[np.ndarray, "n n"], float]:
    """Squared distances of all pairs once each feature has mean 0 and variance 1; and `scale`."""
    table = x.reshape(len(x), -1)
    products = np.zeros((len(x), len(x)))
    columns = max(1, BLOCK // len(x))
    for start in range(0, table.shape[1], columns):
        part = table[:, start : start + columns].astype(np.float64)
        part = StandardScaler(copy=False).fit_transform(part)
        products += part @ part.T
    norms = products.diagonal().copy()
    products *= -2
    products += norms
    products += norms[:, None]
    return np.maximum(products, 0, out=products), _width(norms.mean())


def choose_width(
    distances: Distances,
    y: Labels,
    shares: Mapping[Any, float],
    width: float,
    random_state: Any,
) -> float:
    """The best of `MULTIPLES` of a width, by repeated two-fold cross-validation.

    Args:
        distances: squared distances of rows.
        y: class of each row, at least two of each.
        shares: of the samples to keep, by class; all of the others.
        width: `scale`.
        random_state: of the splits.
    """
    names, labels = np.unique(y, return_inverse=True)
    splitter = RepeatedStratifiedKFold(n_splits=2, n_repeats=REPETITIONS, random_state=random_state)
    halves = list(splitter.split(labels, labels))

    def score(gamma: float, half: Rows, other: Rows) -> float:
        sizes = {
            label: max(1, round(share * np.count_nonzero(y[half] == label)))
            for label, share in shares.items()
        }
        reduced = _kept(distances, half, y, sizes, gamma)
        kept = np.concatenate([reduced.get(name, half[y[half] == name]) for name in names])
        classifier = KNeighborsClassifier(min(NEIGHBORS, len(kept)), metric="precomputed")
        classifier.fit(distances(kept, kept), labels[kept])
        found = classifier.predict(distances(other, kept))
        own = scores(confusion_matrix(labels[other], found, len(names)))
        return (own.AvAcc + own.CBA + own.MAvG) / 3

    widths = [multiple * width for multiple in MULTIPLES]
    return max(widths, key=lambda gamma: sum(score(gamma, *split) for split in halves))


def _width(variance: float) -> float:
    # Equal samples have no variance; any width gives them equal potentials.
    return float(np.sqrt(variance)) or 1.0


def _kept(
    distances: Distances,
    rows: Rows,
    y: Labels,
    sizes: Mapping[Any, int | np.integer],
    gamma: float,
) -> dict:
    """Which of some rows remain, by class, for the classes that are to have a size."""

    def basis(a: Int[np.ndarray, " n"], b: Int[np.ndarray, " m"]) -> Float64[np.ndarray, "n m"]:
        exponent = distances(a, b)
        exponent /= -(gamma**2)
        return np.exp(exponent, out=exponent)

    labels = y[rows]
    return {
        label: _survivors(basis, rows[labels == label], rows[labels != label], size)
        for label, size in sizes.items()
    }


def _survivors(basis: Distances, own: Rows, others: Rows, size: int | np.integer) -> Rows:
    block = max(1, PAIRS // (len(own) + len(others)))
    potential = np.empty(len(own))
    for start in range(0, len(own), block):
        part = slice(start, start + block)
        potential[part] = basis(own[part], own).sum(1)
        potential[part] -= basis(own[part], others).sum(1)
    table = basis(own, own) if len(own) ** 2 <= PAIRS else None
    for _ in range(len(own) - size):
        densest = potential.argmax()
        potential -= basis(own[[densest]], own)[0] if table is None else table[densest]
        potential[densest] = -np.inf
    return own[np.isfinite(potential)]
