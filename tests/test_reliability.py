"""Trials of reliability: kills, damaged bytes, full disks, two commands at once, odd options."""

import errno
import glob
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from records import same_result
from report_study import TINY, make_record, write_study

from experiments import options as command_line
from experiments.reproduce import main
from twostage_jax.models.backbones import load_weights
from twostage_jax.study.folder import (
    StudyFolder,
    read_description,
    read_record,
    read_records,
    write_record,
)
from twostage_jax.support import files
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import FileLock, read_note, remove_temporary, write_atomically
from twostage_jax.training.checkpoints import Checkpoints

ROOT = Path(__file__).parents[1]
BASE = shlex.split(
    "--preset demo --accelerator cpu --image-size 32 --images-per-class 40 --ratios 4 --epochs 3 "
    "--folds 2 --width 0.1 --k-neighbors 3"
)


def start(folder: Path, *more: str, output: str = "out", **environment) -> subprocess.Popen:
    """A study in a process of its own, which writes into files in `folder`."""
    command = [sys.executable, "-m", "experiments.reproduce", *BASE, "--output", output, *more]
    with open(folder / f"{output}.log", "a") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def wait_for(pattern: str, process: subprocess.Popen) -> None:
    """Waits until there is a file, or the process has ended."""
    while process.poll() is None:
        if glob.glob(pattern, include_hidden=True, recursive=True):
            return
        time.sleep(0.01)


# --- Damaged bytes ---


def flip(path: Path, rng: random.Random) -> None:
    """Changes one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def saved_state() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "state": rng.normal(size=(2, 25_000)).astype(np.float32),
        "curves": np.ones((2, 3, 2), np.float32),
        "seconds": np.asarray(1.5),
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "group"
    with Checkpoints(folder) as kept:
        kept.save(2, saved_state())
    return folder


def restore(folder: Path, like=None, epochs=3):
    """What is restored, and the warnings."""
    blank = {name: np.zeros_like(array) for name, array in saved_state().items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Checkpoints(folder) as kept:
            epoch, found = kept.restore(like or blank, epochs)
    return epoch, found, [str(item.message) for item in caught if "discard" in str(item.message)]


def test_a_whole_checkpoint_is_restored_bit_for_bit(checkpoint):
    epoch, found, said = restore(checkpoint)
    assert (epoch, said) == (2, [])
    for name, array in saved_state().items():
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("damage", ["shape", "dtype", "epoch", "renamed", "names"])
def test_a_checkpoint_that_does_not_match_is_discarded(damage, checkpoint, tmp_path):
    folder = tmp_path / "group"
    shutil.copytree(checkpoint, folder)
    like, epochs = saved_state(), 3
    if damage == "shape":
        like["state"] = np.zeros((2, 24_000), np.float32)
    elif damage == "dtype":
        like["state"] = like["state"].astype(np.float16)
    elif damage == "names":
        like["more"] = np.zeros(3)
    elif damage == "renamed":
        (folder / "2").rename(folder / "3")
    else:
        epochs = 1
    epoch, found, said = restore(folder, like, epochs)
    assert epoch == 0
    assert found is like
    assert len(said) == 1
    assert "trained anew" in said[0]
    with Checkpoints(folder) as kept:  # it is usable again
        kept.save(1, saved_state())
    assert restore(folder)[0] == 1


def test_late_reports_to_a_failed_save_print_nothing(tmp_path, monkeypatch):
    """TensorStore's threads may report to its event loop long after a save has failed."""
    heard = []
    monkeypatch.setattr(sys, "unraisablehook", heard.append)
    late = SimpleNamespace(exc_value=RuntimeError("Event loop is closed"))
    other = SimpleNamespace(exc_value=RuntimeError("another"))

    def refuse(*_, **__):
        raise ValueError("the disk is full")

    with Checkpoints(tmp_path / "group") as kept:
        kept.save(1, saved_state())
        assert sys.unraisablehook == heard.append, "it is put back"
        monkeypatch.setattr(kept._manager, "save", refuse)
        with pytest.raises(OSError, match="the disk is full"):
            kept.save(2, saved_state())
    for unraisable in (late, other):
        sys.unraisablehook(unraisable)
    assert heard == [other]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("trials", [8, pytest.param(160, marks=pytest.mark.slow)])
def test_no_flipped_bit_of_a_checkpoint_is_restored(trials, checkpoint, tmp_path):
    rng, noticed = random.Random(0), 0
    for trial in range(trials):
        folder = tmp_path / str(trial)
        shutil.copytree(checkpoint, folder)
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
        flip(max(files, key=os.path.getsize) if trial % 2 else rng.choice(files), rng)
        epoch, found, _ = restore(folder)
        noticed += epoch == 0
        for name, array in saved_state().items():
            assert epoch == 0 or found[name].tobytes() == array.tobytes(), folder
    assert noticed >= trials // 4


@pytest.mark.parametrize("trials", [40, pytest.param(160, marks=pytest.mark.slow)])
def test_no_flipped_bit_of_a_record_is_read(trials, tmp_path):
    whole = make_record(TINY[0])
    rng, refused = random.Random(0), 0
    for _ in range(trials):
        path = write_record(tmp_path, whole)
        flip(path, rng)
        try:
            assert same_result(read_record(path), whole)
        except InputError as error:
            refused += str(path) in str(error)
    assert refused >= 0.9 * trials


def test_a_record_that_cannot_be_opened_is_not_called_missing(tmp_path):
    (tmp_path / "x.safetensors").mkdir()
    with pytest.raises(IsADirectoryError):
        read_record(tmp_path / "x.safetensors")


# --- Descriptions ---

WRONG = (5, [5], {"a": 5}, "text", None, True, 1.5)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "name",
    ["settings", "class_counts", "source", "commands", "records", "approaches", "format"],
)
def test_a_field_of_a_wrong_type_is_one_line(name, tmp_path):
    folder = StudyFolder(write_study(tmp_path / "s", TINY, []))
    whole = json.loads(folder.description.read_text())
    right = {"source": ["text"], "settings": [{"a": 5}], "class_counts": [[5]]}
    for value in WRONG:
        if value in right.get(name, []):
            continue
        folder.description.write_text(json.dumps(whole | {name: value}))
        with pytest.raises(InputError, match=r"study\.json") as refused:
            read_description(folder.path)
        assert "\n" not in str(refused.value)


def test_deep_nesting_is_one_line(tmp_path):
    (tmp_path / "study.json").write_text('{"settings": ' + "[" * 100_000 + "]" * 100_000 + "}")
    with pytest.raises(InputError, match=r"study\.json does not describe a study"):
        read_description(tmp_path)


# --- Files and locks ---


def test_only_own_temporary_files_of_dead_processes_are_removed(tmp_path):
    write_atomically(tmp_path / "study.json", b"{}")
    own = tmp_path / f".study.json.{'a' * 32}.tmp"
    live = tmp_path / f".study.json.{'b' * 32}.tmp"
    link = tmp_path / f".study.json.{'c' * 32}.tmp"
    foreign = tmp_path / ".notes.tmp"
    target = tmp_path / "target"
    for path in (own, live, foreign, target):
        path.write_bytes(b"half")
        os.utime(path, (1, 1))
    link.symlink_to(target)
    lock = FileLock(live)
    assert lock.take()
    os.utime(live, (1, 1))
    remove_temporary(tmp_path)
    assert not own.exists()
    assert all(path.exists() for path in (live, foreign, target, link))
    lock.release()


def test_a_lock_is_held_once_and_named(tmp_path):
    first, second = (FileLock(tmp_path / "a.lock", {"study": "s"}) for _ in range(2))
    assert first.take()
    assert not second.take()
    note = read_note(tmp_path / "a.lock")
    assert note["process"] == os.getpid()
    assert note["study"] == "s"
    first.release(remove=True)
    assert second.take()
    second.release(remove=True)
    assert not (tmp_path / "a.lock").exists()


# --- Options and weights ---


@pytest.mark.parametrize(
    "option",
    [
        "--batch-size 1000000000",
        "--batch-size 100000000000000000000",
        "--epochs 1000000000000",
        "--width 1e308",
        "--width 1e9",
        "--image-size 1000000",
        "--learning-rate 1e300",
        "--epsilon 1e-300",
        "--members 10000000000000",
        "--k-neighbors 100000000000000000000",
        "--images-per-class 10000000000",
        "--ratios 1e300",
    ],
)
def test_options_beyond_all_bounds_are_one_line(option):
    with pytest.raises(InputError, match=r"found, .* expected") as refused:
        command_line.parse(option.split(), "demo")
    assert "\n" not in str(refused.value)


def test_an_hdf5_file_that_claims_terabytes_is_refused(tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["conv1"]
        group = file.create_group("conv1")
        group.attrs["weight_names"] = ["conv1/kernel"]
        group.create_dataset("conv1/kernel", (10**12,), np.float32, chunks=(1024,))
    with pytest.raises(InputError, match="claims the shape"):
        load_weights("mobilenet_v1", str(path), 0.25, tmp_path)


@pytest.mark.parametrize(
    ("group", "named"), [("model_weights/c", "whole model"), ("layers/c/vars", "Keras 3")]
)
def test_other_layouts_of_keras_are_named(group, named, tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file[f"{group}/0"] = np.zeros(3, np.float32)
    with pytest.raises(InputError, match=named):
        load_weights("mobilenet_v1", str(path), 0.25, tmp_path)


# --- Processes ---

EARLY = """
import sys
sys.argv = ["-m"]
import experiments, os, signal, time
os.kill(os.getpid(), {number})
time.sleep(20)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_of_imports_is_one_line(number):
    ended = subprocess.run(
        [sys.executable, "-c", EARLY.format(number=int(number))],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 130
    assert ended.stderr.strip() == "interrupted"


def test_a_system_without_resource_limits_is_one_line():
    """Stands for Windows."""
    program = "import sys; sys.modules['resource'] = None; import experiments.reproduce"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert re.fullmatch(r"error: .*Windows.*\n", ended.stderr)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The folder of an uninterrupted study, and of its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    assert start(folder).wait(timeout=600) == 0
    return folder


def assert_ends_as(folder: Path, whole: Path) -> None:
    """The same command ends with the same records and leaves nothing else."""
    process = start(folder)
    assert process.wait(timeout=600) == 0, (folder / "out.log").read_text()
    one, other = (read_records(root / "out" / "records") for root in (folder, whole))
    assert len(one) == len(other) == 18
    assert all(map(same_result, one, other))
    files = [
        sorted(path.relative_to(root) for path in (root / "out").rglob("*"))
        for root in (folder, whole)
    ]
    assert files[0] == files[1]
    assert not list((folder / "checkpoints" / "training").iterdir())
    assert "Traceback" not in (folder / "out.log").read_text()


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("seed", range(9))
def test_kills_at_any_moment_lose_nothing(seed, whole, tmp_path):
    """Each trial kills five times: at a random moment, or when a file of some kind appears."""
    rng = random.Random(seed)
    patterns = [
        "out/study.json",
        "out/.*.tmp",
        "out/**/.*.tmp",
        "out/**/*.safetensors",
        "out/report/*",
        "checkpoints/training/*.lock",
        "checkpoints/training/*/*/*",
    ]
    for _ in range(5):
        process = start(tmp_path)
        pattern = rng.choice([*patterns, None])
        if pattern is None:
            time.sleep(rng.uniform(0, 15))
        else:
            wait_for(f"{tmp_path}/{pattern}", process)
            time.sleep(rng.choice([0, 0, rng.uniform(0, 4)]))
        process.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))
        process.wait(timeout=60)
    assert_ends_as(tmp_path, whole)


class FullDisk(io.FileIO):
    """A file that takes no byte."""

    def write(self, _):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize(
    "place",
    ["out/.study", "exhibits/.images", "baseline", "tables.md", "out/.table2", "report/.index"],
)
def test_a_disk_that_is_full_at_any_place_loses_nothing(
    place, whole, tmp_path, monkeypatch, capsys
):
    """Checkpoints have a test of their own, in which the system refuses them."""
    monkeypatch.chdir(tmp_path)
    arguments = [*BASE, "--output", "out"]
    refused = []

    def opened(path, mode):
        if mode != "xb" or place not in str(path):
            return open(path, mode)
        refused.append(path)
        return FullDisk(path, mode)

    with monkeypatch.context() as patch:
        patch.setattr(files, "open", opened, raising=False)
        status = main(arguments)
    told = capsys.readouterr()
    assert refused
    lines = [line for line in (told.out + told.err).splitlines() if "No space left" in line]
    assert len(lines) == 1
    assert "Traceback" not in told.err
    if place.startswith("report"):  # what it shows is safe in the records
        assert status == 0
        assert "no report: " in lines[0]
    else:
        assert status == 2
        assert re.match(
            r"error: out/.*: No space left.*the same command resumes the study", lines[0]
        )
    assert_ends_as(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.integration
def test_two_commands_at_once_share_the_work(whole, tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    assert [process.wait(timeout=900) for process in both] == [0, 0]
    assert "process" in (tmp_path / "out.log").read_text()
    assert_ends_as(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.integration
def test_interrupts_end_at_once_with_130(whole, tmp_path):
    for seconds, number in [(1, 2), (6, 15), (9, 2), (14, 15)]:
        process = start(tmp_path)
        time.sleep(seconds)
        if process.poll() is None:
            process.send_signal(number)
            assert process.wait(timeout=15) == 130
    assert_ends_as(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.integration
def test_a_removed_output_folder_is_status_1_and_other_settings_are_refused(whole, tmp_path):
    process = start(tmp_path)
    wait_for(f"{tmp_path}/out/records/**/*.safetensors", process)
    shutil.rmtree(tmp_path / "out")
    assert process.wait(timeout=600) == 1, (tmp_path / "out.log").read_text()
    assert_ends_as(tmp_path, whole)
    before = (tmp_path / "out" / "table2.csv").read_bytes()
    (tmp_path / "out" / "study.json").unlink()
    assert start(tmp_path, "--seed", "7").wait(timeout=300) == 2
    log = (tmp_path / "out.log").read_text().splitlines()[-1]
    assert re.match(r"error: .*\.safetensors is a record of other settings .*seed is 0 there", log)
    assert not (tmp_path / "out" / "study.json").exists()
    assert (tmp_path / "out" / "table2.csv").read_bytes() == before
