"""The benchmark of resamplers: what is compared with what, and what the report says of it."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.benchmark_resamplers import __main__ as program
from experiments.benchmark_resamplers import compare, report, worker
from experiments.benchmark_resamplers import data as data_module
from experiments.benchmark_resamplers import work as work_module
from experiments.benchmark_resamplers.cases import (
    STUDY_KEYS,
    Case,
    Engine,
    cases_of,
    engines_of,
    partition_name,
    timed_keys,
)
from experiments.benchmark_resamplers.options import Options, parse
from experiments.benchmarks import formats, memory, processes
from experiments.benchmarks.document import provenance
from twostage_jax.data.image_set import ImageSet
from twostage_jax.study.study import Network, Scope, Study
from twostage_jax.training.protocol import Protocol

OURS = Engine("twostage_jax", ours=True)
THEIRS = Engine("imbalanced-learn", ours=False)
LARGE = Case("large")
IMAGES = Case("images", "linear")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Data of the cases with images and of the large one, as small as they can be."""
    folder = tmp_path_factory.mktemp("benchmark")
    for kind in ("images", "large"):
        data_module.make_data(kind, folder / kind, Options(scale=0.001))
    return folder


@pytest.fixture
def called_once(monkeypatch):
    """Workers in this process do not repeat quick calls."""
    monkeypatch.setattr(worker, "_ENOUGH_CALLS", 1)


@pytest.fixture
def work(data, tmp_path, called_once):
    """Does an engine's turn in this process; gives the measurement and the samples."""

    def work(case: Case, engine: Engine, turn: int = 0):
        kind = "large" if case.kind == "large" else "images"
        job = worker.Job(case, engine, str(data / kind), turn, 0, str(tmp_path / "sample.npz"))
        return worker.measure(job), dict(np.load(job.samples))

    return work


def turn_of(case: Case, engine: Engine, seconds, agreement=None, peak=10**9, stands_for=1):
    if isinstance(seconds, list):
        seconds = {case.title: seconds}
    measurement = worker.Measurement((9, 2), seconds, stands_for, 100, 800, None, peak, None)
    return compare.Turn(case, engine, measurement, agreement)


# What is compared


def test_partitions_and_plans_are_the_studys(data, tmp_path, monkeypatch):
    assert len(STUDY_KEYS) == 120
    keys = [STUDY_KEYS[0], STUDY_KEYS[77]]
    monkeypatch.setattr(work_module, "STUDY_KEYS", keys)
    monkeypatch.setattr(data_module, "STUDY_KEYS", keys)
    x, labels = (np.load(data / "images" / f"{name}.npy") for name in ("x", "labels"))
    images = ImageSet.create(
        images=x,
        labels=labels,
        class_names=list("abcdefgh"),
        names=[f"image {row:03d}" for row in range(len(x))],
        source="",
    )
    scope = Scope(("linear",), (10.0,), 1, ("is_smote",))
    study = Study(
        images, "", Protocol(), None, scope, output=tmp_path, checkpoints=tmp_path, members=1
    )
    rows = data_module.partitions(labels)
    plans = work_module.study_plans(x, labels, rows)
    assert list(plans) == keys
    for key in keys:
        np.testing.assert_array_equal(rows[partition_name(key)], study.partition(key).train)
        expected = study.image_plan(Network(key, "smote", (), 0))
        for name, column in vars(plans[key]).items():
            np.testing.assert_array_equal(column, getattr(expected, name))


def test_six_partitions_a_round_are_spread_and_two_rounds_cover_all_cells():
    rounds = [timed_keys(0), timed_keys(1)]
    assert [len(keys) for keys in rounds] == [6, 6]
    for keys in rounds:
        assert len({key.scenario for key in keys}) == 4
        assert len({key.ratio for key in keys}) == 3
    assert len({(key.scenario, key.ratio) for keys in rounds for key in keys}) == 12


def test_large_classes_are_linear():
    counts = np.bincount(data_module.linear_labels(100_000, np.random.default_rng(0)))
    assert counts.sum() == 100_000
    np.testing.assert_allclose(counts[0] / counts, 1 + 9 / 7 * np.arange(8), rtol=1e-3)


def test_engines_of_other_libraries_and_devices_stand_beside_the_reference():
    for case in cases_of(["images", "plans", "features", "large", "neighbors"]):
        engines = engines_of(case, "gpu", ["faiss"])
        assert [engine.is_reference for engine in engines].count(True) == 1
        assert {engine.platform for engine in engines if engine.ours} == {"cpu", "gpu"}
        assert any(engine.search for engine in engines) == (case.kind != "plans")
        assert len({engine.name for engine in engines}) == len(engines)


# What is measured


def test_each_engine_in_a_process_of_its_own_gives_the_same_smote(data, capsys):
    turns = program.take_turn(
        program.Console(), LARGE, [OURS, THEIRS], data / "large", turn=0, repeats=1
    )
    assert "large, round 1, imbalanced-learn: " in capsys.readouterr().out
    ours, theirs = (turn.measurement for turn in turns)
    assert turns[0].agreement == 1
    assert turns[1].agreement is None
    assert ours.rows == theirs.rows == 8 * 205
    assert ours.result_bytes == theirs.result_bytes == ours.rows * (32 * 4 + 8)
    assert ours.plan_bytes == ours.rows * 32
    assert theirs.plan_bytes is None
    assert len(ours.seconds["large"]) > 1
    assert 0 < ours.peak_bytes < 10**9


def test_an_engine_on_another_device_is_refused(data):
    engine = OURS._replace(platform="abacus")
    job = worker.Job(LARGE, engine, str(data / "large"), 0, 1, str(data / "none.npz"))
    with pytest.raises(RuntimeError, match="abacus expected"):
        worker.measure(job)


@pytest.mark.parametrize(
    ("status", "errors", "reason"),
    [
        (1, "Traceback\njax.errors.JaxRuntimeError: no memory\n-----\nFor simplicity", "no memory"),
        (2, "a warning\nthere is no abacus\n", "there is no abacus"),
        (1, "", "no reason given"),
        (-9, "", "ended by signal 9"),
    ],
)
def test_a_failing_process_says_why(status, errors, reason, data, monkeypatch):
    process = subprocess.CompletedProcess([], status, stdout="", stderr=errors)
    monkeypatch.setattr(processes.subprocess, "run", lambda *args, **options: process)
    job = worker.Job(LARGE, OURS, str(data / "large"), 0, 1, str(data / "none.npz"))
    assert program.run_job(job).endswith(reason)


def test_images_agree_up_to_rounding_and_noise_is_told(work):
    reference = work(IMAGES, THEIRS)[1]
    for dtype in ("uint8", "float32"):
        own = work(IMAGES, OURS._replace(dtype=dtype))[1]
        assert own[IMAGES.title].dtype == dtype
        assert compare.agreement(own, reference) == 1
    broken = work(IMAGES, THEIRS._replace(dtype="uint8"))[1]
    assert compare.agreement(broken, reference) < 0.6


def test_plans_agree_with_each_timed_partition(work):
    ours, samples = work(Case("plans"), OURS._replace(dtype="uint8"))
    assert ours.result_bytes is None
    assert ours.rows == pytest.approx(120 * 8 * 63, rel=0.01)
    theirs, reference = work(Case("plans"), THEIRS, turn=1)
    assert list(reference) == list(theirs.seconds) == [partition_name(key) for key in timed_keys(1)]
    assert [len(times) for times in theirs.seconds.values()] == [1] * 6
    assert theirs.stands_for == 120
    assert theirs.rows == pytest.approx(ours.rows, rel=0.01)
    assert len(samples) == 12
    assert compare.agreement(samples, reference) == 1


def test_memory_of_the_calls_is_counted_and_that_of_the_data_is_not():
    data = np.ones(2**23)
    before = memory.reset_peak()
    assert np.sqrt(data).sum() == len(data)
    assert 0.9 < (memory.resident("VmHWM") - before) / data.nbytes < 1.5


def test_quick_calls_are_repeated_and_slow_ones_are_not():
    assert not worker._enough([0.01], 0)
    assert worker._enough([0.01] * 10, 1)
    assert worker._enough([9.0, 9.0], 1)
    assert not worker._enough([9.0], 1)
    assert worker._enough([9.0], 0)


# What is said of it


def test_agreement_counts_rows():
    rows = np.arange(12.0).reshape(4, 3)
    other = rows.copy()
    other[1, 2] += 1e-3
    assert compare.agreement({"a": rows}, {"a": rows + 1e-6, "b": rows}) == 1
    assert compare.agreement({"a": rows}, {"a": other}) == 0.75
    assert compare.agreement({"a": rows[:3]}, {"a": rows}) == 0
    assert compare.agreement({"a": rows}, {"b": rows}) == 0
    assert compare.agreement({"a": rows.astype(np.uint8)}, {"a": rows + 0.5}) == 1
    assert compare.agreement({"a": rows.astype(np.uint8)}, {"a": rows + 0.6}) == 0
    assert compare.agreement({"a": rows.astype(int)}, {"a": other.astype(int) + 1}) == 0
    assert compare.agreement({"a": rows}, {"a": rows * np.nan}) == 0


def test_lines_take_first_and_later_calls_apart():
    turns = [turn_of(LARGE, OURS, [4.0, 1.0, 2.0], 1.0), turn_of(LARGE, OURS, [6.0, 3.0], 0.5)]
    turns += [turn_of(LARGE, THEIRS, [10.0, 8.0])]
    ours, theirs = compare.summarize(turns)
    assert (ours.first, ours.least, ours.middle) == (5.0, 1.0, 2.0)
    assert (ours.faster_first, ours.faster) == (2.0, 4.0)
    assert ours.agreement == 0.5
    assert (theirs.faster, theirs.agreement) == (1.0, None)


def test_extrapolation_weighs_every_partition_alike():
    case = Case("plans")
    turns = [turn_of(case, OURS, [3.0, 2.0], 1.0)]
    for parts in ({"a": [1.0], "b": [3.0]}, {"a": [2.0], "c": [6.5]}):
        turns.append(turn_of(case, THEIRS, parts, stands_for=120))
    ours, theirs = compare.summarize(turns)
    assert theirs.middle == theirs.first == 120 * (1.5 + 3.0 + 6.5) / 3
    assert theirs.timed == 3
    assert ours.faster == theirs.middle / 2
    said = report.notes([ours, theirs], rounds=2, scale=1)
    assert any("extrapolated to the study's 120 partitions from 3" in line for line in said)


@pytest.mark.parametrize(
    ("case", "seconds", "peaks", "expected"),
    [
        (IMAGES, (1.0, 3.0), (1, 2), [True, True]),
        (IMAGES, (1.0, 2.9), (11, 20), [False, False]),
        (Case("plans"), (1.0, 100.0), (2, 1), [True]),
        (Case("plans"), (1.0, 99.0), (2, 1), [False]),
        (LARGE, (1.0, 1.0), (2, 1), [True]),
        (LARGE, (1.0, 0.9), (2, 1), [False]),
        (Case("neighbors"), (2.0, 1.0), (3_999_999_999, 1), [True]),
        (Case("neighbors"), (1.0, 2.0), (4_000_000_000, 1), [False]),
        (Case("features", "linear"), (9.0, 1.0), (2, 1), []),
    ],
)
def test_targets(case, seconds, peaks, expected):
    turns = [
        turn_of(case, engine, [9.0, time], 1.0, peak)
        for engine, time, peak in zip((OURS, THEIRS), seconds, peaks, strict=True)
    ]
    found = compare.targets(compare.summarize(turns))
    assert [target.passed for target in found] == expected
    assert [line[:4] for line in report.verdicts(found)] == [
        "pass" if passed else "MISS" for passed in expected
    ]


def test_what_failed_is_said_and_reaches_no_target():
    turns = [compare.Turn(IMAGES, OURS, None, failure="out of paper"), turn_of(IMAGES, THEIRS, [1])]
    lines = compare.summarize(turns)
    assert not any(target.passed for target in compare.targets(lines))
    assert compare.disagreements(lines) == ["images, linear: twostage_jax failed: out of paper"]
    document = report.markdown(lines, [], report.notes(lines, 1, 0.5), [])
    assert "twostage_jax failed: out of paper" in document
    assert "A trial at scale 0.5" in document
    assert report.plot(lines[:1]).endswith(b"</svg>\n")


def test_numbers_as_printed():
    assert formats.seconds(0.012345) == "0.0123"
    assert formats.times(1234.5) == "1,230x"
    assert formats.share(0.99999) == "99.9 %"
    assert [formats.size(n) for n in (None, 12, 999_999, 3e9)] == ["-", "12 B", "1,000 kB", "3 GB"]


def test_provenance_names_no_folder_and_no_date():
    command = "python -m experiments.benchmark_resamplers --data-dir ../../a/pbc5000 --output=/o/x"
    origin = provenance(command, {"platform": "cpu", "kind": "cpu"}, 2, report.PACKAGES)
    assert origin[0] == (
        "Command: `python -m experiments.benchmark_resamplers --data-dir pbc5000 --output=x`"
    )
    assert re.search(r"python 3.*, jax \d.*, imbalanced-learn \d", origin[1])
    assert origin[2].startswith("Machine: 2 cores of ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cases", "imagse"],
        ["--scale", "0"],
        ["--scale", "1.5"],
        ["--rounds", "0"],
        ["--repeats", "-1"],
        ["--queries", "0"],
        ["--dataset", "mnist"],
        ["--accelerator", "abacus"],
        ["--cases"],
    ],
)
def test_bad_options_end_with_status_2(arguments, capsys):
    assert program.main(arguments) == 2
    assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)


@pytest.fixture
def in_process(monkeypatch, called_once):
    """Workers run in this process, which has imported everything."""

    def run_job(job: worker.Job) -> worker.Measurement:
        measurement = worker.measure(job)
        # As it comes from another process.
        return worker.Measurement(**dataclasses.asdict(measurement))

    monkeypatch.setattr(program, "run_job", run_job)
    monkeypatch.setattr(program, "installed_searches", list)
    monkeypatch.setattr(program, "find_device", lambda name: {"platform": "cpu", "kind": name})


def test_a_run_writes_table_csv_and_plot(in_process, tmp_path, capsys):
    arguments = ["--cases", "neighbors", "large", "--scale", "0.001", "--rounds", "2"]
    assert program.main([*arguments, "--output", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "pass  neighbors: less than 4 GB" in shown
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "resamplers.csv",
        "resamplers.md",
        "resamplers.svg",
    }
    table = pd.read_csv(tmp_path / "out" / "resamplers.csv")
    assert table["case"].tolist() == ["large", "large", "neighbors", "neighbors"]
    assert table["agreement"].dropna().tolist() == [1, 1]
    document = (tmp_path / "out" / "resamplers.md").read_text()
    assert "| neighbors | 500 x 32 | twostage_jax |" in document
    assert "- neighbors: 500 of the 500 rows ask." in document
    assert "scikit-learn" in (tmp_path / "out" / "resamplers.svg").read_text()
    assert "--output out`" in document
    assert str(tmp_path) not in document


def test_a_broken_engine_ends_with_status_1(in_process, tmp_path, monkeypatch, capsys):
    measure = program.run_job

    def broken(job: worker.Job) -> worker.Measurement:
        result = measure(job)
        if job.engine.ours:
            rows = dict(np.load(job.samples))
            rows["neighbors"][7, 0] += 1
            np.savez(job.samples, **rows)
        return result

    monkeypatch.setattr(program, "run_job", broken)
    monkeypatch.setattr(report, "plot", lambda lines: b"")
    arguments = ["--cases", "neighbors", "--scale", "0.001", "--rounds", "1"]
    assert program.main([*arguments, "--output", str(tmp_path)]) == 1
    assert "of the rows of twostage_jax only 99.8 % are the reference's" in capsys.readouterr().out


def test_options_are_the_documented_ones():
    options = parse(["--cases", "plans", "images", "--queries", "7"])
    assert options.cases == ("plans", "images")
    assert options.queries == 7
    assert cases_of(options.cases)[-1] == Case("plans")
