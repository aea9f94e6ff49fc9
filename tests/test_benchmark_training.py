"""The benchmark of training, and the worker processes and documents of all benchmarks."""

import os
import signal

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from experiments.benchmark_training import __main__ as program
from experiments.benchmark_training import cases, flops, report, session
from experiments.benchmark_training.cases import KERAS, OURS, TORCH, Job, Options, Size
from experiments.benchmark_training.session import Measured
from experiments.benchmarks import document, options, turns
from experiments.benchmarks.turns import Answer, Worker, WorkerError
from twostage_jax.models.forms import fastest_forms
from twostage_jax.models.mobilenet_v1 import MobileNet

pytestmark = pytest.mark.integration

TINY = Size(0.25, 32)
OWN = Job("training", TINY, OURS, "float32")
EAGER = Job("training", TINY, TORCH, "float32", variant="eager")
KERAS_TF = Job("training", TINY, KERAS, "float32", variant="TensorFlow")
TRIAL = ["--no-peers", "--sizes", "0.25", "32", "--members", "1", "--images-per-class", "12"]
TRIAL += ["--seconds", "0.05", "--accelerator", "cpu"]


class Subject:
    """What a worker holds in these tests."""

    def __init__(self, fails: bool = False):
        if fails:
            raise ValueError("no subject\nsecond line")
        self.kept = []

    def keep(self, megabytes: int) -> int:
        self.kept.append(np.ones((megabytes, 2**20), np.uint8))
        return len(self.kept)

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def fill_memory(self) -> None:
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self) -> None:
        signal.pause()


def test_a_worker_answers_and_its_memory_is_observed():
    with Worker(Subject, environment={"TWOSTAGE": "yes"}) as worker:
        assert worker.ask("keep", 1).value == 1
        value, growth = worker.ask("keep", 100)
        assert value == 2
        assert 90 * 2**20 < growth < 300 * 2**20
        assert worker.ask("variable", "TWOSTAGE").value == "yes"
        with pytest.raises(WorkerError, match=f"^{turns.OUT_OF_MEMORY}$"):
            worker.ask("fill_memory")
        assert worker.is_alive
        with pytest.raises(WorkerError, match="status -9"):
            worker.ask("die")
        assert not worker.is_alive
    assert "TWOSTAGE" not in os.environ


def test_a_worker_that_hangs_is_ended_and_one_that_cannot_start_says_why():
    with Worker(Subject) as worker:
        with pytest.raises(WorkerError, match="no answer within 0 s"):
            worker.ask("hang", limit=0)
        assert not worker.is_alive
    with Worker(Subject, True) as worker, pytest.raises(WorkerError, match="no subject"):
        worker.ask("keep", 1)


def test_every_other_round_is_backwards():
    assert [*turns.alternate("ab", 3)] == [*zip([0, 0, 1, 1, 2, 2], "abbaab", strict=True)]


def test_documents_have_numbers_of_three_digits_versions_and_no_folder(tmp_path):
    assert [document.digits(n) for n in (0.012345, 1234.5, None)] == ["0.0123", "1,230", "-"]
    assert document.percent(0.99999) == "99.9 %"
    assert [document.size(n) for n in (None, 12, 3e9)] == ["-", "12 B", "3 GB"]
    origin = document.provenance("python -m x --data-dir ../../a/pbc5000 --output=/o/x", ["jax"])
    assert origin[0] == "Command: `python -m x --data-dir pbc5000 --output=x`"
    assert f"jax {jax.__version__}" in origin[1]
    frame = pd.DataFrame({"case": ["a", "a", "b"], "number": ["1", "2", "3"]})
    table = document.markdown_table(frame, left=1)
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == ["a", "", "b"]
    text = document.write(tmp_path / "new", "name", ["# Title", table], ["How."], origin, frame)
    assert (tmp_path / "new" / "name.md").read_text() == text
    assert pd.read_csv(tmp_path / "new" / "name.csv")["number"].tolist() == [1, 2, 3]


def test_operations_are_those_of_the_published_network():
    # 569 million multiply-adds at 224 pixels, of which 1024 x 1000 are of the published head.
    published = flops.network_flops(1.0, 224) / 2 + 1024 * 1000
    assert published == pytest.approx(569e6, rel=1e-3)
    head = 2 * 1024 * (256 + 8)
    assert flops.training_flops(0.25, 96, 8) == 3 * (flops.network_flops(0.25, 96) + head)
    assert flops.measure_peaks(["float32", "bfloat16"], side=64).keys() == {"float32", "bfloat16"}


def test_operations_are_those_that_xla_counts():
    graph, state = nnx.split(nnx.eval_shape(lambda: MobileNet(8, 0.25, rngs=nnx.Rngs(0))))
    shape = jax.ShapeDtypeStruct((2, 75, 75, 3), "float32")
    forward = jax.jit(lambda state, images: nnx.merge(graph, state).features(images))
    counted = forward.lower(state, shape).compile().cost_analysis()["flops"] / 2
    # XLA counts batch norm, activations and padding, too.
    assert 1 < counted / flops.network_flops(0.25, 75) < 1.35


def test_jobs_follow_the_device_and_what_is_installed(monkeypatch):
    installed = {"torch", "keras", "tensorflow"}
    monkeypatch.setattr(cases, "find_spec", lambda name: name in installed or None)
    on_cpu, on_gpu = (cases.list_jobs(Options().on(name), name) for name in ("cpu", "gpu"))
    training = [job for job in on_cpu if job.task == "training"]
    engines = ["PyTorch, compiled", "PyTorch, eager", "Keras, TensorFlow"]
    assert [job.engine for job in training[:3]] == engines
    assert {job.members for job in training} == {1, 2}
    assert {job.precision for job in on_cpu} == {"float32"}
    assert {job.precision for job in on_gpu if job.library == TORCH} == {"bfloat16"}
    assert {job.precision for job in on_gpu if job.library == OURS} == set(cases.PRECISIONS)
    assert cases.missing_peers(Options()) == []
    installed.clear()
    assert all(job.library == OURS for job in cases.list_jobs(Options().on("cpu"), "cpu"))
    assert len(cases.missing_peers(Options())) == 3


@pytest.mark.parametrize(
    ("platform", "forms", "precisions"), [("cpu", 4, 0), ("gpu", 7, 2), ("tpu", 6, 2)]
)
def test_ablation_changes_one_choice_at_a_time(platform, forms, precisions):
    first, *others = cases.list_ablated(OWN, platform)
    assert first == OWN
    assert len({*others}) == len(others) == forms + precisions
    fastest = vars(fastest_forms(platform))
    for job in others:
        different = [name for name, form in job.changed if fastest[name] != form]
        assert len(different) == len(job.changed)
        assert len(different) + (job.precision != OWN.precision) == 1


def measured(*rates: float, failure: str = "") -> Measured:
    return Measured(9.0, 10**6, [*rates], failure)


def test_rates_are_divided_by_the_fastest_peers_and_by_the_first_of_ablation():
    product = OWN._replace(task="ablation")
    found = {
        OWN: measured(30.0, 10.0, 20.0),
        EAGER: measured(5.0),
        KERAS_TF: measured(10.0),
        product: measured(20.0),
        product._replace(changed=(("stem", "convolution"),)): measured(30.0),
        product._replace(members=3): Measured(failure=turns.OUT_OF_MEMORY),
    }
    frame = report.summarize(found, 8, {"float32": 1e12})
    assert frame.times.tolist()[:5] == [3, 0.5, 1, 1, 1.5]
    assert frame.times_median.tolist()[:5] == [2, 0.5, 1, 1, 1.5]
    assert frame.share_of_peak[0] == pytest.approx(30 * flops.training_flops(*TINY, 8) / 1e12)
    assert not report.is_broken(frame)
    assert report.is_broken(frame.assign(failure="KeyError: 'x'"))
    training, ablation = report.tables(frame)
    assert "PyTorch, eager" in training
    assert "twostage_jax, stem=convolution" in ablation
    notes = report.notes(frame, Options(), "cpu", 3)
    assert any("best turn 1.5x the median" in note for note in notes)
    assert any("failed: out of memory" in note for note in notes)


@pytest.mark.parametrize(
    "arguments", ["--members 0", "--sizes 0.01 96", "--sizes 1 16", "--seconds -1"]
)
def test_bad_options_end_with_status_2(arguments, capsys):
    assert program.main(arguments.split()) == 2
    assert f"error: {arguments} found" in capsys.readouterr().err


class FakeWorker:
    """Answers for a library without a process; Keras dies in its first turn."""

    def __init__(self, *_, environment):
        self.is_alive = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ask(self, method, job):
        if job.library == KERAS and method == "turn":
            self.is_alive = False
            raise WorkerError("the process ended with status -11")
        answers = {"prepare": (9.0, 0), "step": ((True, None), 10**6), "turn": (50.0, 0)}
        return Answer(*answers[method])


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(session, "Worker", FakeWorker)
    monkeypatch.setattr(cases, "find_spec", lambda name: True)
    for module in (program, options):
        monkeypatch.setattr(module, "run_once", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(flops, "measure_peaks", lambda *_: {"float32": 1e12})


def test_a_peer_that_dies_is_a_line_and_not_the_end(fake, tmp_path, capsys):
    assert program.main([*TRIAL[1:], "--output", str(tmp_path / "out")]) == 0
    assert "round 3, training, width 0.25, 32 px: PyTorch, eager" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "out" / "training.csv")
    assert table.turns[table.library != KERAS].tolist() == [3] * 8
    assert table.turns[table.library == KERAS].tolist() == [0]
    text = (tmp_path / "out" / "training.md").read_text()
    assert (
        "Keras, TensorFlow, float32, 1 together failed: the process ended with status -11" in text
    )
    assert str(tmp_path) not in text


def test_an_interrupted_run_keeps_what_it_measured(fake, tmp_path, monkeypatch, capsys):
    count = []

    def turn_then_interrupt(self, job):
        count.append(job)
        if len(count) > 8:
            raise KeyboardInterrupt
        return take_turn(self, job)

    take_turn = session.Session.take_turn
    monkeypatch.setattr(session.Session, "take_turn", turn_then_interrupt)
    assert program.main([*TRIAL, "--output", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert pd.read_csv(tmp_path / "training.csv")["turns"].sum() == 8
    assert "1 of 3 rounds are finished" in (tmp_path / "training.md").read_text()


@pytest.mark.slow
def test_a_run_writes_table_and_csv(tmp_path):
    arguments = [*TRIAL, "--rounds", "2", "--tasks", "training", "--output", str(tmp_path)]
    assert program.main(arguments) == 0
    table = pd.read_csv(tmp_path / "training.csv")
    assert table["turns"].tolist() == [2]
    assert (table[["median", "first_seconds", "share_of_peak", "memory_bytes"]] > 0).all(axis=None)
