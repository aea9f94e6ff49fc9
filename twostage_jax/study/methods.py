"""The methods of the field beyond the paper's: losses, mixing, heads and a correction.

Heads work on cached features, so that batch norm's statistics are those of stage 1. Where published
code lets them move in its second stage, the text says so.
"""

from twostage_jax.study.recipe import Approach, Stage1, Stage2
from twostage_jax.training.objective import Call


def _loss(name: str, title: str, stage1: Stage1, about: str, source: str) -> Approach:
    return Approach(f"loss_{name}", title, "loss", stage1, about=about, source=source)


def _mixing(name: str, title: str, stage1: Stage1, about: str, source: str) -> Approach:
    return Approach(f"mix_{name}", title, "mixing", stage1, about=about, source=source)


def _head(
    name: str, title: str, stage2: Stage2, about: str, source: str, sampler: str | None = None
) -> Approach:
    family, stage1 = "head", Stage1(sampler)
    return Approach(f"head_{name}", title, family, stage1, stage2, about=about, source=source)


_KANG = "Kang et al. 2020"

METHODS = (
    _loss(
        "weighted",
        "Weighted loss",
        Stage1(loss=Call("weighted")),
        "cross-entropy, each class weighted by n / (K n_k)",
        "King and Zeng 2001; scikit-learn's 'balanced'",
    ),
    _loss(
        "class_balanced",
        "Class-balanced loss",
        Stage1(loss=Call("class_balanced")),
        "cross-entropy, each class weighted by its effective number of samples, beta 0.9999",
        "Cui et al. 2019",
    ),
    _loss(
        "focal",
        "Focal loss",
        Stage1(loss=Call("focal")),
        "cross-entropy, well classified samples weighted down, gamma 2, softmax",
        "Lin et al. 2017",
    ),
    _loss(
        "logit_adjusted",
        "Logit-adjusted loss",
        Stage1(loss=Call("logit_adjusted")),
        "cross-entropy on scores plus the logarithm of the class frequencies (balanced softmax)",
        "Menon et al. 2021; Ren et al. 2020",
    ),
    _loss(
        "ldam_drw",
        "LDAM-DRW",
        Stage1(loss=Call("ldam"), deferred=True),
        "margins that are larger for rare classes, cosine classifier, class weights at the end",
        "Cao et al. 2019",
    ),
    _mixing(
        "mixup",
        "mixup",
        Stage1(mixing=Call("mixup")),
        "mixtures of two images and of their labels",
        "Zhang et al. 2018",
    ),
    _mixing(
        "remix",
        "Remix",
        Stage1(mixing=Call("remix")),
        "mixup whose label is the rarer class's alone where its share is large enough",
        "Chou et al. 2020",
    ),
    _mixing(
        "balanced",
        "Balanced-MixUp",
        Stage1(mixing=Call("balanced")),
        "mixtures of each image with one of a class-balanced draw",
        "Galdran et al. 2021",
    ),
    _mixing(
        "mixup_drw",
        "mixup-DRW",
        Stage1(mixing=Call("mixup"), deferred=True),
        "mixup, and class weights at the end",
        "Zhang et al. 2018; Cao et al. 2019",
    ),
    _head(
        "crt",
        "cRT",
        Stage2(fresh=True, balanced_batches=True),
        "a new head on class-balanced batches (published code also moves batch norm's statistics)",
        _KANG,
    ),
    _head(
        "lws",
        "LWS",
        Stage2(learns="scales", balanced_batches=True),
        "one learned scale per class on the scores of stage 1, class-balanced batches (published "
        "code also moves batch norm's statistics)",
        _KANG,
    ),
    _head(
        "tau",
        "tau-normalized",
        Stage2(learns="tau"),
        "class weights divided by a power of their norm, which a part of the training data chooses",
        _KANG,
    ),
    _head(
        "los",
        "Label over-smoothing",
        Stage2(loss=Call.of("label_smoothing", amount=0.98), fresh=True),
        "a new head on labels smoothed by 0.98",
        "Sun et al. 2025",
    ),
    _head(
        "las",
        "Label-aware smoothing",
        Stage2(loss=Call("label_aware_smoothing"), balanced_batches=True),
        "labels smoothed more for frequent classes, class-balanced batches (published code also "
        "learns a scale per class and moves batch norm's statistics)",
        "Zhong et al. 2021",
    ),
    _head(
        "logit_adjusted",
        "Logit-adjusted head",
        Stage2(loss=Call("logit_adjusted")),
        "the head goes on with the logit-adjusted loss",
        "Menon et al. 2021",
    ),
    _head(
        "class_balanced",
        "Class-balanced head",
        Stage2(loss=Call("class_balanced")),
        "the head goes on with the class-balanced loss",
        "Cui et al. 2019",
    ),
    _head(
        "two_phase",
        "Two-phase",
        Stage2(),
        "a network on over-sampled images, then its head on the features of the original ones",
        "Havaei et al. 2017; Buda et al. 2018",
        sampler="ros",
    ),
    _head(
        "ncm",
        "Nearest class mean",
        Stage2(learns="class_means"),
        "the class whose mean in the hidden layer is nearest",
        _KANG,
    ),
    Approach(
        "post_prior",
        "Prior correction",
        "correction",
        correction="prior",
        about="the baseline's probabilities divided by the class frequencies",
        source="Buda et al. 2018; Menon et al. 2021",
    ),
)
"""Registered by `study.approaches`."""
