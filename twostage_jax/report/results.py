"""What a study's folder holds, read, checked and scored once for all parts of the report."""

import dataclasses
from functools import cached_property
from pathlib import Path

import pandas as pd

from twostage_jax.evaluation import paper
from twostage_jax.evaluation.tables import Tables, make_tables
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.description import Description, read_description
from twostage_jax.study.exhibit import (
    FeatureExhibit,
    ImageExhibit,
    read_feature_exhibit,
    read_image_exhibit,
)
from twostage_jax.study.record import Record, RecordKey, read_records
from twostage_jax.support.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Results:
    """A study as far as it has come."""

    description: Description
    records: list[Record]
    """Done and failed, sorted by key."""
    imbalanced: Tables
    """Scores on the test folds that carry the imbalance, as in the paper."""
    balanced: Tables
    """Scores on the whole test folds."""
    why_absent: str | None
    """Why the paper's numbers do not belong beside these, None if they do."""
    images: ImageExhibit | None
    features: FeatureExhibit | None

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.description.settings["classes"]

    @property
    def done(self) -> list[Record]:
        """The records that have scores."""
        return [record for record in self.records if record.status == "done"]

    @property
    def failed(self) -> list[Record]:
        """The records that have a reason instead."""
        return [record for record in self.records if record.status == "failed"]

    @cached_property
    def missing(self) -> list[RecordKey] | None:
        """What the study is to cover and has no record of; None where the folder does not say."""
        if not self.description.records:
            return None
        expected = {RecordKey.from_path(Path(path)) for path in self.description.records}
        return sorted(expected - {record.key for record in self.records})

    @property
    def complete(self) -> bool:
        """Whether all that the study is to cover is done."""
        return not self.failed and self.missing == []

    @property
    def scores(self) -> pd.DataFrame:
        """A row a record, see `tables.metrics_frame`."""
        return self.imbalanced.metrics

    @property
    def approaches(self) -> list[str]:
        """Those that have a score, in the paper's order."""
        there = set(self.scores["approach"])
        return [name for name in APPROACHES if name in there]


def read_results(folder: Path) -> Results:
    """Reads a study's folder.

    Raises:
        InputError: no study lies there, a file is damaged, or records or exhibits of another
            study are among those of this one.
        OSError: a file is unreadable.
    """
    description = read_description(folder)
    if description is None:
        raise InputError(
            f"found no study.json in {folder}; expected the folder of a study, such as "
            "results/demo-synthetic; check the path"
        )
    records = read_records(folder / "records") if (folder / "records").exists() else []
    for record in records:
        if record.settings_hash != description.settings_hash:
            raise InputError(
                f"record {record.key.path} has the settings {record.settings_hash[:12]}, "
                f"study.json of {folder} {description.settings_hash[:12]}; expected one study; "
                "keep each study in a folder of its own"
            )
    settings, counts = description.settings, description.class_counts
    why = paper.why_not_comparable(settings, counts, records, "imbalanced")
    keys = {RecordKey.from_path(Path(path)) for path in description.records}
    return Results(
        description=description,
        records=records,
        imbalanced=make_tables(records, expected=keys, why_absent=why),
        balanced=make_tables(
            records, expected=keys, why_absent="the paper's test folds are not", test="balanced"
        ),
        why_absent=why,
        images=read_image_exhibit(folder, description.settings_hash),
        features=read_feature_exhibit(folder, description.settings_hash),
    )
