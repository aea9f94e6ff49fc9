"""The rows of a forecast and its files, which a repeated command completes."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.forecast.compiling import Entry, Found, Job
from experiments.forecast.devices import devices
from experiments.forecast.programs import Setting
from experiments.forecast.targets import versions
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically
from twostage_jax.training.trainer import MOST_MEMBERS, SHARE_OF_MEMORY

COLUMNS = (
    "target",
    "precision",
    "program",
    "members",
    "compiles",
    "kernels_per_step",
    "MB_per_image",
    "GFLOP_per_image",
    "Mcycles_per_step",
    "temporary_GB",
    "images_per_second_bound",
    "study_hours_bound",
    "cost_bound",
    "members_that_fit",
    "memory_GB",
    "compiled_in_s",
    "reason",
    "setting",
    "compiler",
    "digest",
)
_KEY = COLUMNS[:4]
STUDY = "study"
"""The program of rows that add up all others."""

Row = dict[str, str]


def make_row(job: Job, digest: str, found: Found | str, setting: Setting) -> Row:
    """What the compiler said of a job: what it found, or why it failed in one line."""
    row = dict.fromkeys(COLUMNS, "") | dict(zip(_KEY, (*_by_name(job),), strict=True))
    device = devices()[job.target]
    compiler = versions(device.kind) if digest else ""
    row |= {"setting": str(setting), "compiler": compiler, "digest": digest}
    if isinstance(found, str):
        return row | {"compiles": "no", "reason": found}
    over = found.total - device.memory
    numbers = {
        "kernels_per_step": found.kernels,
        "MB_per_image": found.bytes / found.samples / 1e6,
        "GFLOP_per_image": found.operations / found.samples / 1e9,
        "Mcycles_per_step": found.cycles / 1e6 if device.clock else None,
        "temporary_GB": found.temporary / 1e9,
        "images_per_second_bound": found.samples / found.seconds,
        "memory_GB": found.total / 1e9,
        "compiled_in_s": found.compiled_in,
    }
    row |= {name: _text(number) for name, number in numbers.items()}
    reason = f"takes {over / 1e9:.3g} GB more than the device has" if over > 0 else ""
    return row | {"compiles": "yes", "reason": reason}


def _by_name(job: Job) -> tuple[str, str, str, str]:
    return job.target, job.precision, job.program, job.members


def _text(number: float | None) -> str:
    return "" if number is None else f"{number:.6g}"


def number(row: Row, column: str) -> float | None:
    """A number of a row; None where there is none."""
    return float(row[column]) if row[column] else None


class Table:
    """The rows of a folder, by job, and the largest kernels of each."""

    def __init__(self, folder: Path, setting: Setting):
        """Reads what is there.

        Raises:
            InputError: it is a forecast of another setting, or no forecast.
            OSError: it cannot be read.
        """
        self.folder, self._setting = folder, setting
        self.rows: dict[Job, Row] = {}
        self.largest: dict[Job, list[Entry]] = {}
        for row in _read(folder / "forecast.csv", COLUMNS):
            if row["setting"] != str(setting):
                raise InputError(
                    f"{folder} holds a forecast of {row['setting']}, one of {setting} expected; "
                    "name another folder with --output"
                )
            if row["program"] != STUDY:
                self.rows[_job(row)] = row
        for row in _read(folder / "largest.csv", (*_KEY, *Entry._fields)):
            names = [row[name] for name in Entry._fields]
            self.largest.setdefault(_job(row), []).append(Entry(*names[:3], *map(int, names[3:])))

    def is_done(self, job: Job, digest: str) -> bool:
        """Whether the same program was compiled, or failed to compile, before."""
        return job in self.rows and self.rows[job]["digest"] == digest != ""

    def is_kept(self, job: Job) -> bool:
        """Whether a compiler said something of a job, now or before, perhaps in another place."""
        return job in self.rows and self.rows[job]["digest"] != ""

    def put(self, job: Job, digest: str, found: Found | str) -> None:
        """Adds or replaces the row of a job."""
        self.rows[job] = make_row(job, digest, found, self._setting)
        self.largest[job] = [] if isinstance(found, str) else found.largest

    def finished(self, work: Mapping[str, float], price: float | None) -> list[Row]:
        """All rows with hours and costs, and one of the whole study after those that make it up."""
        rows = [finish_row(row, work, price) for row in self.rows.values()]
        fit = {key: members_that_fit(own, self._setting) for key, own in _stage1(rows).items()}
        for row in rows:
            if row["program"] == "stage1":
                row["members_that_fit"] = fit[row["target"], row["precision"]]
        return sorted([*rows, *study_rows(rows, work, price)], key=_order)

    def write(self, rows: Sequence[Row]) -> None:
        """Writes both CSV files.

        Raises:
            OSError: the disk is full, the folder is read-only, ...
        """
        _write(self.folder / "forecast.csv", COLUMNS, rows)
        entries = [
            dict(zip(_KEY, _by_name(job), strict=True)) | entry._asdict()
            for job, own in self.largest.items()
            for entry in own
        ]
        _write(self.folder / "largest.csv", (*_KEY, *Entry._fields), entries)


def finish_row(row: Row, work: Mapping[str, float], price: float | None) -> Row:
    """The row with the hours that the study's work takes at least, and what they cost."""
    rate = number(row, "images_per_second_bound")
    hours = None if rate is None or row["reason"] else work[row["program"]] / rate / 3600
    return row | _priced(hours, price)


def _priced(hours: float | None, price: float | None) -> Row:
    cost = None if hours is None or price is None else hours * price
    return {"study_hours_bound": _text(hours), "cost_bound": _text(cost)}


def study_rows(rows: Sequence[Row], work: Mapping[str, float], price: float | None) -> list[Row]:
    """One row per target, precision and members for which all programs of the study are there."""
    needed = [program for program, samples in work.items() if samples]
    hours = {_job(row): number(row, "study_hours_bound") for row in rows}
    found = []
    for row in rows:
        if row["program"] != "stage1":
            continue
        job = _job(row)
        parts = [
            hours.get(job._replace(program=program), hours.get(_for_all(job, program)))
            for program in needed
        ]
        known = [part for part in parts if part is not None]
        if len(known) == len(needed):
            own = dict.fromkeys(COLUMNS, "") | {name: row[name] for name in (*_KEY, "setting")}
            own |= {"program": STUDY, "compiles": "yes"} | _priced(sum(known), price)
            rate = work["stage1"] / sum(known) / 3600
            found.append(own | {"images_per_second_bound": _text(rate)})
    return found


def _for_all(job: Job, program: str) -> Job:
    return Job(job.target, "any", program, "any")


def _stage1(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row["program"] == "stage1":
            found.setdefault((row["target"], row["precision"]), []).append(row)
    return found


def members_that_fit(rows: Sequence[Row], setting: Setting) -> str:
    """How many networks the trainer would train at a time, from rows of stage 1 that compiled.

    A member takes what memory grows by between the fewest and the most members that are there; of
    a single row, what its memory has beside the images.
    """
    taken = {int(row["members"]): size for row in rows if (size := number(row, "memory_GB"))}
    if not taken:
        return ""
    fewest, most = min(taken), max(taken)
    if most > fewest:
        each = (taken[most] - taken[fewest]) / (most - fewest)
    else:
        each = (taken[most] - setting.images * 3 * setting.pixels**2 / 1e9) / most
    shared = taken[most] - most * each
    free = devices()[rows[0]["target"]].memory / 1e9 - shared
    return str(max(0, min(int(SHARE_OF_MEMORY * free / each), MOST_MEMBERS)))


def _job(row: Mapping[str, str]) -> Job:
    return Job(*(row[name] for name in _KEY))


def _order(row: Row) -> tuple:
    targets = list(devices())
    members = int(row["members"]) if row["members"].isdigit() else 0
    return targets.index(row["target"]), row["precision"], members, row["program"] == STUDY


def _read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if not path.exists():
        return []
    reader = csv.DictReader(io.StringIO(path.read_text()))
    if reader.fieldnames != list(columns):
        raise InputError(
            f"{path} is no forecast of this version ({len(columns)} columns expected); move it "
            "away, or name another folder with --output"
        )
    return list(reader)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
