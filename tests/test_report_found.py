"""The report of a study of the data as they are: what it shows, and what it leaves out."""

import dataclasses
import html
import json
import re

import numpy as np
import pandas as pd
import pytest
from report_study import (
    FOUND,
    SETTINGS,
    failed,
    found_keys,
    found_record,
    make_record,
    study_keys,
    write_study,
)

from twostage_jax.evaluation import tables
from twostage_jax.report import precision, scores, write_report
from twostage_jax.report.results import read_results
from twostage_jax.study.figure_data import choose_images, write_figure_data
from twostage_jax.study.folder import (
    Description,
    StudyFolder,
    read_description,
    write_description,
)
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

NAMES = ("baseline", "is_rus", "fs_smote", "ts_smote_rus")
EFFECTS = {"is_rus": -0.1, "fs_smote": 0.1, "ts_smote_rus": 0.125}
FIT = "twostage fit 'cells {x}' --approach {approach} --output 'a & b'"


@pytest.fixture(scope="module")
def found(tmp_path_factory, small_image_set):
    """A complete study of five splits, and its page."""
    keys = found_keys(5, NAMES)
    records = [found_record(key, EFFECTS) for key in keys]
    folder = tmp_path_factory.mktemp("found")
    write_study(folder, keys, records, images=FOUND, fit=FIT)
    settings_hash = Description(settings=SETTINGS).settings_hash
    write_figure_data(folder, choose_images(small_image_set, settings_hash, (0, 1)))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def text(found):
    return re.sub('"data:.*?"', "", (found / "report" / "index.html").read_text())


def part(text, anchor):
    (own,) = re.findall(rf'<section id="{anchor}">.*?</section>', text, re.DOTALL)
    return own


def test_nothing_of_the_paper_is_there_and_nothing_is_empty(found, text):
    drawn = {path.stem for path in (found / "report").glob("*.svg")}
    assert drawn == {
        "differences", "spread", "recall-by-class-size", "critical-differences-splits",
        "reliability", "class-counts", "samples", "smote", "learning-curves", "cost",
        "calibration", "reliability-corrected",
    }  # fmt: skip
    frames = {path.stem: pd.read_csv(path) for path in (found / "report").glob("*.csv")}
    assert {"verdict", "table2", "calibration", "recall-by-class", "nemenyi"} <= frames.keys()
    assert not frames.keys() & {"table1", "paper-table2", "paper-cells", "test-folds"}
    assert all(len(frame) for frame in frames.values())
    assert "<tbody>\n</tbody>" not in text
    body = text.partition("<footer>")[0]
    shown = words(body).replace("--preset paper", "")  # of the command
    assert not re.search(r"paper|Table I|Fig\.|\bratio|\bpartition|\bfolds?\b|\bnan\b", shown)


def words(page):
    """The text that a page shows, without markup, styles, scripts and what is hidden."""
    bare = re.sub(
        r"<(script|style|label hidden).*?</(script|style|label)>", "", page, flags=re.DOTALL
    )
    return re.sub("<.*?>", " ", bare, flags=re.DOTALL)


def test_the_recommendation_is_on_top_with_the_command_that_fits_it(text):
    first = re.search('<section id="(.*?)">', text)[1]
    assert first == "recommendation"
    own = part(text, "recommendation")
    assert "Recommended: FS SMOTE, which resamples the features" in own
    assert "the two are not told apart, and FS SMOTE is the simpler one" in own
    assert "Caution: 5 splits are few" in own
    (command,) = re.findall("<pre.*?><code>(.*?)</code></pre>", own, re.DOTALL)
    assert html.unescape(command) == FIT.replace("{approach}", "fs_smote")


def test_the_verdict_is_about_the_best_and_says_how_it_was_chosen(found, text):
    own = part(text, "verdict")
    assert "This is about TS SMOTE+RUS, because it has the highest mean AvAcc" in own
    assert "chosen on the same splits" in own
    assert "it is ahead in 5 of 5 splits. Too few splits to decide" in own
    verdict = pd.read_csv(found / "report" / "verdict.csv")
    assert list(verdict["rival"].unique()) == [
        "Baseline",
        "IS RUS (best in image space)",
        "FS SMOTE (best in feature space)",
    ]


def test_tables_of_the_page_are_those_of_the_records(found):
    results, report = read_results(found), found / "report"
    ranking = results.imbalanced.ranking
    assert (ranking.partitions, ranking.incomplete) == (5, 0)
    pd.testing.assert_frame_equal(pd.read_csv(report / "table2.csv"), ranking.table)
    recall = pd.read_csv(report / "recall-by-class.csv")
    means = results.scores.groupby("approach")["AvAcc"].mean()
    for name in NAMES:
        assert recall[name].mean() == pytest.approx(means[name])
    assert recall["Images"].is_monotonic_decreasing
    calibration = pd.read_csv(report / "calibration.csv")
    assert (calibration["samples"] == 5 * sum(count // 5 for count in FOUND)).all()
    accuracy = results.scores.groupby("approach")["Acc"].mean()[list(calibration["approach"])]
    np.testing.assert_allclose(calibration["accuracy"], accuracy)


def test_confusion_matrices_offer_splits_only(found, text):
    assert "<label>Split <select" in text
    assert "<label hidden>Partitions" in text
    assert '<option value="balanced">' not in text
    frame = pd.read_csv(found / "report" / "confusion.csv")
    assert set(frame["test_fold"]) == {"whole"}
    assert len(frame) == 8 * 4 * 5


def test_printed_tables_have_no_first_one(found, tmp_path):
    made = read_results(found).imbalanced
    tables.write_tables(tmp_path, made)
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"metrics.csv", "table2.csv", "tables.md"}
    lines = (tmp_path / "tables.md").read_text().splitlines()
    assert lines[0] == "## Approaches: means (and average ranks) over the splits"
    assert "- 4 approaches ranked on 5 splits." in lines
    assert not [line for line in lines if "Table" in line or "paper" in line]


def test_what_a_study_is_to_cover_decides_and_not_what_is_there():
    """Of a study of several ratios, the baseline at ratio 1 may be done first."""
    keys = study_keys(("linear",), (1.0, 10.0), 2, ("baseline", "fs_rus"))
    first = [make_record(key) for key in keys if key.ratio == 1]
    begun = tables.make_tables(first, expected=keys, why_absent="own data")
    assert not begun.as_found
    assert len(begun.counted) == 0
    assert len(tables.sheets(begun)) == 2
    alone = tables.make_tables(first, expected=[r.key for r in first], why_absent="own data")
    assert alone.as_found
    assert alone.ranking.partitions == 2
    added = tables.make_tables(
        [make_record(key) for key in keys], expected=[r.key for r in first], why_absent="own data"
    )
    assert not added.as_found, "records of an earlier command count, too"
    assert (added.counted["ratio"] == 10).all()


@pytest.mark.parametrize(
    ("done", "recommendation"),
    [
        ([], "No recommendation yet"),
        (["baseline"], "No recommendation: one approach alone"),
        (["baseline", "is_rus"], "No recommendation: one split"),
    ],
    ids=["none", "one", "two"],
)
def test_a_study_that_has_hardly_begun_has_a_page(tmp_path, done, recommendation):
    keys = found_keys(2, NAMES)
    there = [key for key in keys if key.fold == 0 and key.approach in done]
    records = [found_record(key) for key in there] or [failed(keys[0], "out of memory")]
    page = write_report(write_study(tmp_path, keys, records, images=FOUND, fit=FIT)).read_text()
    assert f"partial: {len(done)} of {len(keys)} records done" in page
    assert recommendation in page
    assert "<pre" not in page, "no command without a recommendation"
    assert not re.search(r"\bnan\b", words(page))
    assert ("Spread over the splits" in page) == bool(done)


def test_test_folds_that_differ_are_compared(tmp_path):
    records = [found_record(key) for key in found_keys(1, NAMES[:2])]
    results = read_results(write_study(tmp_path, [r.key for r in records], records))
    assert results.same_test_folds
    half = [dataclasses.replace(r, kept=np.arange(len(r.label)) % 2 == 0) for r in records]
    results = read_results(write_study(tmp_path, [r.key for r in half], half))
    names = [block.name for block in scores.blocks(results)]
    assert names[:4] == ["score-intervals", "spread", "test-folds", "test-folds"]


def test_two_precisions_of_such_a_study_are_compared(tmp_path):
    keys = found_keys(2, NAMES[:2])
    for name in ("float32", "bfloat16"):
        settings = SETTINGS | {"precision": name}
        records = [found_record(key, settings=settings) for key in keys]
        write_study(tmp_path / name, keys, records)
    results = read_results(tmp_path / "float32")
    other = precision.read_beside(results, tmp_path / "bfloat16")
    section = precision.section(results, other)
    assert "bfloat16 is +0.0000" in section.blocks[0].paragraphs[0]
    assert "paired by split, then averaged" in section.blocks[-1].caption


@pytest.mark.usefixtures("unchecked_types")
def test_the_command_that_fits_is_kept_and_an_empty_one_leaves_no_trace(tmp_path):
    write_description(tmp_path, Description(settings=SETTINGS, fit=FIT))
    assert read_description(tmp_path).fit == FIT
    write_description(tmp_path, Description(settings=SETTINGS))
    path = StudyFolder(tmp_path).description
    fields = json.loads(path.read_text())
    assert "fit" not in fields
    assert read_description(tmp_path).fit == ""
    path.write_text(json.dumps(fields | {"fit": 7}))
    with pytest.raises(InputError, match=r"its fit is .*; expected one that this program wrote"):
        read_description(tmp_path)


def test_a_page_of_many_approaches_corrects_for_all_rivals(tmp_path):
    """Thirteen approaches are more than one panel or one row of a table has room for."""
    names = ["baseline", "is_smote", "fs_rus", "fs_rus+prior", "ts_smote_rus", "loss_focal"]
    names += ["mix_remix", "mix_mixup", "head_crt", "head_tau", "head_las", "post_prior", "fs_enn"]
    keys = found_keys(6, names)
    records = [found_record(key, splits=6) for key in keys]
    folder = write_study(tmp_path, keys, records, images=FOUND)
    page = write_report(folder).read_text()
    tables = {path.stem: pd.read_csv(path) for path in (folder / "report").glob("*.csv")}
    rivals = tables["verdict"]["rival"]
    assert set(tables["verdict"]["rivals"]) == {12}
    assert len(tables["verdict-all"]) == 3 * 12
    for row in tables["verdict-all"].itertuples():
        assert row.low < row.difference < row.high
    shown = tables["verdict"].query("metric == 'AvAcc'")
    assert len(shown) == 7
    assert any("(best mixing approach)" in rival for rival in rivals)
    assert page.count(" Corrected for 12 rivals (") == 7
    for column in ("from, all", "to, all", "Verdict, all"):
        assert f">{column}</button>" in page
    # One row per approach on the page, one per class in the file.
    assert page.split('id="table-recall-by-class"')[1].split("</table>")[0].count("<tr>") == 1 + 13
    assert len(tables["recall-by-class"]) == len(FOUND)
    families = json.loads(page.split('id="confusion-data">')[1].split("</script>")[0])["families"]
    assert families["mixing"] == ["mix_mixup", "mix_remix"]
    assert sorted(name for own in families.values() for name in own) == sorted(names)
    assert set(tables["cost-of-approaches"]["approach"]) == set(names)
    assert tables["cost-of-families"]["approaches"].sum() == len(names)
