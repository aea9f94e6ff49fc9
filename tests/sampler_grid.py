"""The samplers of both libraries, compared: what `experiments.parity` and the tests share."""

import math
import warnings
from collections import Counter
from typing import Any, NamedTuple

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
from jaxtyping import Int, Shaped
from sklearn.metrics.pairwise import euclidean_distances

import twostage_jax
from twostage_jax.support.streams import derive

OVER, UNDER, CLEAN = "over-sampling", "under-sampling", "clean-sampling"


class Variant(NamedTuple):
    """A sampler, its kind, and its options besides strategy and seed."""

    name: str
    kind: str
    options: dict[str, Any] = {}  # noqa: RUF012
    seeded: bool = False
    synthesizes: bool = False

    @property
    def title(self) -> str:
        """As printed."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])

    @property
    def reference(self) -> Any:
        """imbalanced-learn's module."""
        modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
        return next(module for module in modules if hasattr(module, self.name))

    def make(self, library: Any, strategy: Any, seed: int):
        """The sampler, of twostage_jax or of imbalanced-learn's module."""
        options = self.options | ({"random_state": seed} if self.seeded else {})
        return getattr(library, self.name)(sampling_strategy=strategy, **options)


VARIANTS = (
    Variant("RandomOverSampler", OVER, {}, True),
    Variant("SMOTE", OVER, {}, True, True),
    Variant("SMOTE", OVER, {"k_neighbors": 2}, True, True),
    Variant("BorderlineSMOTE", OVER, {}, True, True),
    Variant("BorderlineSMOTE", OVER, {"kind": "borderline-2"}, True, True),
    Variant("ADASYN", OVER, {}, True, True),
    Variant("SVMSMOTE", OVER, {}, True, True),
    Variant("SMOTEENN", OVER, {}, True, True),
    Variant("SMOTETomek", OVER, {}, True, True),
    Variant("RandomUnderSampler", UNDER, {}, True),
    Variant("RandomUnderSampler", UNDER, {"replacement": True}, True),
    Variant("NearMiss", UNDER),
    Variant("NearMiss", UNDER, {"version": 2}),
    Variant("NearMiss", UNDER, {"version": 3}),
    Variant("TomekLinks", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN, {"kind_sel": "mode"}),
    Variant("RepeatedEditedNearestNeighbours", CLEAN),
    Variant("RepeatedEditedNearestNeighbours", CLEAN, {"kind_sel": "mode"}),
    Variant("AllKNN", CLEAN),
    Variant("AllKNN", CLEAN, {"kind_sel": "mode", "allow_minority": True}),
    Variant("NeighbourhoodCleaningRule", CLEAN),
    Variant("CondensedNearestNeighbour", CLEAN, {}, True),
    Variant("CondensedNearestNeighbour", CLEAN, {"n_neighbors": 3, "n_seeds_S": 2}, True),
    Variant("OneSidedSelection", CLEAN, {}, True),
    Variant("OneSidedSelection", CLEAN, {"n_neighbors": 3, "n_seeds_S": 2}, True),
)
_NAMED, _MADE = ("auto", "not minority", "not majority", "all"), ("dict", "callable", "float")
STRATEGIES = {
    OVER: (*_NAMED, "minority", *_MADE),
    UNDER: (*_NAMED, "majority", *_MADE),
    CLEAN: (*_NAMED, "majority", "list"),
}


def make_strategy(name: str, kind: str, y: Int[np.ndarray, " n"]) -> Any:
    """A `sampling_strategy` for the classes: made from their counts, or the name itself."""
    ranked = Counter(y.tolist()).most_common()
    (largest, most), (second, fewer), (smallest, least) = ranked[0], ranked[-2], ranked[-1]
    counts = {largest: most // 2, second: 2 * fewer // 3}, {largest: least}
    if kind == OVER:
        counts = {smallest: 2 * least, second: 2 * fewer}, {smallest: most}
    made = {"dict": counts[0], "callable": lambda y: counts[1], "float": 0.8}
    return (made | {"list": [largest, smallest]}).get(name, name)


class Expectation(NamedTuple):
    """What is expected of a sampler on a dtype: equal bits or not, and the largest difference."""

    exact: bool
    largest: float


def expectation(variant: Variant, dtype: str) -> Expectation:
    """What is expected; `parity.NOTES` has the reasons."""
    floating = dtype.startswith("float")
    if variant.options.get("kind") == "borderline-2":
        # The two may round one half to either side.
        return Expectation(False, 1e-6 if floating else 0.5 + 1e-9)
    return Expectation(True, 0.5 if variant.synthesizes and not floating else 0)


class Case(NamedTuple):
    """One comparison. The seed is of the data and of the samplers."""

    variant: Variant
    dtype: str
    shape: tuple[int, ...]
    strategy: str
    seed: int


def make_data(
    shape: tuple[int, ...], dtype: str, classes: int, seed: int
) -> tuple[Shaped[np.ndarray, "n *shape"], Int[np.ndarray, " n"]]:
    """Overlapping Gaussian classes that vary in few directions, as images do; without ties.

    Ties are broken by the smaller row here, and in imbalanced-learn by the order of its sort. Three
    classes have 25, 60 and 15 % of the rows, two have 75 and 25 %.
    """
    random = np.random.default_rng(derive(seed, "parity", *shape, classes))
    rows, columns = shape[0], math.prod(shape[1:])
    counts = [int(share * rows) for share in ((0.25, 0.6) if classes == 3 else (0.75,))]
    y = random.permutation(np.repeat(np.arange(classes), [*counts, rows - sum(counts)]))
    latent = min(columns, 4)
    centers = random.standard_normal((classes, latent))
    directions = random.standard_normal((latent, columns))

    def draw(labels: Int[np.ndarray, " m"]) -> Shaped[np.ndarray, "m columns"]:
        z = centers[labels] + random.standard_normal((len(labels), latent))
        x = z @ directions + 0.3 * random.standard_normal((len(labels), columns))
        if dtype == "uint8":
            x = np.clip(np.rint(128 + 16 * x), 0, 255)
        elif dtype == "int64":
            x = np.rint(2**20 * x)
        return x.astype(dtype)

    x = draw(y)
    while True:
        ranked = euclidean_distances(x.astype(np.float64), squared=True)
        order = ranked.argsort(axis=1)[:, 1:]
        ranked.sort(axis=1)
        tied = np.unique(order[ranked[:, 1:] == ranked[:, :-1]])
        if not len(tied):
            return x.reshape(shape), y
        x[tied] = draw(y[tied])


class Result(NamedTuple):
    """What a sampler gave: X, y and `sample_indices_`, or an exception."""

    x: Any
    y: Any
    rows: Int[np.ndarray, " m"] | None
    error: Exception | None


def attempt(sampler: Any, x: Any, y: Any) -> Result:
    """Resamples; an exception is a result, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NearMiss 3 warns of few near samples
        try:
            resampled = sampler.fit_resample(x, y)
        except Exception as error:
            return Result(None, None, None, error)
    return Result(*resampled, getattr(sampler, "sample_indices_", None), None)


def same_exception(theirs: Exception | None, ours: Exception | None) -> bool:
    """Whether a program that catches imbalanced-learn's exception catches ours; or neither."""
    return isinstance(ours, type(theirs))


def _same_rows(theirs: Result, ours: Result, x: Shaped[np.ndarray, "n d"]) -> bool:
    """Whether `sample_indices_` are equal; or imbalanced-learn's are not those of its own X.

    `RepeatedEditedNearestNeighbours` permutes them twice where its first round removes nothing.
    """
    return np.array_equal(ours.rows, theirs.rows) or not np.array_equal(x[theirs.rows], theirs.x)


class _RoundingSMOTE(imblearn.over_sampling.SMOTE):
    """imbalanced-learn's SMOTE, with a result that is rounded to integers."""

    def _fit_resample(self, X, y):
        resampled, labels = super()._fit_resample(X, y)
        return np.rint(resampled), labels


def _reference(variant: Variant, strategy: Any, seed: int, floating: bool) -> Any:
    """imbalanced-learn's sampler; what cleans synthetic integers finds them rounded, as ours."""
    sampler = variant.make(variant.reference, strategy, seed)
    if not floating and "smote" in sampler.get_params():
        sampler.set_params(smote=_RoundingSMOTE(sampling_strategy=strategy, random_state=seed))
    return sampler


def compare(case: Case, x: Shaped[np.ndarray, "n *shape"], y: Int[np.ndarray, " n"]) -> dict:
    """Runs a case with both libraries on its data, which are `make_data`'s.

    Returns a row: the case, whether imbalanced-learn `raised`, and what `parity.NOTES` explains.
    """
    variant, flat, floating = case.variant, x.reshape(len(x), -1), x.dtype.kind == "f"
    strategy = make_strategy(case.strategy, variant.kind, y)
    reference = _reference(variant, strategy, case.seed, floating)
    sampler = variant.make(twostage_jax, strategy, case.seed)
    theirs = attempt(reference, flat if floating else flat.astype(np.float64), y)
    ours = attempt(sampler, x, y)
    row = case._asdict() | {"sampler": variant.title, "raised": theirs.error is not None}
    if theirs.error is not None or ours.error is not None:
        same = same_exception(theirs.error, ours.error)
        return row | {"same_rows": same, "exact": same, "difference": 0.0 if same else np.inf}
    if not (
        ours.x.shape == (len(theirs.x), *x.shape[1:])
        and ours.x.dtype == x.dtype
        and np.array_equal(ours.y, theirs.y)
        and (theirs.rows is None or _same_rows(theirs, ours, flat))
    ):
        return row | {"same_rows": False, "exact": False, "difference": np.inf}
    found, expected = ours.x.reshape(theirs.x.shape), theirs.x
    if not floating:  # SVMSMOTE leaves the range of the dtype
        limits = np.iinfo(dtype := x.dtype)
        expected = np.clip(expected, limits.min, limits.max) if dtype == np.uint8 else expected
    exact = np.array_equal(found, expected if floating else np.rint(expected))
    difference = np.abs(found - expected)
    if floating and not exact:  # relative to the larger magnitude of the two ends; 0 / 0 is 0
        plan = sampler.plan(x, y)
        scale = np.maximum(np.abs(flat[plan.base]), np.abs(flat[plan.neighbor]))
        zeros = np.where(difference > 0, np.inf, 0.0)
        difference = np.divide(difference, scale, out=zeros, where=scale > 0)
    return row | {"same_rows": True, "exact": exact, "difference": float(difference.max(initial=0))}
