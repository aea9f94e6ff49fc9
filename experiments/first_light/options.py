"""The options of `experiments.first_light`."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from experiments.first_light.steps import STEPS
from twostage_jax.data.sources import find_source
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import user_path

PROGRAM = "python -m experiments.first_light"


@dataclasses.dataclass(frozen=True)
class Options:
    """Tries all of this project on a machine with an accelerator, within minutes.

    Every step is a process of its own with a budget of seconds. The same command again on the same
    folder does the steps that have not passed.
    """

    accelerator: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where JAX runs: auto (what JAX finds), cpu, gpu or tpu."""
    output: Path = Path("results/first-light")
    """Folder of all that comes back."""
    minutes: float = 10
    """Time for all steps together. Steps are shortened or left out to keep it."""
    steps: tuple[str, ...] = tuple(step.name for step in STEPS)
    """Which steps to run, in the order of the summary."""
    size: Literal["paper", "small"] = "paper"
    """paper (width 1, 150 px), or small (to try the program on a CPU: width 0.25, 32 px)."""

    dataset: str = "digits"
    """Images, as for experiments.reproduce; digits needs no network."""
    data_dir: Path | None = None
    """Folder or file of the images, as for experiments.reproduce."""
    weights: str = "random"
    """Weights that the study's cell starts from: random, imagenet or a file."""
    forecast: Path = Path("experiments/results/forecast/forecast.csv")
    """The forecast to set beside the measured figures."""

    def checked(self) -> "Options":
        """These options with whole paths.

        Raises:
            InputError: a value is not valid.
        """
        find_source(self.dataset)
        for name in self.steps:
            require_known("step", name, [step.name for step in STEPS])
        if not self.steps:
            raise InputError("--steps names none, at least one expected")
        if not 0 < self.minutes < math.inf:
            raise InputError(f"--minutes {self.minutes:g} found, a number above 0 expected")
        whole = {}
        for name in ("output", "data_dir", "forecast"):
            if (path := getattr(self, name)) is not None:
                whole[name] = user_path(path, "--" + name.replace("_", "-")).absolute()
        weights = self.weights
        if weights not in ("random", "imagenet"):
            whole["weights"] = str(user_path(Path(weights), "--weights").absolute())
        for name in ("data_dir", "weights"):
            if name in whole and not Path(whole[name]).exists():
                raise InputError(f"--{name.replace('_', '-')} {whole[name]} does not exist")
        return dataclasses.replace(self, **whole)
