"""What a study needs on accelerators that are not here: `python -m experiments.forecast --help`.

It needs `pip install -e '.[gpu]'` for GPUs or `'.[tpu]'` for TPUs, and neither device. On two cores
a program takes seconds for a GPU and minutes for a TPU. Status 2: nothing could be compiled, or bad
input. What an interrupted run has compiled is written, and the same command goes on from there.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence

import tyro

from experiments.benchmarks.document import provenance
from experiments.benchmarks.turns import WorkerError
from experiments.forecast import report
from experiments.forecast.compiling import Compilers, Job
from experiments.forecast.devices import devices
from experiments.forecast.options import Options, list_jobs
from experiments.forecast.table import Table
from experiments.forecast.targets import missing
from experiments.forecast.work import count_work
from twostage_jax.commands.device import use_accelerator
from twostage_jax.commands.ending import run_command
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import write_atomically

PROGRAM = "python -m experiments.forecast"
_PACKAGES = ("jax", "jaxlib", "flax", "libtpu", "jax-cuda12-plugin")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = tyro.cli(Options, prog=PROGRAM, args=arguments)
    origin = provenance(shlex.join([*PROGRAM.split(), *arguments]), _PACKAGES)

    def work() -> int:
        options.require_valid()
        forecast(options, origin)
        return 0

    return run_command(work, "interrupted; the same command goes on from here")


def forecast(options: Options, origin: Sequence[str]) -> None:
    """Compiles what the options ask for and is not there yet; writes after every program.

    Raises:
        InputError: nothing could be compiled, or the folder holds another forecast.
        OSError: the folder cannot be read or written.
    """
    table = Table(options.output, options.setting)
    use_accelerator("cpu")
    work = count_work(options.setting, options.study.scope)
    jobs = list_jobs(options)
    possible = [job for job in jobs if not missing(devices()[job.target].kind)]
    note_missing([job for job in jobs if job not in possible], table)
    with Compilers(options.setting, options.largest) as compilers:
        for job in possible:
            print(f"{job}: {take(job, compilers, table)}", flush=True)
            _write(table, options, work, origin)
    asked = [table.rows[job] for job in jobs]
    if all(row["compiles"] == "no" for row in asked):
        raise InputError(f"nothing could be compiled: {asked[0]['reason']}")
    print(report.markdown(table.finished(work, options.price)))
    print(f"written to {options.output}")


def note_missing(jobs: Sequence[Job], table: Table) -> None:
    """Says once per kind of device what is not installed, and in rows that no compiler made."""
    reasons = {job: missing(devices()[job.target].kind) for job in jobs}
    for reason in dict.fromkeys(reasons.values()):
        targets = dict.fromkeys(job.target for job in jobs if reasons[job] == reason)
        print(f"{', '.join(targets)}: {reason}", flush=True)
    for job, reason in reasons.items():
        if not table.is_kept(job):
            table.put(job, "", reason)


def take(job: Job, compilers: Compilers, table: Table) -> str:
    """Compiles a job unless the same program is in the table; returns what happened in one line."""
    digest = ""
    try:
        digest = compilers.lower(job)
        if table.is_done(job, digest):
            return "as before"
        found = compilers.compile(job)
    except WorkerError as error:
        table.put(job, digest, str(error))
        return f"no: {error}"
    table.put(job, digest, found)
    rate = found.samples / found.seconds
    return f"at most {rate:.3g} images/s (compiled in {found.compiled_in:.0f} s)"


def _write(
    table: Table, options: Options, work: Mapping[str, float], origin: Sequence[str]
) -> None:
    rows = table.finished(work, options.price)
    table.write(rows)
    text = report.document(table, rows, work, origin)
    write_atomically(options.output / "forecast.md", text.encode())


if __name__ == "__main__":
    sys.exit(main())
