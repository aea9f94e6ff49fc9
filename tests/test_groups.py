"""Groups of images that stay together: how they are named, and how they are dealt to folds."""

import csv
import dataclasses
import hashlib
import shlex

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from experiments import options as command_line
from experiments import reproduce
from twostage_jax.data.folds import Splitting, deal_folds, most_splits
from twostage_jax.data.groups import parse_groups, read_groups
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import ORIGINAL, PartitionKey, Partitions
from twostage_jax.evaluation import paper
from twostage_jax.study.approaches import find
from twostage_jax.study.folder import read_description, read_records
from twostage_jax.study.jobs import Scope
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol, complete_settings


def image_set(labels, names=None, pixels=None) -> ImageSet:
    labels = np.sort(np.asarray(labels))
    classes = int(labels.max()) + 1
    return ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8) if pixels is None else pixels,
        labels=labels,
        class_names=[f"class{label}" for label in range(classes)],
        names=names or [f"class{own}/{row:05d}.png" for row, own in enumerate(labels)],
        source="test",
    )


NAMES = ("cat/a/p1_0.png", "cat/b/p2_0.png", "cat/p1_1.png", "dog/a/p1_0.png", "dog/p3_0.png")


@pytest.fixture
def five() -> ImageSet:
    return ImageSet.create(
        images=np.zeros((5, 1, 1, 3), np.uint8),
        labels=np.array([0, 0, 0, 1, 1]),
        class_names=["cat", "dog"],
        names=NAMES,
        source="test",
    )


@pytest.fixture
def write(tmp_path):
    """Writes the rows of a CSV file; gives its path as text."""

    def write(*rows, header=("filename", "group")) -> str:
        path = tmp_path / "groups.csv"
        with path.open("w", newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            csv.writer(file).writerows([header, *rows])
        return str(path)

    return write


def test_the_first_group_of_an_expression_is_the_id_or_the_whole_match(five):
    assert read_groups(r"p(\d)", five) == ("1", "2", "1", "1", "3")
    assert read_groups(r"p\d", five) == ("p1", "p2", "p1", "p1", "p3")


def test_names_in_a_file_are_whole_or_below_the_class_or_bare(five, write, tmp_path):
    rows = [("cat/a/p1_0.png", "x"), ("b/p2_0.png", "y"), ("p1_1.png", " z "), ("no/such.png", "?")]
    spec = write(*rows, ("dog/a/p1_0.png", "x"), ("p3_0.png", "y"))
    assert read_groups(spec, five) == ("x", "y", "z", "x", "y")
    other = tmp_path / "groups.txt"  # an existing file needs no suffix
    other.write_bytes((tmp_path / "groups.csv").read_bytes())
    assert read_groups(str(other), five) == ("x", "y", "z", "x", "y")


def test_names_that_are_not_utf8_are_found(five, write):
    names = [*NAMES[:4], "dog/caf\udce9.png"]
    image_set = dataclasses.replace(five, names=tuple(names))
    spec = write(*[(name, f"\udce9{row}") for row, name in enumerate(names)])
    groups = read_groups(spec, image_set)
    assert groups == tuple(f"\udce9{row}" for row in range(5))
    assert len(Splitting(2, groups).to_settings()["groups"]) == 64


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("p(", r"neither a file nor a regular expression \(missing \)"),
        (r"cat/.*p(\d)", r"no id in the names of 2 of 5 images: dog/a/p1_0.png, dog/p3_0.png"),
        (r"dog/(\d)?", "no id in the names of 5 of 5"),  # a group that takes no part in the match
        ("x*", "no id in the names of 5 of 5"),
        ("nowhere/groups.csv", "no such file; expected a CSV file with the columns"),
        ("~nouser/groups.csv", "no home folder of ~nouser"),
        ("a\0.csv", "NUL character"),
    ],
)
def test_a_bad_expression_or_path_is_one_line(five, spec, message):
    with pytest.raises(InputError, match=message) as caught:
        read_groups(spec, five)
    assert "\n" not in str(caught.value)


ALL = [(name, "g") for name in NAMES]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        (ALL, ("file", "group"), r"lacks the column filename \(its first line has: file, group\)"),
        (ALL, ("a;b",), r"lacks the columns filename and group"),
        (ALL[:3], None, r"lacks 2 of 5 images: dog/a/p1_0.png, dog/p3_0.png; expected a row"),
        ([*ALL, ("p1_0.png", "g")], None, r"'p1_0.png' may be cat/a/p1_0.png, dog/a/p1_0.png"),
        ([*ALL, ("a/p1_0.png", "g")], None, r"'a/p1_0.png' may be"),
        ([*ALL, ("p3_0.png", "h")], None, r"dog/p3_0.png is in the groups 'g' and 'h'"),
        ([*ALL, ("p3_0.png", "")], None, r"has no group for 1 of 6 files: p3_0.png"),
        ([*ALL, ("p3_0.png",)], None, r"has no group for 1 of 6 files"),
    ],
)
def test_a_bad_file_is_one_line(five, write, rows, header, message):
    spec = write(*rows, header=header or ("filename", "group"))
    with pytest.raises(InputError, match=message) as caught:
        read_groups(spec, five)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_csv_is_one_line(five, tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b'filename,group\n"a,b\n')
    with pytest.raises(InputError, match="is not a CSV file"):
        read_groups(str(path), five)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="first line has: nothing"):
        read_groups(str(path), five)


@st.composite
def grouped(draw) -> tuple[list[int], tuple[str, ...]]:
    """Labels of all classes in ascending order, and the groups of the images."""
    classes, groups = draw(st.integers(2, 4)), draw(st.integers(2, 12))
    more = draw(st.lists(st.integers(0, classes - 1), min_size=12, max_size=50))
    labels = sorted([*range(classes), *more])
    chosen = st.lists(st.integers(0, groups - 1), min_size=len(labels), max_size=len(labels))
    return labels, tuple(f"p{own}" for own in draw(chosen))


@given(grouped(), st.integers(2, 5), st.integers(0, 3))
@settings(max_examples=60)
def test_grouped_folds_keep_groups_together_and_every_class_on_both_sides(case, splits, seed):
    images, groups = image_set(case[0]), case[1]
    try:
        folds = deal_folds(images, seed, Splitting(splits, groups))
    except InputError:
        return
    ids = np.array(groups)
    for fold in range(splits):
        train, test = folds != fold, folds == fold
        assert not set(ids[train]) & set(ids[test])
        for side in (train, test):
            assert set(images.labels[side]) == set(range(images.num_classes))
    made = Partitions(images, seed, Splitting(splits, groups))
    tests = [made.make(PartitionKey(ORIGINAL, 1.0, fold)).test for fold in range(splits)]
    assert sorted(np.concatenate(tests)) == list(range(len(images)))
    with pytest.raises(InputError, match=f"fold {splits} found, 0 to {splits - 1} expected"):
        made.make(PartitionKey(ORIGINAL, 1.0, splits))


@given(grouped(), st.integers(2, 7), st.booleans())
@settings(max_examples=40)
def test_most_splits_is_the_largest_number_that_works(case, wanted, by_group):
    images, groups = image_set(case[0]), case[1] if by_group else None

    def works(splits: int) -> bool:
        try:
            deal_folds(images, 0, Splitting(splits, groups))
        except InputError:
            return False
        return True

    possible = [splits for splits in range(2, wanted + 1) if works(splits)]
    if not possible:
        with pytest.raises(InputError):
            most_splits(images, groups, seed=0, wanted=wanted)
        return
    assert most_splits(images, groups, seed=0, wanted=wanted) == max(possible)


@pytest.mark.parametrize(
    ("labels", "groups", "splits", "message"),
    [
        ([0] * 9 + [1] * 9, None, 10, "class 'class0' has 9 images, at least 10 expected, one per "
         "fold; add images or remove the class$"),
        ([0] * 9 + [1] * 3, None, 5, "class 'class1' has 3 images, .*; lower --splits, add"),
        ([0, 0, 1], None, 2, "class 'class1' has 1 image, at least 2 expected, .*; add images"),
        ([0] * 9 + [1] * 9, "abcabcabc" * 2, 4, "3 groups found, at least 4 expected"),
        ([0] * 9 + [1] * 9, "abcabcabc" + "d" * 9, 3, "'d' holds all images of class 'class1'"),
        ([0] * 9 + [1] * 9, "abcabcabc" + "abbabaaaa", 3, "class 'class1' has images in 2 groups, "
         "at least 3 expected, one per fold; lower --splits, add images of other groups"),
        ([0] * 9 + [1] * 9, "ab", 2, "2 groups for 18 images"),
    ],
)  # fmt: skip
def test_folds_that_cannot_be_are_refused(labels, groups, splits, message):
    splitting = Splitting(splits, groups and tuple(groups))
    with pytest.raises(InputError, match=message) as caught:
        deal_folds(image_set(labels), 0, splitting)
    assert "\n" not in str(caught.value)


def test_groups_that_leave_a_fold_without_a_class_are_refused():
    """Two classes in four groups each, but the large one of each class also holds the other's."""
    rng = np.random.default_rng(0)
    found = set()
    for _ in range(200):
        labels = np.sort(rng.integers(0, 3, 24))
        groups = tuple(map(str, rng.integers(0, 6, 24)))
        try:
            deal_folds(image_set(labels), 0, Splitting(4, groups))
        except InputError as error:
            found.add(str(error).partition(" would ")[2])
    assert any(text.startswith("have no image of class 'class") for text in found)
    assert any("lower --splits, choose another --seed" in text for text in found)


def test_fewer_than_two_splits_are_refused():
    with pytest.raises(InputError, match="--splits 1 found, 2 or more expected"):
        Splitting(1)


def test_settings_name_only_what_differs_from_the_papers():
    assert Splitting().to_settings() == {}
    assert Splitting(5).to_settings() == {"splits": 5}
    digest = hashlib.sha256()
    for text in (b"a", b"bc"):
        digest.update(len(text).to_bytes(8, "little") + text)
    assert Splitting(groups=("a", "bc")).to_settings() == {"groups": digest.hexdigest()}
    assert complete_settings({"epochs": 3})["splits"] == 10
    assert complete_settings({"epochs": 3})["groups"] == "none"
    own = Splitting(5, ("a", "b")).to_settings()
    for splitting in (Splitting(5, ("b", "a")), Splitting(5, ("ab", "")), Splitting(4, ("a", "b"))):
        assert splitting.to_settings() != own


def tinted() -> tuple[ImageSet, tuple[str, ...]]:
    """Each of 12 groups has its own tint. Half of its labels are its own, the others are random.

    A tint tells nothing of the labels in other groups.
    """
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(12), 32)
    its_own, random = rng.permutation(12)[group] % 4, rng.integers(0, 4, len(group))
    label = np.where(np.arange(len(group)) % 2, its_own, random)
    cube = np.stack(np.meshgrid(*[[20, 128, 235]] * 3), -1).reshape(-1, 3)
    noise = rng.integers(-20, 21, (len(group), 32, 32, 3))
    pixels = (rng.permutation(cube)[group][:, None, None] + noise).clip(0, 255).astype(np.uint8)
    named = zip(label, group, strict=True)
    names = [f"class{own}/patient{its:02d}_{row:04d}.png" for row, (own, its) in enumerate(named)]
    order = sorted(range(len(names)), key=names.__getitem__)
    images = image_set(label, [names[row] for row in order], pixels[order])
    return images, read_groups(r"patient(\d+)", images)


def test_random_splits_score_a_tint_and_groups_do_not():
    """A classifier that sees the mean color alone: chance is 1 in 4."""
    images, groups = tinted()
    color = images.images.mean((1, 2))
    scores = {}
    for splitting in (Splitting(4), Splitting(4, groups)):
        made = Partitions(images, 0, splitting)
        predicted = np.empty(len(images), int)
        for fold in range(4):
            partition = made.make(PartitionKey(ORIGINAL, 1.0, fold))
            model = KNeighborsClassifier(9).fit(
                color[partition.train], images.labels[partition.train]
            )
            predicted[partition.test] = model.predict(color[partition.test])
        scores[splitting.groups] = balanced_accuracy_score(images.labels, predicted)
    assert scores[None] > 0.5
    assert abs(scores[groups] - 0.25) < 0.08


def study_of(images, folder, splitting, epochs=1) -> Study:
    protocol = Protocol(
        width=0.25, epochs=epochs, batch_size=16, learning_rate=2e-3, bn_momentum=0.9
    )
    return Study(
        images,
        "tinted",
        protocol,
        None,
        Scope(("half_minority",), (1.0,), splitting.splits, (find("baseline"),)),
        output=folder / "out",
        checkpoints=folder / "checkpoints",
        splitting=splitting,
    )


@pytest.mark.slow
def test_a_study_scores_a_tint_in_random_splits_and_not_in_groups(tmp_path):
    images, groups = tinted()
    scores = {}
    for name, splitting in {"random": Splitting(3), "groups": Splitting(3, groups)}.items():
        study = study_of(images, tmp_path / name, splitting, epochs=24)
        study.open("test")
        assert len(list(study.run(study.groups(1)))) == 3
        records = read_records(study.folder.records)
        label = np.concatenate([record.label for record in records])
        predicted = np.concatenate([record.probabilities.argmax(1) for record in records])
        scores[name] = balanced_accuracy_score(label, predicted)
    assert scores["random"] > 0.4
    assert scores["groups"] < 0.33


def test_a_studys_folder_holds_its_splits_and_groups_and_refuses_others(tmp_path):
    images, groups = tinted()
    study = study_of(images, tmp_path, Splitting(3, groups))
    study.open("test")
    (written,) = [read_description(study.folder.path)]
    assert written is not None
    assert written.settings["splits"] == 3
    assert written.settings["groups"] == Splitting(3, groups).all_settings["groups"]
    assert {network.partition.fold for network in study.networks} == {0, 1, 2}
    with pytest.raises(InputError, match="splits is 3 there and 4 here"):
        study_of(images, tmp_path, Splitting(4, groups)).open("other")
    with pytest.raises(InputError, match=r"groups is '[0-9a-f]{64}' there and 'none' here"):
        study_of(images, tmp_path, Splitting(3)).open("other")
    usual = study_of(images, tmp_path / "usual", Splitting())
    assert not usual.settings.keys() & {"splits", "groups"}


def test_a_description_with_other_types_is_refused(tmp_path):
    study = study_of(tinted()[0], tmp_path, Splitting(3))
    study.open("test")
    text = study.folder.description.read_text()
    study.folder.description.write_text(text.replace('"splits": 3', '"splits": "3"'))
    with pytest.raises(InputError, match="its setting splits is '3'"):
        study.open("again")


@pytest.mark.parametrize("settings", [{"splits": 5}, {"groups": "0" * 64}])
def test_other_folds_are_not_the_papers(settings):
    why = paper.why_not_comparable(settings, [625] * 8, [], "imbalanced")
    assert why is not None
    assert "the folds" in why
    why = paper.why_not_comparable({}, [625] * 8, [], "imbalanced")
    assert why is not None
    assert "the folds" not in why


def test_reproduce_deals_by_group(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "--preset demo --images-per-class 30 --weights random --approaches baseline --groups "
    arguments = [*shlex.split(small), r"(\d\d)$"]
    options = command_line.parse(arguments, "demo")
    study = reproduce.make_study(options)
    names = np.array([name[-2:] for name in study.image_set.names])
    partition = study.plans.partition(PartitionKey(ORIGINAL, 1.0, 9))
    assert not set(names[partition.train]) & set(names[partition.test])
    assert len(study.settings["groups"]) == 64
    with pytest.raises(InputError, match="regular expression"):
        command_line.parse([*arguments[:-1], "("], "demo")
    assert parse_groups("x").pattern == "x"
