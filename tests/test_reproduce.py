"""The command line: presets, bad input, interruption, and what a run leaves behind."""

import dataclasses
import glob
import os
import platform
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
from awkward_files import hundred_files
from PIL import Image
from records import same_result
from tiny_network import TINY

from experiments import options as command_line
from experiments.reproduce import main
from twostage_jax.commands.device import keep_programs
from twostage_jax.data.sources import SOURCES
from twostage_jax.study.approaches import find
from twostage_jax.study.folder import read_records
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]

# The demo, of fewer, smaller images. Other processes do not know the tiny network.
DEMO = shlex.split(
    "--preset demo --accelerator cpu --images-per-class 60 --image-size 32 --epochs 3 --folds 1 "
    "--ratios 5"
)
SMALL = [*DEMO, "--network", TINY]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder; gives exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def class_folders(root: Path, classes: int = 3, images: int = 12, size: int = 32) -> Path:
    for label in range(classes):
        folder = root / f"class{label}"
        folder.mkdir(parents=True)
        for index in range(images):
            shade = (40 * label, 10 * index, 99)
            Image.new("RGB", (size, size), shade).save(folder / f"{index}.png")
    return root


def test_presets_are_the_papers_but_for_what_they_say():
    assert command_line.PRESETS["paper"].protocol == Protocol()
    assert command_line.PRESETS["paper"].image_size == 150
    for name, preset in command_line.PRESETS.items():
        assert preset.preset == name
        assert command_line.parse([], name) == preset


def test_options_override_the_preset():
    arguments = shlex.split(
        "--preset quick --width 0.5 --ratios 2 10 --scenarios linear --epochs 3 --seed 7 "
        "--epsilon-in-root --precision bfloat16 --data-dir x --members 4 --approaches fs_rus"
    )
    options = command_line.parse(arguments, "quick")
    assert options.image_size == 96
    assert options.scope.ratios == (2.0, 10.0)
    assert options.scope.scenarios == ("linear",)
    assert options.scope.approaches == (find("fs_rus"),)
    changes = {"width": 0.5, "epochs": 3, "seed": 7, "precision": "bfloat16"}
    assert options.protocol == dataclasses.replace(Protocol(), epsilon_in_root=True, **changes)


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    arguments = "--output=~/out --checkpoints=~/ck --weights=~/w.h5 --data-dir=~/images"
    options = command_line.parse(arguments.split(), "quick")
    home = Path("/home/someone")
    assert (options.output, options.checkpoints) == (home / "out", home / "ck")
    assert (options.weights, options.data_dir) == (str(home / "w.h5"), home / "images")
    assert command_line.parse(["--weights", "./random"], "quick").weights == "./random"


@pytest.mark.parametrize("option", ["--output", "--checkpoints", "--weights", "--data-dir"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nouser/x", "no home folder of ~nouser"),
        ("a\0b", "NUL character"),
        ("caf\udce9", "not valid UTF-8"),
    ],
)
def test_a_path_that_is_none_is_one_clear_line(option, path, message):
    with pytest.raises(InputError, match=f"^{option} .*{message}.*$") as caught:
        command_line.parse([f"{option}={path}"], "quick")
    str(caught.value).encode()


def test_the_current_folder_as_data_has_a_name_and_holds_the_studys_own(tmp_path, monkeypatch):
    """`--data-dir .` a second time: results and checkpoints of the first are no classes."""
    data = class_folders(tmp_path / "tissue")
    monkeypatch.chdir(data)
    arguments = ["--dataset", "folder", "--data-dir", ".", "--image-size", "32"]
    options = command_line.parse(arguments, "quick")
    assert options.results == Path("results/quick-tissue")
    first = SOURCES["folder"](options.source)
    (options.results / "report").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(options.results / "report" / "figure.png")
    (options.checkpoints / "compiled").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"left out checkpoints, results/quick-tissue in \."):
        second = SOURCES["folder"](options.source)
    assert second.fingerprint == first.fingerprint
    assert second.source == "folder tissue"


def test_options_for_image_files_reach_their_source():
    arguments = shlex.split("--max-pixels 9000 --on-unreadable skip --duplicates drop")
    source = command_line.parse(arguments, "paper").source
    assert (source.max_pixels, source.on_unreadable, source.duplicates) == (9000, "skip", "drop")


def test_the_first_line_names_the_preset_and_how_to_get_the_other(run):
    status, out, _ = run(
        "--accelerator", "cpu", "--dry-run", "--images-per-class", "70", "--network", TINY
    )
    assert status == 0
    first = out.splitlines()[0]
    assert first.startswith("preset demo on ")
    assert first.endswith("the default there; for the paper's whole study: --preset paper")


def test_a_dry_run_counts_and_writes_no_results(run, tmp_path):
    status, out, _ = run(*SMALL, "--dry-run")
    assert status == 0
    assert re.search(r"4 networks, 9 records, [\d,]+ image passes; to do: 4 networks", out)
    assert re.search(r"device memory: 0\.\d+ GiB", out)
    assert not (tmp_path / "results").exists()


WEIGHTS = ["--preset", "quick", "--dataset", "folder", "--data-dir", "images", "--weights"]

BAD_INPUT = {
    "unknown preset": (["--preset", "papre"], "unknown preset 'papre'; did you mean paper"),
    "unknown accelerator": (["--accelerator", "npu"], "unknown accelerator 'npu'.* did you mean"),
    "absent accelerator": (["--accelerator", "tpu"], "JAX found only cpu .*install jax\\[tpu\\]"),
    "unknown target": ([*SMALL, "--dry-run", "--target", "h10"], "'h10'; did you mean h100"),
    "target of a run": ([*SMALL, "--target", "v5e"], "--target v5e found without --dry-run"),
    "unknown dataset": ([*SMALL, "--dataset", "foldr"], "'foldr'; did you mean folder"),
    "unknown scenario": ([*SMALL, "--scenarios", "linaer"], "'linaer'; did you mean linear"),
    "unknown approach": ([*SMALL, "--approaches", "is_smot"], "'is_smot'; did you mean is_smote"),
    "unknown precision": ([*SMALL, "--precision", "float16"], "'float16'; did you mean bfloat16"),
    "unknown sampler": ([*SMALL, "--approaches", "fs_tomec"], "'fs_tomec'; did you mean fs_tomek"),
    "unknown network": ([*SMALL, "--network", "mobilnet_v1"], "did you mean mobilenet_v1"),
    "ratio below 1": ([*SMALL, "--ratios", "0.5"], "ratio 0.5 found, 1 or more"),
    "no epochs": ([*SMALL, "--epochs", "0"], "--epochs 0 found"),
    "eleven folds": ([*SMALL, "--folds", "11"], "--folds 11 found, 1 to 10"),
    "tiny images": ([*SMALL, "--image-size", "8"], "--image-size 8 found, 32 or more"),
    "no pixels": ([*SMALL, "--max-pixels", "0"], "--max-pixels 0 found, 1 or more"),
    "unknown remedy": ([*SMALL, "--duplicates", "dorp"], "'dorp'; did you mean drop"),
    "no folder": ([*SMALL, "--dataset", "folder"], "'folder' without a data dir"),
    "missing folder": (
        [*SMALL, "--dataset", "folder", "--data-dir", "nowhere"],
        "nowhere",
    ),
    "too many neighbors": (
        [*SMALL, "--k-neighbors", "11"],
        r"class \w+ has 11 samples, SMOTE with 11 neighbors expects at least 12.*--k-neighbors",
    ),
    "missing weights": ([*WEIGHTS, "absent.h5"], "cannot read the weights file absent.h5"),
    "not weights": ([*WEIGHTS, "images/class0/0.png"], "Keras"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(case, run, tmp_path):
    class_folders(tmp_path / "images")
    arguments, message = BAD_INPUT[case]
    status, _, err = run(*arguments)
    assert status == 2
    assert re.fullmatch(f"error: .*{message}.*\n", err), err
    assert not (tmp_path / "results").exists()


def test_an_output_that_cannot_be_written_is_one_clear_line(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    status, _, err = run(*SMALL, "--output", "file/results")
    assert status == 2
    assert re.fullmatch(r"error: .*file/results.*the same command resumes the study\n", err)


def test_a_folder_of_other_settings_is_refused(run, tmp_path):
    study = tmp_path / "results" / "demo-digits" / "study.json"
    study.parent.mkdir(parents=True)
    study.write_text('{"settings": {"epochs": 99}, "commands": []}')
    for more in ([], ["--dry-run"]):
        status, _, err = run(*SMALL, *more)
        assert status == 2
        assert "epochs is 99 there and 3 here" in err
        assert "--output" in err


def test_a_study_that_diverges_ends_with_status_1_and_says_so(run, tmp_path):
    status, out, _ = run(*SMALL, "--approaches", "is_rus", "--learning-rate", "1e30")
    assert status == 1
    assert "1 records failed" in out
    study = tmp_path / "results" / "demo-digits"
    assert "1 failed" in (study / "tables.md").read_text()
    assert f"the report to look at: {study.relative_to(tmp_path)}/report/index.html" in out
    assert "0 of 1 records done, 1 failed" in (study / "report" / "index.html").read_text()


def test_a_report_that_fails_does_not_take_the_study_along(run, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no font")

    monkeypatch.setattr("twostage_jax.commands.live_report.write_report", fail)
    status, out, _ = run(*SMALL, "--approaches", "is_rus", "--epochs", "1")
    assert status == 0
    assert "no report: RuntimeError: no font (the study is not affected" in out
    assert (tmp_path / "results" / "demo-digits" / "tables.md").exists()


def start(folder: Path, output: str, *before: str) -> subprocess.Popen:
    three = ["--approaches", "baseline", "is_smote", "ts_smote_rus", "--output", output]
    program = "import sys, tiny_network; from experiments.reproduce import main; "
    program += "sys.exit(main(sys.argv[1:], leave=True))"
    command = [*before, sys.executable, "-c", program, *SMALL, "--width", "1", *three]
    with open(folder / f"{output}.log", "a") as log:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def test_a_disk_that_takes_no_more_is_one_clear_line(tmp_path):
    """The system refuses files over 200 kB, as a full disk would; a checkpoint is larger."""

    limited = ("bash", "-c", 'ulimit -f 200; exec "$@"', "bash")
    assert start(tmp_path, "full", *limited).wait() == 2
    log = (tmp_path / "full.log").read_text()
    (line,) = (line for line in log.splitlines() if line.startswith("error: "))
    assert re.match(r"error: .*checkpoints/training/.*cannot be written", line)
    assert "finished records are kept" in line
    assert "Traceback" not in log


def test_a_study_killed_at_random_moments_ends_with_the_same_records(tmp_path):
    """SIGKILL, which nothing can catch, and the same command again."""
    assert start(tmp_path, "whole").wait(timeout=300) == 0
    kills = 0
    while kills < 1:  # `test_reliability.py` has more of them, at all kinds of moments
        process = start(tmp_path, "killed")
        # Not before it has gone on: until there is a checkpoint that was not there at the start.
        checkpoint = f"{tmp_path}/checkpoints/training/*/*/_CHECKPOINT_METADATA"
        before = {*glob.glob(checkpoint)}
        while not {*glob.glob(checkpoint)} - before:
            assert process.poll() is None, (tmp_path / "killed.log").read_text()
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert start(tmp_path, "killed").wait(timeout=300) == 0
    whole, killed = (read_records(tmp_path / name / "records") for name in ("whole", "killed"))
    assert len(whole) == len(killed) == 3
    for one, other in zip(whole, killed, strict=True):
        assert same_result(one, other)
    same = ["tables.md", "table1.csv", "table2.csv", "metrics.csv", "report/feature-map.svg"]
    for name in [*same, "report/verdict.csv", "report/fig1-smote.svg"]:
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("always")
def test_a_hundred_awkward_files_through_the_whole_program(run, tmp_path):
    """What is left out is said once; what is read ends in records, tables and a page."""
    hundred_files(tmp_path / "cells")
    arguments = shlex.split(
        "--preset quick --accelerator cpu --dataset folder --data-dir cells --weights random "
        "--image-size 32 --network tiny --epochs 1 --folds 1 --scenarios linear --ratios 2 "
        "--k-neighbors 1 --approaches baseline ts_smote_rus"
    )
    status, _, err = run(*arguments)
    assert status == 2
    assert "5 of 84 images cannot be read" in err
    assert "--on-unreadable skip" in err
    status, out, err = run(*arguments, "--on-unreadable", "skip", "--duplicates", "drop")
    assert status == 0, err
    said = [line for line in err.splitlines() if line.startswith("warning: ")]
    words = ("16 files left out", "5 of 84 images cannot be read", "4 16-bit images", "b/76.png")
    assert len(said) == len(words)
    for line, expected in zip(said, words, strict=True):
        assert expected in line
    assert "ImageSet(78 images" in out
    page = tmp_path / "results" / "quick-cells" / "report" / "index.html"
    assert "complete: 2 records" in page.read_text()


@pytest.mark.slow
def test_the_demo_means_something_within_three_minutes(tmp_path):
    """On two cores, from nothing: no files, no network. `pytest -m slow`."""
    started = time.monotonic()
    command = [sys.executable, "-m", "experiments.reproduce", "--preset", "demo"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=600)
    assert time.monotonic() - started < 180
    table = (tmp_path / "results" / "demo-digits" / "table2.csv").read_text()
    baseline = re.search(r"^baseline,AvAcc,([\d.]+),", table, re.MULTILINE)
    assert float(baseline[1]) >= 0.6


@pytest.mark.parametrize("told", [None, "elsewhere"])
def test_where_compiled_programs_are_kept(tmp_path, told):
    """In a folder of this machine's, unless JAX was told otherwise."""
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", told)
        keep_programs(tmp_path)
        found = jax.config.jax_compilation_cache_dir
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert found == (told or str(tmp_path / platform.node()))


@pytest.mark.slow
def test_compiled_programs_are_found_again(tmp_path):
    """The second start finds what the first one compiled."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_LOG_COMPILES": "0"}
    command = [sys.executable, "-m", "experiments.reproduce", *DEMO, "--approaches", "baseline"]

    def programs(output: str) -> set[str]:
        subprocess.run([*command, "--output", output], cwd=tmp_path, env=environment, check=True)
        return {path.name for path in (tmp_path / "checkpoints/compiled").rglob("*-cache")}

    first = programs("first")
    assert first
    assert programs("second") == first
