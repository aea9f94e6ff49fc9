"""The report: table, targets and notes, for the terminal and as Markdown, CSV and plot."""

import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd
import rich.table

from experiments.benchmark_resamplers.cases import STUDY_KEYS, Engine
from experiments.benchmark_resamplers.compare import Line, Target
from experiments.benchmark_resamplers.work import COMPARED_COLUMNS
from experiments.benchmarks import formats
from experiments.benchmarks.document import Panel, draw_panels, markdown_table

PACKAGES = (
    "twostage_jax",
    "jax",
    "numpy",
    "scikit-learn",
    "imbalanced-learn",
    "faiss-cpu",
    "faiss-gpu",
    "cuml-cu12",
)


def _middle(line: Line) -> str:
    return formats.seconds(line.middle) + f" (of {line.timed} timed)" * bool(line.timed)


def _agreement(line: Line) -> str:
    return "reference" if line.engine.is_reference else formats.share(line.agreement)


def _rate(line: Line) -> str:
    return f"{line.rows / line.middle:,.0f}" if line.rows and line.middle else "-"


def _peak(line: Line) -> str:
    device = f" + {formats.size(line.device_bytes)} on the device" if line.device_bytes else ""
    return formats.size(line.peak_bytes) + device


# Title of each column, and what stands in it.
_COLUMNS: dict[str, Callable[[Line], str]] = {
    "First call, s": lambda line: formats.seconds(line.first),
    "Least, s": lambda line: formats.seconds(line.least),
    "Median, s": _middle,
    "Rows/s": _rate,
    "Result": lambda line: formats.size(line.result_bytes),
    "Plan": lambda line: formats.size(line.plan_bytes),
    "Peak memory": _peak,
    "Faster, first": lambda line: formats.times(line.faster_first),
    "Faster": lambda line: formats.times(line.faster),
    "Rows equal": _agreement,
}


def _shape(line: Line) -> str:
    return " x ".join(f"{n:,}" for n in line.shape) if line.shape else "-"


def _rows(lines: Sequence[Line]) -> list[list[str]]:
    """The header and a row a line. The case stands in its first row only."""
    rows, before = [["Case", "Data", "Engine", *_COLUMNS]], None
    for line in lines:
        case = line.case.title if line.case != before else ""
        cells = [column(line) for column in _COLUMNS.values()]
        rows.append([case, _shape(line), line.engine.name, *cells])
        before = line.case
    return rows


def screen(lines: Sequence[Line]) -> rich.table.Table:
    """The table for the terminal."""
    header, *rows = _rows(lines)
    table = rich.table.Table(title="Resamplers", title_justify="left")
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < 3 else "right", no_wrap=i < 3)
    for i, row in enumerate(rows):
        if i and row[0]:
            table.add_section()
        table.add_row(*row)
    return table


def notes(lines: Sequence[Line], rounds: int, scale: float) -> list[str]:
    """How the numbers were taken, in sentences."""
    said = [
        f"{rounds} round{'s' * (rounds != 1)}; in each the engines take turns, each in a process "
        "of its own. First call: median over the rounds, compilation included. Least and median: "
        "of the later calls (of the first where there are no others). Before the clock starts, "
        "data are loaded, cut to the partition and converted.",
        "Peak memory: the highest resident memory during the calls less that before the first, so "
        "that the data are not counted and the result is. Result: bytes of the arrays; plan: bytes "
        "of the table that stands for them.",
        "Faster: the time of imbalanced-learn (scikit-learn for neighbours), on float32, in parts "
        f"of the engine's. Rows equal: share of the output rows ({COMPARED_COLUMNS} columns of "
        "each, and the class; neighbours in their order) that are imbalanced-learn's, up to 1e-6, "
        "or to half a unit where uint8 is rounded. Ours must have all, on any device: the program "
        "fails otherwise.",
    ]
    if any(line.engine.dtype == "uint8" and not line.engine.ours for line in lines):
        said.append(
            "On uint8 imbalanced-learn's differences wrap around modulo 256: only the rows that it "
            "keeps are right."
        )
    for line in lines:
        if line.timed:
            said.append(
                f"{line.case.title}: imbalanced-learn has no plans, its users call fit_resample. "
                f"Its numbers are extrapolated to the study's {len(STUDY_KEYS)} partitions from "
                f"{line.timed} of them, each of another scenario or ratio ({len(STUDY_KEYS)} times "
                "their mean); ours are of all."
            )
        if line.case.kind == "neighbors" and line.engine.ours and line.rows:
            said.append(f"{line.case.title}: {line.rows:,} of the {line.shape[0]:,} rows ask.")
        if line.failure:
            said.append(f"{line.case.title}: {line.engine.name} failed: {line.failure}")
    if scale < 1:
        said.append(f"A trial at scale {scale:g}: the targets are for the whole data.")
    return said


def verdicts(found: Sequence[Target]) -> list[str]:
    """A line a target."""
    return [f"{'pass' if t.passed else 'MISS'}  {t.text}: {t.measured}" for t in found]


def markdown(
    lines: Sequence[Line], found: Sequence[Target], said: Sequence[str], origin: Sequence[str]
) -> str:
    """The whole report as a Markdown document."""
    checks = "\n".join(f"- {line}" for line in verdicts(found))
    parts = [
        "# Resamplers",
        markdown_table(_rows(lines), left=3),
        "![seconds and peak memory](resamplers.svg)",
        f"## Targets\n\n{checks}" if checks else "",
        "## How the numbers were taken\n\n" + "\n".join(f"- {line}" for line in said),
        "## Where they are from\n\n" + "\n".join(f"- {line}" for line in origin),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def frame(lines: Sequence[Line]) -> pd.DataFrame:
    """All numbers with all digits, a row a line."""
    rows = []
    for line in lines:
        fields = {field.name: getattr(line, field.name) for field in dataclasses.fields(line)}
        fields |= {"case": line.case.kind, "engine": line.engine.name, "shape": _shape(line)}
        rows.append({"case": fields.pop("case"), "scenario": line.case.scenario, **fields})
    return pd.DataFrame(rows)


def plot(lines: Sequence[Line]) -> bytes:
    """Seconds and peak memory as horizontal bars, as SVG."""
    done = [line for line in lines if line.middle is not None]
    seconds, peaks = [line.middle for line in done], [line.peak_bytes for line in done]
    texts, sizes = [_middle(line) for line in done], [formats.size(peak) for peak in peaks]
    return draw_panels(
        [line.case.title for line in done],
        [line.engine.name for line in done],
        [_color(line.engine) for line in done],
        Panel("Seconds (median of the later calls)", "s", seconds, texts),
        Panel("Peak memory besides the data", "bytes", peaks, sizes),
        salt="resamplers",
    )


def _color(engine: Engine) -> str:
    """Blue ours, violet on an accelerator; orange the reference; light other dtypes of both."""
    if engine.search:
        return "#4c9f70"
    if not engine.ours:
        return "#dd6b20" if engine.is_reference else "#f6ad55"
    if engine.platform != "cpu":
        return "#6b46c1"
    return "#90b4dd" if engine.name.endswith("float32") else "#2b6cb0"
