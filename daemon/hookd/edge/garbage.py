"""Owns when the garbage collector walks through all that is old.

Nearly everything of hookd goes when its last reference does. Only circles wait for the collector, and few are left (see
docs/decisions.md). CPython walks through the old after so many walks through the young, whatever is old by then. A
thousand connections with a request each are 140,000 objects: 60 to 250 ms in which nobody is answered, for some 70
objects that are found. So hookd walks through it

* when little has come since the last time: once a flood is over,
* or when so much has come that it may be garbage: `OLD_MAX` objects, some 25 MB.

What was there at the start lives as long as the process, and is walked through never again. The young are left to
CPython: 3 to 30 ms.

Does not: find who makes circles.
"""

import gc
from collections.abc import Callable
from typing import Literal

import trio

# As often as CPython looks at the young before it may look at the old, times three: some 200,000 objects.
YOUNG_WALKS = 30
# More than what was left the last time: 300 connections are as many, and walking through them takes 40 ms.
CALM_MAX = 40_000
OLD_MAX = 250_000
_NEVER = 1 << 30


class Garbage(trio.abc.Instrument):
    """To be handed to `trio.run`. It collects at the end of a turn of the loop."""

    def __init__(
        self,
        *,
        count_old: Callable[[], int] = lambda: len(gc.get_objects(generation=2)),
        collect: Callable[[], object] = gc.collect,
    ) -> None:
        self._count_old = count_old
        self._collect = collect
        self._walks = 0
        self._left = 0  # of what is old, the last time

    def take_over(self) -> None:
        """From CPython, for the whole process; after everything is imported."""
        gc.freeze()
        gc.set_threshold(*gc.get_threshold()[:2], _NEVER)
        gc.callbacks.append(self.note)

    def note(self, phase: Literal["start", "stop"], info: dict[str, int]) -> None:
        """CPython tells of each walk. It may come anywhere, so nothing is collected here."""
        if phase == "stop" and info["generation"] == 1:
            self._walks += 1

    def before_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - trio's
        if self._walks >= YOUNG_WALKS:
            self._walks = 0
            self._look()

    def _look(self) -> None:
        """Counting takes 1 ms for 100,000."""
        come = self._count_old() - self._left
        if come <= CALM_MAX or come >= OLD_MAX:
            self._collect()
            self._left = self._count_old()
