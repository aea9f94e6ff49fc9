"""`TwoStageClassifier`: scikit-learn's contract, images, the study's numbers, saved models."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file
from sklearn.base import clone
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from textures import textures
from tiny_network import TINY

from twostage_jax import (
    SMOTE,
    EditedNearestNeighbours,
    RandomUnderSampler,
    TwoStageClassifier,
)
from twostage_jax.classifier import inputs
from twostage_jax.classifier.recipe import Recipe
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import PartitionKey
from twostage_jax.study.approaches import find
from twostage_jax.study.corrections import change_prior, correct_prior
from twostage_jax.study.folder import read_record
from twostage_jax.study.jobs import Scope
from twostage_jax.study.record import RecordKey
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import checksum
from twostage_jax.training.protocol import Protocol

SMALL = {
    "network": TINY,
    "weights": None,
    "epochs": 2,
    "learning_rate": 1e-3,
    "bn_momentum": 0.9,
    "random_state": 0,
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([TwoStageClassifier(random_state=0)])
def test_scikit_learns_checks(estimator, check):
    assert check(estimator) is None  # a check raises what is wrong


def some(counts=(16, 14, 12), size: int = 32) -> ImageSet:
    """Three classes of textures, imbalanced."""
    whole = textures(image_size=size, images_per_class=20)
    starts = np.flatnonzero(np.diff(whole.labels, prepend=-1))
    rows = np.concatenate([start + np.arange(n) for start, n in zip(starts, counts, strict=False)])
    return ImageSet.create(
        images=whole.images[rows],
        labels=whole.labels[rows],
        class_names=whole.class_names[: len(counts)],
        names=[whole.names[row] for row in rows],
        source="textures",
    )


@pytest.fixture(scope="module")
def image_set() -> ImageSet:
    return some()


@pytest.fixture(scope="module")
def labels(image_set) -> np.ndarray:
    return np.array(image_set.class_names)[image_set.labels]


@pytest.fixture(scope="module")
def fitted(image_set, labels) -> TwoStageClassifier:
    return TwoStageClassifier(**SMALL).fit(image_set.images, labels)


# --- The study's numbers ---

NAMES = (
    *("baseline", "is_smote", "fs_ros", "ts_smote_rus", "post_prior"),
    *("loss_ldam_drw", "mix_balanced", "head_lws", "head_tau", "fs_ros+prior"),
)


@pytest.fixture(scope="module")
def study(tmp_path_factory, image_set) -> Study:
    folder = tmp_path_factory.mktemp("study")
    made = Study(
        image_set,
        "textures",
        Protocol(network=TINY, epochs=2, learning_rate=1e-3, bn_momentum=0.9, head_epochs=3),
        None,
        Scope(("linear",), (1.0,), 1, tuple(map(find, NAMES))),
        output=folder / "out",
        checkpoints=folder / "checkpoints",
    )
    made.open("test")
    assert not any(done.failed for done in made.run(made.groups(1)))
    return made


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_studys_own_code_bit_for_bit(name, study, image_set):
    partition = study.plans.partition(PartitionKey("original", 1.0, 0))
    record = read_record(study.folder.record(RecordKey("original", 1.0, 0, name)))
    train, test = partition.train, partition.test
    model = TwoStageClassifier(**SMALL, head_epochs=3, approach=name)
    model.fit(image_set.images[train], image_set.labels[train])
    assert np.array_equal(model.predict_proba(image_set.images[test]), record.probabilities)
    assert np.array_equal(model.class_counts_, record.class_counts)
    assert np.array_equal(model.history_["stage1"]["loss"], record.curve1[:, 0])
    if name == "ts_smote_rus":
        samplers = {"image_sampler": SMOTE(), "feature_sampler": RandomUnderSampler()}
        twin = clone(model).set_params(approach=None, **samplers)
        twin.fit(image_set.images[train], image_set.labels[train])
        same = twin.predict_proba(image_set.images[test])
        assert np.array_equal(same, record.probabilities)


@pytest.mark.parametrize(
    ("samplers", "name"),
    [
        ((None, None), "baseline"),
        (("smote", None), "is_smote"),
        ((None, "rus"), "fs_rus"),
        (("smote", "smote"), "ts_smote_smote"),
        (("smote", "rus"), "ts_smote_rus"),
    ],
)
def test_two_samplers_name_the_approach(samplers, name):
    made, registered = Recipe(*samplers, None).approach, find(name)
    assert (made.name, made.recipe) == (registered.name, registered.recipe)
    assert made.title == registered.title


@pytest.mark.parametrize(
    ("y", "strategy"),
    [
        (np.array([3] * 9 + [7] * 5), {7: 8}),
        (np.array([3] * 9 + [7] * 5), lambda y: {7: 1 + np.count_nonzero(y == 7) + 2}),
        (np.array(["a"] * 9 + ["b"] * 5), {"b": 8}),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_a_sampling_strategy_names_the_users_labels(y, strategy):
    sampler = SMOTE(sampling_strategy=strategy, k_neighbors=2)
    features = np.random.default_rng(0).normal(size=(14, 3))
    for choice in ({"feature_sampler": sampler}, {"image_sampler": sampler}):
        recipe = Recipe(
            **({"image_sampler": None, "feature_sampler": None} | choice), approach=None
        )
        made = recipe.for_classes(np.unique(y)).make("smote", 2 - ("image_sampler" in choice), 0, 5)
        labels = np.unique(y, return_inverse=True)[1]
        assert np.bincount(made.plan(features, labels).label).tolist() == [9, 8]
        made.require_classes(y.astype(str))
    model = TwoStageClassifier(head_epochs=1, feature_sampler=sampler).fit(features, y)
    assert model.predict(features).shape == (14,)


def test_a_sampling_strategy_may_be_a_list_of_labels():
    sampler = EditedNearestNeighbours(sampling_strategy=["b"])
    made = Recipe(None, sampler, None).for_classes(np.array(["a", "b"])).make("enn", 2, 0, 5)
    labels = np.arange(12) % 2
    made.plan(np.random.default_rng(0).normal(size=(12, 2)), labels)
    assert list(made.sampling_strategy_) == [1]
    with pytest.raises(InputError, match=r"names the class 'c'; expected some of 'a', 'b'"):
        TwoStageClassifier(feature_sampler=SMOTE(sampling_strategy={"c": 9})).fit(
            np.eye(12), np.array(["a", "b"])[labels]
        )


# --- Images as scikit-learn has tables ---


def test_predictions_do_not_depend_on_company_or_order(fitted, image_set):
    images = image_set.images
    whole = fitted.predict_proba(images)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, rtol=1e-5)
    order = np.random.default_rng(0).permutation(len(images))
    assert np.array_equal(fitted.predict_proba(images[order]), whole[order])
    for row in (0, 7, len(images) - 1):
        assert np.array_equal(fitted.predict_proba(images[row : row + 1])[0], whole[row])
    many = np.concatenate([images] * 14)  # more than one call's rows
    assert np.array_equal(fitted.predict_proba(many), np.tile(whole, (14, 1)))


def test_fitting_again_gives_the_same_model(fitted, image_set, labels, tmp_path):
    """Also from memory that is read-only or mapped."""
    np.save(tmp_path / "images.npy", image_set.images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    again = clone(fitted).fit(mapped, labels.tolist())
    expected = fitted.predict_proba(image_set.images)
    assert np.array_equal(again.predict_proba(mapped), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(again)).predict_proba(mapped), expected)


def test_attributes_and_methods(fitted, image_set, labels):
    images = image_set.images
    assert fitted.classes_.tolist() == ["class0", "class1", "class2"]
    assert fitted.class_counts_.tolist() == [16, 14, 12]
    assert fitted.image_shape_ == (32, 32, 3)
    assert fitted.n_features_in_ == 32 * 32 * 3
    assert {*fitted.history_} == {"stage1", "stage2"}
    assert fitted.transform(images).shape == (42, fitted._fitted.feature_size)
    probabilities = fitted.predict_proba(images)
    np.testing.assert_allclose(fitted.decision_function(images), np.log(probabilities), rtol=1e-6)
    assert np.array_equal(fitted.predict(images), fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(images, labels) == np.mean(fitted.predict(images) == labels)
    assert "resampling" in TwoStageClassifier.__doc__.splitlines()[0]


@pytest.mark.parametrize("form", ["gray", "channel", "list", "pillow"])
def test_forms_of_images(form, fitted, image_set):
    gray = image_set.images[:4, :, :, 0]
    rgb = np.repeat(gray[..., None], 3, axis=-1)
    x = {
        "gray": gray,
        "channel": gray[..., None],
        "list": list(rgb),
        "pillow": [Image.fromarray(own) for own in rgb],
    }[form]
    assert np.array_equal(fitted.predict_proba(x), fitted.predict_proba(rgb))


def test_images_of_another_size_are_fitted_and_said(fitted):
    large = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    with pytest.warns(UserWarning, match="50x40 pixels are fitted to the 32x32 of the model's"):
        found = fitted.predict_proba(large)
    small = inputs.read_images(large, 32)
    assert small.shape == (2, 32, 32, 3)
    assert np.array_equal(found, fitted.predict_proba(small))


@pytest.fixture
def cells(tmp_path, image_set):
    """The images as PNG files in class folders."""
    for name, pixels in zip(image_set.names, image_set.images, strict=True):
        path = tmp_path / "cells" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "cells"


def test_a_folder_files_and_arrays_are_the_same_data(cells, fitted, image_set, labels):
    model = TwoStageClassifier(**SMALL, image_size=32).fit(cells)
    expected = fitted.predict_proba(image_set.images)
    assert np.array_equal(model.predict_proba(image_set.images), expected)
    assert np.array_equal(model.predict_proba(str(cells)), expected)
    files = sorted(cells.rglob("*.png"))
    assert np.array_equal(model.predict_proba([*map(str, files)]), expected)
    assert np.array_equal(model.predict_proba(pd.Series([*map(str, files)])), expected)
    assert model.score(files, labels) == fitted.score(image_set.images, labels)
    with pytest.raises(InputError, match="X is a folder and y is given"):
        clone(model).fit(cells, labels)


def test_verbose_says_a_line_per_epoch(capsys):
    x, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
    TwoStageClassifier(verbose=True, epochs=9, head_epochs=2).fit(x, y)
    assert capsys.readouterr().out.splitlines() == [
        "stage 2: epoch 1 of 2 is done",
        "stage 2: epoch 2 of 2 is done",
    ]


def test_scikit_learns_callbacks_see_every_epoch():
    callback = pytest.importorskip("sklearn.callback")
    told = []

    class Listener:
        def setup(self, estimator, context):
            told.append("setup")

        def on_fit_task_begin(self, estimator, context):
            told.append(f"begin {context.task_name} {context.task_id}")

        def on_fit_task_end(self, estimator, context):
            told.append(f"end {context.task_name} {context.task_id}")

        def teardown(self, estimator, context):
            told.append("teardown")

    assert isinstance(Listener(), callback.FitCallback)
    model = TwoStageClassifier(head_epochs=2).set_callbacks(Listener())
    model.fit(np.eye(8), np.arange(8) % 2)
    epochs = ["begin epoch 0", "end epoch 0", "begin epoch 1", "end epoch 1"]
    assert told == ["setup", "begin fit 0", *epochs, "end fit 0", "teardown"]


# --- Priors ---


def test_a_prior_corrects_what_was_learned(image_set, labels):
    plain = TwoStageClassifier(**SMALL, image_sampler=None, feature_sampler=None)
    plain.fit(image_set.images, labels)
    as_trained = plain.predict_proba(image_set.images)
    counts = np.array([16, 14, 12])
    balanced = plain.set_params(prior="balanced").predict_proba(image_set.images)
    np.testing.assert_allclose(balanced, correct_prior(as_trained, counts), rtol=1e-5)
    same = plain.set_params(prior=counts / 42).predict_proba(image_set.images)
    np.testing.assert_allclose(same, as_trained, rtol=1e-5)
    rare = np.array([[0.5, 0.5]], np.float32)
    found = change_prior(rare, np.array([0.5, 0.5]), np.array([0.9, 0.1]))
    np.testing.assert_allclose(found, [[0.9, 0.1]], rtol=1e-6)
    # The prior excludes a class, and the model is certain of that class: the prior decides.
    found = change_prior(np.array([[0, 1]], np.float32), np.array([0.5, 0.5]), np.array([1.0, 0]))
    assert found.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ("equal", "prior 'equal' found"),
        ([0.5, 0.5], r"shape \(2,\) found; expected one frequency for each of 3"),
        ([0.5, 0.5, 0.5], r"adds up to 1\.5"),
        ([1.5, -0.5, 0], "expected frequencies from 0"),
        ([np.nan, 0, 1], "adds up to nan"),
        (["a", "b", "c"], "expected one frequency per class"),
    ],
)
def test_priors_that_are_none(prior, message, fitted, image_set):
    model = pickle.loads(pickle.dumps(fitted)).set_params(prior=prior)
    with pytest.raises(InputError, match=message):
        model.predict_proba(image_set.images)


# --- Searches ---


@pytest.mark.filterwarnings("error")
def test_a_grid_search_over_features():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], [40, 20])
    x = rng.normal(size=(60, 6)) + 3 * y[:, None] * (np.arange(6) < 2)
    grid = {"feature_sampler": [None, "rus", "smote"], "head_epochs": [2, 30]}
    search = GridSearchCV(
        TwoStageClassifier(random_state=0, learning_rate=1e-3),
        grid,
        scoring="balanced_accuracy",
        cv=2,
        error_score="raise",
    ).fit(x, y)
    assert search.best_score_ > 0.85
    assert balanced_accuracy_score(y, search.predict(x)) > 0.85


@pytest.mark.integration
def test_a_grid_search_over_images(image_set, labels):
    """Also of a nested parameter of a sampler that is given by its name."""
    search = GridSearchCV(
        TwoStageClassifier(**SMALL),
        {"image_sampler__k_neighbors": [1, 3], "feature_sampler": ["rus", None]},
        scoring="balanced_accuracy",
        cv=2,
        error_score="raise",
    ).fit(image_set.images, labels)
    assert search.best_params_.keys() == {"image_sampler__k_neighbors", "feature_sampler"}
    assert isinstance(search.best_estimator_.image_sampler, SMOTE)
    assert set(search.predict(image_set.images)) <= set(labels)


def test_groups_of_cross_validation():
    rng = np.random.default_rng(0)
    scores = cross_val_score(
        TwoStageClassifier(random_state=0, head_epochs=2),
        rng.normal(size=(40, 3)),
        np.arange(40) % 2,
        groups=np.arange(40) // 4,
        cv=GroupKFold(2),
    )
    assert len(scores) == 2


# --- Bad input ---


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"image_sampler": "smot"}, "did you mean smote"),
        ({"feature_sampler": 3}, "feature_sampler is a int"),
        ({"approach": "ts_smot"}, "unknown approach"),
        ({"network": "mobilenet"}, "did you mean mobilenet_v"),
        ({"epochs": 0}, "epochs 0 found"),
        ({"epochs": 2.5}, "epochs '2.5' found, an integer expected"),
        ({"epochs": None}, "epochs 'None' found, an integer expected"),
        ({"learning_rate": "high"}, "learning_rate 'high' found, a number expected"),
        ({"network": 3}, "network '3' found, a text expected"),
        ({"image_size": "96"}, "image_size '96' found, an integer or None expected"),
        ({"head_epochs": -1}, "head_epochs -1 found"),
        ({"batch_size": 0}, "batch_size 0 found"),
        ({"learning_rate": 0.0}, "learning_rate 0.0 found"),
        ({"precision": "float16"}, "did you mean bfloat16"),
        ({"device": "tpu"}, "device 'tpu' asked for, and JAX works on"),
        ({"k_neighbors": 12}, "class class2 has 12 samples"),
        ({"weights": "absent.h5"}, "cannot read the weights file absent.h5"),
        ({"prior": [1.0]}, "one frequency for each of 3"),
        ({"image_size": 16}, "image_size 16 found, 32 or more expected"),
    ],
)
def test_parameters_that_are_not_valid(parameters, message, image_set, labels):
    model = TwoStageClassifier(**SMALL | {"epochs": 1} | parameters)
    with pytest.raises(InputError, match=message) as refused:
        model.fit(image_set.images, labels)
    assert "\n" not in str(refused.value)


def test_data_that_are_not_valid(image_set, labels, tmp_path):
    images = image_set.images
    model = TwoStageClassifier(**SMALL)
    (tmp_path / "empty").mkdir()
    cases = [
        (images, None, "y is missing"),
        (images, labels[:5], "42 samples and 5 labels"),
        (images, np.repeat("a", 42), "one class found"),
        (images, np.array(["a", None] * 21, object), "labels that cannot be told apart found in y"),
        (images / 255, labels, r"dtype float64 found, uint8 .*255 \* X"),
        (images > 100, labels, "dtype bool found, uint8"),
        (images[..., :2], labels, r"shape \(42, 32, 32, 2\) found"),
        ([images[0], images[1][:9]], labels[:2], "arrays of different sizes"),
        ([str(tmp_path / "gone.png")], ["a"], "1 of 1 images cannot be read"),
        (tmp_path / "nowhere", None, "no folder"),
        (tmp_path / "empty", None, "no sub-folders"),
        (np.eye(4), np.zeros(4, int), "one class found"),
    ]
    for x, y, message in cases:
        with pytest.raises(InputError, match=message) as refused:
            model.fit(x, y)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="'is_smote' needs images or a network"):
        TwoStageClassifier(approach="is_smote").fit(np.eye(4), np.arange(4) % 2)
    with pytest.raises(InputError, match="training diverged"):
        TwoStageClassifier(learning_rate=1e30).fit(np.eye(4), np.arange(4) % 2)
    assert not hasattr(model, "classes_"), "nothing of a failed fit is left"


def test_messages_name_the_users_labels_and_the_approach():
    model = TwoStageClassifier(feature_sampler="smote")
    with pytest.raises(InputError, match=r"^TS SMOTE\+SMOTE: class rare has 2 samples"):
        model.fit(np.eye(9), ["often"] * 7 + ["rare"] * 2)


def test_nested_parameters_of_no_sampler_are_one_line():
    with pytest.raises(InputError, match="image_sampler is None; expected a sampler"):
        TwoStageClassifier(image_sampler=None).set_params(image_sampler__k_neighbors=2)
    with pytest.raises(InputError, match="did you mean smote"):
        TwoStageClassifier(image_sampler="smot").set_params(image_sampler__k_neighbors=2)


def test_one_image_is_not_taken_for_many(fitted, image_set):
    for one in (image_set.images[0], Image.fromarray(image_set.images[0])):
        with pytest.raises(InputError, match=r"X is one image; .*a list of it"):
            fitted.predict(one)


def test_more_classes_than_images_per_class_is_one_line():
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    with pytest.raises(InputError, match=r"class a has 1 samples?, SMOTE"):
        TwoStageClassifier(**SMALL).fit(images, list("abcc"))


def test_images_and_features_are_not_mixed_up(fitted, tmp_path):
    with pytest.raises(InputError, match="X holds a table, and the model was fitted on images"):
        fitted.predict(np.eye(4))
    table = TwoStageClassifier(head_epochs=1).fit(np.eye(4), np.arange(4) % 2)
    with pytest.raises(InputError, match="X holds images, and the model was fitted on features"):
        table.predict(np.zeros((2, 32, 32, 3), np.uint8))
    assert not hasattr(table, "transform")
    with pytest.raises(InputError, match="no images in"):
        fitted.predict(tmp_path)
    with pytest.raises(InputError, match=r"no folder .*absent; expected a folder of images"):
        fitted.predict(tmp_path / "absent")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"is a file; .*pass files as a list"):
        fitted.predict(tmp_path / "a.png")


# --- Saved models ---


def test_a_saved_model_is_the_model(fitted, image_set, tmp_path):
    fitted.save(tmp_path / "m")
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["m"], "nothing else is left"
    loaded = TwoStageClassifier.load(tmp_path / "m")
    same = loaded.predict_proba(image_set.images)
    assert np.array_equal(same, fitted.predict_proba(image_set.images))
    assert np.array_equal(loaded.predict(image_set.images), fitted.predict(image_set.images))
    for name in ("classes_", "class_counts_", "image_shape_", "n_features_in_", "history_"):
        assert np.array_equal(getattr(loaded, name), getattr(fitted, name))
    assert loaded.get_params() == fitted.get_params()
    with pytest.raises(InputError, match=r"was loaded from .*clone"):
        loaded.fit(image_set.images, image_set.labels)
    assert np.array_equal(loaded.predict_proba(image_set.images), same)
    again = clone(loaded).fit(image_set.images, np.array(image_set.class_names)[image_set.labels])
    assert np.array_equal(again.predict_proba(image_set.images), same)


@pytest.mark.parametrize("y", [[3, 1, 3, 1], [True, False] * 2, [1.0, 2.0] * 2, ["ä", "=b"] * 2])
def test_labels_survive_saving(y, tmp_path):
    model = TwoStageClassifier(
        head_epochs=1, image_sampler=SMOTE(k_neighbors=2), prior=[0.25, 0.75]
    )
    model.fit(np.eye(4), y).save(tmp_path / "m")
    loaded = TwoStageClassifier.load(tmp_path / "m")
    assert loaded.classes_.dtype.kind == model.classes_.dtype.kind
    assert np.array_equal(loaded.predict(np.eye(4)), model.predict(np.eye(4)))
    assert loaded.image_sampler.k_neighbors == 2
    assert loaded.prior == [0.25, 0.75]


def test_parameters_survive_saving(tmp_path):
    # A grid search sets NumPy's numbers.
    model = TwoStageClassifier(
        head_epochs=np.int64(1),
        learning_rate=np.float32(1e-3),
        image_sampler=SMOTE(sampling_strategy={0: 3}),
        weights=tmp_path / "absent.h5",
        random_state=np.random.RandomState(0),
    )
    model.fit(np.eye(4), [0, 1] * 2).save(tmp_path / "m")
    loaded = TwoStageClassifier.load(tmp_path / "m")
    assert loaded.image_sampler.sampling_strategy == {0: 3}
    assert loaded.weights == str(tmp_path / "absent.h5")
    assert (loaded.head_epochs, loaded.random_state) == (1, None)
    assert np.array_equal(loaded.predict_proba(np.eye(4)), model.predict_proba(np.eye(4)))
    days = np.array(["2020-01-01", "2020-01-02"] * 2, "M8[D]")
    with pytest.raises(InputError, match=r"classes of type date found, .*astype\(str\)"):
        TwoStageClassifier(head_epochs=1).fit(np.eye(4), days).save(tmp_path / "days")


def test_a_model_loads_in_a_process_without_data_or_network(fitted, image_set, tmp_path):
    fitted.save(tmp_path / "m")
    np.save(tmp_path / "x.npy", image_set.images[:3])
    program = (
        "import socket, sys, numpy as np\n"
        "def refuse(*_, **__): raise AssertionError('network')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "import tiny_network\n"
        "from twostage_jax import TwoStageClassifier\n"
        "found = TwoStageClassifier.load('m').predict_proba(np.load('x.npy'))\n"
        "np.save('y.npy', found)\n"
    )
    tests = Path(__file__).parent
    environment = {"PYTHONPATH": f"{tests.parent}:{tests}"}
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    found = np.load(tmp_path / "y.npy")
    np.testing.assert_allclose(found, fitted.predict_proba(image_set.images[:3]), atol=1e-6)


def test_what_is_there_is_not_lost(fitted, tmp_path, monkeypatch):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes").write_text("mine")
    for path in ("notes", "folder"):
        for force in (False, True):
            with pytest.raises(InputError, match="is there and is no model"):
                fitted.save(tmp_path / path, force=force)
    fitted.save(tmp_path / "m")
    before = (tmp_path / "m" / "model.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a model already.*--force"):
        fitted.save(tmp_path / "m")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("twostage_jax.classifier.storage.write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(tmp_path / "m", force=True)
    monkeypatch.undo()
    assert (tmp_path / "m" / "model.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "m", "notes"]
    fitted.save(tmp_path / "m", force=True)
    (tmp_path / "m" / "notes").write_text("mine")
    with pytest.raises(InputError, match=r"holds a model and other files \(notes\)"):
        fitted.save(tmp_path / "m", force=True)


def test_models_of_other_approaches_survive_saving(image_set, labels, tmp_path):
    """One with a cosine classifier, and one whose class frequencies are not known."""
    parameters = SMALL | {"epochs": 1, "image_sampler": None, "feature_sampler": None}
    for name in ("loss_ldam_drw", "head_tau"):
        model = TwoStageClassifier(**parameters, approach=name).fit(image_set.images, labels)
        model.save(tmp_path / name)
        loaded = TwoStageClassifier.load(tmp_path / name)
        found = model.predict_proba(image_set.images)
        assert np.array_equal(loaded.predict_proba(image_set.images), found)
    with pytest.raises(InputError, match=r"not known .* 'head_tau' hold; set prior=None"):
        model.set_params(prior="balanced").predict_proba(image_set.images)


def test_models_of_the_first_format_are_read(fitted, image_set, tmp_path):
    """They have the samples of each class in place of the class frequencies that were learned."""
    fitted.save(tmp_path / "m")
    path = tmp_path / "m" / "model.json"
    fields = json.loads(path.read_text())
    del fields["prior"], fields["cosine_scale"], fields["checksum"]
    fields |= {"format": 1, "trained_counts": [30, 15, 15]}
    arrays = load_file(tmp_path / "m" / "model.safetensors")
    fields["checksum"] = checksum(arrays, json.dumps(fields, sort_keys=True))
    path.write_text(json.dumps(fields))
    loaded = TwoStageClassifier.load(tmp_path / "m")
    found = fitted.predict_proba(image_set.images)
    assert np.array_equal(loaded.predict_proba(image_set.images), found)
    balanced = loaded.set_params(prior="balanced").predict_proba(image_set.images)
    np.testing.assert_allclose(balanced, correct_prior(found, np.array([2, 1, 1])), rtol=1e-5)


@pytest.mark.parametrize("name", ["loss_focal", "head_lws", "head_two_phase"])
def test_approaches_of_networks_are_refused_for_features(name):
    with pytest.raises(InputError, match=f"'{name}' needs images or a network"):
        TwoStageClassifier(approach=name).fit(np.eye(4), [0, 1] * 2)


def test_models_that_are_none_are_refused_in_one_line(fitted, tmp_path):
    fitted.save(tmp_path / "whole")

    def damaged(name: str, change) -> str:
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", folder)
        path = folder / name
        content = change(path.read_bytes())
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            TwoStageClassifier.load(folder)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    def with_field(**fields):
        return lambda content: json.dumps(json.loads(content) | fields).encode()

    json_name, arrays = "model.json", "model.safetensors"
    assert "this version reads 1 to 2" in damaged(json_name, with_field(format=99))
    assert "does not describe a model" in damaged(json_name, with_field(format="x"))
    assert "checksum is another" in damaged(json_name, with_field(classes=["a", "b", "c"]))
    assert "cannot be read" in damaged(json_name, lambda c: c[:99])
    assert "no model in" in damaged(json_name, lambda _: None)
    assert f"has no {arrays}" in damaged(arrays, lambda _: None)
    assert "not a whole model" in damaged(arrays, lambda c: c[:-9])
    flipped = damaged(arrays, lambda c: c[:-5] + bytes([c[-5] ^ 1]) + c[-4:])
    assert "checksum is another" in flipped
    with pytest.raises(InputError, match="no model in"):
        TwoStageClassifier.load(tmp_path / "nowhere")
