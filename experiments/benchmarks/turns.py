"""Worker processes that take turns, and the memory that they use, measured from outside.

Libraries that compete for cores, memory and accelerators never share a process. Workers wait in
between their turns, and only one of them works at a time.
"""

import ctypes
import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

import jax

Job = TypeVar("Job")

OUT_OF_MEMORY = "out of memory"

# Seconds between samples of memory, each of which takes about 20 microseconds.
_INTERVAL = 0.005

# Seconds after which a call counts as hung.
_LIMIT = 1800

# Processes share an accelerator: none may reserve more of its memory than it uses.
_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


class WorkerError(Exception):
    """A worker could not do what it was asked. The message is one line."""


class Answer(NamedTuple):
    """What a worker returned, and by how many bytes its own memory grew meanwhile at most."""

    value: Any
    growth: int


class Worker:
    """A process that holds one object and calls its methods when asked."""

    def __init__(
        self,
        make: Callable[..., Any],
        *arguments: Any,
        environment: Mapping[str, str] | None = None,
        observe: bool = True,
    ):
        """Starts the process, in which `make(*arguments)` makes the object.

        Args:
            make: called with `arguments` when the worker is first asked.
            environment: variables of the process.
            observe: whether to measure its memory, for which psutil is needed.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        variables = _ENVIRONMENT | dict(environment or {})
        self._process = context.Process(target=_serve, args=(theirs, variables, make, arguments))
        self._process.start()
        theirs.close()  # the end of the process then ends the connection
        self._resident = _resident(self._process.pid) if observe else lambda: 0

    def ask(self, method: str, *arguments: Any, limit: float = _LIMIT) -> Answer:
        """Calls a method of the object; ends the process after `limit` seconds.

        Raises:
            WorkerError: the method raised an exception, the process ended, or time was up.
        """
        ends = time.monotonic() + limit
        before = peak = self._resident()
        try:
            self._connection.send((method, arguments))
            while not self._connection.poll(_INTERVAL):
                peak = max(peak, self._resident())
                if time.monotonic() > ends:
                    self.close()
                    raise WorkerError(f"no answer within {limit:g} s")
            value, failure = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise WorkerError(f"the process ended with status {self._process.exitcode}") from error
        if failure:
            raise WorkerError(failure)
        return Answer(value, max(peak, self._resident()) - before)

    @property
    def is_alive(self) -> bool:
        """Whether the process can be asked again."""
        return self._process.is_alive()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.join()
        self._connection.close()

    def __enter__(self) -> "Worker":
        """The process ends with the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self.close()


def _resident(process: int | None) -> Callable[[], int]:
    """A function that gives the bytes of memory that a process holds; 0 once it has ended.

    Pages of mapped files and of shared libraries do not count.
    """
    import psutil  # the benchmarks need it, the forecast does not

    statistics = psutil.Process(process)

    def resident() -> int:
        with suppress(psutil.NoSuchProcess):
            memory = statistics.memory_info()
            return memory.rss - getattr(memory, "shared", 0)
        return 0

    return resident


def _serve(connection, variables: Mapping[str, str], make: Callable, arguments: tuple) -> None:
    """Answers until the connection ends, or the process is killed."""
    os.environ.update(variables)
    jax.config.update("jax_compilation_cache_dir", None)  # it would shorten first calls
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interruption is the parent's to handle
    subject = None
    with suppress(EOFError):
        while True:
            method, parameters = connection.recv()
            try:
                subject = make(*arguments) if subject is None else subject
                answer = getattr(subject, method)(*parameters), ""
            except Exception as error:
                answer = None, one_line(error)
            connection.send(answer)


def one_line(error: Exception) -> str:
    """What an exception says in its first line; `OUT_OF_MEMORY` if that is what it means."""
    text = f"{type(error).__name__}: {error}".strip()
    if "resource_exhausted" in text.lower() or OUT_OF_MEMORY in text.lower():
        return OUT_OF_MEMORY
    return text.splitlines()[0][:200]


def return_free_memory() -> None:
    """Returns freed memory to the system, where the C library would keep it for later."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # the C library has no `malloc_trim`
        ctypes.CDLL(None).malloc_trim(0)


def alternate(jobs: Sequence[Job], rounds: int) -> Iterator[tuple[int, Job]]:
    """All (round, job), every other round backwards: the first place has advantages and costs."""
    for number in range(rounds):
        for job in jobs[:: -1 if number % 2 else 1]:
            yield number, job


def run_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own: JAX may keep an accelerator's memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def find_device(accelerator: str) -> dict[str, str]:
    """The platform and the kind of the device that JAX runs on.

    Raises:
        InputError: JAX does not find the accelerator.
    """
    from twostage_jax.commands.device import use_accelerator  # which imports JAX

    use_accelerator(accelerator)
    return {"platform": jax.devices()[0].platform, "kind": jax.devices()[0].device_kind}
