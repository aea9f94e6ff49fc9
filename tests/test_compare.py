"""From a folder of images to a model: the commands compare, fit, predict and evaluate."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from textures import textures
from tiny_network import TINY

from twostage_jax import TwoStageClassifier
from twostage_jax.commands import compare, fit
from twostage_jax.commands.main import main
from twostage_jax.commands.options import Training, data_name, find_data
from twostage_jax.data.sources import folder as folder_source
from twostage_jax.study.folder import read_description, read_records
from twostage_jax.support.errors import InputError

SMALL = shlex.split(
    "--network tiny --width 0.5 --image-size 32 --weights random --epochs 2 --learning-rate 3e-3 "
    "--bn-momentum 0.9 --k-neighbors 2 --splits 3 --approaches baseline is_ros fs_rus"
)


def write_cells(root: Path, counts=(18, 12, 9), first: int = 0) -> Path:
    """Class folders of textures, whose names begin with the number of a patient."""
    whole = textures(images_per_class=30)
    for label, count in enumerate(counts):
        for row in range(first, first + count):
            path = root / f"class{label}" / f"p{row % 6}-{row}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(whole.images[label * 30 + row]).save(path)
    return root


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command line in a folder of its own; gives exit status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.mark.integration
def test_from_a_folder_to_predictions(run, tmp_path, monkeypatch):
    write_cells(tmp_path / "cells")
    status, out, err = run("compare", "cells", *SMALL)
    assert status == 0, err
    study = tmp_path / "results" / "compare-cells"
    assert len(read_records(study / "records")) == 9
    assert "Approaches: means (and average ranks) over the splits" in out
    assert "Table I" not in out
    assert not (study / "table1.csv").exists()
    page = (study / "report" / "index.html").read_text()
    assert "Recommended: " in out
    command = re.search(r"\n  (python -m twostage_jax fit cells .*)\n", out)[1]
    assert "Recommended: " in page
    assert command in page

    # The same command again has nothing to do, and says the same.
    status, again, _ = run("compare", "cells", *SMALL)
    assert (status, "to do: 0 networks" in again) == (0, True)
    assert command in again

    # Without an approach, the recommended one is fitted with the options of the comparison.
    status, out, err = run("fit", "cells", "--output", "own.model")
    assert status == 0, err
    approach = re.search(r"approach (\w+), as compare recommends", out)[1]
    assert f"--approach {approach} " in command
    model = TwoStageClassifier.load(tmp_path / "own.model")
    assert (model.approach, model.network, model.width) == (approach, TINY, 0.5)
    assert model.image_shape_ == (32, 32, 3)
    assert model.classes_.tolist() == ["class0", "class1", "class2"]
    assert model.class_counts_.tolist() == [18, 12, 9]

    # Also from another folder, where the images have another path.
    monkeypatch.chdir(tmp_path / "cells")
    status, out, err = run("fit", ".", "--compared", study, "--output", "../own.model", "--force")
    assert status == 0, err
    assert f"approach {approach}, as compare recommends" in out
    monkeypatch.chdir(tmp_path)

    # The very command that was recommended gives the same model.
    status, _, err = run(*shlex.split(command)[3:])
    assert status == 0, err
    twin = TwoStageClassifier.load(tmp_path / "cells.model")
    others = folder_source.load(write_cells(tmp_path / "others", (3, 3, 3), 20), 32)
    assert np.array_equal(twin.predict_proba(others.images), model.predict_proba(others.images))

    status, _, err = run("predict", "cells.model", "others", "--output", "p.csv")
    assert status == 0, err
    table = pd.read_csv(tmp_path / "p.csv")
    assert table["filename"].tolist() == [f"others/{name}" for name in others.names]
    assert table["label"].tolist() == twin.predict(others.images).tolist()
    status, out, err = run("evaluate", "cells.model", "others", "--output", "scores")
    assert status == 0, err
    assert "AvAcc" in out
    assert (tmp_path / "scores" / "index.html").exists()

    # What is there is replaced only when asked; nothing is trained before that is known.
    status, out, err = run("fit", "cells", "--output", "own.model", "--approach", "baseline")
    assert (status, out) == (2, "")
    assert "holds a model already" in err


@pytest.mark.integration
def test_groups_keep_patients_together_and_splits_follow_the_smallest_class(run, tmp_path):
    write_cells(tmp_path / "cells", (14, 9, 4))
    arguments = ["compare", "cells", *SMALL[:-6], "--approaches", "baseline", "post_prior"]
    status, out, err = run(*arguments, "--epochs", "1", "--groups", r"p(\d+)-")
    assert status == 0, err
    assert "groups: 6, each in one split" in out
    splits = int(re.search(r"(\d) splits instead of 5: the smallest class or its groups", out)[1])
    study = tmp_path / "results" / "compare-cells"
    description = read_description(study)
    assert description.settings["splits"] == splits
    assert re.fullmatch("[0-9a-f]{64}", description.settings["groups"])
    names = folder_source.load(tmp_path / "cells", 32).names
    tested = {}
    for record in read_records(study / "records"):
        for row in record.test_index:
            patient = re.search(r"p(\d+)-", names[row])[1]
            assert tested.setdefault(patient, record.key.fold) == record.key.fold
    assert len(set(tested.values())) == splits


BAD_INPUT = {
    "no folder": (["compare", "nowhere"], "no folder nowhere"),
    "balanced": (["compare", "even"], "every class has 4 images: nothing is imbalanced"),
    "almost balanced": (["compare", "level"], "every class has 4 or 5 images: nothing is imbal"),
    "no approach": (["compare", "cells", "--approaches"], "--approaches without a name found"),
    "too many splits": (["compare", "cells", "--splits", "10"], "class 'class2' has 9 images.*10"),
    "too few images for SMOTE": (
        ["compare", "cells", "--k-neighbors", "8", "--approaches", "is_smote"],
        r"class class2 has \d samples?, SMOTE with 8 neighbors.*--k-neighbors",
    ),
    "unknown approach": (["compare", "cells", "--approaches", "is_smot"], "did you mean is_smote"),
    "bad groups": (["compare", "cells", "--groups", "("], "neither a file nor a regular expr"),
    "groups that miss": (["compare", "cells", "--groups", "slide"], "finds no id in the names of"),
    "group of a class": (["compare", "cells", "--groups", "class."], "fewer|holds all images"),
    "no epochs": (["compare", "cells", "--epochs", "0"], "--epochs 0 found"),
    "no members": (["compare", "cells", "--members", "0"], "--members 0 found"),
    "tiny images": (["compare", "cells", "--image-size", "16"], "--image-size 16 found, 32"),
    "absent device": (["compare", "cells", "--device", "tpu"], "--device tpu requested"),
    "not compared": (["fit", "cells", "--output", "m"], "no comparison found in results/compare-c"),
    "taken": (["fit", "cells", "--output", "cells", "--approach", "baseline"], "is no model"),
    "no place": (["fit", "cells", "--output", "/proc/m", "--approach", "baseline"], "/proc/"),
    "missing weights": (
        ["fit", "cells", "--output", "m", "--approach", "baseline", "--weights", "absent.h5"],
        "cannot read the weights file absent.h5",
    ),
}


@pytest.mark.integration
@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_clear_line(case, run, tmp_path):
    write_cells(tmp_path / "cells")
    write_cells(tmp_path / "even", (4, 4))
    write_cells(tmp_path / "level", (5, 4))
    arguments, message = BAD_INPUT[case]
    usual = ["--weights", "random", "--image-size", "32", "--width", "0.1"]
    command, data, *others = arguments
    status, _, err = run(command, data, *usual, *others)
    assert status == 2
    assert re.fullmatch(f"error: .*({message}).*\n", err), err
    assert not (tmp_path / "results").exists()
    assert not (tmp_path / "m").exists()


def test_what_data_means(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells.npz").write_bytes(b"")
    assert find_data("cells/") == ("folder", Path("cells"))
    assert find_data("cells.npz") == ("npz", Path("cells.npz"))
    assert find_data("digits") == ("digits", None)
    assert find_data("tfds:eurosat/rgb:2.0.0") == ("tfds:eurosat/rgb:2.0.0", None)
    names = {"cells/": "cells", "cells.npz": "cells", ".": tmp_path.name, "digits": "digits"}
    names["tfds:eurosat/rgb:2.0.0"] = "tfds-eurosat-rgb-2.0.0"
    assert {data: data_name(data) for data in names} == names
    (tmp_path / "digits").mkdir()
    assert find_data("digits") == ("folder", Path("digits")), "what is there comes first"


def test_the_recommended_command_gives_the_same_options_on_any_device():
    given = Training(width=0.5, epochs=3, precision="bfloat16", head_epochs=7, seed=3)
    options = compare.Options(data="my cells", duplicates="drop", **given.training)
    command = compare.fit_command(options).replace("{approach}", "fs_rus")
    program, arguments = shlex.split(command)[:4], shlex.split(command)[4:]
    assert program == ["python", "-m", "twostage_jax", "fit"]
    for default in (Training(), Training(width=0.25, image_size=96, epochs=10)):
        found = fit.parse(fit.Options, fit.PROGRAM, arguments, default)
        assert found.training == given.training
        assert (found.data, found.approach, found.duplicates) == ("my cells", "fs_rus", "drop")
        assert found.output == Path("my cells.model")


def test_a_tilde_that_the_shell_leaves_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    found = fit.parse(fit.Options, "fit", ["x", "--output=m", "--weights=~/w.h5"], Training())
    assert found.weights == "/home/someone/w.h5"
    with pytest.raises(InputError, match="no home folder of ~nouser"):
        find_data("~nouser/x")
