"""Whether the paper's numbers stand beside a study's, and the report of a study of its size."""

import dataclasses
import re
import time

import pandas as pd
import pytest
from report_study import SETTINGS, make_record, study_keys, write_features, write_study

from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.evaluation import paper, tables
from twostage_jax.report import paper_figures, write_report
from twostage_jax.study.record import RecordKey
from twostage_jax.training.protocol import Protocol

pytestmark = pytest.mark.integration

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
