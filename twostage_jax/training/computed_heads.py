"""Heads that are computed and not trained: pure NumPy functions on a head's hidden activations.

The activations are those of `Head.represent`, and a kernel is that of the head's output layer:
class scores are hidden @ kernel + bias. All is computed in float64.
"""

import numpy as np
from jaxtyping import Float, Float64, Integer

from twostage_jax.evaluation.metrics import confusion_matrix, scores
from twostage_jax.support.errors import InputError

Hidden = Float[np.ndarray, "n hidden"]
Labels = Integer[np.ndarray, " n"]
Kernel = Float[np.ndarray, "hidden classes"]

TAUS = tuple(step / 20 for step in range(21))
"""The exponents that `choose_tau` tries: 0, 0.05, ..., 1."""


def normalize_norms(kernel: Kernel, tau: float) -> Float64[np.ndarray, "hidden classes"]:
    """Divides the weights of each class by their norm to the power of tau.

    The scores are hidden @ kernel, without a bias: stage 1's is left out, also for tau 0. Source:
    B. Kang et al., *Decoupling representation and classifier for long-tailed recognition*, 2020;
    their code leaves out the bias, too.

    Args:
        kernel: weights, one column per class. A class whose weights are all 0 keeps them.
        tau: 0 changes nothing, 1 gives all classes the norm 1.
    """
    exact = kernel.astype(np.float64)
    norms = np.linalg.norm(exact, axis=0)
    return exact / np.where(norms > 0, norms, 1) ** tau


def choose_tau(hidden: Hidden, labels: Labels, kernel: Kernel, seed: int) -> float:
    """The exponent of `TAUS` that predicts a part of the training samples best.

    The part is a fifth of each class, at least one sample of it, and the score is the mean recall
    of the classes (AvAcc); of equally good exponents the smallest is taken. Stage 1 has trained on
    these samples, too: to hold them out, it would need a network of its own. B. Kang et al. choose
    by validation data; their published code prints the test scores of 0, 0.1, ..., 2, from which
    the reader picks.

    Args:
        hidden: activations of the training samples.
        labels: class of each sample, 0 or more.
        kernel: stage 1's weights, one column per class.
        seed: of the draw of the part.

    Raises:
        InputError: a class has no samples.
    """
    classes = kernel.shape[1]
    _require_all(labels, classes, "tau-normalization")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    members = [order[labels[order] == label] for label in range(classes)]
    part = np.concatenate([rows[: -(-len(rows) // 5)] for rows in members])
    seen, exact = labels[part], hidden[part].astype(np.float64)

    def score(tau: float) -> float:
        predictions = (exact @ normalize_norms(kernel, tau)).argmax(axis=1)
        # Equal scores of other recalls may differ in their last bits.
        return round(scores(confusion_matrix(seen, predictions, classes)).AvAcc, 9)

    return max(TAUS, key=score)


def nearest_class_mean(
    hidden: Hidden, labels: Labels, classes: int
) -> tuple[Float64[np.ndarray, "hidden classes"], Float64[np.ndarray, " classes"]]:
    """The kernel and bias of scores that are highest for the class whose mean is nearest.

    The score of class k with the mean m is hidden @ m - |m|^2 / 2: half the negative squared
    distance, up to a term that all classes share. The softmax of the scores is the posterior of
    Gaussian classes of variance 1 and equal frequency, so that probabilities are usually near 0 or
    1. Predictions are those of scikit-learn's `NearestCentroid`. Source: T. Mensink et al.,
    *Distance-based image classification*, 2013; B. Kang et al., 2020, whose published code also
    takes cosines and activations that are centered and brought to length 1.

    Args:
        hidden: activations of the training samples.
        labels: class of each sample, 0 or more.
        classes: number of classes.

    Raises:
        InputError: a class has no samples.
    """
    _require_all(labels, classes, "the nearest class mean")
    means = [hidden[labels == label].mean(axis=0, dtype=np.float64) for label in range(classes)]
    kernel = np.stack(means, axis=1)
    return kernel, -(kernel**2).sum(axis=0) / 2


def _require_all(labels: Labels, classes: int, owner: str) -> None:
    counts = np.bincount(labels, minlength=classes)
    if not counts.all():
        raise InputError(
            f"{owner} found no sample of class {int(counts.argmin())}, at least one of each class "
            "expected; choose another approach or add images"
        )
