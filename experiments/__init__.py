"""Programs that use the library: the paper's study and its benchmarks."""

import sys

from twostage_jax.commands import ending

# `python -m experiments.X` imports this package first, and then for seconds JAX and others. An
# interruption in the meantime is one line, too.
if sys.argv[:1] == ["-m"]:
    ending.leave_on_signals("interrupted")
