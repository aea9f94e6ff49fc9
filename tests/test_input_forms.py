"""The forms of X and y: what goes in comes out, of `fit_resample` and of a plan alike."""

import re
import tracemalloc

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from imblearn import combine, over_sampling, under_sampling
from imblearn.pipeline import make_pipeline
from PIL import Image
from sampler_cases import INTERPOLATING, SAMPLERS, SYNTHESIZING, each
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from experiments.parity import make_data
from twostage_jax import (
    ADASYN,
    SMOTE,
    SVMSMOTE,
    EditedNearestNeighbours,
    NearMiss,
    RadialBasedUndersampler,
    RandomOverSampler,
    RandomUnderSampler,
    TomekLinks,
)
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.searches import class_neighbor_lists
from twostage_jax.support.errors import InputError

X, Y = make_data((60, 4), "float64", 3, 0)
IMAGES, IMAGE_LABELS = make_data((60, 3, 2, 3), "uint8", 3, 1)
COMPUTING = [s for s in SAMPLERS if not isinstance(s, RandomOverSampler | RandomUnderSampler)]
PICKING = [RandomOverSampler(random_state=0), RandomUnderSampler(random_state=0)]

# No type of the package's hook: users run without it.
pytestmark = [
    pytest.mark.usefixtures("unchecked_types"),
    pytest.mark.filterwarnings("ignore:.*are to be kept"),
]


class Tensor:
    """An array of another library, which NumPy can read but which has none of its methods."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)

    def __len__(self):
        return len(self._values)


def imbalanced_learns(sampler):
    """imbalanced-learn's sampler with the same parameters."""
    name = type(sampler).__name__
    modules = (over_sampling, under_sampling, combine)
    found = next(getattr(module, name) for module in modules if hasattr(module, name))
    return found(**sampler.get_params(deep=False))


def memory_map(values, folder):
    np.save(folder / "x.npy", values)
    return np.load(folder / "x.npy", mmap_mode="r")


def both(sampler, x, y):
    """X as `fit_resample` returns it, and as the plan makes it."""
    plan = clone(sampler).plan(x, y)
    return clone(sampler).fit_resample(x, y)[0], plan.materialize(x)


# --- Forms ---


@each(SAMPLERS)
@pytest.mark.parametrize("form", [jnp.asarray, Tensor, list, np.ndarray.tolist, memory_map])
def test_a_plan_makes_what_fit_resample_returns(sampler, form, tmp_path):
    x = form(IMAGES, tmp_path) if form is memory_map else form(IMAGES)
    resampled, made = both(sampler, x, IMAGE_LABELS)
    assert type(resampled) is type(made)
    # Lists of Python's numbers have no range that samples beyond their neighbors could leave.
    images = IMAGES.astype(int) if form is np.ndarray.tolist else IMAGES
    expected = clone(sampler).fit_resample(images, IMAGE_LABELS)[0]
    np.testing.assert_array_equal(np.asarray(made), expected)
    np.testing.assert_array_equal(np.asarray(resampled), expected)


@each(SAMPLERS)
def test_a_plan_makes_the_data_frame_that_fit_resample_returns(sampler):
    frame = pd.DataFrame(X, columns=list("abcd")).astype({"a": np.float32})
    resampled, made = both(sampler, frame, Y)
    pd.testing.assert_frame_equal(made, resampled.reset_index(drop=True))


def test_a_plan_picks_the_rows_of_a_mixed_data_frame():
    frame = pd.DataFrame({"a": X[:, 0], "stain": np.where(Y, "pink", "violet")})
    frame["grade"] = pd.Categorical(Y)
    resampled, made = both(PICKING[0], frame, Y)
    pd.testing.assert_frame_equal(made, resampled)


@each([SMOTE(random_state=0), TomekLinks(), *PICKING])
def test_a_list_of_images_gives_a_list_of_arrays(sampler):
    expected = clone(sampler).fit_resample(IMAGES, IMAGE_LABELS)[0]
    for images in (list(IMAGES), [Image.fromarray(image) for image in IMAGES]):
        for made in both(sampler, images, IMAGE_LABELS):
            assert isinstance(made, list)
            assert all(isinstance(image, np.ndarray) for image in made)
            np.testing.assert_array_equal(made, expected)
    column = np.empty(60, object)
    column[:] = list(IMAGES)
    np.testing.assert_array_equal(both(sampler, column, IMAGE_LABELS), [expected, expected])


@pytest.mark.parametrize("as_images", [Image.fromarray, np.ndarray.tolist, jnp.asarray, Tensor])
def test_the_first_image_of_another_size_is_named(as_images):
    images = [as_images(np.zeros((4, 5 + (row > 6), 3), np.uint8)) for row in range(12)]
    message = r"different sizes: \(4, 5, 3\) in row 0 and \(4, 6, 3\) in row 7"
    with pytest.raises(InputError, match=message):
        SMOTE().fit_resample(images, np.repeat([0, 1], 6))


@each([SMOTE(), NearMiss(), *PICKING])
@pytest.mark.parametrize("shape", [(0, 8, 3), (8, 0, 3), (8, 8, 0), (0,)])
def test_images_without_pixels_are_refused_with_their_shape(sampler, shape):
    with pytest.raises(ValueError, match=r"shape.*\(60, .*0") as refused:
        clone(sampler).fit_resample(np.zeros((60, *shape)), Y)
    assert "at least one" in str(refused.value) or "minimum of 1" in str(refused.value)


@pytest.mark.parametrize(("kind", "position"), [("DataFrame", 0), ("LazyFrame", 0), ("Series", 1)])
def test_data_frames_of_other_libraries_are_named(kind, position):
    library = "polars" if kind == "LazyFrame" else "other"
    foreign = type(kind, (), {"__module__": f"{library}.frame", "__len__": lambda self: 60})()
    given = [X, Y]
    given[position] = foreign
    for attempt in (SMOTE().fit_resample, SMOTE().plan):
        with pytest.raises(InputError, match=rf"{'Xy'[position]} is a {kind} of {library}.*pass"):
            attempt(*given)


# --- Dtypes ---


@each(SYNTHESIZING)
def test_bools_are_refused_by_all_that_make_samples_between_them(sampler):
    masks = IMAGES > 128
    for x in (masks, jnp.asarray(masks), masks.tolist(), pd.DataFrame(X > 0)):
        for attempt in (clone(sampler).fit_resample, clone(sampler).plan):
            with pytest.raises(InputError, match=r"^X of dtype bool.*astype\('uint8'\)"):
                attempt(x, Y)


@each([*PICKING, NearMiss(), TomekLinks(), EditedNearestNeighbours()])
def test_bools_are_picked(sampler):
    masks = IMAGES > 128
    for made in both(sampler, masks, IMAGE_LABELS):
        assert made.dtype == bool
        np.testing.assert_array_equal(made, masks[clone(sampler).plan(masks, IMAGE_LABELS).base])


@each([own for own in SAMPLERS if not isinstance(own, RadialBasedUndersampler)])
def test_bools_of_a_data_frame_are_what_imbalanced_learn_makes_of_them(sampler):
    frame = pd.get_dummies(pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "sex": np.where(Y, "f", "m")}))
    assert frame.dtypes.iloc[-1].kind == "b"
    resampled, made = both(sampler, frame, Y)
    pd.testing.assert_frame_equal(made, resampled.reset_index(drop=True))
    theirs = imbalanced_learns(sampler).fit_resample(frame, Y)[0]
    pd.testing.assert_frame_equal(resampled, theirs, check_exact=False)


@pytest.mark.parametrize("dtype", [bool, "M8[s]", "m8[s]", ml_dtypes.int4])
def test_a_plan_does_not_move_between_what_is_no_number(dtype):
    plan = SMOTE(random_state=0).plan(IMAGES, IMAGE_LABELS)
    with pytest.raises(InputError, match=rf"X of dtype {re.escape(str(np.dtype(dtype)))} found"):
        plan.materialize((IMAGES % 2).astype(dtype))


@each(SAMPLERS)
@pytest.mark.parametrize("dtype", [">f4", ">i2", ">u4"])
def test_results_are_of_the_machines_byte_order(sampler, dtype):
    x, y = IMAGES.astype(dtype), IMAGE_LABELS.astype(">i4")
    native = clone(sampler).fit_resample(x.astype(x.dtype.newbyteorder("=")), IMAGE_LABELS)
    plan = clone(sampler).plan(x, y)
    for made, label in (clone(sampler).fit_resample(x, y), (plan.materialize(x), plan.label)):
        assert made.dtype.isnative
        assert label.dtype.isnative
        np.testing.assert_array_equal(made, native[0])
        np.testing.assert_array_equal(label, native[1])


def test_columns_of_a_foreign_byte_order_are_turned():
    frame = pd.DataFrame({"a": X[:, 0].astype(">f4"), "b": X[:, 1]})
    resampled, label = SMOTE(random_state=0).fit_resample(frame, pd.Series(Y.astype(">i8")))
    assert [dtype.str for dtype in resampled.dtypes] == ["<f4", "<f8"]
    assert label.dtype.isnative


@each(SAMPLERS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e5m2"])
def test_small_floats_are_resampled(sampler, dtype):
    x = X.astype(dtype)
    resampled, made = both(sampler, x, Y)
    expected = clone(sampler).fit_resample(x.astype(np.float32), Y)[0].astype(dtype)
    for found in (resampled, made, clone(sampler).fit_resample(jnp.asarray(x), Y)[0]):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.astype(float), expected.astype(float))


@each(INTERPOLATING)
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_near_the_end_of_their_range_stay_there(sampler, dtype):
    largest = np.iinfo(dtype).max
    x = largest - np.arange(60, dtype=dtype)[:, None] * np.array([1, 2**20], dtype)
    for made in both(sampler, x, Y):
        assert made.dtype == dtype
        assert made.min() >= x.min()


def test_a_smoothed_bootstrap_stays_in_the_range_of_64_bits():
    x = np.iinfo(np.int64).max - np.arange(60)[:, None] * 2**50
    made, _ = RandomOverSampler(random_state=0, shrinkage=1).fit_resample(x, Y)
    assert made.min() > 0


@each(INTERPOLATING)
def test_long_doubles_are_interpolated_as_such(sampler):
    x = X.astype(np.longdouble) + np.longdouble(2) ** -60
    for made in both(sampler, x, Y):
        assert made.dtype == np.longdouble
        plan = clone(sampler).plan(x, Y)
        step = plan.step.astype(np.longdouble)[:, None]
        np.testing.assert_array_equal(made, x[plan.base] + step * (x[plan.neighbor] - x[plan.base]))


@each(COMPUTING)
def test_integers_that_numpy_cannot_compute_with_are_named(sampler):
    with pytest.raises(InputError, match="X of dtype int4 found"):
        clone(sampler).fit_resample((IMAGES % 8).astype(ml_dtypes.int4), Y)


# --- Rows ---


@each(SAMPLERS)
@pytest.mark.parametrize("rows", [30, 59, 61])
def test_a_plan_is_for_as_many_rows_as_it_was_made_of(sampler, rows):
    plan = clone(sampler).plan(X, Y)
    x = np.resize(X, (rows, 4))
    for form in (np.asarray, pd.DataFrame, list):
        with pytest.raises(InputError, match=rf"X of {rows} rows.*made for 60 rows"):
            plan.materialize(form(x))
    with pytest.raises(InputError, match=rf"rows of {rows} rows.*made for 60 rows"):
        plan.of_rows(np.arange(rows))


@each(SAMPLERS)
@pytest.mark.parametrize("labels", [59, 61])
def test_as_many_labels_as_rows_are_expected(sampler, labels):
    y = np.resize(Y, labels)
    for form in (np.asarray, pd.DataFrame):
        for attempt in (clone(sampler).plan, clone(sampler).fit_resample):
            with pytest.raises(ValueError, match=rf"inconsistent.*60.*{labels}"):
                attempt(form(X), y)


@each([SMOTE(random_state=0), RandomUnderSampler(random_state=0)])
def test_only_the_rows_that_are_taken_are_copied(sampler):
    """Of X whose rows are not contiguous, too, such as a data frame's columns."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4000, 500)).astype(np.float32)
    y = np.repeat([0, 1], [3000, 1000])
    plan = clone(sampler).plan(x, y)
    expected = next(plan.batches(x, 8))[0]
    for form in (np.asfortranarray(x), np.tile(x, (1, 2))[:, :500], x[::-1][::-1]):
        tracemalloc.start()
        made = next(plan.batches(form, 8))[0]
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(made, expected)
        assert most < x.nbytes / 4
        np.testing.assert_array_equal(plan.materialize(form), plan.materialize(x))
    images = np.asfortranarray(x.reshape(4000, 10, 50))
    np.testing.assert_array_equal(plan.materialize(images), plan.materialize(x).reshape(-1, 10, 50))


def test_what_no_plan_can_be_applied_to_is_named():
    plan = SMOTE(random_state=0).plan(X, Y)
    with pytest.raises(TypeError, match=r"X is sparse.*toarray"):
        plan.materialize(csr_array(X))
    for x in (3.0, "abc"):
        with pytest.raises(InputError, match=rf"X is {x!r}, an array with one row per sample"):
            plan.materialize(x)
    with pytest.raises(ValueError, match="arrays of bytes/strings"):
        plan.materialize(np.array(["violet"] * 60))
    with pytest.raises(InputError, match=r"batches of 2\.5 samples"):
        next(plan.batches(X, 2.5))
    out = np.empty((len(plan), 4))
    out.flags.writeable = False
    for x, given in ((X, out), (X, []), (pd.DataFrame(X), np.empty_like(out))):
        with pytest.raises(InputError, match=r"out of .* found"):
            plan.materialize(x, out=given)


def test_lists_of_row_numbers_are_taken():
    plan = SMOTE(random_state=0).plan(X, Y)
    rows = list(range(60))[::-1]
    np.testing.assert_array_equal(plan.of_rows(rows).base, plan.of_rows(np.array(rows)).base)
    neighbors = class_neighbor_lists(X, Y, 5, np.unique(Y))
    np.testing.assert_array_equal(
        SMOTE(random_state=0).plan(X, Y, neighbors=neighbors.tolist()).neighbor, plan.neighbor
    )
    with pytest.raises(InputError, match=r"dtype float64 found, integers of shape \(60, 5\)"):
        SMOTE().plan(X, Y, neighbors=neighbors + 0.5)


@pytest.mark.parametrize(("base", "neighbor"), [(3, 3), (-1, -1), (0, 5), (0, -2)])
def test_a_plan_made_by_hand_takes_no_rows_that_are_not_there(base, neighbor):
    plan = Plan(np.array([0, base]), np.array([0, neighbor]), np.array([0.0, 0.5]), np.zeros(2))
    wrong = neighbor if neighbor != 0 else base
    with pytest.raises(InputError, match=rf"X of 3 rows found, the plan takes row {wrong}"):
        plan.materialize(X[:3])
    with pytest.raises(InputError, match="rows of 3 rows found"):
        plan.of_rows(np.arange(3))


def test_a_plan_on_a_larger_table_takes_it_but_none_that_lacks_its_rows():
    moved = SMOTE(random_state=0).plan(X[10:], Y[10:]).of_rows(np.arange(10, 60))
    assert moved.total is None
    larger = np.concatenate([X, X])
    np.testing.assert_array_equal(moved.materialize(larger), moved.materialize(X))
    with pytest.raises(InputError, match="X of 50 rows found, the plan takes row 59"):
        moved.materialize(X[10:])


def test_plans_for_different_tables_are_not_joined():
    plans = [Plan.of_all(Y), Plan.of_kept(Y[:50], np.arange(9))]
    assert Plan.concatenate([plans[0], plans[0].of_rows(np.arange(60))]).total == 60
    with pytest.raises(InputError, match=r"X of 50 and of 60 rows"):
        Plan.concatenate(plans)


# --- Labels ---


@each(SAMPLERS)
@pytest.mark.parametrize("form", [np.asarray, np.ndarray.tolist, pd.DataFrame])
def test_one_column_per_class_is_a_label(sampler, form):
    indicators = form(np.eye(3, dtype=int)[Y])
    clone(sampler).require_classes(indicators)
    plan = clone(sampler).plan(X, indicators)
    np.testing.assert_array_equal(plan.base, clone(sampler).plan(X, Y).base)
    made, label = clone(sampler).fit_resample(X, indicators)
    assert type(label) is type(indicators)
    np.testing.assert_array_equal(np.asarray(label).argmax(axis=1), plan.label)
    np.testing.assert_array_equal(made, plan.materialize(X))


# --- Strategies, imbalanced-learn's combinations ---


@each([SMOTE(), ADASYN(), RandomOverSampler(), RandomUnderSampler(), NearMiss()])
@pytest.mark.parametrize("size", [9.0, "9", None, True])
def test_numbers_of_samples_are_integers(sampler, size):
    for strategy in ({2: size}, lambda y: {2: size}):
        with pytest.raises(InputError, match=rf"asks for {size!r} samples of class 2, an integer"):
            clone(sampler).set_params(sampling_strategy=strategy).fit_resample(X, Y)


def test_imbalanced_learns_combinations_take_our_samplers():
    x = X + np.arange(3)[Y][:, None]
    for combined, parts in (
        (combine.SMOTEENN, {"enn": EditedNearestNeighbours(sampling_strategy="all")}),
        (combine.SMOTETomek, {"tomek": TomekLinks(sampling_strategy="all")}),
    ):
        theirs = combined(smote=over_sampling.SMOTE(random_state=0)).fit_resample(x, Y)
        for chosen in ({}, parts):
            ours = combined(smote=SMOTE(random_state=0), **chosen).fit_resample(x, Y)
            np.testing.assert_array_equal(ours[0], theirs[0])
            np.testing.assert_array_equal(ours[1], theirs[1])
    assert issubclass(TomekLinks, under_sampling.TomekLinks)


# --- Other libraries ---


@each(SAMPLERS)
def test_frames_of_polars_give_arrays(sampler):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(X, schema=["a", "b", "c", "d"])
    found = clone(sampler).fit_resample(frame, polars.Series("grade", Y))
    expected = clone(sampler).fit_resample(X, Y)
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is np.ndarray
        np.testing.assert_array_equal(ours, theirs)
    plan = clone(sampler).plan(frame, polars.Series("grade", Y))
    np.testing.assert_array_equal(plan.materialize(frame), expected[0])


def test_text_of_polars_is_picked():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"stain": list("ababab"), "size": range(6)})
    found, label = RandomOverSampler(random_state=0).fit_resample(frame, [0, 0, 0, 0, 1, 1])
    assert found.shape == (8, 2)
    assert set(found[:, 0]) == {"a", "b"}
    assert label == [0] * 4 + [1] * 4


@each(SAMPLERS)
@pytest.mark.filterwarnings("ignore:.*overflow")
def test_float16_gives_imbalanced_learns_values(sampler):
    if isinstance(sampler, RadialBasedUndersampler):
        return
    x = X.astype(np.float16)
    found = clone(sampler).fit_resample(x, Y)
    expected = imbalanced_learns(sampler).fit_resample(x, Y)
    assert found[0].dtype == np.float16
    np.testing.assert_array_equal(found[1], expected[1])
    if (
        getattr(sampler, "kind", None) == "borderline-2"
    ):  # a product of two factors in another order
        np.testing.assert_allclose(found[0], expected[0], rtol=2e-3)
    else:
        np.testing.assert_array_equal(found[0], expected[0])


def test_a_pipeline_with_frames_as_output_resamples_them():
    frame = pd.DataFrame(X, columns=list("abcd"))
    steps = [StandardScaler(), SMOTE(random_state=0), LogisticRegression()]
    pipeline = make_pipeline(*steps).set_output(transform="pandas").fit(frame, Y)
    assert list(pipeline[-1].feature_names_in_) == list("abcd")
    plain = make_pipeline(*map(clone, steps)).fit(X, Y)
    np.testing.assert_array_equal(pipeline.predict(frame), plain.predict(X))


# --- What a sampler keeps ---


def test_a_smoothed_bootstrap_leaves_no_plan_of_an_earlier_call():
    sampler = RandomOverSampler(random_state=0)
    sampler.fit_resample(X, Y)
    sampler.sample_indices_[:] = 0
    assert (sampler.plan_.base != 0).any()
    sampler.set_params(shrinkage=1).fit_resample(X, Y)
    assert not hasattr(sampler, "plan_")


@pytest.mark.parametrize("kind", [SMOTE, ADASYN, SVMSMOTE, EditedNearestNeighbours])
def test_a_search_that_finds_nothing_but_the_sample_is_refused(kind):
    name = "n_neighbors" if "n_neighbors" in kind().get_params() else "k_neighbors"
    sampler = kind(**{name: NearestNeighbors(n_neighbors=1)})
    with pytest.raises(InputError, match="finds the sample itself alone"):
        sampler.plan(X, Y)
