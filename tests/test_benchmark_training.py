"""The benchmark of training: what is measured, and what the report says of it."""

import os
import re
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from experiments.benchmark_training import __main__ as program
from experiments.benchmark_training import (
    ablation,
    cases,
    compare,
    flops,
    ours,
    paper,
    report,
    session,
    worker,
)
from experiments.benchmark_training.cases import KERAS, OURS, TORCH, Case, Engine, Job, Size
from experiments.benchmark_training.options import Options, parse
from experiments.benchmark_training.session import Measured
from experiments.benchmark_training.work import Work
from experiments.benchmark_training.worker import Prepared, Turn
from twostage_jax.data.image_set import ImageSet
from twostage_jax.data.partition import FOLDS, RATIOS, SCENARIOS
from twostage_jax.models import mobilenet_v1 as mobilenet
from twostage_jax.models.layers import Forms, Stem
from twostage_jax.study.approaches import APPROACHES
from twostage_jax.study.study import Scope, Study
from twostage_jax.training.protocol import Protocol

TINY = Size(0.25, 32)
LARGE = Size(1.0, 150)
OWN = Engine(OURS, "float32")
EAGER = Engine(TORCH, "float32", choice="eager")
TRIAL = ["--no-peers", "--sizes", "0.25:32", "--members", "1", "2", "--images-per-class", "12"]
TRIAL += ["--seconds", "0.05", "--accelerator", "cpu"]


def measured(*rates: float, failure: str = "", first: float = 9.0) -> Measured:
    turns = [Turn(2.0, 2 * rate) for rate in rates]
    return Measured(Prepared(first, 10**6) if rates else None, turns, failure)


def lines_of(found: dict[Job, Measured], peak: float = 1e12) -> list[compare.Line]:
    return compare.summarize(found, 8, {"float32": peak})


def job(engine: Engine, size: Size = LARGE, task: str = "training") -> Job:
    return Job(Case(task, size), engine)


# Operations


def test_operations_are_those_of_the_published_network():
    # 569 million multiply-adds at 224 pixels, of which 1024 x 1000 are of the published head.
    published = flops.network_flops(1.0, 224) / 2 + 1024 * 1000
    assert published == pytest.approx(569e6, rel=1e-3)
    assert flops.head_flops(0.25, 8) == 2 * 1024 * (256 + 8)


@pytest.mark.parametrize("pixels", [32, 75])
def test_operations_are_those_that_xla_counts(pixels):
    width, images = 0.25, 2
    network = nnx.eval_shape(lambda: mobilenet.MobileNet(8, width, rngs=nnx.Rngs(0)))
    graph, state = nnx.split(network)
    shape = jax.ShapeDtypeStruct((images, pixels, pixels, 3), "float32")
    forward = jax.jit(lambda state, images: nnx.merge(graph, state).features(images))
    counted = forward.lower(state, shape).compile().cost_analysis()["flops"] / images
    # XLA counts batch norm, activations and padding, too.
    assert 1 < counted / flops.network_flops(width, pixels) < 1.35


def test_peaks_of_devices():
    assert flops.peak_of("NVIDIA H100 80GB HBM3", "bfloat16") == pytest.approx(989.4e12)
    assert flops.peak_of("NVIDIA H100 PCIe", "float32") < flops.peak_of("NVIDIA H200", "float32")
    assert flops.peak_of("NVIDIA A100-SXM4-40GB", "tf32") == pytest.approx(156e12)
    assert flops.peak_of("TPU v4", "float32") is None
    assert flops.peak_of("abacus", "float32") is None
    assert flops.measured_peak() > 1e9


def test_the_whole_study_is_the_studys(tmp_path):
    labels = np.repeat(np.arange(8), 625)
    images = ImageSet.create(
        images=np.zeros((5000, 1, 1, 3), np.uint8),
        labels=labels,
        class_names=list("abcdefgh"),
        names=[f"{row:04d}" for row in range(5000)],
        source="",
    )
    scope = Scope(SCENARIOS, RATIOS, FOLDS, tuple(APPROACHES))
    study = Study(
        images, "", Protocol(), None, scope, output=tmp_path, checkpoints=tmp_path, members=1
    )
    networks = [network for group in study.groups for network in group]
    heads = sum(APPROACHES[name].two_stages for net in networks for name in net.approaches)
    assert paper.study_networks() == (len(networks), study.image_passes(study.groups))
    assert paper.study_heads() == 600 <= heads


# What is compared


def test_defaults_follow_the_device():
    on_cpu, on_gpu = (Options().settled(platform) for platform in ("cpu", "gpu"))
    assert (on_cpu.members, on_cpu.precisions) == ((1, 2), ("float32",))
    grid = {
        (job.engine.members, job.engine.precision)
        for job in cases.jobs_of(on_gpu, "gpu")
        if job.case.task == "training" and job.engine.library == OURS
    }
    assert grid == {
        (members, precision)
        for members in (1, 2, 5, 10, 20, 40)
        for precision in ("float32", "tf32", "bfloat16")
    }


def test_peers_that_are_installed_take_part_and_others_are_named(monkeypatch):
    def installed(*names: str) -> None:
        monkeypatch.setattr(cases, "find_spec", lambda name: name in names or None)

    installed("torch", "keras", "tensorflow")
    titles = [engine.title for engine in cases.peers_of(Options(), "gpu")]
    assert titles == ["PyTorch, compiled", "PyTorch, eager", "Keras, TensorFlow", "Keras, JAX"]
    assert {engine.precision for engine in cases.peers_of(Options(), "gpu")} == {"bfloat16"}
    assert len(cases.peers_of(Options(), "cpu")) == 3
    assert cases.missing_peers(Options()) == []
    installed("keras")
    assert [engine.title for engine in cases.peers_of(Options(), "cpu")] == ["Keras, JAX"]
    assert cases.missing_peers(Options()) == [
        "PyTorch was not run: the package torch is not installed."
    ]
    assert cases.peers_of(Options(peers=False), "cpu") == []


def test_ablation_undoes_every_choice_once():
    options = Options(peers=False, tasks=("ablation",)).settled("gpu")
    engines = [job.engine for job in cases.jobs_of(options, "gpu")]
    assert engines[0].choice == ""
    assert {engine.choice for engine in engines[1:]} == ablation.CHOICES.keys() - {"lifted", "taps"}
    assert {engine.precision for engine in engines} == {"float32", "tf32", "bfloat16"}
    assert len(set(engines)) == len(engines)


@pytest.mark.parametrize("name", ["taps", "moments"])
def test_what_is_undone_changes_the_program_but_not_the_result(name):
    layers = nnx.Dict(
        stem=Stem(4, 0.99, Forms(), nnx.Rngs(0)),
        block=mobilenet.SeparableBlock(4, 8, 2, 0.99, Forms(), nnx.Rngs(1)),
    )
    graph, params, stats = nnx.split(layers, nnx.Param, nnx.BatchStat)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 33, 33, 3)), jnp.float32)

    def total(params, stats, images):
        layers = nnx.merge(graph, params, stats, copy=True)
        valid = jnp.ones(2, bool)
        return (layers.block(layers.stem(images, valid), valid) ** 2).sum()

    def program(choice):
        return jax.jit(ablation.undone(jax.value_and_grad(total), choice))

    arguments = params, stats, images
    own, other = (str(jax.make_jaxpr(program(choice))(*arguments)) for choice in ("", name))
    assert own != other
    # Nothing of it stays.
    assert own == str(jax.make_jaxpr(program(""))(*arguments))
    expected, found = program("")(*arguments), program(name)(*arguments)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3), found, expected)


# What is measured


def test_turns_last_as_long_as_asked():
    calls = []

    def call(batches: int) -> None:
        calls.append(batches)
        time.sleep(0.001 * batches)

    assert worker._batches_of_turn(Work(call, 1, most=1000), 0.1) == pytest.approx(100, rel=0.3)
    assert worker._batches_of_turn(Work(call, 1, most=30), 0.1) == 30
    assert worker._batches_of_turn(Work(call, 1, most=1000, epoch=40), 0.1) == 80
    assert worker._batches_of_turn(Work(call, 1, most=1000, batches=1), 0.1) == 1


def test_calls_that_were_held_up_once_do_not_stay_short(tmp_path):
    held_up = [0.1]

    def call(batches: int) -> None:
        time.sleep(0.001 * batches + (held_up.pop() if held_up else 0))

    own = worker.Worker(OURS, tmp_path, "cpu")
    own._works[job(OWN)] = Work(call, 2, most=1000)
    turns = [own.run(job(OWN), 0.1) for _ in range(2)]
    assert [turn.seconds for turn in turns] == pytest.approx([0.1, 0.1], rel=0.6)
    assert own._batches[job(OWN)] == pytest.approx(90, rel=0.3)


def test_a_full_memory_is_a_line_and_no_traceback(tmp_path, monkeypatch):
    def prepare(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")

    monkeypatch.setattr(ours, "prepare", prepare)
    monkeypatch.setattr(worker, "load_data", lambda folder, size: (None, None))
    assert worker.Worker(OURS, tmp_path, "cpu").prepare([job(OWN)], 1) == [worker.OUT_OF_MEMORY]


def test_programs_of_many_members_are_compiled_once_and_their_memory_is_planned(monkeypatch):
    """As on an accelerator: ahead of the first call, which does not compile again."""
    monkeypatch.setattr(ours, "SEQUENTIAL", ())
    monkeypatch.setattr("twostage_jax.training.lifting.SEQUENTIAL", ())
    images = np.zeros((32, 32, 32, 3), np.uint8)
    heads = job(OWN._replace(members=paper.heads_of_network()), TINY, "heads")
    work = ours.prepare(heads, images, np.arange(32) % 8)
    assert work.compile() > 4 * 256 * 1024
    compiled = []
    monkeypatch.setattr(
        "jax._src.compiler.backend_compile_and_load",
        lambda *arguments, **options: compiled.append(arguments),
    )
    work.call(2)
    assert compiled == []


@pytest.fixture
def options():
    return parse([*TRIAL, "--rounds", "2", "--tasks", "heads"]).settled("cpu")


def test_an_engine_that_cannot_work_is_a_line_and_asked_no_more(options, tmp_path):
    said = []
    unknown = job(Engine("abacus", "float32"), TINY)
    with session.Session([unknown], options, "cpu", tmp_path, said.append) as running:
        assert list(running.rounds()) == [1, 2]
    # No module is its own, and it is asked once.
    assert running.measured[unknown].failure == "KeyError: 'abacus'"
    assert len(said) == 1


def test_a_process_that_takes_too_long_is_ended(tmp_path):
    process = session.Process("abacus", tmp_path, "cpu")
    with pytest.raises(ChildProcessError, match=session.OUT_OF_TIME):
        process.ask({"do": "peak"}, 0.01)
    process.close()


def test_what_time_does_not_reach_is_said(options, tmp_path):
    late = Options(minutes=1e-9).settled("cpu")
    with session.Session([job(OWN)], late, "cpu", tmp_path, lambda text: None) as running:
        assert list(running.rounds()) == [0]
    assert running.measured[job(OWN)].failure == session.OUT_OF_TIME


# What is said of it


def test_rates_are_in_parts_of_the_fastest_peers():
    keras = Engine(KERAS, "float32", choice="JAX")
    found = {
        job(OWN): measured(30.0, 10.0, 20.0),
        job(EAGER): measured(5.0),
        job(keras): measured(10.0),
        job(OWN._replace(choice="stem")): measured(failure="out of paper"),
    }
    own, eager, _, broken = lines_of(found)
    assert (own.best, own.middle, own.times, own.turns) == (30.0, 20.0, 3.0, 3)
    assert eager.times == 0.5
    assert [line.engine for line in compare.unsteady([own, eager])] == [OWN]
    per_image = 3 * (flops.network_flops(1.0, 150) + flops.head_flops(1.0, 8))
    assert own.share == pytest.approx(30 * per_image / 1e12)
    assert (broken.middle, broken.times, broken.failure) == (None, None, "out of paper")
    assert compare.broken([own, broken]) == [broken]
    said = report.notes([own], Options().settled("cpu"), "cpu", 1, [])
    document = report.markdown([own, broken], [], said, [])
    assert "out of paper" in document
    assert report.plot([broken]).endswith(b"</svg>\n")


def test_ablation_is_compared_with_the_product():
    found = {
        job(OWN, TINY, "ablation"): measured(20.0),
        job(OWN._replace(choice="calls"), TINY, "ablation"): measured(30.0),
    }
    assert [line.times for line in lines_of(found)] == [1.0, 1.5]


@pytest.mark.parametrize(("rates", "expected"), [((3, 2), True), ((2, 3), False), ((3,), None)])
def test_targets_of_a_cpu(rates, expected):
    engines = (OWN, EAGER)
    found = {job(e): measured(float(r)) for e, r in zip(engines, rates, strict=False)}
    first, second = compare.targets(lines_of(found), "cpu")
    assert first.passed is expected
    assert second.passed is None
    words = {True: "pass", False: "MISS", None: "open"}
    assert report.verdicts([first])[0].startswith(words[expected])


@pytest.mark.parametrize(
    ("tf32", "half", "torch", "heads", "expected"),
    [
        (20_000, 35_000, 8_750, 11, [True, True, True, True, True]),
        (19_999, 34_999, 8_751, 9, [False, False, False, False, True]),
        (10_000, 12_000, 1, 11, [False, False, True, True, False]),
    ],
)
def test_targets_of_an_accelerator(tf32, half, torch, heads, expected):
    peer = Engine(TORCH, "bfloat16", choice="compiled")
    found = {
        job(OWN._replace(precision="tf32", members=20)): measured(float(tf32)),
        job(OWN._replace(precision="bfloat16", members=20)): measured(float(half)),
        job(peer): measured(float(torch)),
        job(OWN, task="extraction"): measured(100_000.0),
        job(OWN, task="heads"): measured(float(heads)),
    }
    lines = lines_of(found)
    assert [target.passed for target in compare.targets(lines, "gpu")] == expected
    assert all(target.passed is None for target in compare.targets([], "gpu"))
    seconds = 31_813_620 / half + 490 * 5000 / 100_000 + 600 / heads
    assert compare.study_minutes(lines) == pytest.approx(seconds / 60)
    said = report.notes(lines, Options().settled("gpu"), "gpu", 3, [])
    assert any("31,813,620" in text for text in said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--tasks", "trianing"],
        ["--members", "0"],
        ["--precisions", "float8"],
        ["--sizes", "1.0x150"],
        ["--sizes", "0.01:96"],
        ["--sizes", "1.0:16"],
        ["--sizes"],
        ["--rounds", "0"],
        ["--seconds", "0"],
        ["--minutes", "-1"],
        ["--group", "0"],
        ["--images-per-class", "0"],
        ["--dataset", "mnist"],
        ["--accelerator", "abacus"],
    ],
)
def test_bad_options_end_with_status_2(arguments, capsys):
    assert program.main(arguments) == 2
    assert re.fullmatch(r"error: .+\n", capsys.readouterr().err)


# A run


@pytest.mark.slow
def test_a_run_writes_table_csv_and_plot(tmp_path, capsys, monkeypatch):
    # Both members' program is the same: tests need not compile it twice.
    monkeypatch.setattr(
        session, "environment", lambda platform: os.environ | {"JAX_PLATFORMS": platform}
    )
    out = tmp_path / "out"
    arguments = [*TRIAL, "--rounds", "2", "--tasks", "training", "--output", str(out)]
    assert program.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "round 2: " in shown
    assert "PyTorch and Keras were not run: --no-peers." in shown
    assert "open  training, width 0.25, 96 px" in shown
    assert {path.name for path in out.iterdir()} == {f"training.{e}" for e in ("csv", "md", "svg")}
    table = pd.read_csv(out / "training.csv")
    assert table["members"].tolist() == [2, 1]
    assert table["turns"].tolist() == [2, 2]
    assert (table[["median", "first_seconds", "share_of_peak", "memory_bytes"]] > 0).all(axis=None)
    document = (out / "training.md").read_text()
    assert "2 of 2 rounds are done" in document
    assert str(tmp_path) not in document


@pytest.mark.parametrize("status", [0, 1])
def test_an_interrupted_run_leaves_what_it_has(status, tmp_path, monkeypatch, capsys):
    """Interrupted in the second round, or ended in it without a chance to write."""

    class Fake(session.Session):
        def peak(self):
            return None

        def _prepare(self, jobs, at_once):
            for each in jobs:
                self.measured[each] = measured(*[5.0] * (len(self.measured[each].turns) + 1))

        def _take_turn(self, each, number):
            if number:
                raise (KeyboardInterrupt, RuntimeError)[status]
            self._prepare([each], 1)

    monkeypatch.setattr(program, "Session", Fake)
    monkeypatch.setattr(program, "find_device", lambda name: {"platform": "cpu", "kind": name})
    arguments = [*TRIAL, "--tasks", "heads", "--output", str(tmp_path)]
    if status:
        with pytest.raises(RuntimeError):
            program.main(arguments)
    else:
        assert program.main(arguments) == 130
        assert "what was measured is written" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "training.csv")["turns"].tolist() == [1]
    assert "1 of 3 rounds are done" in (tmp_path / "training.md").read_text()
