"""Owns the threads of look-ups, in a few kinds: how many may be at work, and what becomes of one that hangs.

Rules:
 1. A look-up has a place among `at_once_max`. Whoever finds none waits in line: first come, first served.
 2. One that takes longer than SLOW_SECONDS hangs. It gives its place to the next in line and goes on aside.
 3. At most `hanging_max` are aside. One that hangs while so many do keeps its place.
So a name that hangs costs those behind it SLOW_SECONDS, not the 10 to 20 s until the system gives up.
It knows no names and starts no thread.
Limits: `at_once_max` + `hanging_max` threads.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

# Real look-ups take milliseconds, and a second when a packet was lost.
SLOW_SECONDS = 1.5


class LookUpThreads:
    """`nursery` holds the watch over each look-up."""

    def __init__(self, nursery: trio.Nursery, *, at_once_max: int, hanging_max: int) -> None:
        self._nursery = nursery
        self._places = trio.CapacityLimiter(at_once_max)
        self._hanging_max = hanging_max
        self._hanging = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place and holds it: for SLOW_SECONDS, and then only while no more may hang."""
        async with self._places:
            ended = trio.Event()
            self._nursery.start_soon(self._watch, ended)
            try:
                yield
            finally:
                ended.set()

    async def _watch(self, ended: trio.Event) -> None:
        with trio.move_on_after(SLOW_SECONDS):
            await ended.wait()
        if ended.is_set() or self._hanging >= self._hanging_max:
            return
        self._put_aside(1)
        try:
            await ended.wait()
        finally:
            self._put_aside(-1)

    def _put_aside(self, more: int) -> None:
        """One that hangs keeps its token: another one takes its place."""
        self._hanging += more
        self._places.total_tokens += more
