"""Compares the samplers with imbalanced-learn's, over a grid: `python -m experiments.parity`.

Prints a table of agreement and one of what bad input raises. `--output FOLDER` keeps both, with a
picture of what the two libraries make of uint8 images. Exits with status 1 where the two disagree
by more than `expectation` allows.
"""

import dataclasses
import io
import itertools
import math
import platform
import shlex
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import imblearn.over_sampling
import imblearn.under_sampling
import jax
import numpy as np
import pandas as pd
import rich.progress
import rich.table
import tyro
from jaxtyping import Int, Shaped
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from scipy.sparse import csr_matrix
from sklearn.metrics.pairwise import euclidean_distances
from threadpoolctl import threadpool_limits

import twostage_jax
from experiments.command import run_command
from twostage_jax.data.sources.synthetic import CLASS_NAMES, draw_tile
from twostage_jax.support.errors import InputError, require_known
from twostage_jax.support.files import write_atomically
from twostage_jax.support.streams import derive

PROGRAM = "python -m experiments.parity"


@dataclasses.dataclass(frozen=True)
class Options:
    """Compares the samplers with imbalanced-learn's: rows, values and errors."""

    grid: str = "whole"
    """whole (minutes), or quick (seconds): small data, and one seed."""
    seeds: int = 3
    """Seeds of data and samplers."""
    output: Path | None = None
    """Folder for parity.md, parity.csv and uint8.png. By default nothing is kept."""


# What is compared

OVER, UNDER, CLEAN = "over-sampling", "under-sampling", "clean-sampling"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A sampler and its options besides strategy and seed."""

    name: str
    kind: str
    seeded: bool = False
    synthesizes: bool = False
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def title(self) -> str:
        """As printed."""
        return " ".join([self.name, *(f"{name}={value}" for name, value in self.options.items())])

    def make(self, library: Any, strategy: Any, seed: int):
        """The sampler, of twostage_jax or of a module of imbalanced-learn."""
        stream = {"random_state": seed} if self.seeded else {}
        sampler = getattr(library, self.name)
        return sampler(sampling_strategy=strategy, **stream, **self.options)

    @property
    def reference(self) -> Any:
        """imbalanced-learn's module."""
        return imblearn.over_sampling if self.kind == OVER else imblearn.under_sampling


VARIANTS = (
    Variant("RandomOverSampler", OVER, seeded=True),
    Variant("SMOTE", OVER, seeded=True, synthesizes=True),
    Variant("SMOTE", OVER, seeded=True, synthesizes=True, options={"k_neighbors": 2}),
    Variant("BorderlineSMOTE", OVER, seeded=True, synthesizes=True),
    Variant(
        "BorderlineSMOTE", OVER, seeded=True, synthesizes=True, options={"kind": "borderline-2"}
    ),
    Variant("ADASYN", OVER, seeded=True, synthesizes=True),
    Variant("RandomUnderSampler", UNDER, seeded=True),
    Variant("RandomUnderSampler", UNDER, seeded=True, options={"replacement": True}),
    Variant("NearMiss", UNDER),
    Variant("NearMiss", UNDER, options={"version": 2}),
    Variant("NearMiss", UNDER, options={"version": 3}),
    Variant("TomekLinks", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN),
    Variant("EditedNearestNeighbours", CLEAN, options={"kind_sel": "mode"}),
)

STRATEGIES = {
    OVER: (
        *("auto", "minority", "not minority", "not majority", "all"),
        *("dict", "callable", "float"),
    ),
    UNDER: (
        *("auto", "majority", "not minority", "not majority", "all"),
        *("dict", "callable", "float"),
    ),
    CLEAN: ("auto", "majority", "not minority", "not majority", "all", "list"),
}


def make_strategy(name: str, kind: str, y: Int[np.ndarray, " n"]) -> Any:
    """A `sampling_strategy` that fits classes: those that are no names are made from the counts."""
    ranked = Counter(y.tolist()).most_common()
    (largest, most), (second, fewer), (smallest, least) = ranked[0], ranked[-2], ranked[-1]
    over = {smallest: 2 * least, second: 2 * fewer}
    under = {largest: most // 2, second: 2 * fewer // 3}
    match name:
        case "dict":
            return over if kind == OVER else under
        case "callable":
            return lambda y: {smallest: (y == largest).sum()} if kind == OVER else {largest: least}
        case "float":
            return 0.8
        case "list":
            return [largest, smallest]
    return name


class Expectation(NamedTuple):
    """What is demanded of a sampler on a dtype.

    Attributes:
        exact: bit for bit.
        largest: difference that is allowed.
        reason: why this and no less.
    """

    exact: bool
    largest: float
    reason: str


def expectation(variant: Variant, dtype: str) -> Expectation:
    """What is demanded, see `Expectation`."""
    if not variant.synthesizes:
        return Expectation(True, 0, "rows are picked, not computed")
    twice = (
        "a plan has one step, the product of two that imbalanced-learn makes one after the other"
    )
    floating = dtype.startswith("float")
    if variant.options.get("kind") == "borderline-2":
        # The two may round one half to either side.
        return Expectation(False, 1e-6 if floating else 0.5 + 1e-9, twice)
    if floating:
        return Expectation(True, 0, "the same operations in the same order")
    if dtype == "uint8":
        return Expectation(True, 0.5, "a rounding of imbalanced-learn's result on float64")
    return Expectation(True, 1, "imbalanced-learn cuts decimals off, this package rounds")


# The grid


class Part(NamedTuple):
    """Data of one shape, and what is tried on them.

    Attributes:
        shape: of X; more than two numbers are images.
        dtypes: of X.
        all_strategies: each that a sampler admits, or else `auto` alone.
        quick: whether it belongs to the quick grid.
    """

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]
    all_strategies: bool = True
    quick: bool = True


# Distances of bytes in few columns are equal so often that there are no data without ties.
_WIDE = ("float64", "float32", "int64")
_ALL = (*_WIDE, "uint8")

# Small data, many of few columns (a k-d tree), many features and images (tiles on the device).
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
    """One comparison; the seed is of the data and of the samplers."""

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

    Ties are broken by the smaller row here, and in imbalanced-learn by what sorted last.

    Returns:
        X and y, of a quarter, 60 % and 15 % of the rows a class (two classes: 75 and 25 %).
    """
    random = np.random.default_rng(derive(seed, "parity", *shape, classes))
    rows, columns = shape[0], math.prod(shape[1:])
    shares = (0.25, 0.6) if classes == 3 else (0.75,)
    counts = [int(share * rows) for share in shares]
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
    while len(tied := _tied(x)):
        x[tied] = draw(y[tied])
    return x.reshape(shape), y


def _tied(x: Shaped[np.ndarray, "n d"]) -> Int[np.ndarray, " m"]:
    """Rows that are as far from some row as another is."""
    squared = euclidean_distances(x.astype(np.float64), squared=True)
    order = squared.argsort(axis=1)
    ranked = np.take_along_axis(squared, order, axis=1)
    return np.unique(order[:, 1:][ranked[:, 1:] == ranked[:, :-1]])


# The comparison


class _Result(NamedTuple):
    x: Any
    y: Any
    rows: Int[np.ndarray, " m"] | None
    error: Exception | None
    seconds: float


def _resample(sampler: Any, x: Any, y: Any) -> _Result:
    started = time.perf_counter()
    resampled, error = (None, None), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NearMiss 3, that few samples are near
        try:
            resampled = sampler.fit_resample(x, y)
        except Exception as raised:
            error = raised
    seconds = time.perf_counter() - started
    return _Result(*resampled, getattr(sampler, "sample_indices_", None), error, seconds)


def compare(case: Case, x: Shaped[np.ndarray, "n *shape"], y: Int[np.ndarray, " n"]) -> dict:
    """Runs one case with both libraries.

    Args:
        case: what to compare.
        x, y: its data, from `make_data`.

    Returns:
        a row of a frame: `same_rows`, `exact`, `difference` (see `EXPLANATION`), `wrapped` (share
        of synthetic uint8 values that imbalanced-learn's own uint8 result has wrong by more than
        1; NaN where there are none), `refused` (whether it raises on integers), `raised` (whether
        it raises on any dtype) and the seconds of both.
    """
    variant = case.variant
    strategy = make_strategy(case.strategy, variant.kind, y)
    flat = x.reshape(len(x), -1)
    floating = x.dtype.kind == "f"
    reference = variant.make(variant.reference, strategy, case.seed)
    theirs = _resample(reference, flat if floating else flat.astype(np.float64), y)
    sampler = variant.make(twostage_jax, strategy, case.seed)
    ours = _resample(sampler, x, y)
    row = {
        "sampler": variant.title,
        "dtype": case.dtype,
        "shape": " x ".join(map(str, case.shape)),
        "strategy": case.strategy,
        "seed": case.seed,
        "raised": theirs.error is not None,
        "same_rows": False,
        "exact": False,
        "difference": np.inf,
        "wrapped": np.nan,
        "refused": False,
        "seconds": ours.seconds,
        "seconds_imblearn": theirs.seconds,
    }
    if theirs.error is not None or ours.error is not None:
        if same_exception(theirs.error, ours.error):
            row |= {"same_rows": True, "exact": True, "difference": 0.0}
        return row
    row["same_rows"] = (
        ours.x.shape == (len(theirs.x), *x.shape[1:])
        and ours.x.dtype == x.dtype
        and np.array_equal(ours.y, theirs.y)
        and (theirs.rows is None or np.array_equal(ours.rows, theirs.rows))
    )
    if not row["same_rows"]:
        return row
    found = ours.x.reshape(theirs.x.shape)
    row["exact"] = np.array_equal(found, theirs.x if floating else np.rint(theirs.x))
    new = slice(len(x), None)
    own = None
    if variant.synthesizes and not floating:
        own, _, _, error, _ = _resample(reference, flat, y)
        row["refused"] = isinstance(error, TypeError)
    if case.dtype == "uint8" and own is not None:
        row["wrapped"] = float(np.mean(np.abs(own[new] - theirs.x[new]) > 1))
    if row["exact"] and floating:
        row["difference"] = 0.0
    elif floating:
        plan = sampler.plan(x, y)
        scale = np.maximum(np.abs(flat[plan.base]), np.abs(flat[plan.neighbor]))
        row["difference"] = float(_ratio(np.abs(found - theirs.x), scale).max())
    else:
        beside = theirs.x if own is None or case.dtype == "uint8" else own
        row["difference"] = float(np.abs(found - beside).max())
    return row


def same_exception(theirs: Exception | None, ours: Exception | None) -> bool:
    """Whether a program that catches imbalanced-learn's exception catches ours; or neither."""
    return isinstance(ours, type(theirs))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """0 / 0 is 0."""
    return np.divide(part, whole, out=np.where(part > 0, np.inf, 0.0), where=whole > 0)


def run(todo: Sequence[Case], console: Console) -> pd.DataFrame:
    """A row a case, see `compare`."""
    progress = rich.progress.track(
        todo, "comparing", console=console, disable=not console.is_terminal, transient=True
    )
    rows, data, before = [], None, None
    for case in progress:
        wanted = (case.shape, case.dtype, 2 if case.strategy == "float" else 3, case.seed)
        if wanted != before:
            data, before = make_data(*wanted), wanted
        rows.append(compare(case, *data))
    return pd.DataFrame(rows)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a (sampler, dtype), in the order of `VARIANTS`, and whether it is as expected."""
    variants = {variant.title: variant for variant in VARIANTS}
    rows = []
    for (title, dtype), part in frame.groupby(["sampler", "dtype"]):
        expected = expectation(variants[title], dtype)
        same, exact, largest = part.same_rows.sum(), part.exact.sum(), part.difference.max()
        agrees = same == len(part) and largest <= expected.largest
        rows.append(
            {
                "sampler": title,
                "dtype": dtype,
                "cases": len(part),
                "raised": part.raised.sum(),
                "same_rows": same,
                "exact": exact,
                "largest_difference": largest,
                "allowed": expected.largest,
                "agrees": bool(agrees and (exact == len(part) or not expected.exact)),
                "reason": expected.reason,
                "wrapped": part.wrapped.mean(),
                "refused": bool(part.refused.any()),
                "seconds": part.seconds.sum(),
                "seconds_imblearn": part.seconds_imblearn.sum(),
            }
        )
    titles = list(variants)
    rows.sort(key=lambda row: (titles.index(row["sampler"]), _ALL.index(row["dtype"])))
    return pd.DataFrame(rows)


# Bad input


class Bad(NamedTuple):
    """Input that some samplers refuse.

    Attributes:
        title: as printed.
        kinds: of the samplers that are given it.
        x, y: the data.
        strategy: the strategy.
    """

    title: str
    kinds: tuple[str, ...]
    x: Any
    y: Any
    strategy: Any = "auto"


SPARSE = "sparse matrix"


def bad_inputs() -> Iterator[Bad]:
    """Everything that is tried."""
    x, y = make_data((60, 5), "float64", 3, 0)
    every, scaling = (OVER, UNDER, CLEAN), (OVER, UNDER)

    def with_value(value: Any, dtype: type = float) -> np.ndarray:
        changed = x.astype(dtype)
        changed[3, 1] = value
        return changed

    few = np.where(np.cumsum(y == 2) > 2, 0, y) * (y == 2) + y * (y != 2)
    sizes = [np.zeros((4, 4 + (row == 7))) for row in range(len(y))]
    mixed = pd.DataFrame(x, columns=list("abcde")).assign(stain=np.where(y == 0, "pink", "violet"))
    yield Bad("one class", every, x, np.zeros_like(y))
    yield Bad("class of two samples", every, x, few)
    yield Bad("NaN", every, with_value(np.nan), y)
    yield Bad("infinity", every, with_value(np.inf), y)
    yield Bad("text", every, with_value("violet", object), y)
    yield Bad("numbers and text in a data frame", every, mixed, y)
    yield Bad(SPARSE, every, csr_matrix(x), y)
    yield Bad("images of different sizes", every, sizes, y)
    yield Bad("continuous y", every, x, x[:, 0])
    yield Bad("unknown class in a dict", scaling, x, y, {9: 40})
    yield Bad("unknown class in a list", (CLEAN,), x, y, [9])
    yield Bad("more asked than there are", (UNDER,), x, y, {1: 37})
    yield Bad("fewer asked than there are", (OVER,), x, y, {1: 35})
    yield Bad("negative number", scaling, x, y, {1: -1})
    yield Bad("ratio, three classes", scaling, x, y, 0.9)
    yield Bad("ratio that would remove", (OVER,), x[y > 0], y[y > 0], 0.01)
    yield Bad("ratio that would add", (UNDER,), x[y > 0], y[y > 0], 0.01)
    yield Bad("ratio of 1.5", scaling, x, y, 1.5)
    yield Bad("dict", (CLEAN,), x, y, {1: 20})
    yield Bad("list", scaling, x, y, [1])
    yield Bad("majority", (OVER,), x, y, "majority")
    yield Bad("minority", (UNDER, CLEAN), x, y, "minority")
    yield Bad("unknown name", every, x, y, "most")


def compare_errors() -> pd.DataFrame:
    """Which exceptions bad input raises: a row for samplers of which the types are the same.

    They agree where ours is of imbalanced-learn's type, or derived from it; and where ours refuses
    sparse X, which imbalanced-learn takes.
    """
    plain = [variant for variant in VARIANTS if not variant.options]
    rows: dict[tuple, dict] = {}
    for bad in bad_inputs():
        for variant in plain:
            if variant.kind not in bad.kinds:
                continue
            theirs, ours = (
                _resample(variant.make(library, bad.strategy, 0), bad.x, bad.y).error
                for library in (variant.reference, twostage_jax)
            )
            names = tuple("none" if e is None else type(e).__name__ for e in (theirs, ours))
            declared = bad.title == SPARSE and isinstance(ours, TypeError)
            same = same_exception(theirs, ours) or declared
            message = "" if ours is None else str(ours).strip().splitlines()[0]
            row = {
                "input": bad.title,
                "imbalanced_learn": names[0],
                "ours": names[1],
                "agrees": same,
                "samplers": [],
                "message": message,
            }
            rows.setdefault((bad.title, *names, same), row)["samplers"].append(variant.name)
    frame = pd.DataFrame(rows.values())
    every = len(plain)
    frame["samplers"] = [
        "all" if len(names) == every else ", ".join(names) for names in frame.samplers
    ]
    return frame


# What is kept

EXPLANATION = (
    "Synthetic Gaussian classes without equal distances, from named seeds; the same integer "
    "`random_state` for both.",
    "Same rows: the same y, shape and dtype of X, and the same `sample_indices_` where there are "
    "any.",
    "Bit for bit: the same array. Integers are compared with imbalanced-learn's result on the same "
    "numbers in float64, rounded.",
    "Difference: of floating-point values relative to the larger magnitude of the two values that "
    "they lie between; of uint8 from imbalanced-learn's float64 result before rounding; of int64 "
    "from imbalanced-learn's int64 result (from its float64 result where it raises on integers).",
    "Cases in which both libraries raise the same exception agree.",
    "Seconds are sums over the cases, mostly of small data, with one thread for scikit-learn and "
    "NumPy: this is no benchmark.",
)


def shown(table: pd.DataFrame) -> list[dict[str, str]]:
    """The table of agreement as text."""
    return [
        {
            "Sampler": row.sampler,
            "dtype": row.dtype,
            "Cases": str(row.cases),
            "Same rows": str(row.same_rows),
            "Bit for bit": str(row.exact),
            "Largest difference": f"{row.largest_difference:.2g}",
            "Allowed": f"{row.allowed:.2g}",
            "Ours, s": f"{row.seconds:.1f}",
            "Theirs, s": f"{row.seconds_imblearn:.1f}",
            "Agrees": "yes" if row.agrees else "NO",
        }
        for row in table.itertuples(index=False)
    ]


def shown_errors(table: pd.DataFrame) -> list[dict[str, str]]:
    """The table of exceptions as text."""
    return [
        {
            "Bad input": row.input,
            "Samplers": row.samplers,
            "imbalanced-learn": row.imbalanced_learn,
            "Ours": row.ours,
            "Agrees": "yes" if row.agrees else "NO",
            "Our message": row.message,
        }
        for row in table.itertuples(index=False)
    ]


def notes(table: pd.DataFrame) -> list[str]:
    """What the numbers need said beside them."""
    lines = [*EXPLANATION]
    for reason, part in table[table.allowed > 0].groupby("reason", sort=False):
        dtypes, samplers = (", ".join(part[name].unique()) for name in ("dtype", "sampler"))
        lines.append(f"Allowed in {dtypes} of {samplers}: {reason}.")
    wrapped = table[table.wrapped.notna()]
    if len(wrapped):
        shares = ", ".join(f"{row.sampler} {row.wrapped:.0%}" for row in wrapped.itertuples())
        lines.append(
            "On uint8 itself imbalanced-learn wraps around modulo 256. Synthetic values that it "
            f"has wrong by more than 1: {shares}."
        )
    if table.refused.any():
        samplers = ", ".join(table[table.refused].sampler.unique())
        lines.append(f"On integers imbalanced-learn raises a TypeError in {samplers}.")
    return lines


def markdown(table: pd.DataFrame, errors: pd.DataFrame, command: str) -> str:
    """parity.md: both tables, the notes, the command and the versions."""
    packages = ("imbalanced-learn", "scikit-learn", "numpy", "jax")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    parts = [
        "# Parity with imbalanced-learn",
        f"    {command}",
        f"twostage_jax {twostage_jax.__version__}, {versions}, Python "
        f"{platform.python_version()}; neighbours on {jax.devices()[0].platform}.",
        _markdown(shown(table)),
        "\n".join(f"- {note}" for note in notes(table)),
        "## uint8 images",
        "![SMOTE between two uint8 images, by both libraries](uint8.png)",
        "## Bad input",
        "The exception that each library raises. `InputError` is a `ValueError`. Sparse X is "
        "refused on purpose, and `none` means that a sampler takes the input.",
        _markdown(shown_errors(errors)),
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(rows: list[dict[str, str]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
    cells = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def on_screen(title: str, rows: list[dict[str, str]]) -> rich.table.Table:
    """A table of text for the screen."""
    table = rich.table.Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*row.values())
    table.columns[0].no_wrap = True
    return table


_TILE, _ZOOM, _GAP, _HEAD = 84, 2, 9, 42


def picture() -> bytes:
    """A synthetic image between two uint8 images of a class, by both libraries, as a PNG file.

    The images are drawn; the samplers are run on them as they are.
    """
    label = CLASS_NAMES.index("adipose")
    others = CLASS_NAMES.index("lympho")
    drawn = [(label, index) for index in range(7)] + [(others, index) for index in range(10)]
    x = np.stack([draw_tile(c, index=i, image_size=_TILE, seed=0) for c, i in drawn])
    y = np.array([c for c, _ in drawn])
    flat = x.reshape(len(x), -1)
    theirs = imblearn.over_sampling.SMOTE(random_state=0).fit_resample(flat, y)[0]
    sampler = twostage_jax.SMOTE(random_state=0)
    ours, plan = sampler.fit_resample(x, y)[0], sampler.plan(x, y)
    row = len(x) + int(np.abs(plan.step[len(x) :] - 0.5).argmin())
    panels = (
        (x[plan.base[row]], "A: an image", "uint8"),
        (x[plan.neighbor[row]], "B: its neighbour", "uint8"),
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
        tile = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
        canvas.paste(tile, (left, _HEAD))
        draw.rectangle((left, _HEAD, left + side - 1, _HEAD + side - 1), outline=(160, 160, 160))
    stream = io.BytesIO()
    canvas.quantize(256, dither=Image.Dither.NONE).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status.

    0: all agrees as expected. 1: something does not. 2: bad input, or a folder that cannot be
    written. 130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    console = Console(highlight=False)
    console = Console(highlight=False, width=max(console.width, 140))
    command = shlex.join([*PROGRAM.split(), *arguments])
    return run_command(lambda: _compare_all(options, command, console), "interrupted")


def _compare_all(options: Options, command: str, console: Console) -> int:
    require_known("grid", options.grid, ("whole", "quick"))
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds} found, 1 or more expected")
    if options.output:  # first: a folder that cannot be written would show after minutes
        write_atomically(options.output / "uint8.png", picture())
    todo = list(cases(options.grid, options.seeds))
    started = time.perf_counter()
    with threadpool_limits(1):  # on small data the threads of scikit-learn wait for each other
        table, errors = summarize(run(todo, console)), compare_errors()
    console.print(on_screen("Parity with imbalanced-learn", shown(table)))
    for row in (brief := shown_errors(errors)):
        row.pop("Our message")
    console.print(on_screen("Bad input", brief))
    for note in notes(table):
        console.print(f"- {note}", markup=False)
    agrees = bool(table.agrees.all() and errors.agrees.all())
    console.print(
        f"{len(todo)} cases, {time.perf_counter() - started:.0f} s: "
        + ("all agree as expected" if agrees else "NOT all agree as expected")
    )
    if options.output:
        csv = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
        write_atomically(options.output / "parity.csv", csv.encode())
        write_atomically(options.output / "parity.md", markdown(table, errors, command).encode())
        console.print(f"results in {options.output}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
