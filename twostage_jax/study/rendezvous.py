"""How the processes of a study meet: in `jax.distributed`, which they leave at once.

JAX recognizes Slurm, Open MPI, TPU pods and GKE by itself. The processes stay in `jax.distributed`
only until they know each other. No computation of a study crosses hosts, and a process that stays
in it is taken down when another one dies.
"""

import dataclasses
import json
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed, xla_bridge
from jax._src.clusters import ClusterEnv

from twostage_jax.support.errors import InputError

JOIN = 60
"""Seconds to wait for the others: started by hand, processes are up to a minute apart."""


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Which process this is, and of how many.

    Attributes:
        index: 0 deals out the groups and makes tables and report.
        count: of processes that work on the study.
        token: names this start, the same for all of them.
    """

    index: int = 0
    count: int = 1
    token: str = ""

    def __str__(self) -> str:
        """For the reader: `process 1 of 4`."""
        return f"process {self.index} of {self.count}"


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> Hosts:
    """Meets the other processes, by hand or as the cluster says, before JAX's backend starts.

    Without options and without a cluster, or with `num_processes` 1, this process is alone.

    Args:
        coordinator: `HOST:PORT` where process 0 can be reached.
        num_processes: how many processes there are.
        process_id: which one this is, from 0.

    Raises:
        InputError: some of the three are given and others not, one is not valid, or the others
            were not reached.
    """
    require_consistent(coordinator, num_processes, process_id)
    if num_processes == 1 or (coordinator is None and not _in_cluster()):
        return Hosts()
    return _meet(coordinator, num_processes, process_id)


def require_consistent(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Validates the three options of `join` together.

    Raises:
        InputError: some of the three are given and others not, or one is not valid.
    """
    if num_processes == 1 and process_id in (None, 0):
        return
    if coordinator is None and num_processes is None and process_id is None:
        return
    if coordinator is None or num_processes is None or process_id is None:
        given = {
            "--coordinator": coordinator,
            "--num-processes": num_processes,
            "--process-id": process_id,
        }
        missing = " and ".join(name for name, value in given.items() if value is None)
        raise InputError(
            f"{missing} missing: --coordinator, --num-processes and --process-id go together; "
            "give all three, or none where JAX recognizes the cluster"
        )
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise InputError(
            f"--coordinator '{coordinator}' found, HOST:PORT of process 0 expected, such as "
            "10.0.0.1:1234"
        )
    if num_processes < 1:
        raise InputError(f"--num-processes {num_processes} found, 1 or more expected")
    if not 0 <= process_id < num_processes:
        raise InputError(
            f"--process-id {process_id} found, 0 to {num_processes - 1} expected with "
            f"--num-processes {num_processes}"
        )


def _in_cluster() -> bool:
    """Whether JAX sees a cluster that started this process."""
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        return True
    for cluster in ClusterEnv._cluster_types:
        # Any pod is in Kubernetes; only the pods of an indexed job are processes of one program.
        plain_pod = cluster.__name__ == "K8sCluster" and "JOB_COMPLETION_INDEX" not in os.environ
        if not cluster.opt_in_only_method and not plain_pod and cluster.is_env_present():
            return True
    return False


def _meet(coordinator: str | None, num_processes: int | None, process_id: int | None) -> Hosts:
    """Runs `_introduce` in a process of its own: XLA aborts the one that fails to connect."""
    command = [sys.executable, "-m", "twostage_jax.study.rendezvous", str(JOIN)]
    command.append(json.dumps([coordinator, num_processes, process_id]))
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    try:
        # Longer than all that may time out within.
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=3 * JOIN + 30
        )
        errors = ended.stderr
    except subprocess.TimeoutExpired:
        ended, errors = None, ""
    if ended is None or ended.returncode:
        who = "this process" if process_id is None else f"process {process_id} of {num_processes}"
        where = f" at {coordinator}" if coordinator else ""
        raise InputError(f"{who} did not meet the others{where}: {_reason(errors)}") from None
    met = json.loads(ended.stdout.splitlines()[-1])
    if met["devices"]:  # the one that belongs to this process, where a host runs several
        jax.config.update("jax_cuda_visible_devices", met["devices"])
        jax.config.update("jax_rocm_visible_devices", met["devices"])
    return Hosts(met["index"], met["count"], met["token"])


def _reason(errors: str) -> str:
    same = (
        "start all together, with the same --coordinator and --num-processes, and --process-id "
        "from 0 up"
    )
    if "Failed to start RPC server" in errors or "Failed to add port" in errors:
        return "it cannot listen on that port; choose a free one, in all processes"
    if "Unexpected task" in errors:
        return f"process 0 expects fewer processes; {same}"
    if not errors or "DEADLINE_EXCEEDED" in errors:
        return f"not all were there within {JOIN} s; {same}"
    last = [line for line in errors.splitlines() if line.strip()][-1]
    return f"{last[:200]}; give all three of --coordinator, --num-processes and --process-id"


def _introduce(timeout: int, options: list) -> dict:
    """Joins `jax.distributed` and leaves it with what all know from then on."""
    jax.config.update("jax_enable_preemption_service", False)
    jax.distributed.initialize(
        *options, initialization_timeout=timeout, shutdown_timeout_seconds=timeout
    )
    state = distributed.global_state  # `jax.process_index()` would start the accelerator
    client: Any = state.client
    if state.process_id == 0:
        client.key_value_set("token", secrets.token_hex(8))
    met = {
        "index": state.process_id,
        "count": state.num_processes,
        "token": client.blocking_key_value_get("token", timeout * 1000),
        "devices": xla_bridge.CUDA_VISIBLE_DEVICES.value.replace("all", ""),
    }
    jax.distributed.shutdown()
    return met


if __name__ == "__main__":
    print(json.dumps(_introduce(int(sys.argv[1]), json.loads(sys.argv[2]))))
