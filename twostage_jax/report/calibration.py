"""Section part: whether the probabilities of a study's approaches hold what they say."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from twostage_jax.evaluation.conditions import CONDITIONS, Calibrated, Condition
from twostage_jax.report import reliability, style
from twostage_jax.report.blocks import Block, Notice, Picture, Table, Text, make_table
from twostage_jax.report.looks import Look
from twostage_jax.report.results import Results
from twostage_jax.study.approaches import FAMILIES, Approach

Study = Mapping[str, Mapping[Condition, Calibrated]]
"""Approaches by name, each under the conditions for which enough is known."""

_OWN, _OWN_CORRECTED, _BALANCED, _BALANCED_CORRECTED = CONDITIONS
_RESAMPLED = ("image", "feature", "two-stage")
_NAMES = {"own": "own distribution", "balanced": "balanced distribution"}
_CORRECTION = (
    "By Bayes' rule, probabilities are divided by the class frequencies that were learned, "
    "multiplied by the others, and normalized. An approach whose learned frequencies are not known "
    "has none"
)


def blocks(results: Results) -> list[Block]:
    """Returns what resampling does to probabilities, and what a correction gives back."""
    found = {name: results.calibrated[name] for name in results.looks if name in results.calibrated}
    unit = results.words.partition
    if not found:
        return [Notice(f"No calibration yet: no {unit} has scores of all approaches.")]
    told = " ".join(sentences(found, results.approaches, results.words.fold))
    diagram = {name: own[_OWN].bins for name, own in found.items()}
    return [
        *([Text((told,))] if told else []),
        *(_table(results, found, name) for name in _NAMES),
        *([_changes(results, found)] if _is_corrected(found) else []),
        reliability.picture(diagram, results.looks, "Own distribution, as predicted. "),
        *([_best(results, found)] if _is_corrected(found) else []),
        reliability.bins_table(
            [
                (_names(name, results.titles[name], condition), calibrated.bins)
                for name, own in found.items()
                for condition, calibrated in own.items()
            ]
        ),
    ]


def sentences(found: Study, approaches: Mapping[str, Approach], fold: str) -> Iterator[str]:
    """Says by how much resampling spoils probabilities, and what the correction gives back.

    Nothing is said of what is not known.

    Args:
        found: approaches with their calibration.
        approaches: the same, by name.
        fold: the word for a fold.
    """
    plain = next((found[name] for name in found if approaches[name].is_plain), None)
    resampled = [own for name, own in found.items() if approaches[name].family in _RESAMPLED]
    if plain is None:
        return
    nll, ece = (getattr(plain[_OWN].scores, score) for score in ("nll", "ece"))
    if resampled:
        one = len(resampled) == 1
        have = (
            "approach that resamples has"
            if one
            else f"{len(resampled)} approaches that resample have"
        )
        yield (
            f"Under the class distribution of the test {fold}s, the {have} {_a(one)} NLL of "
            f"{_against(_median(resampled, _OWN, 'nll'), nll)} and {_a(one)} ECE of "
            f"{_against(_median(resampled, _OWN, 'ece'), ece)}."
        )
    if known := [own for own in resampled if _OWN_CORRECTED in own]:
        some = f"For {len(known)} of them" if len(known) < len(resampled) else "For these"
        before, after = (
            [_median(known, condition, score) for score in ("nll", "ece")]
            for condition in (_OWN, _OWN_CORRECTED)
        )
        yield (
            f"{some}, the learned class frequencies are known: a correction to those of the "
            f"training data takes the median NLL from {before[0]:.3f} to "
            f"{_against(after[0], nll)}, and the median ECE from {before[1]:.3f} to "
            f"{_against(after[1], ece)}."
        )
    if _BALANCED_CORRECTED in plain:
        before, after = (plain[condition].scores for condition in (_BALANCED, _BALANCED_CORRECTED))
        yield (
            "Under a balanced distribution, a correction to equal class frequencies takes the "
            f"baseline's NLL from {before.nll:.3f} to {after.nll:.3f} and its ECE from "
            f"{before.ece:.3f} to {after.ece:.3f}."
        )


def _a(one: bool) -> str:
    return "an" if one else "a median"


def _against(value: float, baseline: float) -> str:
    """Returns a score, and how far it is from the baseline's as predicted."""
    apart = round(value - baseline, 3)
    where = f"{abs(apart):.3f} {'above' if apart > 0 else 'below'}" if apart else "level with"
    return f"{value:.3f} ({where} the baseline's {baseline:.3f})"


def _median(own: list[Mapping[Condition, Calibrated]], condition: Condition, score: str) -> float:
    return float(np.median([getattr(one[condition].scores, score) for one in own]))


def _is_corrected(found: Study) -> bool:
    """Whether the learned class frequencies of any approach are known."""
    return any(condition.corrected for own in found.values() for condition in own)


def _names(name: str, title: str, condition: Condition) -> dict[str, str]:
    said = {"approach": name, "title": title, "distribution": condition.distribution}
    return said | {"corrected": "yes" if condition.corrected else "no"}


def scores_frame(found: Study, titles: Mapping[str, str], distribution: str) -> pd.DataFrame:
    """Returns one row per approach: all its scores under a distribution, before and after.

    Columns that end in `_corrected` are NaN where the learned class frequencies are not known. The
    column `gap` is confidence minus accuracy.

    Args:
        found: approaches with their calibration.
        titles: at least theirs, by name.
        distribution: `own` or `balanced`.
    """
    rows = []
    for name, own in found.items():
        row: dict[str, object] = {"approach": name, "title": titles[name]}
        for ending, is_corrected in (("", False), ("_corrected", True)):
            one = own.get(Condition(distribution, is_corrected))
            if one is not None:
                values = one.scores._asdict() | {"gap": one.scores.confidence - one.scores.accuracy}
                values |= {"nll_low": one.nll.low, "nll_high": one.nll.high}
                values |= {"ece_low": one.ece.low, "ece_high": one.ece.high}
                samples = values.pop("samples")
                row |= {f"{key}{ending}": value for key, value in values.items()}
                row["samples"] = samples
        rows.append(row)
    columns = [f"{key}{ending}" for key in _SCORES for ending in ("", "_corrected")]
    return pd.DataFrame(rows).reindex(columns=["approach", "title", *columns, "samples"])


_SCORES = (
    "nll",
    "brier",
    "ece",
    "gap",
    "nll_low",
    "nll_high",
    "ece_low",
    "ece_high",
    "confidence",
    "accuracy",
)


def _table(results: Results, found: Study, distribution: str) -> Table:
    corrected_to = {
        "own": "the class frequencies of the training data",
        "balanced": "equal class frequencies",
    }
    headings = {**reliability.HEADINGS, "brier": "Brier", "gap": "Gap"}
    starred = {f"{name}_corrected": f"{title}*" for name, title in headings.items()}
    printed = [f"{name}{ending}:4" for name in headings for ending in ("", "_corrected")]
    meaning, how = "Columns as above.", "."
    if distribution == "own":
        meaning = f"{reliability.MEANING} Gap: confidence minus accuracy."
        how = f". {_CORRECTION} (-)."
    return make_table(
        "calibration" if distribution == "own" else "calibration-balanced",
        f"Calibration of the probabilities, {_NAMES[distribution]}",
        f"{meaning} *: after a correction to {corrected_to[distribution]}{how} "
        f"{_where(results, distribution)} The CSV file has intervals, too, made as those of the "
        "scores; class weights are those of the whole sample in every resample.",
        scores_frame(found, results.titles, distribution),
        " ".join(["title", *printed, "samples:0"]),
        {"title": "Approach", **headings, **starred},
    )


def _where(results: Results, distribution: str) -> str:
    """Says which samples a table covers."""
    if results.as_found:
        if distribution == "own":
            return "Pooled over all test images of all splits."
        return (
            "The same test images as above, weighted so that all classes count alike. The few "
            "images of rare classes weigh much, so that these numbers are noisier."
        )
    rest = "all partitions above ratio 1 on which every approach has a score"
    if distribution == "own":
        return (
            f"Pooled over the imbalanced test folds of {rest}; an image counts once per partition."
        )
    return (
        f"Pooled over the whole test folds of {rest}, weighted so that all classes count alike. "
        "Whole folds have more samples of rare classes than imbalanced ones and therefore less "
        "noise."
    )


def _changes(results: Results, found: Study) -> Picture:
    return Picture(
        "calibration",
        "Calibration before and after the correction",
        "ECE and NLL of each approach; lower is better. Filled: as predicted. Open: corrected to "
        "the class frequencies of the distribution; hidden where that changes nothing. Vertical "
        "line: the baseline as predicted.",
        draw_changes(found, results.looks),
    )


def draw_changes(found: Study, looks: Mapping[str, Look]) -> Figure:
    """Draws ECE and NLL before and after the correction, one row per approach.

    Args:
        found: approaches with their calibration.
        looks: how to draw each of them.
    """
    figure, (panels,) = style.grid(1, 4, 1.0 + 0.2 * len(found), sharey=True)
    kinds = [(score, name) for score in ("ece", "nll") for name in _NAMES]
    for panel, (score, distribution) in zip(panels, kinds, strict=True):
        for y, (name, own) in enumerate(found.items()):
            look = looks[name]
            before, after = (
                getattr(own[condition].scores, score) if condition in own else np.nan
                for condition in CONDITIONS
                if condition.distribution == distribution
            )
            drawn = {"color": look.color, "marker": look.marker, "markersize": 5}
            panel.plot([before, after], [y, y], color=look.color, linewidth=1)
            panel.plot(after, y, **drawn, markerfacecolor="white")
            panel.plot(before, y, **drawn)
            if look.family == "baseline":
                panel.axvline(before, color="#999999", linewidth=0.8, zorder=0)
        panel.set(title=f"{score.upper()}, {distribution}")
        panel.set_xlim(0, 1.06 * panel.dataLim.xmax)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(found)), [looks[name].title for name in found])
    panels[0].set_ylim(len(found) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", linestyle="", color="#444444", markerfacecolor=fill)
        for fill in ("#444444", "white")
    ]
    figure.legend(handles, ["as predicted", "corrected"], loc="outside lower center", ncols=2)
    return figure


def _best(results: Results, found: Study) -> Picture:
    """Returns the reliability diagram of the best of each family under every condition."""
    means = results.imbalanced.ranking.table.query("metric == 'AvAcc'").set_index("approach")
    families = {
        family: [n for n in found if results.looks[n].family == family] for family in FAMILIES
    }
    best = [max(own, key=means["mean"].__getitem__) for own in families.values() if own]
    titles = {False: "as predicted", True: "corrected"}
    panels = [
        [
            (
                f"{title}, {titles[is_corrected]}",
                {
                    name: found[name][condition].bins
                    for name in best
                    if (condition := Condition(distribution, is_corrected)) in found[name]
                },
            )
            for is_corrected in (False, True)
        ]
        for distribution, title in _NAMES.items()
    ]
    return Picture(
        "reliability-corrected",
        "Reliability before and after the correction",
        f"The best of each family by mean AvAcc. {reliability.READING} Distributions and "
        "correction are those of the tables.",
        reliability.draw_conditions(panels, results.looks),
    )
