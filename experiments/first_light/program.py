"""Runs the steps one after another within the time, and keeps the table of what became of them."""

import shlex
import time
from collections.abc import Sequence

from experiments.benchmarks import document
from experiments.first_light import summary
from experiments.first_light.children import GRACE, run_child
from experiments.first_light.figures import OUTPUT
from experiments.first_light.options import Options
from experiments.first_light.steps import STEPS, Step
from experiments.first_light.summary import Row

# Results of a step that say that its folder holds nothing of this machine.
_NOTHING = (summary.FAILED, summary.IMPOSSIBLE)
# A step is not started with less than this share of its budget.
_WORTH = 1 / 3


def deadlines(budgets: Sequence[float], total: float) -> list[float]:
    """Seconds from the start by which each step has to end.

    What a step leaves over is for the next ones. Budgets are stretched to a longer total; of a
    shorter one, the first steps have their whole budgets.
    """
    stretch = max(1, total / sum(budgets)) if budgets else 1
    ends, end = [], 0.0
    for budget in budgets:
        end += budget * stretch
        ends.append(min(end, total))
    return ends


class FirstLight:
    """The steps of one command, and the rows of its folder."""

    def __init__(self, options: Options, steps: Sequence[Step], origin: Sequence[str]):
        """Reads what was done before.

        Args:
            options: of the command, checked.
            steps: all that there are; `options.steps` names those to run.
            origin: the provenance.

        Raises:
            InputError: the folder holds something else.
        """
        self._options, self._origin = options, origin
        self._all = {step.name: step for step in steps}
        self.rows = summary.read(options.output)

    def run(self) -> int:
        """Runs the steps; the status is 1 where one failed, had too little time or was refused.

        Raises:
            KeyboardInterrupt: as it came; the table is written.
        """
        todo = [step for step in self._all.values() if self._is_to_do(step)]
        started, total = time.monotonic(), 60 * self._options.minutes
        ends = deadlines([step.seconds for step in todo], total)
        refused = ""
        for step, end in zip(todo, ends, strict=True):
            spent = time.monotonic() - started
            row = self._run(step, min(end, total - GRACE) - spent, refused)
            self._keep(row)
            if row.result == summary.INTERRUPTED:
                raise KeyboardInterrupt
            if step.vital and (row.result in _NOTHING or not row.figure):
                refused = f"the step {step.name} found nothing"
        wrong = {summary.FAILED, summary.LATE}
        failed = any(self.rows[name].result in wrong for name in self._options.steps)
        return int(failed or bool(refused))

    def _is_to_do(self, step: Step) -> bool:
        if step.name not in self._options.steps:
            return False
        before = self.rows.get(step.name)
        again = step.reads in self._options.steps and not self._has_passed(step.reads)
        return again or before is None or not self._has_passed(step.name)

    def _has_passed(self, name: str) -> bool:
        """Whether a step has passed with this command line."""
        row = self.rows.get(name)
        if row is None or row.result != summary.PASSED:
            return False
        return row.command == self._command(self._all[name])

    def _command(self, step: Step) -> str:
        command = shlex.join(["python", *step.arguments(self._options)[1:]])
        return document.without_folders(command)

    def _run(self, step: Step, seconds: float, refused: str) -> Row:
        """Runs a step for at most `seconds`, unless there is a reason not to."""
        command, folder = self._command(step), self._options.output / step.name
        if refused:
            return Row(step.name, summary.IMPOSSIBLE, refused, 0, "", command)
        if seconds < _WORTH * step.seconds:
            left = f"{max(seconds, 0):.0f} s were left, {step.seconds:g} s expected"
            return Row(step.name, summary.LATE, left, 0, step.figure(folder), command)
        print(f"{step.name}: at most {seconds:.0f} s: {command}", flush=True)
        log = folder / OUTPUT
        ended = run_child(step.arguments(self._options), log, seconds, step.environment)
        result, why = summary.result_of(ended, log.read_text(errors="replace"))
        return Row(step.name, result, why, round(ended.seconds, 1), step.figure(folder), command)

    def _keep(self, row: Row) -> None:
        said = ": ".join(filter(None, (row.result, row.why)))
        print(f"{row.step}: {said}; {row.seconds:g} s; {row.figure or '-'}", flush=True)
        self.rows[row.step] = row
        self.write()

    def write(self) -> str:
        """Writes the table of all steps that ever ran, and returns its text."""
        rows = [self.rows[name] for name in self._all if name in self.rows]
        titles = {step.name: step.title for step in self._all.values()}
        return summary.write(self._options.output, rows, titles, self._origin)


def run(options: Options, command: str) -> int:
    """Runs first light; `command` is kept in the summary."""
    packages = ("jax", "flax", "numpy", "torch")
    first_light = FirstLight(options, STEPS, document.provenance(command, packages))
    first_light.write()  # a folder that cannot be written shows at once
    status = first_light.run()
    print(first_light.write(), f"all of it is in {options.output}", sep="\n")
    return status
