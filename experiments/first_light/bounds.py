"""The forecast of a device beside what was measured on it."""

import dataclasses
import re
import sys
from pathlib import Path

import jax
import pandas as pd

from experiments.benchmark_training.cases import OURS
from experiments.benchmarks import document
from experiments.first_light import part
from twostage_jax.support.errors import InputError

# What JAX calls a device (a part of it), and what the forecast does.
TARGETS = {
    "H100": "h100",
    "H200": "h200",
    "A100": "a100",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
}


@dataclasses.dataclass(frozen=True)
class Options(part.Options):
    """Sets the bounds of a forecast beside the rates that were measured."""

    training: Path = Path("experiments/results/benchmarks/training.csv")
    """training.csv of experiments.benchmark_training."""
    forecast: Path = Path("experiments/results/forecast/forecast.csv")
    """forecast.csv of experiments.forecast."""


def find_target(kind: str) -> str | None:
    """The forecast's name of a device kind of JAX; None if it has none."""
    return next((target for part, target in TARGETS.items() if part in kind), None)


def compare(forecast: pd.DataFrame, training: pd.DataFrame, target: str) -> pd.DataFrame:
    """One row per precision and number of members that both have, for training alone.

    Columns: precision, members, kernels_per_step, MB_per_image (of the forecast), bound and
    measured (images per second), share (measured / bound). Training of another width or image size
    than the forecast's is left out, where the forecast says which it has (its column `setting`).

    Args:
        forecast: as experiments.forecast writes it.
        training: as experiments.benchmark_training writes it.
        target: a target of the forecast.
    """
    own = forecast[(forecast.target == target) & (forecast.program == "stage1")].copy()
    own["members"] = pd.to_numeric(own.members)
    rows = training[(training.library == OURS) & (training.task == "training")]
    rows = rows[rows.best.notna()]
    if "setting" in own:
        fits = [_is_of(own.setting, row.width, row.pixels) for row in rows.itertuples()]
        rows = rows[fits]
    both = own.merge(rows[["precision", "members", "best"]], on=["precision", "members"])
    both = both.rename(columns={"images_per_second_bound": "bound", "best": "measured"})
    both["share"] = both.measured / both.bound
    columns = ["precision", "members", "kernels_per_step", "MB_per_image"]
    return both[[*columns, "bound", "measured", "share"]].reset_index(drop=True)


def _is_of(settings: pd.Series, width: float, pixels: int) -> bool:
    """Whether forecasts of these settings are of networks of a width on images of a size."""
    words = re.compile(rf"width {width:g}\b(?!\.).*\b{pixels:g} px")
    return settings.astype(str).str.contains(words).all()


def work(options: Options, origin: list[str]) -> int:
    """Writes the comparison.

    Raises:
        InputError: a file is missing, or has nothing to compare.
    """
    kind = jax.devices()[0].device_kind
    if (target := find_target(kind)) is None:
        raise InputError(f"no forecast knows a device of the kind {kind}")
    forecast, training = (_read(path) for path in (options.forecast, options.training))
    frame = compare(forecast, training, target)
    if frame.empty:
        raise InputError(
            f"the forecast has no training on {target} in a size, precision and number of members "
            "that was measured; forecast it with experiments.forecast"
        )
    cells = frame.assign(members=frame.members.astype(str), share=frame.share.map(document.percent))
    for name in ("kernels_per_step", "MB_per_image", "bound", "measured"):
        cells[name] = cells[name].map(document.digits)
    parts = [f"# The forecast of {target} beside {kind}", document.markdown_table(cells, left=1)]
    print(document.write(options.output, "bounds", parts, NOTES, origin, frame))
    return 0


NOTES = (
    "Bound: images per second that the forecast does not expect to be exceeded. Measured: the best "
    "turn of the benchmark of training. Share: measured divided by the bound.",
    "A share above 100 % says that the forecast is no bound: it counts traffic or operations that "
    "the device does not do.",
)


def _read(path: Path) -> pd.DataFrame:
    if not path.exists():
        raise InputError(f"there is no {path.name} in the folder {path.parent.name}")
    return pd.read_csv(path)


if __name__ == "__main__":
    sys.exit(part.run("bounds", Options, work))
