"""Which partitions count: those above ratio 1, or all of a study of the data as they are."""

from collections.abc import Iterable

import pandas as pd

from twostage_jax.data.partition import PartitionKey
from twostage_jax.study.record import RecordKey


def is_as_found(frame: pd.DataFrame, expected: Iterable[RecordKey | PartitionKey] = ()) -> bool:
    """Says whether a study leaves its classes as they are: it has no partition above ratio 1.

    A study that has hardly begun may have no score above ratio 1 yet; what it is to cover tells.

    Args:
        frame: as `tables.metrics_frame` returns it.
        expected: keys of all records of the study, present or not.
    """
    return {*frame["ratio"], *(key.ratio for key in expected)} == {1.0}


def counted(frame: pd.DataFrame, expected: Iterable[RecordKey | PartitionKey] = ()) -> pd.DataFrame:
    """Returns the rows that tables, figures and tests are about.

    They are the rows above ratio 1, because at ratio 1 a study of several ratios trains the
    baseline alone. A study of the data as they are has ratio 1 only, and all of it counts.

    Args:
        frame: as `tables.metrics_frame` returns it.
        expected: keys of all records of the study, present or not.
    """
    return frame if is_as_found(frame, expected) else frame.loc[lambda own: own["ratio"] > 1]
