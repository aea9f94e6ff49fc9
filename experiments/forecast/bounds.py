"""What stage 1 of a small network may cost: `python -m experiments.forecast.bounds`.

It compiles for the targets whose compiler is installed and rewrites their part of `bounds.json`,
which a slow test compares with. Do so where a change of the program, or of the compiler, is meant.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments.benchmarks.turns import WorkerError
from experiments.forecast.compiling import Compilers, Job
from experiments.forecast.devices import devices
from experiments.forecast.programs import Setting
from experiments.forecast.targets import missing, versions
from twostage_jax.commands.ending import run_command
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically
from twostage_jax.training.protocol import Protocol

FILE = Path(__file__).with_name("bounds.json")
TARGETS = ("h100", "v5e")
SLACK = 1.05
"""How much of a bound a program may take."""
_SETTING = Setting((625,) * 8, 96, Protocol(width=0.25))
_MEMBERS = 2

Costs = dict[str, float | str]


def measure(target: str) -> Costs:
    """What the small program costs on a target, and which compiler says so.

    Raises:
        InputError: its compiler is not installed, or fails.
    """
    device = devices()[target]
    if reason := missing(device.kind):
        raise InputError(f"{target}: {reason}")
    job = Job(target, "float32", "stage1", str(_MEMBERS))
    try:
        with Compilers(_SETTING, largest=0) as compilers:
            compilers.lower(job)
            found = compilers.compile(job)
    except WorkerError as error:
        raise InputError(f"{job}: {error}") from error
    costs: Costs = {
        "kernels_per_step": found.kernels,
        "MB_per_image": round(found.bytes / found.samples / 1e6, 3),
        "temporary_GB": round(found.temporary / 1e9, 3),
    }
    if device.clock:
        costs["Mcycles_per_step"] = round(found.cycles / 1e6, 3)
    return costs | {"compiler": versions(device.kind)}


def risen(found: Mapping[str, float | str], bound: Mapping[str, float | str]) -> list[str]:
    """What costs more than the bound and its slack, one sentence each."""
    return [
        f"{name} is {found[name]} by {found['compiler']}, at most {SLACK:g} times {limit} expected "
        f"(bound by {bound['compiler']})"
        for name, limit in bound.items()
        if not isinstance(limit, str) and float(found[name]) > SLACK * limit
    ]


def read_bounds() -> dict[str, Costs]:
    """The committed bounds by target."""
    return json.loads(FILE.read_text())


def rewrite() -> int:
    """Rewrites the bounds of all targets whose compiler is installed.

    Raises:
        InputError: there is none, or a program does not compile.
        OSError: the file cannot be written.
    """
    possible = [target for target in TARGETS if not missing(devices()[target].kind)]
    if not possible:
        raise InputError("; ".join(missing(devices()[target].kind) for target in TARGETS))
    bounds = read_bounds() if FILE.exists() else {}
    for target in possible:
        bounds[target] = measure(target)
        print(f"{target}: {bounds[target]}", flush=True)
        write_atomically(FILE, (json.dumps(bounds, indent=2, sort_keys=True) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(rewrite, "interrupted"))
