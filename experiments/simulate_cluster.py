"""How a study would scale on a cluster, in numbers: `python -m experiments.simulate_cluster`.

Nothing is trained. The groups of the paper's study are dealt out by the schedule that the Ray
engine has, and some devices are lost on the way. The speed of a CPU was measured, that of others is
the bound of a forecast.
"""

import dataclasses
import heapq
import shlex
import sys
from collections.abc import Mapping, Sequence
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
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol

PROGRAM = "python -m experiments.simulate_cluster"
CLASSES, PER_CLASS = 8, 625  # the paper's images
RATE = "images_per_second_bound"


class Device(NamedTuple):
    """How fast a device trains.

    Attributes:
        images: images per second of stage 1, by the networks that train at once.
        network: seconds per network for the features of all images, and its heads.
    """

    images: Mapping[int, float]
    network: float

    def rate(self, members: int) -> float:
        """Images per second of this number of networks, or of the nearest number that is known."""
        return self.images[min(self.images, key=lambda known: abs(known - members))]


# Measured, see experiments/results/benchmarks/training.md, at width 1 and 150 pixels: 57.1 images,
# 295 features and 0.217 heads per second on two cores of an AMD EPYC.
CPU = Device({1: 57.1}, CLASSES * PER_CLASS / 295 + 1.2 / 0.217)


def find_device(kind: str, forecast: Path) -> Device:
    """What is known of a kind of device.

    Args:
        kind: cpu, or a target of the forecast.
        forecast: folder of a forecast; its rows in float32 count.

    Raises:
        InputError: the forecast does not have what is needed.
    """
    if kind == "cpu":
        return CPU
    path = forecast / "forecast.csv"
    try:
        rows = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}); name the folder of a forecast with --forecast"
        ) from error
    rows = rows[(rows["target"] == kind) & (rows["precision"] == "float32")]
    rates = {
        program: {int(own): float(rate) for own, rate in part[["members", RATE]].values}
        for program, part in rows.dropna(subset=RATE).groupby("program")
    }
    if "stage1" not in rates or "features" not in rates:
        raise InputError(
            f"{path} has no rows in float32 of stage1 and of features for {kind}; python -m "
            "experiments.forecast adds them"
        )
    # Heads take less than a thousandth of it.
    return Device(rates["stage1"], CLASSES * PER_CLASS / max(rates["features"].values()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """Simulates the paper's study on devices of a cluster."""

    kinds: tuple[str, ...] = ("cpu", "h100", "v5e")
    """Kinds of devices: cpu (two cores), or targets of the forecast."""
    forecast: Path = Path("experiments/results/forecast")
    """Folder of a forecast of the paper's study."""
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
            InputError: a number is not above 0.
        """
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
    images = protocol.epochs * sum(network.images for network in group)
    return fixed + images / device.rate(len(group)) + len(group) * device.network


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
        device = find_device(kind, options.forecast)
        for members in options.members:
            groups = make_groups(networks, members, protocol.batch_size)
            seconds = {own: duration(own, device, protocol, options.fixed) for own in groups}
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
            "Nothing was trained: groups are dealt out by the schedule of the Ray engine. The speed"
            " of cpu was measured on two cores, that of the others is the bound of"
            f" `{options.forecast}`: devices take longer.",
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
