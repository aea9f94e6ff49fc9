"""The options of `experiments.benchmark_training`."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import tyro

from experiments.options import ACCELERATORS
from twostage_jax.data.sources import SOURCES
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.training.steps import PRECISIONS

PROGRAM = "python -m experiments.benchmark_training"
TASKS = ("training", "extraction", "heads", "ablation")


@dataclasses.dataclass(frozen=True)
class Options:
    """Times the training of many networks as one program, and of one after another by its peers.

    Every library works in processes of its own, which stay; within a round they take turns.
    """

    tasks: tuple[str, ...] = TASKS
    """training (stage 1, ours and the peers), extraction (of features, for stage 2), heads (stage
    2), ablation (ours without single choices)."""
    members: tuple[int, ...] | None = None
    """Networks trained together. By default 1 2 on a CPU, 1 2 5 10 20 40 on an accelerator."""
    precisions: tuple[str, ...] | None = None
    """float32, tf32, bfloat16. By default float32 on a CPU, all on an accelerator; ablation takes
    the first as the product's."""
    sizes: tuple[str, ...] | None = None
    """WIDTH:PIXELS of networks and images. By default 1.0:150 0.25:96 on a CPU, 1.0:150 on an
    accelerator. Extraction and heads take the first, ablation the last."""
    group: int | None = None
    """Networks trained together in ablation, and those that features and heads belong to. By
    default 2 on a CPU, 10 on an accelerator."""
    peers: bool = True
    """PyTorch and Keras, where they are installed."""

    rounds: int = 3
    """How often every engine gets its turn."""
    seconds: float | None = None
    """What a turn lasts, about. By default 3 on a CPU, 2 on an accelerator."""
    minutes: float | None = None
    """When to stop; what was not reached by then is named. By default 8 on an accelerator and
    never on a CPU."""

    dataset: str = "synthetic"
    """Images: synthetic (drawn), folder (any folder of class folders) or colorectal_histology."""
    data_dir: Path | None = None
    """As of experiments.reproduce."""
    images_per_class: int = 125
    """synthetic: images to draw of each class."""
    accelerator: str = "auto"
    """auto, cpu, gpu or tpu: where to run; auto takes what JAX finds."""
    output: Path = Path("experiments/results/benchmarks")
    """Folder of training.md, training.csv and training.svg."""

    def settled(self, platform: str) -> "Options":
        """These options with every default that depends on the device."""
        on_cpu = platform == "cpu"
        defaults = {
            "members": (1, 2) if on_cpu else (1, 2, 5, 10, 20, 40),
            "precisions": ("float32",) if on_cpu else PRECISIONS,
            "sizes": ("1.0:150", "0.25:96") if on_cpu else ("1.0:150",),
            "group": 2 if on_cpu else 10,
            "seconds": 3.0 if on_cpu else 2.0,
            "minutes": float("inf") if on_cpu else 8.0,
        }
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)


def parse(arguments: Sequence[str]) -> Options:
    """Reads a command line.

    Raises:
        InputError: a value is not valid.
        SystemExit: `--help`, or an option that does not exist.
    """
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    for task in options.tasks:
        require_known("task", task, TASKS)
    for precision in options.precisions or ():
        require_known("precision", precision, PRECISIONS)
    for name in ("tasks", "members", "precisions", "sizes"):
        if getattr(options, name) == ():
            raise InputError(f"--{name} names none, at least one expected")
    for size in options.sizes or ():
        _check_size(size)
    require_known("dataset", options.dataset, SOURCES)
    require_known("accelerator", options.accelerator, ACCELERATORS)
    for members in options.members or ():
        if members < 1:
            raise InputError(f"--members {members} found, 1 or more expected")
    for name in ("rounds", "group", "images_per_class"):
        if (value := getattr(options, name)) is not None and value < 1:
            flag = name.replace("_", "-")
            raise InputError(f"--{flag} {value} found, 1 or more expected")
    for name in ("seconds", "minutes"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise InputError(f"--{name} {value:g} found, a number above 0 expected")
    return options


def _check_size(text: str) -> None:
    found = re.fullmatch(r"(\d*\.?\d+):(\d+)", text)
    if not found:
        raise InputError(f"--sizes {text} found, WIDTH:PIXELS expected, such as 0.25:96")
    width, pixels = float(found[1]), int(found[2])
    if int(32 * width) < 1:
        raise InputError(f"--sizes {text}: the width leaves no channels, 1/32 or more expected")
    if pixels < 32:
        raise InputError(f"--sizes {text}: 32 pixels or more expected, five layers halve them")
