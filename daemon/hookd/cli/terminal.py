"""Owns how text gets onto a terminal: what others wrote is made harmless (core/printable), and rows are cut to its
width. Times and ages are core/time_text's. Messages go through `tell`, or end the command by way of failures.py.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

import click
import msgspec

from hookd.core.printable import printable, printable_json
from hookd.core.time_text import ago as ago
from hookd.core.time_text import ahead as ahead
from hookd.core.time_text import moment as moment
from hookd.core.time_text import span as span

COLUMNS_MAX = 100


def tell(message: object) -> None:
    """A line on stderr."""
    click.echo(f"hookd: {printable(message)}", err=True)


def json_text(value: object) -> str:
    """One line of JSON."""
    return printable_json(msgspec.json.encode(value)).decode()


def clip(row: str, columns: int = COLUMNS_MAX) -> str:
    """At most so many characters, with a mark where something was cut off."""
    return row if len(row) <= columns else row[: max(0, columns - 1)] + "…"


def screen_size() -> tuple[int, int]:
    """Columns, at most 100, and lines."""
    size = shutil.get_terminal_size((COLUMNS_MAX, 24))
    return min(size.columns, COLUMNS_MAX), size.lines


def width() -> int:
    """The terminal's columns, at most 100; a file or a pipe has 100."""
    return screen_size()[0] if sys.stdout.isatty() else COLUMNS_MAX


def fit(row: str) -> str:
    """Cut to the terminal's width; a file or a pipe gets the whole row."""
    return clip(row, screen_size()[0]) if sys.stdout.isatty() else row


def widths_of(rows: Iterable[Sequence[str]], least: Sequence[int] = ()) -> list[int]:
    """Of each column the widest cell, as it is shown."""
    widths = list(least)
    for row in rows:
        cells = [len(printable(cell)) for cell in row]
        widths = [max(pair) for pair in zip_longest(widths, cells, fillvalue=0)]
    return widths


def aligned(rows: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    """Made harmless, each column as wide as its widest cell."""
    for row in rows:
        cells = (f"{printable(cell):{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def folded(line: str, columns: int, indent: int) -> list[str]:
    """The line, continued below itself where it is too long: nothing is cut off."""
    return textwrap.wrap(line, columns, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]
