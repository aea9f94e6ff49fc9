"""The machines of a cluster: whether they have what a study needs, and how many workers fit."""

import hashlib
import importlib
import os
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import twostage_jax
from twostage_jax.study.run import versions
from twostage_jax.support.errors import InputError

RESOURCES = {"cpu": "CPU", "gpu": "GPU", "tpu": "TPU"}
"""What Ray calls a platform."""


class Machine(NamedTuple):
    """A machine, as a process on it sees it.

    Attributes:
        host: its name.
        versions: of what records depend on.
    """

    host: str
    versions: dict[str, str]


def this_machine() -> Machine:
    """The machine of this process."""
    own = versions() | {"ray": importlib.import_module("ray").__version__}
    own["twostage_jax"] += f" ({_digest()})"
    return Machine(socket.gethostname(), own)


@cache
def _digest() -> str:
    """Eight digits that change with the package's source: its version seldom does."""
    folder = Path(twostage_jax.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def different_versions(there: Machine, here: Machine) -> str:
    """What differs between the versions of two machines, in words; empty where nothing does."""
    differences = [
        f"{name} {found}, here is {own}"
        for name, own in here.versions.items()
        if (found := there.versions.get(name, "none")) != own
    ]
    return f"{there.host} has {' and '.join(differences)}" if differences else ""


def reachable(folder: Path) -> bool:
    """Whether a folder of the driver's is there on this machine, too, and can be written."""
    return folder.is_dir() and os.access(folder, os.W_OK)


def find_platform(accelerator: str, nodes: Sequence[Mapping[str, Any]], option: str) -> str:
    """The platform that a study trains on.

    Args:
        accelerator: auto (the first there is of gpu, tpu and cpu) or a platform.
        nodes: the resources of each node, as Ray tells them.
        option: what the command calls the accelerator.

    Raises:
        InputError: no node has it.
    """
    wanted = ("gpu", "tpu", "cpu") if accelerator == "auto" else (accelerator,)
    for platform in wanted:
        if any(node.get(RESOURCES[platform], 0) >= 1 for node in nodes):
            return platform
    raise InputError(
        f"{option} {accelerator} requested, but the cluster has only {describe(nodes)}; add a node "
        f"that has one, or choose another {option}"
    )


def describe(nodes: Sequence[Mapping[str, Any]]) -> str:
    """What nodes have, for people: `2 nodes with 8 CPU, 1 GPU`."""
    totals = {name: sum(node.get(name, 0) for node in nodes) for name in RESOURCES.values()}
    listed = ", ".join(f"{total:g} {name}" for name, total in totals.items() if total)
    return f"{len(nodes)} node{'s' * (len(nodes) != 1)} with {listed or 'no devices'}"


def worker_size(
    platform: str,
    nodes: Sequence[Mapping[str, Any]],
    workers: int | None = None,
    cpus: int | None = None,
) -> dict[str, int]:
    """What a worker takes, in Ray's names: a GPU, TPU chips of a host, or cores of a CPU.

    All workers take the same. What larger nodes have beyond a multiple of that is left unused.

    Args:
        platform: cpu, gpu or tpu.
        nodes: the resources of each node, as Ray tells them.
        workers: how many are asked for, at most.
        cpus: cores per worker. By default as many as the smallest node has, or fewer where that
            lets as many workers fit as are asked for; beside an accelerator 1, or 0 where a node
            has fewer cores than accelerators.

    Raises:
        InputError: not a single worker fits.
    """
    resource = RESOURCES[platform]
    having = [node for node in nodes if node.get(resource, 0) >= 1]
    least = min((int(node[resource]) for node in having), default=0)
    if platform == "cpu":
        sizes = [{"CPU": own} for own in ([cpus] if cpus else range(max(least, 1), 0, -1))]
        size = next((own for own in sizes if fitting(own, nodes) >= (workers or 1)), sizes[-1])
    else:
        each = 1 if platform == "gpu" else least
        spare = all(node.get("CPU", 0) >= node[resource] // each for node in having)
        size = {resource: each, "CPU": cpus or int(spare)}
    if not fitting(size, nodes):
        raise InputError(
            f"no worker of {describe_size(size)} fits: the cluster has {describe(nodes)}; lower "
            "--cpus-per-worker"
        )
    return size


def describe_size(size: Mapping[str, int]) -> str:
    """What a worker takes, for people: `1 GPU and 2 CPU`."""
    return " and ".join(f"{number} {name}" for name, number in size.items() if number)


def fitting(size: Mapping[str, int], nodes: Sequence[Mapping[str, Any]]) -> int:
    """How many workers of a size nodes have room for, if nobody else uses them."""
    return sum(
        min(int(node.get(name, 0) // number) for name, number in size.items() if number)
        for node in nodes
    )
