"""What the measurements say: rates beside each other, and the targets."""

import dataclasses
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from experiments.benchmark_training import flops, paper
from experiments.benchmark_training.cases import OURS, TORCH, Case, Engine, Job, Size
from experiments.benchmark_training.session import OUT_OF_TIME, Measured
from experiments.benchmark_training.worker import OUT_OF_MEMORY
from experiments.benchmarks import formats

# Sizes that the targets on a CPU are for, the first of which is the paper's.
TARGET_SIZES = (Size(1.0, 150), Size(0.25, 96))
_AIM = 1.2

_STEADY = 1.3

_GPU_RATES = {("float32", "tf32"): 20_000, ("bfloat16",): 35_000}
_TIMES_TORCH = 4
_MINUTES_OF_STUDY = 30


@dataclasses.dataclass(frozen=True)
class Line:
    """An engine in a case, over all rounds so far."""

    case: Case
    engine: Engine
    first: float | None = None
    """Seconds until the first batch was done, compilation included."""
    best: float | None = None
    """Items a second in the best turn; None, as the next, before there is one."""
    middle: float | None = None
    """Median of the same."""
    turns: int = 0
    flops: float = 0.0
    """Operations of an item."""
    share: float | None = None
    """Of the device's peak, in the best turn; None where that is not known."""
    bytes: int | None = None
    """Of memory."""
    times: float | None = None
    """The best rate in parts of the reference's: in training the fastest peer's, in ablation the
    product's; None without."""
    failure: str = ""


class Target(NamedTuple):
    """Something that the comparison must show.

    Attributes:
        text: what.
        measured: in words.
        passed: whether it does; None: not measured.
    """

    text: str
    measured: str
    passed: bool | None


def item_flops(job: Job, classes: int) -> float:
    """Operations of one image, or of all the training of one head.

    Args:
        job: of which the item is one.
        classes: of the data.
    """
    size = job.case.size
    head = flops.head_flops(size.width, classes)
    match job.case.task:
        case "heads":
            return flops.TRAINING * head * paper.rows_of_head()
        case "extraction":
            return flops.network_flops(*size)
        case _:
            return flops.TRAINING * (flops.network_flops(*size) + head)


def summarize(
    measured: Mapping[Job, Measured], classes: int, peaks: Mapping[str, float]
) -> list[Line]:
    """A line a job, compared with the reference of its case.

    Args:
        measured: of all jobs.
        classes: of the data.
        peaks: operations a second that the device can do, by precision; unknown ones left out.
    """
    lines = [_line(job, found, item_flops(job, classes), peaks) for job, found in measured.items()]
    references = {}
    for line in lines:
        product = line.case.task == "ablation" and not line.engine.choice
        if line.best and (product or line.engine.library != OURS):
            references[line.case] = max(references.get(line.case, 0), line.best)
    return [
        dataclasses.replace(line, times=line.best / references[line.case])
        if line.best and line.case in references
        else line
        for line in lines
    ]


def _line(job: Job, found: Measured, operations: float, peaks: Mapping[str, float]) -> Line:
    rates = [turn.items / turn.seconds for turn in found.turns]
    best, peak = max(rates, default=None), peaks.get(job.engine.precision)
    return Line(
        *job,
        first=found.prepared.first if found.prepared else None,
        best=best,
        middle=median(rates) if rates else None,
        turns=len(rates),
        flops=operations,
        share=operations * best / peak if best and peak else None,
        bytes=found.prepared.bytes if found.prepared else None,
        failure=found.failure,
    )


def failures(lines: Sequence[Line]) -> list[str]:
    """Lines of ours or the peers that failed, in sentences."""
    return [
        f"{line.case.title}: {line.engine.title}, {line.engine.precision}, "
        f"{line.engine.members} together: {line.failure}"
        for line in lines
        if line.failure
    ]


def unsteady(lines: Sequence[Line]) -> list[Line]:
    """Those whose best turn says little of the others."""
    return [line for line in lines if line.best and line.best > _STEADY * line.middle]


def broken(lines: Sequence[Line]) -> list[Line]:
    """Those of ours that failed for another reason than too little memory or time."""
    excused = (OUT_OF_MEMORY, OUT_OF_TIME)
    return [
        line
        for line in lines
        if line.engine.library == OURS and line.failure and line.failure not in excused
    ]


def targets(lines: Sequence[Line], platform: str) -> list[Target]:
    """What ours must reach on the platform."""
    if platform == "cpu":
        return [_faster_than_peers(lines, size) for size in TARGET_SIZES]
    return _accelerator_targets(lines)


def _fastest(
    lines: Sequence[Line],
    task: str,
    size: Size,
    library: str = OURS,
    precisions: Sequence[str] = (),
    choice: str | None = None,
) -> Line | None:
    chosen = [
        line
        for line in lines
        if line.case == Case(task, size)
        and line.engine.library == library
        and line.best
        and (not precisions or line.engine.precision in precisions)
        and (choice is None or line.engine.choice == choice)
    ]
    return max(chosen, key=lambda line: line.best, default=None)


def _faster_than_peers(lines: Sequence[Line], size: Size) -> Target:
    text = f"training, {size.title}: faster than the fastest peer (aim: {_AIM:g}x)"
    own = _fastest(lines, "training", size)
    if own is None or own.times is None:
        return Target(text, "not measured", None)
    return Target(text, formats.times(own.times), own.times > 1)


def _accelerator_targets(lines: Sequence[Line]) -> list[Target]:
    size = TARGET_SIZES[0]
    found = []
    for precisions, least in _GPU_RATES.items():
        own = _fastest(lines, "training", size, precisions=precisions)
        text = f"training, {size.title}: at least {least:,} images/s in {' or '.join(precisions)}"
        found.append(_at_least(text, own and own.best, least))
    own = _fastest(lines, "training", size)
    theirs = _fastest(lines, "training", size, TORCH, choice="compiled")
    text = f"training, {size.title}: at least {_TIMES_TORCH} times PyTorch, compiled"
    times = own.best / theirs.best if own and theirs else None
    measured = "not measured" if times is None else formats.times(times)
    found.append(Target(text, measured, None if times is None else times >= _TIMES_TORCH))
    heads = _fastest(lines, "heads", size)
    text = f"{paper.study_heads()} heads in less than a minute"
    seconds = paper.study_heads() / heads.best if heads else None
    measured = "not measured" if seconds is None else f"{formats.seconds(seconds)} s, extrapolated"
    found.append(Target(text, measured, None if seconds is None else seconds < 60))
    minutes = study_minutes(lines)
    text = f"the paper's whole study in less than {_MINUTES_OF_STUDY} minutes"
    measured = f"{formats.digits(minutes)} minutes, extrapolated" if minutes else "not measured"
    found.append(Target(text, measured, minutes < _MINUTES_OF_STUDY if minutes else None))
    return found


def _at_least(text: str, rate: float | None, least: float) -> Target:
    if rate is None:
        return Target(text, "not measured", None)
    return Target(text, f"{rate:,.0f} images/s", rate >= least)


def study_minutes(lines: Sequence[Line]) -> float | None:
    """The paper's whole study at the best rates of its parts; None unless all are measured.

    All images once through every network that has heads, and all heads, count besides stage 1.
    """
    size = TARGET_SIZES[0]
    training, extraction, heads = (
        _fastest(lines, task, size) for task in ("training", "extraction", "heads")
    )
    if not (training and extraction and heads):
        return None
    networks, passes = paper.study_networks()
    seconds = (
        passes / training.best
        + networks * paper.IMAGES / extraction.best
        + paper.study_heads() / heads.best
    )
    return seconds / 60
