"""Parts of the report that need no page."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from report_study import SETTINGS, TINY, make_record

from twostage_jax.evaluation import metrics
from twostage_jax.evaluation.tables import confusion_matrices, find_approaches
from twostage_jax.report import costs, learning, pictures, provenance, scores, write_report
from twostage_jax.report.blocks import make_table
from twostage_jax.study.approaches import PAPER, Stage1
from twostage_jax.study.figure_data import FigureImages, choose_images
from twostage_jax.study.folder import Description, write_description
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
