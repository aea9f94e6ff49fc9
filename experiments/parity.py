"""Compares the samplers with imbalanced-learn's, over a grid: `python -m experiments.parity`.

Prints a table of agreement; `--output FOLDER` keeps it, with a picture of uint8 images. Exits with
status 1 where the two libraries differ by more than `expectation` allows.
"""

import dataclasses
import io
import itertools
import math
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pandas as pd
import tyro
from jaxtyping import Int, Shaped
from PIL import Image, ImageDraw, ImageFont
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits
from twostage_jax.data.sources.synthetic import CLASS_NAMES, draw_tile

import twostage_jax
from experiments.benchmarks import document
from experiments.command import run_command
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically
from twostage_jax.support.streams import derive

PROGRAM = "python -m experiments.parity"


@dataclasses.dataclass(frozen=True)
class Options:
    """Compares the samplers with imbalanced-learn's: rows and values."""

    grid: str = "whole"
    """whole (minutes), or quick (seconds): small data, and one seed."""
    seeds: int = 3
    """Seeds of data and samplers."""
    output: Path | None = None
    """Folder for parity.md, parity.csv and uint8.png. Default: nothing is kept."""


OVER, UNDER, CLEAN = "over-sampling", "under-sampling", "clean-sampling"


class Variant(NamedTuple):
    """A sampler, its kind, and its options besides strategy and seed."""

    name: str
    kind: str
    options: dict[str, Any] = {}  # noqa: RUF012
    seeded: bool = False
    synthesizes: bool = False

    @property
    def title(self) -> str:
        """As printed."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])

    @property
    def reference(self) -> Any:
        """imbalanced-learn's module."""
        return imblearn.over_sampling if self.kind == OVER else imblearn.under_sampling

    def make(self, library: Any, strategy: Any, seed: int):
        """The sampler, of twostage_jax or of imbalanced-learn's module."""
        options = self.options | ({"random_state": seed} if self.seeded else {})
        return getattr(library, self.name)(sampling_strategy=strategy, **options)


VARIANTS = (
    Variant("RandomOverSampler", OVER, {}, True),
    Variant("SMOTE", OVER, {}, True, True),
    Variant("SMOTE", OVER, {"k_neighbors": 2}, True, True),
    Variant("BorderlineSMOTE", OVER, {}, True, True),
    Variant("BorderlineSMOTE", OVER, {"kind": "borderline-2"}, True, True),
    Variant("ADASYN", OVER, {}, True, True),
    Variant("RandomUnderSampler", UNDER, {}, True),
    Variant("RandomUnderSampler", UNDER, {"replacement": True}, True),
    Variant("NearMiss", UNDER),
    Variant("NearMiss", UNDER, {"version": 2}),
    Variant("NearMiss", UNDER, {"version": 3}),
    Variant("TomekLinks", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN, {"kind_sel": "mode"}),
)
_NAMED, _MADE = ("auto", "not minority", "not majority", "all"), ("dict", "callable", "float")
STRATEGIES = {
    OVER: (*_NAMED, "minority", *_MADE),
    UNDER: (*_NAMED, "majority", *_MADE),
    CLEAN: (*_NAMED, "majority", "list"),
}


def make_strategy(name: str, kind: str, y: Int[np.ndarray, " n"]) -> Any:
    """A `sampling_strategy` for the classes: made from their counts, or the name itself."""
    ranked = Counter(y.tolist()).most_common()
    (largest, most), (second, fewer), (smallest, least) = ranked[0], ranked[-2], ranked[-1]
    counts = {largest: most // 2, second: 2 * fewer // 3}, {largest: least}
    if kind == OVER:
        counts = {smallest: 2 * least, second: 2 * fewer}, {smallest: most}
    made = {"dict": counts[0], "callable": lambda y: counts[1], "float": 0.8}
    return (made | {"list": [largest, smallest]}).get(name, name)


class Expectation(NamedTuple):
    """What is expected of a sampler on a dtype: equal bits or not, the largest difference, why."""

    exact: bool
    largest: float
    reason: str


def expectation(variant: Variant, dtype: str) -> Expectation:
    """What is expected, see `Expectation`."""
    floating = dtype.startswith("float")
    if not variant.synthesizes:
        return Expectation(True, 0, "rows are picked, not computed")
    if variant.options.get("kind") == "borderline-2":
        # The two may round one half to either side.
        reason = "the step is a product of two factors, which imbalanced-learn applies in turn"
        return Expectation(False, 1e-6 if floating else 0.5 + 1e-9, reason)
    if floating:
        return Expectation(True, 0, "the same operations in the same order")
    return Expectation(True, 0.5, "integers are imbalanced-learn's result on float64, rounded")


class Part(NamedTuple):
    """Data of a shape; all strategies, or `auto` alone; in the quick grid or not."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    all_strategies: bool = True
    quick: bool = True


# Distances of bytes in few columns are equal too often: there are no data without ties.
_WIDE = ("float64", "float32", "int64")
_ALL = (*_WIDE, "uint8")

# Small data, many rows of few columns (a k-d tree), many features, images (tiles on the device).
GRID = (
    Part((300, 2), _WIDE),
    Part((300, 40), _WIDE, quick=False),
    Part((240, 16, 16, 3), _ALL),
    Part((2400, 3), _WIDE, all_strategies=False, quick=False),
    Part((2400, 64), _WIDE, all_strategies=False, quick=False),
    Part((300, 1024), _ALL, all_strategies=False, quick=False),
    Part((200, 150, 150, 3), _ALL, all_strategies=False, quick=False),
)


class Case(NamedTuple):
    """One comparison. The seed is of the data and of the samplers."""

    variant: Variant
    dtype: str
    shape: tuple[int, ...]
    strategy: str
    seed: int


def cases(grid: str, seeds: int) -> Iterator[Case]:
    """The comparisons of a grid, those of the same data together."""
    for part, seed in itertools.product(GRID, range(seeds if grid == "whole" else 1)):
        if grid == "quick" and not part.quick:
            continue
        for dtype, of_two in itertools.product(part.dtypes, (False, True)):
            for variant in VARIANTS:
                strategies = STRATEGIES[variant.kind] if part.all_strategies else ("auto",)
                for strategy in strategies:
                    if (strategy == "float") == of_two:
                        yield Case(variant, dtype, part.shape, strategy, seed)


def make_data(
    shape: tuple[int, ...], dtype: str, classes: int, seed: int
) -> tuple[Shaped[np.ndarray, "n *shape"], Int[np.ndarray, " n"]]:
    """Overlapping Gaussian classes that vary in few directions, as images do; without ties.

    Ties are broken by the smaller row here, and in imbalanced-learn by the order of its sort. Three
    classes have 25, 60 and 15 % of the rows, two have 75 and 25 %.
    """
    random = np.random.default_rng(derive(seed, "parity", *shape, classes))
    rows, columns = shape[0], math.prod(shape[1:])
    counts = [int(share * rows) for share in ((0.25, 0.6) if classes == 3 else (0.75,))]
    y = random.permutation(np.repeat(np.arange(classes), [*counts, rows - sum(counts)]))
    latent = min(columns, 4)
    centers = random.standard_normal((classes, latent))
    directions = random.standard_normal((latent, columns))

    def draw(labels: Int[np.ndarray, " m"]) -> Shaped[np.ndarray, "m columns"]:
        z = centers[labels] + random.standard_normal((len(labels), latent))
        x = z @ directions + 0.3 * random.standard_normal((len(labels), columns))
        if dtype == "uint8":
            x = np.clip(np.rint(128 + 16 * x), 0, 255)
        elif dtype == "int64":
            x = np.rint(2**20 * x)
        return x.astype(dtype)

    x = draw(y)
    while True:
        ranked = euclidean_distances(x.astype(np.float64), squared=True)
        order = ranked.argsort(axis=1)[:, 1:]
        ranked.sort(axis=1)
        tied = np.unique(order[ranked[:, 1:] == ranked[:, :-1]])
        if not len(tied):
            return x.reshape(shape), y
        x[tied] = draw(y[tied])


class Result(NamedTuple):
    """What a sampler gave: X, y and `sample_indices_`, or an exception."""

    x: Any
    y: Any
    rows: Int[np.ndarray, " m"] | None
    error: Exception | None


def attempt(sampler: Any, x: Any, y: Any) -> Result:
    """Resamples; an exception is a result, too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NearMiss 3 warns of few near samples
        try:
            resampled = sampler.fit_resample(x, y)
        except Exception as error:
            return Result(None, None, None, error)
    return Result(*resampled, getattr(sampler, "sample_indices_", None), None)


def same_exception(theirs: Exception | None, ours: Exception | None) -> bool:
    """Whether a program that catches imbalanced-learn's exception catches ours; or neither."""
    return isinstance(ours, type(theirs))


def compare(case: Case, x: Shaped[np.ndarray, "n *shape"], y: Int[np.ndarray, " n"]) -> dict:
    """Runs a case with both libraries on its data, which are `make_data`'s.

    Returns a row: the case, `raised` (whether imbalanced-learn did), and what `NOTES` explains.
    """
    variant, flat, floating = case.variant, x.reshape(len(x), -1), x.dtype.kind == "f"
    strategy = make_strategy(case.strategy, variant.kind, y)
    reference = variant.make(variant.reference, strategy, case.seed)
    sampler = variant.make(twostage_jax, strategy, case.seed)
    theirs = attempt(reference, flat if floating else flat.astype(np.float64), y)
    ours = attempt(sampler, x, y)
    row = case._asdict() | {"sampler": variant.title, "raised": theirs.error is not None}
    if theirs.error is not None or ours.error is not None:
        same = same_exception(theirs.error, ours.error)
        return row | {"same_rows": same, "exact": same, "difference": 0.0 if same else np.inf}
    if not (
        ours.x.shape == (len(theirs.x), *x.shape[1:])
        and ours.x.dtype == x.dtype
        and np.array_equal(ours.y, theirs.y)
        and (theirs.rows is None or np.array_equal(ours.rows, theirs.rows))
    ):
        return row | {"same_rows": False, "exact": False, "difference": np.inf}
    found = ours.x.reshape(theirs.x.shape)
    exact = np.array_equal(found, theirs.x if floating else np.rint(theirs.x))
    difference = np.abs(found - theirs.x)
    if floating and not exact:  # relative to the larger magnitude of the two ends; 0 / 0 is 0
        plan = sampler.plan(x, y)
        scale = np.maximum(np.abs(flat[plan.base]), np.abs(flat[plan.neighbor]))
        zeros = np.where(difference > 0, np.inf, 0.0)
        difference = np.divide(difference, scale, out=zeros, where=scale > 0)
    return row | {"same_rows": True, "exact": exact, "difference": float(difference.max())}


def run(todo: Sequence[Case]) -> pd.DataFrame:
    """One row per case, see `compare`."""
    rows, data, before = [], None, None
    for case in todo:
        wanted = (case.shape, case.dtype, 2 if case.strategy == "float" else 3, case.seed)
        if wanted != before:
            data, before = make_data(*wanted), wanted
        rows.append(compare(case, *data))
    return pd.DataFrame(rows)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per (sampler, dtype), in the order of `VARIANTS`, and whether it is as expected."""
    rows = []
    for variant, dtype in itertools.product(VARIANTS, _ALL):
        part = frame[(frame.sampler == variant.title) & (frame.dtype == dtype)]
        if not len(part):
            continue
        expected = expectation(variant, dtype)
        row = {"sampler": variant.title, "dtype": dtype, "cases": len(part)}
        row |= {name: part[name].sum() for name in ("raised", "same_rows", "exact")}
        row |= {"largest_difference": part.difference.max(), "allowed": expected.largest}
        exact = row["exact"] == len(part) or not expected.exact
        within = part.difference.max() <= expected.largest
        row["agrees"] = bool(part.same_rows.all() and exact and within)
        rows.append(row | {"reason": expected.reason})
    return pd.DataFrame(rows)


_YES = {True: "yes", False: "NO"}
NOTES = (
    "The data are synthetic Gaussian classes without equal distances, from named seeds; both "
    "libraries get the same integer `random_state`, and scikit-learn one thread.",
    "Same rows: equal y, shape and dtype of X, and equal `sample_indices_` where there are any.",
    "Bit for bit: equal arrays. Integers are compared with imbalanced-learn's result on the same "
    "numbers in float64, rounded: on uint8 itself its differences wrap around modulo 256, and on "
    "other integers it truncates.",
    "Difference: of floating-point values relative to the larger magnitude of the two values that "
    "they lie between; of integers from imbalanced-learn's float64 result before rounding.",
    "Cases in which both libraries raise the same exception agree.",
)


def markdown(table: pd.DataFrame) -> str:
    """The table of agreement."""
    cells = table.drop(columns=["reason", "raised"]).assign(agrees=table.agrees.map(_YES))
    cells["largest_difference"] = table.largest_difference.map("{:.2g}".format)
    return document.markdown_table(cells.astype(str).rename(columns=str.capitalize), left=2)


def write(folder: Path, table: pd.DataFrame, command: str) -> None:
    """Writes parity.md and parity.csv."""
    image = "![SMOTE between two uint8 images, by both libraries](uint8.png)"
    parts = ["# Parity with imbalanced-learn", markdown(table), image]
    notes = [*NOTES]
    for reason, part in table[table.allowed > 0].groupby("reason", sort=False):
        samplers, dtypes = (", ".join(part[name].unique()) for name in ("sampler", "dtype"))
        notes.append(f"Allowed in {dtypes} of {samplers}: {reason}.")
    packages = ("twostage_jax", "imbalanced-learn", "scikit-learn", "numpy", "jax")
    origin = document.provenance(command, packages)
    document.write(folder, "parity", parts, notes, origin, table)


_TILE, _ZOOM, _GAP, _HEAD = 84, 2, 9, 42


def picture() -> bytes:
    """A synthetic image between two uint8 images of a class, by both libraries, as a PNG file."""
    label, others = (CLASS_NAMES.index(name) for name in ("adipose", "lympho"))
    drawn = [(label, index) for index in range(7)] + [(others, index) for index in range(10)]
    x = np.stack([draw_tile(c, index=i, image_size=_TILE, seed=0) for c, i in drawn])
    y = np.array([c for c, _ in drawn])
    theirs = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(x.reshape(len(x), -1), y)[0]
    sampler = twostage_jax.SMOTE(random_state=0)
    ours, plan = sampler.fit_resample(x, y)[0], sampler.plan(x, y)
    row = len(x) + int(np.abs(plan.step[len(x) :] - 0.5).argmin())
    panels = (
        (x[plan.base[row]], "A: an image", "uint8"),
        (x[plan.neighbor[row]], "B: its neighbor", "uint8"),
        (theirs[row].reshape(x[0].shape), "imbalanced-learn", "differences wrap at 256"),
        (ours[row], "twostage_jax", f"A + {plan.step[row]:.2f} (B - A), rounded"),
    )
    side = _TILE * _ZOOM
    canvas = Image.new("RGB", (4 * side + 3 * _GAP, _HEAD + side), "white")
    draw = ImageDraw.Draw(canvas)
    for place, (pixels, title, below) in enumerate(panels):
        left = place * (side + _GAP)
        draw.text((left, 2), title, "black", ImageFont.load_default(17))
        draw.text((left, 23), below, (90, 90, 90), ImageFont.load_default(13))
        canvas.paste(Image.fromarray(pixels).resize((side, side), Image.NEAREST), (left, _HEAD))
    stream = io.BytesIO()
    canvas.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status; 1: something does not agree."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(lambda: _compare_all(options, command), "interrupted")


def _compare_all(options: Options, command: str) -> int:
    require_known("grid", options.grid, ("whole", "quick"))
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds} found, 1 or more expected")
    if options.output:  # first: a folder that cannot be written would show after minutes
        write_atomically(options.output / "uint8.png", picture())
    todo = list(cases(options.grid, options.seeds))
    with threadpool_limits(1):  # on small data the threads of scikit-learn wait for each other
        table = summarize(run(todo))
    words = "all" if table.agrees.all() else "NOT all"
    print(markdown(table), f"{len(todo)} cases: {words} agree as expected", sep="\n\n")
    if options.output:
        write(options.output, table, command)
        print(f"results in {options.output}")
    return 0 if table.agrees.all() else 1


if __name__ == "__main__":
    sys.exit(main())
