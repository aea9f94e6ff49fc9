"""The program that resamples a table which stays on disk."""

import pandas as pd
import pytest

pytest.importorskip("psutil")

from experiments.resample_on_disk import main

pytestmark = pytest.mark.integration


def memory_of(folder, rows, columns):
    """Bytes that the process takes for its plan and to make the data."""
    arguments = ["--rows", str(rows), "--columns", str(columns), "--folder", str(folder)]
    assert main([*arguments, "--output", str(folder / "out")]) == 0
    frame = pd.read_csv(folder / "out" / "on-disk.csv", index_col="step")
    assert list(frame.index) == ["plan", "materialize"]
    assert frame["bytes"].eq(4 * rows * columns).all()
    assert sorted(own.name for own in folder.iterdir()) == ["out"]
    return frame["memory"]


def test_a_result_on_disk_takes_no_memory(tmp_path, capsys):
    """100 MB in, 108 MB out."""
    assert memory_of(tmp_path, 100_000, 256)["materialize"] < 20e6
    assert "100,000 to 107," in capsys.readouterr().out


@pytest.mark.slow
def test_a_plan_takes_less_memory_than_the_data(tmp_path):
    """1 GB in, 1.1 GB out: the rare class, its neighbors and what compiles the search."""
    assert memory_of(tmp_path, 1_000_000, 256)["plan"] < 500e6


def test_too_few_rows_are_one_line(capsys):
    assert main(["--rows", "10"]) == 2
    assert capsys.readouterr().err == "error: --rows 10 found, 1000 or more expected\n"
