"""Workers that do not start, are not fit or die, without a cluster."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster_study import make_study

from twostage_jax.cluster import pool as pools
from twostage_jax.cluster.attachment import Cluster
from twostage_jax.cluster.dealing import Advanced, Finished, Lost, Stopped
from twostage_jax.cluster.machines import Machine
from twostage_jax.cluster.pool import FALSE_STARTS, START_LIMIT, RayPool
from twostage_jax.cluster.ray_engine import RayEngine
from twostage_jax.cluster.worker import Briefing, Introduction, News, Report, Started
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Task
from twostage_jax.study.run import GroupResult, Provenance
from twostage_jax.support.errors import InputError
from twostage_jax.training.trainer import Advance

HERE = Machine("here", {"ray": "1"})
SILENT = object()  # an answer that does not come
GROUP = ()
TASK = Task(Provenance({}, "", {}, ""), None)
DIED = "it crashed"


class RayError(Exception):
    pass


class FakeRay:
    """Stands for Ray: workers answer as a test says, by their number and the method.

    An answer is a value, an exception, SILENT, or a function of the method's arguments.
    """

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self, answers=lambda number, method: None, nodes=1):
        self.now, self.killed, self.actors = 0.0, [], 0
        self.alive = [f"node{number}" for number in range(nodes)]
        self._answers = answers
        self.options = lambda **_: self

    def put(self, value):
        return value

    def nodes(self):
        return [{"NodeID": own, "Alive": True, "Resources": {"CPU": 2.0}} for own in self.alive]

    def remote(self, made):
        if isinstance(made, type):
            return self
        self.actors += 1
        return Actor(self, self.actors)

    def answer(self, number, method, arguments):
        found = self._answers(number, method)
        if number in self.killed:
            return RayError(DIED)
        if found is None:
            node = self.alive[(number - 1) % len(self.alive)]
            usual = {
                "introduce": Introduction(HERE, node, 100 + number),
                "start": Started("cpu, 2 threads"),
                "news": SILENT,
                "run": Report(GroupResult([])),
                "ask": 7,
            }
            found = usual[method]
        return found(*arguments) if callable(found) else found

    def wait(self, answers, num_returns, timeout):
        ready = [own for own in answers if own.value() is not SILENT]
        if not ready:
            self.now += timeout
        return ready, []

    def get(self, answer):
        value = answer.value()
        if isinstance(value, Exception):
            raise value
        return value

    def kill(self, actor, no_restart):
        self.killed.append(actor.number)


class Answer(SimpleNamespace):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


class Actor:
    def __init__(self, ray, number):
        self.ray, self.number = ray, number

    def __getattr__(self, method):
        def remote(*arguments):
            return Answer(value=lambda: self.ray.answer(self.number, method, arguments))

        return SimpleNamespace(remote=remote)


@pytest.fixture
def make_pool(monkeypatch):
    monkeypatch.setattr(pools, "this_machine", lambda: HERE)

    def make(ray: FakeRay, most=None, **options) -> RayPool:
        briefing = Briefing(None, None, "cpu", Path("programs"))
        cluster = Cluster(ray)
        return RayPool(cluster, briefing, {"CPU": 2}, most, clock=lambda: ray.now, **options)

    return make


def settle(pool: RayPool, wanted: int = 9, turns: int = 6) -> list:
    """What happens in some turns."""
    events = []
    for _ in range(turns):
        pool.hire(wanted)
        events += pool.events(1.0)
    return events


def test_a_worker_is_hired_per_place(make_pool):
    pool = make_pool(FakeRay(nodes=3))
    assert settle(pool) == []
    assert pool.idle() == [1, 2, 3]
    assert pool.describe(2) == "worker 2 (process 102 on here, cpu, 2 threads)"
    assert str(pool) == "3 workers of 2 CPU"
    assert str(make_pool(FakeRay(nodes=3), most=1)) == "1 worker of 2 CPU"


def unfit(*numbers):
    """Some workers find no device."""

    def answers(number, method):
        if method == "start" and number in numbers:
            return Started(problem=f"no device for {number}")
        return None

    return answers


def test_a_machine_that_is_not_fit_is_left_out_while_another_works(make_pool):
    ray = FakeRay(unfit(1), nodes=2)
    pool = make_pool(ray)
    with pytest.warns(UserWarning, match=r"left out: worker 1 .*: no device for 1") as said:
        assert settle(pool) == []
    assert len(said) == 1
    assert pool.idle() == [2]
    assert ray.killed == [], "it keeps its place, that no other gets it"
    assert ray.actors == 2


def test_the_first_reason_ends_the_study_where_no_machine_is_fit(make_pool):
    ray = FakeRay(unfit(1, 2), nodes=2)
    with pytest.warns(UserWarning, match="no device for 1"):
        (stopped, *_) = settle(make_pool(ray))
    assert isinstance(stopped, Stopped)
    assert "no worker can start: worker 1 (process 101 on here): no device for 1;" in str(
        stopped.error
    )


def test_a_single_place_that_is_unfit_does_not_keep_the_one_worker_asked_for_away(make_pool):
    pool = make_pool(FakeRay(unfit(1), nodes=2), most=1)
    with pytest.warns(UserWarning, match="left out"):
        assert settle(pool) == []
    assert pool.idle() == [2]


def test_a_machine_with_other_versions_is_named(make_pool):
    def answers(number, method):
        other = Machine("node2", {"ray": "0"})
        return Introduction(other, "node0", 1) if method == "introduce" else None

    (stopped, *_) = settle(make_pool(FakeRay(answers)))
    assert "node2 has ray 0, here is 1;" in str(stopped.error)


def test_a_node_on_which_workers_die_is_given_up_after_some(make_pool):
    """The first worker starts, all others end."""

    def answers(number, method):
        return RayError("its disk is full") if number > 1 else None

    ray = FakeRay(answers, nodes=2)
    pool = make_pool(ray)
    with pytest.warns(UserWarning, match="did not start .its disk is full") as said:
        assert settle(pool, turns=20) == []
    assert len(said) == FALSE_STARTS
    assert ray.actors == 1 + FALSE_STARTS
    assert pool.idle() == [1]
    ray.alive.append("node2")
    ray.now += 10
    pool.hire(9)
    assert ray.actors > 1 + FALSE_STARTS, "a node that joins is tried"


def test_false_starts_end_the_study_where_nobody_works(make_pool):
    ray = FakeRay(lambda number, method: RayError("its disk is full"))
    with pytest.warns(UserWarning, match="did not start"):
        events = settle(make_pool(ray), turns=FALSE_STARTS)
    assert isinstance(events[-1], Stopped)
    assert "no worker can start: worker 1 did not start (its disk is full)" in str(events[-1].error)


@pytest.mark.filterwarnings("ignore:no worker has started")
def test_a_worker_that_starts_for_too_long_is_replaced(make_pool):
    def answers(number, method):
        return SILENT if (number, method) == (1, "start") else None

    ray = FakeRay(answers)
    pool = make_pool(ray)
    settle(pool)
    ray.now += START_LIMIT
    with pytest.warns(UserWarning, match="worker 1 .* did not start .it has not started for 900 s"):
        assert settle(pool) == []
    assert ray.killed == [1]
    assert pool.idle() == [2]


def test_a_question_that_kills_its_worker_is_put_to_another_one(make_pool):
    def answers(number, method):
        return RayError("it crashed") if method == "ask" and number in dead else None

    dead = {1}
    with pytest.warns(UserWarning, match="worker 1 .* did not start .it crashed"):
        assert make_pool(FakeRay(answers)).ask("members_that_fit") == 7
    dead |= set(range(9))
    with (
        pytest.warns(UserWarning, match="it crashed"),
        pytest.raises(InputError, match=r"no worker can start: worker 1 .*it crashed"),
    ):
        make_pool(FakeRay(answers)).ask("members_that_fit")


def test_a_lost_head_is_one_line(make_pool, monkeypatch):
    ray = FakeRay()
    pool = make_pool(ray)

    def fail(*_):
        raise RayError("Failed to connect to GCS.\nSee the log")

    line = "^the cluster is gone .Failed to connect to GCS. See the log.; .* resumes the study$"
    monkeypatch.setattr(ray, "nodes", fail)
    with pytest.raises(InputError, match=line):
        pool.hire(1)
    monkeypatch.setattr(ray, "put", fail)
    with pytest.raises(InputError, match=line):
        make_pool(ray)


class Life:
    """Worker 1 has a group, and answers as a test sets."""

    def __init__(self, make_pool, **options):
        self.run, self.news, self.group = SILENT, SILENT, GROUP
        self.pool = make_pool(FakeRay(self.answers), most=1, **options)
        settle(self.pool)

    def answers(self, number, method):
        return getattr(self, method) if number == 1 and method in ("run", "news") else None

    def begin(self, group=GROUP):
        self.pool.assign(1, group, Path("checkpoints"), TASK)

    def events(self):
        return self.pool.events(1.0)


def test_progress_is_that_of_the_group_at_work(make_pool):
    life = Life(make_pool)
    life.begin()
    life.news = News(1, [Advance(5)])
    assert life.events() == [Advanced(1, [Advance(5)])]
    life.news = News(0, [Advance(5)])
    assert life.events() == [], "of an earlier group"
    life.news, life.run = SILENT, Report(GroupResult([]))
    assert life.events() == [Finished(1, GroupResult([]))]


def test_a_group_is_blamed_for_a_worker_only_if_it_began_there(make_pool):
    life = Life(make_pool)
    life.begin()
    life.run = life.news = RayError(DIED)
    (lost,) = life.events()
    assert lost == Lost(1, DIED, blamed=False)

    life = Life(make_pool)
    life.begin()
    life.news = News(1, [])
    assert life.events() == []
    life.run = life.news = RayError(DIED)
    assert life.events() == [Lost(1, DIED, blamed=True)]


def test_a_group_that_ends_workers_before_it_is_heard_of_is_excused_once(make_pool):
    ray = FakeRay(lambda number, method: RayError(DIED) if method == "run" else None)
    pool, blamed = make_pool(ray), []
    for number in (1, 2, 3):
        settle(pool)
        pool.assign(number, GROUP, Path("checkpoints"), TASK)
        blamed += [own.blamed for own in pool.events(1.0)]
    assert blamed == [False, True, True]


def test_the_death_of_an_idle_worker_is_heard_before_it_is_given_a_group(make_pool):
    life = Life(make_pool)
    life.news = RayError(DIED)
    with pytest.warns(UserWarning, match=r"worker 1 .* is lost .*; it had nothing to do"):
        assert settle(life.pool) == []
    assert life.pool.idle() == [2]


def test_an_error_that_others_would_meet_ends_the_study_and_any_other_the_worker(make_pool):
    life = Life(make_pool)
    life.begin()
    life.run = Report(stop=(error := OSError("vm2: disk full")))
    assert life.events() == [Stopped(error)]
    life.begin()
    life.run = Report(error="RuntimeError: x")
    assert life.events() == [Lost(1, "RuntimeError: x", blamed=True)]


def test_checkpoints_that_a_worker_does_not_see_are_told_once(make_pool):
    life = Life(make_pool)
    life.run = Report(GroupResult([]), unseen=True)
    life.begin()
    with pytest.warns(UserWarning, match="worker 1 .* does not see the folder of checkpoints"):
        life.events()
    life.begin()
    life.events()
    quiet = Life(make_pool, shared=False)
    quiet.run = life.run
    quiet.begin()
    quiet.events()


def test_workers_end_before_the_locks_of_their_groups_are_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "this_machine", lambda: HERE)
    full = Report(stop=OSError("vm2: disk full"))
    ray = FakeRay(lambda number, method: full if method == "run" else None)
    study, killed = make_study(tmp_path), []
    engine = RayEngine(
        *(Cluster(ray), study.material), platform="cpu", programs=tmp_path, clock=lambda: ray.now
    )
    monkeypatch.setattr(Claims, "release_all", lambda _: killed.extend(ray.killed))
    with pytest.raises(OSError, match="disk full"):
        list(study.run(study.groups(1), engine=engine))
    assert killed == [1]
