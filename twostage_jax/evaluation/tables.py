"""Tables in the form of the paper's two: computed from records, as CSV, Markdown and on a screen.

The paper's own numbers stand beside ours only where the two may be compared. Functions take
`why_absent`: None if data set, network, image size and protocol are the paper's, else the reason
(one line), which is printed in place of the paper's numbers.
"""

import contextlib
import dataclasses
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pandas as pd
import rich.console
from rich.text import Text

from twostage_jax.evaluation import metrics, paper
from twostage_jax.evaluation.counting import counted, is_as_found
from twostage_jax.evaluation.names import readable
from twostage_jax.evaluation.sheets import Cell, Sheet, csv, to_markdown, to_rich
from twostage_jax.study.approaches import FAMILIES, Approach, Stage1, find, position
from twostage_jax.study.record import ALL_SCENARIOS, Record, RecordKey
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically

TESTS = ("imbalanced", "balanced")
METRICS = ("AvAcc", "CBA", "MAvG")  # of both tables; plain accuracy is in `metrics_frame` only

_KEY = [field.name for field in dataclasses.fields(RecordKey)]
_TABLE1_ROW = ["scenario", "imbalance_ratio", "metric"]

Matrices = dict[RecordKey, metrics.Matrix]


def find_approaches(
    names: Iterable[str], recipes: Mapping[str, Approach] = MappingProxyType({})
) -> dict[str, Approach]:
    """Returns approaches by name, in the order of tables, whether or not they are registered.

    Args:
        names: names of approaches.
        recipes: recipes that the study's folder holds (`Description.recipes`); they come first.
            A name without a recipe there is looked up in the registry. Where that lacks it, too,
            the approach is one of the family `other` whose network is shared with no other.
    """
    found = {}
    for name in sorted(set(names), key=position):
        try:
            found[name] = recipes.get(name) or find(name)
        except InputError:
            found[name] = Approach(name, title=name, family="other", stage1=Stage1(name))
        # A data frame cannot hold what UTF-8 cannot, and a recipe of study.json can.
        if (title := readable(found[name].title)) != found[name].title:
            found[name] = dataclasses.replace(found[name], title=title)
        if found[name].family not in FAMILIES:  # of a newer version
            found[name] = dataclasses.replace(found[name], family="other")
    return found


def confusion_matrices(records: Iterable[Record], test: str = "imbalanced") -> Matrices:
    """Counts the test samples of every finished record; failed records are left out.

    Args:
        records: records of one study, in any order.
        test: `imbalanced` counts the samples that the imbalanced test fold keeps, `balanced`
            counts the whole test fold.

    Returns:
        The confusion matrix of each key, sorted by key.

    Raises:
        InputError: an unknown `test`, two records of one key, or a record without samples there.
    """
    require_known("test fold", test, TESTS)
    matrices: Matrices = {}
    for record in sorted(records, key=lambda record: record.key):
        if record.key in matrices:
            raise InputError(f"found two records of {record.key}; expected one; drop the other")
        if record.status == "done":
            scored = record.kept if test == "imbalanced" else slice(None)
            predictions = record.probabilities[scored].argmax(axis=1)
            with _naming(record.key):
                matrices[record.key] = metrics.confusion_matrix(
                    record.label[scored], predictions, len(record.class_counts)
                )
    return matrices


def metrics_frame(matrices: Matrices) -> pd.DataFrame:
    """Scores confusion matrices.

    Args:
        matrices: as `confusion_matrices` returns them.

    Returns:
        One row per record, in their order: scenario, ratio, fold, approach, AvAcc, CBA, MAvG, Acc.

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
    """Adds the name of the record to an error."""
    try:
        yield
    except InputError as error:
        raise InputError(f"record {key}: {error}") from error


def table1(frame: pd.DataFrame, approaches: Mapping[str, Approach]) -> pd.DataFrame:
    """Computes Table I: means over the folds, for the baseline and resampling of images.

    Args:
        frame: as `metrics_frame` returns it; only the rows that count are used.
        approaches: the approaches of `frame`, by name.

    Returns:
        Columns scenario, imbalance_ratio, metric and one per approach of the families `baseline`
        and `image`; rows in the paper's order. A cell without any record is NaN.
    """
    own = [name for name, a in approaches.items() if a.family in ("baseline", "image")]
    long = _long(frame).rename(columns={"ratio": "imbalance_ratio"})
    long = long[long["approach"].isin(own)]
    wide = long.pivot_table("score", _TABLE1_ROW, "approach", aggfunc="mean", observed=True)
    return _plain(wide.reset_index())


class Ranking(NamedTuple):
    """Table II and the number of partitions that it is computed from."""

    table: pd.DataFrame
    """The columns of `paper.table2`: approach, metric, mean, average_rank (1 is best)."""
    partitions: int
    """Complete partitions, those in which every approach has a score; only they count."""
    incomplete: int
    """Partitions in which some approach has no score."""


def table2(frame: pd.DataFrame) -> Ranking:
    """Computes Table II: mean and average rank of every approach, over the complete partitions.

    Approaches are ranked within each (scenario, ratio, fold) by descending score. Equal scores
    share the mean of their ranks. A partition is complete if all approaches of `frame` have a
    score there.

    Args:
        frame: as `metrics_frame` returns it; only the rows that count are used.
    """
    wide = _long(frame).pivot(
        index=["metric", "scenario", "ratio", "fold"], columns="approach", values="score"
    )
    complete = wide.dropna()
    # Equal scores that were summed in another order differ in the last bit; they are ties.
    ranks = complete.round(12).rank(axis=1, ascending=False)
    columns = {
        name: pd.DataFrame(values.groupby("metric", observed=False).mean()).T.stack()
        for name, values in (("mean", complete), ("average_rank", ranks))
    }
    return Ranking(
        table=_plain(pd.DataFrame(columns).reset_index()),
        partitions=len(complete) // len(METRICS),
        incomplete=(len(wide) - len(complete)) // len(METRICS),
    )


def _long(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns one row per (record that counts, metric); categories carry the tables' order."""
    long = counted(frame).melt(_KEY, METRICS, "metric", "score")
    approaches = sorted(set(long["approach"]), key=position)
    orders = {"scenario": ALL_SCENARIOS, "approach": approaches, "metric": METRICS}
    return long.assign(**{name: pd.Categorical(long[name], orders[name]) for name in orders})


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Returns the frame with strings instead of categories."""
    frame = frame.set_axis([str(name) for name in frame], axis="columns")
    return frame.astype(dict.fromkeys(frame.select_dtypes("category"), "str"))


class Tables(NamedTuple):
    """All that is reported of a study."""

    approaches: dict[str, Approach]
    """The approaches that have a score, in the order of tables."""
    matrices: Matrices
    metrics: pd.DataFrame
    """As `metrics_frame` returns it."""
    table1: pd.DataFrame
    ranking: Ranking
    notes: tuple[str, ...]
    """Sentences: how many records there are, how they were scored, what is missing and why."""
    beside_paper: bool
    """Whether the paper's numbers are printed beside ours."""
    as_found: bool
    """Whether the study leaves the classes as they are (`counting.is_as_found`). It then has no
    Table I, and its partitions are called splits."""
    counted: pd.DataFrame
    """The rows of `metrics` that count."""


def make_tables(
    records: Collection[Record],
    *,
    expected: Collection[RecordKey],
    why_absent: str | None,
    recipes: Mapping[str, Approach] = MappingProxyType({}),
    test: str = "imbalanced",
) -> Tables:
    """Computes both tables.

    Args:
        records: records of one study, done and failed, in any order.
        expected: keys of all records of the study; those without a record are counted as missing.
        why_absent: None to print the paper's numbers beside ours, else the reason not to.
        recipes: recipes that the study's folder holds, see `find_approaches`.
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
    approaches = find_approaches(frame["approach"], recipes)
    as_found, own = is_as_found(frame, expected), counted(frame, expected)
    ranking = table2(own)
    failed = Counter(r.reason.strip().splitlines()[0] for r in records if r.status == "failed")
    missing = len(set(expected) - {record.key for record in records})
    notes = [
        f"Records: {len(frame)} done, {failed.total()} failed, {missing} missing.",
        *(f"Failed, {count} of them: {reason}" for reason, count in failed.most_common()),
    ]
    if not as_found:
        notes.append(f"Scores are computed on the {test} test folds.")
    notes += _ranked(
        ranking, "split" if as_found else "partition", "" if as_found else "Table II: "
    )
    if (missing or failed) and not as_found:
        notes.append("Table I: where folds are missing, means are over the folds that are there.")
    if why_absent is not None and not as_found:
        notes.append(f"The paper's numbers are not shown: {why_absent}")
    beside = why_absent is None and not as_found
    one = table1(own, approaches)
    return Tables(approaches, matrices, frame, one, ranking, tuple(notes), beside, as_found, own)


def _ranked(ranking: Ranking, unit: str, table: str) -> Iterator[str]:
    """Says over how many partitions approaches are ranked, and how many are left out."""
    _, complete, incomplete = ranking
    yield (
        f"{table}{ranking.table['approach'].nunique()} approaches ranked on "
        f"{complete} {unit}{'s' * (complete != 1)}."
    )
    if incomplete:
        yield (
            f"{table}{incomplete} more {unit}{'s' * (incomplete != 1)} left out because an "
            "approach has no score there."
        )


def write_tables(folder: str | os.PathLike[str], tables: Tables) -> None:
    """Writes `metrics.csv`, `table1.csv`, `table2.csv` and `tables.md` into `folder`.

    A study of the data as they are has no `table1.csv`. Scores of the tables have four decimals
    and ranks two, as in the paper; metrics.csv has all digits.

    Raises:
        OSError: the disk is full, the folder is read-only, ...; each file is whole or untouched.
    """
    texts = {
        "metrics.csv": csv(tables.metrics),
        "table2.csv": csv(tables.ranking.table, {"mean": 4, "average_rank": 2}),
        "tables.md": markdown(tables),
    }
    if not tables.as_found:
        scores = tables.table1.columns.difference(_TABLE1_ROW)
        texts["table1.csv"] = csv(tables.table1, dict.fromkeys(scores, 4))
    for name, text in texts.items():
        write_atomically(Path(folder) / name, text.encode(errors="backslashreplace"))


def markdown(tables: Tables) -> str:
    """Returns the tables and the notes as a Markdown document; best scores are bold."""
    notes = "\n".join(f"- {note}" for note in tables.notes) + "\n"
    return "\n".join([*map(to_markdown, sheets(tables)), notes])


def screen(tables: Tables) -> rich.console.Group:
    """Returns the tables and the notes for `rich.print`; best scores are bold."""
    return rich.console.Group(*map(to_rich, sheets(tables)), *map(Text, tables.notes))


def sheets(tables: Tables) -> tuple[Sheet, ...]:
    """Returns both tables as they are printed; of data as they are, the second alone."""
    both = _table1_sheet(tables), _table2_sheet(tables)
    return both[1:] if tables.as_found else both


def _table1_sheet(made: Tables) -> Sheet:
    """The best of each row is bold; each column of ours is followed by the paper's, if any."""
    ours = made.table1.set_index(_TABLE1_ROW)
    tables, header = [ours], ["Scenario", "IR", "Metric"]
    if made.beside_paper:
        published = paper.table1().set_index(_TABLE1_ROW)
        tables.append(published.reindex(ours.index, columns=ours.columns))
    for name in ours.columns:
        header += [made.approaches[name].title, "paper"][: len(tables)]
    rows = []
    for row in ours.index:
        scenario, ratio, metric = row
        labels = (Cell(scenario.replace("_", " ")), Cell(f"{ratio:g}"), Cell(metric))
        pairs = zip(*(_cells(table.loc[row]) for table in tables), strict=True)
        rows.append([*labels, *(cell for pair in pairs for cell in pair)])
    return Sheet("Table I: means over the folds", header, 3, rows)


def _table2_sheet(made: Tables) -> Sheet:
    """The best mean of each metric is bold; each column of ours is followed by the paper's."""
    tables = [made.ranking.table, *([paper.table2()] if made.beside_paper else [])]
    approaches = made.ranking.table["approach"].unique()
    header, columns = ["Approach"], []
    for metric in METRICS:
        header += [metric, "paper"][: len(tables)]
        for table in tables:
            part = table[table["metric"] == metric].set_index("approach").reindex(approaches)
            columns.append(_cells(part["mean"], part["average_rank"]))
    rows = [
        [Cell(made.approaches[name].title), *cells]
        for name, *cells in zip(approaches, *columns, strict=True)
    ]
    title = "Table II: means (and average ranks) over the partitions"
    if made.as_found:
        title = "Approaches: means (and average ranks) over the splits"
    return Sheet(title, header, 1, rows)


def _cells(scores: Iterable, ranks: Iterable | None = None) -> list[Cell]:
    """Returns printed scores, with ranks if given; all that print like the best are best."""
    printed = ["" if pd.isna(score) else f"{score:.4f}" for score in scores]
    best = max(printed, default="")  # in [0, 1] and equally long, so that they sort as numbers
    suffixes = [""] * len(printed) if ranks is None else [f" ({rank:.2f})" for rank in ranks]
    return [
        Cell(text + suffix, best=text == best) if text else Cell("-")
        for text, suffix in zip(printed, suffixes, strict=True)
    ]
