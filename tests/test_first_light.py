"""First light: how steps run, end and are done again; what its own checks find."""

import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import tyro

from experiments import options as reproduce
from experiments import parity
from experiments.benchmark_resamplers import __main__ as resamplers
from experiments.benchmark_training import cases
from experiments.first_light import agreement, bounds, figures, machine, neighbors, program, summary
from experiments.first_light.__main__ import main
from experiments.first_light.children import GRACE, Ended, run_child
from experiments.first_light.options import Options
from experiments.first_light.steps import STEPS, Step
from twostage_jax.models.forms import Forms, fastest_forms

pytestmark = pytest.mark.integration


def runs(folder: Path) -> str:
    """How often a fake step ran; its main figure."""
    path = folder / "runs.txt"
    return str(path.read_text().count("run")) if path.exists() else ""


def fake(name: str, how: str = "passes", **changes) -> Step:
    command = f"tests.fake_step {{folder}} {how}"
    return Step(name, f"What {name} is for", 100, command, **{"figure": runs} | changes)


@pytest.fixture
def run(tmp_path):
    """Runs fake steps in one folder; gives the status and the rows."""

    def run(*steps: Step, minutes: float = 60):
        names = tuple(step.name for step in steps)
        options = Options(output=tmp_path, steps=names, minutes=minutes)
        first_light = program.FirstLight(options, steps, ["Where"])
        status = first_light.run()
        assert summary.read(tmp_path) == first_light.rows
        return status, list(first_light.rows.values())

    return run


# --- Steps ---


def test_one_step_that_ends_badly_does_not_end_the_others(run, tmp_path):
    how = ("fails", "refuses", "lacks", "dies", "passes")
    status, rows = run(*(fake(name, name) for name in how))
    assert status == 1
    assert [(row.result, row.why) for row in rows] == [
        ("failed", "status 1: a last line"),
        ("not possible here", "no such device"),
        (
            "not possible here",
            "the package no_such_package is missing; pip install -e '.[test]'",
        ),
        ("failed", "ended by signal 9: began"),
        ("passed", ""),
    ]
    assert {row.figure for row in rows} == {"1"}
    assert (tmp_path / "fails" / "output.txt").read_text() == "began\na last line\n"
    text = (tmp_path / "summary.md").read_text()
    assert "| [fails](fails)" in text
    assert "What dies is for" in text
    assert str(tmp_path) not in text


def test_the_same_command_does_what_has_not_passed(run):
    steps = fake("a"), fake("b", "fails"), fake("c", reads="b"), fake("d")
    run(*steps)
    status, rows = run(*steps)
    assert [row.figure for row in rows] == ["1", "2", "2", "1"]
    assert status == 1
    status, rows = run(fake("a"), fake("b"), fake("c", reads="b"), fake("d", "passes --again"))
    assert [row.figure for row in rows] == ["1", "3", "3", "2"]
    assert status == 0


def test_nothing_else_is_tried_on_a_machine_that_is_none(run):
    status, rows = run(fake("machine", "refuses", vital=True, figure=lambda folder: ""), fake("b"))
    assert status == 1
    assert rows[1].result == summary.IMPOSSIBLE
    assert rows[1].why == "the step machine found nothing"
    assert rows[1].figure == ""


def test_a_step_is_not_started_with_too_little_time(run):
    status, (row,) = run(fake("a"), minutes=(GRACE + 30) / 60)
    assert status == 1
    assert row.result == "out of time"
    assert row.why.endswith("s were left, 100 s expected")
    assert row.figure == ""


def test_what_is_left_over_is_for_the_next_steps():
    assert program.deadlines([10, 20, 30], 60) == [10, 30, 60]
    assert program.deadlines([10, 20, 30], 120) == [20, 60, 120]
    assert program.deadlines([10, 20, 30], 25) == [10, 25, 25]
    assert program.deadlines([], 25) == []


def test_an_interruption_keeps_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(program, "STEPS", [fake("a"), fake("b"), fake("c")])
    ended = iter([Ended(0, 1.0, ""), Ended(130, 2.0, "interrupted")])

    def run_child(command, log, *_):
        log.parent.mkdir()
        log.touch()
        return next(ended)

    monkeypatch.setattr(program, "run_child", run_child)
    monkeypatch.setattr(Options, "checked", lambda self: self)
    assert main(["--output", str(tmp_path), "--steps", "a", "b", "c"]) == 130
    assert "the same command does the steps that have not passed" in capsys.readouterr().err
    rows = summary.read(tmp_path)
    assert {name: row.result for name, row in rows.items()} == {"a": "passed", "b": "interrupted"}


def test_a_process_ends_in_time_and_leaves_none_behind(tmp_path):
    command = [sys.executable, "-m", "tests.fake_step", str(tmp_path)]
    ended = run_child([*command, "hangs"], tmp_path / "log", limit=0.5)
    assert ended.cause == "late"
    assert ended.status == -signal.SIGTERM  # it was asked to end before it was killed
    ended = run_child([*command, "leaves"], tmp_path / "log", limit=600)
    assert ended[::2] == (0, "")
    left = int((tmp_path / "log").read_text().split()[-1])
    while psutil.pid_exists(left) and psutil.Process(left).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)  # without end where the process lives on


# --- The command lines ---


def refused(arguments: str, capsys) -> str:
    assert main(shlex.split(arguments)) == 2
    return capsys.readouterr().err


def test_bad_options_are_one_line(capsys, tmp_path, monkeypatch):
    assert "unknown step 'trainin'; did you mean training" in refused("--steps trainin", capsys)
    assert "--minutes 0 found" in refused("--minutes 0", capsys)
    assert "--data-dir /no/where does not exist" in refused("--data-dir /no/where", capsys)
    (tmp_path / "summary.csv").write_text("a,b\n1,2\n")
    assert "is no summary of this program" in refused(f"--output {tmp_path}", capsys)
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert "error: the package tyro is missing; pip install" in refused("", capsys)


PARSERS = {
    "experiments.first_light.machine": machine.Options,
    "experiments.first_light.agreement": agreement.Options,
    "experiments.first_light.bounds": bounds.Options,
    "experiments.first_light.neighbors": neighbors.Options,
    "experiments.benchmark_training": cases.Options,
    "experiments.benchmark_resamplers": resamplers.Options,
    "experiments.parity": parity.Options,
    "experiments.reproduce": None,
    "pytest": None,
}


@pytest.mark.parametrize("size", ["small", "paper"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_commands_are_understood(step, size, tmp_path):
    options = Options(size=size, output=tmp_path, data_dir=Path("a b"), accelerator="cpu")
    _, _, module, *arguments = step.arguments(options)
    if module == "pytest":
        tests = [Path(word) for word in arguments if word.startswith("tests/")]
        assert all(path.exists() for path in tests)
    elif module == "experiments.reproduce":
        chosen = reproduce.parse(arguments, size.replace("small", "demo"))
        assert chosen.output == tmp_path / "study"
        assert chosen.data_dir == Path("a b")
        assert len(chosen.ratios) == chosen.folds == 1
    else:
        chosen = tyro.cli(PARSERS[module], args=arguments)
        assert chosen.output == tmp_path / step.name
        assert chosen.accelerator == "cpu"


# --- What it says ---


def test_measured_rates_are_set_beside_the_bounds():
    forecast = pd.DataFrame(
        [
            ("h100", "float32", "stage1", "10", 200, 80, 40_000.0, "width 1, 150 px, more"),
            ("h100", "float32", "stage1", "20", 210, 80, 42_000.0, "width 1, 150 px, more"),
            ("h100", "float32", "heads", "10", 9, 1, 1e6, "width 1, 150 px, more"),
            ("v5e", "float32", "stage1", "10", None, 80, 1_500.0, "width 1, 150 px, more"),
            ("h100", "bfloat16", "stage1", "10", 220, 45, None, "width 1, 150 px, more"),
        ],
        columns=[
            *("target", "precision", "program", "members", "kernels_per_step", "MB_per_image"),
            *("images_per_second_bound", "setting"),
        ],
    )
    training = pd.DataFrame(
        [
            ("training", 1.0, 150, "twostage_jax", "float32", 10, 30_000.0),
            ("ablation", 1.0, 150, "twostage_jax", "float32", 20, 30_000.0),
            ("training", 0.25, 150, "twostage_jax", "float32", 20, 90_000.0),
            ("training", 1.0, 150, "twostage_jax", "bfloat16", 10, None),
            ("training", 1.0, 150, "PyTorch", "float32", 10, 9_000.0),
        ],
        columns=["task", "width", "pixels", "library", "precision", "members", "best"],
    )
    found = bounds.compare(forecast, training, "h100")
    assert found[["precision", "members", "bound", "measured", "share"]].values.tolist() == [
        ["float32", 10, 40_000, 30_000, 0.75]
    ]
    without = forecast.drop(columns="setting")  # the user says that it fits
    assert bounds.compare(without, training, "h100").members.tolist() == [10, 20]
    assert bounds.compare(forecast, training, "a100").empty


def test_devices_have_their_forecasts():
    kinds = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "TPU v5 lite")
    assert [*map(bounds.find_target, kinds)] == ["h100", "h200", "a100", "v5e"]
    assert bounds.find_target("cpu") is None


def test_figures_are_read_from_what_programs_print(tmp_path):
    assert figures.study(tmp_path) == figures.tests(tmp_path) == figures.training(tmp_path) == ""
    printed = "1 of 1: linear, 61.5 s; 1,234 images/s, 0 s left\nRecords: 9 done, 0 failed.\n"
    (tmp_path / "output.txt").write_text(printed)
    assert figures.study(tmp_path) == "records: 9 done; 1,234 images/s"
    (tmp_path / "output.txt").write_text("==== 2 failed, 80 passed in 36.07s (0:01:00) ====\n")
    assert figures.tests(tmp_path) == "2 failed, 80 passed"


# --- Its own checks ---


def results(rounding: float = 1e-8, **errors: float) -> agreement.Results:
    """Two arrays of each quantity, with relative errors; a gradient without digits besides."""
    random = np.random.default_rng(0)
    found = {}
    for name in ("loss", "features", "statistics", "gradient"):
        arrays, noise = random.normal(size=(2, 50)), np.random.default_rng(1).normal(size=50)
        sizes = np.linalg.norm(arrays, axis=1, keepdims=True) / np.linalg.norm(noise)
        found[name] = [*(arrays + errors.get(name, 0) * sizes * noise)]
    found["gradient"].append(np.full(9, rounding))
    return found


def test_a_gradient_that_is_off_is_found_in_every_precision():
    def case(precision):
        return agreement.Case("tiny", precision, Forms())

    coarse = {"loss": 1e-5, "features": 4e-3, "gradient": 0.1}
    references = {case("float32"): results(), case("bfloat16"): results(**coarse)}
    for precision, within, beyond in (
        ("float32", 5e-5, 2e-4),
        ("tf32", 0.04, 0.06),
        ("bfloat16", 0.25, 0.4),
    ):
        for off in (within, beyond):
            rows = agreement.judge(case(precision), results(-1e-8, gradient=off), references)
            agrees = {row["quantity"]: row["agrees"] for row in rows}
            expected = dict.fromkeys(("loss", "features", "statistics"), True)
            assert agrees == expected | {"gradient": off == within}
    (row,) = agreement.judge(case("float32"), results(loss=np.nan), references)[:1]
    assert row["agrees"] is False


def test_every_choice_of_the_forms_is_computed():
    options = agreement.Options(Path(), networks=("mobilenet_v1", "tiny"))
    for platform, precisions in (("cpu", 2), ("gpu", 3)):
        own = fastest_forms(platform)
        every = agreement.list_cases(options, platform)
        assert len(every) == len(set(every))
        assert {case.forms for case in every[: 2 * precisions]} == {own}
        exact = {case.forms for case in every if case[:2] == ("tiny", "float32")}
        assert exact >= {*map(fastest_forms, ("cpu", "gpu", "tpu"))}
        for name, value in vars(own).items():
            others = [forms for forms in exact if vars(forms)[name] != value]
            assert any(vars(forms) | {name: value} == vars(own) for forms in others)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_reference_of_neighbors_breaks_ties_by_row(dtype):
    points = np.array([[0], [3], [1], [3], [7]]).astype(dtype).reshape(5, 1, 1)
    rows, squared = neighbors.by_numpy(points, np.array([1, 4]), 3)
    assert rows.tolist() == [[3, 2, 0], [1, 3, 2]]
    assert squared.tolist() == [[0, 4, 9], [16, 16, 36]]


@pytest.mark.slow
def test_all_of_it_at_small_size(tmp_path, capsys):
    arguments = ["--size", "small", "--accelerator", "cpu", "--minutes", "60"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    rows = summary.read(tmp_path)
    assert [*rows] == [step.name for step in STEPS]
    wrong = {name for name, row in rows.items() if row.result != summary.PASSED}
    assert wrong == {"bounds"}  # no forecast is of a CPU
    assert all(row.figure for name, row in rows.items() if name != "bounds")
    assert not [path for path in tmp_path.rglob("*.md") if str(tmp_path) in path.read_text()]
