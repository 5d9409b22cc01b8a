"""Owns when the garbage collector walks through all that is old.

Nearly everything of hookd goes when its last reference does. Only circles wait for the collector, and few are left (see
docs/decisions.md). CPython walks through the old after so many walks through the young, whatever is old by then. A
thousand connections with a request each are 140,000 objects: 60 to 250 ms in which nobody is answered, for some 70
objects that are found. So hookd walks through it

* when little has come since the last time: once a flood is over,
* or when so much has come that it may be garbage: `COME_MAX` objects, some 25 MB.

What a walk leaves is frozen: no walk looks at it again, nor at what it holds. One dict of 200,000 settled events counts
as one object, and to look at each of them took 20 ms. So a walk costs what has come, and not what there is. What was
frozen and became a circle of garbage later waits until as much was frozen as was alive the last time, and `COME_MAX`
more; then, in a calm moment, all is walked through. The young are left to CPython: 3 to 30 ms.

Does not: find who makes circles.
"""

import gc
from typing import Literal, Protocol

import trio

# As often as CPython looks at the young before it may look at the old, times three: some 200,000 objects.
YOUNG_WALKS = 30
CALM_MAX = 10_000  # 75 connections are as many, and walking through them takes 10 ms
COME_MAX = 250_000
_NEVER = 1 << 30


class Collector(Protocol):
    """As the module `gc` is one. What is frozen is of no generation."""

    def get_objects(self, generation: int | None = None) -> list[object]: ...

    def collect(self, generation: int = 2) -> int: ...

    def freeze(self) -> None: ...

    def unfreeze(self) -> None: ...

    def get_freeze_count(self) -> int: ...


class Garbage(trio.abc.Instrument):
    """To be handed to `trio.run`. It collects at the end of a turn of the loop."""

    def __init__(self, collector: Collector = gc) -> None:
        self._collector = collector
        self._walks = 0
        self._frozen = 0  # at most so many, since those that went are not taken off
        self._alive = 0  # of all, when all was walked through

    def take_over(self) -> None:
        """From CPython, for the whole process; after everything is imported."""
        self._collector.freeze()
        self._alive = self._frozen = self._collector.get_freeze_count()
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
        come = self._come()
        if CALM_MAX < come < COME_MAX:
            return
        is_whole = come <= CALM_MAX and self._may_be_garbage()
        if is_whole:
            self._collector.unfreeze()
            self._frozen = 0
        self._collector.collect()
        self._freeze()
        if is_whole:
            self._alive = self._frozen

    def _come(self) -> int:
        return len(self._collector.get_objects(generation=2))

    def _may_be_garbage(self) -> bool:
        """Of what is frozen, as much as is alive. Counting takes 5 ms for a million, so that is done last."""
        most = 2 * self._alive + COME_MAX
        if self._frozen > most:
            self._frozen = self._collector.get_freeze_count()
        return self._frozen > most

    def _freeze(self) -> None:
        """All that was just walked through."""
        self._frozen += self._come()
        self._collector.freeze()
