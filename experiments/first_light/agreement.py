"""Training on the device beside float32 on the CPU, in every form of the layers and precision.

The product's own programs run: a training step of two networks of different weights, one after the
other on a CPU and lifted on an accelerator, and the extraction of features.
"""

import dataclasses
import itertools
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints

import jax
import numpy as np
import optax
import pandas as pd

from experiments.benchmarks import document
from experiments.first_light import part
from twostage_jax.models.forms import Forms, fastest_forms
from twostage_jax.resampling.plan import DevicePlan
from twostage_jax.training.lifting import Lifted, replicate
from twostage_jax.training.protocol import PRECISIONS, Protocol
from twostage_jax.training.steps import Stages, Tally

_PLATFORMS = ("cpu", "gpu", "tpu")
_MEMBERS, _BATCH, _CLASSES, _IMAGES, _PADDING = 2, 16, 5, 24, 3

# Widths and sides of the images: small, and deep enough for every layer to have pixels.
_TINY = "tiny"
_NETWORKS = {_TINY: (1.0, 33), "mobilenet_v1": (0.25, 64)}

# Bounds of relative errors. The floors are ten units in the last place of the products. What
# bfloat16 loses on the CPU says what rounding does to a network; tf32 has three more bits.
_FLOORS = {"float32": 1e-4, "tf32": 1e-3, "bfloat16": 1e-2}
_TIMES_BFLOAT16 = {"float32": 0.0, "tf32": 0.5, "bfloat16": 3.0}
# Rounding that opens or closes a single ReLU6 shows in all gradients below it: forms differ by 2 %
# on a CPU in float32. In bfloat16 nothing is left of such gradients of a random network.
_DEEP_GRADIENT = 0.1
# Arrays of smaller gradients, in shares of the whole one, have no digits but rounding.
_NEGLIGIBLE = 1e-3


@dataclasses.dataclass(frozen=True)
class Options(part.Options):
    """Compares training on the device with float32 on the CPU."""

    networks: tuple[Literal["tiny", "mobilenet_v1"], ...] = ("tiny", "mobilenet_v1")
    """tiny has two layers, in which gradients have digits in every precision."""
    precisions: tuple[Literal["float32", "tf32", "bfloat16"], ...] = PRECISIONS
    """Precisions of products and activations; tf32 is float32 on a CPU and left out there."""
    changed: bool = True
    """Compute the forms with one choice changed, too."""


class Case(NamedTuple):
    """What is computed: a network in a precision and in forms."""

    network: str
    precision: str
    forms: Forms


Results = dict[str, list[np.ndarray]]
"""The arrays of each quantity, float32."""


def changed_forms(forms: Forms) -> list[Forms]:
    """These forms with one choice changed, in every way."""
    found = []
    for name, kind in get_type_hints(Forms).items():
        choices = (False, True) if kind is bool else get_args(kind)
        found += [dataclasses.replace(forms, **{name: choice}) for choice in choices]
    return [each for each in found if each != forms]


def list_cases(options: Options, platform: str) -> list[Case]:
    """All cases, the most used first.

    The platform's fastest forms are computed in every network and precision, those of other
    platforms in every precision of tiny and in float32 of others, and changed ones in float32 of
    tiny.
    """
    own = fastest_forms(platform)
    precisions = [p for p in options.precisions if p != "tf32" or platform != "cpu"]
    cases = [Case(*case) for case in itertools.product(options.networks, precisions, [own])]
    for forms in map(fastest_forms, _PLATFORMS):
        cases += [
            Case(network, precision, forms)
            for network, precision in itertools.product(options.networks, precisions)
            if network == _TINY or precision == "float32"
        ]
    if options.changed and _TINY in options.networks:
        cases += [Case(_TINY, "float32", forms) for forms in changed_forms(own)]
    return list(dict.fromkeys(cases))


@cache
def _start(network: str) -> Any:
    """The state of two networks of different random weights, which every case starts from."""
    stages = Stages(_protocol(network, "float32"), _CLASSES)
    keys = jax.random.split(jax.random.key(0), _MEMBERS)
    return jax.device_get(jax.jit(jax.vmap(stages.init_network))(keys))


def _protocol(network: str, precision: str) -> Protocol:
    if network == _TINY:
        import tests.tiny_network  # noqa: F401  (registers it; tests do so by another name)
    width, _ = _NETWORKS[network]
    return Protocol(network=network, width=width, precision=precision, bn_momentum=0.9)


def compute(case: Case) -> Results:
    """Losses, gradients and statistics of a training step, and features before it."""
    protocol, start = _protocol(case.network, case.precision), _start(case.network)
    stages = Stages(protocol, _CLASSES, case.forms)
    images, batches = _make_data(_NETWORKS[case.network][1])
    tally, table = Tally(*[np.zeros(_MEMBERS, np.float32)] * 2), replicate(images)
    arguments = start, tally, table, batches, replicate(0), replicate(1)
    state, tally = jax.device_get(Lifted(stages.train_network)(*arguments))
    rows = np.tile(np.arange(_IMAGES, dtype=np.int32).reshape(1, -1, 8), (_MEMBERS, 1, 1))
    features = Lifted(stages.extract)(start, table, rows, replicate(rows.shape[1]))
    # RMSprop starts at 0: it has kept a share of the squared gradient, and stepped against it.
    squares: Any = optax.tree.get(state.optimizer, "nu")
    gradient = jax.tree.map(
        lambda square, before, after: (
            np.sqrt(square / (1 - protocol.decay)) * np.sign(before - after)
        ),
        *(squares, start.params, state.params),
    )
    parts = {"loss": tally.loss, "features": features, "statistics": state.stats}
    parts["gradient"] = gradient
    return {name: [*map(np.asarray, jax.tree.leaves(tree))] for name, tree in parts.items()}


def _make_data(pixels: int) -> tuple[np.ndarray, DevicePlan]:
    """Smooth random images, and one batch per member that ends in padding."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (_IMAGES, 8, 8, 3)).astype(np.float32)
    steps = np.linspace(0, 6.99, pixels)
    near, share = steps.astype(int), (steps % 1).astype(np.float32)
    tall = coarse[:, near] + (coarse[:, near + 1] - coarse[:, near]) * share[:, None, None]
    images = tall[:, :, near] + (tall[:, :, near + 1] - tall[:, :, near]) * share[:, None]
    shape = (_MEMBERS, 1, _BATCH)
    base, neighbor = random.integers(_IMAGES, size=(2, *shape), dtype=np.int32)
    label = (base % _CLASSES).astype(np.int32)
    label[..., -_PADDING:] = -1
    return images.astype(np.uint8), DevicePlan(
        base, neighbor, random.random(shape, np.float32), label
    )


def compute_references(networks: tuple[str, ...]) -> dict[Case, Results]:
    """The default forms on the CPU, in float32 and in bfloat16."""
    jax.config.update("jax_platforms", "cpu")
    cases = [Case(*case, Forms()) for case in itertools.product(networks, ("float32", "bfloat16"))]
    for network in networks:
        _start(network)  # once, not in every thread
    with ThreadPoolExecutor(_threads()) as threads:
        return dict(zip(cases, threads.map(compute, cases), strict=True))


def errors(found: Results, expected: Results) -> dict[str, np.ndarray]:
    """The relative error of every array, by quantity."""
    result = {}
    for name, arrays in expected.items():
        sizes = np.array([np.linalg.norm(array) for array in arrays])
        off = [np.linalg.norm(own - array) for own, array in zip(found[name], arrays, strict=True)]
        floor = _NEGLIGIBLE * np.linalg.norm(sizes) if name == "gradient" else 0
        result[name] = np.array(off) / np.maximum(sizes, floor)
    return result


def judge(case: Case, found: Results, references: Mapping[Case, Results]) -> list[dict]:
    """One row per quantity: the array that comes nearest to its bound, or is furthest beyond it."""
    exact = references[Case(case.network, "float32", Forms())]
    coarse = errors(references[Case(case.network, "bfloat16", Forms())], exact)
    rows = []
    for name, own in errors(found, exact).items():
        bounds = np.maximum(_FLOORS[case.precision], _TIMES_BFLOAT16[case.precision] * coarse[name])
        if name == "gradient" and case.network != _TINY:
            if case.precision != "float32":
                continue
            bounds = np.full_like(own, _DEEP_GRADIENT)
        worst = np.argmax(np.nan_to_num(own / bounds, nan=np.inf))
        row = {"network": case.network, "precision": case.precision, "forms": describe(case.forms)}
        row |= {"quantity": name, "error": own[worst], "bound": bounds[worst]}
        rows.append(row | {"agrees": bool(own[worst] <= bounds[worst]), "failure": ""})
    return rows


def describe(forms: Forms) -> str:
    """What differs from the default forms."""
    default = vars(Forms())
    changed = [f"{name}={value}" for name, value in vars(forms).items() if value != default[name]]
    return ", ".join(changed) or "default"


def compare(options: Options, origin: list[str]) -> int:
    """Compares all cases, several at a time, and writes the document after each.

    The status is 1 if a case fails or is out of bounds.
    """
    cases = list_cases(options, jax.default_backend())
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as pool, ThreadPoolExecutor(_threads()) as threads:
        started = time.monotonic()
        reference = pool.submit(compute_references, options.networks)
        for network in options.networks:
            _start(network)  # once, not in every thread
        computing = {threads.submit(compute, case): case for case in cases}
        found: dict[Case, list[dict]] = {}
        for done in as_completed(computing):
            case = computing[done]
            found[case] = _rows_of(case, done, reference.result())
            text = write(options.output, [found.get(each, []) for each in cases], origin)
            said = f"{case.network}, {case.precision}, {describe(case.forms)}"
            print(f"{time.monotonic() - started:.1f} s: {said}", flush=True)
    print(text)
    return 0 if all(row["agrees"] for rows in found.values() for row in rows) else 1


def _rows_of(case: Case, done: Future, references: Mapping[Case, Results]) -> list[dict]:
    """The rows of a case that is computed, or one that says why it is not."""
    try:
        return judge(case, done.result(), references)
    except Exception as error:  # of the compiler or of the device
        failure = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        own = {"network": case.network, "precision": case.precision}
        own |= {"forms": describe(case.forms), "quantity": "all"}
        return [own | {"agrees": False, "failure": failure}]


def _threads() -> int:
    """How many programs to compile at once."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def write(folder: Path, cases: list[list[dict]], origin: list[str]) -> str:
    """Writes agreement.md and agreement.csv, and returns the text.

    `cases` are the rows of each case, empty for those that are not computed yet.
    """
    columns = ["network", "precision", "forms", "quantity", "error", "bound", "agrees", "failure"]
    frame = pd.DataFrame([row for rows in cases for row in rows], columns=columns)
    cells = frame.drop(columns="failure")
    for name in ("error", "bound"):
        cells[name] = cells[name].map(document.digits)
    cells["agrees"] = frame.agrees.map({True: "yes", False: "NO"})
    cells["agrees"] = cells.agrees.where(frame.failure == "", frame.failure)
    table = document.markdown_table(cells.rename(columns=str.capitalize), left=4)
    notes = [f"{sum(map(bool, cases))} of {len(cases)} cases are computed.", *NOTES]
    parts = ["# Training on the device beside float32 on the CPU", table]
    return document.write(folder, "agreement", parts, notes, origin, frame)


NOTES = (
    "One training step of two networks of different random weights, with padding in the batch, by "
    "the programs of a study; features are those before the step. tiny has two layers.",
    "Error: the norm of the difference from float32 on the CPU, relative to the norm there; of all "
    "arrays of a quantity, the one nearest to its bound.",
    "Bound: 1e-4 in float32, at least 1e-3 in tf32 and 1e-2 in bfloat16, and, where that is more, "
    "half of what bfloat16 loses on the CPU in tf32 and three times as much in bfloat16. Gradients "
    "of the deep network are compared in float32 only, up to 0.1: a single ReLU6 that opens or "
    "closes shows in all layers below it.",
)


if __name__ == "__main__":
    sys.exit(part.run("agreement", Options, compare))
