"""How a study would scale on a cluster, in numbers: `python -m experiments.simulate_cluster`.

Nothing is trained. The groups of the paper's study are dealt out by the schedule that the Ray
engine has, to devices whose speed is assumed, and some of which are lost on the way.
"""

import dataclasses
import heapq
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import tyro

from experiments.benchmarks.document import digits, markdown_table, percent, provenance, write
from twostage_jax.cluster.schedule import Schedule
from twostage_jax.commands.approach_list import choose_approaches
from twostage_jax.commands.ending import run_command
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.study.jobs import Group, Network, Scope, list_networks, make_groups
from twostage_jax.study.plans import Plans
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol

PROGRAM = "python -m experiments.simulate_cluster"
CLASSES, PER_CLASS = 8, 625  # the paper's images


class Device(NamedTuple):
    """How long a device takes to train.

    Attributes:
        step: seconds per step, however many networks train at once.
        image: seconds per image besides.
        network: seconds per network for the features of all images, and its heads.
    """

    step: float
    image: float
    network: float


DEVICES = {
    # Measured, see experiments/results/benchmarks/training.md, at width 1 and 150 pixels: 57.1
    # images, 295 features and 0.217 heads per second on two cores of an AMD EPYC.
    "cpu": Device(step=0.0, image=1 / 57.1, network=5000 / 295 + 1.2 / 0.217),
    # Not measured. What XLA compiles for an H100 in float32 moves 170 MB per image, at 3.35 TB/s,
    # in 478 kernels per step, of about 4 microseconds each before they do anything.
    "h100": Device(step=1.9e-3, image=5.07e-5, network=1.0),
    # Not measured. XLA's own estimate for a TPU v5e is 234 million cycles per 320 images, at 1.5
    # GHz, and 103 million for the features of as many.
    "v5e": Device(step=1e-4, image=4.88e-4, network=1.5),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Simulates the paper's study on devices of a cluster."""

    kinds: tuple[str, ...] = tuple(DEVICES)
    """Kinds of devices: cpu (two cores), h100, v5e."""
    devices: tuple[int, ...] = (1, 8, 64, 512)
    """Numbers of devices."""
    members: tuple[int, ...] = (1, 10, 40)
    """Networks trained at a time."""
    approaches: tuple[str, ...] = ("paper",)
    """As for experiments.reproduce."""
    losses: float = 0.01
    """Share of the workers that are lost per hour."""
    start: float = 120.0
    """Seconds until a worker trains, and until a lost one is replaced."""
    fixed: float = 10.0
    """Seconds that a group takes besides, however large it is: plans, checkpoints, records."""
    repeats: int = 20
    """Simulations of losses, whose finish times are averaged."""
    output: Path = Path("experiments/results/cluster")
    """Folder of the Markdown document and of the CSV file."""

    def require_valid(self) -> None:
        """Checks the values.

        Raises:
            InputError: a number is not above 0, or a kind is unknown.
        """
        for kind in self.kinds:
            require_known("kind", kind, DEVICES)
        for name, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, int | float) and not 0 < number <= 1e6:
                    raise InputError(f"--{name} {number:g} found, above 0 expected (to 1e6)")


def paper_networks(approaches: Sequence[str]) -> list[Network]:
    """The networks of a study of the paper's images; their pixels do not matter here."""
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    rng = np.random.default_rng(derive(0, "simulate"))
    images = ImageSet.create(
        images=rng.integers(0, 256, (len(labels), 4, 4, 3)).astype(np.uint8),
        labels=labels,
        class_names=[f"class{label}" for label in range(CLASSES)],
        names=[f"{row:05d}" for row in range(len(labels))],
        source="noise",
    )
    scope = Scope(SCENARIOS, RATIOS, FOLDS, choose_approaches(approaches))
    return list_networks(Plans(images, Protocol()), scope)


def duration(group: Group, device: Device, protocol: Protocol, fixed: float) -> float:
    """Seconds that a device takes for a group."""
    steps = -(-max(network.images for network in group) // protocol.batch_size)
    images = sum(network.images for network in group)
    training = protocol.epochs * (steps * device.step + images * device.image)
    return fixed + training + len(group) * device.network


def simulate(
    groups: Sequence[Group],
    seconds: dict[Group, float],
    devices: int,
    epochs: int,
    *,
    start: float,
    losses: float = 0.0,
    resume: bool = True,
    seed: int = 0,
) -> float:
    """Seconds until all groups are done.

    Args:
        groups: to deal out.
        seconds: that each takes.
        devices: how many there are; one that is lost is replaced.
        epochs: of a group, for checkpoints.
        start: seconds until a worker is ready, at the beginning and after a loss.
        losses: share of the workers that are lost per hour, each at a random moment.
        resume: whether a lost group goes on after its last epoch, or begins anew.
        seed: of the losses.
    """
    rng = np.random.default_rng(derive(seed, "losses"))
    schedule = Schedule(groups, epochs)
    left = dict(seconds)
    idle: list[int] = []
    finish = start
    # (when, worker, whether it then has ended a group, lost it, or has started)
    events = [(start, worker, "started") for worker in range(devices)]
    while events:
        now, worker, what = heapq.heappop(events)
        if what == "ended":
            schedule.done(worker, now)
            finish = now
        elif what == "lost":
            began = schedule.running[worker].began
            group = schedule.lost(worker, blamed=False).running.group
            if resume:
                epoch = seconds[group] / epochs
                left[group] -= epoch * ((now - began) // epoch)
            heapq.heappush(events, (now + start, worker, "started"))
        if what != "lost":
            idle.append(worker)
        while idle and schedule.waiting:
            worker, group = idle.pop(0), schedule.next()
            assert group is not None
            schedule.begin(worker, group, now)
            lives = rng.exponential(3600 / losses) if losses else np.inf
            lost = lives < left[group]
            event = (now + min(lives, left[group]), worker, "lost" if lost else "ended")
            heapq.heappush(events, event)
    return finish


def table(options: Options) -> pd.DataFrame:
    """A row per kind of device, members and number of devices."""
    protocol, rows = Protocol(), []
    networks = paper_networks(options.approaches)
    for kind in options.kinds:
        for members in options.members:
            groups = make_groups(networks, members, protocol.batch_size)
            seconds = {own: duration(own, DEVICES[kind], protocol, options.fixed) for own in groups}
            for devices in options.devices:
                row = {"kind": kind, "members": members, "groups": len(groups)}
                row |= {"longest": max(seconds.values()), "work": sum(seconds.values())}
                rows.append(row | {"devices": devices} | _finish(options, groups, seconds, devices))
    frame = pd.DataFrame(rows)
    best = frame.groupby("kind")["work"].transform("min")
    for name in ("no losses", "resumed", "anew"):
        # Against the least work of all group sizes: small groups cost throughput, too.
        frame[f"efficiency, {name}"] = best / (frame["devices"] * frame[name])
    return frame


def _finish(
    options: Options, groups: Sequence[Group], seconds: dict[Group, float], devices: int
) -> dict[str, float]:
    def mean(resume: bool) -> float:
        runs = [
            simulate(
                *(groups, seconds, devices, Protocol().epochs),
                start=options.start,
                losses=options.losses,
                resume=resume,
                seed=seed,
            )
            for seed in range(options.repeats)
        ]
        return float(np.mean(runs))

    alone = simulate(groups, seconds, devices, Protocol().epochs, start=options.start)
    return {"no losses": alone, "resumed": mean(True), "anew": mean(False)}


def text_table(frame: pd.DataFrame) -> str:
    """The table in Markdown."""
    cells = pd.DataFrame(
        {
            "Device": frame["kind"],
            "Members": frame["members"].astype(str),
            "Groups": frame["groups"].astype(str),
            "Longest": [digits(own / 60, " min") for own in frame["longest"]],
            "Devices": frame["devices"].astype(str),
            "Finish": [digits(own / 3600, " h") for own in frame["no losses"]],
            "Efficiency": [percent(own) for own in frame["efficiency, no losses"]],
            "Finish, losses": [digits(own / 3600, " h") for own in frame["resumed"]],
            "Efficiency, losses": [percent(own) for own in frame["efficiency, resumed"]],
            "Finish, losses, no checkpoints": [digits(own / 3600, " h") for own in frame["anew"]],
        }
    )
    return markdown_table(cells, 1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)

    def work() -> int:
        options.require_valid()
        frame = table(options)
        notes = [
            "Nothing was trained: groups are dealt out by the schedule of the Ray engine to devices"
            " whose speed is that of `DEVICES` in `experiments/simulate_cluster.py`: measured for"
            " cpu, and bounds from compiled programs for h100 and v5e.",
            f"A worker starts in {options.start:g} s, and a group takes {options.fixed:g} s beside"
            " images, features and heads; both are assumed.",
            f"{100 * options.losses:g} % of the workers are lost per hour, at random moments, and"
            f" finish times with losses are means of {options.repeats} simulations. Checkpoints let"
            " a group go on after its last epoch.",
            "Efficiency is the least work of all group sizes over devices times finish time: it"
            " counts starts, groups that cost throughput, and devices without work.",
        ]
        origin = provenance(shlex.join([*PROGRAM.split(), *arguments]), ("jax", "numpy"))
        parts = ["# A study on a cluster, simulated", text_table(frame)]
        print(write(options.output, "simulation", parts, notes, origin, frame))
        return 0

    return run_command(work, "interrupted")


if __name__ == "__main__":
    sys.exit(main())
