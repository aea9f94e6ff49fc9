"""What the measurements say: a frame of numbers, its tables, and how the numbers were taken."""

from collections.abc import Mapping
from statistics import median

import pandas as pd

from experiments.benchmark_training import flops
from experiments.benchmark_training.cases import OURS, Job, Options
from experiments.benchmark_training.session import Measured
from experiments.benchmarks.document import digits, markdown_table, percent, size, times
from experiments.benchmarks.turns import OUT_OF_MEMORY

# A best turn faster than the median by this factor means that the machine did something else.
_STEADY = 1.3


def summarize(
    measured: Mapping[Job, Measured], classes: int, peaks: Mapping[str, float]
) -> pd.DataFrame:
    """One row per job. `peaks` are operations per second that the device can do, by precision.

    `times` and `times_median` are the best and the median rate divided by those of the case's
    reference: the peer with the best turn in training, the first job in ablation.
    """
    rows = []
    for job, found in measured.items():
        best, peak = max(found.rates, default=None), peaks.get(job.precision)
        operations = flops.training_flops(*job.size, classes)
        row = {"task": job.task, **job.size._asdict(), "case": job.case, "engine": job.engine}
        row |= {"library": job.library, "precision": job.precision, "members": job.members}
        row |= {"first_seconds": found.first, "best": best, "turns": len(found.rates)}
        row |= {"median": median(found.rates) if found.rates else None}
        row |= {"flops_per_image": operations, "memory_bytes": found.memory}
        row |= {"share_of_peak": operations * best / peak if best and peak else None}
        rows.append(row | {"failure": found.failure})
    frame = pd.DataFrame(rows)
    numbers = ["first_seconds", "best", "median", "share_of_peak", "memory_bytes"]
    frame[numbers] = frame[numbers].astype(float)
    frame["times"] = frame["times_median"] = float("nan")
    for _, case in frame.groupby("case"):
        ablation = case.task.iloc[0] == "ablation"
        candidates = case.head(1) if ablation else case[case.library != OURS]
        if candidates.best.notna().any():
            reference = candidates.loc[candidates.best.idxmax()]
            frame.loc[case.index, "times"] = case.best / reference["best"]
            frame.loc[case.index, "times_median"] = case["median"] / reference["median"]
    return frame


def is_broken(frame: pd.DataFrame) -> bool:
    """Whether a job of ours failed for another reason than too little memory."""
    return not set(frame.failure[frame.library == OURS]) <= {"", OUT_OF_MEMORY}


def tables(frame: pd.DataFrame) -> list[str]:
    """The Markdown tables under their titles."""
    cells = pd.DataFrame(
        {
            "Case": frame.case,
            "Engine": frame.engine,
            "Precision": frame.precision,
            "Together": frame.members.astype(str),
            "First batch, s": frame.first_seconds.map(digits),
            "Best, images/s": frame.best.map(digits),
            "Median, images/s": frame["median"].map(digits),
            "GFLOP/s": (frame.flops_per_image * frame.best / 1e9).map(digits),
            "Of peak": frame.share_of_peak.map(percent),
            "Memory": frame.memory_bytes.map(size),
            "Times": frame.times.map(times),
            "Times, median": frame.times_median.map(times),
        }
    )
    ablation = frame.task == "ablation"
    parts = {"# Training": cells[~ablation], "## One choice changed": cells[ablation]}
    return [f"{title}\n\n{markdown_table(c, left=3)}" for title, c in parts.items() if len(c)]


def notes(frame: pd.DataFrame, options: Options, platform: str, finished: int) -> list[str]:
    """How the numbers were taken, in sentences; `finished` rounds are done."""
    memory = "on the device, what XLA plans for ours and the most that the peers allocated"
    if platform == "cpu":
        memory = "the growth of resident memory during a batch, sampled every 5 ms; TensorFlow "
        memory += "keeps the memory that it frees, and is not measured"
    said = [
        f"{finished} of {options.rounds} rounds are finished. In each round the engines take turns "
        f"of about {options.seconds:g} s. Every library has processes of its own, and one process "
        "works at a time. Best and median are over the rounds.",
        "A batch is 32 images per network. Together: networks trained as one program; the same "
        "network in torch.nn (channels last) and Keras's MobileNet train alone. Images are in "
        "memory as uint8. Ours interpolates two of them per sample, as SMOTE does; the peers take "
        "one. First batch: seconds until it is done, compilation included.",
        f"Memory: {memory}. Of peak: operations of the model, counted from the shapes of its "
        "layers (three forward passes per training step), divided by those of a large product of "
        "matrices in JAX.",
        "Times: the rate divided by that of the fastest peer in training, and by that of the first "
        "row in ablation; of the best turns and of the medians. GFLOP/s and the share of the peak "
        "are of the best turns: other work on the machine only ever slows a turn down.",
    ]
    for row in frame.itertuples():
        name = f"{row.case}: {row.engine}, {row.precision}, {row.members} together"
        if row.best > _STEADY * row.median:
            ratio = times(row.best / row.median)
            said.append(f"{name}: best turn {ratio} the median; the machine did something else.")
        if row.failure:
            said.append(f"{name} failed: {row.failure}.")
    return said
