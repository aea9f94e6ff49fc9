"""Losses, mixing, heads and corrections inside training: identities, references, one compile."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from records import same_result
from textures import textures
from tiny_network import TINY

from twostage_jax.resampling.mixing import Mixture
from twostage_jax.resampling.plan import Plan, epoch_batches
from twostage_jax.study.approaches import (
    PAPER,
    Approach,
    Stage1,
    Stage2,
    choose,
    find,
    listed,
    position,
    register,
)
from twostage_jax.study.corrections import correct_prior
from twostage_jax.study.folder import read_record, read_records, write_record
from twostage_jax.study.jobs import Scope, find_base
from twostage_jax.study.recipe import require_possible
from twostage_jax.study.record import RecordKey, known_prior
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError
from twostage_jax.support.streams import derive
from twostage_jax.training.lifting import Lifted
from twostage_jax.training.objective import PLAIN, Call, Objective
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.steps import SCALES_RATE, ClassSizes, Stages, Tally
from twostage_jax.training.trainer import Trainer

# Deferred weights count in the last epoch. The step size is that of no other test: compiled
# programs are shared, and they are counted here.
PROTOCOL = Protocol(
    network=TINY, epochs=5, head_epochs=3, learning_rate=1.1e-3, k_neighbors=2, batch_size=16
)
# Most objectives of both stages, and every way to compute a head.
CHOSEN = (
    *("baseline", "fs_rus", "fs_enn", "loss_focal", "loss_ldam_drw", "mix_remix"),
    *("head_crt", "head_lws", "head_tau", "head_ncm", "head_las", "head_two_phase"),
)
CLASSES = 8


@pytest.fixture(scope="module")
def images():
    return textures(images_per_class=20)


def make_study(folder: Path, image_set, names, output="out", ratios=(3.0,)) -> Study:
    return Study(
        image_set,
        "textures",
        PROTOCOL,
        None,
        Scope(("half_minority",), ratios, 1, choose(names)),
        output=folder / output,
        checkpoints=folder / "checkpoints",
    )


def train(study: Study) -> None:
    study.open("test")
    assert not any(done.failed for done in study.run(study.pending(study.groups(1))))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, images) -> Study:
    study = make_study(tmp_path_factory.mktemp("methods"), images, CHOSEN, ratios=(2.0, 3.0))
    train(study)
    return study


@pytest.fixture(scope="module")
def records(trained) -> dict:
    """The records of ratio 3, by approach."""
    found = read_records(trained.folder.records)
    assert len(found) == 2 * len(CHOSEN)
    return {record.key.approach: record for record in found if record.key.ratio == 3}


@pytest.mark.integration
def test_every_objective_is_compiled_once_for_the_whole_study(trained, records):
    """For both ratios and all approaches that share it."""
    own = trained.scope.approaches
    networks = {approach.stage1.objective for approach in own}
    heads = {a.stage2.objective for a in own if a.stage2 is not None and a.stage2.is_trained}
    assert (len(networks), len(heads)) == (4, 3)
    trainers = trained.trainer.trainers
    assert {trainers(objective).network.compiled for objective in networks} == {1}
    assert {trainers(objective).head.compiled for objective in heads} == {1}


@pytest.mark.integration
def test_approaches_share_networks_and_differ_where_they_should(records):
    plain = records["baseline"]
    for name in ("head_crt", "head_lws", "head_tau", "head_ncm", "head_las"):
        assert np.array_equal(records[name].curve1, plain.curve1)
        assert not np.array_equal(records[name].probabilities, plain.probabilities)
    assert len(records["head_tau"].curve2) == len(records["head_ncm"].curve2) == 0
    assert len(records["head_lws"].curve2) == PROTOCOL.head_epochs
    for name in ("loss_focal", "loss_ldam_drw", "mix_remix", "head_two_phase"):
        assert not np.array_equal(records[name].curve1, plain.curve1)


@pytest.mark.integration
def test_records_say_under_which_class_frequencies_they_hold(records):
    own = records["baseline"].class_counts / records["baseline"].class_counts.sum()
    for name in ("baseline", "loss_focal"):
        np.testing.assert_allclose(records[name].prior, own)
    for name in ("fs_rus", "head_crt", "head_ncm"):
        np.testing.assert_allclose(records[name].prior, 1 / CLASSES)
    for name in ("head_tau", "head_lws", "head_las", "loss_ldam_drw"):
        assert len(records[name].prior) == 0, "not known"


# --- Corrections ---


@pytest.mark.integration
def test_corrections_follow_from_records_that_are_there(trained, records, images, monkeypatch):
    """Nothing is trained, and a correction of equal frequencies changes next to nothing."""
    names = ("baseline", "post_prior", "fs_enn", "fs_enn+prior", "fs_rus+prior")
    folder = trained.folder.path.parent
    study = make_study(folder, images, names)
    groups = study.groups(1)
    assert study.pending(groups) == []
    study.open("again")
    assert list(study.run(study.pending(groups))) == []

    def corrected(name: str):
        return read_record(study.folder.record(RecordKey("half_minority", 3.0, 0, name)))

    for name, base in [("post_prior", "baseline"), ("fs_enn+prior", "fs_enn")]:
        there, record = records[base], corrected(name)
        expected = correct_prior(there.probabilities, there.prior)
        assert np.array_equal(record.probabilities, expected)
        assert np.array_equal(record.curve1, there.curve1)
        np.testing.assert_allclose(record.prior, 1 / CLASSES)
    balanced = records["fs_rus"].probabilities
    np.testing.assert_allclose(corrected("fs_rus+prior").probabilities, balanced, rtol=1e-5)

    # Trained anew elsewhere, without the uncorrected ones, they are the same bit for bit.
    twin = make_study(folder, images, ("fs_enn+prior", "post_prior"), output="twin")
    train(twin)
    for record in read_records(twin.folder.records):
        assert same_result(record, corrected(record.key.approach))


def test_a_correction_finds_what_it_corrects():
    known = [find(name) for name in (*PAPER, "fs_enn")]
    assert find_base(find("post_prior"), known) == find("baseline")
    assert find_base(find("fs_enn+prior"), known) == find("fs_enn")
    assert find_base(find("fs_tomek+prior"), known) is None
    assert find_base(find("fs_enn"), known) is None
    # A head's random streams are named after its approach: another name is another head.
    own = Approach("mine", "Mine", "other", stage2=Stage2("enn"), correction="prior")
    assert find_base(own, known) is None


@pytest.mark.integration
def test_records_of_older_versions_are_corrected_where_they_can_be(trained, images, tmp_path):
    """They do not say what was learned; a plain network learned the classes as they are."""
    study = make_study(tmp_path, images, ("baseline", "post_prior", "fs_enn", "fs_enn+prior"))
    for name in ("baseline", "fs_enn"):
        source = trained.folder.record(RecordKey("half_minority", 3.0, 0, name))
        write_record(study.folder.records, replace(read_record(source), prior=np.zeros(0)))
    study.open("again")
    made = [record.key.approach for record in read_records(study.folder.records)]
    assert made == ["baseline", "fs_enn", "post_prior"]
    assert len(study.pending(study.groups(1))) == 1
    plain, corrected = read_records(study.folder.records)[::2]
    counts = plain.class_counts / plain.class_counts.sum()
    np.testing.assert_allclose(
        corrected.probabilities, correct_prior(plain.probabilities, counts), rtol=1e-6
    )
    np.testing.assert_allclose(known_prior(plain, find("baseline")), counts)
    old = replace(corrected, prior=np.zeros(0))
    np.testing.assert_allclose(known_prior(old, find("post_prior")), 1 / CLASSES)


# --- The training step ---


def of_one(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


def train_network(objective: Objective, plan: Plan, table, mix=None, late=False):
    """The parameters after one epoch, and the tally."""
    stages = Stages(PROTOCOL, CLASSES, objective=objective)
    batches = epoch_batches(plan, 16, 10, 0, mix=mix)
    counts = np.bincount(plan.label, minlength=CLASSES).astype(np.float32)
    sizes = [of_one(ClassSizes(counts, np.array(late)))] if objective.needs_sizes else []
    state, tally = of_one(stages.init_network(jax.random.key(0))), Tally(jnp.zeros(1), jnp.zeros(1))
    return Lifted(stages.train_network, sequential=True)(
        state, tally, table, of_one(batches), 0, 10, *sizes
    )


@pytest.fixture(scope="module")
def plan(images) -> Plan:
    return Plan.of_all(images.labels).of_rows(np.arange(len(images)))


def equal(one, other) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_mixtures_of_the_sample_alone_are_plain_training_bit_for_bit(images, plan):
    def alone(labels):
        nothing = np.zeros(len(labels))
        return Mixture(np.random.default_rng(0).permutation(len(labels)), nothing, nothing)

    plain = train_network(PLAIN, plan, images.images)
    mixed = train_network(Objective(mixed=True), plan, images.images, alone)
    assert equal(plain, mixed)


def test_deferred_weights_count_late_only(images, plan):
    some = plan.of_kept(plan.label, np.flatnonzero(np.arange(len(plan)) % 20 < plan.label + 4))
    plain = train_network(PLAIN, some, images.images)
    early = train_network(Objective(deferred=True), some, images.images)
    assert equal(plain, early)
    assert not equal(plain, train_network(Objective(deferred=True), some, images.images, late=True))


def test_the_loss_of_a_mixture_has_both_labels_by_their_weights(images, plan):
    """A mixture of an image with itself, half and half of its label and of the next class."""
    rng = np.random.default_rng(0)

    def halves(labels):
        order = np.argsort((labels + 1) % CLASSES, kind="stable")
        partner = np.empty(len(labels), int)
        partner[np.argsort(labels, kind="stable")] = order[np.argsort(labels[order], kind="stable")]
        weight = rng.uniform(size=len(labels))
        halves.seen = labels[partner], weight
        return Mixture(partner, np.zeros(len(labels)), weight)

    # One step: the tally is that of the first parameters.
    first = Plan.of_kept(plan.label, np.arange(0, len(plan), 10))
    _, tally = train_network(Objective(mixed=True), first, images.images, halves)
    stages = Stages(PROTOCOL, CLASSES)
    state = stages.init_network(jax.random.key(0))
    network = nnx.merge(stages.network_graph, state.params, state.stats)
    logits = network(jnp.float32(images.images[first.base]), jnp.ones(len(first), bool))
    logs = np.asarray(jax.nn.log_softmax(logits))
    rows, (other, weight) = np.arange(len(first)), halves.seen
    losses = -(1 - weight) * logs[rows, first.label] - weight * logs[rows, other]
    assert float(tally.loss[0]) == pytest.approx(losses.sum(), rel=1e-5)


def test_synthetic_samples_are_not_mixed(plan):
    moved = replace(plan, neighbor=np.roll(plan.neighbor, 1), step=plan.step + 0.5)
    with pytest.raises(InputError, match=r"mixing found synthetic samples .*such as ros"):
        epoch_batches(moved, 16, 10, 0, mix=lambda labels: None)


def test_synthetic_images_to_mix_are_refused_before_training(images, tmp_path):
    own = Approach("x", "X", "other", Stage1("smote", mixing=Call("mixup")))
    scope = Scope(("half_minority",), (3.0,), 1, (own,))
    study = make_study(tmp_path, images, ("baseline",))
    study.scope = scope
    with pytest.raises(InputError, match=r"SMOTE, mixup on .*: mixing found synthetic samples"):
        study.groups(1)


def test_learned_scales_follow_the_formula():
    """LWS against NumPy: RMSprop on the scales of fixed scores, then a head with them inside."""
    rng = np.random.default_rng(0)
    objective = Objective(scales=True)
    stages = Stages(PROTOCOL, CLASSES, feature_size=6, objective=objective)
    head = stages.init_head(jax.random.key(1))
    x = jnp.asarray(rng.normal(size=(48, 6)), jnp.float32)
    own = Plan.of_all(rng.integers(0, CLASSES, 48)).of_rows(np.arange(48))
    batches = epoch_batches(own, 16, 3, 0)
    state, tally = of_one(stages.start_head(head)), Tally(jnp.zeros(1), jnp.zeros(1))
    program = Lifted(stages.train_head, sequential=True)
    state, _ = program(state, tally, x, of_one(batches), 0, 3)

    plain = nnx.merge(stages.head_graph, head)
    scores = np.asarray(plain(x), np.float64)
    scales, mean_square = np.ones(CLASSES), np.zeros(CLASSES)
    for rows, labels in zip(batches.base, batches.label, strict=True):
        z = scores[rows]
        p = np.exp(scales * z) / np.exp(scales * z).sum(1, keepdims=True)
        gradient = ((p - np.eye(CLASSES)[labels]) * z).mean(0)
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        scales -= SCALES_RATE * gradient / (np.sqrt(mean_square) + PROTOCOL.epsilon)
    np.testing.assert_allclose(state.params[0], scales, rtol=1e-4)
    ended = stages.end_head(jax.tree.map(lambda leaf: leaf[0], state))
    found = nnx.merge(stages.head_graph, ended)(x)
    np.testing.assert_allclose(found, scales * scores, rtol=1e-3, atol=1e-5)


def test_scales_are_learned_on_a_trained_head_whatever_the_protocol_says(images):
    protocol = replace(PROTOCOL, fresh_head=True, learning_rate=1.2e-3, head_epochs=1)
    trainer = Trainer(protocol, images.class_counts, images.images)
    stages, rows = Stages(protocol, CLASSES), np.arange(32)
    network = of_one(stages.init_network(jax.random.key(5)))
    size = network.params["head"]["hidden"]["kernel"][...].shape[1]
    features = jnp.asarray(np.random.default_rng(0).normal(size=(1, 32, size)), jnp.float32)
    own = Plan.of_all(rows % CLASSES).of_rows(rows)
    stream = partial(derive, 0, "head")
    tuned = trainer.train_heads(
        network, [0], features, [own], [stream], objective=Objective(scales=True)
    )
    for name in ("kernel", "bias"):
        before, after = (
            state["hidden"][name][...] for state in (network.params["head"], tuned.state.params)
        )
        assert np.array_equal(before, after)
    other = trainer.train_heads(network, [0], features, [own], [stream])
    assert not np.allclose(
        other.state.params["hidden"]["kernel"][...],
        network.params["head"]["hidden"]["kernel"][...],
        atol=0.05,
    )


def test_balanced_batches_draw_all_classes_alike(plan):
    rare = Plan.of_kept(plan.label, np.flatnonzero((plan.label > 3) | (np.arange(160) % 20 == 0)))
    labels = epoch_batches(rare, 16, 100, 0, balanced=True).label
    counts = np.bincount(labels[labels >= 0], minlength=CLASSES)
    assert counts.sum() == len(rare)
    assert counts[:4].sum() > len(rare) / 4, "four classes of one sample each, of eight classes"


def test_a_cosine_classifier_knows_no_lengths():
    stages = Stages(PROTOCOL, CLASSES, feature_size=6, objective=Objective(Call("ldam")))
    params = stages.init_head(jax.random.key(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(5, 6)), jnp.float32)
    head = nnx.merge(stages.head_graph, params)
    cosines = np.asarray(head.cosines(x))
    hidden, kernel = np.asarray(head.represent(x)), np.asarray(head.output.kernel[...])
    lengths = np.linalg.norm(hidden, axis=1)[:, None] * np.linalg.norm(kernel, axis=0)
    np.testing.assert_allclose(cosines, hidden @ kernel / lengths, rtol=1e-4, atol=1e-6)
    expected = jax.nn.softmax(30 * cosines)
    np.testing.assert_allclose(stages.predict(params, x), expected, rtol=1e-4)
    assert Objective(Call.of("ldam", scale=7)).cosine_scale == 7
    # No activation, no direction: the cosines are 0, and so is their gradient.
    dead = jax.tree.map(jnp.zeros_like, params)
    gradient = jax.grad(lambda own: nnx.merge(stages.head_graph, own).cosines(x).sum())(dead)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


# --- Names and recipes ---


def test_names_that_stand_for_many():
    assert tuple(own.name for own in choose(["paper"])) == PAPER
    everything = [own.name for own in choose(["all"])]
    assert everything == listed()
    assert len(everything) == 29
    of_family = [own.name for own in choose(["loss", "mixing"])]
    assert len(of_family) == 9
    assert all(name.startswith(("loss_", "mix_")) for name in of_family)
    mixed = [own.name for own in choose(["fs_enn", "paper", "fs_enn", "head_crt+prior"])]
    assert mixed == ["fs_enn", *PAPER, "head_crt+prior"]
    assert position("fs_enn") < position("fs_enn+prior") < position("fs_rbu")


def test_recipes_survive_json_and_old_ones_stay_as_they_were():
    for approach in choose(["all", "fs_enn+prior"]):
        fields = json.loads(json.dumps(approach.to_json()))
        again = Approach.from_json(approach.name, fields)
        assert (again.name, again.recipe) == (approach.name, approach.recipe)
    assert find("ts_smote_rus").to_json()["stage1"] == {"sampler": "smote"}
    assert find("ts_smote_rus").to_json()["stage2"] == {"sampler": "rus"}
    # `rbu` once chose its width in another way: what an older folder has is not what it is now.
    old = find("fs_rbu").to_json()
    assert old["stage2"] == {"sampler": "rbu-cv"}
    older = Approach.from_json("fs_rbu", old | {"stage2": {"sampler": "rbu"}})
    assert older.recipe != find("fs_rbu").recipe
    with pytest.raises(InputError, match="recipe of approach 'x' cannot be read"):
        Approach.from_json("x", {"title": "X", "family": "loss", "stage1": {"loss": "focal"}})


def recipe(stage1=Stage1(), stage2=None, correction=None, name="x") -> None:  # noqa: B008
    require_possible(Approach(name, "X", "other", stage1, stage2, correction))


BAD = {
    "beta 1": (
        lambda: recipe(Stage1(loss=Call.of("class_balanced", beta=1.0))),
        r"beta 1.0 .*below 1",
    ),
    "gamma below 0": (
        lambda: recipe(Stage1(loss=Call.of("focal", gamma=-1.0))),
        r"gamma -1.0 .*0 or",
    ),
    "tau below 0": (
        lambda: recipe(stage2=Stage2(loss=Call.of("logit_adjusted", tau=-0.5))),
        r"tau -0.5 of loss 'logit_adjusted' found, 0 or more expected",
    ),
    "an unknown loss": (lambda: recipe(Stage1(loss=Call("focl"))), "unknown loss 'focl'; did you"),
    "an unknown mixing": (lambda: recipe(Stage1(mixing=Call("mixap"))), "unknown mixing 'mixap'"),
    "a second correction": (lambda: find("post_prior+prior"), "'post_prior' already corrects"),
    "an unknown correction": (lambda: find("fs_rus+posterior"), "unknown correction 'posterior'"),
    "a correction of what is not known": (
        lambda: find("head_tau+prior"),
        "leave out the correction",
    ),
    "a word for many": (
        lambda: register(Approach("loss", "X", "loss")),
        "'loss' stands for several approaches; choose another name",
    ),
    "a name that begins a correction": (lambda: recipe(name="mine+x"), r"a \+ begins a correction"),
    "margins in stage 2": (
        lambda: recipe(stage2=Stage2(loss=Call("ldam"))),
        "needs a cosine classif",
    ),
    "scales of a cosine classifier": (
        lambda: recipe(Stage1(loss=Call("ldam")), Stage2(learns="scales")),
        "trains a cosine classifier",
    ),
    "a sampler for a computed head": (
        lambda: recipe(stage2=Stage2("rus", learns="tau")),
        "have no meaning there",
    ),
    "scales of a fresh head": (
        lambda: recipe(stage2=Stage2(learns="scales", fresh=True)),
        "leave out fresh=True",
    ),
    "nothing that learns": (lambda: recipe(stage2=Stage2(learns="taus")), "did you mean tau"),
}


@pytest.mark.parametrize("case", BAD)
def test_impossible_recipes_are_refused_in_one_line(case):
    act, message = BAD[case]
    with pytest.raises(InputError, match=message) as raised:
        act()
    assert "\n" not in str(raised.value)


def test_a_loss_that_needs_a_class_without_samples_is_refused_before_training(images, tmp_path):
    class Without:
        """Stands in for a sampler that leaves a class out."""

        reads_samples = False

        def plan(self, x, y):
            return Plan.of_kept(y, np.flatnonzero(y != 3))

        def require_classes(self, y):
            pass

    study = make_study(tmp_path, images, ("baseline",))
    plans = type(study.plans)(images, PROTOCOL, make=lambda *_: Without())
    partition = study.networks[0].partition
    assert plans.trained_counts(partition, Stage1("rus"))[3] == 0
    with pytest.raises(InputError, match=r"weighted loss on .*'class3' has no samples"):
        plans.trained_counts(partition, Stage1("rus", loss=Call("weighted")))
    approach = Approach("x", "X", "other", stage2=Stage2("rus", loss=Call("logit_adjusted")))
    features = np.zeros((len(plans.partition(partition).train), 4), np.float32)
    with pytest.raises(InputError, match=r"logit-adjusted loss .*'class3' has no samples"):
        plans.of_features(partition, approach, features)
