"""Shows a study at work: a progress bar on a terminal, a line a finished group elsewhere."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from twostage_jax.study.study import Group, GroupDone, Study


class _ImagesASecond(ProgressColumn):
    """Recent training speed."""

    def render(self, task: Task) -> Text:
        """Of one task."""
        return Text("compiling" if task.speed is None else f"{task.speed:,.0f} images/s")


def run_and_show(
    console: Console,
    study: Study,
    groups: list[Group],
    after_group: Callable[[Group], None],
    prefix: str = "",
) -> int:
    """Runs groups of a study, showing how far they are.

    Args:
        console: to write on.
        study: that they belong to.
        groups: to run.
        after_group: called with each that is done; a group may be done in parts.
        prefix: of every line; with one there are lines on a terminal, too.

    Returns:
        How many of their records are failed ones.
    """
    total, started, trained, failed = study.image_passes(groups), time.perf_counter(), 0, 0
    networks = sum(map(len, groups))
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        _ImagesASecond(),
        TimeRemainingColumn(),
    )
    disabled = bool(prefix) or not console.is_terminal
    with Progress(*columns, console=console, disable=disabled, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=total)
        done = 0
        for event in study.run(groups):
            if isinstance(event, GroupDone):
                done += len(event.group)
                failed += event.failed
                bar.update(task, description=f"{done} of {networks} networks")
                if disabled:
                    line = f"{done} of {networks}: {_title(event.group)}, {event.seconds:.1f} s"
                    if event.failed:
                        line += f", {event.failed} records failed"
                    if trained:
                        rate = trained / (time.perf_counter() - started)
                        left = (total - trained) / rate
                        line += f"; {rate:,.0f} images/s, {left:.0f} s left"
                    console.print(prefix + line, markup=False)
                after_group(event.group)
            elif event.resumed:
                total -= event.images
                bar.update(task, total=total)
            else:
                trained += event.images
                bar.advance(task, event.images)
    return failed


def _title(group: Group) -> str:
    first, last = (
        f"{net.partition.scenario} ratio {net.partition.ratio:g} fold {net.partition.fold} "
        f"{net.sampler or 'no resampling'}"
        for net in (group[0], group[-1])
    )
    return first if len(group) == 1 else f"{first} to {last} ({len(group)} networks)"
