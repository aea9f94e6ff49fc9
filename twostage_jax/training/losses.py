"""Losses: pure functions of class scores and labels, one value per sample.

Each is called as `f(logits, labels, class_counts, **parameters)`. Class counts are those of the
samples that the loss is trained on. Parameters are Python numbers, part of the compiled program;
`objective.LOSSES` has their ranges. The loss of a batch is the mean over its samples, also where
samples are weighted: PyTorch's weighted cross-entropy, and published code that uses it (Cao et
al.), divides by the sum of the batch's weights instead, so that a batch of one class is not
weighted at all.

All raise an InputError for a parameter out of its range and, where they need counts, for counts
that are missing, not one per class or not above 0. Values that are traced are not looked at.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Num

from twostage_jax.support.errors import InputError
from twostage_jax.training.objective import LOSSES, Call, Number, require_call

Logits = Float[Array, "b classes"]
Labels = Int[Array, " b"]
Counts = Num[Array | np.ndarray, " classes"]
Losses = Float[Array, " b"]


def _checked(function: Callable[..., Losses]) -> Callable[..., Losses]:
    """Checks the arguments of a loss that `LOSSES` has by the function's name."""
    name = function.__name__

    @functools.wraps(function)
    def checked(logits, labels, class_counts=None, **parameters):
        if require_call("loss", Call.of(name, **parameters), LOSSES).counts:
            _require_counts(name, logits.shape[-1], class_counts)
        return function(logits, labels, class_counts, **parameters)

    return checked


def _require_counts(name: str, classes: int, class_counts: Counts | None) -> None:
    expected = f"the number of samples of each of {classes} classes expected"
    if class_counts is None:
        raise InputError(f"loss '{name}' has no class_counts, {expected}; pass them")
    if class_counts.shape != (classes,):
        raise InputError(
            f"class_counts of shape {class_counts.shape} found for loss '{name}', {expected}; pass "
            "one number per class"
        )
    if not isinstance(class_counts, Tracer) and not np.all(np.asarray(class_counts) > 0):
        raise InputError(
            f"loss '{name}' found a class with {np.min(class_counts):g} samples, at least one of "
            "each class expected; choose another loss or add samples"
        )


def _real(class_counts: Counts, logits: Logits) -> Float[Array, " classes"]:
    """Counts in the precision of the class scores, but at least in float32."""
    return jnp.asarray(class_counts, jnp.promote_types(logits.dtype, jnp.float32))


def _own_class(logits: Logits, labels: Labels) -> Bool[Array, "b classes"]:
    return jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)


@_checked
def cross_entropy(logits: Logits, labels: Labels, class_counts: Counts | None = None) -> Losses:
    """Cross-entropy in nats: -log p_y, of p = softmax(logits).

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: not used.
    """
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


@_checked
def weighted(logits: Logits, labels: Labels, class_counts: Counts) -> Losses:
    """Cross-entropy, weighted by n / (K n_y): of n samples and K classes, n_y of the sample's.

    An epoch's weights have the mean 1, and all classes the same sum. They depend on the proportions
    of `class_counts` alone. Source: G. King and L. Zeng, *Logistic regression in rare events data*,
    2001; scikit-learn's `balanced`. Published code differs in the mean over a batch, see above.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: samples of each class, above 0.
    """
    share = _real(class_counts, logits)
    share /= share.sum()
    return cross_entropy(logits, labels) / (len(share) * share[labels])


def class_balanced_weights(class_counts: Counts, beta: Number) -> Float[Array, " classes"]:
    """Weights in proportion to (1 - beta) / (1 - beta^n_k), which add up to the number of classes.

    (1 - beta^n) / (1 - beta) is the effective number of n samples: 1 for beta 0, n for beta toward
    1. Source: Y. Cui et al., *Class-balanced loss based on effective number of samples*, 2019.
    Published code subtracts the power from 1, in float64; in float32 that would leave
    three digits for beta 0.9999 and n = 1, and `expm1` leaves all.

    Args:
        class_counts: samples of each class, above 0.
        beta: 0 or more and below 1.

    Raises:
        InputError: beta is out of its range.
    """
    require_call("loss", Call.of("class_balanced", beta=beta), LOSSES)
    counts = jnp.asarray(class_counts, jnp.result_type(class_counts, float))
    weights = -1 / jnp.expm1(counts * (math.log(beta) if beta > 0 else -math.inf))
    return weights * (len(weights) / weights.sum())


@_checked
def class_balanced(
    logits: Logits, labels: Labels, class_counts: Counts, *, beta: Number = 0.9999
) -> Losses:
    """Cross-entropy, weighted by `class_balanced_weights`.

    Source: Y. Cui et al., 2019. Their code takes the mean over the batch as we do; that
    of Cao et al. divides by the sum of weights, see above.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: samples of each class, above 0.
        beta: 0 weighs all classes alike; toward 1 the weights become those of `weighted`, scaled.
    """
    weights = class_balanced_weights(_real(class_counts, logits), beta)
    return weights[labels] * cross_entropy(logits, labels)


@_checked
def focal(
    logits: Logits, labels: Labels, class_counts: Counts | None = None, *, gamma: Number = 2.0
) -> Losses:
    """(1 - p_y)^gamma times the cross-entropy, of p = softmax(logits).

    Source: T.-Y. Lin et al., *Focal loss for dense object detection*, 2017, equation 4, with a
    softmax in place of the sigmoid, as in the code of K. Cao et al., 2019. That code computes 1 - p
    from a rounded p, whose power has no finite gradient at p = 1 for gamma below 1, and takes p
    from the loss that is already weighted where it has class weights. Here log(1 - p) is computed
    from the scores of the other classes, and there is no weight alpha.

    Args:
        logits: unnormalized log-probabilities, of at least two classes.
        labels: class of each sample, 0 or more.
        class_counts: not used.
        gamma: 0 is cross-entropy.
    """
    others = jnp.where(_own_class(logits, labels), -jnp.inf, logits)
    log_rest = jax.nn.logsumexp(others, axis=-1) - jax.nn.logsumexp(logits, axis=-1)
    return jnp.exp(gamma * log_rest) * cross_entropy(logits, labels)


@_checked
def sigmoid_focal(
    logits: Logits, labels: Labels, class_counts: Counts | None = None, *, gamma: Number = 2.0
) -> Losses:
    """Focal loss of one sigmoid per class, summed over the classes.

    The term of class k is -(1 - q)^gamma log q, of q = sigmoid(logit_k) for the sample's class and
    q = 1 - sigmoid(logit_k) for the others (`optax.sigmoid_focal_loss`). Source: T.-Y. Lin et al.,
    2017, equation 4; summed as in Y. Cui et al., 2019. Lin et al. weigh the sample's class by alpha
    0.25 and the others by 0.75 and divide by the number of boxes that show an object; here, as in
    the code of Cui et al., there is no alpha of that kind and a batch is divided by its samples.
    Predictions come from the softmax of the scores, as for all losses.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: not used.
        gamma: 0 is the binary cross-entropy, summed.
    """
    own = _own_class(logits, labels)
    return optax.sigmoid_focal_loss(logits, own.astype(logits.dtype), gamma=gamma).sum(-1)


@_checked
def logit_adjusted(
    logits: Logits, labels: Labels, class_counts: Counts, *, tau: Number = 1.0
) -> Losses:
    """Cross-entropy of logits + tau log(n_k / n), in training only.

    Source: A. K. Menon et al., *Long-tail learning via logit adjustment*, 2021, equation 10. At tau
    1 it is the balanced softmax of J. Ren et al., *Balanced meta-softmax for long-tailed visual
    recognition*, 2020, whose code adds log n_k: the same, as a sum that all classes share changes
    no softmax. Published code adds 1e-12 inside the logarithm for classes without samples; here
    such classes are refused.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: samples of each class, above 0.
        tau: 0 is cross-entropy.
    """
    counts = _real(class_counts, logits)
    return cross_entropy(logits + tau * jnp.log(counts / counts.sum()), labels)


@_checked
def ldam(
    logits: Logits,
    labels: Labels,
    class_counts: Counts,
    *,
    scale: Number = 30.0,
    largest_margin: Number = 0.5,
) -> Losses:
    """Cross-entropy of scale (cos_k - margin_k [k = y]), with larger margins for rare classes.

    The margin of class k is in proportion to n_k^(-1/4), and that of the rarest is the largest.
    Source: K. Cao et al., *Learning imbalanced datasets with label-distribution-aware margin loss*,
    2019. Their code is the same, but with class weights it divides a batch by their sum; see above.

    Args:
        logits: cosines of a representation and of the class weights, -1 to 1, not yet scaled.
        labels: class of each sample, 0 or more.
        class_counts: samples of each class, above 0.
        scale: of the cosines; predictions are the softmax of the scaled cosines, without margins.
        largest_margin: in cosines, that of the rarest class.
    """
    counts = _real(class_counts, logits)
    margins = largest_margin * (counts.min() / counts) ** 0.25
    return cross_entropy(scale * (logits - margins * _own_class(logits, labels)), labels)


@_checked
def label_smoothing(
    logits: Logits, labels: Labels, class_counts: Counts | None = None, *, amount: Number
) -> Losses:
    """Cross-entropy of smoothed labels: `amount` of each is spread evenly over all K classes.

    The label of class y has 1 - amount + amount / K there and amount / K elsewhere
    (`optax.smooth_labels`). Source: C. Szegedy et al., *Rethinking the Inception architecture for
    computer vision*, 2016, section 7. S. Sun et al., *Rethinking classifier re-training in
    long-tailed recognition: label over-smooth can balance*, 2025, take 0.98 for a head.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: not used.
        amount: 0 is cross-entropy, 1 leaves nothing of the label.
    """
    return _smoothed(logits, labels, jnp.asarray(amount, logits.dtype))


@_checked
def label_aware_smoothing(
    logits: Logits, labels: Labels, class_counts: Counts, *, head: Number = 0.4, tail: Number = 0.1
) -> Losses:
    """Label smoothing by an amount that grows from the rarest class to the most frequent one.

    The amount of class k is tail + (head - tail) sin(pi/2 (n_k - least) / (most - least)), of the
    least and the most samples of a class; where all classes are equal it is `tail`. Source: Z.
    Zhong et al., *Improving calibration for long-tailed recognition*, 2021, the concave form. Their
    text leaves 1 - amount to the label's class and shares `amount` among the K - 1 others; their
    code shares it among all K, as `label_smoothing` does. Here it is as in the code, which divides
    by 0 where all classes are equal.

    Args:
        logits: unnormalized log-probabilities.
        labels: class of each sample, 0 or more.
        class_counts: samples of each class, above 0.
        head: amount of the most frequent class.
        tail: amount of the rarest class.
    """
    counts = _real(class_counts, logits)
    least, most = counts.min(), counts.max()
    place = (counts - least) / jnp.where(most > least, most - least, 1)
    amounts = tail + (head - tail) * jnp.sin(jnp.pi / 2 * place)
    return _smoothed(logits, labels, amounts[labels, None])


def _smoothed(
    logits: Logits, labels: Labels, amount: Float[Array, ""] | Float[Array, "b 1"]
) -> Losses:
    own = _own_class(logits, labels).astype(logits.dtype)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(own, amount))
