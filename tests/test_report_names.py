"""Names that users give to folders: in titles, tables, charts and on the page."""

import re
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from report_study import SETTINGS, TINY, make_record, write_features, write_study

from twostage_jax.evaluation.names import class_titles, readable
from twostage_jax.evaluation.sheets import csv
from twostage_jax.report import lettering, looks, pictures, style, write_report
from twostage_jax.study.approaches import Approach
from twostage_jax.study.figure_data import FigureFeatures
from twostage_jax.study.record import RecordKey

pytestmark = pytest.mark.integration

AWKWARD = [
    "Ba$$in", r"$\frac$", r"back\slash \$", "=cmd|' /C calc'!A0", "\udce9t\udce9", "腺癌",
    "🙂 smile", "a_b", "a b", "x__y", "x _y", "two\nlines", "bell\a \x1b[31m", "_", " ",
    "\u3164", "n" * 250, "n" * 249 + "m", "癌" * 80, "العربية", "<b>&amp;", "\u202eturned",
    "e\u0301", "\xe9", "-5%", "@x",
]  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a study of classes with awkward names, drawn without a warning."""
    settings = SETTINGS | {"classes": AWKWARD}
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, TINY, [make_record(key, settings, 12) for key in TINY])
    write_features(folder, TINY[-1], settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return write_report(folder)


def test_every_name_has_a_title_of_its_own_on_the_page(page):
    text = page.read_text(encoding="utf-8")
    (table,) = re.findall('id="table-confusion">.*?</thead>', text, re.DOTALL)
    heads = re.findall("<button.*?>(.*?)</button>", table, re.DOTALL)[1:]
    seen = [" ".join(head.split()) for head in heads]
    assert len({*seen}) == len(AWKWARD)
    assert "" not in seen
    assert "腺癌" in seen
    assert r"\udce9t\udce9" in seen
    if "font has all letters" in text:  # depends on the machine
        assert "label 5 is 腺癌" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e\ud800-\udfff]", text)


def test_csv_and_page_name_classes_alike_and_no_cell_is_a_formula(page):
    found = pd.read_csv(page.parent / "confusion.csv")
    titles = class_titles(AWKWARD)
    assert [name.removeprefix("predicted as ") for name in found.columns[-len(titles) :]] == titles
    quoted = list(found["true_class"].unique())
    assert [name.removeprefix("'") for name in quoted] == titles
    assert not [name for name in quoted if name[0] in "=+-@"]


def test_charts_of_awkward_names_are_xml(page):
    charts = list(page.parent.glob("*.svg"))
    assert len(charts) > 8
    for path in charts:
        assert ET.fromstring(path.read_bytes()).tag.endswith("svg")


def test_good_names_print_with_spaces():
    assert class_titles(["adipose_tissue", "lymph node"]) == ["adipose tissue", "lymph node"]


@pytest.mark.parametrize(
    "names",
    [
        ["a_b", "a b"], ["a__b", "a _b", "a  b"], ["_", " ", ""], ["x\ny", "x\\ny"], ["q", " q"],
        ["a\u200db", "ab"], ["same", "same"], ["a b", "a_b", "a b (label 1)"], ["\u2800", "\u3164"],
    ],
    ids=str,
)  # fmt: skip
def test_titles_differ_to_the_eye(names):
    seen = [" ".join(title.split()) for title in class_titles(names)]
    assert len({*seen}) == len(names)
    assert all(seen)


def test_readable_text_stays_and_the_rest_is_escaped():
    assert readable("Zähler 腺癌 🙂 $x$ \\n") == "Zähler 腺癌 🙂 $x$ \\n"
    assert readable("a\tb\n\xa0\udcff\u202e") == r"a\tb\n\xa0\udcff\u202e"
    assert readable(readable("\0")) == readable("\0")


def test_formulas_are_texts_in_csv_and_numbers_stay_numbers():
    names = ["=1+1", "+A1", "-A1", "@sum", "  =1", "\uff1d1", "-1.5", "+2e3", "a=b", "1-2"]
    frame = pd.DataFrame({"=name": names, "score": -np.arange(10.0) / 8, "count": range(-10, 0)})
    first, *rows = csv(frame).splitlines()
    assert first == "'=name,score,count"
    cells = [row.split(",") for row in rows]
    assert [name for name, *_ in cells] == [*(f"'{name}" for name in names[:6]), *names[6:]]
    numbers = frame[["score", "count"]]
    assert csv(numbers) == numbers.to_csv(index=False)
    assert csv(numbers, {"score": 1}).splitlines()[2] == "-0.1,-9"


def test_letters_that_no_font_has_become_a_number():
    assert lettering.labels(["plain", "\U000e0101", "x\U000e0101"], "label") == [
        "plain",
        "label 1",
        "label 2 (x)",
    ]


def test_labels_are_short_and_differ():
    made = lettering.labels(["n" * 250, "n" * 100 + "m" + "n" * 100, "癌" * 90, "_a", "a"], "label")
    assert len({*made}) == 5
    assert max(map(lettering.width, made)) < 55
    assert not any(label.startswith("_") for label in made), "a legend would leave it out"


def test_another_installed_font_helps_out(monkeypatch, caplog):
    """The letters of N'Ko are in DejaVu Sans and not in DejaVu Sans Mono."""
    monkeypatch.setattr(lettering, "FONT", "DejaVu Sans Mono")
    common, *others = lettering.families(["n\u07ca"])
    assert common == "DejaVu Sans Mono"
    assert others
    assert lettering.labels(["n\u07ca"], "label") == ["n\u07ca"]
    with warnings.catch_warnings(), style.quiet(["n\u07ca"]):
        warnings.simplefilter("error")
        figure, ((panel,),) = style.grid(1, 1, 2.0)
        panel.set_title("n\u07ca")
        style.svg(figure)
    assert caplog.text == "", "quiet"


def test_titles_of_approaches_are_no_formulas():
    made = looks.make_looks({"x": Approach("x", r"$\frac$ for $5", "other")})
    assert made["x"].title == r"\$\frac\$ for \$5"


@pytest.mark.parametrize("length", [5, 200])
def test_a_map_of_120_classes_is_laid_out(length):
    count = 120
    points = np.random.default_rng(0).normal(size=(2 * count, 2)).astype(np.float32)
    features = FigureFeatures(
        settings_hash="f" * 64,
        key=RecordKey("linear", 10.0, 0, "ts_smote_rus"),
        before=points,
        after=points,
        label=np.tile(np.arange(count, dtype=np.int32), 2),
        kept=np.ones(2 * count, np.bool_),
        variance=np.array([0.5, 0.2], np.float32),
    )
    names = lettering.labels([f"{'c' * length} {i}" for i in range(count)], "label")
    with warnings.catch_warnings(), style.quiet(names):
        warnings.simplefilter("error")
        figure = pictures.feature_map(features, names)
        style.svg(figure)
    for panel in figure.axes:
        box = panel.get_position()
        assert box.width * figure.get_figwidth() > 2.5, "inches"
        assert panel.title.get_window_extent().y1 <= figure.bbox.height
    (legend,) = figure.legends
    assert len({text.get_text() for text in legend.get_texts()}) == count
    edges = legend.get_window_extent()
    assert edges.x0 >= 0
    assert edges.x1 <= figure.bbox.width
