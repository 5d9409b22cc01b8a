"""Owns what is said while a daemon takes its time: on stderr, once a second, what goes on, and since when."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from hookd.cli.terminal import span, tell

TELL_EVERY_SECONDS = 1.0


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A file or a pipe gets one line, after the first second."""
    over, began, on_terminal = threading.Event(), time.monotonic(), sys.stderr.isatty()

    def keep_telling() -> None:
        while not over.wait(TELL_EVERY_SECONDS):
            if not on_terminal:
                return tell(f"{what} …")
            click.echo(f"\rhookd: {what}, {span(time.monotonic() - began)} …", err=True, nl=False)
        return None

    telling = threading.Thread(target=keep_telling, daemon=True)
    telling.start()
    try:
        yield
    finally:
        over.set()
        telling.join()
        if on_terminal and time.monotonic() - began >= TELL_EVERY_SECONDS:
            click.echo(err=True)  # below the line
