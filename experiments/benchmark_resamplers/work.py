"""What is compared, and what each engine does in its process: the calls that are timed."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import imblearn.combine
import imblearn.over_sampling
import imblearn.under_sampling
import jax
import numpy as np
from jaxtyping import Int, Shaped

import twostage_jax
from experiments.benchmark_resamplers.data import SEED, STUDY
from twostage_jax import SMOTE
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.resampling import samplers
from twostage_jax.resampling.neighbors import rank_neighbors, subset_neighbors
from twostage_jax.resampling.plan import Plan
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol

K = Protocol().k_neighbors

# The samplers that imbalanced-learn has, too.
COMPARED = [
    name for name in samplers.__all__ if name not in ("RadialBasedUndersampler", "at_least")
]

# Columns of each output row that are compared: a wrong neighbor or step shows in all of them.
_COMPARED = 32


class Job(NamedTuple):
    """What one engine (ours or imbalanced-learn) does in one case.

    Images and features have a case per scenario, samplers one per sampler; others have one. JAX
    runs on the platform.
    """

    kind: str
    scenario: str
    ours: bool
    dtype: str = "float32"
    platform: str = "cpu"
    sampler: str = "SMOTE"

    @property
    def case(self) -> str:
        """As printed."""
        which = self.sampler if self.kind == "samplers" else self.scenario.replace("_", " ")
        return ", ".join(filter(None, (self.kind, which)))

    @property
    def engine(self) -> str:
        """As printed."""
        library = "twostage_jax" if self.ours else "imbalanced-learn"
        return f"{library}, {self.dtype}" + f", {self.platform}" * (self.platform != "cpu")

    @property
    def is_reference(self) -> bool:
        """Whether the other engines of the case are compared with this one."""
        return not self.ours and self.dtype == "float32"

    def parts(self, number: int) -> list[str]:
        """Names of the partitions that the job makes in a round, one per timed call; or the case.

        imbalanced-learn makes six of the 12 cells (scenario, ratio) of the plans, one fold each,
        and the other six in the next round. The folds of a cell are equally large.
        """
        if self.kind == "plans" and not self.ours:
            return timed_partitions()[number % 2 :: 2]
        return [f"{self.scenario}-{max(RATIOS):g}-0" if self.scenario else self.kind]


def timed_partitions() -> list[str]:
    """One of the study's partitions per (scenario, ratio)."""
    folds = list(STUDY)
    return [folds[cell * FOLDS + cell % FOLDS] for cell in range(len(folds) // FOLDS)]


def list_jobs(kind: str, platform: str) -> list[list[Job]]:
    """The engines of each case of a kind; ours also on the platform of an accelerator."""
    if kind == "samplers":
        ours = [Job(kind, SCENARIOS[0], True, platform=platform, sampler=own) for own in COMPARED]
        return [[job, job._replace(ours=False, platform="cpu")] for job in ours]
    cases = []
    for scenario in SCENARIOS if kind in ("images", "features") else ("",):
        dtypes = {"images": ["uint8", "float32"], "plans": ["uint8"]}.get(kind, ["float32"])
        ours = [Job(kind, scenario, True, dtype) for dtype in dtypes]
        if platform != "cpu":
            ours += [job._replace(platform=platform) for job in ours]
        theirs = [Job(kind, scenario, False)]
        # Its differences of uint8 wrap around modulo 256; one scenario shows it.
        if kind == "images" and scenario == SCENARIOS[0]:
            theirs.append(Job(kind, scenario, False, "uint8"))
        cases.append(ours + theirs)
    return cases


class Resampling:
    """A job and its data. `Worker.ask` calls the methods."""

    def __init__(self, job: Job, folder: Path):
        """Raises a RuntimeError if JAX does not run on the job's platform."""
        if job.ours and job.platform == "cpu":
            jax.config.update("jax_platforms", "cpu")
        if job.ours and jax.default_backend() != job.platform:
            raise RuntimeError(f"JAX runs on {jax.default_backend()}, {job.platform} expected")
        self._job, self._folder = job, folder
        self._x: Any = None
        self._call: Callable[[], Any] = lambda: None
        self._result: Any = None

    def _array(self, name: str) -> np.ndarray:
        return np.load(self._folder / f"{name}.npy")

    def load(self, part: str) -> None:
        """Reads a part's data, and converts them to what the calls take."""
        job, self._x, labels = self._job, self._array("x"), self._array("labels")
        if part == "plans":
            rows = {name: self._array(name) for name in STUDY}
            self._call = lambda: study_plans(self._x, labels, rows)
            return
        rows = self._array(part) if part in STUDY else slice(None)
        self._x, y = self._x[rows].astype(job.dtype, copy=False), labels[rows]
        x = self._x if job.ours else self._x.reshape(len(y), -1)
        sampler = make_sampler(job, smote_seed(part) if part in STUDY else 0)
        self._call = lambda: sampler.fit_resample(x, y)

    def call(self) -> float:
        """Seconds of one call."""
        self._result = None  # or two results would be in memory
        started = time.perf_counter()
        self._result = self._call()
        return time.perf_counter() - started

    def samples(self, part: str) -> dict[str, Shaped[np.ndarray, "n m"]]:
        """What is compared of the result of a part's last call: columns of the rows, and labels."""
        if part == "plans":
            x, plans = some_columns(self._x), [self._result[name] for name in timed_partitions()]
            rows = [np.column_stack([plan.materialize(x), plan.label]) for plan in plans]
            return dict(zip(timed_partitions(), rows, strict=True))
        x, labels = self._result
        return {part: np.column_stack([some_columns(x), labels.astype(x.dtype)])}

    def shape(self) -> tuple[int, ...]:
        """Of the data of the last part."""
        return self._x.shape


def make_sampler(job: Job, seed: int) -> Any:
    """The sampler of a job; one that draws has the seed."""
    modules = (imblearn.over_sampling, imblearn.under_sampling, imblearn.combine)
    library = next(own for own in modules if hasattr(own, job.sampler))
    sampler = getattr(twostage_jax if job.ours else library, job.sampler)()
    given = {"random_state": seed} | ({"k_neighbors": K} if job.sampler == "SMOTE" else {})
    taken = sampler.get_params(deep=False)
    return sampler.set_params(**{name: value for name, value in given.items() if name in taken})


def smote_seed(name: str) -> int:
    """The seed that the study gives SMOTE of images on a partition."""
    return derive(SEED, *STUDY[name], "smote", "plan")


def study_plans(
    images: Shaped[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    partitions: dict[str, Int[np.ndarray, " m"]],
) -> dict[str, Plan]:
    """SMOTE's plan of every partition as the study makes it, the search included, by name."""
    table = rank_neighbors(images, labels)
    plans = {}
    for name, rows in partitions.items():
        y = labels[rows]
        sampler = SMOTE(random_state=smote_seed(name), k_neighbors=K)
        lists = subset_neighbors(table, rows, y, K)
        plans[name] = sampler.plan(rows[:, None], y, neighbors=lists).of_rows(rows)
    return plans


def some_columns(x: Shaped[np.ndarray, "n *shape"]) -> Shaped[np.ndarray, "n m"]:
    """The columns of rows or images that are compared with the other engines."""
    flat = x.reshape(len(x), -1)
    columns = flat.shape[1]
    return flat[:, np.linspace(0, columns - 1, min(columns, _COMPARED)).astype(int)]
