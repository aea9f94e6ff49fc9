"""Writes the report: `report/index.html` in a study's folder, its SVG and CSV files beside it."""

import os
from pathlib import Path

from twostage_jax.evaluation.sheets import csv
from twostage_jax.report import (
    as_found,
    calibration,
    confusion,
    costs,
    learning,
    paper_figures,
    precision,
    provenance,
    ranks,
    scores,
    style,
    verdict,
)
from twostage_jax.report.blocks import Block, Section
from twostage_jax.report.own_files import publish, require_inside
from twostage_jax.report.rendering import encode, render_page
from twostage_jax.report.results import Results, read_results
from twostage_jax.study.folder import StudyFolder


def write_report(
    folder: str | os.PathLike[str],
    *,
    refresh: int | None = None,
    beside: str | os.PathLike[str] | None = None,
) -> Path:
    """Writes the report of a study as far as it has come; equal folders give equal bytes.

    Of the files in the report's folder, only those that an earlier drawing wrote are removed.

    Args:
        folder: the study's folder, with `study.json` and `records`.
        refresh: seconds after which a browser loads the page again while the study is not
            complete; None for never.
        beside: the folder of a study that differs in precision only, for a section on what that
            changes; None for no such section.

    Returns:
        The path of the page.

    Raises:
        InputError: no study lies there, or one that is damaged or mixed with another; `beside`
            is no such study, or has no partition in common with this one; the style of an
            approach cannot be drawn; a symbolic link leads out of the study's folder.
        OSError: the disk is full, the folder is read-only, ...; each file is whole or untouched.
    """
    target = StudyFolder(folder).report
    require_inside(target)  # before the minute that a large study takes to draw
    results = read_results(Path(folder))
    other = None if beside is None else precision.read_beside(results, Path(beside))
    files = render(results, None if results.complete else refresh, other)
    publish(target, encode(files))
    return target / "index.html"


def render(results: Results, refresh: int | None, other: Results | None = None) -> dict[str, str]:
    """Returns the files of the report: name and text.

    `other` is the study that differs in precision only, if there is one to compare with.
    """
    data = results.description.source or results.settings["dataset"]
    subject = "Approaches compared" if results.as_found else "Two-stage resampling"
    with style.quiet([*results.class_labels, *(look.title for look in results.looks.values())]):
        sections = as_found.sections(results) if results.as_found else _sections(results)
        if other is not None:
            sections.insert(-1, precision.section(results, other))  # provenance stays last
        files = render_page(
            sections,
            kind="as found" if results.as_found else "study",
            title=f"{subject} on {data}",
            status=_status(results),
            refresh=refresh,
        )
    return {"metrics.csv": csv(results.scores), **files}


def _sections(results: Results) -> list[Section]:
    """Returns the sections of a study of several ratios, as the paper's is."""
    return [
        verdict.section(results),
        paper_figures.section(results),
        _beyond_paper(results),
        provenance.section(results),
    ]


def _beyond_paper(results: Results) -> Section:
    """Returns what the records hold and the paper does not print."""
    blocks: list[Block] = []
    if len(results.counted):
        blocks += [*ranks.blocks(results), *scores.blocks(results), *calibration.blocks(results)]
    if results.done:
        blocks += [confusion.block(results), learning.curves(results)]
    blocks.append(learning.feature_map(results))
    if results.done:
        blocks += costs.blocks(results)
    return Section("beyond", "What the paper does not have", blocks)


def _status(results: Results) -> str:
    """Returns in one sentence how much of the study is there."""
    done, failed = len(results.done), len(results.failed)
    if results.missing is None:
        return f"{done:,} records done, {failed} failed; the folder does not say how many to expect"
    if results.complete:
        return f"complete: {done:,} records"
    total = done + failed + len(results.missing)
    return f"partial: {done:,} of {total:,} records done, {failed} failed"
