"""The study: what it lists, what it writes, and that its records can be recomputed alone."""

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from twostage_jax.data import sources
from twostage_jax.data.image_set import ImageSet
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.exhibit import FEATURES, read_feature_exhibit, read_image_exhibit
from twostage_jax.study.record import (
    RecordKey,
    read_record,
    read_records,
    same_result,
    write_record,
)
from twostage_jax.study.study import GroupDone, Scope, Study
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

ROOT = Path(__file__).parents[1]
EVERYTHING = Scope(
    ("linear", "single_majority", "single_minority", "half_minority"),
    (1.0, 2.0, 5.0, 10.0),
    10,
    tuple(APPROACHES),
)
# Small enough to train in seconds; the study does not care.
PROTOCOL = Protocol(width=0.25, epochs=2, learning_rate=1e-3, k_neighbors=2)
SMALL = Scope(("half_minority",), (5.0,), 1, tuple(APPROACHES))


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return sources.load("synthetic", image_size=32, images_per_class=20)


def blank_images(counts: list[int]) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    return ImageSet.create(
        images=np.zeros((len(labels), 1, 1, 3), np.uint8),
        labels=labels,
        class_names=[f"class{label}" for label in range(len(counts))],
        names=[f"{row:05d}" for row in range(len(labels))],
        source="blank",
    )


@pytest.fixture
def make(tmp_path, images):
    def study(scope=SMALL, image_set=images, output="out", members=1, **changes) -> Study:
        protocol = dataclasses.replace(PROTOCOL, **changes)
        return Study(
            image_set,
            "synthetic",
            protocol,
            None,
            scope,
            output=tmp_path / output,
            checkpoints=tmp_path / "checkpoints",
            members=members,
        )

    return study


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images) -> Study:
    """All nine approaches of one partition, as the others are compared with."""
    folder = tmp_path_factory.mktemp("trained")
    study = Study(
        images,
        "synthetic",
        PROTOCOL,
        None,
        SMALL,
        output=folder / "out",
        checkpoints=folder / "checkpoints",
        members=1,
    )
    study.open("test")
    list(study.run(study.groups))
    return study


def test_the_papers_study_is_490_networks_and_1090_records():
    images = blank_images([625] * 8)
    protocol = Protocol()
    study = Study(
        images,
        "colorectal_histology",
        protocol,
        None,
        EVERYTHING,
        output=Path("unused"),
        checkpoints=Path("unused"),
        members=10,
    )
    assert sum(map(len, study.groups)) == 490
    assert len(study.groups) == 49
    assert len(study.record_keys) == len(set(study.record_keys)) == 1090
    # 31.8 million by DESIGN's count, at 562.5 training images a class.
    assert study.image_passes(study.groups) == pytest.approx(31.8e6, rel=0.005)
    # The members of a group wait for each other: their epochs are about equally long.
    for group in study.groups:
        sizes = [network.images for network in group]
        assert max(sizes) <= min(sizes) + 8


def test_a_partition_that_is_balanced_has_the_baseline_only_and_one_that_is_not_has_all():
    scope = Scope(("linear", "half_minority"), (1.0,), 2, tuple(APPROACHES))
    arguments = {"output": Path("unused"), "checkpoints": Path("unused"), "members": 1}
    balanced = Study(blank_images([40] * 3), "folder", PROTOCOL, None, scope, **arguments)
    assert [(key.scenario, key.approach) for key in balanced.record_keys] == [
        ("original", "baseline")
    ] * 2
    natural = Study(blank_images([90, 30, 20]), "folder", PROTOCOL, None, scope, **arguments)
    assert len(natural.record_keys) == 2 * len(APPROACHES)


def test_a_class_too_small_for_the_neighbours_is_named_before_anything_is_trained(make):
    with pytest.raises(InputError, match=r"class '\w+' keeps 4 training images .* at least 6"):
        make(k_neighbors=5)
    without = dataclasses.replace(SMALL, approaches=("baseline", "is_rus", "fs_ros"))
    assert len(make(without, k_neighbors=5).record_keys) == 3


def test_every_approach_leaves_a_record_and_networks_are_shared(trained, images):
    records = {record.key.approach: record for record in read_records(trained.records)}
    assert set(records) == set(APPROACHES)
    assert len(trained.groups) == 4
    for name, record in records.items():
        partition = trained.partition(trained.groups[0][0].partition)
        assert record.status == "done"
        assert np.array_equal(record.test_index, partition.test)
        assert np.array_equal(record.label, images.labels[partition.test])
        assert np.array_equal(record.kept, partition.kept)
        np.testing.assert_allclose(record.probabilities.sum(1), 1, rtol=1e-5)
        assert record.curve1.shape == (PROTOCOL.epochs, 2)
        assert len(record.curve2) == (PROTOCOL.epochs if APPROACHES[name].two_stages else 0)
        assert record.settings == json.loads(json.dumps(trained.settings))
    # Approaches of one network tell so by its learning curve; their heads differ.
    for one, other in [("baseline", "fs_rus"), ("is_smote", "ts_smote_rus")]:
        assert np.array_equal(records[one].curve1, records[other].curve1)
        assert not np.array_equal(records[one].probabilities, records[other].probabilities)
    assert not np.array_equal(records["is_ros"].curve1, records["is_smote"].curve1)
    assert not list(trained._checkpoints.iterdir()), "checkpoints of a finished group are removed"


def test_records_do_not_depend_on_what_else_is_trained(trained, make):
    """In a larger study, in groups of two: bit for bit."""
    larger = Scope(("linear", "half_minority"), (5.0,), 2, ("fs_rus", "ts_smote_rus", "is_ros"))
    study = make(larger, members=2, output="larger")
    assert [len(group) for group in study.groups] == [2] * 6
    list(study.run(study.groups))
    own = {record.key: record for record in read_records(trained.records)}
    shared = [record for record in read_records(study.records) if record.key in own]
    assert len(shared) == 3
    for record in shared:
        assert same_result(record, own[record.key])


def test_only_what_is_missing_or_failed_is_trained_again(trained, tmp_path):
    damaged = trained.groups[1]
    path = trained.records / damaged[0].record_key("is_rus").path
    before, stamp = (
        path.read_bytes(),
        {p: p.stat().st_mtime_ns for p in trained.records.rglob("*.*")},
    )
    assert trained.pending() == []
    path.unlink()
    assert trained.pending() == [damaged]
    done = [event for event in trained.run(trained.pending()) if isinstance(event, GroupDone)]
    assert [event.group for event in done] == [damaged]
    record = read_record(path)
    assert record.status == "done"
    assert {p for p in stamp if p.stat().st_mtime_ns != stamp[p]} == {path}
    path.write_bytes(before)


def test_the_features_to_show_are_made_once_and_again_only_where_they_are_missing(trained):
    """Of the approach that the paper proposes; finished records are not touched for it."""
    folder, key = trained.output, trained.exhibited
    assert key == RecordKey("half_minority", 5.0, 0, "ts_smote_rus")
    path = folder / FEATURES
    before, records = path.read_bytes(), {p: p.read_bytes() for p in trained.records.rglob("*.*")}
    assert len(records) == 9
    path.unlink()
    (group,) = trained.pending()
    assert "ts_smote_rus" in group[0].approaches
    assert trained.is_recorded(group[0])
    list(trained.run([group]))
    assert trained.pending() == []
    assert path.read_bytes() == before
    assert {p: p.read_bytes() for p in trained.records.rglob("*.*")} == records


def test_the_features_to_show_are_of_the_heads_before_and_after_stage_2(trained, monkeypatch):
    """The heads are known by what they predict, which records hold."""
    trainer, represent, shown = trained._trainer, trained._trainer.represent, []

    def keep(heads, features):
        hidden = represent(heads, features)
        shown.append((trainer.predict(heads, features)[0], hidden[0]))
        return hidden

    monkeypatch.setattr(trainer, "represent", keep)
    (trained.output / FEATURES).unlink()
    list(trained.run(trained.pending()))
    made = read_feature_exhibit(trained.output, trained.settings_hash)
    for (predicted, hidden), name in zip(shown, ("is_smote", "ts_smote_rus"), strict=True):
        path = trained.exhibited.path.with_name(f"{name}.safetensors")
        record = read_record(trained.records / path)
        np.testing.assert_allclose(predicted, record.probabilities, atol=1e-5)
        assert hidden.shape == (len(record.label), 1024)
        assert hidden.min() == 0, "after the ReLU"
        assert np.array_equal(made.label, record.label)
    # Distances in the plane are at most those among all activations.
    for (_, hidden), plane in zip(shown, (made.before, made.after), strict=True):
        flat, whole = (np.linalg.norm(x[0] - x[1:], axis=1) for x in (plane, hidden))
        assert (flat <= whole + 1e-4).all()
        assert flat.max() > 0


def test_the_images_to_show_hold_a_pair_of_the_studys_own_plan(trained, images):
    made = read_image_exhibit(trained.output, trained.settings_hash)
    (network,) = (net for group in trained.groups for net in group if net.sampler == "smote")
    plan = trained.image_plan(network)
    pairs = zip(images.images[plan.base], images.images[plan.neighbor], strict=True)
    assert any(np.array_equal(made.pair, pair) for pair in map(np.stack, pairs))
    assert not np.array_equal(made.pair[0], made.pair[1])
    assert made.samples.shape[:2] == (8, 5)


def test_a_study_without_smote_or_stage_2_shows_what_it_has(make):
    study = make(dataclasses.replace(SMALL, approaches=("baseline", "is_rus")), output="plain")
    study.open("test")
    assert study.exhibited is None
    assert len(read_image_exhibit(study.output, study.settings_hash).pair) == 0


def test_the_folder_says_what_all_commands_are_to_leave(make):
    make(dataclasses.replace(SMALL, approaches=("is_rus",))).open("one")
    second = make(dataclasses.replace(SMALL, approaches=("baseline",), folds=2))
    second.open("other")
    keys = [RecordKey("half_minority", 5.0, *rest) for rest in ((0, "baseline"), (0, "is_rus"))]
    keys.append(RecordKey("half_minority", 5.0, 1, "baseline"))
    assert second.check_folder().records == [key.path.as_posix() for key in sorted(keys)]


def test_a_network_that_diverges_is_recorded_as_failed_and_the_others_go_on(
    trained, tmp_path, make
):
    study = make(output="diverging", learning_rate=1e30)
    events = [event for event in study.run(study.groups) if isinstance(event, GroupDone)]
    assert len(events) == 4
    assert sum(event.failed for event in events) == 9
    records = read_records(study.records)
    assert [record.key for record in records] == study.record_keys
    for record in records:
        assert "the loss of stage 1 is not finite in epoch" in record.reason
    assert len(study.pending()) == 4, "failed records are tried again"


def test_one_diverged_member_does_not_take_its_group_along(make, trained, monkeypatch):
    study = make(dataclasses.replace(SMALL, folds=2, approaches=("is_rus",)), members=2)
    initial = study._trainer._initial_networks

    def poisoned(streams):
        state = initial(streams)
        return jax.tree.map(lambda leaf: leaf.at[1].set(np.nan), state)

    monkeypatch.setattr(study._trainer, "_initial_networks", poisoned)
    (event,) = (e for e in study.run(study.groups) if isinstance(e, GroupDone))
    assert event.failed == 1
    good, bad = read_records(study.records)
    assert same_result(good, read_record(trained.records / good.key.path))
    assert bad.reason == "the loss of stage 1 is not finite in epoch 1"


def test_predictions_that_are_not_finite_are_a_failure(trained):
    """The last step of training may diverge, which no loss shows any more."""
    network, curves = trained.groups[0][0], (np.ones((2, 2), np.float32),) * 2
    probabilities = np.full((99, 8), np.nan, np.float32)
    record = trained._record(network, "fs_rus", probabilities, curves, {}, 1)
    assert (record.status, record.reason) == ("failed", "the predictions are not finite")


def test_nothing_to_train_is_said(make):
    with pytest.raises(InputError, match="nothing to train"):
        make(Scope(("linear",), (1.0,), 1, ("is_rus",)))


def test_a_folder_of_other_settings_is_refused_and_of_another_scope_is_not(make, images):
    make().open("first")
    make(dataclasses.replace(SMALL, folds=2)).open("more folds")
    with pytest.raises(InputError, match=r"epochs is 2 there and 3 here.*--output"):
        make(epochs=3).open("other")
    others = sources.load("synthetic", image_size=32, images_per_class=20, seed=1)
    with pytest.raises(InputError, match="fingerprint is"):
        make(image_set=others).open("other images")
    assert make().check_folder().commands == ["first", "more folds"]


def test_a_description_that_is_damaged_is_refused(make):
    study = make()
    study.open("first")
    (study.output / "study.json").write_text("{")
    with pytest.raises(InputError, match=r"study\.json does not describe a study"):
        study.open("again")


def test_a_damaged_record_is_named(trained):
    path = trained.records / trained.record_keys[0].path
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=path.name):
        trained.pending()
    path.write_bytes(whole)
    assert trained.pending() == []


def test_training_goes_on_from_the_last_epoch(make, trained):
    """A process that dies within a group leaves a checkpoint; its records are then the same."""
    scope = dataclasses.replace(SMALL, approaches=("ts_smote_rus",))
    study = make(scope)
    seen = 0
    for event in study.run(study.groups):
        seen += event.images
        if seen > study.groups[0][0].images:
            break  # in the middle of the second epoch
    assert not study.records.exists()
    resumed = list(make(scope).run(study.groups))
    assert resumed[0].resumed
    assert resumed[0].images == study.groups[0][0].images
    (record,) = read_records(study.records)
    reference = read_record(trained.records / record.key.path)
    assert same_result(record, reference)


def test_device_memory_counts_images_and_members(make, images):
    folds = dataclasses.replace(SMALL, folds=4)
    one, four = make(folds).device_memory(), make(folds, members=4).device_memory()
    assert one > images.images.nbytes
    assert four > one


def test_writing_records_keeps_what_is_there_when_the_disk_is_full(trained, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    record = read_records(trained.records)[0]
    path = trained.records / record.key.path
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(trained.records, record)
    assert path.read_bytes() == before
    assert not [p for p in path.parent.iterdir() if p.name.endswith(".tmp")]


# --- How many at a time, and where ---


@pytest.mark.parametrize(
    ("members", "groups"), [(4, 147), (10, 49), (20, 30), (40, 22), (1000, 16)]
)
def test_groups_have_room_for_whole_cells_of_equal_steps(members, groups):
    """Every network once, none waiting for another by more than a batch."""
    arguments = {"output": Path("unused"), "checkpoints": Path("unused"), "members": members}
    protocol = Protocol()
    study = Study(blank_images([625] * 8), "blank", protocol, None, EVERYTHING, **arguments)
    networks = [network for group in study.groups for network in group]
    assert len(networks) == len({(net.partition, net.sampler) for net in networks}) == 490
    assert max(map(len, study.groups)) <= members
    assert len(study.groups) == groups
    for group in study.groups:
        sizes = [network.images for network in group]
        assert max(sizes) - min(sizes) < protocol.batch_size


def test_a_device_without_memory_gets_half_and_the_others_too(make, monkeypatch):
    """The records are those of groups that fitted from the start."""
    folds = dataclasses.replace(SMALL, folds=3, approaches=("baseline", "is_rus"))
    study = make(folds, members=3)
    train, asked = study._trainer.train_networks, []

    def too_large(plans, *rest):
        asked.append(len(plans))
        if len(plans) > 1:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return train(plans, *rest)

    monkeypatch.setattr(study._trainer, "train_networks", too_large)
    with pytest.warns(UserWarning, match="too little memory for 3 networks .* goes on with 1"):
        done = [event for event in study.run(study.groups) if isinstance(event, GroupDone)]
    assert asked == [3, 1, 1, 1, 1, 1, 1]
    assert len(done) == 6
    alone = make(folds, output="alone")
    list(alone.run(alone.groups))
    assert_same_records(study, alone)


def test_a_device_without_memory_for_one_network_ends_the_study(make, monkeypatch):
    study = make(members=1)

    def too_large(*arguments):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(study._trainer, "train_networks", too_large)
    with pytest.raises(jax.errors.JaxRuntimeError):
        list(study.run(study.groups))


def assert_same_records(study: Study, other: Study) -> None:
    found, expected = read_records(study.records), read_records(other.records)
    assert [record.key for record in found] == [record.key for record in expected]
    assert all(map(same_result, found, expected))


class Accelerator:
    """A device that says how much memory it has."""

    def __init__(self, free: int | None):
        self._free = free

    def memory_stats(self):
        return self._free and {"bytes_limit": self._free + 5, "bytes_in_use": 5}


@pytest.mark.parametrize(
    ("networks", "members"), [(0.5, 2), (1.3, 2), (7.6, 12), (1e9, 80), (None, 20)]
)
def test_as_many_members_as_the_memory_of_two_devices_holds(make, monkeypatch, networks, members):
    """A fifth of it is left for all that is not training, and there is a most."""
    trainer = make()._trainer
    size = 10**6
    images = trainer._images.nbytes
    free = None if networks is None else int(networks * size)
    monkeypatch.setattr(trainer, "device_memory", lambda members: images + size)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator(free)] * 2)
    assert trainer.members_that_fit() == members


def test_a_cpu_trains_a_network_a_device(make):
    assert make(members=None).members == jax.local_device_count() == 1


DEVICES = """
import sys
import jax
every = jax.local_devices()
jax.local_devices = lambda: every[:int(sys.argv[1])]
from experiments.reproduce import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_eight_devices_give_the_records_of_one(tmp_path):
    """Bit for bit. In a process of eight devices, that is: XLA plans a CPU's sums for as many
    threads as there are cores or devices, and another number of threads rounds differently."""
    small = shlex.split(
        "--preset demo --accelerator cpu --images-per-class 20 --image-size 32 --epochs 1 "
        "--folds 3 --ratios 4 --k-neighbors 2 --width 0.125 --approaches baseline fs_rus "
        "--output"
    )
    forced = {"PYTHONPATH": str(ROOT), "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    for devices in ("1", "8"):
        ran = subprocess.run(
            [sys.executable, "-c", DEVICES, devices, *small, str(tmp_path / devices)],
            cwd=tmp_path,
            env=os.environ | forced,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, ran.stderr
    one, eight = (read_records(tmp_path / devices / "records") for devices in ("1", "8"))
    assert [record.key for record in one] == [record.key for record in eight]
    assert len(one) == 6
    assert all(map(same_result, one, eight))
