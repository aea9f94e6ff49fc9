"""What `--approaches` takes, and the list of all approaches."""

import subprocess
import sys
from pathlib import Path

import pytest

from experiments import reproduce
from twostage_jax.commands import approach_list
from twostage_jax.commands.approach_list import choose_approaches
from twostage_jax.commands.main import main
from twostage_jax.study.approaches import FAMILIES, PAPER, Approach, Stage1, Stage2, find, listed
from twostage_jax.study.wording import about, count_trained, source
from twostage_jax.support.errors import InputError
from twostage_jax.training.objective import Call

ROOT = Path(__file__).parents[1]


def names_of(*words):
    return [approach.name for approach in choose_approaches(words)]


def test_words_stand_for_approaches_and_each_comes_once():
    assert names_of("paper") == [*PAPER]
    assert names_of("all", "paper", "all") == listed()
    assert names_of("baseline", "two-stage", "fs_rus+prior", "baseline") == [
        "baseline",
        "ts_smote_smote",
        "ts_smote_rus",
        "fs_rus+prior",
    ]
    for family in FAMILIES:
        if family != "other":
            assert {find(name).family for name in names_of(family)} == {family}


BAD = {
    "an unknown name": (["fs_tomec"], "unknown approach 'fs_tomec'; did you mean fs_tomek"),
    "an unknown word": (["losses"], "unknown approach 'losses'; did you mean loss"),
    "two corrections": (["post_prior+prior"], "'post_prior' already corrects its probabilities"),
    "an unknown correction": (["fs_rus+prio"], "unknown correction 'prio'; did you mean prior"),
    "a correction of many": (["paper+prior"], "'paper' stands for several; name each"),
    "a correction that cannot be": (["head_tau+prior"], "not known which class frequencies"),
    "an empty family": (["other"], "no approach of that family is registered"),
    "nothing": ([], "--approaches without a name found"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case):
    words, message = BAD[case]
    with pytest.raises(InputError, match=message.replace("+", r"\+")) as raised:
        choose_approaches(words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("program", "arguments"),
    [(main, ["compare", "--list-approaches"]), (reproduce.main, ["--list-approaches"])],
    ids=["compare", "reproduce"],
)
def test_the_list_has_every_approach_with_source_and_cost(program, arguments, capsys):
    assert program(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    rows = {line.split()[0]: line for line in lines if line.startswith("  ") and line[2] != " "}
    assert set(rows) == set(listed())
    assert rows["head_two_phase"].endswith("1       1")
    assert rows["loss_focal"].endswith("1       0")
    assert "Koziarski 2020" in rows["is_rus"]
    text = " ".join(" ".join(lines).split())
    assert "ts_S_T" in text
    assert "NAME+prior" in text
    assert "paper 3 networks and 5 heads" in text


def test_the_list_needs_no_jax():
    code = (
        "import sys; from twostage_jax.commands.main import main; status = main(sys.argv[1:]);"
        "assert 'jax' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "compare", "--list-approaches"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_costs_are_beyond_the_baselines_network_and_shared():
    assert count_trained([find("baseline")]) == (0, 0)
    assert count_trained([find("is_smote"), find("ts_smote_rus"), find("ts_smote_enn")]) == (1, 2)
    assert count_trained([find("fs_rus"), find("fs_rus+prior")]) == (0, 1)
    assert count_trained([find("head_ncm"), find("head_tau")]) == (0, 0), (
        "nothing follows gradients"
    )


def test_every_approach_says_what_it_is():
    own = Approach("x", "X", "other", Stage1("mine"), Stage2("theirs"))
    texts = [about(approach) for approach in (*map(find, listed()), own, find("ts_ros_enn"))]
    assert len({*texts}) == len(texts)
    assert all("\n" not in text for text in texts)
    assert about(find("ts_ros_enn")) == (
        "a network trained on images resampled by ROS, then the head, retrained on features "
        "resampled by ENN"
    )
    own = Approach("y", "Y", "other", stage2=Stage2(loss=Call("focal")), correction="prior")
    assert about(own) == (
        "the head, retrained on features as they are with focal loss; then the probabilities "
        "divided by the class frequencies that were learned"
    )
    assert about(find("head_crt+prior")).startswith(f"{about(find('head_crt'))}; then the prob")
    assert source(find("ts_borderline_enn")) == "Han et al. 2005; Wilson 1972"
    assert source(own) == "-"
    assert source(find("loss_focal+prior")) == "Lin et al. 2017; Buda et al. 2018"
    assert source(find("fs_rus+prior")) == "compared in Koziarski 2020; Buda et al. 2018"
    assert {*approach_list.WORDS} >= {"paper", "all", *FAMILIES}
