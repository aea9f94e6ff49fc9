"""The benchmark of resamplers: what is compared with what, and what is said of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.benchmark_resamplers import __main__ as program
from experiments.benchmark_resamplers import data as data_module
from experiments.benchmark_resamplers import report
from experiments.benchmark_resamplers import work as work_module
from experiments.benchmark_resamplers.data import STUDY
from experiments.benchmark_resamplers.report import Turn
from experiments.benchmark_resamplers.work import Job
from experiments.benchmarks import options
from experiments.benchmarks.turns import Answer, WorkerError, one_line
from twostage_jax import SMOTE

pytestmark = pytest.mark.integration

OURS, THEIRS = Job("large", "", True), Job("large", "", False)
IMAGES = Job("images", "linear", True, "uint8")
PLANS = Job("plans", "", True, "uint8")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Data of the cases, as small as they can be."""
    folder = tmp_path_factory.mktemp("benchmark")
    for kind in ("images", "large"):
        data_module.make_data(kind, folder / kind, dataset="digits", data_dir=None, scale=0.001)
    return folder


class InProcess:
    """A worker without a process."""

    def __init__(self, make, *arguments):
        self.make = lambda: make(*arguments)
        self.subject = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, method, *arguments):
        try:
            self.subject = self.subject or self.make()
            return Answer(getattr(self.subject, method)(*arguments), 1000)
        except Exception as error:
            raise WorkerError(one_line(error)) from error


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setattr(program, "Worker", InProcess)
    monkeypatch.setattr(options, "run_once", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(program, "_ENOUGH_CALLS", 2)


def test_plans_are_those_of_the_sampler_on_the_studys_partitions(data):
    assert len(STUDY) == 120
    x, labels = (np.load(data / "images" / f"{name}.npy") for name in ("x", "labels"))
    names = ["linear-2-0", "single_majority-10-9"]
    rows = {name: np.load(data / "images" / f"{name}.npy") for name in names}
    plans = work_module.study_plans(x, labels, rows)
    for name, own in rows.items():
        sampler = SMOTE(random_state=work_module.smote_seed(name))
        balanced, y = sampler.fit_resample(x[own], labels[own])
        np.testing.assert_array_equal(plans[name].materialize(x), balanced)
        np.testing.assert_array_equal(plans[name].label, y)


def test_a_job_on_another_device_fails_in_a_line(data, in_process):
    turn = program.take_turn(OURS._replace(platform="abacus"), data / "large", 0)
    assert turn.failure == "RuntimeError: JAX runs on cpu, abacus expected"
    frame = report.summarize([turn, Turn(THEIRS, [[1.0]], {"large": np.eye(2)}, (9,))])
    assert report.list_wrong(frame) == [f"large: {turn.job.engine}: {turn.failure}"]
    said = report.notes(frame, 1, 0.5)
    assert f"large: {turn.job.engine} failed: {turn.failure}." in said
    assert said[-1] == "This is a trial with data at scale 0.5."


def test_images_agree_up_to_rounding_and_noise_is_told(data, in_process):
    theirs = IMAGES._replace(ours=False, dtype="float32")
    jobs = (theirs, IMAGES, IMAGES._replace(dtype="float32"), theirs._replace(dtype="uint8"))
    reference, *others = (program.take_turn(job, data / "images", 0).samples for job in jobs)
    shares = [report.agreement(samples, reference) for samples in others]
    assert shares[:2] == [1, 1]
    assert shares[2] < 0.6


def test_plans_agree_with_each_timed_partition(data, in_process):
    ours = program.take_turn(PLANS, data / "images", 1)
    theirs = program.take_turn(PLANS._replace(ours=False, dtype="float32"), data / "images", 1)
    assert [len(times) for times in theirs.seconds] == [1] * 6
    assert theirs.samples.keys() < ours.samples.keys()
    assert report.agreement(ours.samples, theirs.samples) == 1


def test_agreement_counts_rows():
    rows = np.arange(12.0).reshape(4, 3)
    other = rows.copy()
    other[1, 2] += 1e-3
    assert report.agreement({"a": rows}, {"a": rows + 1e-6, "b": rows}) == 1
    assert report.agreement({"a": rows}, {"a": other}) == 0.75
    assert report.agreement({"a": rows[:3]}, {"a": rows}) == 0
    assert report.agreement({"a": rows.astype(np.uint8)}, {"a": rows + 0.5}) == 1
    assert report.agreement({"a": rows.astype(np.uint8)}, {"a": rows + 0.6}) == 0


def test_first_and_later_calls_are_told_apart():
    same, half = {"large": np.eye(2)}, {"large": np.array([[1.0, 0], [1, 1]])}
    turns = [
        Turn(OURS, [[4.0, 1.0, 2.0]], same, (9, 2), 5),
        Turn(OURS, [[6.0, 3.0]], half, (9, 2), 7),
        Turn(THEIRS, [[10.0, 8.0]], same, (9, 2), 9),
    ]
    frame = report.summarize(turns)
    assert frame.loc[0, ["first", "least", "median", "peak_bytes"]].tolist() == [5, 1, 2, 7]
    assert frame.loc[0, ["times_first", "times_median", "agreement"]].tolist() == [2, 4, 0.5]
    assert frame.times_median[1] == 1
    assert report.list_wrong(frame) == ["large: twostage_jax, float32: 50 % of the rows agree"]
    assert "reference" in report.table(frame)


def test_the_whole_is_extrapolated_from_parts():
    theirs = PLANS._replace(ours=False, dtype="float32")
    turns = [Turn(PLANS, [[3.0, 2.0]], {"a": np.eye(2)}, (9, 2))]
    turns += [Turn(theirs, [[1.0], [3.0]], {"a": np.eye(2)}, (9, 2))]
    turns += [Turn(theirs, [[2.0], [6.0]], {"b": np.eye(2)}, (9, 2))]
    frame = report.summarize(turns)
    assert frame.loc[1, ["first", "least", "median", "parts"]].tolist() == [360, 360, 360, 4]
    assert frame.times_median[0] == 180
    assert frame.agreement[0] == 1
    assert any("extrapolated to the study's 120" in note for note in report.notes(frame, 2, 1))


@pytest.mark.parametrize("broken", [False, True])
def test_a_run_writes_table_and_csv(broken, in_process, tmp_path, monkeypatch, capsys):
    arguments = ["--cases", "large", "--scale", "0.001", "--accelerator", "cpu"]
    if broken:
        make = work_module.make_sampler
        monkeypatch.setattr(work_module, "make_sampler", lambda job, seed: make(job, job.ours))
    assert program.main([*arguments, "--output", str(tmp_path / "out")]) == broken
    assert ("of the rows agree" in capsys.readouterr().out) is broken
    frame = pd.read_csv(tmp_path / "out" / "resamplers.csv")
    assert frame["case"].tolist() == ["large", "large"]
    text = (tmp_path / "out" / "resamplers.md").read_text()
    assert "--output out`" in text
    assert str(tmp_path) not in text


def test_every_sampler_of_both_libraries_is_compared(tmp_path, in_process, monkeypatch):
    monkeypatch.setattr(work_module, "COMPARED", ["AllKNN", "SMOTETomek", "RandomOverSampler"])
    arguments = ["--cases", "samplers", "--scale", "0.05", "--accelerator", "cpu"]
    assert program.main([*arguments, "--rounds", "1", "--output", str(tmp_path / "out")]) == 0
    frame = pd.read_csv(tmp_path / "out" / "resamplers.csv")
    names = ["AllKNN", "SMOTETomek", "RandomOverSampler"]
    assert frame["case"].tolist() == [f"samplers, {name}" for name in names for _ in range(2)]
    assert (frame[frame.ours]["agreement"] == 1).all()
