"""Studies on a cluster: equal records whatever dies. Run with `pytest -m cluster`."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from cluster_study import make_study, train
from records import same_result

from experiments.reproduce import main
from twostage_jax.study.engine import threads
from twostage_jax.study.folder import read_records

pytestmark = [pytest.mark.cluster, pytest.mark.integration, pytest.mark.filterwarnings("ignore")]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def head():
    """A cluster of a head that has no cores to give; tests add nodes."""
    pytest.importorskip("ray")
    from ray import init, shutdown
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests'}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        init(cluster.address, log_to_driver=False)
        yield cluster
        shutdown()
        cluster.shutdown()


@pytest.fixture
def nodes(head):
    """Adds a node with room for one worker."""
    own = []

    def add():
        own.append(head.add_node(num_cpus=threads()))
        return own[-1]

    yield add
    for node in own:
        if node in head.worker_nodes:
            head.remove_node(node)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The records of a local run."""
    study = make_study(tmp_path_factory.mktemp("local"))
    study.open("test")
    assert not any(done.failed for done in study.run(study.groups(1)))
    return read_records(study.folder.records)


class Watch:
    """Listens to a study, and does something once: at its first progress."""

    def __init__(self, act=lambda process: None):
        self.processes = []  # of each group that was begun
        self._act = act

    def tell(self, line: str) -> None:
        self.processes.append(int(re.search(r"process (\d+)", line)[1]))

    def progress(self, _) -> None:
        act, self._act = self._act, lambda _: None
        act(self.processes[0])


def run(folder: Path, watch: Watch, **options) -> tuple[list, list[str]]:
    """Trains the study; gives its records and the warnings."""
    study = make_study(folder)
    study.open("test")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert train(study, watch.progress, watch.tell, **options) == 0
    assert not list((folder / "checkpoints").iterdir())
    return read_records(study.folder.records), [str(item.message) for item in caught]


def assert_same(records, others) -> None:
    assert len(records) == len(others) == 4
    assert all(map(same_result, records, others))


def test_two_nodes_give_the_records_of_a_local_run(nodes, local, tmp_path):
    nodes(), nodes()
    watch = Watch()
    records, _ = run(tmp_path, watch)
    assert len(set(watch.processes)) == 2
    assert_same(records, local)
    assert {record.device for record in records} == {record.device for record in local}


def test_a_worker_that_is_killed_is_replaced_and_its_networks_resume(
    nodes, local, tmp_path, monkeypatch
):
    """The folders are named as seen from here; workers have another working directory."""
    nodes()
    monkeypatch.chdir(tmp_path)
    watch = Watch(lambda process: os.kill(process, signal.SIGKILL))
    records, said = run(Path(), watch)
    assert len(set(watch.processes)) == 2
    assert len(watch.processes) == 5
    (line,) = (line for line in said if "is lost" in line)
    assert "it has cost 1 of at most 3 workers" in line
    assert not [line for line in said if "does not see" in line]
    assert_same(records, local)


def test_a_worker_that_hangs_is_replaced(nodes, local, tmp_path):
    """It is stopped for good; the clock runs ahead, that the test need not wait."""
    nodes()
    ahead = 0.0

    def stop(process):
        nonlocal ahead
        os.kill(process, signal.SIGSTOP)
        ahead += 10_000

    watch = Watch(stop)
    records, said = run(tmp_path, watch, clock=lambda: time.monotonic() + ahead)
    assert "no progress for 900 s" in " ".join(said)
    assert len(set(watch.processes)) == 2
    assert_same(records, local)


def test_nodes_that_join_get_work_and_one_that_goes_loses_none(head, nodes, local, tmp_path):
    first = nodes()

    def replace(_):
        nodes()
        head.remove_node(first, allow_graceful=False)

    watch = Watch(replace)
    records, said = run(tmp_path, watch)
    (line,) = (line for line in said if "is lost" in line)
    assert "its node is gone" in line or "it cannot be reached" in line
    assert "has cost" not in line
    assert len(set(watch.processes)) == 2
    assert_same(records, local)


def test_a_node_that_joins_relieves_the_others(nodes, local, tmp_path):
    nodes()
    watch = Watch(lambda process: (os.kill(process, signal.SIGSTOP), nodes()))
    tell = watch.tell

    def tell_and_continue(line: str) -> None:
        tell(line)
        if watch.processes[-1] != watch.processes[0]:
            os.kill(watch.processes[0], signal.SIGCONT)

    watch.tell = tell_and_continue
    records, said = run(tmp_path, watch)
    assert len(set(watch.processes)) == 2
    assert not [line for line in said if "is lost" in line]
    assert_same(records, local)


def start(folder: Path, address: str) -> subprocess.Popen:
    # A job in the background ignores it, and so would its children.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with open(folder / "log", "a") as log:
            return subprocess.Popen(
                [sys.executable, ROOT / "tests" / "cluster_study.py", folder],
                env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": address},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def small_cluster():
    """A head with room for one worker, which a test may end."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": threads()})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def test_a_driver_that_ends_takes_its_workers_along_and_is_started_again(
    head, local, tmp_path, monkeypatch
):
    """It is killed, is interrupted, loses its head; then another cluster trains what is left."""
    # Ray ends the process of a driver without a head, after a minute by default.
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "2")
    log, ends = tmp_path / "log", {"kill": -signal.SIGKILL, "interrupt": 130, "lose": 1}
    with small_cluster() as cluster:
        for begun, (end, status) in enumerate(ends.items(), start=1):
            driver = start(tmp_path, cluster.address)
            while len(re.findall("process", log.read_text())) < begun or not any(
                tmp_path.glob("checkpoints/*/*/_CHECKPOINT_METADATA")
            ):
                assert driver.poll() is None, log.read_text()
                time.sleep(0.02)
            if end == "lose":
                cluster.head_node.kill_gcs_server(check_alive=False)
            else:
                driver.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
            assert driver.wait(60) == status, log.read_text()
            for process in re.findall(r"process (\d+)", log.read_text()):
                while Path("/proc", process).exists():
                    time.sleep(0.1)
    with small_cluster() as cluster:
        assert start(tmp_path, cluster.address).wait() == 0, log.read_text()
    assert_same(read_records(tmp_path / "out" / "records"), local)
    assert not list((tmp_path / "checkpoints").iterdir())
    assert "Traceback" not in log.read_text()


def test_an_accelerator_that_no_node_has_is_one_line(nodes, capsys):
    nodes()
    assert main(["--engine", "ray", "--accelerator", "gpu"]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"error: --accelerator gpu requested, but the cluster has only .*\n", line)


def test_a_listener_that_is_no_cluster_is_one_line(tmp_path):
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        program = "import sys; from twostage_jax.cluster import attachment; "
        program += "attachment.CONNECT = 3; from experiments.reproduce import main; "
        program += "sys.exit(main(['--engine', 'ray']))"
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": address},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 2
    assert re.fullmatch(r"error: no cluster answers at .* no healthy head .*\n", ended.stderr)
