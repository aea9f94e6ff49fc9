"""The options of `experiments.benchmark_resamplers`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.benchmark_resamplers.cases import KINDS
from experiments.options import ACCELERATORS
from twostage_jax.data.sources import SOURCES
from twostage_jax.support.errors import InputError, require_known

PROGRAM = "python -m experiments.benchmark_resamplers"


@dataclasses.dataclass(frozen=True)
class Options:
    """Times our resamplers and imbalanced-learn's side by side: seconds, memory and agreement.

    Every call runs in a process of one engine and one case; engines take turns within a round.
    """

    cases: tuple[str, ...] = KINDS
    """images (one SMOTE of images in each scenario), plans (all 120 image plans of the study),
    features (one SMOTE of a fold's features in each scenario), large (SMOTE of 100,000 x 1,024),
    neighbors (exact k-NN among 200,000 x 1,024)."""
    rounds: int = 2
    """How often every engine gets its turn."""
    repeats: int = 1
    """Calls after the first in every turn, at least; quick ones are called more often. With 0 the
    first call of slow ones stands for all."""
    queries: int = 2048
    """neighbors: rows that ask for their neighbours, up to all of them."""
    scale: float = 1.0
    """Share of rows, features and of the image's side, to try the program out."""

    dataset: str = "synthetic"
    """Images: synthetic (drawn), folder (any folder of class folders) or colorectal_histology."""
    data_dir: Path | None = None
    """As of experiments.reproduce."""
    accelerator: str = "auto"
    """auto, cpu, gpu or tpu: where ours runs besides the CPU; auto takes what JAX finds."""
    output: Path = Path("experiments/results/benchmarks")
    """Folder of resamplers.md, resamplers.csv and resamplers.svg."""


def parse(arguments: Sequence[str]) -> Options:
    """Reads a command line.

    Raises:
        InputError: a value is not valid.
        SystemExit: `--help`, or an option that does not exist.
    """
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    if not options.cases:
        raise InputError("--cases names none, at least one expected")
    for case in options.cases:
        require_known("case", case, KINDS)
    require_known("dataset", options.dataset, SOURCES)
    require_known("accelerator", options.accelerator, ACCELERATORS)
    for name, least in (("rounds", 1), ("repeats", 0), ("queries", 1)):
        if (value := getattr(options, name)) < least:
            raise InputError(f"--{name} {value} found, {least} or more expected")
    if not 0 < options.scale <= 1:
        raise InputError(f"--scale {options.scale:g} found, a number above 0 and up to 1 expected")
    return options
