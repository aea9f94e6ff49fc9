"""A worker: a process with its devices, which trains one group after another."""

import os
import threading
import warnings
from pathlib import Path
from typing import NamedTuple

import jax

from twostage_jax.cluster.machines import Machine, this_machine
from twostage_jax.cluster.plug_ins import PlugIns
from twostage_jax.commands.device import (
    fix_numerics,
    keep_programs,
    require_memory,
    use_accelerator,
)
from twostage_jax.commands.quiet import silence_orbax
from twostage_jax.study.engine import Material, Task, device_name
from twostage_jax.study.halving import out_of_memory
from twostage_jax.study.jobs import Group
from twostage_jax.study.litter import lock_path
from twostage_jax.study.run import GroupResult, run_group
from twostage_jax.support.errors import InputError
from twostage_jax.training.bounds import option_name
from twostage_jax.training.trainer import Advance


class Briefing(NamedTuple):
    """What a worker is told once.

    Attributes:
        material: of the study.
        plug_ins: what is registered where the study was made.
        platform: of the devices: cpu, gpu or tpu.
        programs: folder of compiled programs.
    """

    material: Material
    plug_ins: PlugIns
    platform: str
    programs: Path


class Introduction(NamedTuple):
    """What a worker tells of itself.

    Attributes:
        machine: where it is.
        process: its number there.
        device: what it computes on, for records.
    """

    machine: Machine
    process: int
    device: str


class Report(NamedTuple):
    """How a group ended.

    Attributes:
        result: what it leaves; None where it did not end well.
        out_of_memory: whether the device has too little memory.
        error: what went wrong else; empty if nothing did.
        warned: warnings, for the user.
    """

    result: GroupResult | None
    out_of_memory: bool
    error: str
    warned: list[str]


class Worker:
    """Made in a process of its own, by Ray. Two threads call it: one `run`, the other `news`."""

    def __init__(self, threads: int | None):
        """JAX is not started yet.

        Args:
            threads: that XLA is to use on a CPU; None for as many as there are cores.
        """
        if threads is not None:
            os.environ["NPROC"] = str(threads)  # XLA reads it when JAX starts
        self._turn = 0
        self._advances: list[Advance] = []
        self._changed = threading.Condition()

    def start(self, briefing: Briefing) -> Introduction | str:
        """Starts JAX and brings images and weights to the devices.

        Returns:
            who it is; or what is wrong with this machine, in a line.
        """
        silence_orbax()
        try:
            fix_numerics()
            use_accelerator(briefing.platform)
            keep_programs(briefing.programs)
            briefing.plug_ins.register()
            own = briefing.material
            require_memory(own.protocol, own.image_set.images.shape[1], option_name)
            self._plans = own.make_plans()
            self._trainer = own.make_trainer()
        except (InputError, OSError, jax.errors.JaxRuntimeError) as error:
            return _line(error)
        return Introduction(this_machine(), os.getpid(), device_name())

    def members_that_fit(self) -> int:
        """See `Trainer.members_that_fit`."""
        return self._trainer.members_that_fit()

    def device_memory(self, members: int) -> int | None:
        """See `Trainer.device_memory`."""
        return self._trainer.device_memory(members)

    def run(self, turn: int, group: Group, checkpoints: Path, task: Task) -> Report:
        """Trains a group.

        Args:
            turn: number of this call, for `news`.
            group: to train.
            checkpoints: folder of its checkpoints. None are written where this machine does not
                see the lock beside it, which says that the folder is another machine's own.
            task: what groups have in common.
        """
        with self._changed:
            self._turn, self._advances = turn, []
        folder = checkpoints if lock_path(checkpoints).exists() else None
        with warnings.catch_warnings(record=True) as caught:
            result, memory, reason = None, False, ""
            try:
                result = run_group(
                    *(self._trainer, self._plans, group, folder),
                    task.on(device_name()).provenance,
                    shown=task.shown,
                    progress=self._advance,
                )
            except jax.errors.JaxRuntimeError as error:
                memory, reason = out_of_memory(error), _line(error)
            except Exception as error:  # the driver decides
                reason = _line(error)
        return Report(result, memory, reason, [str(item.message) for item in caught])

    def _advance(self, advance: Advance) -> None:
        with self._changed:
            self._advances.append(advance)
            self._changed.notify_all()

    def news(self, turn: int, seconds: float) -> list[Advance]:
        """How far the group of a turn has come since the last call; waits a while for something."""
        with self._changed:
            self._changed.wait_for(lambda: self._turn != turn or self._advances, seconds)
            if self._turn != turn:
                return []
            advances, self._advances = self._advances, []
            return advances


def _line(error: Exception) -> str:
    text = str(error).splitlines()[0][:300] if str(error) else ""
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
