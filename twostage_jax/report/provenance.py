"""Section: where the numbers come from (settings, commands, data), and what is absent."""

from collections import Counter

import pandas as pd

from twostage_jax.evaluation.names import readable
from twostage_jax.evaluation.tables import find_approaches
from twostage_jax.report.blocks import Block, Notice, Section, Table, Text, make_table
from twostage_jax.report.charts import title_of
from twostage_jax.report.results import Results
from twostage_jax.study.wording import about, count_trained, source

_SILENT = "silent"


SETTINGS = {
    "image_size": ("image height and width (pixels)", "150 x 150"),
    "weights": ("initial weights (SHA-256 of the file, or random)", "ImageNet"),
    "network": ("backbone", "MobileNet"),
    "width": ("width multiplier of the network's channels", "1.0, not named"),
    "epochs": ("epochs, in each stage", "20"),
    "head_epochs": ("epochs of stage 2, where they differ", "20"),
    "batch_size": ("samples per step; the last, partial batch is kept", "32"),
    "learning_rate": ("RMSprop's step size, in both stages", "0.0001"),
    "decay": ("RMSprop's decay", _SILENT),
    "epsilon": ("RMSprop's epsilon", _SILENT),
    "epsilon_in_root": ("epsilon inside the root (Keras 3), not outside (Keras 2)", _SILENT),
    "bn_momentum": ("momentum of the batch statistics", _SILENT),
    "k_neighbors": ("neighbors that over-samplers interpolate towards", "5"),
    "fresh_head": ("stage 2 starts from a new head, not from stage 1's", "False: fine-tune"),
    "precision": ("precision of products and activations", _SILENT),
    "splits": ("parts that the images are dealt to, each tested once", "10"),
    "groups": (
        "images that stay together, such as a patient's (SHA-256 of their ids, or none)",
        _SILENT,
    ),
    "seed": ("seed of every random stream", _SILENT),
}
"""What a record depends on: each setting in words, and the paper's value of it.

The data (`dataset`, `fingerprint` and `classes`) are not among them.
"""

FIXED = {
    "folds": "stratified, shuffled; keyed by file name",
    "class order": "one random order per fold, shared by all scenarios and ratios, as in the paper",
    "nesting": "a class keeps the first n / r images of one random order per fold",
    "test folds": "carry the partition's imbalance; the whole folds are scored beside them",
    "model choice": "the last epoch; no validation set",
    "regularization": "no dropout, no weight decay, no augmentation",
    "batch normalization": "stage 1 trains all layers in training mode; features in inference mode",
    "stage 2": "trains on features of the original images; the optimizer starts afresh",
    "interpolated images": "real numbers, not rounded, never wrapped around at 256",
    "MAvG": "0 where one recall is 0",
    "ties": "equal scores share the mean of their ranks",
}
"""What the program does in one way only, where the paper leaves it open."""


FIXED_AS_FOUND = {
    "splits": "stratified by class, shuffled, groups kept together; keyed by file name",
    "test images": "all images of a split that are not for training; classes as found",
    **{name: FIXED[name] for name in [*FIXED][4:]},
}
"""The same for data as they are."""


def section(results: Results) -> Section:
    """Returns everything that a reader needs to repeat the study."""
    description = results.description
    settings = results.settings
    counts = description.class_counts
    data = (
        f"Data: {settings['dataset']} ({description.source}), {sum(counts):,} images of "
        f"{len(settings['classes'])} classes, {min(counts)} to {max(counts)} per class. "
        f"Fingerprint of images, labels and names: {settings['fingerprint']}."
        if counts
        else f"Data: {settings['dataset']}, fingerprint {settings['fingerprint']}."
    )
    text = [data, f"Settings: SHA-256 {description.settings_hash}; every record holds it."]
    text += [f"Command: {command}" for command in description.commands]
    text += _machines(results)
    blocks: list[Block] = [*_gaps(results), Text(tuple(text)), _approaches(results)]
    blocks.append(_settings(results))
    blocks.append(
        make_table(
            "choices",
            "Choices that are not options",
            "What this program does in one way only."
            if results.as_found
            else "What the paper leaves open, wholly or in part, and this program does in one way "
            "only.",
            pd.DataFrame(
                (FIXED_AS_FOUND if results.as_found else FIXED).items(), columns=["point", "choice"]
            ),
            "point choice",
            {"choice": "What is done"},
        )
    )
    return Section("provenance", "Provenance", blocks)


def _machines(results: Results) -> list[str]:
    """Returns one sentence per device and versions, with its number of records."""
    made = Counter(
        (record.device, ", ".join(f"{name} {v}" for name, v in sorted(record.versions.items())))
        for record in results.records
    )
    return [
        f"Made on: {device}, with {versions} ({count} records)."
        for (device, versions), count in made.most_common()
    ]


def _gaps(results: Results) -> list[Block]:
    """Returns which records are missing or failed."""
    blocks: list[Block] = []
    if results.missing is None:
        blocks.append(
            Notice(
                "study.json does not list the records of this study because an earlier version "
                "made it. Missing records cannot be told; run the study's last command again to "
                "add the list."
            )
        )
    rows = [(key, "missing", "") for key in results.missing or []]
    rows += [(record.key, "failed", readable(record.reason)) for record in results.failed]
    if not rows:
        if results.missing == []:
            blocks.append(Text((f"All {len(results.done):,} records are there and done.",)))
        return blocks
    approaches = find_approaches({key.approach for key, *_ in rows}, results.description.recipes)
    cells: dict[tuple, list[str]] = {}
    for key, *why in sorted(rows):
        cell = (title_of(key.scenario), f"{key.ratio:g}", approaches[key.approach].title, *why)
        cells.setdefault(cell, []).append(str(key.fold))
    names = ["scenario", "ratio", "approach", "state", "reason", "fold"]
    frame = pd.DataFrame([(*c, ", ".join(folds)) for c, folds in cells.items()], columns=names)
    blocks.append(
        make_table(
            "gaps",
            "Records that are missing or failed",
            "The same command computes these records, and only these, when it is run again.",
            frame,
            f"{'' if results.as_found else 'scenario ratio '}approach fold state reason",
            {"ratio": "IR", "fold": f"{results.words.fold.capitalize()}s"},
            folded=len(cells) > 12,
        )
    )
    return blocks


def _approaches(results: Results) -> Table:
    """Returns what each approach does and where it comes from."""
    rows = [
        (name, results.titles[name], about(own), source(own), *count_trained([own]))
        for name, own in results.approaches.items()
    ]
    return make_table(
        "approaches",
        "The approaches",
        "The last two columns count the networks and heads that an approach trains per "
        f"{results.words.partition} beyond the baseline's network; approaches with the same "
        "images, loss and mixing share a network. Heads work on features that were computed once, "
        "with the batch statistics of stage 1; where published code lets them move in its second "
        "stage, the text says so.",
        pd.DataFrame(rows, columns=["approach", "title", "about", "source", "networks", "heads"]),
        "title approach about source networks:0 heads:0",
        {"title": "Approach", "approach": "Name", "about": "What it does"},
        folded=len(rows) > 12,
    )


def _settings(results: Results) -> Table:
    settings = results.settings
    # A setting that this version does not know is shown as well.
    others = settings.keys() - SETTINGS.keys() - {"dataset", "fingerprint", "classes"}
    rows = [
        (name, meaning, _short(settings.get(name, "-")), its)
        for name, (meaning, its) in (SETTINGS | dict.fromkeys(sorted(others), ("-", "-"))).items()
    ]
    if results.as_found:
        own = [row[:3] for row in rows]
        return make_table(
            "settings",
            "Settings",
            "Every option that a record depends on.",
            pd.DataFrame(own, columns=["setting", "meaning", "value"]),
            "setting meaning value",
        )
    return make_table(
        "settings",
        "Settings, and what the paper says",
        "Every option that a record depends on. Silent: the paper does not say.",
        pd.DataFrame(rows, columns=["setting", "meaning", "value", "paper"]),
        "setting meaning value paper",
        {"value": "Used here", "paper": "The paper"},
    )


def _short(value) -> str:
    """Returns a setting as printed; of a checksum, the first 16 digits are enough."""
    text = readable(" x ".join(map(str, value)) if isinstance(value, list) else str(value))
    return f"{text[:16]}..." if len(text) > 32 else text
