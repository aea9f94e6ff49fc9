"""Predictions of files: found, streamed, written whole or not at all."""

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from color_model import ColorModel, draw
from PIL import Image

from twostage_jax.commands import predict
from twostage_jax.commands.main import main
from twostage_jax.data.sources.decode import decode
from twostage_jax.prediction.stream import Prediction, predict_files
from twostage_jax.prediction.table import FORMATS, Layout
from twostage_jax.support.errors import InputError

HEADER = ["filename", "label", "prob", "reason"]


@pytest.fixture
def model(monkeypatch):
    """The model that every command finds."""
    model = ColorModel()
    monkeypatch.setattr(predict, "load_model", lambda path, device, prior: model)
    return model


@pytest.fixture
def new(tmp_path, monkeypatch):
    """A folder of pictures, below the working folder."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "new/b.png", "red")
    draw(tmp_path / "new/a/z.jpg", "green")
    draw(tmp_path / "new/c.PNG", "blue")
    draw(tmp_path / "new/.hidden.png", "blue")
    (tmp_path / "new/notes.txt").write_text("no image")
    return tmp_path / "new"


def run(*arguments):
    return main(["predict", "a.model", *map(str, arguments)])


def give(monkeypatch, content: bytes):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def read(path):
    if path.suffix == ".json":
        return pd.DataFrame(json.loads(path.read_text()), dtype=object)
    return {".csv": pd.read_csv, ".parquet": pd.read_parquet}[path.suffix](path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_folder_is_predicted_in_the_order_of_names(new, model, capsys, suffix):
    assert run("new", "--output", f"out/table.{suffix}") == 0
    frame = read(new.parent / f"out/table.{suffix}")
    assert [*frame.columns] == HEADER
    assert [*frame.filename] == ["new/a/z.jpg", "new/b.png", "new/c.PNG"]
    assert [*frame.label] == ["green", "red", "blue"]
    np.testing.assert_allclose(frame.prob.astype(float), [200 / 230] * 3, rtol=1e-6)
    assert frame.reason.isna().all()
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("1 file left out: 1 .txt (such as new/notes.txt)\n")
    assert f"images/s); predictions in out/table.{suffix}\n" in output.err
    assert os.listdir(new.parent / "out") == [f"table.{suffix}"]


def test_files_and_folders_keep_the_order_of_the_command_line(new, model, capfdbinary):
    (new / "c.PNG").rename(new.parent / "odd.suffix")
    assert run("odd.suffix", "new/b.png", "new", "new/b.png") == 0
    lines = capfdbinary.readouterr().out.decode().splitlines()
    assert lines[0] == ",".join(HEADER)
    assert [line.split(",")[:2] for line in lines[1:]] == [
        ["odd.suffix", "blue"],
        ["new/b.png", "red"],
        ["new/a/z.jpg", "green"],
        ["new/b.png", "red"],
        ["new/b.png", "red"],
    ]


def test_names_come_from_standard_input(new, model, monkeypatch, capfdbinary):
    for arguments in ((), ("-",)):
        give(monkeypatch, b"new/c.PNG\r\n\nnew/gone.png\nnew/b.png")
        assert run(*arguments, "--format", "json") == 1
        output = capfdbinary.readouterr()
        rows = json.loads(output.out)
        assert [(row["filename"], row["label"], row["reason"]) for row in rows] == [
            ("new/c.PNG", "blue", None),
            ("new/gone.png", None, "No such file or directory"),
            ("new/b.png", "red", None),
        ]
        assert b"new/gone.png: No such file or directory\n" in output.err
        assert b"3 images in" in output.err
        assert b"1 cannot be read\n" in output.err


def test_links_to_folders_are_followed_but_not_for_ever(new, model, capfdbinary):
    (new / "again").symlink_to(new)
    (new / "d").symlink_to(new / "a")
    assert run("new") == 0
    output = capfdbinary.readouterr()
    assert output.out.count(b"\n") == 5
    assert b"new/d/z.jpg,green" in output.out
    assert b"1 link to a folder above" in output.err


@pytest.mark.parametrize("suffix", FORMATS)
def test_unreadable_images_have_a_reason_and_the_others_a_label(new, model, capsys, suffix):
    (new / "aa.png").write_bytes(b"no picture")
    (new / "b2.png").write_bytes((new / "b.png").read_bytes()[:40])
    (new / "b3.png").touch()
    Image.new("RGB", (9, 9)).save(new / "b4.png")
    output = new.parent / f"table.{suffix}"
    os.mkfifo(new / "pipe")
    paths = ("new", "new/pipe", "--max-pixels", 80)
    assert run(*paths, "--output", output, "--topk", 2, "--output-type", "prob") == 1
    frame = read(output)
    assert [*frame.columns] == [*HEADER[:3], "label2", "prob2", "blue", "green", "red", "reason"]
    reasons = dict(zip(frame.filename, frame.reason.fillna(""), strict=True))
    assert reasons.pop("new/aa.png") == "not an image of a known format"
    assert reasons.pop("new/b3.png") == "an empty file"
    assert reasons.pop("new/b4.png") == "9x9, more than 80 pixels"
    assert reasons.pop("new/pipe") == "a special file, not an image file"
    assert reasons.pop("new/b2.png")
    assert reasons == {"new/a/z.jpg": "", "new/b.png": "", "new/c.PNG": ""}
    failed = frame.reason.notna()
    assert frame[failed].drop(columns=["filename", "reason"]).isna().all(axis=None)
    assert not frame[~failed].drop(columns="reason").isna().any(axis=None)
    lines = capsys.readouterr().err.splitlines()
    assert "new/aa.png: not an image of a known format" in lines
    assert "5 cannot be read" in lines[-1]


def test_most_probable_labels_and_columns_of_classes(new, model):
    output = new.parent / "table.json"
    assert run("new/b.png", "--output", output, "--topk", 3, "--output-type", "prob") == 0
    (row,) = json.loads(output.read_text())
    assert [row[name] for name in ("label", "label2", "label3")] == ["red", "green", "blue"]
    assert [row["prob"], row["prob2"], row["prob3"]] == [row["red"], row["green"], row["blue"]]
    assert np.float32(row["red"]) == np.float32(200 / 230)
    assert len(str(row["red"])) <= 10  # no digits beyond those of float32


@pytest.mark.parametrize("suffix", FORMATS)
def test_integers_are_labels_too(new, monkeypatch, suffix):
    monkeypatch.setattr(predict, "load_model", lambda *_: ColorModel(classes=(3, 5, 8)))
    output = new.parent / f"table.{suffix}"
    assert run("new", "--output", output, "--output-type", "prob") == 0
    frame = read(output)
    assert [*frame.label] == [5, 8, 3]
    assert [*frame.columns] == [*HEADER[:3], "3", "5", "8", "reason"]


def test_columns_of_classes_called_like_others_are_told_apart():
    layout = Layout(["reason", "label", "label2"], topk=1, per_class=True)
    assert layout.header[3:] == ["reason (class)", "label (class)", "label2", "reason"]
    assert Layout(["a", "b"], topk=2).header[3:] == ["label2", "prob2", "reason"]
    for topk in (0, 3):
        with pytest.raises(InputError, match=f"--topk {topk} found, 1 to 2 expected"):
            Layout(["a", "b"], topk=topk)


def test_equal_probabilities_give_the_first_class():
    layout = Layout(["a", "b", "c"], topk=2)
    row = layout.row(Prediction("x", np.array([0.2, 0.4, 0.4], np.float32)))
    assert row == ["x", "b", 0.4, "c", 0.4, None]


NAMES = ["a,b.png", 'q"q.png', "two\nlines.png", "=cmd|' !A0.png", "@x.png", b"caf\xe9.png"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_any_name_can_be_written(new, model, capsys, suffix):
    for name in NAMES:
        os.rename(draw(new.parent / "x.png", "red"), name)
    output = new.parent / f"table.{suffix}"
    assert run(*map(os.fsdecode, NAMES), "--output", output) == 0
    found = [*read(output).filename]
    if suffix == "csv":
        safe = ["two\\nlines.png", "'=cmd|' !A0.png", "'@x.png", "caf\\udce9.png"]
        assert found == [*NAMES[:2], *safe]
        assert output.read_text().count("\n") == 7
    else:
        assert found[:5] == NAMES[:5]
    if suffix == "json":
        assert os.fsencode(found[5]) == NAMES[5]
    if suffix == "parquet":
        assert found[5] == "caf\\udce9.png"


def test_unreadable_names_are_readable_on_the_screen(new, model, capfdbinary):
    os.rename(new / "notes.txt", b"bad\n\xe9.png")
    assert run(os.fsdecode(b"bad\n\xe9.png")) == 1
    line = b"bad\\n\\udce9.png: not an image of a known format\n"
    assert line in capfdbinary.readouterr().err


def test_images_of_another_size_are_fitted_as_in_training(new, model, capsys):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (9, 20, 3), np.uint8)).save(new / "wide.png")
    (prediction,) = predict_files(model, [new / "wide.png"])
    expected = model.predict_proba(decode(new / "wide.png", 8)[None])[0]
    np.testing.assert_array_equal(prediction.probabilities, expected)
    assert prediction.size == (9, 20)
    assert run("new", "--output", "table.csv") == 0
    assert "1 of 4 images are not 8x8: resized as in training\n" in capsys.readouterr().err


BAD = {
    "exists.csv": "exists.csv exists; expected a new file: .*--force",
    "new": "has no known format; expected a name that ends in .csv, .json, .parquet: ",
    "x.txt": "has no known format; expected a name that ends in .csv, .json, .parquet: ",
    "folder.csv": "folder.csv is no file; expected the name of one: choose another",
}


@pytest.mark.parametrize("output", ["exists.csv", "new", "x.txt", "folder.csv"])
def test_a_bad_output_is_refused_before_any_work(new, model, capsys, output):
    (new.parent / "exists.csv").write_text("kept")
    (new.parent / "folder.csv").mkdir()
    assert run("new", "--output", output) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert re.search(BAD[output], line)
    assert model.batches == []
    assert (new.parent / "exists.csv").read_text() == "kept"


def test_force_replaces_the_output_and_format_overrides_its_name(new, model):
    (new.parent / "exists.txt").write_text("old")
    assert run("new", "--output", "exists.txt", "--force", "--format", "json") == 0
    assert len(json.loads((new.parent / "exists.txt").read_text())) == 3


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("gone/",), "no file or folder 'gone/'; expected images, folders"),
        (("empty",), "no images in 'empty' (1 file left out: 1 .txt (such as empty/a.txt)); "),
        (("-", "new"), "- found beside other paths"),
        (("new", "--topk", "4"), "--topk 4 found, 1 to 3 expected for a model of 3 classes"),
        (("new", "--max-pixels", "0"), "--max-pixels 0 found, 1 or more expected"),
        (("new", "--format", "parquet"), "--format parquet found for standard output"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(new, model, capsys, arguments, text):
    (new.parent / "empty").mkdir()
    (new.parent / "empty/a.txt").touch()
    before = sorted(os.listdir())
    output = () if "--format" in arguments else ("--output", "table.csv")
    assert run(*arguments, *output) == 2
    err = capsys.readouterr().err
    assert f"error: {text}" in err
    assert sorted(os.listdir()) == before


def test_nothing_on_standard_input_is_an_error(new, model, monkeypatch, capsys):
    give(monkeypatch, b"\n")
    assert run("--output", "table.csv") == 2
    assert "error: no images to predict; expected at least one" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_full_disk_leaves_what_was_there(new, model, capsys, suffix):
    output = new.parent / f"table.{suffix}"
    output.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        status = run(*["new"] * 100, "--output", output, "--force", "--output-type", "prob")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert status == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: {output}: File too large; correct this and run the command again"
    assert output.read_text() == "old"
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


def test_a_defect_leaves_no_half_file(new, model, monkeypatch):
    def fail(_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(model, "predict_proba", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run("new", "--output", "table.csv")
    assert os.listdir() == ["new"]


SLOW = """
import sys, time
from color_model import ColorModel
from twostage_jax.commands import main, predict
class Slow(ColorModel):
    def predict_proba(self, images):
        print("predicting", flush=True)
        time.sleep(60)
predict.load_model = lambda *_: Slow()
sys.exit(main.run())
"""


@pytest.mark.integration
def test_an_interruption_is_one_line_and_leaves_no_file(new):
    path = os.pathsep.join([os.path.dirname(__file__), os.getcwd(), *sys.path])
    arguments = ["predict", "a.model", "new/b.png", "--output", "table.csv"]
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "predicting\n"
        assert any(name.startswith(".table.csv.") for name in os.listdir())
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        assert process.wait(20) == 130
        assert time.monotonic() - started < 20
        assert process.stderr.read() == "\ninterrupted; table.csv is not written\n"
    assert os.listdir() == ["new"]


@pytest.mark.integration
def test_a_reader_that_has_seen_enough_is_no_error(new):
    code = SLOW.replace("time.sleep(60)", "return super().predict_proba(images)")
    code = code.replace('print("predicting", flush=True)', "")
    paths = f"{os.path.dirname(__file__)}{os.pathsep}{os.pathsep.join(sys.path)}"
    with subprocess.Popen(
        [sys.executable, "-c", code, "predict", "a.model", *["new"] * 300],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        assert process.wait(30) == 1
        assert b"ipe" not in process.stderr.read()
