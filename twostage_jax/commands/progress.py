"""Shows a study at work: a progress bar on a terminal, elsewhere one line per finished group."""

import time
from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from twostage_jax.study.engine import Engine
from twostage_jax.study.jobs import Group, image_passes, title
from twostage_jax.study.study import Study
from twostage_jax.training.trainer import Advance


def run_and_show(
    console: Console,
    study: Study,
    engine: Engine,
    groups: list[Group],
    after_group: Callable[[Group], None],
) -> None:
    """Runs groups of a study, showing how far they are.

    Args:
        console: to write on.
        study: that they belong to.
        engine: that trains them.
        groups: to run.
        after_group: called with each that is done; a group may be done in parts.
    """
    networks, done, trained = sum(map(len, groups)), 0, 0
    total, started = image_passes(groups, study.protocol.epochs), time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    plain = not console.is_terminal
    with Progress(*columns, console=console, disable=plain) as bar:
        task = bar.add_task("", total=total, speed="compiling")

        def advance(event: Advance) -> None:
            nonlocal total, trained
            if event.resumed:
                total -= event.images
                bar.update(task, total=total)
            else:
                trained += event.images
                speed = trained / (time.perf_counter() - started)
                bar.update(task, advance=event.images, speed=f"{speed:,.0f} images/s")

        for group, failed, seconds in study.run(groups, advance, engine):
            done += len(group)
            bar.update(task, description=f"{done} of {networks} networks")
            if plain:
                line = f"{done} of {networks}: {title(group)}, {seconds:.1f} s"
                line += f", {failed} records failed" if failed else ""
                if trained:
                    rate = trained / (time.perf_counter() - started)
                    line += f"; {rate:,.0f} images/s, {(total - trained) / rate:.0f} s left"
                console.print(line, markup=False)
            after_group(group)
