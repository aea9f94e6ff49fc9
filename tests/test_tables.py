import dataclasses
import io

import numpy as np
import pandas as pd
import pytest
import rich.console
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from twostage_jax.data.partition import SCENARIOS
from twostage_jax.evaluation import metrics, paper, tables
from twostage_jax.study.approaches import PAPER, Approach
from twostage_jax.study.record import Record, RecordKey, failed_record
from twostage_jax.support.errors import InputError

METRICS = ["AvAcc", "CBA", "MAvG"]
SOURCE = {"settings": {}, "settings_hash": "abc", "versions": {}, "device": "cpu"}


def make_record(key, predictions=None, seed=0, kept=None):
    """Four classes, six test samples each, of which the imbalanced fold keeps twelve."""
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(4), 6)
    if predictions is None:
        predictions = np.where(rng.random(24) < 0.7, label, rng.integers(0, 4, 24))
    return Record(
        key=key,
        status="done",
        reason="",
        test_index=np.arange(24, dtype=np.int32),
        label=label.astype(np.int32),
        kept=np.tile([True, False], 12) if kept is None else kept,
        probabilities=np.eye(4, dtype=np.float32)[predictions],
        curve1=np.zeros((2, 2), np.float32),
        curve2=np.zeros((0, 2), np.float32),
        class_counts=np.full(4, 9, np.int32),
        seconds={},
        images={},
        **SOURCE,
    )


def make_failed(key, reason):
    return failed_record(key, reason, class_counts=np.full(4, 9, np.int32), **SOURCE)


def study(scenarios=("linear", "half_minority"), ratios=(2.0, 10.0), folds=2):
    return [
        RecordKey(scenario, ratio, fold, approach)
        for scenario in scenarios
        for ratio in ratios
        for fold in range(folds)
        for approach in PAPER
    ]


def make_study(keys):
    return [make_record(key, seed=seed) for seed, key in enumerate(keys)]


def frame_of(records, test="imbalanced"):
    return tables.metrics_frame(tables.confusion_matrices(records, test))


def make_frame(scores, scenario="linear", ratio=2.0):
    """A frame from {approach: [score of fold 0, fold 1, ...]}; None leaves the record out."""
    rows = [
        (scenario, ratio, fold, approach, score, score, score, score)
        for approach, of_folds in scores.items()
        for fold, score in enumerate(of_folds)
        if score is not None
    ]
    return pd.DataFrame(rows, columns=["scenario", "ratio", "fold", "approach", *METRICS, "Acc"])


def column(ranking, metric, name):
    table = ranking.table[ranking.table["metric"] == metric].set_index("approach")
    return table[name].to_dict()


def table1_of(frame):
    return tables.table1(frame, tables.find_approaches(frame["approach"]))


def made_of(frame, notes, beside_paper):
    approaches = tables.find_approaches(frame["approach"])
    both = table1_of(frame), tables.table2(frame)
    return tables.Tables(approaches, {}, frame, *both, notes, beside_paper, False, frame)


def on_screen(made):
    console = rich.console.Console(width=200, file=io.StringIO())
    console.print(tables.screen(made))
    return console.file.getvalue()


# The paper's numbers.


def test_the_papers_tables_are_whole():
    one, two = paper.table1(), paper.table2()
    assert one.shape == (36, 7)
    assert set(one["scenario"]) == set(SCENARIOS)
    assert set(one["imbalance_ratio"]) == {2.0, 5.0, 10.0}
    assert list(two["approach"].unique()) == list(PAPER)
    assert list(two["metric"]) == METRICS * 9


@pytest.mark.parametrize("metric", METRICS)
def test_the_papers_ranks_add_up(metric):
    two = paper.table2()
    ranks = two.loc[two["metric"] == metric, "average_rank"]
    assert ranks.sum() == pytest.approx(45, abs=0.02)  # nine ranks of two decimals


@pytest.mark.parametrize("approach", PAPER[:4])
@pytest.mark.parametrize("metric", METRICS)
def test_the_papers_first_table_averages_to_its_second(approach, metric):
    one, two = paper.table1(), paper.table2()
    mean = one.loc[one["metric"] == metric, approach].mean()
    printed = two.loc[(two["metric"] == metric) & (two["approach"] == approach), "mean"].item()
    assert mean == pytest.approx(printed, abs=1e-4)


def test_names_are_in_the_papers_order():
    assert list(tables.METRICS) == METRICS
    assert metrics.Scores._fields[:3] == tables.METRICS


# Scores of records.


def test_both_test_folds_are_scored_from_one_record():
    kept = np.zeros(24, np.bool_)
    kept[[0, 1, 2, 6, 12, 18]] = True
    predictions = np.repeat(np.arange(4), 6)
    predictions[[2, 3]] = 1  # of the first class, one kept sample and one left out are wrong
    record = make_record(RecordKey("linear", 2.0, 0, "baseline"), predictions, kept=kept)
    imbalanced = frame_of([record]).iloc[0]
    balanced = frame_of([record], "balanced").iloc[0]
    assert imbalanced["AvAcc"] == pytest.approx((2 / 3 + 3) / 4)
    assert imbalanced["Acc"] == pytest.approx(5 / 6)
    assert balanced["AvAcc"] == pytest.approx((4 / 6 + 3) / 4)
    assert balanced["Acc"] == pytest.approx(22 / 24)


def test_frame_is_sorted_and_leaves_failed_records_out():
    keys = study(folds=1)
    records = make_study(keys)
    records[3] = make_failed(keys[3], "out of memory")
    frame = frame_of(records[::-1])
    rows = frame[["scenario", "ratio", "fold", "approach"]].itertuples(index=False, name=None)
    assert [RecordKey(*row) for row in rows] == keys[:3] + keys[4:]
    assert list(frame.columns[4:]) == [*METRICS, "Acc"]


def test_bad_records_are_refused():
    key = RecordKey("linear", 2.0, 0, "baseline")
    record = make_record(key)
    with pytest.raises(InputError, match="two records of linear/ir2/fold0/baseline"):
        tables.confusion_matrices([record, record])
    with pytest.raises(InputError, match="unknown test fold 'balancd'; did you mean balanced"):
        tables.confusion_matrices([record], "balancd")
    none_of_last = make_record(key, kept=np.arange(24) < 18)
    with pytest.raises(InputError, match=r"linear/ir2/fold0/baseline.*no test samples of class 3"):
        frame_of([none_of_last])


# Table I.


def test_table1_by_hand():
    frame = make_frame({"is_smote": [0.5, 0.7], "baseline": [0.2, 0.3], "fs_rus": [1.0, 1.0]})
    table = table1_of(frame)
    assert list(table.columns) == ["scenario", "imbalance_ratio", "metric", "baseline", "is_smote"]
    assert list(table["metric"]) == METRICS
    np.testing.assert_allclose(table[["baseline", "is_smote"]], [[0.25, 0.6]] * 3)


def test_table1_has_the_papers_rows_and_columns():
    keys = [
        RecordKey("original", 1.0, 0, "baseline"),
        *study(SCENARIOS[::-1], (10.0, 2.0, 5.0), folds=1),
    ]
    table = table1_of(frame_of(make_study(keys)).sample(frac=1, random_state=0))
    published = paper.table1()
    index = ["scenario", "imbalance_ratio", "metric"]
    pd.testing.assert_frame_equal(table[index], published[index])
    assert list(table.columns) == list(published.columns)


def test_table1_averages_the_folds_that_are_there():
    frame = make_frame({"baseline": [0.2, None, 0.4], "is_rus": [None, 0.9]})
    rows = table1_of(pd.concat([frame, make_frame({"baseline": [0.1]}, ratio=5.0)]))
    np.testing.assert_allclose(rows["baseline"], [0.3] * 3 + [0.1] * 3)
    np.testing.assert_allclose(rows["is_rus"], [0.9] * 3 + [np.nan] * 3)


def test_table1_is_the_mean_and_not_the_median():
    rows = table1_of(make_frame({"baseline": [0.1, 0.2, 0.6]}))
    np.testing.assert_allclose(rows["baseline"], [0.3] * 3)


def test_table1_has_every_approach_of_the_baselines_and_of_image_space():
    scores = {"is_adasyn": [0.1], "fs_tomek": [0.2], "ts_ros_rus": [0.3], "post_prior": [0.4]}
    rows = table1_of(make_frame({"is_smote": [0.5], "baseline": [0.6], **scores}))
    assert list(rows.columns[3:]) == ["baseline", "is_smote", "is_adasyn"]


# Table II.


def test_table2_by_hand():
    frame = make_frame(
        {"baseline": [0.1, 0.9, 0.5], "is_rus": [0.2, 0.8, 0.5], "ts_smote_rus": [0.3, 0.7, 0.1]}
    )
    ranking = tables.table2(frame)
    assert (ranking.partitions, ranking.incomplete) == (3, 0)
    assert list(ranking.table.columns) == list(paper.table2().columns)
    assert list(ranking.table["metric"]) == METRICS * 3
    for metric in METRICS:
        assert column(ranking, metric, "mean") == pytest.approx(
            {"baseline": 0.5, "is_rus": 0.5, "ts_smote_rus": 1.1 / 3}
        )
        assert column(ranking, metric, "average_rank") == pytest.approx(
            {"baseline": (3 + 1 + 1.5) / 3, "is_rus": (2 + 2 + 1.5) / 3, "ts_smote_rus": 7 / 3}
        )


def test_scores_that_differ_by_rounding_are_ties():
    assert 0.1 + 0.2 != 0.3
    ranking = tables.table2(make_frame({"baseline": [0.1 + 0.2], "is_rus": [0.3]}))
    assert column(ranking, "AvAcc", "average_rank") == {"baseline": 1.5, "is_rus": 1.5}


def test_incomplete_partitions_do_not_count():
    whole = {"baseline": [0.4, 0.6], "is_rus": [0.5, 0.1]}
    more = {"baseline": [0.4, 0.6, 1.0, None], "is_rus": [0.5, 0.1, None, 1.0]}
    expected, ranking = (tables.table2(make_frame(scores)) for scores in (whole, more))
    pd.testing.assert_frame_equal(ranking.table, expected.table)
    assert (ranking.partitions, ranking.incomplete) == (2, 2)


def test_the_balanced_partition_does_not_count():
    imbalanced = make_frame({"baseline": [0.4], "is_rus": [0.5]})
    original = make_frame({"baseline": [0.9]}, "original", 1.0)
    ranking = tables.table2(pd.concat([original, imbalanced]))
    assert (ranking.partitions, ranking.incomplete) == (1, 0)
    assert column(ranking, "CBA", "mean") == {"baseline": 0.4, "is_rus": 0.5}


# Few distinct scores, so that ties are common.
grid_of_scores = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=9, max_size=9),
    min_size=1,
    max_size=5,
)


@given(grid_of_scores)
def test_ranks_add_up_and_agree_with_scipy(folds):
    frame = make_frame(dict(zip(PAPER, np.array(folds).T.tolist(), strict=True)))
    ranks = column(tables.table2(frame), "MAvG", "average_rank")
    assert sum(ranks.values()) == pytest.approx(45)
    expected = scipy.stats.rankdata(-np.array(folds), axis=1).mean(axis=0)
    np.testing.assert_allclose([ranks[name] for name in PAPER], expected)


# What is written and printed.


def test_written_tables_read_back(tmp_path):
    keys = study()
    records = make_study(keys)
    made = tables.make_tables(records, expected=keys, why_absent="toy data")
    tables.write_tables(tmp_path, made)
    names = ["metrics.csv", "table1.csv", "table2.csv", "tables.md"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    read = {name: pd.read_csv(tmp_path / name) for name in names[:3]}
    pd.testing.assert_frame_equal(read["metrics.csv"], frame_of(records))
    for name, table in (("table1.csv", made.table1), ("table2.csv", made.ranking.table)):
        pd.testing.assert_frame_equal(read[name], table, rtol=0, atol=0.0051)
    assert (tmp_path / "tables.md").read_text() == tables.markdown(made)
    ranks = made.ranking.table.groupby("metric")["average_rank"].sum()
    np.testing.assert_allclose(ranks, 45)


def test_csv_has_the_papers_form(tmp_path):
    keys = study()
    made = tables.make_tables(make_study(keys), expected=keys, why_absent=None)
    tables.write_tables(tmp_path, made)
    for name, published in (("table1.csv", paper.table1()), ("table2.csv", paper.table2())):
        lines = (tmp_path / name).read_text().splitlines()
        assert lines[0] == ",".join(published.columns)
        decimals = [len(field.partition(".")[2]) for field in lines[1].split(",")]
        assert decimals == ([0, 1, 0, 4, 4, 4, 4] if name == "table1.csv" else [0, 0, 4, 2])


def test_markdown_marks_the_best_and_leaves_gaps():
    frame = pd.concat(
        [
            make_frame({"baseline": [0.25], "is_rus": [0.5], "fs_rus": [0.75]}),
            make_frame({"is_rus": [1.0]}, "single_minority", 5.0),
        ]
    )
    made = made_of(frame, ("A note.",), False)
    lines = tables.markdown(made).splitlines()
    assert "| Scenario | IR | Metric | Baseline | IS RUS |" in lines
    assert "| linear | 2 | AvAcc | 0.2500 | **0.5000** |" in lines
    assert "| single minority | 5 | AvAcc | - | **1.0000** |" in lines
    assert "| Approach | AvAcc | CBA | MAvG |" in lines
    assert "| IS RUS | 0.5000 (2.00) | 0.5000 (2.00) | 0.5000 (2.00) |" in lines
    assert "| FS RUS | **0.7500 (1.00)** | **0.7500 (1.00)** | **0.7500 (1.00)** |" in lines
    assert lines[-1] == "- A note."


def test_all_that_print_like_the_best_are_bold():
    frame = make_frame({"baseline": [0.50001], "is_rus": [0.5], "is_ros": [0.4999]})
    made = made_of(frame, (), False)
    assert "| linear | 2 | CBA | **0.5000** | **0.5000** | 0.4999 |" in tables.markdown(made)


def test_the_papers_numbers_stand_beside_ours_when_asked_for():
    frame = make_frame({approach: [0.5] for approach in PAPER})
    frame = pd.concat([frame, make_frame({"baseline": [0.5]}, ratio=3.0)])
    made = made_of(frame, (), True)
    text = tables.markdown(made)
    tied = "**0.5000 (5.00)**"
    assert "| Baseline | paper | IS RUS | paper | IS ROS | paper | IS SMOTE | paper |" in text
    ours_and_theirs = "**0.5000** | 0.9167 | **0.5000** | 0.9114 | **0.5000** | 0.9186 | **0.5000**"
    assert f"| linear | 2 | AvAcc | {ours_and_theirs} | **0.9238** |" in text
    assert "| linear | 3 | AvAcc | **0.5000** | - | - | - | - | - | - | - |" in text
    assert "| Approach | AvAcc | paper | CBA | paper | MAvG | paper |" in text
    assert f"| Baseline | {tied} | 0.8952 (6.14) | {tied} | 0.8596 (6.31) | {tied} | 0.8824" in text
    assert f"| TS SMOTE+RUS | {tied} | **0.9152 (3.70)** |" in text


@pytest.mark.parametrize("show", [tables.markdown, on_screen])
def test_the_papers_numbers_are_absent_for_a_reason(show):
    keys = study()
    records = make_study(keys)
    without = show(tables.make_tables(records, expected=keys, why_absent="toy data, width 0.25"))
    beside = show(tables.make_tables(records, expected=keys, why_absent=None))
    assert "The paper's numbers are not shown: toy data, width 0.25" in without
    for number in ("0.9238", "0.9152 (3.70)"):
        assert number not in without
        assert number in beside
    assert "not shown" not in beside


@pytest.mark.parametrize("show", [tables.markdown, on_screen])
def test_failed_and_missing_records_are_told(show):
    keys = study()
    records = make_study(keys)
    for i in (0, 20, 21):
        records[i] = make_failed(keys[i], "out of memory\nwith a long trace" if i else "[nan]")
    text = show(tables.make_tables(records[:-2], expected=keys, why_absent=None))
    assert "Records: 67 done, 3 failed, 2 missing." in text
    assert "Failed, 2 of them: out of memory\n" in text
    assert "Failed, 1 of them: [nan]\n" in text
    assert "9 approaches ranked on 5 partitions." in text
    assert "3 more partitions left out because" in text
    assert "means are over the folds that are there" in text


def test_a_complete_study_has_no_warnings():
    keys = study()
    made = tables.make_tables(make_study(keys), expected=keys, why_absent=None, test="balanced")
    assert made.notes[:2] == (
        "Records: 72 done, 0 failed, 0 missing.",
        "Scores are computed on the balanced test folds.",
    )
    assert len(made.notes) == 3


@pytest.mark.parametrize(
    "keys",
    [
        [],
        [RecordKey("original", 1.0, 0, "baseline")],
        [RecordKey("linear", 2.0, 0, "baseline"), RecordKey("linear", 2.0, 1, "is_rus")],
    ],
)
@pytest.mark.parametrize("why_absent", [None, "toy data"])
def test_a_study_that_has_hardly_begun_is_written(tmp_path, keys, why_absent):
    made = tables.make_tables(make_study(keys), expected=study(), why_absent=why_absent)
    tables.write_tables(tmp_path, made)
    assert made.ranking.partitions == 0
    assert "nan" not in (tmp_path / "tables.md").read_text()
    assert "nan" not in (tmp_path / "table2.csv").read_text()
    assert "0 partitions" in on_screen(made)


def test_records_outside_the_study_do_not_hide_missing_ones():
    keys = study()
    made = tables.make_tables(make_study(keys[8:]), expected=keys[:20], why_absent=None)
    assert made.notes[0] == "Records: 64 done, 0 failed, 8 missing."


def test_failed_records_alone_make_table1_a_mean_of_what_is_there():
    keys = study()
    records = [make_failed(keys[0], "out of memory"), *make_study(keys[1:])]
    made = tables.make_tables(records, expected=keys, why_absent=None)
    assert made.notes[0] == "Records: 71 done, 1 failed, 0 missing."
    assert "Table I: where folds are missing" in made.notes[-1]


def test_an_approach_is_found_in_the_folder_then_in_the_registry_or_is_itself():
    own = Approach("fs_rus", "Ours", "other")
    newer = Approach("later", "Later", "a family of a newer version")
    names = ["zz", "later", "fs_rus", "baseline", "ts_rus_enn", "zz"]
    found = tables.find_approaches(names, {"fs_rus": own, "later": newer, "unused": own})
    assert list(found) == ["baseline", "fs_rus", "ts_rus_enn", "later", "zz"]
    assert found["fs_rus"] is own
    assert found["ts_rus_enn"].title == "TS RUS+ENN"
    assert found["later"].family == "other"
    assert (found["zz"].title, found["zz"].family) == ("zz", "other")
    assert found["zz"].stage1 != found["baseline"].stage1, "its network may be any"


def test_tables_know_approaches_that_nobody_registered():
    recipes = {"ours": Approach("ours", "Our own", "image")}
    keys = [
        RecordKey("linear", 2.0, fold, name) for fold in (0, 1) for name in ("baseline", "ours")
    ]
    made = tables.make_tables(make_study(keys), expected=keys, why_absent="toy", recipes=recipes)
    text = tables.markdown(made)
    assert "| Scenario | IR | Metric | Baseline | Our own |" in text
    assert "| Our own | " in text


def test_records_of_two_studies_are_refused():
    keys = study()
    records = make_study(keys)
    records[5] = dataclasses.replace(records[5], settings_hash="xyz")
    with pytest.raises(InputError, match=r"2 settings: abc \(71 records\), xyz \(1 records\)"):
        tables.make_tables(records, expected=keys, why_absent=None)
