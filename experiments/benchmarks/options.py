"""The options that the benchmarks share, and how a benchmark starts and ends."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro

from experiments.benchmarks.document import provenance
from experiments.benchmarks.turns import find_device, run_once
from twostage_jax.commands.ending import run_command
from twostage_jax.data.sources import find_source
from twostage_jax.support.errors import InputError


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of every benchmark."""

    rounds: int = 3
    """Turns of every participant."""
    dataset: str = "digits"
    """Images: digits, folder (any folder of class folders) or colorectal_histology."""
    data_dir: Path | None = None
    """Folder of the images, as for experiments.reproduce."""
    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where JAX runs: auto (what JAX finds), cpu, gpu or tpu."""
    output: Path = Path("experiments/results/benchmarks")
    """Folder of the Markdown document and of the CSV file."""

    def require_valid(self) -> None:
        """Checks what the types of the options leave open.

        Raises:
            InputError: a value is not valid.
        """
        find_source(self.dataset)
        for name, value in vars(self).items():
            flag = "--" + name.replace("_", "-")
            if value == ():
                raise InputError(f"{flag} has no value, at least one expected")
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not isinstance(number, bool) and number <= 0:
                    raise InputError(f"{flag} {number:g} found, a number above 0 expected")


def run(
    program: str,
    make_options: type,
    benchmark: Callable[[Options, dict[str, str], list[str]], int],
    packages: Sequence[str],
    arguments: Sequence[str] | None,
) -> int:
    """Runs a command line and returns its exit status, see `twostage_jax.commands.ending`.

    `benchmark` measures and writes. It gets the options, the device (`platform` and `kind`), and
    the provenance, which names the versions of `packages`.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(make_options, prog=program, args=arguments)

    def work() -> int:
        options.require_valid()
        device = run_once(find_device, options.accelerator)
        origin = provenance(shlex.join([*program.split(), *arguments]), packages)
        origin.append(f"Device: JAX on {device['platform']} ({device['kind']})")
        print(origin[-1])
        return benchmark(options, device, origin)

    return run_command(work, "interrupted")
