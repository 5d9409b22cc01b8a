"""Owns the measuring of how long the event loop goes without a look at its sockets and deadlines.

Trio tells an instrument when it begins and ends to wait for events. What lies between is one turn of everyone who can
run: so long a peer waits, whoever it is, and however the turn falls between two ticks of a clock. A look costs 0.2 us a
turn of the loop.

Does not: say who held the loop.
"""

import time
from collections.abc import Callable

import trio


class LoopWatch(trio.abc.Instrument):
    """To be handed to `trio.run`; of the one loop that it runs in."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._began = 0.0
        self._longest_seconds = 0.0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's
        self._began = self._monotonic()

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's
        held_seconds = self._monotonic() - self._began
        if self._began and held_seconds > self._longest_seconds:
            self._longest_seconds = held_seconds

    @property
    def longest_seconds(self) -> float:
        """The longest turn since `begin_anew`. The one that asks is not over, and not counted."""
        return self._longest_seconds

    def begin_anew(self) -> None:
        self._longest_seconds = 0.0
