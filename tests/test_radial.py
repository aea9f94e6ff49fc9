"""Radial-based undersampling: the author's numbers, and gamma chosen as he chose it."""

import numpy as np
import pytest
from sampler_cases import counts_of
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from experiments.parity import make_data
from twostage_jax import RadialBasedUndersampler
from twostage_jax.resampling.registry import make_sampler
from twostage_jax.resampling.samplers import radial
from twostage_jax.support.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize(("gamma", "kept"), [(0.5, [1, 2, 4, 6, 7]), (1, [0, 1, 5, 6, 7])])
def test_the_authors_program_keeps_the_same(gamma, kept):
    frequent = [(0, 0), (0.1, 0), (0, 0.1), (0.1, 0.1), (0.5, 0.5), (1, 1), (0.9, 1), (1, 0.9)]
    x, y = np.array([*frequent, (0.52, 0.48), (2, 2)]), np.repeat([0, 1], [8, 2])
    plan = RadialBasedUndersampler(gamma=gamma, sampling_strategy={0: 5}).plan(x, y)
    assert plan.base.tolist() == [*kept, 8, 9]


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_of_samples_that_are_all_alone_the_first_are_removed(dtype):
    """Whatever rounding does to their distances to themselves."""
    x, y = make_data((60, 7), dtype, 3, 2)
    plan = RadialBasedUndersampler(gamma=1e-3).plan(x, y)
    kept = [np.flatnonzero(y == label)[-9:] for label in range(3)]
    np.testing.assert_array_equal(plan.base, np.concatenate(kept))


def overlapping(seed, features=4):
    """Three classes that no width tells apart without errors."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat([0, 1, 2], [50, 20, 9]))
    centers = 1.2 * rng.standard_normal((3, features))
    x = (centers[y] + rng.standard_normal((len(y), features))) * rng.uniform(0.1, 9, features)
    return x, y


def score_by_hand(x, y, sizes, gamma, seed):
    """The author's loop on standardized features; three seeds of folds are three repetitions."""
    scores, splits = [], np.random.RandomState(seed)
    for _ in range(3):
        folds = StratifiedKFold(2, shuffle=True, random_state=splits)
        for half, other in folds.split(x, y):
            share = {k: len(half[y[half] == k]) / n for k, n in counts_of(y).items()}
            targets = {k: round(n * share[k]) for k, n in sizes.items()}
            sampler = RadialBasedUndersampler(gamma=gamma, sampling_strategy=targets)
            model = KNeighborsClassifier(5).fit(*sampler.fit_resample(x[half], y[half]))
            found = model.predict(x[other])
            matrix = confusion_matrix(y[other], found)
            right, largest = matrix.diagonal(), np.maximum(matrix.sum(0), matrix.sum(1))
            recalls = right / matrix.sum(1)
            averages = (
                balanced_accuracy_score(y[other], found),
                recalls.prod() ** (1 / len(recalls)),
            )
            scores.append(np.mean([*averages, (right / largest).mean()]))
    return np.mean(scores)


def test_gamma_is_the_width_that_the_authors_loop_takes():
    chosen = set()
    for seed in range(3):
        x, y = overlapping(seed)
        standard = StandardScaler().fit_transform(x)
        sizes = {0: 12, 1: 10} if seed % 2 else {0: 9, 1: 9}
        strategy = sizes if seed % 2 else "auto"
        scores = [score_by_hand(standard, y, sizes, m * 2, seed) for m in (0.01, 0.1, 1, 10)]
        sampler = RadialBasedUndersampler(gamma="cv", random_state=seed, sampling_strategy=strategy)
        plan = sampler.plan(x, y)
        assert counts_of(plan.label) == {0: sizes[0], 1: sizes[1], 2: 9}
        assert sampler.gamma_ == pytest.approx(2 * radial.MULTIPLES[int(np.argmax(scores))])
        again = RadialBasedUndersampler(gamma=sampler.gamma_, sampling_strategy=strategy)
        np.testing.assert_array_equal(plan.base, again.plan(standard, y).base)
        chosen.add(sampler.gamma_)
    assert len(chosen) > 1


def test_for_one_feature_the_widths_are_the_authors():
    x, y = overlapping(0, features=1)
    sampler = RadialBasedUndersampler(gamma="cv", random_state=0)
    sampler.fit_resample(7 * x, y)
    assert min(abs(sampler.gamma_ - width) for width in (0.01, 0.1, 1, 10)) < 1e-9


def test_neither_units_nor_names_matter(monkeypatch):
    """Nor does it matter how many features are standardized at a time, or constant ones."""
    x, y = overlapping(1)
    sampler = RadialBasedUndersampler(gamma="cv", random_state=3)
    plan, gamma = sampler.plan(x, y), sampler.gamma_
    names = np.array(["adipose", "debris", "stroma"])[y]
    monkeypatch.setattr(radial, "BLOCK", 2 * len(x))
    other = sampler.plan(np.c_[np.ones(len(x)), x * [1, 100, 0.01, 3] + 5], names)
    np.testing.assert_array_equal(plan.base, other.base)
    assert sampler.gamma_ == pytest.approx(gamma)


def test_bytes_and_their_numbers_give_one_plan():
    x, y = make_data((60, 3, 3, 3), "uint8", 3, 0)
    sampler = make_sampler("rbu", seed=4, k_neighbors=5)
    assert sampler.get_params() == {
        "gamma": "cv",
        "random_state": 4,
        "sampling_strategy": "auto",
    }
    plan = sampler.plan(x, y)
    np.testing.assert_array_equal(plan.base, sampler.plan(x.astype(np.float32), y).base)


def test_equal_samples_and_halves_of_one_sample_are_possible():
    y = np.repeat([0, 1], [6, 2])
    sampler = RadialBasedUndersampler(gamma="cv", random_state=0)
    plan = sampler.plan(np.ones((8, 2)), y)
    assert sampler.gamma_ == 0.01  # of equally good ones the smallest
    assert plan.base.tolist() == [4, 5, 6, 7]
    few = RadialBasedUndersampler(gamma="cv", random_state=0, sampling_strategy={0: 1})
    assert len(few.plan(np.arange(8.0)[:, None], y)) == 3


def test_a_class_of_one_sample_is_refused():
    y, message = np.array(["a", "a", "b", "a"]), "^class b has 1 sample, RadialBasedUnder.*'cv' exp"
    sampler = RadialBasedUndersampler(gamma="cv")
    for call in (lambda: sampler.require_classes(y), lambda: sampler.plan(np.eye(4), y)):
        with pytest.raises(InputError, match=message):
            call()
    RadialBasedUndersampler().require_classes(y)


def test_more_pairs_than_memory_holds_are_refused_before_the_work():
    y = np.arange(40_000) % 3
    with pytest.raises(InputError, match=r"40000 samples found.* takes at most 32768; use gamma="):
        RadialBasedUndersampler(gamma="cv").require_classes(y)
    RadialBasedUndersampler().require_classes(y)
