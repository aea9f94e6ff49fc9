"""The registry: any pair of samplers by name, approaches from outside, and what is refused."""

import itertools
import json
from unittest import mock

import numpy as np
import pytest

from twostage_jax.resampling.registry import SAMPLERS, SamplerEntry, make_sampler, register_sampler
from twostage_jax.resampling.samplers import ADASYN, NearMiss, RandomUnderSampler
from twostage_jax.study import approaches
from twostage_jax.study.approaches import Approach, Stage1, Stage2, Style, find, register
from twostage_jax.study.methods import METHODS
from twostage_jax.support.errors import InputError


@pytest.fixture
def registry():
    """What a test registers is forgotten after it."""
    with mock.patch.dict(approaches.APPROACHES), mock.patch.dict(SAMPLERS):
        yield


def test_the_papers_nine_are_what_it_says():
    stages = {
        name: (find(name).title, find(name).stage1.sampler, find(name).stage2)
        for name in approaches.PAPER
    }
    assert stages == {
        "baseline": ("Baseline", None, None),
        "is_rus": ("IS RUS", "rus", None),
        "is_ros": ("IS ROS", "ros", None),
        "is_smote": ("IS SMOTE", "smote", None),
        "fs_rus": ("FS RUS", None, Stage2("rus")),
        "fs_ros": ("FS ROS", None, Stage2("ros")),
        "fs_smote": ("FS SMOTE", None, Stage2("smote")),
        "ts_smote_smote": ("TS SMOTE+SMOTE", "smote", Stage2("smote")),
        "ts_smote_rus": ("TS SMOTE+RUS", "smote", Stage2("rus")),
    }


def test_every_pair_of_samplers_is_an_approach():
    names = approaches.names()
    assert len(names) == len(set(names)) == 11 + 11 + 121 + 1 + len(METHODS)
    assert tuple(names[:9]) == approaches.PAPER
    assert find("ts_ros_nearmiss3") == Approach(
        "ts_ros_nearmiss3", "TS ROS+NearMiss-3", "two-stage", Stage1("ros"), Stage2("nearmiss3")
    )
    positions = [approaches.position(name) for name in names]
    assert all(one < other for one, other in itertools.pairwise(positions))


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_made_with_seed_and_neighbors_where_it_has_them(name):
    parameters = make_sampler(name, seed=7, k_neighbors=3).get_params()
    assert parameters.get("random_state", 7) == 7
    if name in ("smote", "borderline"):
        assert parameters["k_neighbors"] == 3
    if name == "adasyn":
        assert parameters["n_neighbors"] == 3
    if name == "enn":
        assert parameters["n_neighbors"] == 3  # its own default, imbalanced-learn's
        assert make_sampler(name, seed=7, k_neighbors=9).get_params()["n_neighbors"] == 3
    if name.startswith("nearmiss"):
        assert parameters["version"] == int(name[-1])


def test_adasyn_leaves_out_classes_that_lack_almost_nothing():
    """An image apart, as folds leave classes of equal size: alone, that is an error of ADASYN."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [300, 299, 30])
    x = rng.normal(size=(len(y), 2)).astype(np.float32)
    plan = make_sampler("adasyn", seed=0, k_neighbors=5).plan(x, y)
    counts = np.bincount(plan.label)
    assert list(counts[:2]) == [300, 299]
    assert abs(counts[2] - 300) < 20
    with pytest.raises(InputError, match="left after rounding"):
        ADASYN(random_state=0).plan(x, y)


def test_an_approach_and_a_sampler_from_outside(registry):
    register_sampler("half", SamplerEntry("Half", RandomUnderSampler, {"replacement": True}))
    assert find("fs_half").title == "FS Half"
    assert make_sampler("half", seed=1, k_neighbors=5).replacement
    own = Approach("mine", "Mine", "other", Stage1("half"), style=Style("#123456", "o"))
    assert register(own) is own
    assert find("mine") is own
    assert register(Approach("mine", "Mine", "other", Stage1("half"), style=Style("#123456", "o")))
    assert "mine" in approaches.names()
    assert approaches.position("mine") > approaches.position("ts_rbu_rbu")


def test_a_recipe_survives_json():
    own = Approach("x", "X", "other", Stage1("ros"), Stage2(), "prior", Style("red", "o", ":"))
    assert Approach.from_json("x", json.loads(json.dumps(own.to_json()))) == own
    plain = Approach("y", "Y", "baseline")
    assert Approach.from_json("y", {"title": "Y", "family": "baseline"}) == plain
    with pytest.raises(InputError, match=r"recipe of approach 'x' cannot be read .*newer version"):
        Approach.from_json("x", own.to_json() | {"loss": "focal"})


BAD = {
    "a pair's name": (
        lambda: register(Approach("fs_enn", "Mine", "other")),
        "approach name 'fs_enn' is taken by FS ENN; choose another",
    ),
    "a taken name": (
        lambda: register(Approach("baseline", "Mine", "baseline")),
        "approach name 'baseline' is taken by Baseline",
    ),
    "no name": (lambda: register(Approach("A b", "Mine", "other")), "'A b' found, lowercase"),
    "an unknown family": (
        lambda: register(Approach("x", "X", "features")),
        "unknown family 'features'; did you mean feature",
    ),
    "an unknown sampler": (
        lambda: register(Approach("x", "X", "image", Stage1("smot"))),
        "unknown sampler 'smot'; did you mean smote",
    ),
    "an unknown sampler of features": (
        lambda: register(Approach("x", "X", "feature", stage2=Stage2("tomec"))),
        "unknown sampler 'tomec'; did you mean tomek",
    ),
    "an unknown correction": (
        lambda: register(Approach("x", "X", "other", correction="priors")),
        "unknown correction 'priors'; did you mean prior",
    ),
    "features without a stage 2": (
        lambda: register(Approach("x", "X", "feature", Stage1("rus"))),
        "has no stage 2; add stage2=",
    ),
    "an unknown approach": (
        lambda: find("fs_tomec"),
        r"unknown approach 'fs_tomec'; did you mean fs_tomek .*and \d+ more\)",
    ),
    "a taken sampler": (
        lambda: register_sampler("rus", SamplerEntry("Mine", NearMiss)),
        "sampler name 'rus' is taken by RUS",
    ),
    "no sampler's name": (
        lambda: register_sampler("a_b", SamplerEntry("Mine", NearMiss)),
        "'a_b' found, lowercase letters and digits expected",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_that_names_what_is_valid(case):
    act, message = BAD[case]
    with pytest.raises(InputError, match=message) as raised:
        act()
    assert "\n" not in str(raised.value)
