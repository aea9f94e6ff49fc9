"""What training minimizes, as data: calls, ranges, what is refused, and what is learned."""

import json
import math
from unittest import mock

import numpy as np
import pytest

from twostage_jax.resampling.mixing import MIXINGS
from twostage_jax.study.approaches import Approach, Stage1, Stage2, find
from twostage_jax.support.errors import InputError
from twostage_jax.training import objective
from twostage_jax.training.objective import (
    DEFERRED_BETA,
    LOSSES,
    Call,
    Entry,
    Range,
    register_loss,
    require_call,
    require_counts,
)

COUNTS = np.array([1000, 100, 50, 10])
NATURAL, EQUAL = COUNTS / 1160, np.full(4, 0.25)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Call("focal"), "focal"),
        (Call.of("focal", gamma=1), "focal(gamma=1)"),
        (Call.of("ldam", scale=20.0, largest_margin=0.25), "ldam(largest_margin=0.25, scale=20)"),
    ],
)
def test_calls_are_read_as_they_were_written(call, text):
    assert Call.from_json(json.loads(json.dumps(call.to_json()))) == call
    assert str(call) == text
    assert hash(call) == hash(Call.of(call.name, **dict(call.parameters)))


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "focal", "parameters": {"gamma": "1"}},
        {"name": 3, "parameters": {}},
        {"name": "focal", "parameters": {}, "more": 1},
    ],
)
def test_damaged_calls_are_refused(fields):
    with pytest.raises(TypeError, match="names no function"):
        Call.from_json(fields)


@pytest.mark.parametrize(
    ("own", "text", "inside", "outside"),
    [
        (Range(0), "0 or more", (0, 0.0, 1e9), (-1e-9,)),
        (Range(0, without_least=True), "above 0", (1e-9, 5), (0, 0.0)),
        (Range(0, 1), "0 or more and at most 1", (0, 1, 0.5), (-1, 1.0001)),
        (Range(0, 1, without_most=True), "0 or more and below 1", (0, 0.9999), (1, 1.0)),
    ],
)
def test_ranges(own, text, inside, outside):
    assert str(own) == text
    assert all(value in own for value in inside)
    for value in (*outside, math.nan, math.inf, -math.inf, True, "1", None, [0.5]):
        assert value not in own


@pytest.mark.parametrize(
    ("kind", "registry", "call", "message"),
    [
        ("loss", LOSSES, Call("focl"), "unknown loss 'focl'; did you mean focal"),
        ("loss", LOSSES, Call.of("focal", gama=1), "unknown parameter of loss 'focal' 'gama'; did"),
        ("loss", LOSSES, Call.of("weighted", beta=1), "unknown parameter of loss 'weighted' 'beta"),
        ("loss", LOSSES, Call.of("class_balanced", beta=1), "beta 1 of loss 'class_balanced' foun"),
        ("loss", LOSSES, Call("label_smoothing"), "loss 'label_smoothing' has no amount, 0 or mor"),
        ("mixing", MIXINGS, Call.of("remix", kappa=0.5), "kappa 0.5 of mixing 'remix' found, 1 or"),
        (
            "mixing",
            MIXINGS,
            Call.of("mixup", alpha=-1),
            "alpha -1 of mixing 'mixup' found, 0 or mo",
        ),
    ],
)
def test_bad_calls_are_refused_in_one_line(kind, registry, call, message):
    with pytest.raises(InputError, match=f"^{message}") as error:
        require_call(kind, call, registry)
    assert "\n" not in str(error.value)


def test_good_calls_give_their_entry():
    assert require_call("loss", Call.of("class_balanced", beta=0), LOSSES).title == (
        "class-balanced loss"
    )
    assert require_call("mixing", Call("remix"), MIXINGS) == MIXINGS["remix"]


def test_counts_are_required_where_they_are_needed():
    names, lacking = ["a", "b", "c"], np.array([3, 0, 1])
    require_counts([LOSSES["weighted"], MIXINGS["remix"]], np.array([3, 2, 1]), names, "images")
    require_counts([LOSSES["focal"], MIXINGS["mixup"]], lacking, names, "images")
    for entry, title in ((LOSSES["ldam"], "LDAM loss"), (MIXINGS["remix"], "Remix")):
        message = f"^{title} on images of fold 2: class 'b' has no samples left to train on, at le"
        with pytest.raises(InputError, match=message):
            require_counts([LOSSES["focal"], entry], lacking, names, "images of fold 2")


def test_losses_are_registered_once():
    with mock.patch.dict(objective.LOSSES):
        mine = Entry("my loss", lambda logits, labels, class_counts: logits[:, 0])
        register_loss("mine", mine)
        register_loss("mine", mine)
        assert require_call("loss", Call("mine"), LOSSES) == mine
        with pytest.raises(InputError, match="loss name 'mine' is taken by my loss; choose anoth"):
            register_loss("mine", Entry("another", "another"))
        with pytest.raises(InputError, match="loss name 'focal' is taken by focal loss"):
            register_loss("focal", mine)


# --- Class frequencies that are learned ---


def weighted_by(beta):
    effective = 1 - beta ** COUNTS.astype(float)
    return COUNTS / effective / (COUNTS / effective).sum()


def of_stage1(name, **parameters):
    return Approach("mine", "mine", "loss", Stage1(loss=Call.of(name, **parameters)))


def of_stage2(**fields):
    return Approach("mine", "mine", "head", Stage1(), Stage2(**fields))


@pytest.mark.parametrize(
    ("approach", "expected"),
    [
        (find("baseline"), NATURAL),
        (find("post_prior"), NATURAL),
        (find("fs_rus"), NATURAL),  # of the counts that the sampler left
        (of_stage1("weighted"), EQUAL),
        (of_stage1("focal"), NATURAL),
        (of_stage1("class_balanced", beta=0), NATURAL),
        (of_stage1("class_balanced", beta=0.99), weighted_by(0.99)),
        (of_stage1("class_balanced"), weighted_by(0.9999)),
        (of_stage1("class_balanced", beta=1 - 1e-12), EQUAL),
        (of_stage1("logit_adjusted", tau=0), NATURAL),
        (of_stage1("logit_adjusted", tau=0.5), NATURAL**0.5 / (NATURAL**0.5).sum()),
        (of_stage1("logit_adjusted"), EQUAL),
        (find("mix_mixup"), NATURAL),
        (find("mix_mixup_drw"), weighted_by(DEFERRED_BETA)),
        (find("mix_balanced"), (5 * NATURAL + EQUAL) / 6),
        (find("head_crt"), EQUAL),
        (find("head_ncm"), EQUAL),
        (find("head_two_phase"), NATURAL),
        (of_stage1("label_smoothing", amount=0.0), NATURAL),
        # The weights of a loss come on top of equal draws.
        (
            of_stage2(loss=Call("weighted"), balanced_batches=True),
            (1 / COUNTS) / (1 / COUNTS).sum(),
        ),
        (find("head_logit_adjusted"), EQUAL),
        (of_stage2(loss=Call.of("logit_adjusted", tau=0)), NATURAL),
        (find("head_class_balanced"), weighted_by(0.9999)),
    ],
)
def test_learned_class_frequencies(approach, expected):
    np.testing.assert_allclose(approach.learned_prior(COUNTS), expected, rtol=1e-6)


UNKNOWN = (
    *map(find, ("head_tau", "head_lws", "head_los", "head_las", "loss_ldam_drw")),
    of_stage1("sigmoid_focal"),
    of_stage1("label_smoothing", amount=0.1),
)


@pytest.mark.parametrize("approach", UNKNOWN, ids=str)
def test_what_margins_norms_and_smoothed_labels_teach_is_not_known(approach):
    assert approach.learned_prior(COUNTS) is None


def test_a_class_without_samples_counts_as_one():
    learned = find("baseline").learned_prior(np.array([3, 0, 1]))
    np.testing.assert_allclose(learned, [0.6, 0.2, 0.2])
