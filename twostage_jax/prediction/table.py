"""Tables of predictions as CSV, JSON and Parquet, written row by row."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

import numpy as np

from twostage_jax.evaluation.sheets import as_text
from twostage_jax.prediction.stream import Prediction
from twostage_jax.support.errors import InputError

Row = list[str | int | float | None]
Write = Callable[[Prediction], None]

_ROWS = 8192  # of a row group of Parquet


class Layout:
    """The columns of a table of predictions.

    They are `filename`, `label` and `prob`, then `label2`, `prob2` and so on, then one per class if
    wanted, and `reason`. They depend on the model and on what is asked for, never on the images.
    """

    def __init__(self, classes: Sequence[str | int], topk: int = 1, per_class: bool = False):
        """Names the columns.

        Args:
            classes: labels in the order of the probabilities.
            topk: how many labels there are per image, the most probable first.
            per_class: adds the probability of each class. A column is called as its class, followed
                by `(class)` where another one has that name.

        Raises:
            InputError: `topk` is not between 1 and the number of classes.
        """
        if not 1 <= topk <= len(classes):
            raise InputError(
                f"--topk {topk} found, 1 to {len(classes)} expected for a model of {len(classes)} "
                "classes"
            )
        integers = all(type(name) is int for name in classes)
        self.labels = list(classes) if integers else [str(name) for name in classes]
        self.topk = topk
        self.per_class = per_class
        ranks = ["", *map(str, range(2, topk + 1))]
        self.header = ["filename", *(f"{part}{n}" for n in ranks for part in ("label", "prob"))]
        taken = {*self.header, "reason"}
        for label in self.labels if per_class else ():
            name = str(label)
            while name in taken:
                name += " (class)"
            taken.add(name)
            self.header.append(name)
        self.header.append("reason")

    def row(self, prediction: Prediction) -> Row:
        """The values of the columns; None where there is nothing to say."""
        if prediction.probabilities is None:
            return [prediction.name, *[None] * (len(self.header) - 2), prediction.reason]
        order = np.argsort(-prediction.probabilities, kind="stable")[: self.topk]
        # The shortest number that is the same float32.
        probabilities = [float(str(value)) for value in prediction.probabilities]
        row: Row = [prediction.name]
        for label in order:
            row += [self.labels[label], probabilities[label]]
        return [*row, *(probabilities if self.per_class else []), None]


@contextmanager
def _csv(file: BinaryIO, layout: Layout) -> Iterator[Write]:
    """Fields as `sheets.csv` writes them: no spreadsheet takes one for a formula."""

    def put(fields: Sequence[object]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(map(as_text, fields))
        file.write(line.getvalue().encode())

    put(layout.header)
    yield lambda prediction: put(layout.row(prediction))


@contextmanager
def _json(file: BinaryIO, layout: Layout) -> Iterator[Write]:
    """A list of objects, one per line."""
    start = "[\n"

    def write(prediction: Prediction) -> None:
        nonlocal start
        values = dict(zip(layout.header, layout.row(prediction), strict=True))
        text = start + json.dumps(values, ensure_ascii=False)
        # The bytes of a name that are not UTF-8 become `\udcXX`, which JSON reads back as they are.
        file.write(text.encode("utf-8", "backslashreplace"))
        start = ",\n"

    yield write
    file.write(b"[]\n" if start == "[\n" else b"\n]\n")


@contextmanager
def _parquet(file: BinaryIO, layout: Layout) -> Iterator[Write]:
    import pyarrow as pa
    from pyarrow import parquet

    integers = all(isinstance(label, int) for label in layout.labels)
    label = pa.int64() if integers else pa.string()
    count = len(layout.header) - 2 * layout.topk - 2
    kinds = [
        pa.string(),
        *[label, pa.float32()] * layout.topk,
        *[pa.float32()] * count,
        pa.string(),
    ]
    schema = pa.schema(
        [(_utf8(name), kind) for name, kind in zip(layout.header, kinds, strict=True)]
    )
    rows: list[Row] = []
    with parquet.ParquetWriter(file, schema) as writer:

        def flush() -> None:
            columns = zip(*rows, strict=True)
            arrays = [pa.array(map(_utf8, c), k) for c, k in zip(columns, kinds, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows.clear()

        def write(prediction: Prediction) -> None:
            rows.append(layout.row(prediction))
            if len(rows) == _ROWS:
                flush()

        yield write
        if rows:
            flush()


def _utf8(value: object) -> object:
    r"""A text with `\udcXX` for bytes that are not UTF-8; any other value as it is."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


FORMATS: dict[str, Callable[[BinaryIO, Layout], AbstractContextManager[Write]]] = {
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
"""Ways to write a table. Each takes an open file and gives the function that writes one row."""
