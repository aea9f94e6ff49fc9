"""Random undersampling, random oversampling and SMOTE, as functions that return plans.

Each draws the same random numbers in the same order as the imbalanced-learn sampler of that name
with an integer `random_state` (0.14), up to a balanced class distribution: the same rows in the
same order, the same neighbours, the same steps. Like imbalanced-learn, SMOTE restarts the random
stream for each class and the random samplers draw all classes from one.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Int

from twostage_jax.errors import InputError
from twostage_jax.plan import Plan


def _kept(labels: Int[np.ndarray, " n"], rows: Int[np.ndarray, " m"]) -> Plan:
    return Plan(rows, rows, np.zeros(len(rows)), labels[rows])


def keep_all(labels: Int[np.ndarray, " n"]) -> Plan:
    """The plan that resamples nothing."""
    return _kept(labels, np.arange(len(labels)))


def random_undersample(labels: Int[np.ndarray, " n"], seed: int) -> Plan:
    """Each class keeps as many samples as the smallest has, without replacement."""
    random = np.random.RandomState(seed)
    classes, counts = np.unique(labels, return_counts=True)
    rows = []
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        # imbalanced-learn keeps one smallest class as it is; another as small is drawn whole.
        if label != classes[counts.argmin()]:
            members = members[random.choice(count, size=counts.min(), replace=False)]
        rows.append(members)
    return _kept(labels, np.concatenate(rows))


def random_oversample(labels: Int[np.ndarray, " n"], seed: int) -> Plan:
    """Each class grows to the size of the largest by copies drawn with replacement."""
    random = np.random.RandomState(seed)
    classes, counts = np.unique(labels, return_counts=True)
    rows = [np.arange(len(labels))]
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        rows.append(random.choice(members, size=counts.max() - count, replace=True))
    return _kept(labels, np.concatenate(rows))


def smote(labels: Int[np.ndarray, " n"], seed: int, neighbors: Int[np.ndarray, "n k"]) -> Plan:
    """Each class grows to the size of the largest by interpolation (Chawla et al., 2002).

    Args:
        labels: class of each sample.
        seed: of the random stream, restarted for each class.
        neighbors: rows of the k nearest neighbours of the same class, nearest first.

    Raises:
        InputError: a class to be oversampled has k or fewer samples.
    """
    classes, counts = np.unique(labels, return_counts=True)
    k = neighbors.shape[1]
    kept = keep_all(labels)
    parts = [kept]
    for label, count in zip(classes, counts, strict=True):
        missing = counts.max() - count
        if missing == 0:
            continue
        if count <= k:
            raise InputError(
                f"class {label} has {count} samples, SMOTE with {k} neighbours expects at least "
                f"{k + 1}; lower the number of neighbours or the imbalance ratio"
            )
        members = np.flatnonzero(labels == label)
        random = np.random.RandomState(seed)
        drawn = random.randint(0, count * k, size=missing)
        step = random.uniform(size=missing)
        base = members[drawn // k]
        neighbor = neighbors[base, drawn % k]
        parts.append(Plan(base, neighbor, step, np.full(missing, label, labels.dtype)))
    return Plan.concatenate(parts)


def resample(
    sampler: str | None,
    labels: Int[np.ndarray, " n"],
    seed: int,
    neighbors: Callable[[], Int[np.ndarray, "n k"]],
) -> Plan:
    """The plan of a sampler by its short name: None (keep all), `rus`, `ros` or `smote`.

    Args:
        sampler: the name.
        labels: class of each sample.
        seed: of the random stream.
        neighbors: computes the neighbour lists; only called where the sampler needs them.

    Raises:
        InputError: an unknown name, or a class too small for SMOTE.
    """
    match sampler:
        case None:
            return keep_all(labels)
        case "rus":
            return random_undersample(labels, seed)
        case "ros":
            return random_oversample(labels, seed)
        case "smote":
            return smote(labels, seed, neighbors())
    raise InputError(f"sampler {sampler!r} found, 'rus', 'ros', 'smote' or None expected")
