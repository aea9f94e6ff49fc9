"""What samplers refuse, and what they say."""

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pandas as pd
import pytest
from sampler_cases import SAMPLERS, counts_of, each
from scipy.sparse import csr_array
from sklearn.base import clone
from threadpoolctl import threadpool_limits

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
from twostage_jax.support.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of scikit-learn that wait for each other take most of the time on small data."""
    with threadpool_limits(1):
        yield


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
    assert clone(sampler).require_classes(np.repeat([0, 1], [6, 20])) is None
    assert clone(sampler).require_classes(["b"] * 6 + ["a"] * 6) is None


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
