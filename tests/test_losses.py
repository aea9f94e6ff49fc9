"""Losses: published numbers, identities, gradients, and what is refused."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from golden import GOLDEN, INPUTS
from hypothesis import given, settings
from hypothesis import strategies as st

from twostage_jax.support.errors import InputError
from twostage_jax.training import losses
from twostage_jax.training.objective import LOSSES

SOFTMAX, SIGMOID = GOLDEN["focal_softmax_loss"], GOLDEN["focal_sigmoid_loss"]
BALANCED = GOLDEN["class_balanced_softmax_loss"]
# Name, parameters, and the losses of the samples or their mean.
PUBLISHED = [
    ("cross_entropy", {}, GOLDEN["cross_entropy"]["rows"]),
    ("weighted", {}, GOLDEN["weighted_cross_entropy"]["batch mean"]),
    *(("class_balanced", {"beta": beta}, BALANCED[f"beta={beta}"]) for beta in (0.9, 0.99, 0.999)),
    ("class_balanced", {}, BALANCED["beta=0.9999"]),
    *(("focal", {"gamma": gamma}, SOFTMAX[f"gamma={gamma}"]) for gamma in (0.5, 1.0)),
    ("focal", {}, SOFTMAX["gamma=2.0"]),
    *(("sigmoid_focal", {"gamma": gamma}, SIGMOID[f"gamma={gamma}"]) for gamma in (0.5, 1.0)),
    ("sigmoid_focal", {}, SIGMOID["gamma=2.0"]),
    ("logit_adjusted", {}, GOLDEN["logit_adjusted_loss"]["tau=1 rows"]),
    ("logit_adjusted", {"tau": 0.5}, GOLDEN["logit_adjusted_loss"]["tau=0.5"]),
    ("ldam", {}, GOLDEN["ldam_loss"]["s=30 rows"]),
    (
        "label_smoothing",
        {"amount": 0.98},
        GOLDEN["label_over_smoothing_loss"]["delta=0.98"],
    ),
    ("label_aware_smoothing", {}, GOLDEN["label_aware_smoothing_loss"]["mean"]),
]
COUNTS = np.array([1000, 100, 50, 10])
REQUIRED = {"label_smoothing": {"amount": 0.1}}
# Less optimized programs are compiled faster.
compiled = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
each = pytest.mark.parametrize("name", LOSSES)


def call_all(calls, logits, labels, counts=COUNTS):
    """Losses of calls (name, parameters), one compiled program as in training."""

    @compiled
    def call(*arguments):
        return [getattr(losses, name)(*arguments, **parameters) for name, parameters in calls]

    return list(map(np.asarray, call(*map(jnp.asarray, (logits, labels, counts)))))


def call(name, *arguments, **parameters):
    return call_all([(name, parameters)], *arguments)[0]


def published(precision):
    """What the published numbers are compared with: LDAM takes cosines."""
    arguments, found = (INPUTS["labels"], INPUTS["class_counts"].astype(precision)), {}
    for kind in ("cosines", "logits"):
        calls = [(name, own) for name, own, _ in PUBLISHED if (name == "ldam") == (kind[0] == "c")]
        values = call_all(calls, INPUTS[kind].astype(precision), *arguments)
        found |= {str(own): value for own, value in zip(calls, values, strict=True)}
    return [found[str((name, own))] for name, own, _ in PUBLISHED]


@pytest.mark.parametrize(("precision", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_losses_are_the_published_numbers(precision, tolerance):
    with jax.enable_x64(precision == "float64"):
        results = published(precision)
    for (name, _, expected), found in zip(PUBLISHED, results, strict=True):
        assert found.dtype == precision
        assert found.shape == (3,)
        # In float32 a loss near 0 is the difference of scores near 30.
        near = 4e-6 if name == "ldam" and precision == "float32" else 0
        own = found if np.ndim(expected) else found.mean()
        np.testing.assert_allclose(own, expected, rtol=tolerance, atol=near, err_msg=name)


@pytest.mark.parametrize("beta", [0.9, 0.99, 0.999, 0.9999])
def test_class_balanced_weights_are_the_published_ones(beta):
    expected = GOLDEN["class_balanced_weights"][f"beta={beta}"]
    with jax.enable_x64(True):
        weights = losses.class_balanced_weights(jnp.asarray(INPUTS["class_counts"]), beta)
        assert weights.dtype == jnp.float64
        np.testing.assert_allclose(weights, expected, rtol=1e-6)
    weights = losses.class_balanced_weights(jnp.asarray(COUNTS), beta)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0, 0.5, 0.9999, 1 - 1e-12])
def test_class_balanced_weights_of_few_samples_are_exact_in_float32(beta):
    counts = np.array([1, 2, 7, 4000])
    powers = counts * (np.log(beta) if beta else -np.inf)
    expected = -1 / np.expm1(powers)
    weights = losses.class_balanced_weights(jnp.asarray(counts), beta)
    np.testing.assert_allclose(weights, 4 * expected / expected.sum(), rtol=1e-6)


def test_published_margins_and_amounts_are_those_of_the_formulas():
    """By the losses of one sample per class, whose scores are all 0."""
    scores, labels = np.zeros((4, 4)), np.arange(4)
    with jax.enable_x64(True):
        margins = call("ldam", scores, labels, scale=1.0)
        # log(3 + exp(-margin)) + margin
        published = np.array(GOLDEN["ldam_loss"]["margins"])
        np.testing.assert_allclose(margins, np.log(3 + np.exp(-published)) + published, rtol=1e-6)
        # Own score 1: log(e + 3) - 1 + amount * 3 / 4
        amounts = call("label_aware_smoothing", np.eye(4), labels)
    expected = GOLDEN["label_aware_smoothing_loss"]["eps"]
    found = (amounts - (np.log(np.e + 3) - 1)) * 4 / 3
    np.testing.assert_allclose(found, expected, rtol=1e-6)


# --- Identities ---


@st.composite
def batches(draw):
    """Six samples of four classes, counts, and another number: always of the same shapes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([0.1, 1.0, 10.0])), (6, 4))
    counts = rng.integers(1, 10 ** rng.integers(1, 5, 4), endpoint=True)
    with jax.enable_x64(True):
        return jnp.asarray(logits), jnp.asarray(rng.integers(0, 4, 6)), jnp.asarray(counts)


@compiled
def sides(logits, labels, counts):
    """Pairs of what has to be equal in every bit, and of what is equal but for rounding."""
    batch, own = (logits, labels, counts), jax.nn.one_hot(labels, 4)
    plain, logs = losses.cross_entropy(*batch), jax.nn.log_softmax(logits)
    exponentials = counts * jnp.exp(logits)
    balanced_softmax = exponentials[jnp.arange(6), labels] / exponentials.sum(1)
    spread = 0.7 * -logs[jnp.arange(6), labels] - 0.3 * logs.mean(1)
    same = [
        (losses.cross_entropy(logits, labels), plain),
        (losses.focal(*batch, gamma=0), plain),
        (losses.logit_adjusted(*batch, tau=0), plain),
        (losses.class_balanced(*batch, beta=0), plain),
        (losses.ldam(*batch, scale=1, largest_margin=0), plain),
    ]
    close = [
        (losses.label_smoothing(*batch, amount=0), plain),
        (losses.label_smoothing(*batch, amount=1), -logs.mean(1)),
        (losses.label_smoothing(*batch, amount=0.3), spread),
        (losses.label_aware_smoothing(*batch, head=0.3, tail=0.3), spread),
        (
            losses.sigmoid_focal(*batch, gamma=0),
            optax.sigmoid_binary_cross_entropy(logits, own).sum(1),
        ),
        (losses.weighted(logits, labels, 2.5 * counts), losses.weighted(*batch)),
        (losses.class_balanced_weights(counts, 0.999).sum(), 4.0),
        (losses.logit_adjusted(*batch), -jnp.log(balanced_softmax)),
    ]
    return same, close


@settings(max_examples=40)
@given(batches())
def test_identities(batch):
    with jax.enable_x64(True):
        same, close = jax.device_get(sides(*batch))
    for one, other in same:
        np.testing.assert_array_equal(one, other)
    for one, other in close:
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


def test_an_epoch_of_weighted_samples_has_the_mean_weight_one():
    labels = np.repeat(np.arange(4), COUNTS)
    weights = call("weighted", np.zeros((len(labels), 4), np.float32), labels) / np.log(4)
    assert weights.mean() == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(np.bincount(labels, weights), 290, rtol=1e-5)


def test_equal_classes_are_smoothed_by_the_tails_amount():
    logits, labels = INPUTS["logits"].astype(np.float32), INPUTS["labels"]
    found = call("label_aware_smoothing", logits, labels, np.full(4, 7), head=0.5, tail=0.2)
    np.testing.assert_allclose(found, call("label_smoothing", logits, labels, amount=0.2))


# --- Programs ---


@each
def test_recipes_and_functions_have_the_same_parameters(name):
    entry, parameters = LOSSES[name], inspect.signature(getattr(losses, name)).parameters
    assert entry.function == name
    assert list(parameters)[:3] == ["logits", "labels", "class_counts"]
    own = {key: value for key, value in parameters.items() if value.kind == value.KEYWORD_ONLY}
    assert len(own) == len(parameters) - 3
    assert own.keys() == entry.ranges.keys()
    required = {key for key, value in own.items() if value.default is value.empty}
    assert required == set(entry.required)
    assert all(own[key].default in entry.ranges[key] for key in own.keys() - required)
    assert entry.counts == (parameters["class_counts"].default is inspect.Parameter.empty)


CALLS = [(name, REQUIRED.get(name, {})) for name in LOSSES]


def test_losses_of_many_members_are_those_of_each():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 5, 4)).astype(np.float32)
    labels, counts = rng.integers(0, 4, (3, 5)), rng.integers(1, 99, (3, 4))

    @compiled
    @jax.vmap
    def lifted(*batch):
        return [getattr(losses, name)(*batch, **parameters) for name, parameters in CALLS]

    found = lifted(logits, labels, counts)
    for member in range(3):
        alone = call_all(CALLS, logits[member], labels[member], counts[member])
        for of_many, own in zip(found, alone, strict=True):
            np.testing.assert_allclose(of_many[member], own, rtol=1e-5, atol=1e-6)


def test_gradients_are_finite_where_the_loss_is():
    """Also of samples that are certainly right or certainly wrong."""
    calls = [
        *CALLS,
        *((name, {"gamma": gamma}) for name in ("focal", "sigmoid_focal") for gamma in (0, 0.3)),
        ("class_balanced", {"beta": 0}),
        ("label_smoothing", {"amount": 1}),
    ]
    logits = jnp.array([[0.5, 0, 0], [200, 0, 0], [0, 200, 0], [1e4, -1e4, 0], [-1e4, 1e4, 0]])
    batch = jnp.zeros(5, int), jnp.array([3, 3, 1])

    @compiled
    def differentiate(logits):
        totals = [
            lambda x, name=name, own=own: getattr(losses, name)(x, *batch, **own).sum()
            for name, own in calls
        ]
        return [jax.value_and_grad(total)(logits) for total in totals]

    for (name, own), (total, gradient) in zip(calls, differentiate(logits), strict=True):
        assert np.isfinite(total), (name, own)
        assert np.isfinite(gradient).all(), (name, own)
        assert np.abs(gradient[0]).max() > 0, (name, own)


# --- What is refused ---


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("class_balanced", {"beta": 1}, "beta 1 of loss 'class_balanced' found, 0 or more and bel"),
        ("focal", {"gamma": -0.5}, "gamma -0.5 of loss 'focal' found, 0 or more expected"),
        ("sigmoid_focal", {"gamma": np.nan}, "gamma nan of loss 'sigmoid_focal' found"),
        ("logit_adjusted", {"tau": -1}, "tau -1 of loss 'logit_adjusted' found, 0 or more"),
        ("ldam", {"scale": 0}, "scale 0 of loss 'ldam' found, above 0 expected"),
        ("label_smoothing", {"amount": 1.1}, "amount 1.1 .* 0 or more and at most 1 expected"),
        (
            "label_smoothing",
            {},
            "loss 'label_smoothing' has no amount, 0 or more and at most 1 exp",
        ),
        ("focal", {"alpha": 1}, "unknown parameter of loss 'focal' 'alpha'"),
    ],
)
def test_bad_parameters_are_refused(name, parameters, message):
    logits, labels = jnp.zeros((2, 4)), jnp.zeros(2, int)
    with pytest.raises(InputError, match=f"^{message}") as error:
        getattr(losses, name)(logits, labels, COUNTS, **parameters)
    assert "\n" not in str(error.value)


def test_class_balanced_weights_refuse_a_bad_beta():
    with pytest.raises(InputError, match="beta 1 of loss 'class_balanced' found, 0 or more and be"):
        losses.class_balanced_weights(jnp.asarray(COUNTS), 1)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", [name for name, entry in LOSSES.items() if entry.counts])
def test_bad_counts_are_refused(name):
    function, logits, labels = getattr(losses, name), jnp.zeros((2, 4)), jnp.zeros(2, int)
    for counts, message in (
        (None, f"loss '{name}' has no class_counts, the number of samples of each of 4 classes"),
        (COUNTS[:3], rf"class_counts of shape \(3,\) found for loss '{name}', the number of sampl"),
        (jnp.asarray([3, 0, 1, 1]), f"loss '{name}' found a class with 0 samples, at least one of"),
    ):
        with pytest.raises(InputError, match=f"^{message}"):
            function(logits, labels, counts)
    # Inside a program only the shape is known.
    with pytest.raises(InputError, match="class_counts of shape"):
        jax.jit(function)(logits, labels, COUNTS[:3])
