"""What a study's folder holds: read, checked and scored once for all parts of the report."""

import dataclasses
import os
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from twostage_jax.evaluation import paper
from twostage_jax.evaluation.conditions import Calibrated, Condition, calibrate_study
from twostage_jax.evaluation.names import class_titles
from twostage_jax.evaluation.statistics import find_proposed
from twostage_jax.evaluation.tables import Tables, find_approaches, make_tables
from twostage_jax.report.lettering import labels
from twostage_jax.report.looks import Look, make_looks
from twostage_jax.study.approaches import Approach
from twostage_jax.study.figure_data import (
    FigureFeatures,
    FigureImages,
    read_figure_data,
)
from twostage_jax.study.folder import Description, StudyFolder, read_description, read_records
from twostage_jax.study.record import Record, RecordKey
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import complete_settings


class Words(NamedTuple):
    """What a page calls the parts of a study."""

    partition: str
    fold: str


OF_RATIOS, AS_FOUND = Words("partition", "fold"), Words("split", "split")


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
    images: FigureImages | None
    features: FigureFeatures | None

    @cached_property
    def settings(self) -> dict:
        """The settings of the study, with the default of its day for each that it lacks."""
        return complete_settings(self.description.settings)

    @property
    def done(self) -> list[Record]:
        """The records that have scores."""
        return [record for record in self.records if record.status == "done"]

    @property
    def failed(self) -> list[Record]:
        """The records that have a reason instead of scores."""
        return [record for record in self.records if record.status == "failed"]

    @cached_property
    def missing(self) -> list[RecordKey] | None:
        """Keys of the study without a record; None if the folder does not list its keys."""
        if not self.description.records:
            return None
        return sorted(set(self.description.keys) - {record.key for record in self.records})

    @property
    def complete(self) -> bool:
        """Whether all records of the study are done."""
        return not self.failed and self.missing == []

    @property
    def scores(self) -> pd.DataFrame:
        """One row per record, see `tables.metrics_frame`."""
        return self.imbalanced.metrics

    @property
    def as_found(self) -> bool:
        """Whether the study leaves the classes as they are: each fold is one partition."""
        return self.imbalanced.as_found

    @property
    def words(self) -> Words:
        """What the page calls partitions and folds."""
        return AS_FOUND if self.as_found else OF_RATIOS

    @property
    def counted(self) -> pd.DataFrame:
        """The rows of `scores` that count, see `counting.counted`."""
        return self.imbalanced.counted

    @cached_property
    def counted_records(self) -> list[Record]:
        """The records of `counted`."""
        names = [field.name for field in dataclasses.fields(RecordKey)]
        keys = {*self.counted[names].itertuples(index=False, name=None)}
        return [record for record in self.done if dataclasses.astuple(record.key) in keys]

    @cached_property
    def calibrated(self) -> dict[str, dict[Condition, Calibrated]]:
        """The scores of the probabilities of each approach, see `conditions.calibrate_study`."""
        return calibrate_study(self.counted_records, self.counted, self.approaches)

    @cached_property
    def same_test_folds(self) -> bool:
        """Whether the imbalanced test folds are the whole ones."""
        return all(record.kept.all() for record in self.done)

    @property
    def approaches(self) -> dict[str, Approach]:
        """The approaches that have a score, in the order of tables."""
        return self.imbalanced.approaches

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each of `approaches`."""
        return {name: approach.title for name, approach in self.approaches.items()}

    @cached_property
    def class_titles(self) -> list[str]:
        """The title of each class, by label."""
        return class_titles(self.settings.get("classes", []))

    @cached_property
    def class_labels(self) -> list[str]:
        """How charts name each of `class_titles`."""
        return labels(self.class_titles, "label")

    @property
    def numbered_classes(self) -> str:
        """A sentence on the classes that charts number for want of letters; empty without any."""
        pairs = zip(self.class_labels, self.class_titles, strict=True)
        told = [
            f"{label} is {title}"
            for label, title in pairs
            if label.startswith("label ") and not title.startswith("label ")
        ]
        return f" No installed font has all letters: {', '.join(told)}." if told else ""

    @cached_property
    def looks(self) -> dict[str, Look]:
        """How charts show each of `approaches`."""
        return make_looks(self.approaches)

    @cached_property
    def proposed(self) -> str | None:
        """The approach that the verdict is about, see `statistics.find_proposed`."""
        return find_proposed(self.counted)

    def title(self, name: str) -> str:
        """The title of any approach, with or without a score."""
        return find_approaches([name], self.description.recipes)[name].title


def read_results(folder: Path) -> Results:
    """Reads a study's folder.

    Raises:
        InputError: no study lies there, a file is damaged, or records or figure data of another
            study are among those of this one.
        OSError: a file is unreadable.
    """
    description, paths = read_description(folder), StudyFolder(folder)
    if description is None:
        raise InputError(
            f"found no study.json in {folder}; expected the folder of a study, such as "
            "results/demo-digits; check the path"
        )
    # A folder that is not there yet is a study that has hardly begun; a dead link is an error.
    records = read_records(paths.records) if os.path.lexists(paths.records) else []
    for record in records:
        if record.settings_hash != description.settings_hash:
            raise InputError(
                f"record {record.key} has the settings {record.settings_hash[:12]}, study.json of "
                f"{folder} {description.settings_hash[:12]}; expected one study; keep each study "
                "in a folder of its own"
            )
    settings, counts = description.settings, description.class_counts
    why = paper.why_not_comparable(settings, counts, records, "imbalanced")
    make = partial(make_tables, records, expected=description.keys, recipes=description.recipes)
    return Results(
        description=description,
        records=records,
        imbalanced=make(why_absent=why),
        balanced=make(why_absent="the paper's test folds are imbalanced", test="balanced"),
        why_absent=why,
        images=read_figure_data(FigureImages, folder, description.settings_hash),
        features=read_figure_data(FigureFeatures, folder, description.settings_hash),
    )
