"""Calibration of a study: which samples count, and probabilities before and after correction."""

import dataclasses

import numpy as np
import pytest
from report_study import calibrated_record, make_record, study_keys

from twostage_jax.evaluation import conditions
from twostage_jax.evaluation.calibration import calibrate
from twostage_jax.evaluation.conditions import CONDITIONS, Condition
from twostage_jax.evaluation.counting import counted
from twostage_jax.evaluation.tables import confusion_matrices, find_approaches, metrics_frame
from twostage_jax.study.record import known_prior

OWN, OWN_CORRECTED, BALANCED, BALANCED_CORRECTED = CONDITIONS
NAMES = ("baseline", "fs_rus", "head_tau")


@pytest.fixture(scope="module")
def study():
    """A baseline, a head on balanced features, and one whose prior nobody knows: three folds."""
    records = []
    for key in study_keys(("half_minority",), (10.0,), 3, NAMES):
        record = make_record(key, images_per_class=200)
        counts = record.class_counts
        priors = {"baseline": counts / counts.sum(), "fs_rus": np.full(len(counts), 1 / 8)}
        if key.approach in priors:
            record = calibrated_record(record, priors[key.approach])
        records.append(record)
    frame = counted(metrics_frame(confusion_matrices(records)))
    return records, conditions.calibrate_study(records, frame, find_approaches(NAMES))


def test_only_samples_of_partitions_that_all_approaches_have_count():
    keys = study_keys(("linear",), (1.0, 10.0), 3, ("baseline", "fs_rus"))
    records = [make_record(key) for key in keys if (key.fold, key.approach) != (2, "fs_rus")]
    frame = metrics_frame(confusion_matrices(records))
    found = conditions.complete_records(records, counted(frame))
    used = [r for r in records if r.key.ratio == 10 and r.key.fold < 2]
    for name in ("baseline", "fs_rus"):
        assert found.pop(name) == [record for record in used if record.key.approach == name]
    assert found == {}
    assert conditions.complete_records(records, frame[frame["ratio"] > 2].iloc[:0]) == {}
    lone = [dataclasses.replace(records[0], key=keys[-1])]
    assert conditions.calibrate_study(lone, counted(frame), find_approaches(NAMES)) == {}


def test_each_distribution_has_its_samples(study):
    records, found = study
    for name, own in found.items():
        mine = [record for record in records if record.key.approach == name]
        p = np.concatenate([record.probabilities for record in mine])
        label = np.concatenate([record.label for record in mine])
        kept = np.concatenate([record.kept for record in mine])
        assert own[OWN].scores == pytest.approx(calibrate(p[kept], label[kept]))
        # Whole test folds of this study are balanced, so that all weigh alike.
        assert own[BALANCED].scores == pytest.approx(calibrate(p, label))
        assert own[OWN].bins.count.sum() == own[OWN].scores.samples
        assert own[OWN].nll.value == pytest.approx(own[OWN].scores.nll)
        assert own[OWN].ece.value == pytest.approx(own[OWN].scores.ece)


def test_rare_classes_weigh_more_where_the_whole_test_fold_is_not_balanced(study):
    records = [dataclasses.replace(r, kept=np.ones_like(r.kept)) for r in study[0]]
    halves = []
    for record in records:
        there = (record.label > 3) | (np.arange(len(record.label)) % 4 == 0)
        names = ("test_index", "label", "kept", "probabilities")
        halves.append(dataclasses.replace(record, **{n: getattr(record, n)[there] for n in names}))
    frame = counted(metrics_frame(confusion_matrices(halves)))
    found = conditions.calibrate_study(halves, frame, find_approaches(NAMES))
    for name in NAMES:
        mine = [record for record in halves if record.key.approach == name]
        p = np.concatenate([record.probabilities for record in mine])
        label = np.concatenate([record.label for record in mine])
        by_class = [calibrate(p[label == k], label[label == k]) for k in range(8)]
        own = found[name][BALANCED].scores
        assert own.nll == pytest.approx(np.mean([one.nll for one in by_class]))
        assert own.accuracy == pytest.approx(np.mean([one.accuracy for one in by_class]))
        assert found[name][OWN].scores == pytest.approx(calibrate(p, label))


def test_a_correction_gives_back_what_other_class_frequencies_took(study):
    _, found = study
    plain, balanced = found["baseline"], found["fs_rus"]
    # Each is calibrated where its own frequencies hold, and the correction leaves that alone.
    assert plain[OWN_CORRECTED].scores == pytest.approx(plain[OWN].scores, abs=1e-5)
    assert balanced[BALANCED_CORRECTED].scores == pytest.approx(balanced[BALANCED].scores, abs=1e-5)
    assert plain[OWN].scores.ece < 0.03
    assert balanced[BALANCED].scores.ece < 0.03
    # Elsewhere it is worse, and corrected it is the other: both have the same evidence.
    assert balanced[OWN].scores.nll > plain[OWN].scores.nll + 0.02
    assert plain[BALANCED].scores.nll > balanced[BALANCED].scores.nll + 0.02
    same = balanced[OWN_CORRECTED].scores
    assert same == pytest.approx(plain[OWN].scores, abs=1e-3)
    assert plain[BALANCED_CORRECTED].scores == pytest.approx(balanced[BALANCED].scores, abs=1e-3)


def test_what_is_not_known_is_not_corrected(study):
    _, found = study
    assert found["head_tau"].keys() == {OWN, BALANCED}
    assert found["fs_rus"].keys() == set(CONDITIONS)
    assert Condition("own", True) == OWN_CORRECTED


def test_older_records_of_networks_on_the_images_as_they_are_need_not_tell_their_prior():
    approaches = find_approaches([*NAMES, "is_rus", "post_prior", "unheard_of"])
    for key in study_keys(("linear",), (10.0,), 1, [*approaches]):
        record = make_record(key)
        prior = known_prior(record, approaches[key.approach])
        if key.approach == "baseline":
            np.testing.assert_allclose(prior, record.class_counts / record.class_counts.sum())
        elif key.approach == "post_prior":
            np.testing.assert_allclose(prior, 1 / 8)
        else:
            assert prior is None
        told = dataclasses.replace(record, prior=np.full(8, 1 / 8))
        assert known_prior(told, approaches[key.approach]) is told.prior
