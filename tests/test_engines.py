"""Engines: bad input in one line each, and what a worker takes of a cluster."""

import contextlib
import os
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import reproduce
from experiments.options import parse
from experiments.reproduce import main
from twostage_jax.cluster import attachment
from twostage_jax.cluster.attachment import Cluster, attach
from twostage_jax.cluster.machines import (
    Machine,
    different_versions,
    find_platform,
    fitting,
    worker_size,
)
from twostage_jax.cluster.pool import explain
from twostage_jax.commands import compare, where
from twostage_jax.commands.where import require_shared
from twostage_jax.support.errors import InputError

CPU_NODES = [{"CPU": 8.0, "memory": 1e9}, {"CPU": 4.0}]
GPU_NODES = [{"CPU": 16.0, "GPU": 8.0}, {"CPU": 2.0, "GPU": 4.0}, {"CPU": 4.0}]
TPU_NODES = [{"CPU": 0.0, "TPU": 4.0}, {"TPU": 4.0}, {"CPU": 8.0}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--engine ray --workers 0", "--workers 0 found, above 0 expected"),
        ("--engine ray --cpus-per-worker -1", "--cpus-per-worker -1 found, above 0"),
        ("--engine ray --unit-timeout nan", "--unit-timeout nan found, above 0"),
        ("--workers 2", "--workers found with --engine local, which has no workers"),
        ("--checkpoints gs://bucket/x", "--checkpoints gs:/bucket/x is an address, a folder"),
    ],
)
def test_options_that_cannot_be_are_one_line(options, message):
    with pytest.raises(InputError, match=f"^{message}.*$"):
        parse(options.split(), "demo")


def test_an_engine_that_is_none_is_one_line(capsys):
    assert main(["--engine", "rya"]) == 2
    assert "error: unknown engine 'rya'; did you mean ray?" in capsys.readouterr().err


def test_options_of_the_engine_reach_it():
    options = parse(shlex.split("--engine ray --workers 3 --unit-timeout 60 --verbose"), "demo")
    assert (options.where.engine, options.where.workers) == ("ray", 3)
    assert (options.where.unit_timeout, options.where.verbose) == (60.0, True)


def test_without_ray_a_study_on_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["--engine", "ray"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--engine ray needs Ray" in line
    assert "pip install -e '.[cluster]'" in line


def test_who_does_not_ask_for_ray_does_not_import_it():
    program = "import sys, experiments.reproduce, twostage_jax.commands.compare\n"
    program += "sys.exit('ray' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", program], env=environment).returncode == 0


@pytest.mark.parametrize("command", [main, compare.main])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--workers 0", "error: --workers 0 found, above 0 expected"),
        ("--cpus-per-worker -2", "error: --cpus-per-worker -2 found, above 0"),
        ("--no-such-option", "Unrecognized options"),
        ("--help", "--unit-timeout"),
    ],
)
def test_no_cluster_is_joined_for_a_command_line_that_is_refused(
    command, options, message, monkeypatch, capsys
):
    monkeypatch.setattr(where, "attach", lambda: pytest.fail("a cluster was joined"))
    data = ["x"] if command == compare.main else []
    status = 2
    with contextlib.suppress(SystemExit):
        status = command([*data, "--engine", "ray", *options.split()])
    assert status == 2
    said = capsys.readouterr()
    assert message in said.out + said.err


class NoRay:
    """Stands for Ray before it is started."""

    @staticmethod
    def is_initialized() -> bool:
        return False


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:{free}", r"no cluster answers at RAY_ADDRESS 127.0.0.1:\d+ within 0 s"),
        ("ray://head:10001", r"RAY_ADDRESS is ray://head:10001, HOST:PORT .* expected"),
        ("head", "RAY_ADDRESS is head, HOST:PORT of a cluster's head expected"),
        ("auto", "RAY_ADDRESS is auto, but no cluster runs on this machine"),
    ],
)
def test_an_address_without_a_cluster_is_one_line(address, message, monkeypatch, tmp_path):
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        free = own.getsockname()[1]  # nobody listens
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{free}")
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.setenv("RAY_ADDRESS", address.format(free=free))
        monkeypatch.setattr(attachment, "CONNECT", 0.01)
        monkeypatch.setattr(attachment, "import_ray", NoRay)
        with pytest.raises(InputError, match=f"^{message}.*$"):
            attach()


def test_what_listens_where_a_cluster_was_is_not_replaced_by_a_cluster_of_our_own(
    monkeypatch, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(address)
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(attachment, "CONNECT", 1.0)
        monkeypatch.setattr(attachment, "import_ray", NoRay)
        with pytest.raises(InputError, match=f"^no cluster answers at {address}, .*RAY_ADDRESS=l"):
            attach()


class OtherRay(NoRay):
    """Stands for Ray where the cluster has another version."""

    @staticmethod
    def init(*_, **__):
        raise RuntimeError(
            "Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n    Python: 3.11.1\n"
            "This process on 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.1\n"
        )


def test_another_version_of_ray_on_the_cluster_is_named_in_one_line(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setattr(attachment, "import_ray", OtherRay)
    with pytest.raises(InputError, match=r"^.*Ray: 2\.50\.0 .* Ray: 2\.60\.0 .*same versions.*$"):
        attach()


def test_the_best_platform_is_found_and_one_that_is_not_there_is_refused():
    platforms = {"cpu": CPU_NODES, "gpu": GPU_NODES, "tpu": TPU_NODES}
    for platform, nodes in platforms.items():
        assert find_platform("auto", nodes, "--accelerator") == platform
    assert find_platform("cpu", GPU_NODES, "--accelerator") == "cpu"
    with pytest.raises(InputError, match=r"^--device tpu .* only 3 nodes with 22 CPU, 12 GPU;"):
        find_platform("tpu", GPU_NODES, "--device")


@pytest.mark.parametrize(
    ("platform", "nodes", "asked", "size", "number"),
    [
        ("cpu", CPU_NODES, (None, None), {"CPU": 4}, 3),
        ("cpu", CPU_NODES, (4, None), {"CPU": 2}, 6),
        ("cpu", CPU_NODES, (12, None), {"CPU": 1}, 12),
        ("cpu", CPU_NODES, (50, None), {"CPU": 1}, 12),
        ("cpu", CPU_NODES, (1, 8), {"CPU": 8}, 1),
        ("gpu", GPU_NODES, (None, None), {"GPU": 1, "CPU": 0}, 12),
        ("gpu", GPU_NODES[:1], (None, None), {"GPU": 1, "CPU": 1}, 8),
        ("gpu", GPU_NODES, (None, 2), {"GPU": 1, "CPU": 2}, 9),
        ("tpu", TPU_NODES, (None, None), {"TPU": 4, "CPU": 0}, 2),
    ],
)
def test_a_worker_takes_a_gpu_or_a_tpu_host_or_cores(platform, nodes, asked, size, number):
    assert worker_size(platform, nodes, *asked) == size
    assert fitting(size, nodes) == number


def test_a_worker_that_fits_nowhere_is_one_line():
    with pytest.raises(InputError, match=r"^no worker of 9 CPU fits: the cluster has 2 nodes with"):
        worker_size("cpu", CPU_NODES, cpus=9)


def test_other_versions_on_a_node_are_named():
    here = Machine("here", {"ray": "2.60.0", "python": "3.12.1", "twostage_jax": "0.1.0 (aaaa)"})
    there = Machine("there", here.versions | {"ray": "2.50.0", "twostage_jax": "0.1.0 (bbbb)"})
    assert different_versions(here, here) == ""
    assert different_versions(there, here) == (
        "there has ray 2.50.0, here is 2.60.0 and twostage_jax 0.1.0 (bbbb), here is 0.1.0 (aaaa)"
    )


class Answers(Cluster):
    """A cluster whose nodes give answers that are known."""

    def __init__(self, **answers):
        super().__init__(None)
        self._answers = answers

    def on_nodes(self, function, *arguments):
        return self._answers


def test_nodes_without_the_package_or_with_another_one_are_named(monkeypatch):
    here = Machine("here", {"twostage_jax": "1"})
    monkeypatch.setattr(attachment, "this_machine", lambda: here)
    Answers(node1=here).require_same_versions()
    with pytest.raises(InputError, match=r"^node2 has twostage_jax 0, here is 1; install .*"):
        Answers(node1=here, node2=Machine("x", {"twostage_jax": "0"})).require_same_versions()
    with pytest.raises(InputError, match=r"^node2 does not have twostage_jax .No module"):
        Answers(node1=here, node2=ImportError("No module named x")).require_same_versions()


def test_checkpoints_that_nodes_do_not_share_are_refused_or_warned_of(tmp_path):
    folder = tmp_path / "checkpoints"
    assert require_shared(Answers(node1=True), folder, named=True)
    assert require_shared(None, folder, named=True)
    apart = Answers(node1=True, node2=False, node3=TimeoutError("silence"))
    with pytest.raises(InputError, match=r"^--checkpoints: node2, node3 cannot reach .*$"):
        require_shared(apart, folder, named=True)
    with pytest.warns(UserWarning, match="node2, node3 cannot reach .* begin anew"):
        assert not require_shared(apart, Path(folder), named=False)


class QuietEngine:
    """An engine that knows nothing."""

    def members(self, networks: int) -> int:
        return 1

    def device_memory(self, members: int) -> int | None:
        return None

    def run(self, task, groups, claims, progress):
        raise AssertionError("nothing is to be trained")


def test_a_dry_run_makes_no_folders(tmp_path, monkeypatch):
    cluster = Answers()
    monkeypatch.setattr(cluster, "nodes", lambda: CPU_NODES)
    monkeypatch.setattr(where, "attach", lambda: cluster)
    engine = contextlib.nullcontext(QuietEngine())
    monkeypatch.setattr(reproduce, "start_engine", lambda *_, **__: engine)
    monkeypatch.chdir(tmp_path)
    assert main(["--engine", "ray", "--dry-run", "--preset", "demo"]) == 0
    assert not list(tmp_path.iterdir())


class ActorUnavailableError(Exception):
    pass


class RayTaskError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "reason", "blamed"),
    [
        (
            Exception(
                "The actor died unexpectedly.\n\tpid: 1\nThe actor is dead because its worker "
                "process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker "
                "unexpectedly exits. End of file. Some common causes include: (1) ..."
            ),
            "Worker unexpectedly exits. End of file.",
            True,
        ),
        (
            Exception("The actor died because its node has died. Node Id: 1"),
            "its node is gone",
            False,
        ),
        (
            Exception(
                "The actor died because of an error raised in its creation task, ray::Worker\n"
                "  ^^^^\nModuleNotFoundError: No module named 'x'"
            ),
            "ModuleNotFoundError: No module named 'x'",
            True,
        ),
        (
            RayTaskError("ray::Worker.start()\n  File x, line 1\nOSError: too many open files\n"),
            "OSError: too many open files",
            True,
        ),
        (ActorUnavailableError("The actor 7 is unavailable"), "it cannot be reached", False),
    ],
)
def test_what_ray_says_of_a_lost_worker_in_a_line(error, reason, blamed):
    assert explain(error) == (reason, blamed)
