"""The report's section on two studies that differ in precision."""

import dataclasses
import html
import re

import numpy as np
import pandas as pd
import pytest
from report_study import KEYS, SETTINGS, TINY, make_record, study_keys, write_study

from experiments import report as command_line
from twostage_jax.evaluation import statistics, tables
from twostage_jax.report import precision, write_report
from twostage_jax.report.results import read_results
from twostage_jax.study.approaches import find
from twostage_jax.study.record import RecordKey

pytestmark = pytest.mark.integration


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
    changed = {name for name in alone if beside[name] != alone[name]}
    assert changed == {"index.html", "drawn-files.json"}
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
        (TINY, {"precision": None}, r"study\.json does not describe a study .*; name"),
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
