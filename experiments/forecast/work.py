"""The work of a study: how many samples go through each of its programs."""

from collections.abc import Sequence

import numpy as np

from experiments.forecast.programs import Setting, feature_size, neighbor_rows
from twostage_jax.data.image_set import ImageSet
from twostage_jax.resampling.registry import make_sampler
from twostage_jax.study.jobs import Network, Scope, list_networks
from twostage_jax.study.plans import Plans

# Random images stand for those that are not here: what most samplers decide is how many samples
# they make of the classes, and that does not depend on pixels.
_SIDE = 2


def imagined_plans(setting: Setting) -> Plans:
    """Plans of a study on images of which only the number per class is known."""
    labels = np.repeat(np.arange(len(setting.class_counts)), setting.class_counts)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), _SIDE, _SIDE, 3), np.uint8)
    images = ImageSet.create(
        images=pixels,
        labels=labels,
        class_names=[str(i + 1) for i in range(len(setting.class_counts))],
        names=[f"{i:09d}" for i in range(len(labels))],
        source="random pixels in place of the study's",
    )
    return Plans(images, setting.protocol)


def count_work(setting: Setting, scope: Scope) -> dict[str, float]:
    """Samples that go through each program in a whole study.

    Heads count with their longest plans. Neighbor searches count one query for each tile that it
    meets; searches of SMOTE are within classes, and on pixels once for the whole study.

    Raises:
        InputError: as `list_networks`.
    """
    plans = imagined_plans(setting)
    networks = list_networks(plans, scope)
    heads = [(net, own) for net in networks for own in _stage2_samplers(net)]
    pixels = _pairs_of_pixels(setting, plans, networks)
    features = sum(
        _pairs(plans.class_counts(net.partition), sampler) for net, sampler in heads if sampler
    )
    return {
        "stage1": setting.protocol.epochs * sum(net.images for net in networks),
        "features": sum(_extracted(plans, net) for net in networks),
        "heads": setting.protocol.epochs_of_heads
        * sum(_longest(plans, net, sampler) for net, sampler in heads),
        "pixel_neighbors": pixels / neighbor_rows(setting.images, 3 * setting.pixels**2, True),
        "feature_neighbors": features / neighbor_rows(setting.images, feature_size(setting), False),
    }


def _pairs_of_pixels(setting: Setting, plans: Plans, networks: Sequence[Network]) -> int:
    """Pairs of images whose distances the samplers of stage 1 take."""
    samplers = [(net, net.stage1.sampler) for net in networks if net.stage1.sampler]
    once = _pairs(np.array(setting.class_counts), "smote")
    ranked = once if any(sampler == "smote" for _, sampler in samplers) else 0
    return ranked + sum(
        _pairs(plans.class_counts(net.partition), sampler)
        for net, sampler in samplers
        if sampler != "smote"
    )


def _stage2_samplers(network: Network) -> list[str | None]:
    """The sampler of each head; approaches that differ in a correction share one."""
    heads = {own.base_name: own.stage2 for own in network.approaches if own.stage2 is not None}
    return [stage2.sampler for stage2 in heads.values()]


def _extracted(plans: Plans, network: Network) -> int:
    """Images whose features a network extracts: of the test fold, and of training for heads."""
    partition = plans.partition(network.partition)
    return len(partition.test) + len(partition.train) * bool(_stage2_samplers(network))


def _longest(plans: Plans, network: Network, sampler: str | None) -> int:
    """Samples per epoch of a head, at most."""
    counts = plans.class_counts(network.partition)
    return int(len(counts) * counts.max() if sampler else counts.sum())


def _pairs(counts: np.ndarray, sampler: str) -> int:
    """Pairs of samples whose distances a sampler takes."""
    if not make_sampler(sampler, seed=0, k_neighbors=1).reads_samples:
        return 0
    counts = counts.astype(np.int64)
    return int((counts**2).sum() if sampler == "smote" else counts.sum() ** 2)
