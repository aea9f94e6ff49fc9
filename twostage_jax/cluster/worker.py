"""A worker: a process with its devices, which trains one group after another."""

import importlib
import os
import socket
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from twostage_jax.study.jobs import Group
from twostage_jax.study.litter import lock_path
from twostage_jax.study.run import GroupResult, run_group
from twostage_jax.support.errors import InputError, is_out_of_memory
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
    """What a worker tells of itself before it starts JAX.

    Attributes:
        machine: where it is.
        node: what Ray calls the machine.
        process: its number there.
    """

    machine: Machine
    node: str
    process: int


class Started(NamedTuple):
    """How a worker has started.

    Attributes:
        device: what it computes on, for records.
        problem: why it cannot work, in a line; empty if it can.
    """

    device: str = ""
    problem: str = ""


class News(NamedTuple):
    """How far a worker has come.

    Attributes:
        turn: number of the group that it has begun last; 0 for none.
        advances: of that group, since the last news.
    """

    turn: int
    advances: list[Advance]


class Report(NamedTuple):
    """How a group ended.

    Attributes:
        result: what it leaves; None where it did not end well.
        out_of_memory: whether the device has too little memory.
        stop: an error that another worker would meet, too, such as a full disk.
        error: what else went wrong; empty if nothing did.
        warned: warnings, for the user.
        unseen: whether this machine does not see the folder of checkpoints.
    """

    result: GroupResult | None = None
    out_of_memory: bool = False
    stop: InputError | OSError | None = None
    error: str = ""
    warned: Sequence[str] = ()
    unseen: bool = False


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

    def introduce(self) -> Introduction:
        """Who it is."""
        node = importlib.import_module("ray").get_runtime_context().get_node_id()
        return Introduction(this_machine(), node, os.getpid())

    def start(self, briefing: Briefing) -> Started:
        """Starts JAX and brings images and weights to the devices."""
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
            return Started(problem=_line(error))
        return Started(device_name())

    def ask(self, method: str, *arguments) -> Any:
        """What a method of the trainer returns."""
        return getattr(self._trainer, method)(*arguments)

    def run(self, turn: int, group: Group, checkpoints: Path, task: Task) -> Report:
        """Trains a group.

        Args:
            turn: number of this call, above 0, for `news`.
            group: to train.
            checkpoints: folder of its checkpoints. None are written where this machine does not
                see the lock beside it, which says that the folder is another machine's own.
            task: what groups have in common.
        """
        with self._changed:
            self._turn, self._advances = turn, []
            self._changed.notify_all()
        seen = lock_path(checkpoints).exists()
        with warnings.catch_warnings(record=True) as caught:
            report = self._train(group, checkpoints if seen else None, task)
        return report._replace(warned=[str(item.message) for item in caught], unseen=not seen)

    def _train(self, group: Group, folder: Path | None, task: Task) -> Report:
        try:
            result = run_group(
                *(self._trainer, self._plans, group, folder),
                task.on(device_name()).provenance,
                shown=task.shown,
                progress=self._advance,
            )
        except (InputError, OSError) as error:
            return Report(stop=_sendable(error))
        except jax.errors.JaxRuntimeError as error:
            return Report(out_of_memory=is_out_of_memory(error), error=_line(error))
        except Exception as error:  # the driver decides
            return Report(error=_line(error))
        return Report(result)

    def _advance(self, advance: Advance) -> None:
        with self._changed:
            self._advances.append(advance)
            self._changed.notify_all()

    def news(self, known: int, seconds: float) -> News:
        """How far the group at work has come since the last call.

        Args:
            known: the turn that the last news told of.
            seconds: to wait for something to tell.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._turn != known or self._advances, seconds)
            advances, self._advances = self._advances, []
            return News(self._turn, advances)


def _sendable(error: InputError | OSError) -> InputError | OSError:
    """An error that any process can read, and that says on which machine it was raised."""
    if isinstance(error, InputError):
        return InputError(_line(error))
    where = f"{error.filename}: " if error.filename else ""
    return OSError(f"{socket.gethostname()}: {where}{error.strerror or _line(error)}")


def _line(error: Exception) -> str:
    text = str(error).splitlines()[0][:300] if str(error) else ""
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
