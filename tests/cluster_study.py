"""A study of seconds, for tests on a cluster; as a program, what trains it there.

`python cluster_study.py FOLDER` joins the cluster of RAY_ADDRESS.
"""

import sys
from functools import partial
from pathlib import Path

from textures import textures
from tiny_network import TINY

from twostage_jax.cluster.attachment import attach
from twostage_jax.cluster.ray_engine import RayEngine
from twostage_jax.commands.ending import run_command
from twostage_jax.study.approaches import find
from twostage_jax.study.engine import threads
from twostage_jax.study.jobs import Scope
from twostage_jax.study.study import Study
from twostage_jax.training.protocol import Protocol

# Long enough that what happens after the first checkpoint happens in training.
PROTOCOL = Protocol(network=TINY, epochs=12, head_epochs=2, learning_rate=1e-3, k_neighbors=2)
APPROACHES = ("baseline", "is_ros", "is_rus", "ts_smote_rus")
SCOPE = Scope(("half_minority",), (5.0,), 1, tuple(map(find, APPROACHES)))


def make_study(folder: Path) -> Study:
    """Four networks, each a group of its own."""
    checkpoints = folder / "checkpoints"
    images = textures()
    return Study(
        images, "textures", PROTOCOL, None, SCOPE, output=folder / "out", checkpoints=checkpoints
    )


def train(study: Study, progress=lambda _: None, tell=print, **options) -> int:
    """Trains all of it on the cluster that this process is to join; returns how many records
    failed."""
    options = {"platform": "cpu", "cpus": threads(), "programs": study.folder.path} | options
    with RayEngine(attach(), study.material, tell=tell, **options) as engine:
        groups = study.pending(study.groups(1))
        return sum(done.failed for done in study.run(groups, progress, engine))


def main(folder: Path) -> int:
    study = make_study(folder)
    study.open("test")
    return train(study, tell=partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(run_command(partial(main, Path(sys.argv[1])), "interrupted", leave=True))
