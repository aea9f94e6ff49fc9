"""What a study's page says of probabilities."""

import dataclasses
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from report_study import calibrated_record, make_record, study_keys, write_study

from twostage_jax.evaluation.statistics import scores_by_fold, scores_by_partition
from twostage_jax.report import calibration, scores, style
from twostage_jax.report.blocks import Picture, Table, Text
from twostage_jax.report.results import read_results

pytestmark = pytest.mark.integration

NAMES = ("baseline", "is_rus", "fs_rus", "head_tau", "post_prior")


def read(folder, known, names=NAMES, folds=3):
    """The results of a study in which some approaches say what they learned."""
    keys = study_keys(("half_minority",), (10.0,), folds, names)
    records = []
    for key in keys:
        record = make_record(key, images_per_class=100)
        counts = record.class_counts
        prior = counts / counts.sum() if key.approach == "baseline" else np.full(8, 1 / 8)
        record = calibrated_record(record, prior)
        if key.approach not in known:
            record = dataclasses.replace(record, prior=np.zeros(0))
        records.append(record)
    return read_results(write_study(folder, keys, records))


def made(results):
    """The paragraphs, tables and pictures of the section; tables as the CSV files have them."""
    with style.quiet():
        blocks = calibration.blocks(results)
    texts = [line for block in blocks if isinstance(block, Text) for line in block.paragraphs]
    tables = {block.name: block for block in blocks if isinstance(block, Table)}
    pictures = [block.name for block in blocks if isinstance(block, Picture)]
    return " ".join(texts), tables, pictures


def frame_of(table):
    return pd.read_csv(StringIO(table.csv)).set_index("approach")


def test_tables_have_every_score_before_and_after(tmp_path):
    results = read(tmp_path, {*NAMES} - {"head_tau"})
    _, tables, pictures = made(results)
    assert [*tables] == ["calibration", "calibration-balanced", "reliability"]
    assert pictures == ["calibration", "reliability", "reliability-corrected"]
    for name, distribution in (("calibration", "own"), ("calibration-balanced", "balanced")):
        frame = frame_of(tables[name])
        assert list(frame.index) == list(NAMES)
        for corrected, ending in ((False, ""), (True, "_corrected")):
            for approach, row in frame.iterrows():
                own = results.calibrated[approach].get((distribution, corrected))
                if own is None:
                    assert row.filter(like="_corrected").isna().all()
                    assert approach == "head_tau"
                    continue
                for score in ("nll", "brier", "ece", "confidence", "accuracy"):
                    assert row[score + ending] == pytest.approx(getattr(own.scores, score))
                assert row["gap" + ending] == pytest.approx(
                    own.scores.confidence - own.scores.accuracy
                )
                ends = row["ece_low" + ending], row["ece_high" + ending]
                assert ends == pytest.approx(own.ece[1:])
        printed = [[cell.text for cell in row] for row in tables[name].sheet.rows]
        assert {row[0]: row[2] for row in printed}["tau-normalized"] == "-"
        assert sum(cell == "-" for row in printed for cell in row) == 4
    bins = frame_of(tables["reliability"])
    samples = bins.groupby(["approach", "distribution", "corrected"])["samples"].sum()
    assert len(samples) == 4 * len(NAMES) - 2
    assert (samples["baseline", "balanced"] == 3 * 8 * 100).all()


def test_the_text_says_what_resampling_takes_and_the_correction_gives_back(tmp_path):
    for known in ({*NAMES}, {"baseline", "fs_rus"}):
        text, tables, _ = made(read(tmp_path / str(len(known)), known))
        own, balanced = (frame_of(tables[n]) for n in ("calibration", "calibration-balanced"))
        plain, resampled = own.loc["baseline"], own.loc[["is_rus", "fs_rus"]]
        nll, ece = resampled["nll"].median(), resampled["ece"].median()
        assert f"the 2 approaches that resample have a median NLL of {nll:.3f} (" in text
        assert f"{nll - plain['nll']:.3f} above the baseline's {plain['nll']:.3f})" in text
        assert f"a median ECE of {ece:.3f} (" in text
        after = resampled["nll_corrected"].median()
        assert f" to {after:.3f} (" in text
        assert ("For these, the learned" in text) == (len(known) > 2)
        assert ("For 1 of them, the learned" in text) == (len(known) == 2)
        one = balanced.loc["baseline"]
        assert f"NLL from {one['nll']:.3f} to {one['nll_corrected']:.3f} and its ECE" in text


def test_the_text_is_silent_on_what_is_not_known(tmp_path):
    text, tables, pictures = made(read(tmp_path / "old", ()))
    assert "approaches that resample have a median NLL" in text
    assert "learned class frequencies" not in text
    assert pictures == ["calibration", "reliability", "reliability-corrected"], "the baseline's"
    known = frame_of(tables["calibration"])["nll_corrected"].dropna()
    assert list(known.index) == ["baseline", "post_prior"]
    text, tables, pictures = made(read(tmp_path / "none", (), ("is_rus", "fs_rus")))
    assert text == ""
    assert pictures == ["reliability"]
    text, _, _ = made(read(tmp_path / "one", NAMES, ("baseline", "fs_rus")))
    assert "the approach that resamples has an NLL of" in text


def test_scores_have_the_intervals_of_their_folds(tmp_path):
    results = read(tmp_path, NAMES)
    found = scores.score_intervals(results)
    assert list(found) == list(NAMES)
    for name, own in found.items():
        assert list(own) == ["AvAcc", "CBA", "MAvG", "ECE", "NLL"]
        by_fold = scores_by_fold(scores_by_partition(results.counted, "CBA"))[name]
        assert own["CBA"].value == pytest.approx(by_fold.mean())
        assert by_fold.min() <= own["CBA"].low < own["CBA"].high <= by_fold.max()
        assert own["NLL"] == results.calibrated[name]["own", False].nll
    (table,) = [block for block in scores.blocks(results) if block.name == "score-intervals"]
    frame = frame_of(table)
    assert frame.loc["fs_rus", "ECE_high"] == pytest.approx(found["fs_rus"]["ECE"].high)
    least = frame["NLL"].round(3).min()
    for row, nll in zip(table.sheet.rows, frame["NLL"], strict=True):
        assert row[5].best == (round(nll, 3) == least)
    one = scores.blocks(read(tmp_path / "one", NAMES, folds=1))[0]
    assert "(" not in one.sheet.rows[0][1].text, "one fold has no interval"
