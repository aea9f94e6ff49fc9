"""How the steps that are programs of first light itself start and end."""

import dataclasses
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from experiments.benchmarks.document import provenance
from twostage_jax.commands.device import use_accelerator
from twostage_jax.commands.ending import run_command


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every part."""

    output: Path
    """Folder of the Markdown document and of the CSV file."""
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where JAX runs: auto (what JAX finds), cpu, gpu or tpu."""


def run(module: str, make_options: type, work: Callable[[Any, list[str]], int]) -> int:
    """Runs the command line of this process and returns its exit status.

    `work` gets the options and the provenance, after JAX has been told where to run.
    """
    program = f"python -m experiments.first_light.{module}"
    options = tyro.cli(make_options, prog=program)

    def start() -> int:
        use_accelerator(options.accelerator)
        device = jax.devices()[0]
        origin = provenance(shlex.join([*program.split(), *sys.argv[1:]]), ["jax", "flax", "numpy"])
        return work(options, [*origin, f"Device: JAX on {device.platform} ({device.device_kind})"])

    return run_command(start, "interrupted")
