"""What the machine is: devices, memory, versions, threads, and what the device can do at most."""

import dataclasses
import os
import platform
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import jax
import jax.numpy as jnp
import pandas as pd

from experiments.benchmark_training.flops import measure_peaks
from experiments.benchmarks import document
from experiments.first_light import part
from twostage_jax.training.protocol import PRECISIONS

_PACKAGES = ("jax", "jaxlib", "jax-cuda12-plugin", "jax-cuda13-plugin", "libtpu", "flax", "numpy")
_PACKAGES += ("torch", "scikit-learn", "imbalanced-learn", "keras", "beartype")


@dataclasses.dataclass(frozen=True)
class Options(part.Options):
    """Describes the machine and measures its fastest products and copies."""

    side: int | None = None
    """Of the matrices whose product is timed. Default: 2048 on a CPU, 8192 on an accelerator."""
    copied: int = 1024
    """MiB of the array whose copy is timed."""


def describe() -> dict[str, str]:
    """What is known of the machine, as texts by what they tell."""
    devices = jax.devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    facts = {
        "devices": f"{len(devices)} of {devices[0].platform}: {devices[0].device_kind}",
        "device memory that JAX may use": document.size(limit),
        "XLA": " ".join(devices[0].client.platform_version.split()),
        "driver": find_driver(),
        "cores": f"{os.cpu_count()}; this process may use {_usable_cores()}",
        "memory": document.size(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "packages": ", ".join(f"{name} {v}" for name in _PACKAGES if (v := _version(name))),
        "source": _commit(),
    }
    facts |= {name: os.environ[name] for name in sorted(os.environ) if _matters(name)}
    return facts


def measure(side: int, copied: int) -> dict[str, str]:
    """The rates of the fastest products and copies, in the same form."""
    rates = {
        f"product of {side} x {side}, {precision}": document.digits(rate / 1e9, " GFLOP/s")
        for precision, rate in measure_peaks(PRECISIONS, side).items()
    }
    rate = copy_rate(copied * 2**20)
    return rates | {f"copy of {copied} MiB": document.digits(rate / 1e9, " GB/s, read and written")}


def copy_rate(size: int, copies: int = 5) -> float:
    """Bytes per second, read and written, of the fastest pass over an array of `size` bytes."""
    x = jnp.zeros(size // 4, jnp.float32)
    add = jax.jit(lambda x: x + 1)
    seconds = []
    for _ in range(1 + copies):  # the first one compiles
        started = time.perf_counter()
        add(x).block_until_ready()
        seconds.append(time.perf_counter() - started)
    return 2 * x.nbytes / min(seconds[1:])


def find_driver() -> str:
    """The driver of NVIDIA's GPUs, or a dash."""
    query = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
    return _first_line(query) or "-"


def _commit() -> str:
    known = _first_line(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    )
    return known or "no Git checkout"


def _first_line(command: list[str]) -> str:
    """Of what a command prints; empty where it fails or is not there."""
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip().partition("\n")[0]


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _matters(name: str) -> bool:
    """Whether a variable changes what JAX does; one that names a folder stays private."""
    changes = name.startswith(("JAX_", "XLA_", "LIBTPU_", "OMP_NUM", "CUDA_VISIBLE"))
    return changes and "DIR" not in name


def work(options: Options, origin: list[str]) -> int:
    """Writes what is known, and again with what is measured."""
    facts = describe()
    side = options.side or (2048 if jax.default_backend() == "cpu" else 8192)
    for more in (dict, partial(measure, side, options.copied)):
        facts |= more()
        frame = pd.DataFrame({"What": list(facts), "Value": list(facts.values())})
        parts = ["# The machine", document.markdown_table(frame, left=2)]
        notes = ["Products and copies: the fastest of five."]
        text = document.write(options.output, "machine", parts, notes, origin, frame)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(part.run("machine", Options, work))
