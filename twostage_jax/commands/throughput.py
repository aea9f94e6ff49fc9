"""Shows images that go by: a progress bar on a terminal, elsewhere a line now and then."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

_PAUSE = 30.0  # seconds between two lines


def show_throughput(
    console: Console, items: Iterable[Item], total: int, *, bar: bool = True
) -> Iterator[Item]:
    """Passes items on, one per image, and shows how many there were and how many per second.

    Args:
        console: to write on.
        items: what is passed on.
        total: how many there will be.
        bar: False writes lines on a terminal, too, where something else is written on it.
    """
    columns = (
        TextColumn("{task.completed:,} of {task.total:,} images"),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    plain = not (bar and console.is_terminal)
    started = said = time.perf_counter()
    with Progress(*columns, console=console, disable=plain) as shown:
        task = shown.add_task("", total=total, speed="starting")
        for done, item in enumerate(items, 1):
            yield item
            now = time.perf_counter()
            speed = f"{done / (now - started):,.0f} images/s"
            shown.update(task, completed=done, speed=speed)
            if plain and now - said > _PAUSE and done < total:
                said, left = now, (total - done) * (now - started) / done
                console.print(f"{done:,} of {total:,} images, {speed}, {left:,.0f} s left")


def resized_text(resized: int, total: int, size: tuple[int, int]) -> str:
    """What to say of images that had not the model's size (height and width)."""
    return f"{resized:,} of {total:,} images are not {size[1]}x{size[0]}: resized as in training"
