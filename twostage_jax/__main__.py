"""`python -m twostage_jax` is the command line."""

import sys

from twostage_jax.commands.main import run

if __name__ == "__main__":
    sys.exit(run())
