"""The report: tables, targets and notes, for the terminal and as Markdown, CSV and plot."""

from collections.abc import Callable, Sequence

import pandas as pd
import rich.table

from experiments.benchmark_training import paper
from experiments.benchmark_training.cases import OURS, TORCH, Engine
from experiments.benchmark_training.compare import Line, Target, failures, unsteady
from experiments.benchmark_training.options import Options
from experiments.benchmarks import formats
from experiments.benchmarks.document import Panel, draw_panels, markdown_table

PACKAGES = (
    "twostage_jax",
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "torch",
    "timm",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
)


def _rate(number: float | None) -> str:
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else formats.digits(number)


def _speed(line: Line) -> str:
    return "-" if line.best is None else formats.digits(line.flops * line.best / 1e9)


# Title of each column, and what stands in it.
_COLUMNS: dict[str, Callable[[Line], str]] = {
    "Together": lambda line: str(line.engine.members),
    "First batch, s": lambda line: formats.seconds(line.first),
    "Best, 1/s": lambda line: _rate(line.best),
    "Median, 1/s": lambda line: _rate(line.middle),
    "GFLOP/s": _speed,
    "Of peak": lambda line: formats.share(line.share),
    "Memory": lambda line: formats.size(line.bytes),
    "Times": lambda line: line.failure or formats.times(line.times),
}
_LEFT = 3


def _rows(lines: Sequence[Line]) -> list[list[str]]:
    """The header and a row a line. The case stands in its first row only."""
    rows, before = [["Case", "Engine", "Precision", *_COLUMNS]], None
    for line in lines:
        case = f"{line.case.title} ({line.case.unit})" if line.case != before else ""
        cells = [column(line) for column in _COLUMNS.values()]
        rows.append([case, line.engine.title, line.engine.precision, *cells])
        before = line.case
    return rows


def _parts(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each table by its title."""
    ablated = [line for line in lines if line.case.task == "ablation"]
    others = [line for line in lines if line.case.task != "ablation"]
    parts = {"Training": others, "What each choice brings": ablated}
    return {title: part for title, part in parts.items() if part}


def screen(lines: Sequence[Line]) -> list[rich.table.Table]:
    """The tables for the terminal."""
    tables = []
    for title, part in _parts(lines).items():
        header, *rows = _rows(part)
        table = rich.table.Table(title=title, title_justify="left")
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i < _LEFT else "right", no_wrap=i < _LEFT)
        for i, row in enumerate(rows):
            if i and row[0]:
                table.add_section()
            table.add_row(*row)
        tables.append(table)
    return tables


def notes(
    lines: Sequence[Line], options: Options, platform: str, finished: int, missing: Sequence[str]
) -> list[str]:
    """How the numbers were taken, in sentences.

    Args:
        lines: of all jobs.
        options: settled for the platform.
        platform: that JAX runs on.
        finished: rounds that are done.
        missing: sentences on peers that are not there.
    """
    memory = (
        "the growth of the highest resident memory in a call (TensorFlow keeps what it frees, and "
        "is not counted)"
        if platform == "cpu"
        else "what XLA plans for ours on the device; the most that the peers had allocated there"
    )
    peak = (
        "that of a large float32 matrix product of JAX's here"
        if platform == "cpu"
        else "the maker's for dense products in that precision"
    )
    said = [
        f"{finished} of {options.rounds} rounds are done; in each the engines take turns of about "
        f"{options.seconds:g} s, every library in processes of its own, of which one works at a "
        "time. Best and median are over rounds.",
        "Batches of 32 images for each network; together: networks (or heads) trained as one "
        "program. PyTorch and Keras train one after another. Images are in memory as uint8; ours "
        "interpolates two of them for each sample, as SMOTE does, the peers take one.",
        "First batch: seconds until the first one is done, compilation included"
        + ("." if platform == "cpu" else "; of ours several are compiled at a time."),
        f"Memory: {memory}. Of peak: operations of the model, counted from the shapes of its "
        f"layers (three times the way forward in training), in parts of the device's peak, {peak}.",
        "Times: in training in parts of the fastest peer, in ablation of the product. These, "
        "GFLOP/s, the share of the peak and all targets are of the best turns: what else a machine "
        "does only ever slows one down.",
    ]
    if any(line.case.task == "heads" for line in lines):
        said.append(
            f"A head is {paper.rows_of_head():,} rows: all epochs of the longest plan, "
            f"oversampling, of a partition of the paper's {paper.IMAGES:,} images. No head takes "
            "longer."
        )
    if any(line.engine.library == TORCH for line in lines):
        said.append(
            "PyTorch: timm's mobilenetv1_100 where timm is installed and the width is 1, else the "
            "same network of plain torch.nn; channels last. timm's pads odd maps on "
            "both sides, so that later maps are larger at 150 px; operations are counted as ours"
            + ("." if platform == "cpu" else ", autocast to bfloat16.")
        )
    if platform != "cpu":
        networks, passes = paper.study_networks()
        said.append(
            f"The whole study is extrapolated: {passes:,} image passes of stage 1, the features of "
            f"{paper.IMAGES:,} images of each of {networks} networks and {paper.study_heads()} "
            "heads, each at its best rate; reading, resampling and records are left out."
        )
    said += [
        f"{line.case.title}: {line.engine.title}, {line.engine.precision}, {line.engine.members} "
        f"together was {formats.times(line.best / line.middle)} faster in its best turn than in "
        "most: something else was at work on this machine."
        for line in unsteady(lines)
    ]
    return [*said, *missing, *failures(lines)]


def verdicts(found: Sequence[Target]) -> list[str]:
    """A line a target."""
    words = {True: "pass", False: "MISS", None: "open"}
    return [f"{words[target.passed]}  {target.text}: {target.measured}" for target in found]


def markdown(
    lines: Sequence[Line], found: Sequence[Target], said: Sequence[str], origin: Sequence[str]
) -> str:
    """The whole report as a Markdown document."""
    parts = []
    for title, part in _parts(lines).items():
        parts += [f"# {title}" if not parts else f"## {title}"]
        parts += [markdown_table(_rows(part), left=_LEFT)]
        if len(parts) == 2:
            parts += ["![items a second](training.svg)"]
    for title, texts in (
        ("Targets", verdicts(found)),
        ("How the numbers were taken", said),
        ("Where they are from", origin),
    ):
        if texts:
            parts += [f"## {title}", "\n".join(f"- {text}" for text in texts)]
    return "\n\n".join(parts) + "\n"


def frame(lines: Sequence[Line]) -> pd.DataFrame:
    """All numbers with all digits, a row a line."""
    return pd.DataFrame(
        {
            "task": line.case.task,
            "width": line.case.size.width,
            "pixels": line.case.size.pixels,
            **line.engine._asdict(),
            "unit": f"{line.case.unit}/s",
            "first_seconds": line.first,
            "best": line.best,
            "median": line.middle,
            "turns": line.turns,
            "flops_an_item": line.flops,
            "share_of_peak": line.share,
            "memory_bytes": line.bytes,
            "times": line.times,
            "failure": line.failure,
        }
        for line in lines
    )


def plot(lines: Sequence[Line]) -> bytes:
    """Items a second and memory as horizontal bars, as SVG."""
    done = [line for line in lines if line.middle is not None]
    rates, sizes = [line.best for line in done], [line.bytes or 0 for line in done]
    return draw_panels(
        [line.case.title for line in done],
        [_name(line.engine) for line in done],
        [_color(line.engine) for line in done],
        Panel("Images (or heads) a second, best turn", "1/s", rates, [_rate(r) for r in rates]),
        Panel("Memory", "bytes", sizes, [formats.size(line.bytes) for line in done]),
        salt="training",
    )


def _name(engine: Engine) -> str:
    members = f", {engine.members} together" if engine.members > 1 else ""
    return f"{engine.title}, {engine.precision}{members}"


def _color(engine: Engine) -> str:
    """Blue ours, light without a choice; orange PyTorch, green Keras."""
    if engine.library == OURS:
        return "#90b4dd" if engine.choice else "#2b6cb0"
    return "#dd6b20" if engine.library == TORCH else "#4c9f70"
