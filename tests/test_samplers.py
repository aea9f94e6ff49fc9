"""The samplers as objects: contract, properties, images, bad input."""

import inspect

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.pipeline import Pipeline
from imblearn.utils import estimator_checks as sampler_checks
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import twostage_jax
from experiments.parity import make_data
from twostage_jax import (
    ADASYN,
    SMOTE,
    BorderlineSMOTE,
    EditedNearestNeighbours,
    NearMiss,
    RadialBasedUndersampler,
    RandomOverSampler,
    RandomUnderSampler,
    TomekLinks,
)
from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.samplers import radial
from twostage_jax.resampling.samplers.smote import class_neighbor_lists
from twostage_jax.support.errors import InputError

INTERPOLATING = [
    SMOTE(random_state=0),
    BorderlineSMOTE(random_state=0),
    BorderlineSMOTE(random_state=0, kind="borderline-2"),
    ADASYN(random_state=0),
]
OVER = [RandomOverSampler(random_state=0), *INTERPOLATING]
UNDER = [
    RandomUnderSampler(random_state=0),
    NearMiss(),
    NearMiss(version=2),
    RadialBasedUndersampler(),
]
CLEANING = [TomekLinks(), EditedNearestNeighbours(), EditedNearestNeighbours(kind_sel="mode")]
# NearMiss 3 keeps fewer than it is asked to where few are near.
SAMPLERS = [*OVER, *UNDER, NearMiss(version=3), *CLEANING]
# Those whose way in and out is no other's.
CHECKED = [s for s in SAMPLERS if str(s) not in {str(UNDER[2]), str(CLEANING[2])}]
DETERMINISTIC = [*UNDER[1:], *CLEANING]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


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
    """ADASYN adds nothing if a class is far from all others, or if all shares are rounded to 0."""
    try:
        return clone(sampler).plan(x, y)
    except (RuntimeError, InputError):
        assert isinstance(sampler, ADASYN)
        return None


# --- scikit-learn's and imbalanced-learn's contract ---


def declared(sampler):
    """Checks that fail and why."""
    failing = {}
    # Those that only pick rows take data frames of sparse columns.
    if not isinstance(sampler, RandomOverSampler | RandomUnderSampler):
        failing["check_samplers_pandas_sparse"] = "sparse X is refused"
    if isinstance(sampler, NearMiss) and sampler.version == 3:
        failing["check_samplers_fit_resample"] = "few are near, in imbalanced-learn too"
    return failing


@pytest.mark.filterwarnings("ignore:.*are to be kept")
@pytest.mark.usefixtures("unchecked_types")
@parametrize_with_checks(CHECKED)
def test_scikit_learns_checks(estimator, check):
    assert check(estimator) is None


@pytest.mark.filterwarnings("ignore:.*are to be kept")
@pytest.mark.usefixtures("unchecked_types")
@sampler_checks.parametrize_with_checks(CHECKED, expected_failed_checks=declared)
def test_imbalanced_learns_checks(estimator, check):
    assert check(estimator) is None


@pytest.mark.parametrize("name", twostage_jax.__all__)
def test_arguments_are_imbalanced_learns(name):
    """By keyword alone, with the same defaults; what is not offered is documented."""
    ours = inspect.signature(getattr(twostage_jax, name)).parameters
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours.values())
    modules = (imblearn.over_sampling, imblearn.under_sampling)
    theirs = next((getattr(m, name) for m in modules if hasattr(m, name)), None)
    if theirs is None:
        assert name == "RadialBasedUndersampler"
        return
    missing = inspect.signature(theirs).parameters.keys() - ours.keys()
    assert missing == ({"shrinkage"} if name == "RandomOverSampler" else set())
    assert all(p.default == ours[p.name].default for p in ours.values())
    assert {p: ours[p].default for p in ours} == {
        p: q.default for p, q in inspect.signature(theirs).parameters.items() if p not in missing
    }


def test_the_package_has_no_other_names():
    assert set(twostage_jax.__all__) <= set(dir(twostage_jax))
    with pytest.raises(AttributeError, match="has no attribute 'SMOTEN'"):
        twostage_jax.SMOTEN  # noqa: B018


@each(SAMPLERS)
def test_tags_say_what_is_taken(sampler):
    tags = get_tags(sampler)
    picks = isinstance(sampler, RandomOverSampler | RandomUnderSampler)
    assert not tags.input_tags.sparse
    assert tags.input_tags.three_d_array
    assert tags.input_tags.allow_nan == tags.input_tags.string == picks
    assert tags.sampler_tags.sample_indices == (sampler not in INTERPOLATING)


@each(SAMPLERS)
def test_parameters_are_set_and_cloned(sampler):
    copy = clone(sampler)
    assert copy.get_params() == sampler.get_params()
    assert copy.set_params(sampling_strategy="all").get_params()["sampling_strategy"] == "all"
    assert sampler.get_params()["sampling_strategy"] == "auto"
    x, y = make_data((60, 3), "float64", 3, 0)
    copy.fit(x, y)
    assert set(copy.sampling_strategy_) == {0, 1, 2}
    assert copy.n_features_in_ == 3
    np.testing.assert_array_equal(copy.get_feature_names_out(), ["x0", "x1", "x2"])
    assert not hasattr(clone(copy), "n_features_in_")


@pytest.mark.parametrize("name", ["SMOTE", "RandomUnderSampler"])
def test_a_pipeline_scores_as_with_imbalanced_learns(name):
    x, y = make_data((150, 4), "float64", 2, 0)
    module = imblearn.over_sampling if name == "SMOTE" else imblearn.under_sampling
    scores = []
    for library in (twostage_jax, module):
        steps = [
            ("sampler", getattr(library, name)(random_state=3)),
            ("model", LogisticRegression()),
        ]
        pipeline = Pipeline(steps).set_params(sampler__sampling_strategy=0.7)
        scores.append(cross_val_score(pipeline, x, y, scoring="balanced_accuracy", cv=3))
    np.testing.assert_array_equal(*scores)
    assert np.std(scores[0]) > 0


# --- Plans ---


@settings(max_examples=20)
@given(data(), st.sampled_from(SAMPLERS))
@pytest.mark.filterwarnings("ignore:.*are to be kept")
def test_a_plan_is_what_fit_resample_makes(sample, sampler):
    x, y = sample
    plan = plan_or_none(sampler, x, y)
    if plan is None:
        with pytest.raises((RuntimeError, InputError)):
            sampler.fit_resample(x, y)
        return
    found, label = sampler.fit_resample(x, y)
    np.testing.assert_array_equal(plan.materialize(x), found)
    np.testing.assert_array_equal(plan.label, label)
    np.testing.assert_array_equal(plan.label, y[plan.base])
    copies = plan.neighbor == plan.base
    assert np.all(plan.step[copies] == 0)
    assert copies.all() or sampler in INTERPOLATING
    if sampler in INTERPOLATING:
        assert not hasattr(sampler, "sample_indices_")
    else:
        np.testing.assert_array_equal(sampler.sample_indices_, plan.base)
        np.testing.assert_array_equal(x[sampler.sample_indices_], found)


@settings(max_examples=20)
@given(data(), st.sampled_from(OVER))
def test_oversampling_keeps_all_first_and_fills_up(sample, sampler):
    x, y = sample
    plan = plan_or_none(sampler, x, y)
    if plan is None:
        assert isinstance(sampler, ADASYN)
        return
    out = plan.materialize(x)
    np.testing.assert_array_equal(out[: len(x)], x)
    np.testing.assert_array_equal(plan.label[: len(y)], y)
    most = max(counts_of(y).values())
    made = counts_of(plan.label)
    if isinstance(sampler, BorderlineSMOTE):  # classes without samples in danger stay as they are
        assert all(made[label] in (n, most) for label, n in counts_of(y).items())
    elif isinstance(sampler, ADASYN):  # every sample's share is rounded
        assert all(abs(made[label] - most) <= n / 2 for label, n in counts_of(y).items())
    else:
        assert set(made.values()) == {most}


@settings(max_examples=20)
@given(data(), st.sampled_from(INTERPOLATING), st.sampled_from([np.float32, np.float64]))
def test_synthetic_samples_lie_between_neighbors(sample, sampler, dtype):
    x, y = sample[0].astype(dtype), sample[1]
    plan = plan_or_none(sampler, x, y)
    if plan is None:
        assert isinstance(sampler, ADASYN)
        return
    new = slice(len(y), None)
    base, neighbor = plan.base[new], plan.neighbor[new]
    assert np.all(base != neighbor)
    assert np.all((plan.step[new] >= 0) & (plan.step[new] < 1))
    foreign = y[neighbor] != y[base]
    if getattr(sampler, "kind", None) == "borderline-2":
        lists = nearest(x, 5).rows
        assert np.all(plan.step[new][foreign] < 0.5)
    else:
        lists = class_neighbor_lists(x, y, 5, np.unique(y))
        assert not foreign.any()
    assert np.all((lists[base] == neighbor[:, None]).any(axis=1))
    ends, found = (x[plan.base], x[plan.neighbor]), plan.materialize(x)
    slack = 4 * np.finfo(dtype).eps * np.abs(x).max()
    assert np.all((np.minimum(*ends) - slack <= found) & (found <= np.maximum(*ends) + slack))


@settings(max_examples=15)
@given(data(), st.sampled_from(UNDER))
def test_undersampling_keeps_as_many_as_the_smallest_has(sample, sampler):
    x, y = sample
    plan = sampler.plan(x, y)
    assert set(counts_of(plan.label).values()) == {min(counts_of(y).values())}
    assert len(np.unique(plan.base)) == len(plan)
    assert np.all(np.diff(plan.label) >= 0)


@settings(max_examples=12)
@given(data(), st.sampled_from(CLEANING))
def test_cleaning_spares_the_classes_that_are_not_named(sample, sampler):
    x, y = sample
    named = int(y[0])
    plan = clone(sampler).set_params(sampling_strategy=[named]).plan(x, y)
    before, after = counts_of(y), counts_of(plan.label)
    assert all(after[label] == n for label, n in before.items() if label != named)
    assert after.get(named, 0) <= before[named]
    assert len(np.unique(plan.base)) == len(plan)


@each(SAMPLERS)
@pytest.mark.filterwarnings("ignore:.*are to be kept")
def test_a_seed_gives_one_plan(sampler):
    x, y = make_data((60, 4), "float64", 3, 1)
    a, again = sampler.plan(x, y), clone(sampler).plan(x.copy(), y.copy())
    for column in ("base", "neighbor", "step", "label"):
        np.testing.assert_array_equal(getattr(a, column), getattr(again, column))
    seeded = "random_state" in sampler.get_params()
    b = clone(sampler).set_params(random_state=9).plan(x, y) if seeded else a
    same = np.array_equal(a.base, b.base) and np.array_equal(a.step, b.step)
    assert same != seeded


@settings(max_examples=20)
@given(data(), st.sampled_from(SAMPLERS))
@pytest.mark.filterwarnings("ignore:.*are to be kept")
def test_names_of_classes_do_not_matter(sample, sampler):
    """Only their order does."""
    x, y = sample
    names = np.array(["adipose", "debris", "lympho", "stroma"])
    a, b = plan_or_none(sampler, x, y), plan_or_none(sampler, x, names[y])
    assert (a is None) == (b is None)
    if a is not None:
        np.testing.assert_array_equal(a.base, b.base)
        np.testing.assert_array_equal(a.neighbor, b.neighbor)
        np.testing.assert_array_equal(a.step, b.step)
        np.testing.assert_array_equal(names[a.label], b.label)


@settings(max_examples=20)
@given(data(), st.sampled_from(DETERMINISTIC), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_where_nothing_is_drawn(sample, sampler, random):
    x, y = sample
    order = np.array(random.sample(range(len(y)), len(y)))
    plan, turned = sampler.plan(x, y), sampler.plan(x[order], y[order])
    np.testing.assert_array_equal(np.sort(order[turned.base]), np.sort(plan.base))


@settings(max_examples=12)
@given(data(), st.randoms(use_true_random=False))
def test_the_order_of_classes_does_not_matter_where_nothing_is_drawn(sample, random):
    """Classes are cleaned and reduced independently of their order."""
    x, y = sample
    new_label = np.array(random.sample(range(4), 4))
    for sampler in (NearMiss(), *CLEANING[:2]):  # of equally frequent classes, mode takes the first
        plan, renamed = sampler.plan(x, y), sampler.plan(x, new_label[y])
        np.testing.assert_array_equal(np.sort(renamed.base), np.sort(plan.base))


@settings(max_examples=15)
@given(data(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter_for_who_is_sampled_from(sample, random):
    """How often ADASYN starts from a sample, and which samples are in danger."""
    x, y = sample
    order = np.array(random.sample(range(len(y)), len(y)))
    a, b = plan_or_none(ADASYN(), x, y), plan_or_none(ADASYN(), x[order], y[order])
    # A share of one half, summed in another order, may be rounded to the other side. If it decides
    # whether any share is left, ADASYN raises for one of the orders only.
    if a is not None and b is not None:
        often = (np.bincount(rows, minlength=len(y)) for rows in (a.base, order[b.base]))
        np.testing.assert_allclose(*often, rtol=0, atol=1)
    first, second = BorderlineSMOTE(), BorderlineSMOTE()
    first.plan(x, y)
    second.plan(x[order], y[order])
    assert first.in_danger_indices.keys() == second.in_danger_indices.keys()
    for label, rows in first.in_danger_indices.items():
        np.testing.assert_array_equal(np.sort(order[second.in_danger_indices[label]]), rows)


# --- Images ---


@each(SAMPLERS)
@pytest.mark.filterwarnings("ignore:.*are to be kept")
def test_images_come_back_as_images(sampler):
    """As their rows of pixels do; uint8 stays uint8."""
    images, y = make_data((70, 6, 4, 3), "uint8", 3, 2)
    before = images.copy()
    found, label = sampler.fit_resample(images, y)
    rows, its_label = clone(sampler).fit_resample(images.reshape(70, -1), y)
    assert found.dtype == np.uint8
    assert found.shape == (len(label), 6, 4, 3)
    np.testing.assert_array_equal(found.reshape(rows.shape), rows)
    np.testing.assert_array_equal(label, its_label)
    np.testing.assert_array_equal(images, before)
    assert sampler.n_features_in_ == 72


def test_bytes_are_rounded_and_do_not_wrap_around():
    """imbalanced-learn's do: half of the differences are negative, modulo 256."""
    images, y = make_data((70, 6, 4, 3), "uint8", 3, 2)
    sampler = SMOTE(random_state=0)
    found, plan = sampler.fit_resample(images, y)[0], sampler.plan(images, y)
    step = plan.step.reshape(-1, 1, 1, 1)
    a, b = images[plan.base].astype(float), images[plan.neighbor].astype(float)
    np.testing.assert_array_equal(found, np.rint(a + step * (b - a)))
    assert np.all((np.minimum(a, b) <= found) & (found <= np.maximum(a, b)))
    flat = images.reshape(70, -1)
    wrapped, _ = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(flat, y)
    wrong = np.abs(wrapped - found.reshape(wrapped.shape).astype(float)) > 1
    assert not wrong[:70].any()
    assert wrong[70:].mean() > 0.3


def test_bytes_and_their_numbers_give_one_plan():
    """The integer search and the floating-point search are both exact."""
    images, y = make_data((70, 6, 4, 3), "uint8", 3, 3)
    for sampler in (*INTERPOLATING, *DETERMINISTIC):
        a, b = sampler.plan(images, y), clone(sampler).plan(images.astype(np.float64), y)
        np.testing.assert_array_equal(a.base, b.base)
        np.testing.assert_array_equal(a.neighbor, b.neighbor)


# --- For the study ---


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
    lists = class_neighbor_lists(x, y, 5, np.unique(y))
    small = min(counts_of(y), key=counts_of(y).get)
    foreign, missing, outside = (lists.copy() for _ in range(3))
    foreign[y == small, 2] = np.flatnonzero(y != small)[0]
    missing[y == small, 4] = -1
    outside[y == small, 0] = 60
    for wrong, message in (
        (lists[:, :4], r"neighbors of shape \(60, 4\) found, \(60, 5\) expected"),
        (lists[1:], r"neighbors of shape \(59, 5\) found, \(60, 5\) expected"),
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


# --- Bad input ---


def with_few(count):
    """Three overlapping classes, of which class 2 has few samples."""
    x, y = make_data((60, 4), "float64", 3, 0)
    rows = np.concatenate([np.flatnonzero(y != 2), np.flatnonzero(y == 2)[:count]])
    return x[rows], y[rows]


COUNTS = "samples of each class in y: 0: 15, 1: 36, 2: 4"
REFUSED = {
    "SMOTE": (SMOTE(), "class 2 has 4 samples, SMOTE with 5 neighbors expects at least 6"),
    "borderline-1": (
        BorderlineSMOTE(),
        "class 2 has 4 samples, BorderlineSMOTE with 5 neighbors expects at least 6",
    ),
    "danger among all": (
        BorderlineSMOTE(m_neighbors=55),
        "y has 55 samples, BorderlineSMOTE with 55 neighbors expects at least 56",
    ),
    "borderline-2": (
        BorderlineSMOTE(kind="borderline-2", k_neighbors=55),
        "y has 55 samples, BorderlineSMOTE with 55 neighbors expects at least 56",
    ),
    "ADASYN": (ADASYN(), "class 2 has 4 samples, ADASYN with 5 neighbors expects at least 6"),
    "NearMiss": (
        NearMiss(n_neighbors=5),
        "class 2 has 4 samples, NearMiss with 5 neighbors expects at least 5",
    ),
    "NearMiss 3": (
        NearMiss(version=3, n_neighbors_ver3=16),
        "class 0 has 15 samples, NearMiss with 16 neighbors expects at least 16",
    ),
    "NearMiss 3, smallest class": (
        NearMiss(version=3, n_neighbors=5),
        "class 2 has 4 samples, NearMiss with 5 neighbors expects at least 5",
    ),
    "ENN": (
        EditedNearestNeighbours(n_neighbors=55),
        "y has 55 samples, EditedNearestNeighbours with 55 neighbors expects at least 56",
    ),
    "unknown class, over": (SMOTE(sampling_strategy={9: 40}), rf"\{{9\}} target class.*{COUNTS}"),
    "unknown class, under": (
        NearMiss(sampling_strategy={9: 4}),
        rf"\{{9\}} target class.*{COUNTS}",
    ),
    "unknown class, cleaning": (
        TomekLinks(sampling_strategy=[9]),
        rf"\{{9\}} target class.*{COUNTS}",
    ),
    "too many": (
        RandomUnderSampler(sampling_strategy={1: 37}),
        f"36 samples and 37 samples are asked.*{COUNTS}",
    ),
    "too few": (
        RandomOverSampler(sampling_strategy={1: 35}),
        f"36 samples and 35 samples are asked.*{COUNTS}",
    ),
    "callable": (
        TomekLinks(sampling_strategy=lambda y: {1: 20}),
        f"as a dict for cleaning methods is not supported.*{COUNTS}",
    ),
    "ratio": (ADASYN(sampling_strategy=0.5), f"float only when the type of target.*{COUNTS}"),
    "strategy": (SMOTE(sampling_strategy="most"), "'sampling_strategy' parameter of SMOTE must be"),
    "neighbors": (SMOTE(k_neighbors=0), "'k_neighbors' parameter of SMOTE must be an int"),
    "kind": (BorderlineSMOTE(kind="borderline-3"), "'kind' parameter of BorderlineSMOTE must be"),
    "version": (NearMiss(version=4), "'version' parameter of NearMiss must be an int in"),
}


@pytest.mark.parametrize("title", REFUSED)
def test_what_cannot_be_done_is_said(title):
    """With imbalanced-learn's exception type, the class and the counts; before anything is made."""
    sampler, message = REFUSED[title]
    x, y = with_few(4)
    module = (
        imblearn.over_sampling
        if hasattr(imblearn.over_sampling, type(sampler).__name__)
        else (imblearn.under_sampling)
    )
    theirs = getattr(module, type(sampler).__name__)(**sampler.get_params())
    with pytest.raises(ValueError) as refused:  # noqa: PT011, its type and message are compared
        theirs.fit_resample(x, y)
    for attempt in (sampler.fit_resample, sampler.plan):
        with pytest.raises(type(refused.value), match=message):
            attempt(x, y)


TOO_SMALL = ["SMOTE", "danger among all", "ADASYN", "NearMiss", "NearMiss 3"]
TOO_SMALL += ["NearMiss 3, smallest class", "ENN"]


@pytest.mark.parametrize("title", TOO_SMALL)
def test_classes_too_small_are_named_without_data(title):
    """By labels alone, which may be text: before anything is trained."""
    sampler, message = REFUSED[title]
    names = [f"tissue {label}" for label in with_few(4)[1]]
    message = message.replace("class ", "class tissue ")
    with pytest.raises(InputError, match=f"^{message}.* lower the number of neighbors or add samp"):
        clone(sampler).require_classes(names)


@each(SAMPLERS)
def test_classes_of_enough_samples_pass(sampler):
    clone(sampler).require_classes(np.repeat([0, 1], [6, 20]))
    clone(sampler).require_classes(["b"] * 6 + ["a"] * 6)


@each(SAMPLERS)
def test_one_class_is_refused(sampler):
    x = np.random.default_rng(0).standard_normal((12, 2))
    with pytest.raises(InputError, match=r"more than 1 class.*samples of each class in y: 7: 12"):
        sampler.fit_resample(x, np.full(12, 7))


@each([s for s in SAMPLERS if not isinstance(s, RandomOverSampler | RandomUnderSampler)])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "contains NaN"), (-np.inf, "contains infinity"), ("violet", "'violet'")],
)
def test_what_is_no_number_is_refused(sampler, value, message):
    x, y = make_data((60, 2, 3), "float64", 3, 0)
    x = x.astype(object if isinstance(value, str) else float)
    x[5, 1, 1] = value
    with pytest.raises(ValueError, match=message):
        sampler.fit_resample(x, y)


def test_mixed_data_frames_are_refused():
    x, y = make_data((60, 2), "float64", 3, 0)
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(stain=np.where(y, "pink", "violet"))
    with pytest.raises(ValueError, match="could not convert string to float"):
        SMOTE().fit_resample(frame, y)


def array_of_objects(images):
    array = np.empty(len(images), object)
    array[:] = images
    return array


@each(SAMPLERS)
@pytest.mark.parametrize("form", [list, tuple, array_of_objects])
def test_images_of_different_sizes_are_refused(sampler, form):
    images = form([np.zeros((4, 4 + (row == 7), 3), np.uint8) for row in range(12)])
    message = r"different sizes: \(4, 4, 3\) in row 0 and \(4, 5, 3\) in row 7"
    with pytest.raises(InputError, match=message):
        sampler.fit_resample(images, np.repeat([0, 1], 6))


@each(SAMPLERS)
def test_sparse_matrices_are_refused(sampler):
    x, y = make_data((60, 3), "float64", 3, 0)
    for attempt in (sampler.fit_resample, sampler.plan):
        with pytest.raises(TypeError, match="Sparse data was passed"):
            attempt(csr_array(x), y)


def test_a_radial_width_must_be_positive():
    x, y = make_data((60, 3), "float64", 3, 0)
    for gamma in (0, -1.0, "auto"):
        with pytest.raises(ValueError, match="'gamma' parameter of RadialBasedUndersampler must"):
            RadialBasedUndersampler(gamma=gamma).fit_resample(x, y)


def test_a_class_that_is_far_from_all_others_is_nothing_for_adasyn():
    x, y = make_data((60, 2), "float64", 2, 0)
    x = x + 1e3 * y[:, None]
    smaller = min(counts_of(y), key=counts_of(y).get)
    message = rf"no sample of class {smaller} \(15 samples\) has a neighbor of another class"
    with pytest.raises(RuntimeError, match=message):
        ADASYN().fit_resample(x, y)
    with pytest.raises(RuntimeError, match="Not any neigbours belong to the majority"):
        imblearn.over_sampling.ADASYN().fit_resample(x, y)


def test_too_few_samples_for_adasyn_are_said():
    x, y = make_data((60, 2), "float64", 3, 0)
    with pytest.raises(
        InputError, match=r"none of the 1 samples requested for class 2.*its 9 samples"
    ):
        ADASYN(sampling_strategy={2: 10}).fit_resample(x, y)


def test_near_miss_says_that_few_are_near():
    x, y = make_data((60, 2), "float64", 3, 0)
    sampler = NearMiss(version=3, n_neighbors_ver3=1, n_neighbors=1)
    with pytest.warns(UserWarning, match=r"9 samples of class \d are to be kept, but only [1-8] "):
        _, label = sampler.fit_resample(x, y)
    assert min(counts_of(label).values()) < 9


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
    y = np.repeat([0, 1], [4, 40])
    x = np.concatenate([np.zeros((4, 2)), np.ones((40, 2))])
    sampler = NearMiss(version=version, n_neighbors_ver3=40)
    sampler.fit_resample(x, y)
    np.testing.assert_array_equal(sampler.sample_indices_, [0, 1, 2, 3, 4, 5, 6, 7])
