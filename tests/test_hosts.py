"""A study on several hosts: who does what, what is refused, and what a lost host costs."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records import same_result
from test_reproduce import ROOT
from test_reproduce import SMALL as DEMO

from experiments.options import parse
from experiments.reproduce import main
from twostage_jax.study import rendezvous
from twostage_jax.study.folder import read_records
from twostage_jax.study.hosts import deal
from twostage_jax.study.rendezvous import Hosts, join
from twostage_jax.support.errors import InputError

# Three networks, four records.
APPROACHES = ["--approaches", "baseline", "is_rus", "is_smote", "ts_smote_rus"]
SMALL = [*DEMO, "--epochs", "2", *APPROACHES]

# Shorter than for users, and long enough for a machine that has much else to do.
PROGRAM = """
import sys
from experiments.reproduce import main
from twostage_jax.study import hosts, rendezvous
hosts.BEAT, hosts.LOST, hosts.GATHER, rendezvous.JOIN = 0.2, 12.0, 20.0, 20
sys.exit(main(sys.argv[1:]))
"""


@given(st.lists(st.integers(1, 10**9), max_size=60), st.integers(1, 9))
def test_every_group_is_dealt_once_and_loads_differ_by_at_most_the_largest(sizes, count):
    shares = deal(sizes, count)
    assert len(shares) == count
    assert sorted(i for share in shares for i in share) == list(range(len(sizes)))
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[i] for i in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes, default=0)


BAD_OPTIONS = {
    "one of three": (("a:1", None, None), "--num-processes and --process-id missing"),
    "two of three": ((None, 2, 0), "--coordinator missing"),
    "no port": (("a", 2, 0), "--coordinator 'a' found, HOST:PORT"),
    "no such port": (("a:70000", 2, 0), "--coordinator 'a:70000' found, HOST:PORT"),
    "no processes": (("a:1", 0, 0), "--num-processes 0 found"),
    "index too large": (("a:1", 2, 2), "--process-id 2 found, 0 to 1 expected"),
    "index below 0": (("a:1", 2, -1), "--process-id -1 found"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused_before_anybody_is_waited_for(case):
    options, message = BAD_OPTIONS[case]
    with pytest.raises(InputError, match=message):
        join(*options)


def test_a_dry_run_refuses_them_too():
    with pytest.raises(InputError, match="--num-processes and --process-id missing"):
        parse(["--coordinator", "a:1", "--dry-run"], "demo")


def test_one_machine_is_alone_and_asks_nobody(monkeypatch):
    def start(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", start)
    assert join() == Hosts(0, 1)
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "a:1")
    assert join(num_processes=1) == Hosts(0, 1)
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert join() == Hosts(0, 1), "a pod that is not one of an indexed job"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(
    folder: Path, output: str, process: int, port: int, *more: str, count: int = 2
) -> subprocess.Popen:
    where = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", str(count)]
    where += ["--process-id", str(process), "--output", output]
    name = folder / f"{output}{process}"
    with open(f"{name}.log", "w") as log, open(f"{name}.errors", "w") as errors:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *SMALL, *where, *more],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=errors,
        )


def log(folder: Path, output: str, process: int) -> str:
    return (folder / f"{output}{process}.log").read_text()


def error_lines(folder: Path, output: str, process: int) -> list[str]:
    """What the program itself says is wrong; libraries may say more on stderr."""
    lines = (folder / f"{output}{process}.errors").read_text().splitlines()
    assert not any(line.startswith("Traceback") for line in lines), lines
    return [line for line in lines if line.startswith("error: ")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The study of one process on one device."""
    folder = tmp_path_factory.mktemp("alone")
    command = [sys.executable, "-c", PROGRAM, *SMALL, "--output", "alone"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    assert not (folder / "alone" / "hosts").exists()
    return folder / "alone"


def assert_same_study(one: Path, other: Path) -> None:
    records, others = (read_records(study / "records") for study in (one, other))
    assert len(records) == len(others) == 4
    assert all(same_result(a, b) for a, b in zip(records, others, strict=True))
    same = ["tables.md", "table1.csv", "table2.csv", "report/feature-map.svg"]
    for name in [*same, "report/verdict.csv", "report/fig1-smote.svg"]:
        assert (one / name).read_text() == (other / name).read_text()
    assert not (other / "hosts").exists()


@pytest.mark.integration
def test_two_processes_make_the_records_of_one_bit_for_bit(alone, tmp_path):
    port = free_port()
    processes = [start(tmp_path, "two", process, port) for process in (0, 1)]
    statuses = [process.wait(timeout=300) for process in processes]
    assert statuses == [0, 0], log(tmp_path, "two", 0) + log(tmp_path, "two", 1)
    assert_same_study(alone, tmp_path / "two")
    first, *lines = log(tmp_path, "two", 1).splitlines()
    assert first.startswith("preset demo on ")
    assert "process 1 of 2" in first
    assert lines
    assert all(line.startswith("process 1 of 2: ") for line in lines)
    # Again, nothing is left to do, and nobody waits.
    processes = [start(tmp_path, "two", process, port) for process in (0, 1)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]


@pytest.mark.integration
def test_a_lost_host_costs_its_groups_only_and_another_start_finishes_them(alone, tmp_path):
    port = free_port()
    first, second = (start(tmp_path, "lost", process, port) for process in (0, 1))
    while not any((tmp_path / "lost" / "records").rglob("*.safetensors")):
        assert second.poll() is None, log(tmp_path, "lost", 1)
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    second.wait()
    assert first.wait(timeout=300) == 1
    said = log(tmp_path, "lost", 0)
    assert "process 1 gave no sign for 12 s: " in said.splitlines()[-1]
    assert said.splitlines()[-1].endswith("any number of hosts, finishes them")
    assert not error_lines(tmp_path, "lost", 0)
    assert 0 < len(read_records(tmp_path / "lost" / "records")) < 4
    assert "of 4 records done" in (tmp_path / "lost" / "report" / "index.html").read_text()
    command = [sys.executable, "-c", PROGRAM, *SMALL, "--output", "lost"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert_same_study(alone, tmp_path / "lost")


@pytest.mark.slow
def test_processes_that_do_not_match_are_told_so(tmp_path):
    """The number of processes, their settings, and a folder that is not shared."""
    port = free_port()
    first, other = start(tmp_path, "n", 0, port), start(tmp_path, "n", 2, port, count=3)
    assert other.wait(timeout=120) == 2
    assert "process 0 expects fewer processes; start all" in error_lines(tmp_path, "n", 2)[0]
    port = free_port()
    two = ["--epochs", "1", "--approaches", "baseline", "is_rus"]
    pair = [start(tmp_path, "s", i, port, *two, "--seed", str(i)) for i in (0, 1)]
    assert pair[1].wait(timeout=120) == 2
    assert "seed is 0 there and 1 here" in error_lines(tmp_path, "s", 1)[0]
    assert first.wait(timeout=120) == 2
    assert "not all were there within 20 s; start all" in error_lines(tmp_path, "n", 0)[0]
    assert pair[0].wait(timeout=120) == 1
    assert "process 1 ended early: " in log(tmp_path, "s", 0)
    for name, process in (("n", 0), ("n", 2), ("s", 1)):
        assert len(error_lines(tmp_path, name, process)) == 1
    port = free_port()
    pair = [start(tmp_path, f"apart{i}", i, port) for i in (0, 1)]
    assert [process.wait(timeout=120) for process in pair] == [2, 2]
    for i in (0, 1):
        (line,) = error_lines(tmp_path, f"apart{i}", i)
        assert f"no sign of process {1 - i} in apart{i}/hosts/" in line
        assert not (tmp_path / "apart0").exists()


def test_a_port_that_is_taken_is_said(monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "JOIN", 5)
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--coordinator", where, "--num-processes", "2", "--process-id", "0"]
        assert main([*SMALL, *options]) == 2
    assert "cannot listen on that port" in capsys.readouterr().err
