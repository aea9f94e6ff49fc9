"""The options of the forecast, and the jobs that they ask for."""

import dataclasses
import math
from pathlib import Path
from typing import Literal

from experiments.forecast.compiling import Job
from experiments.forecast.devices import devices
from experiments.forecast.programs import PROGRAMS, Setting
from experiments.options import PRESETS, validate
from experiments.options import Options as Study
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.training.protocol import PRECISIONS

# The tiles of the neighbor search are the same in every precision and for all networks.
_ONCE = ("pixel_neighbors", "feature_neighbors")


@dataclasses.dataclass(frozen=True)
class Options:
    """Says what a study needs on accelerators that are not here, as their compilers plan it.

    It compiles the programs of a study for each target. The bounds are no measurements. The same
    command again resumes where it stopped and compiles only what changed.
    """

    targets: tuple[str, ...] = ("h100", "h200", "a100", "v5e", "v6e")
    """Accelerators, of devices.toml. GPUs need the extra `gpu` to be installed, TPUs `tpu`."""
    members: tuple[int, ...] = (1, 10, 20, 40)
    """Networks trained at a time."""
    precisions: tuple[str, ...] = PRECISIONS
    """Precisions of products and activations: float32, tf32, bfloat16."""
    programs: tuple[str, ...] = tuple(PROGRAMS)
    """Programs: stage1, features, heads, pixel_neighbors, feature_neighbors."""

    preset: Literal["quick", "paper"] = "paper"
    """The study, as for experiments.reproduce; the other options override it."""
    width: float | None = None
    """Width multiplier of the network's channels."""
    image_size: int | None = None
    """Side of the images in pixels."""
    network: str | None = None
    """Backbone: mobilenet_v1 or mobilenet_v2."""
    epochs: int | None = None
    """Epochs of stage 1, and again of stage 2."""
    approaches: tuple[str, ...] | None = None
    """Approaches, as for experiments.reproduce."""
    scenarios: tuple[str, ...] | None = None
    """Imbalance scenarios."""
    ratios: tuple[float, ...] | None = None
    """Imbalance ratios."""
    folds: int | None = None
    """How many of the ten folds to run."""
    class_counts: tuple[int, ...] = (625,) * 8
    """Images of each class. The default is the paper's data."""

    price: float | None = None
    """Price of a device per hour, for the costs of the study."""
    largest: int = 10
    """How many of the largest kernels of each program to name."""
    output: Path = Path("experiments/results/forecast")
    """Folder of the CSV files and of the Markdown document."""

    @property
    def study(self) -> Study:
        """The study as experiments.reproduce takes it."""
        study = PRESETS[self.preset]
        ours = {name: getattr(self, name) for name in ("width", "network", "epochs")}
        own = ("image_size", "approaches", "scenarios", "ratios", "folds")
        given = {name: value for name in own if (value := getattr(self, name)) is not None}
        changed = {name: value for name, value in ours.items() if value is not None}
        protocol = dataclasses.replace(study.protocol, **changed)
        return dataclasses.replace(study, protocol=protocol, **given)

    @property
    def setting(self) -> Setting:
        """What the shapes of the programs follow from."""
        return Setting(self.class_counts, self.study.image_size, self.study.protocol)

    def require_valid(self) -> None:
        """Checks what the types of the options leave open.

        Raises:
            InputError: a value is not valid.
        """
        known = {"targets": devices(), "precisions": PRECISIONS, "programs": PROGRAMS}
        for name in (*known, "members", "class_counts"):
            if not getattr(self, name):
                raise InputError(f"{_flag(name)} has no value, at least one expected")
        for name, valid in known.items():
            for value in getattr(self, name):
                require_known(name[:-1], value, valid)
        for name in ("members", "class_counts"):
            for value in getattr(self, name):
                if not 1 <= value <= 10**6:
                    raise InputError(f"{_flag(name)} {value} found, 1 to 1,000,000 expected")
        if len(self.class_counts) < 2:
            raise InputError(f"--class-counts names {self.class_counts[0]} alone, two expected")
        if self.price is not None and not (self.price > 0 and math.isfinite(self.price)):
            raise InputError(f"--price {self.price:g} found, a number above 0 expected")
        if self.largest < 0:
            raise InputError(f"--largest {self.largest} found, 0 or more expected")
        validate(self.study)


def list_jobs(options: Options) -> list[Job]:
    """Everything to compile, target by target and program by program, each job once."""
    jobs = {
        Job(target, precision, program, str(members))
        if program not in _ONCE
        else Job(target, "any", program, "any"): None
        for target in options.targets
        for program in options.programs
        for precision in options.precisions
        for members in sorted(set(options.members))
    }
    return list(jobs)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
