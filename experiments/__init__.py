"""Programs that use the library: the paper's study and its benchmarks."""

import sys

from experiments import command

# `python -m experiments.X` imports this package first, and then for seconds JAX and others. An
# interruption in the meantime is one line, too.
if sys.argv[:1] == ["-m"]:
    command.leave_on_signals("interrupted")
