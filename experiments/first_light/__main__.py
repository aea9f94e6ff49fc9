"""Tries everything on a machine with an accelerator: `python -m experiments.first_light --help`.

It takes ten minutes at most, and keeps what each step has found in one folder. `--size small`
tries the program on a CPU. Status 1: a step failed or had too little time.
"""

import shlex
import sys
from collections.abc import Sequence
from functools import partial

from twostage_jax.commands.ending import run_command
from twostage_jax.support.errors import InputError

INTERRUPTED = "interrupted; the same command does the steps that have not passed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(partial(_start, arguments), INTERRUPTED)


def _start(arguments: Sequence[str]) -> int:
    try:  # a bare machine may lack a package
        import tyro

        from experiments.first_light import options, program
    except ModuleNotFoundError as error:
        raise InputError(
            f"the package {error.name} is missing; pip install -e '.[test]' installs all"
        ) from error
    chosen = tyro.cli(options.Options, prog=options.PROGRAM, args=arguments).checked()
    return program.run(chosen, shlex.join([*options.PROGRAM.split(), *arguments]))


if __name__ == "__main__":
    sys.exit(main())
