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
from records import same_result
from rich.console import Console
from textures import textures
from tiny_network import TINY

from twostage_jax.commands.studies import plan_work
from twostage_jax.data.image_set import ImageSet
from twostage_jax.study import jobs
from twostage_jax.study.approaches import PAPER, find
from twostage_jax.study.figure_data import FigureFeatures, FigureImages, read_figure_data
from twostage_jax.study.folder import read_record, read_records, record_path, write_record
from twostage_jax.study.jobs import Scope
from twostage_jax.study.record import RecordKey
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
NINE = tuple(map(find, PAPER))
# Small enough to train in seconds; the study does not care.
PROTOCOL = Protocol(network=TINY, epochs=2, learning_rate=1e-3, k_neighbors=2)
SMALL = Scope(("half_minority",), (5.0,), 1, NINE)


def only(*names: str, scope: Scope = SMALL, **changes) -> Scope:
    """The small scope with some approaches only."""
    return dataclasses.replace(scope, approaches=tuple(map(find, names)), **changes)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return textures()


def make_study(folder, image_set, scope=SMALL, output="out", **changes) -> Study:
    return Study(
        image_set,
        "textures",
        dataclasses.replace(PROTOCOL, **changes),
        None,
        scope,
        output=folder / output,
        checkpoints=folder / "checkpoints",
    )


@pytest.fixture
def make(tmp_path, images):
    def study(scope=SMALL, image_set=images, **options) -> Study:
        return make_study(tmp_path, image_set, scope, **options)

    return study


def train(study: Study, members: int = 1, progress=lambda _: None):
    return list(study.run(study.groups(members), progress))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images) -> Study:
    """All nine approaches of one partition, as the others are compared with."""
    study = make_study(tmp_path_factory.mktemp("trained"), images)
    study.open("test")
    train(study)
    return study


def test_every_approach_leaves_a_record_and_networks_are_shared(trained, images, tmp_path):
    records = {record.key.approach: record for record in read_records(trained.folder.records)}
    assert set(records) == set(PAPER)
    assert len(trained.networks) == 4
    partition = trained.plans.partition(trained.networks[0].partition)
    for name, record in records.items():
        assert record.status == "done"
        assert np.array_equal(record.test_index, partition.test)
        assert np.array_equal(record.label, images.labels[partition.test])
        assert np.array_equal(record.kept, partition.kept)
        np.testing.assert_allclose(record.probabilities.sum(1), 1, rtol=1e-5)
        assert record.curve1.shape == (PROTOCOL.epochs, 2)
        assert len(record.curve2) == (PROTOCOL.epochs if find(name).stage2 else 0)
        assert record.settings == json.loads(json.dumps(trained.settings))
    # Approaches that share a network have its learning curve in common; their heads differ.
    for one, other in [("baseline", "fs_rus"), ("is_smote", "ts_smote_rus")]:
        assert np.array_equal(records[one].curve1, records[other].curve1)
        assert not np.array_equal(records[one].probabilities, records[other].probabilities)
    assert not np.array_equal(records["is_ros"].curve1, records["is_smote"].curve1)
    checkpoints = trained.folder.path.parent / "checkpoints"
    assert not list(checkpoints.iterdir()), "checkpoints of a finished group are removed"


def test_records_do_not_depend_on_what_else_is_trained(trained, make):
    """In a larger study, in groups of two: bit for bit."""
    larger = only("fs_rus", "ts_smote_rus", "is_ros", "fs_tomek", "is_enn", folds=2)
    study = make(larger, output="larger")
    train(study, members=2)
    own = {record.key: record for record in read_records(trained.folder.records)}
    shared = [record for record in read_records(study.folder.records) if record.key in own]
    assert len(shared) == 3
    for record in shared:
        assert same_result(record, own[record.key])


def test_only_what_is_missing_or_failed_is_trained_again(trained):
    groups, folder = trained.groups(1), trained.folder
    assert jobs.pending(groups, folder) == []
    damaged = groups[1]
    path = folder.record(damaged[0].key(find("is_rus")))
    before = path.read_bytes()
    stamp = {other: other.stat().st_mtime_ns for other in folder.records.rglob("*.*")}
    path.unlink()
    assert jobs.pending(groups, folder) == [damaged]
    done = list(trained.run(jobs.pending(groups, folder)))
    assert [event.group for event in done] == [damaged]
    assert read_record(path).status == "done"
    assert {other for other in stamp if other.stat().st_mtime_ns != stamp[other]} == {path}
    path.write_bytes(before)


def test_what_a_report_shows_never_makes_a_finished_group_train_again(trained):
    """But the features that it shows are kept whenever their group is trained."""
    groups, folder = trained.groups(1), trained.folder
    key = jobs.shown_record(trained.networks)
    assert key == RecordKey("half_minority", 5.0, 0, "ts_smote_rus")
    before = folder.features.read_bytes()
    folder.features.unlink()
    assert jobs.pending(groups, folder) == []
    record = folder.record(key).read_bytes()
    folder.record(key).unlink()
    list(trained.run(jobs.pending(groups, folder)))
    assert folder.features.read_bytes() == before
    assert same_result(read_record(folder.record(key)), _record_of(record, folder.path))


def _record_of(data: bytes, folder: Path):
    path = folder / "copy.safetensors"
    path.write_bytes(data)
    record = read_record(path)
    path.unlink()
    return record


def test_the_features_to_show_are_of_the_partition_and_both_stages(trained):
    key = jobs.shown_record(trained.networks)
    hash_ = trained.check_folder().settings_hash
    made = read_figure_data(FigureFeatures, trained.folder.path, hash_)
    record = read_record(trained.folder.record(key))
    assert made.key == key
    assert np.array_equal(made.label, record.label)
    assert np.array_equal(made.kept, record.kept)
    assert made.before.shape == made.after.shape == (len(record.label), 2)
    assert not np.array_equal(made.before, made.after)


def test_the_images_to_show_hold_a_pair_of_the_studys_own_plan(trained, images):
    made = read_figure_data(FigureImages, trained.folder.path, trained.check_folder().settings_hash)
    (network,) = (net for net in trained.networks if net.stage1.sampler == "smote")
    plan = trained.plans.of_images(network.partition, network.stage1)
    pairs = zip(images.images[plan.base], images.images[plan.neighbor], strict=True)
    assert any(np.array_equal(made.pair, pair) for pair in map(np.stack, pairs))
    assert not np.array_equal(made.pair[0], made.pair[1])
    assert made.samples.shape[:2] == (8, 5)


def test_a_study_without_smote_or_stage_2_shows_what_it_has(make):
    study = make(only("baseline", "is_rus"), output="plain")
    study.open("test")
    assert jobs.shown_record(study.networks) is None
    images = read_figure_data(FigureImages, study.folder.path, study.check_folder().settings_hash)
    assert len(images.pair) == 0


def test_the_folder_says_what_all_commands_are_to_leave(make):
    make(only("is_rus")).open("one")
    second = make(only("baseline", folds=2))
    second.open("other")
    keys = [RecordKey("half_minority", 5.0, *rest) for rest in ((0, "baseline"), (0, "is_rus"))]
    keys.append(RecordKey("half_minority", 5.0, 1, "baseline"))
    description = second.check_folder()
    assert description.records == [record_path(key).as_posix() for key in sorted(keys)]
    assert description.commands == ["one", "other"]
    assert description.recipes == {name: find(name) for name in ("baseline", "is_rus")}


def test_a_network_that_diverges_is_recorded_as_failed_and_the_others_go_on(make):
    study = make(output="diverging", learning_rate=1e30)
    events = train(study)
    assert len(events) == 4
    assert sum(event.failed for event in events) == 9
    records = read_records(study.folder.records)
    assert [record.key for record in records] == jobs.record_keys(study.networks)
    for record in records:
        assert "the loss of stage 1 is not finite in epoch" in record.reason
    assert len(jobs.pending(study.groups(1), study.folder)) == 4, "failed ones are tried again"


def test_a_folder_of_other_settings_is_refused_and_of_another_scope_is_not(make, images):
    make().open("first")
    make(dataclasses.replace(SMALL, folds=2)).open("more folds")
    with pytest.raises(InputError, match=r"epochs is 2 there and 3 here.*--output"):
        make(epochs=3).open("other")
    with pytest.raises(InputError, match=r"network is 'tiny' there and 'mobilenet_v2'"):
        make(network="mobilenet_v2").open("other")
    with pytest.raises(InputError, match=r"images changed: as many in each class, with other pix"):
        make(image_set=textures(seed=1)).open("other images")
    fewer = textures(images_per_class=11)
    with pytest.raises(InputError, match=r"images changed: 20 images of \w+ there and 11 here"):
        make(image_set=fewer).open("fewer images")
    assert make().check_folder().commands == ["first", "more folds"]


def test_a_setting_that_an_old_folder_lacks_means_the_default_of_its_day(make):
    """The study resumes there, and its records bear the settings of that folder."""
    scope = only("is_rus")
    study = make(scope)
    study.open("first")
    path = study.folder.description
    fields = json.loads(path.read_text())
    assert not {"head_epochs", "splits", "groups"} & fields["settings"].keys()
    del fields["settings"]["epsilon_in_root"], fields["format"], fields["approaches"]
    path.write_text(json.dumps(fields))
    resumed = make(scope)
    resumed.open("second")
    train(resumed)
    (record,) = read_records(resumed.folder.records)
    assert record.settings == fields["settings"]
    assert record.settings_hash == resumed.check_folder().settings_hash
    with pytest.raises(InputError, match="epsilon_in_root is False there and True here"):
        make(scope, epsilon_in_root=True).open("other")


def test_a_folder_of_a_newer_version_is_refused(make):
    study = make()
    study.open("first")
    fields = json.loads(study.folder.description.read_text())
    study.folder.description.write_text(json.dumps(fields | {"format": 99}))
    with pytest.raises(InputError, match=r"study\.json has the format 99, this version reads 1 to"):
        study.open("again")


def test_a_description_that_is_damaged_is_refused(make):
    study = make()
    study.open("first")
    study.folder.description.write_text("{")
    with pytest.raises(InputError, match=r"study\.json does not describe a study"):
        study.open("again")


def test_a_damaged_record_is_named(trained):
    path = trained.folder.record(jobs.record_keys(trained.networks)[0])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=path.name):
        jobs.pending(trained.groups(1), trained.folder)
    path.write_bytes(whole)
    assert jobs.pending(trained.groups(1), trained.folder) == []


class DiedError(Exception):
    """Stands for a process that dies."""


def test_training_resumes_from_the_last_epoch(make, trained):
    """A process that dies within a group leaves a checkpoint; its records are then the same."""
    scope = only("ts_smote_rus")
    study = make(scope)
    (network,) = study.networks
    seen = []

    def die_in_the_second_epoch(advance):
        seen.append(advance.images)
        if sum(seen) > network.images:
            raise DiedError

    with pytest.raises(DiedError):
        train(study, progress=die_in_the_second_epoch)
    assert not study.folder.records.exists()
    resumed = []
    train(make(scope), progress=resumed.append)
    assert resumed[0].resumed
    assert resumed[0].images == network.images
    (record,) = read_records(study.folder.records)
    assert same_result(record, read_record(trained.folder.record(record.key)))


class StoppedEngine:
    """An engine that is interrupted in its first group, which has a checkpoint."""

    def members(self, networks: int) -> int:
        raise AssertionError("nobody is to be asked")

    def device_memory(self, members: int) -> int | None:
        return None

    def run(self, task, groups, claims, progress):
        self.checkpoints = claims.take(groups[0]).checkpoints
        self.checkpoints.mkdir(parents=True)
        raise DiedError
        yield


def test_a_study_that_resumes_keeps_the_number_of_members_of_what_is_in_flight(make):
    """On other devices an engine suggests another number."""
    study, scope = make(only("baseline", folds=7)), only("baseline", folds=7)
    assert [len(group) for group in study.groups(3)] == [3, 3, 1]
    assert study.members(5) == 5
    study.open("test")
    with pytest.raises(DiedError):
        list(study.run(study.groups(3), engine=StoppedEngine()))
    assert make(scope).members(5) == 3
    assert make(scope).members(1) == 3
    assert make(scope, output="other").members(5) == 5


def test_an_engine_is_told_a_path_of_checkpoints_that_holds_in_any_working_directory(
    images, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    engine = StoppedEngine()
    study = make_study(Path(), images)
    with pytest.raises(DiedError):
        list(study.run(study.groups(1), engine=engine))
    assert engine.checkpoints.parent == tmp_path / "checkpoints"


def test_a_finished_study_asks_no_engine(trained):
    work = plan_work(Console(quiet=True), trained, StoppedEngine(), None)
    assert work.waiting == []
    assert len(work.groups) == 4


def test_writing_records_keeps_what_is_there_when_the_disk_is_full(trained, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    record = read_records(trained.folder.records)[0]
    path = trained.folder.record(record.key)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(trained.folder.records, record)
    assert path.read_bytes() == before
    assert not [other for other in path.parent.iterdir() if other.name.endswith(".tmp")]


def test_device_memory_counts_images_and_members(trained, images):
    one, four = map(trained.trainer.device_memory, (1, 4))
    assert one > images.images.nbytes
    assert four > one


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
    """Bit for bit, in processes of eight devices: XLA plans a CPU's sums for as many threads as
    there are cores or devices, and another number of threads rounds differently."""
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
    trainer = make().trainer
    size = 10**6
    images = make().image_set.images.nbytes
    free = None if networks is None else int(networks * size)
    monkeypatch.setattr(trainer, "device_memory", lambda members: images + size)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "local_devices", lambda: [Accelerator(free)] * 2)
    assert trainer.members_that_fit() == members


def test_a_cpu_trains_one_network_per_device(make):
    assert make().trainer.members_that_fit() == jax.local_device_count() == 1
