"""The paper's published numbers: its tables I and II as printed (four and two decimals).

This is the only place, besides the fixed styles of its approaches, that knows the paper's names.
"""

import dataclasses
import importlib.resources
from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from twostage_jax.data.folds import Splitting
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS, partition_keys
from twostage_jax.study.approaches import PAPER
from twostage_jax.study.record import Record, RecordKey
from twostage_jax.training.protocol import Protocol, complete_settings

PROPOSED = "ts_smote_rus"
"""The approach that the paper proposes."""


def table1() -> pd.DataFrame:
    """Returns Table I: means over ten folds.

    Columns: scenario, imbalance_ratio, metric, then one per compared approach (baseline, is_rus,
    is_ros, is_smote); 36 rows.
    """
    return _read("table1.csv")


def table2() -> pd.DataFrame:
    """Returns Table II: means and average ranks over 120 partitions.

    Columns: approach, metric, mean, average_rank; 27 rows.
    """
    return _read("table2.csv")


def why_not_comparable(
    settings: Mapping, class_counts: Sequence[int], records: Iterable[Record], test: str
) -> str | None:
    """Returns why these numbers do not belong beside a study's, or None if they do.

    Args:
        settings: settings of the study, as its records hold them; one that is missing means the
            default of its day.
        class_counts: images of each class of its data set.
        records: records of the study.
        test: the test fold that is scored, `imbalanced` or `balanced`.
    """
    settings = complete_settings(settings)
    protocol = dataclasses.asdict(Protocol())
    partitions = partition_keys(SCENARIOS, RATIOS[1:], FOLDS)
    its_records = {RecordKey(*key, approach) for key in partitions for approach in PAPER}
    done = {record.key for record in records if record.status == "done" and record.key.ratio > 1}
    checks = {
        "the data set": settings.get("dataset") == "colorectal_histology"
        and list(class_counts) == [625] * 8,
        "the image size": list(settings.get("image_size", ())) == [150, 150],
        "the folds": all(settings[name] == its for name, its in Splitting().all_settings.items()),
        "the initial weights": settings.get("weights", "random") != "random",
        "the partitions and approaches that are done": done == its_records,
        "the balance of the test folds": test == "imbalanced",
    }
    checks |= {name: settings[name] == protocol[name] for name in protocol if name != "seed"}
    wrong = [name for name, same in checks.items() if not same]
    return f"this study differs from the paper's in {', '.join(wrong)}" if wrong else None


def _read(name: str) -> pd.DataFrame:
    with importlib.resources.files(__name__).joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file)
