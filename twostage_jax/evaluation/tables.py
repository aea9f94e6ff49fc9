"""The paper's two tables, from records: as CSV, as Markdown and for the screen.

The paper's own numbers stand beside ours only where the caller vouches that the two may be
compared: every function that prints takes `why_absent`, None when data set, network, image size
and protocol are the paper's, else the reason (one line) printed in place of its numbers.
"""

import contextlib
import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import rich.console
import rich.table
from rich.text import Text

from twostage_jax.evaluation import metrics, paper
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.record import ALL_SCENARIOS, Record, RecordKey
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically

TESTS = ("imbalanced", "balanced")
METRICS = ("AvAcc", "CBA", "MAvG")  # of the two tables; accuracy is in the frame of metrics only

_KEY = [field.name for field in dataclasses.fields(RecordKey)]
_TABLE1_APPROACHES = tuple(APPROACHES)[:4]
_TABLE1_ROW = ["scenario", "imbalance_ratio", "metric"]


Matrices = dict[RecordKey, metrics.Matrix]


def confusion_matrices(records: Iterable[Record], test: str = "imbalanced") -> Matrices:
    """Counts the test samples of every finished record; failed ones are left out.

    Args:
        records: of one study, in any order.
        test: `imbalanced` counts the samples that the imbalanced test fold keeps, `balanced`
            the whole test fold.

    Returns:
        The confusion matrix of each key, sorted by key.

    Raises:
        InputError: an unknown `test`, two records of one key, or a record without samples there.
    """
    require_known("test fold", test, TESTS)
    done = sorted((r for r in records if r.status == "done"), key=lambda record: record.key)
    for a, b in itertools.pairwise(done):
        if a.key == b.key:
            raise InputError(f"found two records of {a.key.path}; expected one; drop the other")
    return {record.key: _confusion_matrix(record, test) for record in done}


def _confusion_matrix(record: Record, test: str) -> metrics.Matrix:
    scored = record.kept if test == "imbalanced" else slice(None)
    predictions = record.probabilities[scored].argmax(axis=1)
    with _naming(record.key):
        classes = len(record.class_counts)
        return metrics.confusion_matrix(record.label[scored], predictions, classes)


def metrics_frame(matrices: Matrices) -> pd.DataFrame:
    """Scores confusion matrices.

    Args:
        matrices: as `confusion_matrices` returns them.

    Returns:
        A row a record, in their order: scenario, ratio, fold, approach, AvAcc, CBA, MAvG, Acc.

    Raises:
        InputError: a class without test samples.
    """
    rows = []
    for key, matrix in matrices.items():
        with _naming(key):
            rows.append((*dataclasses.astuple(key), *metrics.scores(matrix)))
    return pd.DataFrame(rows, columns=[*_KEY, *metrics.Scores._fields])


@contextlib.contextmanager
def _naming(key: RecordKey) -> Iterator[None]:
    """Says in an error which record it is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"record {key.path}: {error}") from error


def table1(frame: pd.DataFrame) -> pd.DataFrame:
    """Table I: means over the folds, for the baseline and resampling in the image space.

    Args:
        frame: as `metrics_frame` returns it.

    Returns:
        The columns of `paper.table1`, less approaches that `frame` lacks: scenario,
        imbalance_ratio, metric, a column an approach. Rows in the paper's order; ratio 1 is not
        among them. A cell without any record is NaN.
    """
    long = _long(frame[frame["approach"].isin(_TABLE1_APPROACHES)])
    long = long.rename(columns={"ratio": "imbalance_ratio"})
    wide = long.pivot_table(
        index=_TABLE1_ROW, columns="approach", values="score", aggfunc="mean", observed=True
    )
    return _plain(wide.reset_index())


class Ranking(NamedTuple):
    """Table II and the partitions that it rests on."""

    table: pd.DataFrame
    """The columns of `paper.table2`: approach, metric, mean, average_rank (1 is best)."""
    partitions: int
    """Partitions in which every approach has a score: these count."""
    incomplete: int
    """Partitions in which some approach has none: these do not."""


def table2(frame: pd.DataFrame) -> Ranking:
    """Table II: mean and average rank of every approach, over the complete partitions.

    Approaches are ranked within each (scenario, ratio, fold) by descending score, equal scores
    share the mean of their ranks, and the ranks are averaged. A partition is complete when all
    approaches of `frame` have a score there; ratio 1 does not count.

    Args:
        frame: as `metrics_frame` returns it.
    """
    wide = _long(frame).pivot(
        index=["metric", "scenario", "ratio", "fold"], columns="approach", values="score"
    )
    complete = wide.dropna()
    # Equal scores summed in another order differ in the last bit: they are ties nevertheless.
    ranks = complete.round(12).rank(axis=1, ascending=False)
    columns = {
        name: values.groupby("metric", observed=False).mean().T.stack()
        for name, values in (("mean", complete), ("average_rank", ranks))
    }
    return Ranking(
        table=_plain(pd.DataFrame(columns).reset_index()),
        partitions=len(complete) // len(METRICS),
        incomplete=(len(wide) - len(complete)) // len(METRICS),
    )


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns a row a (record, metric) above ratio 1; categories carry the paper's order."""
    long = frame[frame["ratio"] > 1].melt(
        id_vars=_KEY, value_vars=METRICS, var_name="metric", value_name="score"
    )
    for name, order in (
        ("scenario", ALL_SCENARIOS),
        ("approach", tuple(APPROACHES)),
        ("metric", METRICS),
    ):
        long[name] = pd.Categorical(long[name], order)
    return long


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame with strings in place of categories."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis="columns")
    categories = frame.select_dtypes("category").columns
    return frame.astype(dict.fromkeys(categories, "str"))


class Tables(NamedTuple):
    """All that is reported of a study."""

    matrices: Matrices
    """See `confusion_matrices`."""
    metrics: pd.DataFrame
    """See `metrics_frame`."""
    table1: pd.DataFrame
    ranking: Ranking
    notes: tuple[str, ...]
    """Sentences: how many records there are, how they were scored, what is missing and why."""
    beside_paper: bool
    """Whether the paper's numbers are printed beside ours."""


def make_tables(
    records: Collection[Record],
    *,
    expected: Collection[RecordKey],
    why_absent: str | None,
    test: str = "imbalanced",
) -> Tables:
    """Computes both tables.

    Args:
        records: of one study, done and failed, in any order.
        expected: every unit of the study; those without a record are counted as missing.
        why_absent: None to print the paper's numbers beside ours, else the reason not to.
        test: the test fold to score, see `confusion_matrices`.

    Raises:
        InputError: records of different settings, or what `confusion_matrices` and
            `metrics_frame` refuse.
    """
    hashes = Counter(record.settings_hash for record in records)
    if len(hashes) > 1:
        found = ", ".join(f"{name} ({count} records)" for name, count in hashes.most_common())
        raise InputError(
            f"found records of {len(hashes)} settings: {found}; expected one study; "
            "keep each study in a folder of its own"
        )
    matrices = confusion_matrices(records, test)
    frame = metrics_frame(matrices)
    ranking = table2(frame)
    failed = Counter(r.reason.strip().splitlines()[0] for r in records if r.status == "failed")
    missing = len(set(expected) - {record.key for record in records})
    notes = [
        f"Records: {len(frame)} done, {failed.total()} failed, {missing} missing.",
        *(f"Failed, {count} of them: {reason}" for reason, count in failed.most_common()),
        f"Scores are of the {test} test folds.",
        f"Table II: {ranking.table['approach'].nunique()} approaches ranked on "
        f"{ranking.partitions} partition{'s' * (ranking.partitions != 1)}.",
    ]
    if ranking.incomplete:
        notes.append(
            f"Table II: {ranking.incomplete} more left out because an approach has no score there."
        )
    if missing or failed:
        notes.append("Table I: where folds are missing, a mean is over the folds that are there.")
    if why_absent is not None:
        notes.append(f"The paper's numbers are not shown: {why_absent}")
    return Tables(matrices, frame, table1(frame), ranking, tuple(notes), why_absent is None)


def write_tables(
    folder: str | os.PathLike[str],
    records: Collection[Record],
    *,
    expected: Collection[RecordKey],
    why_absent: str | None,
    test: str = "imbalanced",
) -> Tables:
    """Writes `metrics.csv`, `table1.csv`, `table2.csv` and `tables.md` into `folder`.

    Scores of the tables have four decimals and ranks two, as printed in the paper; metrics.csv
    has all digits. Returns what was written. Arguments and errors are those of `make_tables`.

    Raises:
        InputError: see `make_tables`.
        OSError: the disk is full, the folder is read-only, ...; each file is whole or untouched.
    """
    tables = make_tables(records, expected=expected, why_absent=why_absent, test=test)
    scores = tables.table1.columns.difference(_TABLE1_ROW)
    texts = {
        "metrics.csv": csv(tables.metrics, {}),
        "table1.csv": csv(tables.table1, dict.fromkeys(scores, 4)),
        "table2.csv": csv(tables.ranking.table, {"mean": 4, "average_rank": 2}),
        "tables.md": markdown(tables),
    }
    for name, text in texts.items():
        write_atomically(Path(folder) / name, text.encode())
    return tables


def csv(frame: pd.DataFrame, decimals: dict[str, int]) -> str:
    """Returns the frame as CSV, some columns with fixed decimals; NaN is an empty field."""
    printed = {
        name: frame[name].map(lambda value, n=n: f"{value:.{n}f}", na_action="ignore")
        for name, n in decimals.items()
    }
    return frame.assign(**printed).to_csv(index=False, lineterminator="\n")


def markdown(tables: Tables) -> str:
    """Returns both tables and the notes as a Markdown document; best scores are bold."""
    parts = []
    for sheet in sheets(tables):
        rows = [
            list(sheet.header),
            ["---"] * sheet.labels + ["---:"] * (len(sheet.header) - sheet.labels),
            *([f"**{cell.text}**" if cell.best else cell.text for cell in r] for r in sheet.rows),
        ]
        lines = ("| " + " | ".join(row) + " |" for row in rows)
        parts.append(f"## {sheet.title}\n\n" + "\n".join(lines) + "\n")
    parts.append("\n".join(f"- {note}" for note in tables.notes) + "\n")
    return "\n".join(parts)


def screen(tables: Tables) -> rich.console.Group:
    """Returns both tables and the notes for `rich.print`; best scores are bold."""
    parts: list[rich.console.RenderableType] = []
    for sheet in sheets(tables):
        table = rich.table.Table(title=sheet.title, title_justify="left")
        for i, name in enumerate(sheet.header):
            table.add_column(name, justify="left" if i < sheet.labels else "right", no_wrap=True)
        for row in sheet.rows:
            table.add_row(*(Text(cell.text, "bold" if cell.best else "") for cell in row))
        parts.append(table)
    return rich.console.Group(*parts, *map(Text, tables.notes))


class Cell(NamedTuple):
    """One printed cell; the best of its row or column is to stand out."""

    text: str
    best: bool = False


class Sheet(NamedTuple):
    """One table as it is printed: the first `labels` columns name the row."""

    title: str
    header: list[str]
    labels: int
    rows: list[list[Cell]]


def sheets(tables: Tables) -> tuple[Sheet, Sheet]:
    """Both tables as they are printed."""
    return (
        _table1_sheet(tables.table1, paper.table1() if tables.beside_paper else None),
        _table2_sheet(tables.ranking.table, paper.table2() if tables.beside_paper else None),
    )


def _table1_sheet(ours: pd.DataFrame, published: pd.DataFrame | None) -> Sheet:
    """The best of each row is bold; each column of ours is followed by the paper's, if any."""
    ours = ours.set_index(_TABLE1_ROW)
    tables, header = [ours], ["Scenario", "IR", "Metric"]
    if published is not None:
        tables.append(published.set_index(_TABLE1_ROW).reindex(ours.index)[ours.columns])
    for name in ours.columns:
        header += [APPROACHES[name].title, "paper"][: len(tables)]
    rows = []
    for row in ours.index:
        scenario, ratio, metric = row
        labels = (Cell(scenario.replace("_", " ")), Cell(f"{ratio:g}"), Cell(metric))
        pairs = zip(*(_cells(table.loc[row]) for table in tables), strict=True)
        rows.append([*labels, *(cell for pair in pairs for cell in pair)])
    return Sheet("Table I: means over the folds", header, 3, rows)


def _table2_sheet(ours: pd.DataFrame, published: pd.DataFrame | None) -> Sheet:
    """The best mean of each metric is bold; each column of ours is followed by the paper's."""
    tables = {"ours": ours} if published is None else {"ours": ours, "paper": published}
    approaches = ours["approach"].unique()
    header, columns = ["Approach"], []
    for metric in METRICS:
        for whose, table in tables.items():
            part = table[table["metric"] == metric].set_index("approach").reindex(approaches)
            header.append(metric if whose == "ours" else whose)
            columns.append(_cells(part["mean"], part["average_rank"]))
    rows = [
        [Cell(APPROACHES[name].title), *cells]
        for name, *cells in zip(approaches, *columns, strict=True)
    ]
    return Sheet("Table II: means (and average ranks) over the partitions", header, 1, rows)


def _cells(scores: pd.Series, ranks: pd.Series | None = None) -> list[Cell]:
    """Returns printed scores, with ranks if given; all that print like the best are best."""
    printed = ["" if pd.isna(score) else f"{score:.4f}" for score in scores]
    best = max(printed, default="")  # in [0, 1] and of one length: strings compare as numbers
    suffixes = [""] * len(printed) if ranks is None else [f" ({rank:.2f})" for rank in ranks]
    return [
        Cell(text + suffix, best=text == best) if text else Cell("-")
        for text, suffix in zip(printed, suffixes, strict=True)
    ]
