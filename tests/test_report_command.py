"""The report's command line, alone and while a study runs."""

import itertools
import re
import time

import pytest
from report_study import TINY, make_record, write_study

from experiments import report as command_line
from twostage_jax.commands import live_report
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration


def test_watching_draws_again_when_records_come_and_ends_quietly(tmp_path, monkeypatch, capsys):
    folder = write_study(tmp_path, TINY, [])
    drawn, looks = [], []

    def draw(results, refresh, beside):
        drawn.append((len(list(results.rglob("*.safetensors"))), refresh))
        return results / "report" / "index.html"

    def sleep(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            write_study(folder, TINY, [make_record(TINY[0])])
        if len(looks) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "write_report", draw)
    monkeypatch.setattr(time, "sleep", sleep)
    assert command_line.main([str(folder), "--watch", "--interval", "9"]) == 0
    assert drawn == [(0, 9), (1, 9)]
    assert looks == [9] * 4
    assert capsys.readouterr().err == ""


def test_a_study_that_has_not_begun_is_waited_for(tmp_path, monkeypatch, capsys):
    folder, looks = tmp_path / "study", []

    def sleep(_):
        looks.append(capsys.readouterr().out)
        if len(looks) == 2:
            write_study(folder, TINY, [])
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert command_line.main([str(folder), "--watch"]) == 0
    assert looks[0] == f"no study in {folder} yet; waiting for one\n"
    assert looks[1] == ""
    assert looks[2].endswith(f"{folder / 'report' / 'index.html'}\n")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_study(tmp_path / "study", TINY, [])
    assert command_line.main(["~/study"]) == 0
    assert command_line.main(["~/study", "--beside=~/nowhere"]) == 2
    assert f"found no study.json in {tmp_path / 'nowhere'}; " in capsys.readouterr().err
    assert command_line.main(["~no-such-user/study"]) == 2
    assert "found no study.json in ~no-such-user/study; " in capsys.readouterr().err


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "-inf", "1e308", "86401"])
@pytest.mark.parametrize("watch", [["--watch"], []], ids=["watch", "once"])
def test_an_interval_is_above_zero_and_a_day_at_most(tmp_path, capsys, interval, watch):
    assert command_line.main([str(tmp_path), *watch, f"--interval={interval}"]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: found --interval \S+; expected .*; change it\n", err)


def test_a_report_that_cannot_be_drawn_is_a_warning(tmp_path):
    warnings = []
    live = live_report.LiveReport(tmp_path / "nowhere", warnings.append)
    assert live.draw() is None
    (line,) = warnings
    assert line.startswith("no report: found no study.json")
    assert "the study is not affected" in line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("\n  \n^\nfound the end"), "ValueError: ^"),
        (ValueError("\n\n"), "ValueError"),
        (InputError("found x"), "found x"),
        (InputError("folder \udce9"), r"folder \udce9"),
        (OSError(28, "No space left", "f.svg"), "[Errno 28] No space left: 'f.svg'"),
        (KeyError("name"), "KeyError: 'name'"),
        (AssertionError(), "AssertionError"),
    ],
    ids=range(7),
)
def test_a_report_that_fails_says_why_in_one_line(tmp_path, monkeypatch, error, reason):
    def fail(*_, **__):
        raise error

    warnings = []
    monkeypatch.setattr(live_report, "write_report", fail)
    assert live_report.LiveReport(tmp_path, warnings.append).draw() is None
    (line,) = warnings
    start = re.escape(f"no report: {reason}")
    assert re.fullmatch(rf"{start} \(the study is not affected; .*\)", line)


def test_a_running_study_spends_a_fiftieth_of_its_time_on_the_report(monkeypatch, tmp_path):
    clock = itertools.count(0.0, 1.0)
    now = [0.0]
    drawn = []

    def draw(folder, refresh):
        drawn.append(now[0])
        now[0] += 5  # seconds that drawing takes
        return folder

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(live_report, "write_report", draw)
    live = live_report.LiveReport(tmp_path, drawn.append)
    for _ in clock:
        now[0] += 1
        live.update()
        if now[0] > 3000:
            break
    assert drawn[0] == 60
    assert 0.01 < 5 * len(drawn) / now[0] <= 0.02
