"""The engine that trains on a cluster of Ray's, see `study.engine`."""

import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from twostage_jax.cluster.attachment import Cluster
from twostage_jax.cluster.dealing import Dealer
from twostage_jax.cluster.machines import worker_size
from twostage_jax.cluster.plug_ins import plug_ins
from twostage_jax.cluster.pool import RayPool
from twostage_jax.cluster.schedule import Schedule
from twostage_jax.cluster.worker import Briefing
from twostage_jax.study.claims import Claims
from twostage_jax.study.engine import Ended, Material, Task, Tell
from twostage_jax.study.jobs import Group
from twostage_jax.study.run import GroupResult, failed_group
from twostage_jax.training.trainer import Progress


class RayEngine:
    """Trains one group per worker at a time. A context manager; workers end with it."""

    def __init__(
        self,
        cluster: Cluster,
        material: Material,
        *,
        platform: str,
        programs: Path,
        workers: int | None = None,
        cpus: int | None = None,
        timeout: float | None = None,
        shared: bool = True,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """No worker is started yet.

        Args:
            cluster: to work on.
            material: of the study.
            platform: to train on: cpu, gpu or tpu.
            programs: folder of compiled programs, on each machine.
            workers: the most workers; None for as many as fit.
            cpus: cores per worker; see `machines.worker_size`.
            timeout: see `Schedule`.
            shared: whether all nodes are expected to see the folders of checkpoints.
            tell: is told who works on what.
            clock: gives seconds.

        Raises:
            InputError: not a single worker fits, or the cluster is gone.
        """
        size = worker_size(platform, cluster.nodes(), workers, cpus)
        briefing = Briefing(material, plug_ins(), platform, programs.resolve())
        self._pool = RayPool(cluster, briefing, size, workers, shared=shared, clock=clock)
        self._material = material
        self._timeout = timeout
        self._clock = clock
        self._tell = tell or (lambda _: None)

    def __str__(self) -> str:
        """How many workers there can be, and what each takes."""
        return str(self._pool)

    def __enter__(self) -> "RayEngine":
        """Returns itself."""
        return self

    def __exit__(self, *_) -> None:
        """Ends all workers."""
        self._pool.close()

    def members(self, networks: int) -> int:
        """See `Engine.members`; of the first worker that starts.

        There are fewer where workers would have nothing to do otherwise.
        """
        fitting = self._pool.ask("members_that_fit")
        return min(fitting, -(-networks // max(1, self._pool.room())))

    def device_memory(self, members: int) -> int | None:
        """See `Engine.device_memory`; of the first worker that starts."""
        return self._pool.ask("device_memory", members)

    def run(
        self, task: Task, groups: Sequence[Group], claims: Claims, progress: Progress
    ) -> Generator[Ended, None, None]:
        """See `Engine.run`.

        Raises:
            InputError, OSError: as `Dealer.deal`.
        """
        plans = self._material.make_plans()

        def give_up(group: Group, reason: str, device: str) -> GroupResult:
            return failed_group(plans, group, task.on(device).provenance, reason)

        dealer = Dealer(
            schedule=Schedule(groups, self._material.protocol.epochs, self._timeout),
            pool=self._pool,
            task=task,
            claims=claims,
            give_up=give_up,
            progress=progress,
            tell=self._tell,
            clock=self._clock,
        )
        try:
            yield from dealer.deal()
        except BaseException:
            self._pool.close()  # before the locks of groups in training are given back
            raise
