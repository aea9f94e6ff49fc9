"""Parts of the report that need no page."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_study import SETTINGS, TINY, make_record, study_keys

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.tables import confusion_matrices, find_approaches
from twostage_jax.report import (
    charts,
    costs,
    learning,
    pictures,
    provenance,
    scores,
    training_charts,
    write_report,
)
from twostage_jax.report.blocks import make_table
from twostage_jax.report.looks import make_looks
from twostage_jax.study.approaches import FAMILIES, PAPER, Stage1, listed
from twostage_jax.study.figure_data import FigureImages, choose_images
from twostage_jax.study.folder import Description, write_description
from twostage_jax.study.record import RecordKey
from twostage_jax.training.protocol import Protocol

pytestmark = pytest.mark.integration


def test_a_p_value_is_never_printed_as_zero():
    frame = pd.DataFrame({"p": [0.0, 9e-5, 1.1e-4, 0.04986, np.nan]})
    table = make_table("p", "", "", frame, "p:4")
    printed = [row[0].text for row in table.sheet.rows]
    assert printed == ["<0.0001", "<0.0001", "0.0001", "0.0499", "-"]


def test_recall_by_size_keeps_every_class():
    records = [make_record(key) for key in TINY]
    matrices = confusion_matrices(records, "balanced")
    found = scores.recall_by_size(records, matrices)
    assert list(found["approach"].unique()) == list(PAPER)
    assert (found.groupby("approach")["classes"].sum() == 8).all()
    for record in records:
        own = found[found["approach"] == record.key.approach]
        weighted = (own["recall"] * own["classes"]).sum() / 8
        assert weighted == pytest.approx(metrics.scores(matrices[record.key]).AvAcc)
        assert (own["images"] * own["classes"]).sum() == pytest.approx(record.class_counts.sum())
        assert own["images"].is_monotonic_increasing


def cells_of(names):
    records = [make_record(key) for key in TINY if key.approach in names]
    return costs.cost_of_cells(records, find_approaches(names))


def test_a_network_that_approaches_share_costs_once():
    cells = cells_of(PAPER).set_index("network")
    assert list(cells.index) == ["baseline", "is_rus", "is_ros", "is_smote"]
    assert cells["title"].tolist() == ["plain", "RUS", "ROS", "SMOTE"]
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


def costing(key, stage1, features, stage2):
    seconds = {"stage1": stage1, "features": features, "stage2": stage2}
    return dataclasses.replace(make_record(key), seconds=seconds)


def test_costs_are_multiples_of_the_baselines_and_compilation_does_not_count():
    names = ["baseline", "fs_rus", "is_rus", "loss_focal", "fs_rus+prior", "post_prior"]
    keys = study_keys(("linear", "half_minority"), (10.0,), 3, names)
    records = [
        costing(
            key,
            # The first network includes compilation; another scenario takes twice as long.
            (90.0 if key.fold == 0 else {"is_rus": 4.0, "loss_focal": 12.0}.get(key.approach, 8.0))
            * (1 + (key.scenario == "linear")),
            2.0,
            1.0 if key.approach.startswith("fs") else 0.0,
        )
        for key in keys
    ]
    found = costs.cost_of_approaches(records, find_approaches(names)).set_index("approach")
    assert found.loc["baseline", ["stage1", "features", "stage2"]].tolist() == [12, 2, 0]
    whole = {"baseline": 14, "fs_rus": 15, "is_rus": 8, "loss_focal": 20, "fs_rus+prior": 15}
    assert found["ratio"].to_dict() == pytest.approx(
        {name: seconds / 14 for name, seconds in (whole | {"post_prior": 14}).items()}
    )
    extra = {"baseline": 0, "fs_rus": 3, "is_rus": 8, "loss_focal": 20, "fs_rus+prior": 3}
    assert found["extra"].to_dict() == pytest.approx(
        {name: seconds / 14 for name, seconds in (extra | {"post_prior": 0}).items()}
    )
    assert not len(costs.cost_of_approaches(records[1:2], find_approaches(names))), "no baseline"


def test_what_a_correction_shares_costs_once_and_has_one_curve():
    names = ["baseline", "fs_rus", "fs_rus+prior"]
    records = [make_record(RecordKey("linear", 10.0, 0, name)) for name in names]
    cells = costs.cost_of_cells(records, find_approaches(names))
    assert cells[["networks", "heads", "stage2"]].to_numpy().tolist() == [[1, 1, 1.0]]
    alone = costs.cost_of_cells(records[2:], find_approaches(names[2:]))
    assert alone["heads"].tolist() == [1]


def rows_of(figure):
    return [panel.get_title() for panel in figure.axes[::2]]


def test_many_curves_are_drawn_family_by_family_with_the_baseline():
    names = listed()
    looks = make_looks(find_approaches(names))
    curve = np.ones((3, 2))
    few = training_charts.learning_curves(dict.fromkeys(PAPER, curve), {}, looks)
    assert rows_of(few) == ["stage 1: training loss"]
    many = training_charts.learning_curves(dict.fromkeys(names, curve), {}, looks, "loss")
    assert rows_of(many) == [
        f"stage 1, {title}: training loss"
        for family, title in FAMILIES.items()
        if family not in ("baseline", "other")
    ]
    drawn = [[line.get_label() for line in panel.lines] for panel in many.axes]
    assert all(own[0] == "Baseline" for own in drawn)
    assert {title for own in drawn for title in own} == {look.title for look in looks.values()}


def test_many_approaches_against_the_ratio_have_a_row_per_family():
    names = listed()
    rows = [
        (scenario, ratio, fold, name, *[0.5] * 4)
        for scenario in ("linear", "half_minority")
        for ratio in (2.0, 10.0)
        for fold in range(2)
        for name in names
    ]
    scores = ["AvAcc", "CBA", "MAvG", "Acc"]
    frame = pd.DataFrame(rows, columns=["scenario", "ratio", "fold", "approach", *scores])
    looks = make_looks(find_approaches(names))
    figure = charts.metrics_by_ratio(frame, looks)
    labels = [panel.get_ylabel() for panel in figure.axes[::4]]
    assert len(labels) == 7 * 2
    assert labels[:3] == [
        "image space\nlinear",
        "image space\nhalf minority",
        "feature space\nlinear",
    ]
    few = charts.metrics_by_ratio(frame, {name: looks[name] for name in PAPER})
    assert [panel.get_ylabel() for panel in few.axes[::4]] == ["linear", "half minority"]


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
