"""How approaches look in charts: colors, markers and lines."""

import itertools

import numpy as np
import pytest

from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.report import looks
from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import FAMILIES, PAPER, Approach, Style, listed
from twostage_jax.study.methods import METHODS
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

# The standard matrices of how colors appear without one kind of cone (Machado et al., 2009,
# severity 1), on linear RGB.
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
TRITANOPIA = [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.303900],
]


def lab(color, sight):
    """CIE L*a*b* of a color as it appears."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(to_xyz @ seen / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("sight", SIGHT)
def test_any_reader_tells_the_papers_approaches_apart_by_color(sight):
    """A difference of 10 is seen at a glance."""
    made = looks.make_looks(find_approaches(PAPER))
    for one, other in itertools.combinations(made.values(), 2):
        colors = (lab(look.color, SIGHT[sight]) for look in (one, other))
        assert np.linalg.norm(np.subtract(*colors)) > 15, (one, other)


MANY = [
    *PAPER,
    *(f"{space}_{sampler}" for space in ("is", "fs") for sampler in SAMPLERS),
    *(f"ts_{one}_{other}" for one in ("rus", "ros", "smote", "adasyn") for other in SAMPLERS),
    *(approach.name for approach in METHODS),
    *(f"{name}+prior" for name in ("fs_rus", "ts_smote_rus", "head_crt")),
    *(f"own_{i}" for i in range(5)),
]


@pytest.mark.parametrize("sight", SIGHT)
def test_many_approaches_look_different(sight):
    made = looks.make_looks(find_approaches(MANY))
    assert len(made) >= 80
    for name, look in made.items():
        color = lab(look.color, SIGHT["all cones"])
        assert name in PAPER or 20 < color[0] < 62, "dark enough for white paper"
    for one, other in itertools.combinations(made.values(), 2):
        if one.marker == other.marker and one.line == other.line:
            colors = (lab(look.color, SIGHT[sight]) for look in (one, other))
            assert np.linalg.norm(np.subtract(*colors)) > 6, (one, other)


def test_a_family_has_a_hue_and_its_members_shades():
    made = looks.make_looks(find_approaches(MANY))
    hues = {}
    for name, look in made.items():
        if name not in PAPER:
            _, a, b = lab(look.color, SIGHT["all cones"])
            hues.setdefault(look.family, []).append(np.degrees(np.arctan2(b, a)) % 360)
    assert len(hues) == 8
    for one, other in itertools.combinations(hues.values(), 2):
        apart = np.abs(np.subtract.outer(one, other))
        assert np.minimum(apart, 360 - apart).min() > 15


ONE_EACH = ["is_enn", "fs_enn", "ts_enn_enn", "loss_focal", "mix_remix", "head_crt", "post_prior"]


@pytest.mark.parametrize("sight", [*SIGHT, "tritanopia"])
def test_any_reader_tells_families_apart_by_color(sight):
    made = looks.make_looks(find_approaches([*ONE_EACH, "own"]))
    assert len({look.family for look in made.values()}) == len(FAMILIES) - 1
    for one, other in itertools.combinations(made.values(), 2):
        seen = SIGHT.get(sight, TRITANOPIA)
        assert np.linalg.norm(lab(one.color, seen) - lab(other.color, seen)) > 17, (one, other)


def test_members_of_a_family_differ_in_their_markers_and_are_lighter_one_by_one():
    made = [*looks.make_looks(find_approaches(listed())).values()]
    for family in ("loss", "mixing", "head"):
        own = [look for look in made if look.family == family]
        assert len({look.marker for look in own}) == len(own)
        lightness = [lab(look.color, SIGHT["all cones"])[0] for look in own]
        assert min(np.diff(lightness)) > 2


def test_the_papers_looks_are_fixed_and_an_approachs_own_style_comes_first():
    alone = looks.make_looks(find_approaches(["ts_smote_rus"]))["ts_smote_rus"]
    among = looks.make_looks(find_approaches(MANY))["ts_smote_rus"]
    assert alone == among == ("TS SMOTE+RUS", "two-stage", "#882255", "P", "-")
    own = Approach("ts_smote_rus", "Ours", "other", style=Style("gold", "$x$", ":"))
    made = looks.make_looks({"ts_smote_rus": own})
    assert made["ts_smote_rus"] == ("Ours", "other", "gold", "$x$", ":")


@pytest.mark.parametrize(
    "style", [Style("no color", "o"), Style("red", "no marker"), Style("red", "o", "no line")]
)
def test_a_style_that_cannot_be_drawn_is_one_clear_line(style):
    with pytest.raises(InputError, match=r"style of approach 'x' .*; expected .*; change") as found:
        looks.make_looks({"x": Approach("x", "X", "other", style=style)})
    assert "\n" not in str(found.value)
