"""Attaching to a cluster: the address, its nodes and what is installed on them."""

import contextlib
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twostage_jax.cluster.machines import (
    Machine,
    describe,
    different_versions,
    reachable,
    this_machine,
)
from twostage_jax.support.errors import InputError

CONNECT = 30.0  # seconds
_SURVEY = 120.0  # seconds; a process starts on each node


def import_ray() -> Any:
    """Ray, which only this engine needs.

    Raises:
        InputError: it is not installed.
    """
    # Ray prints a page about every worker that is lost, which we tell in a line.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            f"--engine ray needs Ray, which cannot be imported ({error}); run "
            "pip install -e '.[cluster]', or leave --engine out"
        ) from error


class Cluster:
    """A cluster that this process has joined, or has started on this machine."""

    def __init__(self, ray: Any, *, own: bool = False):
        """Use `attach`.

        Args:
            ray: the module.
            own: whether this process has started it, on its own machine alone.
        """
        self.ray = ray
        self._own = own

    def living(self) -> dict[str, dict[str, float]]:
        """The resources of each living node, by what Ray calls the node.

        Raises:
            InputError: the cluster is gone.
        """
        with self.answering():
            nodes = self.ray.nodes()
        return {node["NodeID"]: node["Resources"] for node in nodes if node["Alive"]}

    def nodes(self) -> list[dict[str, float]]:
        """The resources of each living node.

        Raises:
            InputError: the cluster is gone.
        """
        return list(self.living().values())

    def __str__(self) -> str:
        """What it has, for people."""
        return describe(self.nodes())

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Turns what Ray raises where the head is lost into an InputError."""
        try:
            yield
        except (self.ray.exceptions.RayError, RuntimeError, ConnectionError) as error:
            raise InputError(
                f"the cluster is gone ({_one_line(error)}); start it again, then the same command "
                "resumes the study"
            ) from error

    def on_nodes(self, function: Callable, *arguments) -> dict[str, Any]:
        """What a function returns on each node, or the error that it raised, by host.

        A node that does not answer within two minutes gives a TimeoutError.
        """
        strategy = importlib.import_module("ray.util.scheduling_strategies")
        remote, asked = self.ray.remote(num_cpus=0, max_retries=0)(function), {}
        for node in self.ray.nodes():
            if node["Alive"]:
                there = strategy.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                call = remote.options(scheduling_strategy=there).remote(*arguments)
                asked[call] = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        answered, _ = self.ray.wait(list(asked), num_returns=len(asked), timeout=_SURVEY)
        answers: dict[str, Any] = {}
        for call, host in asked.items():
            try:
                answers[host] = self.ray.get(call) if call in answered else TimeoutError("silence")
            except self.ray.exceptions.RayError as error:
                answers[host] = getattr(error, "cause", None) or error
        return answers

    def require_same_versions(self) -> None:
        """Checks that all nodes have what this process has.

        Raises:
            InputError: a node has another version of Ray, Python, twostage_jax or a library that
                records depend on, or none; it is named.
        """
        if self._own:
            return
        here = this_machine()
        for host, there in self.on_nodes(this_machine).items():
            if isinstance(there, Machine):
                difference = different_versions(there._replace(host=host), here)
            else:
                difference = f"{host} does not have twostage_jax ({_one_line(there)})"
            if difference:
                raise InputError(f"{difference}; install the same versions on all nodes")

    def unreachable(self, folder: Path) -> list[str]:
        """The hosts on which a folder of this machine is not there, or cannot be written."""
        if self._own:
            return []
        return [
            host for host, there in self.on_nodes(reachable, folder).items() if there is not True
        ]


def attach() -> Cluster:
    """Joins the cluster of RAY_ADDRESS or the one that runs on this machine, else starts one.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address within 30 s.
    """
    ray = import_ray()
    if ray.is_initialized():
        return Cluster(ray)
    address = os.environ.get("RAY_ADDRESS", "")
    if address not in ("", "auto", "local"):
        _require_answer(address)
    elif address != "local":
        running = _running()
        if address == "auto" and running is None:
            raise InputError(
                "RAY_ADDRESS is auto, but no cluster runs on this machine; start one with "
                "`ray start --head`, or unset RAY_ADDRESS"
            )
        address = running or "local"
    # A cluster that this process starts reports nothing to anybody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    own = {"include_dashboard": False} if address == "local" else {}
    on_signal = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (RuntimeError, ConnectionError, ValueError, OSError) as error:
        reason = _one_line(error)
        todo = "start one with `ray start --head`, or change RAY_ADDRESS"
        if "version mismatch" in reason.lower():
            todo = "install the same versions of Ray and Python on all nodes"
        raise InputError(f"Ray cannot join the cluster at {address} ({reason}); {todo}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_signal)  # Ray has put its own
    return Cluster(ray, own=address == "local")


def _running() -> str | None:
    """The address of the cluster that `ray start` has started on this machine, if there is one.

    Ray itself would wait for minutes for one that is gone.

    Raises:
        InputError: something answers at the address, but not as a head does. A cluster of our own
            in its place would be a surprise.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    path = Path(folder, "ray", "ray_current_cluster")
    try:
        address = path.read_text().strip()
        _connect(address, CONNECT / 3)
    except (OSError, ValueError):
        return None
    try:
        _require_health(address, CONNECT / 3)
    except OSError as error:
        raise InputError(
            f"no cluster answers at {address}, which {path} names ({error}); end it with "
            "`ray stop`, or start another one here with RAY_ADDRESS=local"
        ) from error
    return address


def _connect(address: str, seconds: float) -> None:
    """Checks that somebody listens at an address.

    Raises:
        OSError: nobody does within some seconds.
        ValueError: the address is not HOST:PORT.
    """
    host, _, port = address.rpartition(":")
    if "/" in host or not 0 < int(port) < 2**16:
        raise ValueError(f"{address} is not HOST:PORT")
    socket.create_connection((host, int(port)), timeout=seconds).close()


def _require_health(address: str, seconds: float) -> None:
    """Checks that who listens at an address is a cluster's head, of whatever version.

    Raises:
        OSError: it is none, or does not say so within some seconds.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check"]
    command += ["--address", address]
    try:
        subprocess.run(command, capture_output=True, timeout=seconds, check=True)
    except subprocess.SubprocessError:
        raise OSError("what listens there is no healthy head of a cluster") from None


def _require_answer(address: str) -> None:
    """Waits for a cluster at an address of the form HOST:PORT."""
    began, reason = time.monotonic(), ""
    while (left := began + CONNECT - time.monotonic()) > 0:
        try:
            _connect(address, left)
            return _require_health(address, left)
        except ValueError:
            raise InputError(
                f"RAY_ADDRESS is {address}, HOST:PORT of a cluster's head expected; start the "
                "command on a node of the cluster"
            ) from None
        except OSError as error:
            reason = str(error)
            time.sleep(min(1.0, left))
    raise InputError(
        f"no cluster answers at RAY_ADDRESS {address} within {CONNECT:.0f} s ({reason}); start one "
        "there with `ray start --head`, or unset RAY_ADDRESS"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
