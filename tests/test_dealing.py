"""Who trains what on a cluster, without one: workers that end, die, hang or lack memory."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from twostage_jax.cluster.dealing import Advanced, Dealer, Finished, Lost, Stopped
from twostage_jax.cluster.schedule import Schedule
from twostage_jax.data.partition import PartitionKey
from twostage_jax.study import claims as claims_module
from twostage_jax.study.approaches import Stage1, find
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Task
from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.jobs import Network
from twostage_jax.study.record import failed_record
from twostage_jax.study.run import GroupResult, Provenance
from twostage_jax.support.errors import InputError
from twostage_jax.training.trainer import Advance

EPOCHS = 2
TASK = Task(Provenance({}, "", {}, ""), None)


def group(fold: int, *sizes: int):
    """A group of networks, each with its number of images per epoch."""
    return tuple(
        Network(PartitionKey("linear", 2.0 + i, fold), Stage1(), (find("baseline"),), (size,))
        for i, size in enumerate(sizes)
    )


def name(group) -> str:
    return "-".join(f"{own.partition.fold}_{own.partition.ratio:.0f}" for own in group)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Workers:
    """A pool whose workers take ten seconds per group, and do with it what a test says."""

    def __init__(self, number: int, act=lambda group: "end", joins=()):
        self.clock = Clock()
        self.given = []  # (worker, group)
        self.act, self._joins = act, dict(joins)
        self._most, self._numbers = number, 0
        self._working: dict[int, tuple | None] = {}

    def hire(self, wanted: int) -> None:
        self._most += self._joins.pop(int(self.clock.now), 0)
        while len(self._working) < min(wanted, self._most):
            self._numbers += 1
            self._working[self._numbers] = None

    def idle(self) -> list[int]:
        return [worker for worker, own in self._working.items() if own is None]

    def assign(self, worker: int, group, checkpoints: Path, task: Task) -> None:
        self.given.append((worker, group))
        self._working[worker] = group

    def events(self, seconds: float):
        self.clock.now += 10
        events = []
        for worker, own in list(self._working.items()):
            if own is None:
                continue
            act = self.act(own)
            if act == "hang":
                continue
            if isinstance(act, Exception):
                events.append(Stopped(act))
                continue
            events.append(Advanced(worker, [Advance(7)]))
            if act in ("die", "node"):
                events.append(Lost(worker, f"it did {act}", blamed=act == "die"))
                del self._working[worker]
            else:
                events.append(Finished(worker, GroupResult([]) if act == "end" else None))
                self._working[worker] = None
        return events

    def dismiss(self, worker: int) -> None:
        del self._working[worker]

    def describe(self, worker: int) -> str:
        return f"worker {worker}"

    def device(self, worker: int) -> str:
        return "cpu, 1 thread"


def give_up(group, reason: str, device: str) -> GroupResult:
    counts = np.ones(3, np.int32)
    common = {"settings": {}, "settings_hash": "", "versions": {}, "device": device}
    keys = [key for network in group for key in network.keys]
    return GroupResult([failed_record(key, reason, class_counts=counts, **common) for key in keys])


@pytest.fixture
def claims(tmp_path):
    """The claims of one process; each call is another process's."""

    def claims() -> Claims:
        return Claims(StudyFolder(tmp_path / "study"), lambda group: tmp_path / name(group))

    return claims


@pytest.fixture
def make_dealer(claims):
    def make(groups, workers: Workers, timeout: float | None = None, told=None) -> Dealer:
        def progress(advance: Advance) -> None:
            if told is not None:
                told[advance.resumed] += advance.images

        return Dealer(
            schedule=Schedule(groups, EPOCHS, timeout),
            pool=workers,
            task=TASK,
            claims=claims(),
            give_up=give_up,
            progress=progress,
            tell=lambda _: None,
            clock=workers.clock,
        )

    return make


@pytest.fixture
def deal(make_dealer):
    """Deals groups out; gives what has ended and the image passes that were told."""

    def deal(groups, workers: Workers, timeout: float | None = None):
        told = Counter()
        return list(make_dealer(groups, workers, timeout, told).deal()), told

    return deal


GROUPS = [group(0, 10), group(1, 30, 30), group(2, 20), group(3, 50)]


def test_the_largest_group_goes_first_and_every_image_counts_once(deal):
    workers = Workers(2)
    ended, told = deal(GROUPS, workers)
    assert [own for _, own in workers.given] == [GROUPS[1], GROUPS[3], GROUPS[2], GROUPS[0]]
    assert {own.group for own in ended} == set(GROUPS)
    assert [own.seconds for own in ended] == [10] * 4
    assert told == {False: EPOCHS * 140}


def test_a_group_goes_to_another_worker_when_its_own_dies(deal):
    fates = iter(["die"])
    workers = Workers(1, lambda own: next(fates, "end") if own == GROUPS[1] else "end")
    with pytest.warns(UserWarning, match=r"worker 1 is lost \(it did die\).*cost 1 of at most 3"):
        ended, told = deal(GROUPS, workers)
    assert workers.given[:2] == [(1, GROUPS[1]), (2, GROUPS[1])]
    assert len(ended) == 4
    assert told == {False: EPOCHS * 140, True: 0}


@pytest.mark.filterwarnings("ignore:worker")
def test_a_group_that_kills_three_workers_is_recorded_as_failed_and_the_others_go_on(deal):
    workers = Workers(1, lambda own: "die" if own == GROUPS[1] else "end")
    ended, told = deal(GROUPS, workers)
    assert Counter(own for _, own in workers.given)[GROUPS[1]] == 3
    (failed,) = (own.result.records for own in ended if own.result.records)
    assert len(failed) == 2
    assert failed[0].reason == "it has cost 3 workers; the last one: it did die"
    assert failed[0].device == "cpu, 1 thread"
    assert len(ended) == 4
    assert sum(told.values()) == EPOCHS * 140, "a bar comes to its end"


@pytest.mark.filterwarnings("ignore:worker")
def test_nodes_that_go_do_not_count_against_a_group(deal):
    fates = iter(["node"] * 5)
    workers = Workers(1, lambda own: next(fates, "end"))
    ended, _ = deal(GROUPS[:1], workers)
    assert len(workers.given) == 6
    assert not ended[0].result.records


@pytest.mark.parametrize(("timeout", "seconds"), [(35.0, 35), (None, 900)])
def test_a_group_without_progress_is_given_to_another_worker(deal, timeout, seconds):
    workers = Workers(2, lambda own: "hang" if workers.given[-1][0] == 1 else "end")
    with pytest.warns(UserWarning, match=f"worker 1 is lost .no progress for {seconds} s"):
        ended, _ = deal(GROUPS[:1], workers, timeout)
    assert [worker for worker, _ in workers.given] == [1, 2]
    assert len(ended) == 1


def test_a_groups_forecast_gives_it_time():
    schedule = Schedule([group(0, 100), group(1, 1000)], EPOCHS)
    assert schedule.allowance(group(0, 100)) == 900
    schedule.begin(1, schedule.next(), 0.0)
    schedule.advance(1, Advance(500, resumed=True), 5.0)
    schedule.advance(1, Advance(1500), 5.0)
    schedule.done(1, 3000.0)  # half an image per second
    assert schedule.allowance(group(0, 100)) == 10 * 400
    assert schedule.allowance(group(0, 1)) == 900


def test_a_driver_that_is_busy_itself_does_not_call_workers_late():
    schedule = Schedule(GROUPS, EPOCHS, timeout=5.0)
    schedule.begin(1, schedule.next(), 0.0)
    schedule.pause(100.0)
    assert schedule.overdue(104.0) == []
    assert schedule.overdue(106.0) == [1]


def test_out_of_memory_halves_a_group_and_all_later_ones(deal):
    workers = Workers(1, lambda own: "full" if len(own) > 2 else "end")
    groups = [group(0, 9, 9, 9, 9, 9), group(1, 5, 5, 5), group(2, 1)]
    with pytest.warns(UserWarning, match="memory for 5 networks .* goes on with 2") as said:
        ended, told = deal(groups, workers)
    assert len(said) == 1
    assert [len(own) for _, own in workers.given] == [5, 2, 2, 2, 1, 1, 1]
    assert sum(len(own.group) for own in ended) == 9
    assert told == {False: EPOCHS * 61, True: 0}


def test_a_device_without_memory_for_one_network_ends_the_study(deal):
    with pytest.raises(InputError, match="worker 1 has too little memory for one network"):
        deal(GROUPS[:1], Workers(1, lambda own: "full"))


def test_workers_that_join_get_work(deal):
    workers = Workers(1, joins={10: 2})
    ended, _ = deal(GROUPS, workers)
    assert len({worker for worker, _ in workers.given}) == 3
    assert len(ended) == 4


def test_a_group_that_another_process_trains_is_taken_up_when_that_ends(deal, claims):
    """Nobody waits for its lock: workers are listened to all the while."""
    other = claims()
    other.take(GROUPS[1])
    workers = Workers(2)

    def act(own) -> str:
        if len(workers.given) == 3 and workers.clock.now >= 60:
            other.release(GROUPS[1])
            return "end"
        return "hang" if len(workers.given) == 3 else "end"

    workers.act = act
    with pytest.warns(UserWarning, match="trains networks of this command") as said:
        ended, told = deal(GROUPS, workers)
    assert len(said) == 1
    assert [own for _, own in workers.given] == [GROUPS[3], GROUPS[2], GROUPS[0], GROUPS[1]]
    assert len(ended) == 4
    assert told == {False: EPOCHS * 140}


def test_a_group_that_another_process_has_recorded_ends_without_a_worker(deal, monkeypatch):
    monkeypatch.setattr(claims_module, "pending", lambda groups, _: set(groups) - {GROUPS[3]})
    workers = Workers(1)
    ended, _ = deal(GROUPS, workers)
    assert len(ended) == 4
    assert GROUPS[3] not in {own for _, own in workers.given}


@pytest.mark.parametrize("fate", ["full", OSError("vm2: disk full"), InputError("no image")])
def test_what_has_ended_is_recorded_before_an_error_ends_the_study(make_dealer, fate):
    """The error comes first in the batch, that of the larger group."""
    workers = Workers(2, lambda own: fate if own == GROUPS[3] else "end")
    ended = []
    with pytest.raises((InputError, OSError), match=r"too little memory|disk full|no image"):
        ended.extend(own.group for own in make_dealer([GROUPS[3], GROUPS[2]], workers).deal())
    assert ended == [GROUPS[2]]


def test_what_has_ended_is_recorded_before_a_lock_that_cannot_be_made(make_dealer, monkeypatch):
    dealer, ended = make_dealer(GROUPS[2:], Workers(1)), []
    take = dealer.claims.take

    def refuse(group):
        if group == GROUPS[2]:
            raise OSError("read-only")
        return take(group)

    monkeypatch.setattr(dealer.claims, "take", refuse)
    with pytest.raises(OSError, match="read-only"):
        ended.extend(own.group for own in dealer.deal())
    assert ended == [GROUPS[3]]


@pytest.mark.filterwarnings("ignore:worker", "ignore:process")
def test_a_worker_that_hangs_ends_before_its_lock_is_given_back(make_dealer, claims):
    workers = Workers(2, lambda own: "hang" if workers.given[-1][0] == 1 else "end")
    free = []

    def dismiss(worker):
        if (own := claims()).take(GROUPS[3]):
            free.append(worker)
            own.release_all()
        Workers.dismiss(workers, worker)

    workers.dismiss = dismiss
    assert len(list(make_dealer(GROUPS[3:], workers, 35.0).deal())) == 1
    assert free == []


def test_a_limit_that_stands_is_not_warned_of_again(deal):
    groups = [group(fold, 9, 9, 9, 9) for fold in range(2)]
    with pytest.warns(UserWarning, match="memory for 4 networks .* goes on with 2") as said:
        ended, _ = deal(groups, Workers(2, lambda own: "full" if len(own) > 2 else "end"))
    assert len(said) == 1
    assert len(ended) == 4
