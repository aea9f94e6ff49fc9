"""A study spread over many hosts, which share its folder and nothing else.

No computation crosses hosts, and no process depends on another one's life. The processes meet in
the study's folder, in `hosts/<token of this start>`. Process 0 deals out the groups there, and
every process leaves a sign of life, with how many of its networks are recorded.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from twostage_jax.study.folder import StudyFolder
from twostage_jax.study.jobs import Group, Network, image_passes
from twostage_jax.study.rendezvous import Hosts
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

# Seconds. File systems of clusters show a file up to a minute late.
GATHER = 90.0
BEAT = 5.0
LOST = 120.0  # a process without a new sign for this long is lost
_LOOK = 0.5

_DEAL = "deal.json"


def deal(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Deals out pieces of work, the largest first, each to the process that has least so far.

    Args:
        sizes: of each piece.
        count: of processes.

    Returns:
        The positions in `sizes` of each process's pieces, ascending. The sums of any two differ
        by at most the largest size.
    """
    shares: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for piece in sorted(range(len(sizes)), key=lambda piece: (-sizes[piece], piece)):
        least = loads.index(min(loads))
        shares[least].append(piece)
        loads[least] += sizes[piece]
    return [sorted(share) for share in shares]


class Team:
    """The processes at work on one study, as long as the `with` statement lasts.

    Alone, it does nothing and leaves nothing.
    """

    def __init__(self, hosts: Hosts, output: Path):
        """Nothing is written yet.

        Args:
            hosts: which process this is.
            output: the study's folder, shared by all.
        """
        self.hosts = hosts
        self._output = output
        self._signs = StudyFolder(output).hosts
        self._folder = self._signs / hosts.token
        self._done = 0
        self._beats = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._others = {
            index: _Watch(self._folder / str(index))
            for index in (range(1, hosts.count) if hosts.index == 0 else [0])
            if hosts.count > 1
        }
        self._shares: list[list[Group]] = []

    def __enter__(self) -> "Team":
        """Waits until the others have left a sign in the folder.

        Raises:
            InputError: they have not; most likely the folder is not shared.
            OSError: the folder cannot be written.
        """
        if self.hosts.count > 1:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                if self.hosts.index == 0:
                    for left in self._signs.iterdir():  # from a start that was killed
                        if left != self._folder:
                            shutil.rmtree(left, ignore_errors=True)
                self._beat()
                threading.Thread(target=self._keep_beating, daemon=True).start()
                self._gather()
            except BaseException:
                self._leave()
                raise
        return self

    def __exit__(self, *_) -> None:
        """Leaves a last sign that this process has ended; process 0 removes all signs."""
        if self.hosts.count > 1:
            self._leave()

    def _gather(self) -> None:
        deadline = time.monotonic() + GATHER
        while absent := [index for index, watch in self._others.items() if watch.look().silent]:
            self._require_folder()
            if time.monotonic() > deadline:
                names = ", ".join(map(str, absent))
                raise InputError(
                    f"no sign of process {names} in {self._folder} after {GATHER:g} s; expected a "
                    "folder that all hosts share: give all the same --output on a shared disk"
                )
            time.sleep(_LOOK / 5)

    def _require_folder(self) -> None:
        if not self._folder.is_dir():
            raise InputError(
                "process 0 ended before it dealt out the groups; its own message says why"
            )

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT):
            self._beat()

    def _beat(self, ended: bool = False) -> None:
        with self._lock:
            self._beats += 1
            sign = {"beat": self._beats, "done": self._done, "ended": ended}
            # Where process 0 has ended the folder is gone, and nobody looks any more; and a sign
            # that cannot be written is no reason to stop training.
            if self._folder.is_dir():
                try:
                    write_atomically(
                        self._folder / str(self.hosts.index), json.dumps(sign).encode()
                    )
                except OSError:
                    if self._beats == 1:
                        raise

    def _leave(self) -> None:
        self._stop.set()
        if self.hosts.index == 0:
            with self._lock:
                shutil.rmtree(self._signs, ignore_errors=True)
                if not any(self._output.iterdir()):
                    self._output.rmdir()  # nothing came of it
        else:
            self._beat(ended=True)

    def assign(self, pending: list[Group]) -> list[Group]:
        """As process 0: deals out groups, and returns its own."""
        shares = deal([image_passes([group], 1) for group in pending], self.hosts.count)
        self._shares = [[pending[i] for i in share] for share in shares]
        if self.hosts.count > 1:
            names = [
                [[_name(network) for network in group] for group in own] for own in self._shares
            ]
            write_atomically(self._folder / _DEAL, json.dumps(names).encode())
        return self._shares[0]

    def receive(self, study: Study) -> list[Group]:
        """As another process: waits for process 0 and returns the groups that it dealt to this one.

        Their size is the one that process 0 chose.

        Raises:
            InputError: process 0 has ended or works on another study.
        """
        watch = self._others[0]
        while not (self._folder / _DEAL).exists():
            self._require_folder()
            if watch.look().silent:
                raise InputError(
                    f"no sign of process 0 for {LOST:g} s; start the same command again"
                )
            time.sleep(_LOOK)
        shares = json.loads((self._folder / _DEAL).read_bytes())
        study.check_folder()  # process 0 has written its settings there
        networks = {_name(network): network for network in study.networks}
        try:
            return [
                tuple(networks[tuple(name)] for name in group) for group in shares[self.hosts.index]
            ]
        except KeyError as error:
            raise InputError(
                f"process 0 deals out a network {error} that is not in scope here; start all "
                "processes with the same options"
            ) from error

    def recorded(self, group: Group) -> None:
        """Tells process 0 that one more group, or a part of one, is on disk."""
        self._done += len(group)
        if self.hosts.count > 1 and self.hosts.index:
            self._beat()

    def missing(self) -> int:
        """As process 0: how many networks of the others are not recorded yet."""
        return sum(len(self._left(index)) for index in self._others)

    def _left(self, index: int) -> list[Network]:
        """The networks after those that the process reports as done; it runs them in order."""
        return self._networks(index)[self._others[index].look().done :]

    def _networks(self, index: int) -> list[Network]:
        return [network for group in self._shares[index] for network in group]

    def wait(self, study: Study, meanwhile: Callable[[], None]) -> list[str]:
        """As process 0: waits until the others have ended or are lost.

        Args:
            study: whose records are looked for.
            meanwhile: called about twice per second.

        Returns:
            What is missing, one line per process that was lost.
        """
        lost, waiting = [], set(self._others)
        while waiting:
            for index in sorted(waiting):
                left, watch = self._left(index), self._others[index]
                # A shared disk may show a record later than the word of it.
                unseen = left or [
                    network
                    for network in self._networks(index)
                    if not all(study.folder.record(key).exists() for key in network.keys)
                ]
                if watch.ended and not unseen:
                    waiting.remove(index)
                elif watch.silent or (watch.ended and left):
                    waiting.remove(index)
                    if unseen:
                        why = "ended early" if watch.ended else f"gave no sign for {LOST:g} s"
                        lost.append(f"process {index} {why}: {len(unseen)} of its networks missing")
            if waiting:
                meanwhile()
                time.sleep(_LOOK)
        return lost


class _Watch:
    """The last sign of another process.

    A sign is new when its content changes: times of different hosts cannot be compared.
    """

    def __init__(self, path: Path):
        self._path = path
        self._last: bytes | None = None
        self._changed = 0.0
        self.done = 0
        self.ended = False

    def look(self) -> "_Watch":
        """Looks again."""
        try:
            sign = self._path.read_bytes()
        except OSError:  # not there yet, or a passing fault of the disk: counts as no sign
            return self
        if sign != self._last:
            self._last, self._changed = sign, time.monotonic()
            values = json.loads(sign)
            self.done, self.ended = values["done"], values["ended"]
        return self

    @property
    def silent(self) -> bool:
        """Whether there was no new sign for long, or never one."""
        return self._last is None or time.monotonic() - self._changed > LOST


def _name(network: Network) -> tuple[str, str, int, str]:
    scenario, ratio, fold = network.partition
    return scenario, f"{ratio:g}", fold, network.stage1.stream
