"""Mixing: which samples of an epoch are mixed with which, decided by their labels alone.

The mixture of samples i and j is x_i + share (x_j - x_i). It has the label y_i at the weight
1 - weight and the label y_j at the weight `weight`. Images are mixed inside the training step.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64, Integer
from scipy.special import betainc

from twostage_jax.training.objective import Counts, Entry, Frequencies, Number, Range, as_they_are

Labels = Integer[np.ndarray, " m"]


class Mixture(NamedTuple):
    """The partner of each sample of an epoch."""

    partner: Int64[np.ndarray, " m"]
    """Position of the other sample among those of the epoch."""
    share: Float64[np.ndarray, " m"]
    """Of the other sample in the mixture, 0 to 1."""
    weight: Float64[np.ndarray, " m"]
    """Of the other label, 0 to 1."""


def draw_balanced(labels: Labels, rng: np.random.Generator) -> Int64[np.ndarray, " m"]:
    """As many samples as there are, drawn with replacement: a class first, then one of its samples.

    All classes that have samples are equally likely. Source: class-balanced sampling of B. Kang et
    al., *Decoupling representation and classifier for long-tailed recognition*, 2020, q = 0.

    Args:
        labels: class of each sample, 0 or more.
        rng: draws.
    """
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    present = np.flatnonzero(counts)
    first = np.cumsum(counts) - counts
    drawn = rng.choice(present, len(labels))
    return order[first[drawn] + rng.integers(counts[drawn])]


def mixup(
    labels: Labels, counts: Counts, rng: np.random.Generator, *, alpha: Number = 0.2
) -> Mixture:
    """Each sample with another one of the epoch: H. Zhang et al., *mixup*, 2018.

    lambda ~ Beta(alpha, alpha) is the share of the sample and of its label. It is drawn per sample,
    as in the paper's definition, and the partners are a permutation of the epoch; published code
    draws one lambda per batch and permutes the batch. alpha is the paper's for ImageNet.

    Args:
        labels: class of each sample of the epoch.
        counts: samples of each class; not used.
        rng: draws.
        alpha: of the distribution; 0 mixes nothing.
    """
    partner = rng.permutation(len(labels))
    share = 1 - _beta(rng, alpha, alpha, len(labels))
    return Mixture(partner, share, share)


def remix(
    labels: Labels,
    counts: Counts,
    rng: np.random.Generator,
    *,
    alpha: Number = 0.2,
    kappa: Number = 3.0,
    tau: Number = 0.5,
) -> Mixture:
    """mixup whose label leans to the rarer class: H.-P. Chou et al., *Remix*, 2020.

    The label is the rarer class's alone where one class has `kappa` times the samples of the other
    and the share of the frequent one in the mixture is below tau: the label of i has the weight 0
    if n_i / n_j >= kappa and lambda < tau, else 1 if n_i / n_j <= 1 / kappa and 1 - lambda < tau,
    else lambda. alpha is the one of `mixup`, so that the two differ in the label only; the paper
    takes 1 for CIFAR.

    Args:
        labels: class of each sample of the epoch.
        counts: samples of each class.
        rng: draws.
        alpha: as for `mixup`.
        kappa: ratio of class sizes from which a class counts as the frequent one.
        tau: share of the frequent class in the mixture, below which its label does not count.
    """
    partner, share, _ = mixup(labels, counts, rng, alpha=alpha)
    own, other = counts[labels], counts[labels[partner]]
    rarer = [(own >= kappa * other) & (1 - share < tau), (other >= kappa * own) & (share < tau)]
    return Mixture(partner, share, np.select(rarer, [1.0, 0.0], share))


def balanced_mixup(
    labels: Labels, counts: Counts, rng: np.random.Generator, *, alpha: Number = 0.2
) -> Mixture:
    """Each sample with one of a balanced draw: A. Galdran et al., *Balanced-MixUp*, 2021.

    The balanced sample has the share lambda ~ Beta(alpha, 1), which is alpha / (1 + alpha) on
    average. It is drawn per sample, in published code per batch.

    Args:
        labels: class of each sample of the epoch.
        counts: samples of each class; not used.
        rng: draws.
        alpha: of the distribution; 0 mixes nothing.
    """
    partner = draw_balanced(labels, rng)
    share = _beta(rng, alpha, 1.0, len(labels))
    return Mixture(partner, share, share)


def _beta(rng: np.random.Generator, a: Number, b: Number, size: int) -> Float64[np.ndarray, " m"]:
    """Draws of Beta(a, b). For a of 0 they are its limit: 1 if b is 0 too, else 0."""
    return rng.beta(a, b, size) if a > 0 else np.full(size, float(b == 0))


def _partly_equal(counts: Counts, alpha: Number = 0.2) -> Frequencies:
    """Class frequencies of the labels of `balanced_mixup`."""
    share = alpha / (1 + alpha)
    return (1 - share) * as_they_are(counts) + share / np.count_nonzero(counts) * (counts > 0)


def _toward_rare(
    counts: Counts, alpha: Number = 0.2, kappa: Number = 3.0, tau: Number = 0.5
) -> Frequencies:
    """Class frequencies of the labels of `remix`."""
    own = as_they_are(counts)
    if alpha == 0:
        return own
    # Mean weight of the frequent class of a pair: that of lambda where it is tau or more.
    left = (1 - betainc(alpha + 1, alpha, tau)) / 2
    frequent = (counts[:, None] >= kappa * counts).astype(int)
    weight = 0.5 + (left - 0.5) * (frequent - frequent.T)
    return 2 * own * (weight @ own)


_ALPHA = {"alpha": Range(0)}

MIXINGS: dict[str, Entry] = {
    "mixup": Entry("mixup", mixup, _ALPHA),
    "remix": Entry(
        "Remix",
        remix,
        {**_ALPHA, "kappa": Range(1), "tau": Range(0, 1)},
        counts=True,
        learned=_toward_rare,
    ),
    "balanced": Entry("Balanced-MixUp", balanced_mixup, _ALPHA, learned=_partly_equal),
}
"""The ways of mixing that recipes may name."""
