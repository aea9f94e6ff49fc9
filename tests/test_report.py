"""The report: what a page holds, of whole, partial, empty and mixed studies."""

import base64
import dataclasses
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_study import SETTINGS, make_record, study_keys, write_features, write_study

from experiments import report as command_line
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.evaluation import metrics, paper, statistics, tables
from twostage_jax.evaluation.tables import confusion_matrices, find_approaches
from twostage_jax.report import (
    costs,
    learning,
    looks,
    paper_figures,
    pictures,
    precision,
    provenance,
    ranks,
    recall,
    write_report,
)
from twostage_jax.report.blocks import Table, make_table
from twostage_jax.report.results import read_results
from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import PAPER, Approach, Stage1, Stage2, Style, find
from twostage_jax.study.figure_data import FigureImages, choose_images, write_figure_data
from twostage_jax.study.folder import Description, StudyFolder, write_description
from twostage_jax.study.record import RecordKey, failed_record
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

ROOT = Path(__file__).parents[1]
KEYS = study_keys(("linear", "half_minority"), (1.0, 2.0, 10.0), folds=3)
TINY = study_keys(("linear",), (10.0,), folds=1)


def failed(key, reason):
    record = make_record(key)
    names = ("class_counts", "settings", "settings_hash", "versions", "device")
    return failed_record(key, reason, **{name: getattr(record, name) for name in names})


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
        "recall-by-class-size", "learning-curves", "feature-map", "cost",
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
    assert {"verdict", "order", "table1", "table2", "nemenyi", "settings", "cost"} <= {*names}
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


def test_pictures_of_an_earlier_state_are_removed(tmp_path):
    folder = write_study(tmp_path, TINY, [])
    target = folder / "report"
    target.mkdir()
    for name in ("old.svg", "old.csv", "kept.txt"):
        (target / name).write_text("old")
    write_report(folder)
    assert not (target / "old.svg").exists()
    assert not (target / "old.csv").exists()
    assert (target / "kept.txt").exists()


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


# The paper's numbers.

PAPERS = SETTINGS | dataclasses.asdict(Protocol()) | {"dataset": "colorectal_histology"}
PAPERS |= {"weights": "e" * 64}
ITS_KEYS = study_keys(SCENARIOS, RATIOS, FOLDS)


@pytest.fixture(scope="module")
def its_records():
    """As many as the paper's, which only differ in their keys: no more is looked at."""
    one = make_record(ITS_KEYS[0], images_per_class=10)
    return [dataclasses.replace(one, key=key) for key in ITS_KEYS]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"seed": 7}, None),
        ({"width": 0.25}, "in width$"),
        ({"dataset": "folder"}, "in the data set$"),
        ({"image_size": [96, 96]}, "in the image size$"),
        ({"weights": "random"}, "in the initial weights$"),
        ({"epochs": 5, "decay": 0.99}, "in epochs, decay$"),
        ({"network": "mobilenet_v2"}, "in network$"),
    ],
)
def test_the_papers_numbers_stand_beside_the_papers_protocol_only(its_records, changes, words):
    why = paper.why_not_comparable(PAPERS | changes, [625] * 8, its_records, "imbalanced")
    assert (why is None) if words is None else re.search(words, why)


def test_the_papers_numbers_stand_beside_the_papers_partitions_only(its_records):
    def why(counts, records, test):
        return paper.why_not_comparable(PAPERS, counts, records, test)

    assert why([625] * 8, its_records, "imbalanced") is None
    assert why([625] * 7 + [626], its_records, "imbalanced").endswith("in the data set")
    assert why([625] * 8, its_records[:-1], "imbalanced").endswith("approaches that are done")
    assert why([625] * 8, its_records, "balanced").endswith("balance of the test folds")


@pytest.mark.parametrize(("why", "expected"), [(None, "paper-cells"), ("width", "paper-table2")])
def test_the_page_compares_with_the_paper_or_says_why_not(whole, why, expected):
    results = dataclasses.replace(read_results(whole), why_absent=why)
    blocks = paper_figures.beside_paper(results)
    assert [block.name for block in blocks if isinstance(block, Table)] == [expected]
    assert (why is None) or "width" in blocks[0].text


def test_every_cell_of_the_paper_is_compared():
    ours = [make_record(key) for key in study_keys(ratios=RATIOS[1:], folds=1)]
    made = tables.make_tables(ours, expected=[], why_absent=None)
    cells = paper_figures.compare(made)
    assert list(cells["table"].value_counts()[["I", "II", "II, rank"]]) == [36 * 4, 27, 27]
    one = cells.query("table == 'I' and scenario == 'single minority' and ratio == '5'")
    row = one.query("metric == 'CBA' and title == 'IS ROS'").iloc[0]
    assert row["paper"] == 0.8949
    assert row["difference"] == pytest.approx(row["ours"] - 0.8949)
    best = cells.query("table == 'II' and title == 'TS SMOTE+RUS' and metric == 'MAvG'").iloc[0]
    assert best["paper"] == 0.9050


def test_a_setting_that_a_folder_is_too_old_to_have_is_the_default_of_its_day(its_records):
    for name in dataclasses.asdict(Protocol()):
        old = {key: value for key, value in PAPERS.items() if key != name}
        assert paper.why_not_comparable(old, [625] * 8, its_records, "imbalanced") is None
    assert paper.why_not_comparable({}, [625] * 8, its_records, "imbalanced") is not None


def test_approaches_beyond_the_papers_are_not_compared(its_records):
    more = dataclasses.replace(its_records[-1], key=RecordKey("linear", 2.0, 0, "fs_tomek"))
    why = paper.why_not_comparable(PAPERS, [625] * 8, [*its_records, more], "imbalanced")
    assert why.endswith("in the partitions and approaches that are done")


# Two studies that differ in precision.


def study_of(folder, keys, dropped=(), **changes):
    """A study with other settings, and every record's scores other by its precision."""
    settings = SETTINGS | changes
    records = [make_record(key, settings=settings) for key in keys]
    if settings["precision"] != "float32":
        records = [shaken(record) for record in records]
    kept = [record for record in records if record.key not in dropped]
    return write_study(folder, keys, kept)


def shaken(record):
    """The record with a tenth of its predictions drawn anew, others in each partition."""
    key = record.key
    rng = np.random.default_rng([7, key.fold, int(key.ratio), *map(ord, key.approach)])
    probabilities = record.probabilities.copy()
    drawn = rng.random(len(probabilities)) < 0.1
    probabilities[drawn] = np.eye(8)[rng.integers(0, 8, drawn.sum())]
    return dataclasses.replace(record, probabilities=probabilities)


@pytest.fixture(scope="module")
def two_precisions(tmp_path_factory):
    """A float32 study of three folds, its page alone, and a bfloat16 study that lacks records."""
    folder = tmp_path_factory.mktemp("precisions")
    dropped = [RecordKey("linear", 2.0, 1, "ts_smote_rus")]
    dropped += [key for key in KEYS if key.approach == "fs_ros" and key.fold == 2]
    dropped += [key for key in KEYS if key.approach == "is_ros"]
    half = study_of(folder / "bfloat16", KEYS, dropped, precision="bfloat16")
    single = study_of(folder / "float32", KEYS)
    write_report(half)
    return half, single


def scores_of(record):
    """AvAcc, CBA and MAvG of a record's imbalanced test fold, by their definitions."""
    label = record.label[record.kept]
    predicted = record.probabilities[record.kept].argmax(axis=1)
    counts = np.zeros((8, 8))
    np.add.at(counts, (label, predicted), 1)
    right, true, said = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    recall = right / true
    return recall.mean(), (right / np.maximum(true, said)).mean(), recall.prod() ** (1 / 8)


def files_of(folder):
    return {path.name: path.read_bytes() for path in (folder / "report").iterdir()}


def test_the_precision_section_holds_what_the_records_say(two_precisions):
    half, single = two_precisions
    alone = files_of(half)
    assert command_line.main([str(half), "--beside", str(single)]) == 0
    found = pd.read_csv(half / "report" / "precision.csv")
    ours, theirs = (
        {record.key: scores_of(record) for record in read_results(folder).done}
        for folder in (half, single)
    )
    common = [key for key in ours if key in theirs and key.ratio > 1]
    rows = {(row.metric, row.approach): row for row in found.itertuples()}
    assert len(rows) == len(found) == 3 * 8, "all but image-space ROS"
    numbers = set()
    for approach in {key.approach for key in common}:
        own = [key for key in common if key.approach == approach]
        folds = sorted({key.fold for key in own})
        for column, metric in enumerate(tables.METRICS):
            means = [
                np.mean([ours[key][column] - theirs[key][column] for key in own if key.fold == f])
                for f in folds
            ]
            row = rows[metric, find(approach).title]
            assert row.difference == pytest.approx(np.mean(means), abs=1e-9)
            assert min(means) - 1e-9 <= row.low < row.difference < row.high <= max(means) + 1e-9
            assert (row.partitions, row.folds) == (len(own), len(folds))
            numbers.add((row.partitions, row.folds))
    assert numbers == {(12, 3), (11, 3), (8, 2)}, "of all, without one, without a fold"

    page = (half / "report" / "index.html").read_text()
    (part,) = re.findall('<section id="precision">.*?</section>\n', page, re.DOTALL)
    assert "<h2>What the precision changes</h2>" in part
    assert "At least one of the two studies is not complete" in part
    av_acc = found[found["metric"] == "AvAcc"]
    low, high = av_acc["low"].round(4), av_acc["high"].round(4)
    apart = av_acc["approach"][(low > 0) | (high < 0)]
    assert len(apart) > 0
    assert html.unescape(re.search("<p>(.*?)</p>", part)[1]) == (
        f"In AvAcc, bfloat16 minus float32 is {av_acc['difference'].mean():+.4f}, the mean over "
        f"8 approaches; of 8 intervals {len(apart)} exclude{'s' * (len(apart) == 1)} 0 "
        f"({', '.join(apart)}), but fewer than 6 folds decide nothing."
    )

    # All else is as it was, and is again when the option is left out.
    link = '<li><a href="#precision">What the precision changes</a></li>\n'
    assert page.replace(part, "").replace(link, "").encode() == alone["index.html"]
    beside = files_of(half)
    assert beside.keys() - alone.keys() == {"precision.csv"}
    assert all(beside[name] == alone[name] for name in alone if name != "index.html")
    assert command_line.main([str(half)]) == 0
    assert files_of(half) == alone


@pytest.mark.parametrize(
    ("by_fold", "words"),
    [
        ([0.01], "+0.0100, the mean over 1 approach; one fold gives no interval: nothing"),
        ([-1e-6] * 6, "+0.0000, the mean over 1 approach; of 1 interval none excludes 0."),
        ([-0.01] * 6, "-0.0100, the mean over 1 approach; of 1 interval 1 excludes 0 (Baseline)."),
        ([0.01] * 5, "excludes 0 (Baseline), but fewer than 6 folds decide nothing."),
    ],
)
def test_the_sentence_on_precision_says_no_more_than_its_folds(by_fold, words):
    frame = pd.DataFrame(
        [
            {"scenario": "linear", "ratio": 2.0, "fold": fold, "approach": name, "AvAcc": value}
            for fold, difference in enumerate(by_fold)
            for name, value in (("tf32", 0.5 + difference), ("float32", 0.5))
        ]
    )
    one = statistics.paired_difference(frame, "AvAcc", "float32", own="tf32")
    found = precision.sentence({"baseline": [one]}, "tf32", "float32", {"baseline": "Baseline"})
    assert found.startswith("In AvAcc, tf32 minus float32 is ")
    assert words in found


OTHER_KEYS = study_keys(("half_minority",), (1.0, 10.0), folds=1)


@pytest.mark.parametrize(
    ("keys", "changes", "words"),
    [
        (TINY, {}, r"has the precision float32, the report's study float32; expected .*; name"),
        (TINY, {"precision": None}, r"has the precision None, the report's .*; expected .*; name"),
        (TINY, {"epochs": 5}, r"differs from the report's study in epochs; expected .*; name"),
        (
            TINY,
            {"epochs": 5, "new": 1, "precision": "tf32"},
            r"differs from the report's study in epochs, new; expected .*; name",
        ),
        (OTHER_KEYS, {"precision": "tf32"}, r"have no finished record .*; expected some; run"),
        # The balanced baseline is common to both, and does not count.
        (OTHER_KEYS[:1], {"precision": "tf32"}, r"have no finished record .*; expected some; run"),
        ([], {}, r"found no study\.json in"),
    ],
    ids=["equal", "unknown", "epochs", "more", "nothing common", "balanced only", "no study"],
)
def test_a_study_that_does_not_fit_beside_is_one_clear_line(tmp_path, capsys, keys, changes, words):
    ours = study_of(tmp_path / "ours", [RecordKey("original", 1.0, 0, "baseline"), *TINY])
    other = tmp_path / "other"
    if keys:
        study_of(other, keys, **changes)
    assert command_line.main([str(ours), "--beside", str(other)]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(rf"error: .*{words}.*\n", err)
    assert str(other) in err
    assert not (ours / "report").exists()


# Parts.


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


def test_a_p_value_is_never_printed_as_zero():
    frame = pd.DataFrame({"p": [0.0, 9e-5, 1.1e-4, 0.04986, np.nan]})
    table = make_table("p", "", "", frame, {"p": ("p", 4)}, small={"p"})
    printed = [row[0].text for row in table.sheet.rows]
    assert printed == ["<0.0001", "<0.0001", "0.0001", "0.0499", "-"]


def test_recall_by_size_keeps_every_class():
    records = [make_record(key) for key in TINY]
    matrices = confusion_matrices(records, "balanced")
    found = recall.recall_by_size(records, matrices)
    assert list(found["approach"].unique()) == list(PAPER)
    assert (found.groupby("approach")["classes"].sum() == 8).all()
    for record in records:
        own = found[found["approach"] == record.key.approach]
        weighted = (own["recall"] * own["classes"]).sum() / 8
        assert weighted == pytest.approx(metrics.average_accuracy(matrices[record.key]))
        assert (own["images"] * own["classes"]).sum() == pytest.approx(record.class_counts.sum())
        assert own["images"].is_monotonic_increasing


def cells_of(names):
    records = [make_record(key) for key in TINY if key.approach in names]
    return costs.cost_of_cells(records, find_approaches(names))


def test_a_network_that_approaches_share_costs_once():
    cells = cells_of(PAPER).set_index("network")
    assert list(cells.index) == ["baseline", "is_rus", "is_ros", "is_smote"]
    assert cells["sampler"].tolist() == ["none", "RUS", "ROS", "SMOTE"]
    assert cells["networks"].tolist() == [1, 1, 1, 1]
    assert cells["heads"].tolist() == [3, 0, 0, 2]
    assert cells["stage1"].tolist() == [20.0] * 4
    assert cells["stage2"].tolist() == [2.0, 0.5, 0.5, 1.5]  # half a second per record
    assert cells["images_per_second"].tolist() == [450.0] * 4


def test_a_network_is_told_by_what_stage_1_trains_on():
    names = ["fs_rus", "fs_ros", "ts_smote_smote", "ts_smote_rus"]
    cells = cells_of(names)
    assert cells["network"].tolist() == ["fs_rus", "ts_smote_smote"]
    assert cells["networks"].tolist() == [1, 1]
    approaches = find_approaches([*names, "is_smote", "post_prior"])
    shown = learning.networks(approaches)
    assert shown == {Stage1("smote"): "is_smote", Stage1(): "fs_rus"}


def test_every_setting_is_explained():
    protocol = {field.name for field in dataclasses.fields(Protocol)}
    assert protocol <= provenance.SETTINGS.keys()
    explained = provenance.SETTINGS.keys() | {"dataset", "fingerprint", "classes"}
    assert {*SETTINGS} <= explained


def test_settings_of_another_version_are_printed(tmp_path):
    settings = {name: value for name, value in SETTINGS.items() if name != "epsilon_in_root"}
    write_description(tmp_path, Description(settings=settings | {"novel": "value of it"}))
    write_report(tmp_path)
    found = pd.read_csv(tmp_path / "report" / "settings.csv").set_index("setting")["value"]
    assert found["novel"] == "value of it"
    assert found["epsilon_in_root"] == "False"
    assert found["network"] == "mobilenet_v1"


def test_settings_and_commands_are_printed(text):
    (settings,) = re.findall(r'id="data-settings">.*?</article>', text, re.DOTALL)
    assert "<td>0.9</td><td>silent</td>" in settings
    assert "python -m experiments.reproduce --preset paper" in text
    assert "f" * 64 in text


def test_interpolation_ends_at_the_real_images():
    pair = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    images = pictures.interpolate(pair, (0.0, 0.5, 1.0))
    assert np.array_equal(images[[0, 2]], pair)
    middle = pair.astype(int).sum(axis=0) / 2
    assert np.abs(images[1] - middle).max() <= 0.5


def test_figure_images_are_as_many_as_the_smallest_class_has(small_image_set):
    made = choose_images(small_image_set, "abc", None)
    assert isinstance(made, FigureImages)
    assert made.samples.shape == (8, 5, 32, 32, 3)
    assert len(made.pair) == 0
    for label, own in enumerate(made.samples):
        members = small_image_set.images[small_image_set.labels == label]
        assert all((image == members).all(axis=(1, 2, 3)).any() for image in own)


# The standard matrices of how colors appear without one kind of cone (Machado et al., 2009,
# severity 1), on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lab(color, sight):
    """CIE L*a*b* of a color as it appears."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(to_xyz @ seen / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_any_reader_tells_the_papers_approaches_apart_by_color(sight):
    """A difference of 10 is seen at a glance."""
    made = looks.make_looks(find_approaches(PAPER))
    for one, other in itertools.combinations(made.values(), 2):
        colors = (lab(look.color, SIGHT[sight]) for look in (one, other))
        assert np.linalg.norm(np.subtract(*colors)) > 15, (one, other)


MANY = [
    *PAPER,
    *(f"{space}_{sampler}" for space in ("is", "fs") for sampler in SAMPLERS),
    *(f"ts_{one}_{other}" for one in ("rus", "ros", "smote", "adasyn") for other in SAMPLERS),
    "post_prior",
    *(f"own_{i}" for i in range(5)),
]


@pytest.mark.parametrize("sight", SIGHT)
def test_many_approaches_look_different(sight):
    made = looks.make_looks(find_approaches(MANY))
    assert len(made) >= 60
    for name, look in made.items():
        color = lab(look.color, SIGHT["all cones"])
        assert name in PAPER or 20 < color[0] < 62, "dark enough for white paper"
    for one, other in itertools.combinations(made.values(), 2):
        if one.marker == other.marker and one.line == other.line:
            colors = (lab(look.color, SIGHT[sight]) for look in (one, other))
            assert np.linalg.norm(np.subtract(*colors)) > 6, (one, other)


def test_a_family_has_a_hue_and_its_members_shades():
    made = looks.make_looks(find_approaches(MANY))
    hues = {}
    for name, look in made.items():
        if name not in PAPER:
            _, a, b = lab(look.color, SIGHT["all cones"])
            hues.setdefault(look.family, []).append(np.degrees(np.arctan2(b, a)) % 360)
    assert len(hues) == 5
    for one, other in itertools.combinations(hues.values(), 2):
        apart = np.abs(np.subtract.outer(one, other))
        assert np.minimum(apart, 360 - apart).min() > 15


def test_the_papers_looks_are_fixed_and_an_approachs_own_style_comes_first():
    alone = looks.make_looks(find_approaches(["ts_smote_rus"]))["ts_smote_rus"]
    among = looks.make_looks(find_approaches(MANY))["ts_smote_rus"]
    assert alone == among == ("TS SMOTE+RUS", "two-stage", "#882255", "P", "-")
    own = Approach("ts_smote_rus", "Ours", "other", style=Style("gold", "$x$", ":"))
    made = looks.make_looks({"ts_smote_rus": own})
    assert made["ts_smote_rus"] == ("Ours", "other", "gold", "$x$", ":")


@pytest.mark.parametrize(
    "style", [Style("no color", "o"), Style("red", "no marker"), Style("red", "o", "no line")]
)
def test_a_style_that_cannot_be_drawn_is_one_clear_line(style):
    with pytest.raises(InputError, match=r"style of approach 'x' .*; expected .*; change") as found:
        looks.make_looks({"x": Approach("x", "X", "other", style=style)})
    assert "\n" not in str(found.value)


# Studies of any approaches.

OURS = {
    "our_own": Approach(
        "our_own",
        "Our <own> & only",
        "other",
        stage1=Stage1("of_elsewhere"),
        stage2=Stage2("rus"),
        style=Style("#ff8800", "*", "--"),
    )
}


def report_of(folder, names, folds=3, recipes=None, scenarios=("linear",), ratios=(1.0, 2.0, 10.0)):
    keys = study_keys(scenarios, ratios, folds, names)
    records = [make_record(key, recipes=recipes) for key in keys]
    page = write_report(write_study(folder, keys, records, recipes=recipes)).read_text()
    assert f"complete: {len(keys):,} records" in page
    assert not re.search(r"\bnan\b", re.sub('"data:.*?"', "", page))
    tables_of = {path.stem: pd.read_csv(path) for path in (folder / "report").glob("*.csv")}
    return page, tables_of


def test_a_study_of_other_approaches_has_every_number(tmp_path):
    others = [*(f"fs_{sampler}" for sampler in SAMPLERS), "ts_rus_tomek", "ts_smote_enn"]
    names = ["baseline", "is_adasyn", *others, "post_prior", "our_own"]
    page, found = report_of(tmp_path, names, recipes=OURS)
    assert html.escape("Our <own> & only") in page
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} >= {
        "differences", "critical-differences-folds", "critical-differences-partitions", "spread",
        "approaches-by-ratio", "test-folds", "recall-by-class-size", "learning-curves", "cost",
    }  # fmt: skip
    assert set(found["table2"]["approach"]) == set(names)
    assert list(found["table1"].columns[3:]) == ["baseline", "is_adasyn"]
    titles = {approach.title for approach in find_approaches(names, OURS).values()}
    assert set(found["recall-by-class-size"]["title"]) == titles
    assert set(found["test-folds"]["title"]) == titles
    # The best stands in the place of the approach that this study lacks, and the page says that.
    assert "This study has no scores of TS SMOTE+RUS" in page
    assert "chosen on the same partitions that follow, which favors it" in page
    means = found["table2"].query("metric == 'AvAcc'").set_index("approach")["mean"]
    best = find_approaches([means.idxmax()], OURS)[means.idxmax()]
    assert f"<h3>{html.escape(best.title)} minus its rivals</h3>" in page
    rivals = set(found["verdict"]["rival"].str.replace(r" \(.*", "", regex=True))
    families = {approach.family for approach in find_approaches(names, OURS).values()}
    assert len(rivals) == len(families) - 1
    assert len(found["nemenyi"]) == 2 * 3 * (len(names) - 1)
    samplers = set(found["cost"]["sampler"])
    assert samplers == {"none", "RUS", "ADASYN", "SMOTE", "of_elsewhere"}
    assert found["cost"]["networks"].sum() == 5 * 2 * 3 + 3, "those of ratio 1 as well"
    assert found["cost"]["heads"].sum() == (len(others) + 1) * 2 * 3
    assert set(found["paper-table2"]["approach"]) == set(PAPER)


@pytest.mark.parametrize(
    ("names", "verdict"),
    [
        (["baseline", "fs_tomek"], "FS Tomek"),
        (["fs_enn", "fs_tomek"], "the next in its family"),
        (["is_rus", "fs_rus", "ts_ros_ros"], "This study has no scores of TS SMOTE+RUS"),
        (["is_rus", "ts_smote_rus"], "TS SMOTE+RUS is"),
        (["our_own"], "No verdict yet"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_few_approaches_have_a_page(tmp_path, names, verdict):
    page, found = report_of(tmp_path, names, folds=2, recipes=OURS, ratios=(10.0,))
    assert verdict in page
    assert set(found["table2"]["approach"]) == set(names)
    assert ("nemenyi" in found) == (len(names) > 2)


def test_approaches_that_never_differ_have_no_p_value(tmp_path):
    keys = study_keys(("linear",), (10.0,), 2, ["baseline", "is_rus", "fs_rus"])
    same = {key.fold: make_record(key) for key in keys if key.approach == "baseline"}
    records = [dataclasses.replace(same[key.fold], key=key) for key in keys]
    blocks = ranks.blocks(read_results(write_study(tmp_path, keys, records)))
    assert "alike: AvAcc -, CBA -, MAvG -." in blocks[0].caption


def test_an_approach_that_nobody_knows_has_a_page(tmp_path):
    """An older version's folder has no recipes, and the approach is not registered here."""
    page, found = report_of(tmp_path, ["baseline", "unheard_of"], folds=2)
    assert "unheard_of" in page
    assert found["cost"]["sampler"].tolist() == ["none"] * 3 + ["unheard_of"] * 2


def test_a_folder_without_features_says_how_to_have_the_map(tmp_path):
    for names, words in (
        (["baseline", "fs_rus"], "delete it and run the study's command again to have the map"),
        (["baseline", "is_rus"], "no record with a stage 2 is there yet"),
    ):
        keys = study_keys(("linear",), (10.0,), 1, names)
        folder = write_study(tmp_path / names[1], keys, [make_record(key) for key in keys])
        assert words in learning.feature_map(read_results(folder)).text


# The command line, while a study runs.


def test_watching_draws_again_when_records_come_and_ends_quietly(tmp_path, monkeypatch, capsys):
    folder = write_study(tmp_path, TINY, [])
    drawn, looks = [], []

    def draw(results, refresh, beside):
        drawn.append((len(list(results.rglob("*.safetensors"))), refresh))
        return results / "report" / "index.html"

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            write_study(folder, TINY, [make_record(TINY[0])])
        if len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "write_report", draw)
    monkeypatch.setattr(time, "sleep", sleep)
    assert command_line.main([str(folder), "--watch", "--interval", "9"]) == 0
    assert drawn == [(0, 9), (1, 9)]
    assert looks == [9] * 4
    assert capsys.readouterr().err == ""


def test_a_study_that_has_not_begun_is_waited_for(tmp_path, monkeypatch, capsys):
    folder, looks = tmp_path / "study", []

    def sleep(_):
        looks.append(capsys.readouterr().out)
        if len(looks) == 2:
            write_study(folder, TINY, [])
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert command_line.main([str(folder), "--watch"]) == 0
    assert looks[0] == f"no study in {folder} yet; waiting for one\n"
    assert looks[1] == ""
    assert looks[2].endswith(f"{folder / 'report' / 'index.html'}\n")


def test_an_interval_is_above_zero(tmp_path, capsys):
    assert command_line.main([str(tmp_path), "--watch", "--interval", "0"]) == 2
    assert "found --interval 0; expected" in capsys.readouterr().err


def test_a_report_that_cannot_be_drawn_is_a_warning(tmp_path):
    warnings = []
    live = command_line.LiveReport(tmp_path / "nowhere", warnings.append)
    assert live.draw() is None
    (line,) = warnings
    assert line.startswith("no report: found no study.json")
    assert "the study is not affected" in line


def test_a_running_study_spends_a_fiftieth_of_its_time_on_the_report(monkeypatch, tmp_path):
    clock = itertools.count(0.0, 1.0)
    now = [0.0]
    drawn = []

    def draw(folder, refresh):
        drawn.append(now[0])
        now[0] += 5  # seconds that drawing takes
        return folder

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(command_line, "write_report", draw)
    live = command_line.LiveReport(tmp_path, drawn.append)
    for _ in clock:
        now[0] += 1
        live.update()
        if now[0] > 3000:
            break
    assert drawn[0] == 60
    assert 0.01 < 5 * len(drawn) / now[0] <= 0.02


@pytest.mark.slow
def test_the_report_of_the_papers_study_takes_less_than_30_seconds(tmp_path):
    keys = ITS_KEYS
    assert len(keys) == 1090
    records = [make_record(key, settings=PAPERS) for key in keys]
    folder = write_study(tmp_path, keys, records, images=625)
    write_features(folder, keys[-1], settings=PAPERS)
    started = time.perf_counter()
    written = write_report(folder)
    assert time.perf_counter() - started < 30
    assert written.stat().st_size < 5e6
    assert "complete: 1,090 records" in written.read_text()
    assert len(pd.read_csv(written.parent / "paper-cells.csv")) == 36 * 4 + 27 + 27
