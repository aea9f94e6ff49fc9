"""The samplers as objects: contract, properties of their plans, images."""

import inspect

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imblearn.pipeline import Pipeline
from imblearn.utils import estimator_checks as sampler_checks
from sampler_cases import (
    CHECKED,
    CLEANING,
    CONDENSING,
    DETERMINISTIC,
    INTERPOLATING,
    OVER,
    SAMPLERS,
    SYNTHESIZING,
    UNDER,
    counts_of,
    data,
    each,
    plan_or_none,
)
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
    NearMiss,
    RandomOverSampler,
    RandomUnderSampler,
)
from twostage_jax.resampling import samplers
from twostage_jax.resampling.neighbors import nearest
from twostage_jax.resampling.samplers.searches import class_neighbor_lists
from twostage_jax.support.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


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


# pytest wants a list of cases where imbalanced-learn gives a generator.
checks = sampler_checks.parametrize_with_checks(CHECKED, expected_failed_checks=declared)
names, cases = checks.args


@pytest.mark.filterwarnings("ignore:.*are to be kept")
@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(names, list(cases), **checks.kwargs)
def test_imbalanced_learns_checks(estimator, check):
    assert check(estimator) is None


@pytest.mark.parametrize("name", [name for name in samplers.__all__ if name != "at_least"])
def test_arguments_are_imbalanced_learns(name):
    """By keyword alone, with the same defaults."""
    ours = inspect.signature(getattr(twostage_jax, name)).parameters
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours.values())
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    theirs = next((getattr(m, name) for m in modules if hasattr(m, name)), None)
    if theirs is None:
        assert name == "RadialBasedUndersampler"
        return
    expected = inspect.signature(theirs).parameters
    assert {p: q.default for p, q in ours.items()} == {p: q.default for p, q in expected.items()}


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
    assert tags.sampler_tags.sample_indices == (sampler not in SYNTHESIZING)


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
    for name in ("base", "neighbor", "step", "label", "total"):
        np.testing.assert_array_equal(getattr(sampler.plan_, name), getattr(plan, name))
    copies = plan.neighbor == plan.base
    assert np.all(plan.step[copies] == 0)
    assert copies.all() or sampler in SYNTHESIZING
    if sampler in SYNTHESIZING:
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
@given(data(), st.sampled_from([*CLEANING, *CONDENSING]))
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
    seeded = "random_state" in sampler.get_params() and sampler not in DETERMINISTIC
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
