"""What each engine does in each case: the calls that are timed, and what is kept of their results.

Everything a call needs is loaded before it, and its result is described after it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imblearn.over_sampling
import numpy as np
from jaxtyping import Int, Shaped, UInt8
from sklearn.neighbors import NearestNeighbors

from experiments.benchmark_resamplers.cases import (
    STUDY_KEYS,
    Case,
    Engine,
    K,
    partition_name,
    smote_seed,
    timed_keys,
)
from twostage_jax import SMOTE
from twostage_jax.data.partition import PartitionKey
from twostage_jax.resampling.neighbors import rank_neighbors, subset_neighbors
from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.smote import neighbor_lists
from twostage_jax.study.resample import resample

# Columns of each output row that are compared: a wrong neighbour or step shows in all of them.
COMPARED_COLUMNS = 32


class Outcome(NamedTuple):
    """What is kept of a result.

    Attributes:
        rows: of the output.
        result_bytes: of the arrays; None where there are plans only.
        plan_bytes: of the plans; None where there are none.
        samples: by name, what is compared with the other engines: a row an output row.
    """

    rows: int
    result_bytes: int | None
    plan_bytes: int | None
    samples: dict[str, Shaped[np.ndarray, "n m"]]


class Part(NamedTuple):
    """A call to be timed.

    Attributes:
        name: of the part.
        call: the call.
        describe: makes the outcome of its result.
    """

    name: str
    call: Callable[[], Any]
    describe: Callable[[Any], Outcome]


class Work(NamedTuple):
    """What an engine does in a case.

    Attributes:
        shape: of the data.
        parts: timed one by one; a part's data are loaded when its turn comes.
        stands_for: how many parts the whole work has. Where it is more than there are in `parts`,
            the whole is extrapolated from their mean, and each is called once.
    """

    shape: tuple[int, ...]
    parts: Iterator[Part]
    stands_for: int = 1


def prepare(case: Case, engine: Engine, folder: Path, turn: int) -> Work:
    """Loads what an engine needs for its turn in a case.

    Args:
        case: the case.
        engine: the engine.
        folder: of the data of the case's kind.
        turn: the round, from 0 up.
    """
    x = np.load(folder / "x.npy")
    match case.kind:
        case "images" | "features":
            rows = np.load(folder / "partitions.npz")[partition_name(case.key)]
            x, y = x[rows], np.load(folder / "labels.npy")[rows]
            return _one(x, _smote(engine, x, y, smote_seed(case.key), case.title))
        case "large":
            y = np.load(folder / "labels.npy")
            return _one(x, _smote(engine, x, y, 0, case.title))
        case "neighbors":
            return _one(x, _search(engine, x, np.load(folder / "queries.npy"), case.title))
    y, rows = np.load(folder / "labels.npy"), dict(np.load(folder / "partitions.npz"))
    if engine.ours:
        return _one(x, _all_plans(x, y, rows))
    return Work(x.shape, _some_partitions(engine, x, y, rows, turn), len(STUDY_KEYS))


def _one(x: np.ndarray, part: Part) -> Work:
    return Work(x.shape, iter([part]))


def _smote(
    engine: Engine,
    x: Shaped[np.ndarray, "n *shape"],
    y: Int[np.ndarray, " n"],
    seed: int,
    name: str,
) -> Part:
    """`fit_resample`, of images as they are by ours and in rows by imbalanced-learn."""
    sampler_class = SMOTE if engine.ours else imblearn.over_sampling.SMOTE
    x = x.astype(engine.dtype, copy=False)
    x = x if engine.ours else x.reshape(len(x), -1)
    search = neighbor_search(engine.search) if engine.search else K
    sampler = sampler_class(random_state=seed, k_neighbors=search)

    def describe(result: tuple[np.ndarray, np.ndarray]) -> Outcome:
        arrays, labels = result
        flat = arrays.reshape(len(arrays), -1)
        sample = _sample(flat[:, _compared(flat.shape[1])], labels)
        # All plans have columns of the same types.
        plan = plan_bytes(Plan.of_all(y)) * len(labels) // len(y) if engine.ours else None
        return Outcome(len(labels), arrays.nbytes + labels.nbytes, plan, {name: sample})

    return Part(name, lambda: sampler.fit_resample(x, y), describe)


def _search(engine: Engine, x: np.ndarray, queries: Int[np.ndarray, " q"], name: str) -> Part:
    search = K if engine.ours else neighbor_search(engine.search)
    asking = queries if len(queries) < len(x) else None  # all of them need no copy

    def describe(rows: Int[np.ndarray, "q k"]) -> Outcome:
        return Outcome(len(rows), rows.nbytes, None, {name: np.asarray(rows)})

    return Part(name, lambda: neighbor_lists(x, search, asking), describe)


def _all_plans(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    partitions: dict[str, Int[np.ndarray, " m"]],
) -> Part:
    flat = images.reshape(len(images), -1)
    columns = flat[:, _compared(flat.shape[1])]

    def describe(plans: dict[PartitionKey, Plan]) -> Outcome:
        samples = {
            partition_name(key): _sample(plans[key].materialize(columns), plans[key].label)
            for key in timed_keys(0) + timed_keys(1)
        }
        rows, size = sum(map(len, plans.values())), sum(map(plan_bytes, plans.values()))
        return Outcome(rows, None, size, samples)

    return Part("plans", lambda: study_plans(images, labels, partitions), describe)


def study_plans(
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    partitions: dict[str, Int[np.ndarray, " m"]],
) -> dict[PartitionKey, Plan]:
    """All image-space SMOTE plans of the study, neighbours included, as `Study` makes them."""
    table = rank_neighbors(images, labels)

    def plan(key: PartitionKey) -> Plan:
        rows = partitions[partition_name(key)]
        its = labels[rows]
        lists = lambda: subset_neighbors(table, rows, its, K)  # noqa: E731
        return resample("smote", its, smote_seed(key), lists).of_rows(rows)

    return {key: plan(key) for key in STUDY_KEYS}


def _some_partitions(
    engine: Engine,
    images: UInt8[np.ndarray, "n h w c"],
    labels: Int[np.ndarray, " n"],
    partitions: dict[str, Int[np.ndarray, " m"]],
    turn: int,
) -> Iterator[Part]:
    for key in timed_keys(turn):
        rows = partitions[partition_name(key)]
        yield _smote(engine, images[rows], labels[rows], smote_seed(key), partition_name(key))


def plan_bytes(plan: Plan) -> int:
    """Bytes of a plan's columns."""
    return sum(column.nbytes for column in vars(plan).values())


def _compared(columns: int) -> Int[np.ndarray, " m"]:
    return np.linspace(0, columns - 1, min(columns, COMPARED_COLUMNS)).astype(int)


def _sample(x: Shaped[np.ndarray, "n m"], labels: np.ndarray) -> Shaped[np.ndarray, "n m+1"]:
    return np.column_stack([x, labels.astype(x.dtype)])


def neighbor_search(name: str) -> Any:
    """An engine by imbalanced-learn's contract for `k_neighbors`, the sample itself included.

    Args:
        name: one of `SEARCHES`, or empty for scikit-learn's, which imbalanced-learn makes of a
            number.
    """
    match name:
        case "faiss":
            return FaissNeighbors(n_neighbors=K + 1)
        case "cuml":
            from cuml.neighbors import NearestNeighbors as CumlNeighbors

            return CumlNeighbors(n_neighbors=K + 1, algorithm="brute")
    return NearestNeighbors(n_neighbors=K + 1)


class FaissNeighbors(NearestNeighbors):
    """faiss's exact index behind scikit-learn's methods."""

    def fit(self, X, y=None):
        """Indexes the rows of X."""
        import faiss

        self.index_ = faiss.IndexFlatL2(X.shape[1])
        self.index_.add(np.ascontiguousarray(X, np.float32))
        self.n_samples_fit_ = len(X)
        return self

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True):
        """The nearest rows of each row of X, and the distances where they are wanted."""
        count = self.n_neighbors if n_neighbors is None else n_neighbors
        squared, rows = self.index_.search(np.ascontiguousarray(X, np.float32), count)
        return (np.sqrt(squared), rows) if return_distance else rows
