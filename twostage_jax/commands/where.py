"""Where a command's study is trained: the options, the cluster and the engine."""

import argparse
import contextlib
import dataclasses
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import jax

from twostage_jax.cluster.attachment import Cluster, attach
from twostage_jax.cluster.machines import find_platform
from twostage_jax.cluster.ray_engine import RayEngine
from twostage_jax.commands.device import use_accelerator
from twostage_jax.study.engine import Engine, LocalEngine
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError, require_known

ENGINES = ("local", "ray")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where networks train.

    `ray` joins the cluster of RAY_ADDRESS, else one that runs on this machine, else starts one.
    """

    engine: Literal["local", "ray"] = "local"
    """What trains: this process, or workers on a Ray cluster."""
    workers: int | None = None
    """ray: the most workers; by default as many as fit."""
    cpus_per_worker: int | None = None
    """ray: cores of each worker; by default those of the smallest node."""
    unit_timeout: float | None = None
    """ray: seconds without progress until another worker gets the networks; by default ten times
    their forecast, at least 900."""
    verbose: bool = False
    """Print which networks begin, and where."""

    def require_valid(self) -> None:
        """Checks the values.

        Raises:
            InputError: a number is not above 0, or an option is another engine's.
        """
        require_known("engine", self.engine, ENGINES)
        numbers = {
            "--workers": self.workers,
            "--cpus-per-worker": self.cpus_per_worker,
            "--unit-timeout": self.unit_timeout,
        }
        for name, value in numbers.items():
            if value is None:
                continue
            if not 0 < value <= 1e6:
                raise InputError(f"{name} {value:g} found, above 0 expected (to 1e6)")
            if self.engine != "ray":
                raise InputError(
                    f"{name} found with --engine {self.engine}, which has no workers; add --engine "
                    f"ray, or leave {name} out"
                )


def start_platform(
    arguments: Sequence[str],
    accelerator: str,
    option: str,
    read: Callable[[], EngineOptions],
) -> tuple[str, Cluster | None]:
    """Starts JAX where a command line says that networks train; that decides its other defaults.

    With `--engine ray` this process joins the cluster, and leaves its own devices to workers.

    Args:
        arguments: the command line.
        accelerator: one of `device.ACCELERATORS`.
        option: what the command calls it.
        read: reads the command line, whatever the defaults. It ends the process where options do
            not exist, and for `--help`: no cluster is joined or started for that.

    Returns:
        cpu, gpu or tpu, and the cluster if there is one.

    Raises:
        InputError: JAX does not find the device, or there is no such cluster.
        SystemExit: see `read`.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--engine", default="local")
    known, _ = parser.parse_known_args(arguments)
    if require_known("engine", known.engine, ENGINES) == "local":
        use_accelerator(accelerator, option)
        return jax.default_backend(), None
    read().require_valid()
    cluster = attach()
    use_accelerator("cpu", option)
    platform = find_platform(accelerator, cluster.nodes(), option)
    cluster.require_same_versions()
    return platform, cluster


@contextlib.contextmanager
def start_engine(
    options: EngineOptions,
    study: Study,
    platform: str,
    cluster: Cluster | None,
    programs: Path,
    tell: Callable[[str], None],
    *,
    shared: bool,
) -> Iterator[Engine]:
    """The engine that the options ask for; its workers end with the block.

    Args:
        options: valid ones.
        study: to train.
        platform: as `start_platform` returns it.
        cluster: likewise.
        programs: folder of compiled programs.
        tell: prints a line.
        shared: as `require_shared` returns it.

    Raises:
        InputError: the cluster has no room for a worker.
    """
    told = tell if options.verbose else None
    if cluster is None:
        yield LocalEngine(study.trainer, study.plans, told)
        return
    with RayEngine(
        cluster,
        study.material,
        platform=platform,
        programs=programs,
        workers=options.workers,
        cpus=options.cpus_per_worker,
        timeout=options.unit_timeout,
        shared=shared,
        tell=told,
    ) as engine:
        tell(f"up to {engine}")
        yield engine


def require_shared(cluster: Cluster | None, checkpoints: Path, *, named: bool) -> bool:
    """Checks that all nodes see the folder of checkpoints.

    Args:
        cluster: None checks nothing.
        checkpoints: the folder; it is made.
        named: whether the user named it. The default folder need not be shared: a warning then says
            that a group whose worker is lost begins anew.

    Returns:
        whether they do.

    Raises:
        InputError: a node does not see the folder that was named, or cannot write it.
        OSError: it cannot be made.
    """
    if cluster is None:
        return True
    checkpoints.mkdir(parents=True, exist_ok=True)
    hosts = cluster.unreachable(checkpoints.absolute())
    if not hosts:
        return True
    text = f"{', '.join(hosts[:3])}{' and others' * (len(hosts) > 3)} cannot reach {checkpoints}"
    if named:
        raise InputError(
            f"--checkpoints: {text}, a folder that all nodes share expected; mount it there, or "
            "leave --checkpoints out"
        )
    warnings.warn(
        f"{text}: networks whose worker is lost begin anew; name a folder that all nodes share "
        "with --checkpoints",
        stacklevel=2,
    )
    return False


def require_folder(path: Path, option: str) -> None:
    """Refuses an address such as gs://bucket where a folder is expected.

    Raises:
        InputError: the path is one.
    """
    if re.match(r"[a-z][a-z0-9+.-]+:/", str(path)):
        raise InputError(
            f"{option} {path} is an address, a folder expected; mount the bucket on all nodes and "
            "name the folder"
        )
