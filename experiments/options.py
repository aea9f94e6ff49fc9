"""The options of `experiments.reproduce`, and its presets."""

import argparse
import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import tyro

from experiments.forecast.devices import devices
from twostage_jax.commands.approach_list import choose_approaches
from twostage_jax.commands.device import ACCELERATORS
from twostage_jax.commands.where import EngineOptions, require_folder
from twostage_jax.data.groups import parse_groups
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.data.sources import SOURCES, find_source
from twostage_jax.data.sources.options import MAX_PIXELS, SourceOptions
from twostage_jax.evaluation.tables import TESTS
from twostage_jax.study.approaches import PAPER
from twostage_jax.study.jobs import Scope
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import user_path
from twostage_jax.training.bounds import option_name, require_image_size, require_valid
from twostage_jax.training.protocol import Protocol

PROGRAM = "python -m experiments.reproduce"
CHECKPOINTS = Path("checkpoints")


@dataclasses.dataclass(frozen=True)
class Options:
    """Reproduces Koziarski's study of two-stage resampling, or a part of it.

    The same command again resumes where it stopped and does only what is missing.
    """

    preset: str
    """demo (handwritten digits, minutes on a CPU), quick (a small network on any images, under an
    hour on a CPU) or paper (everything). Other options override it. The default is paper where JAX,
    or with --engine ray the cluster, has an accelerator, else demo."""
    accelerator: str = "auto"
    """Where to run: auto (what JAX finds, or with --engine ray the best that the cluster has), cpu,
    gpu or tpu."""

    dataset: str = "colorectal_histology"
    """colorectal_histology (the paper's), folder (any folder of class folders), npz (a NumPy
    archive), tfds:NAME (a set of TensorFlow Datasets) or digits."""
    data_dir: Path | None = None
    """folder: the folder of class folders. npz: the file. tfds:NAME: where TensorFlow Datasets
    keeps its data. colorectal_histology: the same, or the unpacked Zenodo archive."""
    groups: str | None = None
    """Keep images of one group (patient, slide, plant) in one fold: a regular expression that is
    searched in image names, whose first group in parentheses is the id, or the path of a CSV file
    with the columns filename and group. The paper has none."""
    images_per_class: int | None = None
    """digits: how many images to take per class; by default all."""
    image_size: int = 150
    """Side of the images in pixels; others are resized once, and cropped to a square."""
    max_pixels: int = MAX_PIXELS
    """The most pixels that an image file may have; larger ones are refused."""
    on_unreadable: str = "error"
    """What to do with image files that cannot be read: error, or skip (with a warning)."""
    duplicates: str | None = None
    """What to do with images of equal pixels: keep all, drop all but the first (all of a picture
    that stands in two classes) or error. By default those within a class are kept with a warning,
    and a picture in two classes is an error; the paper's images are all kept."""
    weights: str = "imagenet"
    """imagenet (from the cache, else downloaded), random, or the path of one of Keras's
    *_no_top.h5 files of the network."""

    scenarios: tuple[str, ...] = SCENARIOS
    """Imbalance scenarios: linear, single_majority, single_minority, half_minority."""
    ratios: tuple[float, ...] = RATIOS
    """Imbalance ratios, 1 or more. At ratio 1 only the baseline is trained, once for all scenarios,
    unless the data themselves are imbalanced."""
    folds: int = FOLDS
    """How many of the ten folds to run."""
    approaches: tuple[str, ...] = PAPER
    """Names (--list-approaches prints them), families (baseline, image, feature, two-stage, loss,
    mixing, head, correction), paper (the paper's nine, the default) or all. NAME+prior corrects the
    probabilities of an approach."""
    list_approaches: bool = False
    """Print all approaches with their sources and costs, and stop; needs no data."""
    protocol: tyro.conf.OmitArgPrefixes[Protocol] = dataclasses.field(default_factory=Protocol)
    test_fold: str = "imbalanced"
    """Score on the test folds with the partition's imbalance, or balanced (whole)."""

    members: int | Literal["auto"] = "auto"
    """Networks trained at a time. By default one on a CPU, and on accelerators as many as fit into
    memory, but with --engine ray no more than let all workers train; half as many after one that
    did not fit. A study that resumes keeps the number with which its checkpoints go on."""
    output: Path | None = None
    """Folder of records, tables and report. By default results/PRESET-DATA."""
    checkpoints: Path = CHECKPOINTS
    """Folder of the weights cache, of checkpoints of training in flight and of compiled
    programs."""
    where: tyro.conf.OmitArgPrefixes[EngineOptions] = dataclasses.field(
        default_factory=EngineOptions
    )
    dry_run: bool = False
    """Print what there is to do, what is done and the device memory needed, and stop."""
    target: str | None = None
    """With --dry-run: also print what stage 1 needs at least on a device that is not here, h100,
    h200, a100, v5e or v6e, as its compiler plans it. Takes the extra gpu or tpu, and minutes."""

    @property
    def scope(self) -> Scope:
        """What the study covers."""
        approaches = choose_approaches(self.approaches)
        return Scope(self.scenarios, self.ratios, self.folds, approaches)

    @property
    def results(self) -> Path:
        """The study's folder."""
        data = self.dataset
        if data == "folder" and self.data_dir:
            # The name of `.` is that of the folder which it stands for; a link keeps its own name.
            data = Path(os.path.abspath(self.data_dir)).name or data
        elif data == "npz" and self.data_dir:
            data = self.data_dir.stem
        elif data not in SOURCES:
            data = re.sub(r"[/:*]", "-", data)  # tfds:NAME/CONFIG:VERSION
        return self.output or Path("results") / f"{self.preset}-{data}"

    @property
    def source(self) -> SourceOptions:
        """What is asked of the source of images."""
        return SourceOptions(
            data_dir=self.data_dir,
            image_size=self.image_size,
            images_per_class=self.images_per_class,
            max_pixels=self.max_pixels,
            on_unreadable=self.on_unreadable,
            duplicates=self.duplicates,
            leave_out=(self.results, self.checkpoints),
        )


PRESETS = {
    # It needs no network access and no files. Without ImageNet weights, the paper's step size and
    # batch-norm momentum would need hundreds of epochs.
    "demo": Options(
        preset="demo",
        dataset="digits",
        weights="random",
        image_size=32,
        scenarios=("half_minority",),
        ratios=(10.0,),
        folds=3,
        protocol=Protocol(width=0.25, epochs=12, learning_rate=2e-3, bn_momentum=0.9),
    ),
    "quick": Options(
        preset="quick",
        image_size=96,
        scenarios=("linear", "half_minority"),
        ratios=(10.0,),
        folds=2,
        protocol=Protocol(width=0.25, epochs=10),
    ),
    "paper": Options(preset="paper"),
}


def chosen(arguments: Sequence[str]) -> tuple[str | None, str]:
    """The preset (None if it is not named) and the accelerator of a command line.

    Both are needed before the other options can be read, because they decide the defaults.

    Raises:
        InputError: either is unknown.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset")
    parser.add_argument("--accelerator", default="auto")
    known, _ = parser.parse_known_args(arguments)
    if known.preset is not None:
        require_known("preset", known.preset, PRESETS)
    return known.preset, require_known("accelerator", known.accelerator, ACCELERATORS)


def read(arguments: Sequence[str], preset: str) -> Options:
    """Reads the options over a preset's, without a look at their values.

    Raises:
        SystemExit: `--help`, or an option that does not exist.
    """
    return tyro.cli(Options, prog=PROGRAM, args=arguments, default=PRESETS[preset])


def parse(arguments: Sequence[str], preset: str) -> Options:
    """Reads the options over a preset's.

    Raises:
        InputError: a value is not valid.
        SystemExit: `--help`, or an option that does not exist.
    """
    options = _with_user_paths(read(arguments, preset))
    validate(options)
    return options


def _with_user_paths(options: Options) -> Options:
    """The options with `~` expanded, which a shell leaves in `--output=~/x`."""
    paths = {
        name: user_path(path, f"--{name.replace('_', '-')}")
        for name in ("data_dir", "output", "checkpoints")
        if (path := getattr(options, name)) is not None
    }
    weights = options.weights
    expanded = user_path(Path(weights), "--weights")
    if weights.startswith("~"):  # otherwise as given: `./random` is a file, `random` is not
        weights = str(expanded)
    return dataclasses.replace(options, weights=weights, **paths)


def validate(options: Options) -> None:
    """Checks what the types of the options leave open.

    Raises:
        InputError: a value is not valid.
    """
    options.where.require_valid()
    require_folder(options.checkpoints, "--checkpoints")
    _require_names(options)
    _require_numbers(options)
    if options.groups is not None:
        parse_groups(options.groups)
    _ = options.source  # which refuses values that are not valid
    require_image_size(options.protocol, options.image_size, option_name)
    if options.target is not None:
        require_known("target", options.target, devices())
        if not options.dry_run:
            raise InputError(
                f"--target {options.target} found without --dry-run; add --dry-run, or leave it "
                "out and run on that device"
            )


def _require_names(options: Options) -> None:
    find_source(options.dataset)
    require_known("test fold", options.test_fold, TESTS)
    for scenario in options.scenarios:
        require_known("scenario", scenario, SCENARIOS)
    choose_approaches(options.approaches)
    for name in ("scenarios", "ratios"):
        if not getattr(options, name):
            raise InputError(f"--{name} names none, at least one expected")


# Beyond what any data and device can hold; what this data and this device hold is checked by
# `reproduce` before anything is trained.
_MOST = {
    "image-size": 4096,
    "images-per-class": 10**7,
    "members": 10_000,
}


def _require_numbers(options: Options) -> None:
    for ratio in options.ratios:
        if not 1 <= ratio <= 1e6:
            raise InputError(f"imbalance ratio {ratio:g} found, 1 or more expected (to 1e6)")
    if not 1 <= options.folds <= FOLDS:
        raise InputError(f"--folds {str(options.folds)[:40]} found, 1 to {FOLDS} expected")
    require_valid(options.protocol, option_name)
    positive = {
        "image-size": options.image_size,
        "images-per-class": 1 if options.images_per_class is None else options.images_per_class,
        "members": 1 if options.members == "auto" else options.members,
    }
    for name, value in positive.items():
        if not 0 < value <= (most := _MOST[name]):
            raise InputError(
                f"--{name} {str(value)[:40]} found, a number above 0 and at most {most:g} expected"
            )
