"""The Markdown document of a forecast."""

from collections.abc import Mapping, Sequence

from experiments.benchmarks.document import digits
from experiments.forecast.compiling import Entry, Job
from experiments.forecast.devices import devices
from experiments.forecast.table import Row, Table, number

_SHOWN = {
    "target": "Target",
    "precision": "Precision",
    "program": "Program",
    "members": "Members",
    "compiles": "Compiles",
    "kernels_per_step": "Kernels per step",
    "MB_per_image": "MB per image",
    "GFLOP_per_image": "GFLOP per image",
    "Mcycles_per_step": "Mcycles per step",
    "temporary_GB": "Temporary, GB",
    "members_that_fit": "Members that fit",
    "images_per_second_bound": "Images/s, at most",
    "study_hours_bound": "Study, hours at least",
    "cost_bound": "Study, cost at least",
}
_TEXTS = 5  # columns that are no numbers

NOTES = (
    "These are bounds, not forecasts of time, and nothing was measured. Programs were compiled for "
    "each device by its own compiler on a machine without it, and read.",
    "A kernel takes at least its traffic at full bandwidth, its operations at their peak, and a "
    "launch; the kernels of a step run one after another. Of a TPU, the cycles that its compiler "
    "expects count as well, at the clock that `devices.toml` assumes. The device may be slower by "
    "any factor: clocks under load, occupancy, caches that are missed, the host and the input are "
    "not in it. It may be faster where caches save traffic: traffic counts as if none did.",
    "GPU programs were compiled without autotuning, which needs the device and may choose faster "
    "products.",
    "An image of `stage1` and `features` is an image of one network, of `heads` a feature vector "
    "of one head, of the neighbor searches a query against the points of a tile; there are three "
    "heads per network. GFLOP count what the program computes, with what it computes twice.",
    "The hours are those of the work alone: images per epoch without padding, all groups full, "
    "heads with their longest plans. Compilation, samplers on the host, checkpoints and records "
    "are not in them. Rows `study` add up all programs.",
    "Members that fit: what the trainer would choose, from the growth of the planned memory per "
    "member, four fifths of the device's memory, and at most 40.",
)


def document(
    table: Table, rows: Sequence[Row], work: Mapping[str, float], origin: Sequence[str]
) -> str:
    """The table, what it means, the largest kernels per target, the devices, and the origin."""
    counted = "; ".join(f"{name} {digits(samples)}" for name, samples in work.items())
    notes = [*NOTES, f"Images of the whole study: {counted}.", *failures(rows)]
    parts = ["# Forecast", markdown(rows), "## What the numbers are and are not", bullets(notes)]
    parts += largest_parts(table)
    parts += ["## The devices", bullets(device_lines({row["target"] for row in rows}))]
    said = {
        f"{name.capitalize()}: {row[name]}": 0
        for name in ("setting", "compiler")
        for row in rows
        if row[name]
    }
    parts += [
        "## Where they are from",
        bullets([*said, *origin]),
    ]
    return "\n\n".join(parts) + "\n"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; columns without any number are left out."""
    shown = {name: title for name, title in _SHOWN.items() if any(row[name] for row in rows)}
    lines = [list(shown.values()), ["---"] * _TEXTS + ["---:"] * (len(shown) - _TEXTS)]
    for row in rows:
        texts = [row[name] for name in list(shown)[:_TEXTS]]
        lines.append([*texts, *(digits(number(row, name)) for name in list(shown)[_TEXTS:])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def bullets(sentences: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def failures(rows: Sequence[Row]) -> list[str]:
    """Why programs do not compile or do not fit, each reason once."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["reason"]:
            job = Job(*(row[name] for name in Job._fields))
            reasons.setdefault(row["reason"], []).append(str(job))
    return [
        f"{jobs[0]}{f' and {len(jobs) - 1} more' if jobs[1:] else ''}: {reason}."
        for reason, jobs in reasons.items()
    ]


def largest_parts(table: Table) -> list[str]:
    """The largest kernels of the first training program that compiled, per target."""
    parts, seen = [], set()
    for job, entries in table.largest.items():
        if job.program == "stage1" and entries and job.target not in seen:
            seen.add(job.target)
            parts += [f"## Largest kernels: {job}", largest_table(entries)]
    return parts


def largest_table(entries: Sequence[Entry]) -> str:
    """Kernels as a Markdown table; numbers are per step."""
    lines = [["Kernel", "From", "Makes", "MB", "GFLOP", "Mcycles"], ["---"] * 3 + ["---:"] * 3]
    for entry in entries:
        numbers = entry.bytes / 1e6, entry.operations / 1e9, entry.cycles / 1e6
        texts = [f"`{name}`" if name else "" for name in entry[:3]]
        lines.append([*texts, *map(digits, numbers)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def device_lines(targets: set[str]) -> list[str]:
    """The numbers of the devices and where they are from."""
    return [
        f"{name}, {device.name}: {device.memory / 1e9:g} GB, {device.bandwidth / 1e9:,g} GB/s; "
        + "; ".join(f"{what}: {source}" for what, source in device.sources.items())
        for name, device in devices().items()
        if name in targets
    ]
