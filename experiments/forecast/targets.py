"""Devices to compile for that are not there, and what compiling for them needs."""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.forecast.devices import Device

# What the compilers read once, before JAX starts. Nothing is timed for lack of a device, and no
# service of a cloud is asked; several processes may load libtpu, because none opens a TPU.
ENVIRONMENT = {
    "gpu": {"CUDA_VISIBLE_DEVICES": "-1", "XLA_FLAGS": "--xla_gpu_autotune_level=0"},
    "tpu": {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-1",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "XLA_FLAGS": "",
    },
}
_PACKAGES = {"gpu": "jax-cuda12-plugin", "tpu": "libtpu"}


def missing(kind: str) -> str:
    """What has to be installed to compile for a kind of device, in one line; else empty."""
    try:
        version(_PACKAGES[kind])
    except PackageNotFoundError:
        return f"{_PACKAGES[kind]} is not installed; pip install -e '.[{kind}]'"
    return ""


def versions(kind: str) -> str:
    """The versions that a compiled program depends on."""
    return ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib", _PACKAGES[kind]))


def find_devices(device: Device) -> Sequence[jax.Device]:
    """One device of a target, for which programs can be compiled."""
    if device.kind == "gpu":
        made = topologies.get_topology_desc(
            platform="cuda", target_config=device.description, topology="1x1x1"
        )
    else:
        made = topologies.get_topology_desc(
            platform="tpu", topology_name=device.topology, chips_per_host_bounds=(1, 1, 1)
        )
    return made.devices[:1]


def on_all(devices: Sequence[jax.Device]) -> NamedSharding:
    """Says that an argument lies on these devices."""
    return NamedSharding(Mesh(np.array(devices), ("device",)), PartitionSpec())
