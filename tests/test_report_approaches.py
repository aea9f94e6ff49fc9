"""Reports of studies of any approaches, the paper's or not."""

import dataclasses
import html
import re

import pandas as pd
import pytest
from report_study import make_record, study_keys, write_study

from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.report import learning, ranks, write_report
from twostage_jax.report.results import read_results
from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import PAPER, Approach, Stage1, Stage2, Style

pytestmark = pytest.mark.integration

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
    networks = set(found["cost"]["title"])
    assert networks == {"plain", "RUS", "ADASYN", "SMOTE", "of_elsewhere"}
    assert found["cost"]["networks"].sum() == 5 * 2 * 3 + 3, "those of ratio 1 as well"
    assert found["cost"]["heads"].sum() == (len(others) + 1) * 2 * 3
    assert set(found["paper-table2"]["approach"]) == set(PAPER)


@pytest.mark.parametrize(
    ("names", "verdict"),
    [
        (["baseline", "fs_tomek"], "FS Tomek"),
        pytest.param(["fs_enn", "fs_tomek"], "the next in its family", marks=pytest.mark.slow),
        (["is_rus", "fs_rus", "ts_ros_ros"], "This study has no scores of TS SMOTE+RUS"),
        pytest.param(["is_rus", "ts_smote_rus"], "TS SMOTE+RUS is", marks=pytest.mark.slow),
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
    assert found["cost"]["title"].tolist() == ["plain"] * 3 + ["unheard_of"] * 2


def test_a_folder_without_features_says_how_to_have_the_map(tmp_path):
    for names, words in (
        (["baseline", "fs_rus"], "delete it and run the study's command again to have the map"),
        (["baseline", "is_rus"], "no record with a stage 2 is there yet"),
    ):
        keys = study_keys(("linear",), (10.0,), 1, names)
        folder = write_study(tmp_path / names[1], keys, [make_record(key) for key in keys])
        assert words in learning.feature_map(read_results(folder)).text
