"""What `--approaches` takes, and the table of all approaches that `--list-approaches` prints."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twostage_jax.resampling.registry import SAMPLERS
from twostage_jax.study.approaches import (
    FAMILIES,
    Approach,
    choose,
    find,
    listed,
    names,
)
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.study.wording import about, count_trained, source
from twostage_jax.support.errors import InputError, require_known

OPTION = "--list-approaches"

WORDS = ("paper", "all", *FAMILIES)
"""What stands for several approaches."""

_WIDTH = 120  # columns where there is no terminal


def choose_approaches(words: Sequence[str]) -> tuple[Approach, ...]:
    """Returns the approaches that the values of `--approaches` name, each once, in their order.

    Args:
        words: names, families, `paper` or `all`, see `approaches.choose`.

    Raises:
        InputError: an unknown word, a family without members, a correction of several approaches
            or of one that cannot be corrected, or no word.
    """
    if not words:
        raise InputError("--approaches without a name found; name at least one, or leave it out")
    for word in words:
        base, plus, _ = word.partition("+")
        if plus and base in WORDS and base not in names():
            raise InputError(
                f"approach '{word}' found, but '{base}' stands for several; name each that is to "
                "be corrected, such as fs_enn+prior"
            )
        require_known("approach", base, dict.fromkeys([*WORDS, *names()]))
        if not choose([word]):
            raise InputError(
                f"approach '{word}' found, but no approach of that family is registered; name "
                f"others: {OPTION} lists them"
            )
    return choose(words)


def is_asked(arguments: Sequence[str]) -> bool:
    """Whether a command line has `--list-approaches`, also written with underscores."""
    return any(argument.replace("_", "-") == OPTION for argument in arguments)


def print_if_asked(arguments: Sequence[str]) -> bool:
    """Prints all approaches if a command line has `--list-approaches`; returns whether it has."""
    if not is_asked(arguments):
        return False
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=_WIDTH)
    console.print(approach_table())
    for line in how_to_name():
        console.print(line)
    return True


def approach_table() -> Table:
    """Returns the table of all listed approaches, family by family."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Name", no_wrap=True)
    table.add_column("What it is")
    table.add_column("Source", max_width=28)
    table.add_column("Networks", justify="right")
    table.add_column("Heads", justify="right")
    approaches = [find(name) for name in listed()]
    for family, title in FAMILIES.items():
        members = [approach for approach in approaches if approach.family == family]
        if members:
            table.add_row(Text(f"{family}: {title}" if family != title else title, "bold"))
        for own in members:
            networks, heads = count_trained([own])
            row = (f"  {own.name}", about(own), source(own), str(networks), str(heads))
            table.add_row(*map(Text, row))
    return table


def how_to_name() -> list[str]:
    """Returns in sentences what costs mean and which other names there are."""
    totals = [
        f"{word} {networks} networks and {heads} heads"
        for word in ("paper", "all")
        for networks, heads in [count_trained(choose([word]))]
    ]
    return [
        "",
        "Networks and heads: what is trained per partition beyond the baseline's network. "
        "Approaches with the same images, loss and mixing share a network: "
        f"{', '.join(totals)}.",
        f"--approaches takes these names, families ({', '.join(FAMILIES)}), paper (the paper's "
        "nine) and all.",
        "Every sampler S makes the approaches is_S (on images) and fs_S (on features), and every "
        f"pair ts_S_T (S on images, then T on features): {', '.join(SAMPLERS)}.",
        f"NAME+{'|'.join(CORRECTIONS)} corrects the probabilities of an approach and trains "
        "nothing more, such as fs_enn+prior.",
    ]
