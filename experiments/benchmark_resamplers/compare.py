"""What the measurements say: engines beside imbalanced-learn, and the targets."""

import dataclasses
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from experiments.benchmark_resamplers.cases import Case, Engine
from experiments.benchmark_resamplers.worker import Measurement
from experiments.benchmarks import formats

Samples = dict[str, Shaped[np.ndarray, "n m"]]


class Turn(NamedTuple):
    """A finished process.

    Attributes:
        case, engine: what it did.
        measurement: what it measured; None if it failed.
        agreement: share of the output rows that are the reference's; None without both.
        failure: why it failed, in a line.
    """

    case: Case
    engine: Engine
    measurement: Measurement | None
    agreement: float | None = None
    failure: str = ""


@dataclasses.dataclass(frozen=True)
class Line:
    """An engine in a case, over all rounds. Seconds and sizes are of the whole work."""

    case: Case
    engine: Engine
    shape: tuple[int, ...] | None = None
    """Of the data; None, as all the rest, where every process failed."""
    first: float | None = None
    """Median of the first calls."""
    least: float | None = None
    """Of the later calls, or of the first where there are no others."""
    middle: float | None = None
    """Median of the same calls."""
    timed: int = 0
    """Parts that were timed, where the whole is extrapolated from them; else 0."""
    rows: int | None = None
    result_bytes: int | None = None
    plan_bytes: int | None = None
    peak_bytes: int | None = None
    """The largest of all rounds."""
    device_bytes: int | None = None
    agreement: float | None = None
    """The smallest of all rounds."""
    faster_first: float | None = None
    """The reference's time in parts of this one's, first calls."""
    faster: float | None = None
    """The same, later calls."""
    failure: str = ""


class Target(NamedTuple):
    """Something that the comparison must show.

    Attributes:
        text: what.
        measured: in words.
        passed: whether it does.
    """

    text: str
    measured: str
    passed: bool


def agreement(ours: Samples, reference: Samples) -> float:
    """Share of the rows that are equal, over the samples that both have.

    Integers must be equal, and real numbers but for 1e-6 of the largest; where one of the two has
    rounded to integers, but for a half.
    """
    equal, total = 0, 0
    for name in ours.keys() & reference.keys():
        a, b = ours[name], reference[name]
        total += max(len(a), len(b))
        if a.shape != b.shape:
            continue
        integers = [array.dtype.kind in "iu" for array in (a, b)]
        a, b = a.astype(np.float64), b.astype(np.float64)
        rounding = 1e-6 * np.abs(b).max(initial=0)
        tolerance = 0.0 if all(integers) else rounding + 0.5 * any(integers)
        equal += int((np.abs(a - b) <= tolerance).all(axis=1).sum())
    return equal / total if total else 0.0


def summarize(turns: Sequence[Turn]) -> list[Line]:
    """A line an engine and case, compared with the reference of the case."""
    groups: dict[tuple[Case, Engine], list[Turn]] = {}
    for turn in turns:
        groups.setdefault((turn.case, turn.engine), []).append(turn)
    lines = [_line(case, engine, group) for (case, engine), group in groups.items()]
    references = {line.case: line for line in lines if line.engine.is_reference}

    def ratio(line: Line, name: str) -> float | None:
        theirs, own = getattr(references[line.case], name), getattr(line, name)
        return theirs / own if theirs and own else None

    return [
        dataclasses.replace(line, faster_first=ratio(line, "first"), faster=ratio(line, "middle"))
        if line.case in references
        else line
        for line in lines
    ]


def _line(case: Case, engine: Engine, turns: list[Turn]) -> Line:
    failure = "; ".join(dict.fromkeys(turn.failure for turn in turns if turn.failure))
    done = [turn.measurement for turn in turns if turn.measurement]
    if not done:
        return Line(case, engine, failure=failure)
    if done[0].stands_for > 1:
        first, least, middle, timed = *[_extrapolated(done)] * 3, len(_parts(done))
    else:
        calls = [times for each in done for times in each.seconds.values()]
        firsts = [times[0] for times in calls]
        later = [seconds for times in calls for seconds in times[1:]] or firsts
        first, least, middle, timed = median(firsts), min(later), median(later), 0

    def largest(name: str) -> int | None:
        return max((n for each in done if (n := getattr(each, name)) is not None), default=None)

    shares = [turn.agreement for turn in turns if turn.agreement is not None]
    return Line(
        case,
        engine,
        tuple(done[0].shape),
        first,
        least,
        middle,
        timed,
        rows=round(median(each.rows for each in done)),
        result_bytes=largest("result_bytes"),
        plan_bytes=largest("plan_bytes"),
        peak_bytes=largest("peak_bytes"),
        device_bytes=largest("device_bytes"),
        agreement=min(shares, default=None),
        failure=failure,
    )


def _parts(done: list[Measurement]) -> dict[str, list[float]]:
    parts: dict[str, list[float]] = {}
    for each in done:
        for name, times in each.seconds.items():
            parts.setdefault(name, []).extend(times)
    return parts


def _extrapolated(done: list[Measurement]) -> float:
    """The mean of the parts' means, times the number of parts of the whole."""
    means = [sum(times) / len(times) for times in _parts(done).values()]
    return sum(means) / len(means) * done[0].stands_for


def disagreements(lines: Sequence[Line]) -> list[str]:
    """Where an engine of ours failed, or its results are not the reference's."""
    wrong = []
    for line in lines:
        if not line.engine.ours:
            continue
        if line.failure:
            wrong.append(f"{line.case.title}: {line.engine.name} failed: {line.failure}")
        elif line.agreement is not None and line.agreement < 1:
            wrong.append(
                f"{line.case.title}: of the rows of {line.engine.name} only "
                f"{formats.share(line.agreement)} are the reference's"
            )
    return wrong


def targets(lines: Sequence[Line]) -> list[Target]:
    """What ours, on the CPU and with images as uint8, must reach in the cases that were run."""
    found = []
    for case in dict.fromkeys(line.case for line in lines):
        group = [line for line in lines if line.case == case]
        own = next(line for line in group if line.engine.ours)
        reference = next(line for line in group if line.engine.is_reference)
        found += _targets_of(case, own, reference)
    return found


def _targets_of(case: Case, own: Line, reference: Line) -> list[Target]:
    def faster(times: float, words: str = "") -> Target:
        measured = f"{formats.times(own.faster)} (first calls: {formats.times(own.faster_first)})"
        words = words or f"at least {times:g} times faster"
        return Target(f"{case.title}: {words}", measured, (own.faster or 0) >= times)

    peak, other = own.peak_bytes, reference.peak_bytes
    match case.kind:
        case "images":
            text = f"{case.title}: at most half the peak memory"
            measured = f"{formats.size(peak)} : {formats.size(other)}"
            passed = peak is not None and other is not None and peak <= other / 2
            return [faster(3), Target(text, measured, passed)]
        case "plans":
            return [faster(100)]
        case "large":
            return [faster(1, "no slower")]
        case "neighbors":
            passed = peak is not None and peak < 4e9
            text = f"{case.title}: less than 4 GB of memory besides the data"
            return [Target(text, formats.size(peak), passed)]
    return []
