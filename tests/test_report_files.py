"""What drawing a report does to a folder: only its own files go, and no link leads it out."""

import hashlib
import json
import re
import shutil

import pytest
from report_study import SETTINGS, TINY, make_record, write_study

from experiments import report as command_line
from twostage_jax.report import own_files, write_report
from twostage_jax.study.folder import StudyFolder
from twostage_jax.support.errors import InputError

pytestmark = pytest.mark.integration

STALE = b"of an earlier state"


def on_disk(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_of_an_earlier_drawing_go_and_those_of_a_user_stay(tmp_path):
    report = tmp_path / "report"
    own_files.publish(report, {"index.html": b"1", "old.svg": STALE, "old.csv": STALE})
    theirs = {"notes.csv": b"n", "drawing.svg": b"d", "read.txt": b"r", ".hidden.svg": b"h"}
    for name, data in theirs.items():
        (report / name).write_bytes(data)
    (report / "folder.svg").mkdir()
    own_files.publish(report, {"index.html": b"2", "new.svg": b"new"})
    (report / "folder.svg").rmdir()
    left = on_disk(report)
    listed = json.loads(left.pop(own_files.LIST))
    assert left == theirs | {"index.html": b"2", "new.svg": b"new"}
    assert listed.keys() == {"index.html", "new.svg"}


def test_a_file_that_a_user_changed_or_replaced_stays(tmp_path):
    report = tmp_path / "study" / "report"
    own_files.publish(report, {"a.csv": STALE, "b.csv": STALE, "c.svg": STALE})
    (report / "a.csv").write_bytes(b"edited")
    (report / "b.csv").unlink()
    (report / "b.csv").mkdir()
    elsewhere = tmp_path / "mine.svg"
    elsewhere.write_bytes(STALE)
    (report / "c.svg").unlink()
    (report / "c.svg").symlink_to(elsewhere)
    own_files.publish(report, {"index.html": b"2"})
    assert (report / "a.csv").read_bytes() == b"edited"
    assert (report / "b.csv").is_dir()
    assert (report / "c.svg").is_symlink()
    assert elsewhere.read_bytes() == STALE


@pytest.mark.parametrize(
    "listed",
    [
        None, b"", b"not JSON", b"[1]", b'{"old.svg": 5}', b"[" * 100_000,
        *(
            json.dumps({name: hashlib.sha256(STALE).hexdigest()}).encode()
            for name in ("../other.svg", "../report/old.svg", "sub/old.svg", "old.txt", "\0.svg")
        ),
    ],
    ids=range(11),
)  # fmt: skip
def test_without_a_sound_list_nothing_is_removed(tmp_path, listed):
    report = tmp_path / "report"
    (report / "sub").mkdir(parents=True)
    others = [
        tmp_path / "other.svg",
        report / "sub/old.svg",
        report / "old.svg",
        report / "old.txt",
    ]
    for path in others:
        path.write_bytes(STALE)
    if listed is not None:
        (report / own_files.LIST).write_bytes(listed)
    own_files.publish(report, {"index.html": b"page"})
    assert [path.read_bytes() for path in others] == [STALE] * 4


def test_what_a_killed_drawing_wrote_goes_later(tmp_path, monkeypatch):
    report, write = tmp_path / "report", own_files.write_atomically

    def killed(path, data):
        if path.name == "index.html":
            raise KeyboardInterrupt
        write(path, data)

    own_files.publish(report, {"index.html": b"1", "a.svg": b"1"})
    monkeypatch.setattr(own_files, "write_atomically", killed)
    with pytest.raises(KeyboardInterrupt):
        own_files.publish(report, {"index.html": b"2", "b.svg": b"2"})
    monkeypatch.undo()
    assert on_disk(report)["index.html"] == b"1", "not newer than its figures"
    own_files.publish(report, {"index.html": b"3"})
    assert on_disk(report).keys() == {"index.html", own_files.LIST}


def test_a_report_of_an_older_version_loses_nothing(tmp_path):
    folder = write_study(tmp_path, TINY, [])
    (folder / "report").mkdir()
    (folder / "report" / "old.svg").write_bytes(STALE)
    write_report(folder)
    write_report(folder)
    assert (folder / "report" / "old.svg").read_bytes() == STALE


@pytest.mark.parametrize(
    "link", ["report", "report/index.html", "report/metrics.csv", f"report/{own_files.LIST}"]
)
@pytest.mark.parametrize("there", [True, False], ids=["there", "dead"])
def test_a_link_out_of_the_study_is_refused(tmp_path, capsys, link, there):
    folder = write_study(tmp_path / "study", TINY, [])
    target = tmp_path / "mine"
    if there and link == "report":
        target.mkdir()
        (target / "user.csv").write_bytes(b"user")
    elif there:
        target.write_bytes(b"user")
    path = folder / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)
    assert command_line.main([str(folder)]) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"error: .*is a symbolic link that leads out .*; remove the link\n", err)
    if there and link == "report":
        assert on_disk(target) == {"user.csv": b"user"}
    elif there:
        assert target.read_bytes() == b"user"
    else:
        assert not target.exists()
    assert path.is_symlink()


def test_a_study_behind_a_link_has_its_report(tmp_path):
    write_study(tmp_path / "disk", TINY, [])
    (tmp_path / "study").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "pages").mkdir()
    (tmp_path / "disk" / "report").symlink_to("pages")
    assert write_report(tmp_path / "study").exists()
    assert (tmp_path / "disk" / "pages" / "index.html").exists()


def test_a_study_whose_records_are_behind_a_dead_link_is_an_error(tmp_path):
    folder = write_study(tmp_path, TINY, [make_record(TINY[0])])
    shutil.move(StudyFolder(folder).records, tmp_path / "moved")
    StudyFolder(folder).records.symlink_to(tmp_path / "not mounted")
    with pytest.raises(InputError, match=r"found no folder .*records; expected"):
        write_report(folder)


def test_text_that_is_not_utf_8_is_escaped_on_the_page_and_on_the_terminal(tmp_path, capfdbinary):
    settings = SETTINGS | {"weights": "of \udce9"}
    folder = write_study(tmp_path / "caf\udce9", TINY, [make_record(TINY[0], settings)])
    assert command_line.main([str(folder)]) == 0
    assert rb"caf\udce9" in capfdbinary.readouterr().out
    assert r"of \udce9" in (folder / "report" / "index.html").read_text()
