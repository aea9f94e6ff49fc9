"""The steps of first light, in the order of what they are worth per second, and their budgets."""

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.first_light import figures


@dataclasses.dataclass(frozen=True)
class Step:
    """A command with a budget, which runs in a process of its own."""

    name: str
    """As `--steps` takes it; also the folder of what the step writes."""
    title: str
    """What it is for."""
    seconds: float
    """Its budget. What earlier steps leave over is added."""
    command: str
    """A module and its arguments. `{folder}` is the step's folder, `{root}` that of all steps."""
    figure: Callable[[Path], str]
    """Reads the main figure from the step's folder; empty where there is none."""
    sizes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Further arguments by `--size`."""
    given: tuple[str, ...] = ()
    """Options of first light that are handed on under their own names."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Variables of its process."""
    reads: str = ""
    """The step whose results it reads; it runs again after that one."""
    vital: bool = False
    """Whether the other steps make no sense where this one finds nothing."""

    def arguments(self, options: Any) -> list[str]:
        """The command line for some options (`options.Options`), the interpreter first."""
        values = {"folder": options.output / self.name, "root": options.output}
        words = shlex.split(self.command) + shlex.split(self.sizes.get(options.size, ""))
        handed = []
        for name in self.given:
            if (value := getattr(options, name)) is not None:
                handed += ["--" + name.replace("_", "-"), str(value)]
        return [sys.executable, "-m", *(word.format(**values) for word in words), *handed]


_TESTS = "pytest -q -p no:cacheprovider -p experiments.first_light.on_device -W ignore"
# JAX's default products on accelerators have the precision of tf32 or bfloat16; tests of float32
# ask for float32. Hypothesis draws the same examples in every run.
_EXACT = {"JAX_DEFAULT_MATMUL_PRECISION": "highest", "CI": "1"}
_DATA = ("dataset", "data_dir")

STEPS = (
    Step(
        "machine",
        "Devices, memory, versions; fastest products and copies",
        20,
        "experiments.first_light.machine --output {folder}",
        figures.machine,
        {"small": "--side 512 --copied 16"},
        given=("accelerator",),
        vital=True,
    ),
    Step(
        "agreement",
        "Every form and precision of the training step, beside float32 on the CPU",
        90,
        "experiments.first_light.agreement --output {folder}",
        figures.agreement,
        {"small": "--networks tiny --precisions float32 --no-changed"},
        given=("accelerator",),
    ),
    Step(
        "training",
        "Training beside PyTorch, compiled and eager",
        175,
        "experiments.benchmark_training --output {folder} --tasks training",
        figures.training,
        {
            "small": "--sizes 0.25 32 --members 2 --images-per-class 30 --rounds 1 --seconds 0.5",
            "paper": "--sizes 1 150 --members 10 --rounds 2 --seconds 2",
        },
        given=("accelerator", *_DATA),
    ),
    Step(
        "bounds",
        "The forecast beside the measured figures",
        10,
        "experiments.first_light.bounds --training {root}/training/training.csv --output {folder}",
        figures.bounds,
        given=("accelerator", "forecast"),
        reads="training",
    ),
    Step(
        "neighbors",
        "The neighbor search on pixels and on features, beside NumPy in float64",
        30,
        "experiments.first_light.neighbors --output {folder}",
        figures.neighbors,
        {"small": "--pixels 32 --rows 2000 --columns 256"},
        given=("accelerator", *_DATA),
    ),
    Step(
        "study",
        "One cell of the study: nine approaches on one fold",
        100,
        "experiments.reproduce --output {folder} --checkpoints {root}/checkpoints "
        "--scenarios half_minority --folds 1",
        figures.study,
        {
            "small": "--preset demo --ratios 5 --images-per-class 60 --image-size 32 --epochs 2",
            "paper": "--preset paper --ratios 10",
        },
        given=("accelerator", "weights", *_DATA),
    ),
    Step(
        "golden",
        "Tests of losses, layers and neighbors against published or exact numbers",
        70,
        _TESTS + " tests/test_losses.py tests/test_depthwise.py",
        figures.tests,
        {"paper": "tests/test_forms.py tests/test_neighbors.py"},
        given=("accelerator",),
        environment=_EXACT,
    ),
    Step(
        "samplers",
        "The samplers beside imbalanced-learn",
        40,
        "experiments.parity --output {folder} --seeds 1",
        figures.samplers,
        {"small": "--grid quick"},
        given=("accelerator",),
    ),
    Step(
        "resamplers",
        "The benchmark of resamplers beside imbalanced-learn",
        40,
        "experiments.benchmark_resamplers --output {folder} --rounds 1",
        figures.resamplers,
        {"small": "--scale 0.1 --cases features", "paper": "--cases images features"},
        given=("accelerator", *_DATA),
    ),
    Step(
        "keras",
        "Tests of the networks against Keras's",
        25,
        _TESTS + " tests/test_mobilenet.py",
        figures.tests,
        {"small": "-k gradients_agree"},
        given=("accelerator",),
        environment=_EXACT,
    ),
)
