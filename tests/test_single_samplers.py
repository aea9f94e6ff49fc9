"""What single samplers promise: draws, neighbors found before, potentials, order of ties."""

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampler_cases import SAMPLERS, counts_of, data, each
from threadpoolctl import threadpool_limits

import twostage_jax
from experiments.parity import make_data
from twostage_jax import (
    SMOTE,
    BorderlineSMOTE,
    NearMiss,
    RadialBasedUndersampler,
    RandomOverSampler,
    RandomUnderSampler,
)
from twostage_jax.resampling.samplers import radial
from twostage_jax.resampling.samplers.searches import class_neighbor_lists
from twostage_jax.support.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


# --- Random sampling and SMOTE ---


@settings(max_examples=20)
@given(
    st.lists(st.integers(1, 25), min_size=2, max_size=6),
    st.integers(0, 2),
    st.integers(0, 2**32 - 1),
)
def test_draws_are_imbalanced_learns_also_of_equally_small_classes(sizes, first, seed):
    y = np.repeat(np.arange(len(sizes)) + first, sizes).astype(np.int32)
    y = np.random.default_rng(seed).permutation(y)
    under = imblearn.under_sampling.RandomUnderSampler(random_state=seed)
    over = imblearn.over_sampling.RandomOverSampler(random_state=seed)
    for theirs, ours in ((under, RandomUnderSampler), (over, RandomOverSampler)):
        theirs.fit_resample(y[:, None], y)
        plan = ours(random_state=seed).plan(y[:, None], y)
        np.testing.assert_array_equal(plan.base, theirs.sample_indices_)


@each(SAMPLERS)
@pytest.mark.filterwarnings("ignore:.*are to be kept")
def test_samplers_that_read_no_samples_take_row_numbers_for_them(sampler):
    x, y = make_data((60, 4), "float64", 3, 1)
    same = np.array_equal(sampler.plan(x, y).base, sampler.plan(np.arange(60)[:, None], y).base)
    assert same or sampler.reads_samples
    assert sampler.reads_samples != isinstance(sampler, RandomOverSampler | RandomUnderSampler)


@settings(max_examples=20)
@given(data(), st.sampled_from(["auto", "all", "minority"]), st.integers(1, 7))
def test_smote_takes_neighbors_found_before(sample, strategy, k):
    """The same plan bit for bit; X is not looked at."""
    x, y = sample
    names = np.array(["adipose", "debris", "lympho", "stroma"])[y]
    sampler = SMOTE(sampling_strategy=strategy, k_neighbors=k, random_state=3)
    expected = sampler.plan(x, names)
    lists = class_neighbor_lists(x, y, k, np.unique(y))
    found = sampler.plan(np.zeros((len(y), 1)), names, neighbors=lists)
    for column in ("base", "neighbor", "step", "label"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column))
    assert sampler.n_features_in_ == 1


def test_neighbors_that_do_not_fit_are_refused():
    x, y = make_data((60, 4), "float64", 3, 0)
    small = min(counts_of(y), key=counts_of(y).get)
    last = np.argsort(y == small, kind="stable")  # row -1 is of the class, too
    x, y = x[last], y[last]
    lists = class_neighbor_lists(x, y, 5, np.unique(y))
    foreign, missing, outside = (lists.copy() for _ in range(3))
    foreign[y == small, 2] = np.flatnonzero(y != small)[0]
    missing[y == small, 4] = -1
    outside[y == small, 0] = 60
    for wrong, message in (
        (lists[:, :4], r"neighbors of shape \(60, 4\) and.* found, .*shape \(60, 5\) expected"),
        (lists[1:], r"neighbors of shape \(59, 5\) and.* found, .*shape \(60, 5\) expected"),
        *(
            (wrong, f"neighbors of class {small} found that are not rows of that class")
            for wrong in (foreign, missing, outside)
        ),
    ):
        with pytest.raises(InputError, match=message):
            SMOTE().plan(x, y, neighbors=wrong)
    with pytest.raises(TypeError, match="neighbors"):
        BorderlineSMOTE().plan(x, y, neighbors=lists)


def test_the_largest_class_may_be_smaller_than_the_neighborhood():
    """It is not resampled, and so needs no neighbors."""
    labels = np.repeat([0, 1], [5, 5])
    for options in ({}, {"neighbors": np.full((10, 5), -1)}):
        plan = SMOTE(k_neighbors=5).plan(np.zeros((10, 2)), labels, **options)
        np.testing.assert_array_equal(plan.base, np.arange(10))


# --- Radial-based undersampling ---


def radial_by_hand(x, y, targets, gamma):
    """Rows that are kept, class by class, all potentials anew before each removal."""
    x = x.reshape(len(x), -1).astype(np.float64)

    def basis(a, b):
        return np.exp(-((((a - b) ** 2).sum() ** 0.5 / gamma) ** 2))

    rows = []
    for label in np.unique(y):
        own = np.flatnonzero(y == label).tolist()
        others = np.flatnonzero(y != label)
        while len(own) > targets.get(label, len(own)):
            potential = [
                sum(basis(x[i], x[j]) for j in own) - sum(basis(x[i], x[j]) for j in others)
                for i in own
            ]
            del own[int(np.argmax(potential))]
        rows += own
    return rows


@pytest.mark.parametrize("pairs", [2**27, 150])
@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_radial_undersampling_equals_the_formula(dtype, pairs, monkeypatch):
    """With the table of distances kept, and without: a few rows at a time, again and again."""
    monkeypatch.setattr(radial, "PAIRS", pairs)
    shape = (28, 3, 3, 3) if dtype == "uint8" else (28, 4)
    x, y = make_data(shape, dtype, 3, 4)
    # Narrower than the distances, all potentials would be equal up to rounding.
    unit = 40 if dtype == "uint8" else 1
    widths = (("auto", 3.0 * unit), ({1: 12, 2: 3}, "scale"), ("majority", 10 * unit))
    for strategy, gamma in widths:
        sampler = RadialBasedUndersampler(sampling_strategy=strategy, gamma=gamma)
        _, label = sampler.fit_resample(x, y)
        width = np.sqrt(x[0].size * x.astype(np.float64).var()) if gamma == "scale" else gamma
        assert sampler.gamma_ == pytest.approx(width)
        expected = radial_by_hand(x, y, sampler.sampling_strategy_, sampler.gamma_)
        np.testing.assert_array_equal(sampler.sample_indices_, expected)
        np.testing.assert_array_equal(label, y[expected])


def test_radial_undersampling_removes_the_densest_first():
    """Of equal potentials the first; samples that are far from all are left."""
    x = np.array([[0.0], [0.1], [0.2], [50.0], [100.0], [200.0]])
    y = np.array([0, 0, 0, 0, 1, 1])
    sampler = RadialBasedUndersampler(sampling_strategy={0: 3}, gamma=1.0)
    sampler.fit_resample(x, y)
    np.testing.assert_array_equal(sampler.sample_indices_, [0, 2, 3, 4, 5])
    same = RadialBasedUndersampler()
    same.fit_resample(np.ones((6, 2)), y)
    assert same.gamma_ == 1.0
    np.testing.assert_array_equal(same.sample_indices_, [2, 3, 4, 5])


# --- NearMiss ---


@pytest.mark.parametrize("version", [1, 2, 3])
def test_near_miss_measures_from_the_smallest_class_that_y_names_first(version):
    """As imbalanced-learn, if several classes are equally small."""
    rng = np.random.default_rng(0)
    x, kept = rng.standard_normal((46, 3)), []
    for smallest in ((0, 1), (1, 0)):
        y = np.repeat([*smallest, 2], [8, 8, 30])
        ours, theirs = (
            module.NearMiss(version=version, n_neighbors_ver3=8)
            for module in (twostage_jax, imblearn.under_sampling)
        )
        for sampler in (ours, theirs):
            sampler.fit_resample(x, y)
        np.testing.assert_array_equal(ours.sample_indices_, theirs.sample_indices_)
        kept.append(set(ours.sample_indices_[-8:]))
    # The same rows are named first, under either label.
    assert kept[0] == kept[1]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_near_miss_keeps_the_first_of_samples_at_equal_distances(version):
    """Enough of them that a sort that is not stable would mix them."""
    away = np.random.default_rng(0).integers(1, 4, 300)
    x = np.concatenate([np.zeros(70), away])[:, None]
    sampler = NearMiss(version=version, n_neighbors_ver3=300)
    sampler.fit_resample(x, np.repeat([0, 1], [70, 300]))
    ranked = sorted(range(300), key=lambda row: -away[row] if version == 3 else away[row])
    np.testing.assert_array_equal(sampler.sample_indices_[70:], 70 + np.array(ranked[:70]))
