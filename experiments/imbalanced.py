"""An imbalanced part of a folder of class folders, and other images of it to test on.

    python -m experiments.imbalanced pbc5000 cells --counts 300 150 100 80 60 50 40 35 --others 125

links random images of each class into cells/train, and others into cells/others.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tyro

from twostage_jax.commands.ending import run_command
from twostage_jax.data.sources.folder import subfolders, walk
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive


@dataclasses.dataclass(frozen=True)
class Options:
    """Links an imbalanced part of a folder of class folders, and other images to test on."""

    source: tyro.conf.Positional[Path]
    """Folder of class folders."""
    output: tyro.conf.Positional[Path]
    """Folder to make; it gets the folders train and others."""
    counts: tuple[int, ...]
    """Images of each class in train, classes by name."""
    others: int
    """Images of each class in others."""
    seed: int = 0
    """Seed of the choice."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    options = tyro.cli(Options, args=arguments)
    return run_command(lambda: link(options), "interrupted")


def link(options: Options) -> int:
    """Makes the links.

    Raises:
        InputError: there are fewer classes or images than asked for, or the output exists.
    """
    names = subfolders(options.source)
    if len(names) != len(options.counts):
        raise InputError(f"{len(options.counts)} counts for {len(names)} classes; expected as many")
    if options.output.exists():
        raise InputError(f"{options.output} exists; expected a folder to make: name another")
    for name, count in zip(names, options.counts, strict=True):
        files = walk(options.source / name).files
        rng = np.random.default_rng(derive(options.seed, "imbalanced", name))
        files = [files[row] for row in rng.permutation(len(files))]
        if len(files) < count + options.others:
            raise InputError(
                f"class '{name}' has {len(files)} images, {count + options.others} expected; lower "
                "--counts or --others"
            )
        parts = {"train": files[:count], "others": files[count : count + options.others]}
        for part, chosen in parts.items():
            for file in chosen:
                path = options.output / part / name / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(os.path.abspath(options.source / name / file))
    return 0


if __name__ == "__main__":
    sys.exit(main())
