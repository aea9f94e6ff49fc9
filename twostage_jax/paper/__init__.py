"""The published numbers: tables I and II of the paper, as printed (four and two decimals)."""

import importlib.resources

import pandas as pd


def table1() -> pd.DataFrame:
    """Returns Table I: means over ten folds.

    Columns: scenario, imbalance_ratio, metric, then one a compared approach (baseline, is_rus,
    is_ros, is_smote); 36 rows.
    """
    return _read("table1.csv")


def table2() -> pd.DataFrame:
    """Returns Table II: means and average ranks over 120 partitions.

    Columns: approach, metric, mean, average_rank; 27 rows.
    """
    return _read("table2.csv")


def _read(name: str) -> pd.DataFrame:
    with importlib.resources.files(__package__).joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file)
