"""The main figure of each step, read from its folder; empty where there is none yet."""

import functools
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from experiments.benchmark_training.cases import OURS
from experiments.benchmarks.document import digits, percent, times

OUTPUT = "output.txt"


def _of_table(name: str) -> Callable:
    """Marks a function of a table, which is read from a CSV file of the folder if it is there."""

    def mark(function: Callable[[pd.DataFrame], str]) -> Callable[[Path], str]:
        @functools.wraps(function)
        def read(folder: Path) -> str:
            path = folder / name
            return function(pd.read_csv(path)) if path.exists() else ""

        return read

    return mark


@_of_table("machine.csv")
def machine(frame: pd.DataFrame) -> str:
    """The devices."""
    return frame.Value[0]


@_of_table("agreement.csv")
def agreement(frame: pd.DataFrame) -> str:
    """How many quantities are within their bounds."""
    return f"{frame.agrees.sum()} of {len(frame)} quantities within bounds"


@_of_table("training.csv")
def training(frame: pd.DataFrame) -> str:
    """The fastest of ours, and how many times as fast as the fastest peer."""
    own = frame[(frame.library == OURS) & frame.best.notna()]
    if own.empty:
        return ""
    row = own.loc[own.best.idxmax()]
    peer = f", {times(row.times)} the fastest peer" if row.times == row.times else ""
    return f"{digits(row.best)} images/s ({row.precision}, {row.members} together){peer}"


@_of_table("bounds.csv")
def bounds(frame: pd.DataFrame) -> str:
    """The shares of the bounds that were reached."""
    return ", ".join(
        f"{row.precision} x {row.members}: {percent(row.share)} of the bound"
        for row in frame.itertuples()
    )


@_of_table("neighbors.csv")
def neighbors(frame: pd.DataFrame) -> str:
    """How many lists are exact, and the seconds of a search."""
    seconds = ", ".join(f"{row.data} {digits(row.seconds)} s" for row in frame.itertuples())
    return f"{frame.equal.sum()} of {frame.compared.sum()} lists exact; {seconds}"


@_of_table("parity.csv")
def samplers(frame: pd.DataFrame) -> str:
    """How many comparisons agree with imbalanced-learn."""
    agree = frame.cases[frame.agrees].sum()
    return f"{agree} of {frame.cases.sum()} comparisons agree"


@_of_table("resamplers.csv")
def resamplers(frame: pd.DataFrame) -> str:
    """The least agreement, and the range of how many times as fast as imbalanced-learn."""
    own = frame[frame.ours & frame.agreement.notna()]
    if own.empty:
        return ""
    least, most = own.times_median.min(), own.times_median.max()
    return f"{percent(own.agreement.min())} equal; {times(least)} to {times(most)} as fast"


def _output(folder: Path) -> str:
    path = folder / OUTPUT
    return path.read_text(errors="replace") if path.exists() else ""


def study(folder: Path) -> str:
    """Records that are done, and the rate of the last group."""
    text = _output(folder)
    done = re.findall(r"^Records: (\d+ done)", text, re.MULTILINE)
    rates = re.findall(r"([\d,]+ images/s)", text)
    return "; ".join([*(f"records: {each}" for each in done[-1:]), *rates[-1:]])


def tests(folder: Path) -> str:
    """How many tests passed and failed."""
    found = re.findall(r"(\d+ (?:passed|failed|error)[^=\n]*?) in [\d.]+s", _output(folder))
    return found[-1] if found else ""
