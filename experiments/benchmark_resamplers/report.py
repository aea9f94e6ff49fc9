"""What the measurements say: engines beside imbalanced-learn, and how the numbers were taken."""

import dataclasses
from collections.abc import Sequence
from statistics import mean, median

import numpy as np
import pandas as pd

from experiments.benchmark_resamplers.data import STUDY
from experiments.benchmark_resamplers.work import Job
from experiments.benchmarks.document import digits, markdown_table, percent, size, times


@dataclasses.dataclass
class Turn:
    """What a job did in one round."""

    job: Job
    seconds: list[list[float]] = dataclasses.field(default_factory=list)
    """Of the calls of each part, the first one first."""
    samples: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """What is compared with other engines, by part: one row per output row."""
    shape: tuple[int, ...] = ()
    """Of the data."""
    growth: int = 0
    """The largest growth of resident memory during a call, in bytes."""
    failure: str = ""
    """Why there is no result, in one line."""


def agreement(ours: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """Share of rows that equal the reference's, over the parts that both have.

    Values may differ by 1e-6 of the largest, and integers by a half more: they are rounded.
    """
    equal = total = 0
    for name in ours.keys() & reference.keys():
        own, other = ours[name], reference[name].astype(np.float64)
        total += max(len(own), len(other))
        if own.shape == other.shape:
            tolerance = 1e-6 * np.abs(other).max() + 0.5 * (own.dtype.kind in "iu")
            equal += int((np.abs(own - other) <= tolerance).all(axis=1).sum())
    return equal / total if total else 0.0


def summarize(turns: Sequence[Turn]) -> pd.DataFrame:
    """One row per job, over all rounds. Seconds and bytes are of the whole work.

    `times_first` and `times_median` are the reference's seconds divided by the job's.
    """
    rows = []
    for job in dict.fromkeys(turn.job for turn in turns):
        its = [turn for turn in turns if turn.job == job]
        done = [turn for turn in its if not turn.failure]
        references = [t.samples for t in turns if t.job.case == job.case and t.job.is_reference]
        row = {"case": job.case, "engine": job.engine, "ours": job.ours}
        row |= {"is_reference": job.is_reference, **(_numbers(done) if done else {})}
        reference = {name: rows for samples in references for name, rows in samples.items()}
        if reference and done and not job.is_reference:
            row["agreement"] = min(agreement(turn.samples, reference) for turn in done)
        failures = dict.fromkeys(turn.failure for turn in its if turn.failure)
        rows.append(row | {"failure": "; ".join(failures)})
    columns = ["case", "engine", "ours", "is_reference", "shape", "first", "least", "median"]
    columns += ["parts", "peak_bytes", "agreement", "failure"]
    frame = pd.DataFrame(rows, columns=columns)
    for name in ("first", "median"):
        reference = frame[frame.is_reference].set_index("case")[name]
        frame[f"times_{name}"] = frame.case.map(reference).astype(float) / frame[name].astype(float)
    return frame


def _numbers(turns: Sequence[Turn]) -> dict:
    calls = [seconds for turn in turns for seconds in turn.seconds]
    firsts = [seconds[0] for seconds in calls]
    later = [each for seconds in calls for each in seconds[1:]] or firsts
    row = {"first": median(firsts), "least": min(later), "median": median(later)}
    parts = len(calls) if len(turns[0].seconds) > 1 else 1
    if parts > 1:  # of different sizes; the whole is extrapolated from them
        row = dict.fromkeys(row, len(STUDY) * mean(firsts))
    shape = " x ".join(f"{n:,}" for n in turns[0].shape)
    growth = max(turn.growth for turn in turns)
    return row | {"parts": parts, "shape": shape, "peak_bytes": growth}


def table(frame: pd.DataFrame) -> str:
    """The frame as a Markdown table."""
    cells = {
        "Case": frame.case,
        "Data": frame["shape"].fillna("-"),
        "Engine": frame.engine,
        "First call, s": frame["first"].map(digits),
        "Least, s": frame.least.map(digits),
        "Median, s": frame["median"].map(digits),
        "Peak memory": frame.peak_bytes.map(size),
        "Faster, first": frame.times_first.map(times),
        "Faster": frame.times_median.map(times),
        "Rows equal": frame.agreement.map(percent).mask(frame.is_reference, "reference"),
    }
    return markdown_table(pd.DataFrame(cells), left=3)


def list_wrong(frame: pd.DataFrame) -> list[str]:
    """Sentences: where ours failed, and where its results are not the reference's."""
    return [
        f"{row.case}: {row.engine}: {row.failure or percent(row.agreement) + ' of the rows agree'}"
        for row in frame[frame.ours].itertuples()
        if row.failure or row.agreement < 1
    ]


def notes(frame: pd.DataFrame, rounds: int, scale: float) -> list[str]:
    """How the numbers were taken, in sentences."""
    said = [
        f"{rounds} round{'s' * (rounds != 1)}. In each round the engines take turns, each in a new "
        "process. First call: median over the rounds, compilation included. Least and median: of "
        "the later calls, or of the first calls where there are no others. Data are loaded, cut to "
        "the partition and converted before the clock starts.",
        "Peak memory: the largest growth of resident memory during a call, sampled every 5 ms: the "
        "result counts, the data do not.",
        "Faster: seconds of imbalanced-learn on float32 divided by the engine's; first calls, and "
        "medians. Rows equal: share of the output rows (32 columns of each, and the class) that "
        "equal imbalanced-learn's up to 1e-6, or up to half a unit where uint8 is rounded. The "
        "program fails unless all of ours do.",
        "imbalanced-learn's differences of uint8 wrap around modulo 256: only the rows that it "
        "keeps are right.",
    ]
    for row in frame[frame.parts > 1].itertuples():
        said.append(
            f"{row.case}: users of {row.engine} call fit_resample, it has no plans. Its numbers "
            f"are extrapolated to the study's {len(STUDY)} partitions from {row.parts:g} of them, "
            "each of another scenario or ratio; ours are of all."
        )
    failed = frame[frame.failure != ""].itertuples()
    said += [f"{row.case}: {row.engine} failed: {row.failure}." for row in failed]
    return said + [f"This is a trial with data at scale {scale:g}."] * (scale < 1)
