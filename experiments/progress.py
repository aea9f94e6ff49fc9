"""Shows a study at work: a progress bar on a terminal, a line a finished group elsewhere."""

import time
from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from twostage_jax import study as running
from twostage_jax.study import Group, GroupDone, Study


class _ImagesASecond(ProgressColumn):
    """Recent training speed."""

    def render(self, task: Task) -> Text:
        """Of one task."""
        return Text("compiling" if task.speed is None else f"{task.speed:,.0f} images/s")


def show(
    console: Console,
    events: Iterable["running.Progress | GroupDone"],
    study: Study,
    pending: list[Group],
) -> None:
    """Runs a study to its end, showing how far it is."""
    total, started, trained = study.image_passes(pending), time.perf_counter(), 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        _ImagesASecond(),
        TimeRemainingColumn(),
    )
    disabled = not console.is_terminal
    with Progress(*columns, console=console, disable=disabled, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=total)
        groups = 0
        for event in events:
            if isinstance(event, GroupDone):
                groups += 1
                seconds = time.perf_counter() - started
                line = f"{groups} of {len(pending)}: {_title(event.group)}"
                if event.failed:
                    line += f", {event.failed} failed"
                rate = trained / seconds
                left = (total - trained) / max(rate, 1e-9)
                bar.update(task, description=f"{groups} of {len(pending)} groups")
                if disabled:
                    console.print(
                        f"{line}, {event.seconds:.1f} s; {rate:,.0f} images/s, {left:.0f} s left"
                    )
            elif event.resumed:
                total -= event.images
                bar.update(task, total=total)
            else:
                trained += event.images
                bar.advance(task, event.images)


def _title(group: Group) -> str:
    first, last = (
        f"{net.partition.scenario} ratio {net.partition.ratio:g} fold {net.partition.fold} "
        f"{net.sampler or 'no resampling'}"
        for net in (group[0], group[-1])
    )
    return first if len(group) == 1 else f"{first} to {last} ({len(group)} networks)"
