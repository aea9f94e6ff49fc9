"""A worker: how a group ends there, without a cluster."""

import pickle

import pytest
from textures import textures
from tiny_network import TINY

from twostage_jax.cluster import worker as workers
from twostage_jax.cluster.plug_ins import plug_ins
from twostage_jax.cluster.worker import Briefing, News, Worker
from twostage_jax.data.folds import Splitting
from twostage_jax.study.engine import Material, Task
from twostage_jax.study.litter import lock_path
from twostage_jax.study.run import GroupResult, Provenance
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol
from twostage_jax.training.trainer import Advance

TASK = Task(Provenance({}, "", {}, ""), None)


@pytest.fixture
def worker(tmp_path, monkeypatch) -> Worker:
    monkeypatch.setattr(workers, "keep_programs", lambda _: None)
    protocol = Protocol(network=TINY, epochs=2, k_neighbors=2)
    worker = Worker(None)
    material = Material(textures(), protocol, Splitting(), None)
    started = worker.start(Briefing(material, plug_ins(), "cpu", tmp_path))
    assert started.device.startswith("cpu, ")
    return worker


@pytest.fixture
def run(worker, tmp_path, monkeypatch):
    """What the worker reports of a group that ends in some way, and of the checkpoints it used."""
    used = []

    def run(end, turn: int = 1):
        def run_group(trainer, plans, group, folder, *_, progress, **__):
            used.append(folder)
            progress(Advance(5))
            return end()

        monkeypatch.setattr(workers, "run_group", run_group)
        return worker.run(turn, (), tmp_path / "group", TASK)

    run.used = used
    return run


def fail(error: Exception):
    def end():
        raise error

    return end


def test_a_full_disk_and_bad_input_end_the_study_and_name_the_machine(run):
    stop = pickle.loads(pickle.dumps(run(fail(OSError(28, "No space left", "/x"))).stop))
    assert isinstance(stop, OSError)
    assert str(stop).endswith(": /x: No space left")
    stop = run(fail(InputError("a record is damaged"))).stop
    assert isinstance(stop, InputError)
    assert str(stop) == "a record is damaged"


def test_any_other_error_is_told_in_a_line(run):
    report = run(fail(RuntimeError("it\nbroke")))
    assert (report.stop, report.error) == (None, "RuntimeError: it")


def test_checkpoints_are_written_only_where_their_lock_is_seen(run, tmp_path):
    assert run(lambda: GroupResult([])).unseen
    lock_path(tmp_path / "group").touch()
    assert not run(lambda: GroupResult([])).unseen
    assert run.used == [None, tmp_path / "group"]


def test_news_tells_once_how_far_which_group_is(run, worker):
    assert worker.news(0, 0.0) == News(0, [])
    run(lambda: GroupResult([]), turn=3)
    assert worker.news(0, 0.0) == News(3, [Advance(5)])
    assert worker.news(3, 0.0) == News(3, [])
