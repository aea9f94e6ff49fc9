"""The command line's frame, and the command that scores a model."""

import json
import os
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from color_model import COLORS, ColorModel, draw

from twostage_jax.commands import evaluate, saved_model
from twostage_jax.commands.main import COMMANDS, help_text, main
from twostage_jax.support.errors import InputError

ROOT = Path(__file__).parents[1]

# A command may be added to the table before its module is.
THERE = [name for name, command in COMMANDS.items() if find_spec(command.module)]


def test_the_help_lists_the_commands_with_an_example_and_starts_without_jax():
    code = (
        "import sys; from twostage_jax.commands import main; status = main.run();"
        "assert not {'jax', 'numpy'} & set(sys.modules); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for name, command in COMMANDS.items():
        assert f"\n  {name} " in done.stdout
        assert command.line in done.stdout
    assert "\n  python -m twostage_jax predict cells.model new/ --output " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_no_command_prints_the_help_and_is_an_error(capsys):
    assert main([]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", help_text())
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("twostage_jax ")


@pytest.mark.parametrize(
    ("name", "near"), [("predcit", "predict"), ("evaluation", "evaluate"), ("--device", None)]
)
def test_an_unknown_command_is_one_line(capsys, name, near):
    assert main([name, "cells/"]) == 2
    err = capsys.readouterr().err
    hint = f"; did you mean {near}" if near else ""
    assert err.startswith(f"error: unknown command '{name}'{hint}")
    assert err.endswith("(valid: compare, fit, predict, evaluate)\n")


@pytest.mark.parametrize("name", THERE)
def test_the_help_of_a_command_fits_a_screen_and_has_an_example(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 100
    assert f"python -m twostage_jax {name} " in "\n".join(lines[1:])


@pytest.mark.parametrize("name", THERE)
def test_an_option_that_does_not_exist_is_refused(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "a", "b", "--no-such-option"])
    assert ended.value.code == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_the_console_command_is_the_same_program():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, function = scripts["twostage"].split(":")
    assert getattr(import_module(module), function).__name__ == "run"
    assert (
        "from twostage_jax.commands.main import run"
        in (ROOT / "twostage_jax/__main__.py").read_text()
    )


def test_a_model_is_loaded_on_its_device_with_its_prior(monkeypatch, tmp_path):
    class Saved(ColorModel):
        @classmethod
        def load(cls, path):
            model = cls()
            model.path = path
            return model

        def set_params(self, **values):
            self.values = values

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "twostage_jax.classifier", ModuleType("stand-in"))
    sys.modules["twostage_jax.classifier"].TwoStageClassifier = Saved
    assert not hasattr(saved_model.load_model(Path("a"), "cpu", None), "values")
    model = saved_model.load_model(Path("~/a.model"), "auto", "balanced")
    assert (model.path, model.values) == (tmp_path / "a.model", {"prior": "balanced"})
    with pytest.raises(InputError, match=r"--device tpu requested, .* choose --device cpu"):
        saved_model.load_model(Path("a"), "tpu", None)
    monkeypatch.setattr(Saved, "__init__", lambda self: ColorModel.__init__(self, "ab", None))
    with pytest.raises(InputError, match="the model was fitted on features"):
        saved_model.load_model(Path("a"), "cpu", None)


@pytest.fixture
def model(monkeypatch, tmp_path):
    """The model that the command finds, and a page of its own: the arguments as JSON."""
    model = ColorModel()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluate, "load_model", lambda path, device, prior: model)

    def write_evaluation(folder, *, labels, probabilities, names, **others):
        folder.mkdir(exist_ok=True)
        rows = zip(names, labels.tolist(), probabilities.argmax(1).tolist(), strict=True)
        page = folder / "index.html"
        own = {"rows": [*rows], "kind": str(probabilities.dtype)}
        page.write_text(json.dumps(others | own, default=str))
        return page

    stand_in = ModuleType("stand-in")
    stand_in.write_evaluation = write_evaluation
    monkeypatch.setitem(sys.modules, "twostage_jax.report.evaluation", stand_in)
    for color in COLORS:
        draw(tmp_path / "held-out" / color / f"1-{color}.png", color, (9, 9))
        draw(tmp_path / "held-out" / color / "deep/2.png", "red")
    return model


def run(*arguments):
    return main(["evaluate", "cells.model", "held-out", *arguments])


def test_labeled_images_are_scored_and_written(model, capsys):
    model.classes_ = model.classes_[::-1]  # the model's order, and not the folders'
    model.predict_proba = lambda images: ColorModel().predict_proba(images)[:, ::-1]
    assert run() == 0
    *lines, path = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["AvAcc", "0.6667"],
        ["CBA", "0.5000"],
        ["MAvG", "0.6300"],
        ["Acc", "0.6667"],
    ]
    assert "(95% interval 0." in lines[0]
    assert path == "evaluation/index.html"
    page = json.loads(Path("evaluation/index.html").read_text())
    assert page == {
        "title": "cells.model on held-out",
        "model": {
            "Model": "cells.model",
            "Classes": "red, green, blue",
            "Images": "8 x 8 pixels",
        },
        "class_names": ["red", "green", "blue"],
        "source": "folder held-out",
        "kind": "float32",
        "rows": [
            ["blue/1-blue.png", 2, 2],
            ["blue/deep/2.png", 2, 0],
            ["green/1-green.png", 1, 1],
            ["green/deep/2.png", 1, 0],
            ["red/1-red.png", 0, 0],
            ["red/deep/2.png", 0, 0],
        ],
    }


def test_integers_are_class_folders_too(model, capsys):
    model.classes_ = np.array([3, 5, 8])
    for color, label in zip(COLORS, (3, 5, 8), strict=True):
        os.rename(f"held-out/{color}", f"held-out/{label}")
    assert run() == 0
    assert capsys.readouterr().out.startswith("AvAcc  0.6667 ")


def test_resized_and_unreadable_images_are_said(model, capsys):
    Path("held-out/red/broken.png").write_text("no picture")
    assert run() == 2
    err = capsys.readouterr().err
    assert "3 of 7 images are not 8x8: resized as in training\n" in err
    assert (
        "error: 1 of 7 images cannot be read: red/broken.png (the first: not an image of a known "
        "format); expected intact images: " in err
    )
    assert not Path("evaluation").exists()
    assert run("--on-unreadable", "skip") == 0
    output = capsys.readouterr()
    assert "left out: 1 of 7 images cannot be read: red/broken.png" in output.err
    assert output.out.startswith("AvAcc  0.6667 ")


def test_folders_that_are_no_class_and_classes_without_a_folder(model, capsys):
    os.rename("held-out/red", "held-out/pink")
    assert run() == 2
    assert (
        "error: the model has no class pink, a folder in held-out; expected folders called blue, "
        "green, red: rename or move it\n" in capsys.readouterr().err
    )
    os.rename("held-out/pink", "red")
    assert run() == 0
    output = capsys.readouterr()
    assert "no images of class red: the means are over the other classes" in output.err
    assert output.out.startswith("AvAcc  0.5000 ")


def test_an_output_that_exists_is_not_written_into(model, capsys):
    Path("evaluation").mkdir()
    Path("evaluation/mine.txt").touch()
    assert run() == 2
    err = capsys.readouterr().err
    assert err.startswith("error: --output evaluation holds files; expected a new folder: ")
    assert model.batches == []
    assert run("--force") == 0
    assert run("--output", "held-out/red/deep/2.png") == 2
    assert " is a file; expected the name of a folder" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:left out evaluation in held-out")
def test_a_page_in_the_folder_of_images_is_no_class(model, capsys):
    for _ in range(2):
        assert run("--output", "held-out/evaluation", "--force") == 0
        assert capsys.readouterr().out.startswith("AvAcc  0.6667 ")
        draw(Path("held-out/evaluation/picture.png"), "red")


def test_a_missing_folder_is_one_line(model, capsys):
    assert main(["evaluate", "cells.model", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("error: no folder nowhere; expected a folder of ")
