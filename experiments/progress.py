"""Shows a study at work: a progress bar on a terminal, elsewhere one line per finished group."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from twostage_jax.study.jobs import Group, image_passes
from twostage_jax.study.study import GroupDone, Study
from twostage_jax.training.trainer import Advance


class _ImagesPerSecond(ProgressColumn):
    """Recent training speed."""

    def render(self, task: Task) -> Text:
        """The speed of one task."""
        return Text("compiling" if task.speed is None else f"{task.speed:,.0f} images/s")


class _Count:
    """How far some groups are, in networks and in images."""

    def __init__(self, groups: list[Group], epochs: int):
        self.networks = sum(map(len, groups))
        self.images = image_passes(groups, epochs)
        self.done = 0
        self._trained = 0
        self._started = time.perf_counter()

    def advance(self, advance: Advance) -> None:
        """Counts images; those of an earlier process are no longer to do."""
        if advance.resumed:
            self.images -= advance.images
        else:
            self._trained += advance.images

    def line(self, event: GroupDone) -> str:
        """What is printed of a finished group."""
        text = f"{self.done} of {self.networks}: {_title(event.group)}, {event.seconds:.1f} s"
        if event.failed:
            text += f", {event.failed} records failed"
        if self._trained:
            rate = self._trained / (time.perf_counter() - self._started)
            text += f"; {rate:,.0f} images/s, {(self.images - self._trained) / rate:.0f} s left"
        return text


def run_and_show(
    console: Console,
    study: Study,
    groups: list[Group],
    after_group: Callable[[Group], None],
) -> None:
    """Runs groups of a study, showing how far they are.

    Args:
        console: to write on.
        study: that they belong to.
        groups: to run.
        after_group: called with each that is done; a group may be done in parts.
    """
    count = _Count(groups, study.protocol.epochs)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        _ImagesPerSecond(),
        TimeRemainingColumn(),
    )
    plain = not console.is_terminal
    with Progress(*columns, console=console, disable=plain, speed_estimate_period=60) as bar:
        task = bar.add_task("", total=count.images)

        def advance(event: Advance) -> None:
            count.advance(event)
            if event.resumed:
                bar.update(task, total=count.images)
            else:
                bar.advance(task, event.images)

        for event in study.run(groups, advance):
            count.done += len(event.group)
            bar.update(task, description=f"{count.done} of {count.networks} networks")
            if plain:
                console.print(count.line(event), markup=False)
            after_group(event.group)


def _title(group: Group) -> str:
    first, last = (
        f"{network.partition.scenario} ratio {network.partition.ratio:g} "
        f"fold {network.partition.fold} {network.stage1.sampler or 'no resampling'}"
        for network in (group[0], group[-1])
    )
    return first if len(group) == 1 else f"{first} to {last} ({len(group)} networks)"
