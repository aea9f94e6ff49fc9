"""The report: what a page holds, of whole, partial, empty and mixed studies."""

import base64
import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_study import (
    KEYS,
    SETTINGS,
    TINY,
    failed,
    make_record,
    study_keys,
    write_features,
    write_study,
)

from experiments import report as command_line
from twostage_jax.report import paper_figures, write_report
from twostage_jax.report.blocks import Table
from twostage_jax.report.results import read_results
from twostage_jax.study.approaches import find
from twostage_jax.study.figure_data import choose_images, write_figure_data
from twostage_jax.study.folder import Description, StudyFolder
from twostage_jax.study.record import RecordKey

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, small_image_set):
    """A complete study with all figure data, and its page."""
    folder = write_study(tmp_path_factory.mktemp("whole"), KEYS, [make_record(k) for k in KEYS])
    write_features(folder, KEYS[-1])
    settings_hash = Description(settings=SETTINGS).settings_hash
    write_figure_data(folder, choose_images(small_image_set, settings_hash, (0, 1)))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def text(whole):
    return (whole / "report" / "index.html").read_text()


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """Nine approaches of one fold, one failed, and two folds of which there is nothing."""
    expected = study_keys(("linear",), (10.0,), folds=3)
    records = [make_record(key) for key in TINY[1:]]
    folder = write_study(
        tmp_path_factory.mktemp("partial"), expected, [failed(TINY[0], "nan <b>"), *records]
    )
    write_report(folder, refresh=7)
    return folder


@pytest.fixture(scope="module")
def partial_text(partial):
    return (partial / "report" / "index.html").read_text()


def test_every_figure_is_there_as_picture_and_svg(whole, text):
    expected = {
        "differences", "fig1-smote", "fig2-data-flow", "fig3-samples", "fig4-class-distributions",
        "fig5-images-by-ratio", "fig6-metrics-by-ratio", "critical-differences-folds",
        "critical-differences-partitions", "approaches-by-ratio", "spread", "test-folds",
        "recall-by-class-size", "learning-curves", "feature-map", "cost", "reliability",
        "calibration", "reliability-corrected",
    }  # fmt: skip
    assert {path.stem for path in (whole / "report").glob("*.svg")} == expected
    for name in expected:
        svg = (whole / "report" / f"{name}.svg").read_text()
        assert ET.fromstring(svg).tag.endswith("svg")
        (figure,) = re.findall(rf'<figure id="{name}">.*?</figure>', text, re.DOTALL)
        assert base64.b64encode(svg.encode()).decode() in figure
        assert f'href="{name}.svg"' in figure
        assert len(re.search('alt="(.*?)"', figure)[1]) > 60, "says what it shows"


def test_every_table_has_its_csv(whole, text):
    names = re.findall('<article class="table" id="data-(.*?)">', text)
    assert {"verdict", "order", "table1", "table2", "nemenyi", "settings", "calibration"} <= {
        *names
    }
    on_disk = {path.stem for path in (whole / "report").glob("*.csv")}
    assert on_disk == {*names, "metrics", "confusion"}
    for name in names:
        (article,) = re.findall(rf'id="data-{name}">.*?</article>', text, re.DOTALL)
        rows = len(re.findall("<tr>", article.partition("<tbody>")[2]))
        frame = pd.read_csv(whole / "report" / f"{name}.csv")
        # A row of the printed Table II is three rows of the CSV, one per metric.
        assert rows == (len(frame) // 3 if name == "table2" else len(frame)) > 0
        assert f'href="{name}.csv"' in article


def test_tables_are_those_of_the_study(whole):
    made = read_results(whole).imbalanced
    found = pd.read_csv(whole / "report" / "table2.csv")
    pd.testing.assert_frame_equal(found, made.ranking.table)
    order = pd.read_csv(whole / "report" / "order.csv")
    means = made.ranking.table.query("metric == 'CBA'").sort_values("mean", ascending=False)
    assert [cell.rsplit(" ", 2)[0] for cell in order["CBA"]] == [
        find(name).title for name in means["approach"]
    ]


def test_the_page_needs_nothing_else(text):
    assert not re.search(r'(src|href|action)="(?!data:|#|[\w-]+\.(svg|csv)")', text)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|import\(", text)
    assert len(text.encode()) < 5e6
    assert "http-equiv" not in text


def test_names_of_classes_are_text_and_not_markup(text):
    assert "adipose &lt;&amp;&gt;" in text
    assert "adipose <&>" not in text


def test_the_order_of_effects_is_found(whole):
    verdict = pd.read_csv(whole / "report" / "verdict.csv")
    assert len(verdict) == 9
    assert (verdict["difference"] > 0).all()
    assert (verdict["verdict"] == "too few folds").all(), "three folds"
    assert verdict["rival"].iloc[0] == "Baseline"


def test_the_same_records_give_the_same_bytes(tmp_path, whole):
    """In another process, where sets have another order."""
    shutil.copytree(whole, tmp_path / "copy", ignore=shutil.ignore_patterns("report"))
    seed = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    command = [sys.executable, "-m", "experiments.report", str(tmp_path / "copy")]
    environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True, timeout=300)
    before, again = (
        {path.name: path.read_bytes() for path in (folder / "report").iterdir()}
        for folder in (whole, tmp_path / "copy")
    )
    assert before.keys() == again.keys()
    assert [name for name in before if before[name] != again[name]] == []
    assert "critical-differences-folds.svg" in before


def test_a_partial_study_says_what_is_missing(partial_text):
    assert "partial: 8 of 27 records done, 1 failed" in partial_text
    assert '<meta http-equiv="refresh" content="7">' in partial_text
    (gaps,) = re.findall(r'id="data-gaps">.*?</article>', partial_text, re.DOTALL)
    rows = [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", gaps)]
    found = {tuple(row[:3]): row[3:] for row in rows}
    assert ["1, 2", "missing", ""] in [found["linear", "10", "TS SMOTE+RUS"]]
    assert [row for row in rows if "failed" in row] == [
        ["linear", "10", "Baseline", "0", "failed", "nan &lt;b&gt;"]
    ]
    for words in ("Figs. 1 and 3 need images", "The map of features", "No test on ranks"):
        assert words in partial_text


def test_a_partial_study_decides_nothing(partial_text):
    assert "One fold gives no interval" in partial_text
    assert "wins" not in partial_text
    assert "The study is not complete" in partial_text


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_record(RecordKey("original", 1.0, 0, "baseline"))],
        [make_record(RecordKey("linear", 2.0, 0, "ts_smote_rus"))],
        [failed(RecordKey("linear", 2.0, 0, "baseline"), "out of memory")],
    ],
    ids=["none", "balanced", "one", "failed"],
)
def test_a_study_that_has_hardly_begun_has_a_page(tmp_path, records):
    text = write_report(write_study(tmp_path, KEYS, records)).read_text()
    done = sum(record.status == "done" for record in records)
    assert f"partial: {done} of {len(KEYS)} records done" in text
    assert "No verdict yet" in text
    assert not re.search(r"\bnan\b", re.sub('"data:.*?"', "", text))


def test_records_of_two_configurations_are_refused(tmp_path, capsys):
    other = make_record(TINY[0], settings=SETTINGS | {"epochs": 5})
    folder = write_study(tmp_path, TINY, [make_record(key) for key in TINY[1:]])
    write_study(folder / "more", TINY, [other])
    path = StudyFolder(folder).record(TINY[0])
    path.write_bytes(StudyFolder(folder / "more").record(TINY[0]).read_bytes())
    assert command_line.main([str(folder)]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: record .*baseline.* has the settings .*; expected one .*\n", err)
    assert not (folder / "report").exists()


def test_figure_data_of_another_study_are_refused(tmp_path, capsys):
    folder = write_study(tmp_path, TINY, [])
    write_features(folder, TINY[-1], settings=SETTINGS | {"epochs": 5})
    assert command_line.main([str(folder)]) == 2
    assert "features.safetensors is of a study with settings" in capsys.readouterr().err


def test_damaged_figure_data_are_named(tmp_path, capsys):
    folder = write_study(tmp_path, TINY, [])
    write_features(folder, TINY[-1])
    path = StudyFolder(folder).features
    path.write_bytes(path.read_bytes()[:-9])
    assert command_line.main([str(folder)]) == 2
    assert "features.safetensors cannot be read" in capsys.readouterr().err


def test_a_folder_without_a_study_is_one_clear_line(tmp_path, capsys):
    assert command_line.main([str(tmp_path / "nowhere")]) == 2
    assert re.fullmatch(r"error: found no study\.json in .*nowhere.*\n", capsys.readouterr().err)


def test_an_older_folder_says_that_it_does_not_say(tmp_path):
    text = write_report(write_study(tmp_path, [], [])).read_text()
    assert "0 records done, 0 failed; the folder does not say how many to expect" in text
    assert "study.json does not list the records of this study" in text


@pytest.mark.parametrize(("why", "expected"), [(None, "paper-cells"), ("width", "paper-table2")])
def test_the_page_compares_with_the_paper_or_says_why_not(whole, why, expected):
    results = dataclasses.replace(read_results(whole), why_absent=why)
    blocks = paper_figures.beside_paper(results)
    assert [block.name for block in blocks if isinstance(block, Table)] == [expected]
    assert (why is None) or "width" in blocks[0].text


def test_the_reader_chooses_among_all_confusion_matrices(whole, text):
    source = re.search('id="confusion-data">(.*?)</script>', text, re.DOTALL)[1]
    data = json.loads(source)
    results = read_results(whole)
    for test, matrices in (
        ("imbalanced", results.imbalanced.matrices),
        ("balanced", results.balanced.matrices),
    ):
        for key, matrix in matrices.items():
            cell = data["cells"].index(f"{key.scenario.replace('_', ' ')}, ratio {key.ratio:g}")
            own = data["counts"][f"{key.approach}/{cell}"][str(key.fold)]
            assert own[test] == matrix.ravel().tolist()
    assert data["classes"][0] == "adipose <&>"
    # What is shown first, and on paper, is the sum over the folds.
    first = html.unescape(re.search('id="confusion-title">(.*?)</p>', text)[1])
    assert first == "TS SMOTE+RUS, linear, ratio 2, all folds"
    (table,) = re.findall('id="table-confusion">.*?</table>', text, re.DOTALL)
    shown = re.findall(r'<td class="number">(?:<strong>)?(\d+)', table)
    keys = [RecordKey("linear", 2.0, fold, "ts_smote_rus") for fold in range(3)]
    summed = sum(results.imbalanced.matrices[key] for key in keys)
    assert list(map(int, shown)) == summed.ravel().tolist()


def test_all_confusion_matrices_are_in_the_csv(whole):
    found = pd.read_csv(whole / "report" / "confusion.csv")
    results = read_results(whole)
    assert len(found) == 8 * 2 * len(results.done)
    assert found["true_class"][0] == "adipose <&>"
    own = found.query("scenario == 'half_minority' and ratio == 10 and fold == 2")
    own = own.query("approach == 'fs_ros' and test_fold == 'balanced'")
    matrix = results.balanced.matrices[RecordKey("half_minority", 10.0, 2, "fs_ros")]
    assert np.array_equal(own.iloc[:, -8:], matrix)


def test_settings_and_commands_are_printed(text):
    (settings,) = re.findall(r'id="data-settings">.*?</article>', text, re.DOTALL)
    assert "<td>0.9</td><td>silent</td>" in settings
    assert "python -m experiments.reproduce --preset paper" in text
    assert "f" * 64 in text
