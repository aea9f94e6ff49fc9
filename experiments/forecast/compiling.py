"""Compiles programs in processes of their own, one per kind of device."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from experiments.benchmarks.turns import Worker
from experiments.forecast import programs, targets
from experiments.forecast.devices import devices
from experiments.forecast.kernels import READING, Kernel, read_step
from experiments.forecast.programs import Program, Setting
from experiments.forecast.roofline import step_seconds
from twostage_jax.commands.device import fix_numerics, use_accelerator

# Seconds after which a compilation counts as hung. The largest take minutes on two cores.
_LIMIT = 4 * 3600


class Job(NamedTuple):
    """A program to compile: for a target, in a precision, for a number of networks at a time.

    `precision` and `members` are `any` where the program depends on neither.
    """

    target: str
    precision: str
    program: str
    members: str

    def __str__(self) -> str:
        """As printed."""
        if self.members == "any":
            return f"{self.target}, {self.program}"
        return f"{self.target}, {self.precision}, {self.program}, {self.members} members"


class Entry(NamedTuple):
    """One of the largest kernels of a step; numbers are per step."""

    kernel: str
    op_name: str
    shape: str
    times: int
    bytes: int
    operations: int
    cycles: int


class Found(NamedTuple):
    """What a compiled program says.

    Attributes:
        samples: per step.
        kernels, bytes, operations, cycles: per step; copies beside the kernels are no kernels.
        seconds: that a step takes at least.
        temporary: bytes of memory beside arguments and results.
        total: bytes of memory with them.
        compiled_in: seconds.
        largest: kernels by cycles, or by bytes where there are none.
    """

    samples: int
    kernels: int
    bytes: int
    operations: int
    cycles: int
    seconds: float
    temporary: int
    total: int
    compiled_in: float
    largest: list[Entry]


class Compiler:
    """What the process of a kind of device holds. `Worker.ask` calls the methods."""

    def __init__(self, setting: Setting, largest: int):
        """JAX itself runs on the CPU; `largest` kernels are named."""
        use_accelerator("cpu")
        fix_numerics()
        self._setting, self._largest = setting, largest
        self._lowered: dict[Job, Program] = {}

    def lower(self, job: Job) -> str:
        """Lowers a program; gives a digest of all that its forecast depends on."""
        device = devices()[job.target]
        precision = "float32" if job.precision == "any" else job.precision
        members = 1 if job.members == "any" else int(job.members)
        program = programs.lower(
            job.program, self._setting, precision, members, targets.find_devices(device)
        )
        self._lowered = {job: program}
        parts = (program.lowered.as_text(), device.digest, targets.versions(device.kind))
        flags = sorted(targets.ENVIRONMENT[device.kind].items())
        return hashlib.sha256(repr((parts, flags, READING)).encode()).hexdigest()[:16]

    def compile(self, job: Job) -> Found:
        """Compiles what was lowered last, and reads what came out."""
        program, device = self._lowered.pop(job), devices()[job.target]
        started = time.perf_counter()
        compiled = program.lowered.compile()
        seconds = time.perf_counter() - started
        memory = compiled.memory_analysis()
        inside = memory.argument_size_in_bytes + memory.output_size_in_bytes
        total = inside - memory.alias_size_in_bytes + memory.temp_size_in_bytes
        kernels = read_step(compiled.as_text(), program.loop)
        return Found(
            program.samples,
            sum(kernel.times for kernel in kernels if not kernel.beside),
            sum(kernel.times * kernel.bytes for kernel in kernels),
            sum(kernel.times * kernel.operations for kernel in kernels),
            sum(kernel.times * kernel.cycles for kernel in kernels),
            step_seconds(kernels, device),
            memory.temp_size_in_bytes,
            total,
            seconds,
            largest_entries(kernels, self._largest),
        )


def largest_entries(kernels: Sequence[Kernel], number: int) -> list[Entry]:
    """The kernels with the most cycles, or bytes where the compiler counts none."""
    entries = [
        Entry(
            kernel.name,
            kernel.op_name,
            kernel.shape,
            kernel.times,
            kernel.times * kernel.bytes,
            kernel.times * kernel.operations,
            kernel.times * kernel.cycles,
        )
        for kernel in kernels
    ]
    return sorted(entries, key=lambda entry: (entry.cycles, entry.bytes), reverse=True)[:number]


class Compilers(ExitStack):
    """The processes, which start when they are needed and end with the block."""

    def __init__(self, setting: Setting, largest: int):
        """Starts none yet."""
        super().__init__()
        self._setting, self._largest = setting, largest
        self._workers: dict[str, Worker] = {}

    def lower(self, job: Job) -> str:
        """As `Compiler.lower`.

        Raises:
            WorkerError: it could not be lowered; the message is one line. What the kind of device
                needs has to be installed (`targets.missing`).
        """
        return self._worker(job).ask("lower", job).value

    def compile(self, job: Job) -> Found:
        """As `Compiler.compile`, of what was lowered last.

        Raises:
            WorkerError: the compiler failed, or ended the process.
        """
        return self._worker(job).ask("compile", job, limit=_LIMIT).value

    def _worker(self, job: Job) -> Worker:
        kind = devices()[job.target].kind
        worker = self._workers.get(kind)
        if worker is None or not worker.is_alive:
            variables = targets.ENVIRONMENT[kind]
            worker = Worker(
                Compiler, self._setting, self._largest, environment=variables, observe=False
            )
            self._workers[kind] = self.enter_context(worker)
        return worker
