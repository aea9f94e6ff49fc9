"""The samplers against imbalanced-learn's: a part of the grid of `experiments.parity`, and more."""

import functools

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from threadpoolctl import threadpool_limits

import twostage_jax
from experiments import parity
from tests import sampler_grid
from twostage_jax.resampling.neighbors import rank_neighbors, subset_neighbors
from twostage_jax.resampling.registry import make_sampler
from twostage_jax.support.errors import InputError

BY_TITLE = {variant.title: variant for variant in parity.VARIANTS}
PLAIN = [variant for variant in parity.VARIANTS if not variant.options]
make_data = functools.cache(parity.make_data)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


def both(variant, strategy="auto", seed=0, **more):
    """The sampler of both libraries, ours first."""
    return (
        variant.make(library, strategy, seed).set_params(**more)
        for library in (twostage_jax, variant.reference)
    )


def of_name(name):
    return BY_TITLE[name]


# --- The grid ---


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "uint8"])
@pytest.mark.parametrize("variant", parity.VARIANTS, ids=lambda variant: variant.title)
def test_every_strategy_agrees(variant, dtype):
    """Images of 8 x 8 pixels; rows, values and dtypes."""
    shape, rows, strategies = (80, 8, 8, 3), [], parity.STRATEGIES[variant.kind]
    # What a strategy asks for does not depend on the dtype.
    for strategy in strategies if dtype == "float64" else strategies[:1] + strategies[-2:]:
        case = parity.Case(variant, dtype, shape, strategy, seed=5)
        rows.append(
            parity.compare(case, *make_data(shape, dtype, 2 if strategy == "float" else 3, 5))
        )
    frame = pd.DataFrame(rows)
    assert not frame.raised.any()
    summary = parity.summarize(frame)
    assert summary.agrees.all(), frame.to_string()
    assert summary.exact.item() == len(rows) or variant.options.get("kind") == "borderline-2"


@pytest.mark.parametrize("name", ["SMOTE", "EditedNearestNeighbours"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_wide_images_agree(name, dtype):
    """Of 150 x 150 pixels, the paper's."""
    shape = (40, 150, 150, 3)
    case = parity.Case(of_name(name), dtype, shape, "auto", seed=0)
    row = parity.compare(case, *make_data(shape, dtype, 3, 0))
    assert row["same_rows"]
    assert row["exact"]
    assert not row["raised"]


@st.composite
def small_data(draw):
    """Two to four classes of 1 to 24 samples, labels in any order; 1 to 20 columns, no ties."""
    counts = draw(st.lists(st.integers(1, 24), min_size=2, max_size=4))
    columns = draw(st.sampled_from([1, 2, 3, 20]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    y = rng.permutation(np.repeat(np.arange(len(counts)) + draw(st.integers(0, 2)), counts))
    x = rng.standard_normal((len(y), columns)) + 0.5 * y[:, None]
    # In few columns of float32 some distances are equal, once in some hundred data sets.
    return x.astype(
        draw(st.sampled_from(["float64", "float32" if columns == 20 else "float64"]))
    ), y


def both_refuse(ours, theirs, x, y):
    """Whether a class is too small for ADASYN.

    Ours names such a class first; imbalanced-learn goes by the order of classes, and may come to
    one that is far from all others before it.
    """
    try:
        ours.require_classes(y)
    except InputError:
        for sampler, errors in ((ours, InputError), (theirs, (ValueError, RuntimeError))):
            with pytest.raises(errors):
                sampler.fit_resample(x, y)
        return True
    return False


@settings(max_examples=60)
@given(
    small_data(),
    st.sampled_from(parity.VARIANTS),
    st.sampled_from(["auto", "all", "not minority", "not majority"]),
    st.integers(0, 2**32 - 1),
)
def test_whatever_the_classes_results_and_exceptions_agree(data, variant, strategy, seed):
    """Also of classes that are too small, equally large, or far from all others."""
    x, y = data
    # On a line all points between two others have the same sum of distances to them: mean
    # distances are equal, and rounding alone decides which library keeps which.
    assume(variant.name != "NearMiss" or x.shape[1] > 1)
    if variant.name == "ADASYN" and both_refuse(*both(variant, strategy, seed), x, y):
        return
    row = parity.compare(parity.Case(variant, str(x.dtype), x.shape, strategy, seed), x, y)
    expected = parity.expectation(variant, str(x.dtype))
    assert row["same_rows"]
    assert row["difference"] <= expected.largest
    assert row["exact"] or not expected.exact


@settings(max_examples=20)
@given(small_data(), st.sampled_from(["SMOTE", "BorderlineSMOTE", "ADASYN"]), st.integers(1, 6))
def test_any_number_of_neighbors_agrees(data, name, k):
    x, y = data
    option = "n_neighbors" if name == "ADASYN" else "k_neighbors"
    ours, theirs = both(of_name(name), **{option: k})
    if name == "ADASYN" and both_refuse(ours, theirs, x, y):
        return
    found, expected = sampler_grid.attempt(ours, x, y), sampler_grid.attempt(theirs, x, y)
    assert sampler_grid.same_exception(expected.error, found.error)
    if found.error is None:
        np.testing.assert_array_equal(found.x, expected.x)
        np.testing.assert_array_equal(found.y, expected.y)


# --- Other arguments that imbalanced-learn takes ---


@pytest.mark.parametrize("variant", [v for v in parity.VARIANTS if v.seeded], ids=lambda v: v.title)
def test_a_stream_is_used_up_alike(variant):
    """A `RandomState` goes on from class to class and from call to call; so does NumPy's own."""
    x, y = make_data((90, 6), "float64", 3, 1)
    ours, theirs = both(variant, "not minority" if variant.kind == sampler_grid.OVER else "all")
    for sampler in (ours, theirs):
        sampler.set_params(random_state=np.random.RandomState(7))
    for _ in range(2):
        (a, _), (b, _) = ours.fit_resample(x, y), theirs.fit_resample(x, y)
        np.testing.assert_allclose(a, b, rtol=1e-12)
    results = []
    for sampler in (ours, theirs):
        np.random.seed(11)
        results.append(sampler.set_params(random_state=None).fit_resample(x, y)[0])
    np.testing.assert_allclose(*results, rtol=1e-12)
    assert not np.array_equal(results[0], a)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("SMOTE", {"k_neighbors": 4}),
        ("BorderlineSMOTE", {"k_neighbors": 4, "m_neighbors": 8}),
        ("BorderlineSMOTE kind=borderline-2", {"k_neighbors": 4, "m_neighbors": 8}),
        ("ADASYN", {"n_neighbors": 4}),
        ("SVMSMOTE", {"k_neighbors": 4, "m_neighbors": 8}),
        ("EditedNearestNeighbours", {"n_neighbors": 4}),
        ("RepeatedEditedNearestNeighbours", {"n_neighbors": 4}),
        ("AllKNN", {"n_neighbors": 4}),
        ("NeighbourhoodCleaningRule", {"n_neighbors": 4}),
        ("NearMiss", {"n_neighbors": 2}),
        ("NearMiss version=2", {"n_neighbors": 2}),
        ("NearMiss version=3", {"n_neighbors": 2, "n_neighbors_ver3": 4}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*are to be kept", "ignore:The number of the samples to be")
def test_objects_that_find_neighbors_are_used(name, options):
    """Here by another distance."""
    x, y = make_data((90, 6), "float64", 3, 2)
    objects = {
        key: NearestNeighbors(n_neighbors=k, metric="manhattan") for key, k in options.items()
    }
    ours, theirs = both(of_name(name), **objects)
    found, expected = ours.fit_resample(x, y), theirs.fit_resample(x, y)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_array_equal(found[1], expected[1])
    assert all(not hasattr(search, "n_samples_fit_") for search in objects.values())


@pytest.mark.parametrize("variant", parity.VARIANTS, ids=lambda variant: variant.title)
def test_data_frames_come_back_as_imbalanced_learns(variant):
    """Columns, dtypes, index, the name of y."""
    x, y = make_data((90, 6), "float64", 3, 3)
    rows = pd.Index(range(500, 590), name="sample")
    frame = pd.DataFrame(x, columns=list("abcdef"), index=rows)
    frame["c"] = (1000 * frame["c"]).astype(np.int32)
    frame["e"] = frame["e"].astype(np.float32)
    numeric = "mode" in variant.title or variant.name == "NeighbourhoodCleaningRule"
    names = y if numeric else np.array(["low", "mid", "top"])[y]
    target = pd.Series(names, index=rows, name="grade")  # imbalanced-learn's mode is of numbers
    ours, theirs = both(variant)
    (found, label), (expected, its_label) = (
        sampler_grid.attempt(sampler, frame, target)[:2] for sampler in (ours, theirs)
    )
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    pd.testing.assert_series_equal(label, its_label)
    assert list(ours.feature_names_in_) == list("abcdef")
    np.testing.assert_array_equal(ours.get_feature_names_out(), theirs.get_feature_names_out())


@pytest.mark.parametrize("name", ["RandomOverSampler", "RandomUnderSampler"])
def test_random_samplers_take_anything(name):
    """Text, missing values, categories, dates."""
    frame = pd.DataFrame(
        {
            "stain": pd.Categorical(list("ababab")),
            "text": ["u", None, "v", "w", "u", "x"],
            "size": [1.0, np.nan, np.inf, 3.0, 4.0, 5.0],
            "day": pd.date_range("2020-01-01", periods=6),
        }
    )
    y = [0, 0, 0, 0, 1, 1]
    ours, theirs = both(of_name(name))
    found, label = ours.fit_resample(frame, y)
    expected, its_label = theirs.fit_resample(frame, y)
    pd.testing.assert_frame_equal(found, expected)
    assert label == its_label
    values = frame[["text", "size"]].to_numpy()
    (values, _), (its_values, _) = ours.fit_resample(values, y), theirs.fit_resample(values, y)
    pd.testing.assert_frame_equal(pd.DataFrame(values), pd.DataFrame(its_values))


@pytest.mark.parametrize("variant", PLAIN, ids=lambda variant: variant.title)
def test_targets_of_any_form_agree(variant):
    """Text, one column a class, lists in and out."""
    x, y = make_data((60, 4), "float64", 3, 4)
    ours, theirs = both(variant)
    targets = [np.array(["b", "a", "c"])[y], np.eye(3, dtype=int)[y], y == 1]
    if variant.name == "NeighbourhoodCleaningRule":  # imbalanced-learn's mode is of numbers
        targets = targets[1:2]
    for target in targets:
        found, expected = ours.fit_resample(x, target), theirs.fit_resample(x, target)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
        assert found[1].dtype == expected[1].dtype
    assert ours.fit_resample(x.tolist(), y.tolist()) == theirs.fit_resample(x.tolist(), y.tolist())


@pytest.mark.parametrize(
    "name",
    ["CondensedNearestNeighbour", "OneSidedSelection", "NeighbourhoodCleaningRule"],
)
def test_classifiers_are_used(name):
    """Here by another distance and other weights."""
    x, y = make_data((90, 6), "float64", 3, 2)
    search = KNeighborsClassifier(n_neighbors=3, metric="manhattan", weights="distance")
    ours, theirs = both(of_name(name), n_neighbors=search)
    if name == "NeighbourhoodCleaningRule":
        edited = imblearn.under_sampling.EditedNearestNeighbours()
        ours, theirs = (s.set_params(edited_nearest_neighbours=edited) for s in (ours, theirs))
    found, expected = ours.fit_resample(x, y), theirs.fit_resample(x, y)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(ours.sample_indices_, theirs.sample_indices_)


@pytest.mark.parametrize("library", [twostage_jax, imblearn])
def test_samplers_that_are_made_of_others_take_those_of_both_libraries(library):
    """The two parts of SMOTEENN, SMOTETomek and the neighborhood cleaning rule."""
    over, under = (library, library)
    if library is imblearn:
        over, under = imblearn.over_sampling, imblearn.under_sampling
    x, y = make_data((90, 6), "float64", 3, 2)
    smote = over.SMOTE(k_neighbors=2, random_state=4)
    enn = under.EditedNearestNeighbours(kind_sel="mode")
    for name, parts in (
        ("SMOTEENN", {"smote": smote, "enn": enn}),
        ("SMOTETomek", {"smote": smote, "tomek": under.TomekLinks()}),
        ("NeighbourhoodCleaningRule", {"edited_nearest_neighbours": enn}),
    ):
        variant = of_name(name)
        theirs = {
            key: getattr(
                imblearn.over_sampling if key == "smote" else imblearn.under_sampling,
                type(part).__name__,
            )(**part.get_params())
            for key, part in parts.items()
        }
        found = variant.make(twostage_jax, "auto", 0).set_params(**parts).fit_resample(x, y)
        reference = variant.make(variant.reference, "auto", 0).set_params(**theirs)
        expected = reference.fit_resample(x, y)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_a_part_without_a_plan_is_refused():
    x, y = make_data((90, 6), "float64", 3, 2)
    smote = imblearn.over_sampling.SMOTENC([0])
    with pytest.raises(InputError, match=r"SMOTENC.* gives no plan; pass SMOTE of twostage_jax"):
        twostage_jax.SMOTEENN(smote=smote).fit_resample(x, y)


@pytest.mark.parametrize("shrinkage", [0, 0.7, {0: 1.5, 1: 0.1, 2: 2}])
@pytest.mark.parametrize("seed", [3, None])
def test_a_smoothed_bootstrap_agrees(shrinkage, seed):
    x, y = make_data((90, 6), "float64", 3, 3)
    results = []
    for library in (twostage_jax, imblearn.over_sampling):
        np.random.seed(11)
        sampler = library.RandomOverSampler(shrinkage=shrinkage, random_state=seed)
        results.append((*sampler.fit_resample(x, y), sampler.sample_indices_, sampler.shrinkage_))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_noise_on_images_stays_within_their_dtype():
    images, y = make_data((60, 4, 4, 3), "uint8", 3, 3)
    sampler = twostage_jax.RandomOverSampler(shrinkage=30, random_state=0)
    found, label = sampler.fit_resample(images, y)
    reference = imblearn.over_sampling.RandomOverSampler(shrinkage=30, random_state=0)
    expected, _ = reference.fit_resample(images.reshape(60, -1).astype(float), y)
    assert (expected < 0).any()
    assert found.dtype == np.uint8
    assert found.shape == (len(label), 4, 4, 3)
    np.testing.assert_array_equal(found.reshape(expected.shape), np.clip(np.rint(expected), 0, 255))
    with pytest.raises(InputError, match="a plan picks rows and adds no noise"):
        sampler.plan(images, y)


# --- Neighbors that are found before ---


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_smote_agrees_by_neighbors_that_are_ranked_once_for_all_partitions(seed):
    x, y = make_data((80, 8, 8, 3), "uint8", 3, 5)
    rows = np.sort(np.random.default_rng(seed).permutation(len(y))[:70])
    lists = subset_neighbors(rank_neighbors(x, y), rows, y[rows].astype(np.int32), 5)
    plan = make_sampler("smote", seed=seed, k_neighbors=5).plan(x[rows], y[rows], neighbors=lists)
    _, theirs = both(of_name("SMOTE"), seed=seed)
    expected, label = theirs.fit_resample(x[rows].reshape(70, -1).astype(float), y[rows])
    np.testing.assert_allclose(plan.materialize(x[rows].reshape(70, -1).astype(float)), expected)
    np.testing.assert_array_equal(plan.label, label)


# --- The command ---


@pytest.fixture
def few_cases(monkeypatch):
    monkeypatch.setattr(parity, "GRID", (parity.Part((60, 5), ("float64", "int64")),))
    monkeypatch.setattr(parity, "VARIANTS", (of_name("SMOTE"), of_name("TomekLinks")))
    monkeypatch.setattr(parity, "STRATEGIES", dict.fromkeys(parity.STRATEGIES, ("auto", "all")))


def test_the_command_keeps_tables_and_picture(few_cases, tmp_path, capsys):
    folder = tmp_path / "a" / "b"
    assert parity.main(["--grid", "quick", "--output", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "8 cases" in printed
    assert "all agree as expected" in printed
    table = pd.read_csv(folder / "parity.csv")
    assert table[["sampler", "dtype", "cases"]].to_numpy().tolist() == [
        ["SMOTE", "float64", 2],
        ["SMOTE", "int64", 2],
        ["TomekLinks", "float64", 2],
        ["TomekLinks", "int64", 2],
    ]
    assert table.agrees.all()
    page = (folder / "parity.md").read_text()
    assert "python -m experiments.parity --grid quick" in page
    assert (folder / "uint8.png").stat().st_size < 60_000
    with Image.open(folder / "uint8.png") as picture:
        assert picture.size[0] == 699


def test_a_sampler_that_disagrees_is_found(few_cases, monkeypatch, capsys):
    """Here by one unit in the last place of one value, or by one row."""

    class Off(twostage_jax.SMOTE):
        def _take(self, X, plan):
            out = super()._take(X, plan)
            out[-1, 0] = np.nextafter(out[-1, 0], np.inf) if X.dtype.kind == "f" else out[-1, 0] + 3
            return out

    class Short(twostage_jax.TomekLinks):
        def _decide(self, x, y):
            return super()._decide(x, y).of_rows(np.arange(len(y))[::-1])

    monkeypatch.setitem(vars(twostage_jax), "SMOTE", Off)
    monkeypatch.setitem(vars(twostage_jax), "TomekLinks", Short)
    assert parity.main(["--grid", "quick"]) == 1
    assert "NOT all agree" in capsys.readouterr().out
    frame = parity.run(list(parity.cases("quick", 1)))
    table = parity.summarize(frame)
    assert not table.agrees.any()
    smote = table.set_index(["sampler", "dtype"]).loc["SMOTE"]
    assert 0 < smote.largest_difference["float64"] < 1e-15
    assert 2 <= smote.largest_difference["int64"] <= 4
    assert not frame[frame.sampler == "TomekLinks"].same_rows.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "hole"], "unknown grid 'hole'; did you mean whole?"),
        (["--seeds", "0"], "--seeds 0 found, 1 or more expected"),
        (["--output", "file/below"], "Not a directory"),
    ],
)
def test_bad_options_are_refused_in_a_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert parity.main(arguments) == 2
    assert message in capsys.readouterr().err
