"""What is compared: cases, the engines of each, and the partitions that they work on."""

from collections.abc import Collection
from importlib.util import find_spec
from typing import NamedTuple

from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS, PartitionKey, partition_keys
from twostage_jax.support.streams import derive
from twostage_jax.training.protocol import Protocol

KINDS = ("images", "plans", "features", "large", "neighbors")

# Other k-NN engines, compared where they are installed.
SEARCHES = ("faiss", "cuml")

K = Protocol().k_neighbors
SEED = Protocol().seed

# Resampling changes nothing at ratio 1: these partitions are the study's 120.
STUDY_KEYS = partition_keys(SCENARIOS, tuple(ratio for ratio in RATIOS if ratio > 1), FOLDS)


class Case(NamedTuple):
    """One line of the comparison.

    Attributes:
        kind: one of `KINDS`.
        scenario: of `images` and `features`, which have a case for each; else empty.
    """

    kind: str
    scenario: str = ""

    @property
    def title(self) -> str:
        """As printed."""
        return ", ".join(filter(None, (self.kind, self.scenario.replace("_", " "))))

    @property
    def key(self) -> PartitionKey:
        """The partition that a case with a scenario works on: the highest ratio, first fold."""
        return PartitionKey(self.scenario, max(RATIOS), 0)


class Engine(NamedTuple):
    """What does the work.

    Attributes:
        name: as printed.
        ours: this package; else imbalanced-learn, or a k-NN engine alone.
        dtype: of the data that it is given.
        search: one of `SEARCHES` in place of scikit-learn's neighbours; else empty.
        platform: of JAX, for ours.
    """

    name: str
    ours: bool
    dtype: str = "float32"
    search: str = ""
    platform: str = "cpu"

    @property
    def is_reference(self) -> bool:
        """Whether the others are compared with this one."""
        return not self.ours and not self.search and self.dtype == "float32"


def cases_of(kinds: Collection[str]) -> list[Case]:
    """The cases of some kinds, in the order of `KINDS`."""
    scenarios = {"images": SCENARIOS, "features": SCENARIOS}
    chosen = (kind for kind in KINDS if kind in kinds)
    return [Case(kind, scenario) for kind in chosen for scenario in scenarios.get(kind, ("",))]


def installed_searches() -> list[str]:
    """Those of `SEARCHES` that can be imported."""
    return [name for name in SEARCHES if find_spec(name)]


def engines_of(case: Case, platform: str, searches: Collection[str]) -> list[Engine]:
    """Who takes part in a case: ours first, then imbalanced-learn, then the other engines.

    Args:
        case: the case.
        platform: of JAX's accelerator, where ours runs besides the CPU; or `cpu`.
        searches: other k-NN engines that are installed.
    """
    base = "scikit-learn" if case.kind == "neighbors" else "imbalanced-learn"
    prefix = "" if case.kind == "neighbors" else f"{base} + "
    others = [Engine(base, ours=False)]
    if case.kind != "plans":
        others += [Engine(prefix + name, ours=False, search=name) for name in searches]
    match case.kind:
        case "images":
            ours = [
                Engine("twostage_jax, uint8", ours=True, dtype="uint8"),
                Engine("twostage_jax, float32", ours=True),
            ]
            # It wraps modulo 256 in every scenario: one shows what that costs.
            if case.scenario == SCENARIOS[0]:
                others.insert(1, Engine(f"{base}, uint8", ours=False, dtype="uint8"))
        case "plans":
            ours = [Engine("twostage_jax, uint8", ours=True, dtype="uint8")]
        case _:
            ours = [Engine("twostage_jax", ours=True)]
    if platform != "cpu":
        ours += [e._replace(name=f"{e.name}, {platform}", platform=platform) for e in ours]
    return ours + others


def partition_name(key: PartitionKey) -> str:
    """Of the partition's rows among the data, and of its sample among the results."""
    return f"{key.scenario}-{key.ratio:g}-{key.fold}"


def smote_seed(key: PartitionKey) -> int:
    """The seed that the study gives image-space SMOTE on a partition."""
    return derive(SEED, *key, "smote", "plan")


def timed_keys(turn: int) -> list[PartitionKey]:
    """The six of the study's partitions that imbalanced-learn is timed on in a round.

    Two rounds cover its 12 cells (scenario, ratio), one fold each; the folds of a cell are equally
    large. Every round has all scenarios and ratios in it.
    """
    cells = dict.fromkeys((key.scenario, key.ratio) for key in STUDY_KEYS)
    keys = [PartitionKey(*cell, index % FOLDS) for index, cell in enumerate(cells)]
    return keys[turn % 2 :: 2]
