"""Owns how long work gives others a turn: work is cut into slices, and of each kind one piece is under way at a time.

A slice is 5 ms. If many long pieces were under way at once, each would have a slice before anyone else's turn came
round: 300 pages of events would hold up a probe for a second and a half. So those of one kind stand in line. Pieces of
a few milliseconds are not cut, and stand in line as well: thirty scrapes in one turn held up everyone for 90 ms.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

SLICE_BYTES = 64 * 1024
SLICE_STEPS = 100


class Slices:
    """Counts what one piece of work did since others had a turn."""

    def __init__(self, *, bytes_at_once: int = SLICE_BYTES, steps_at_once: int = SLICE_STEPS) -> None:
        self._bytes_at_once = bytes_at_once
        self._steps_at_once = steps_at_once
        self._bytes = self._steps = 0

    async def did(self, byte_count: int) -> None:
        """One step is done, which read or wrote so many bytes. Now and then it waits for one turn of the others."""
        self._bytes += byte_count
        self._steps += 1
        if self._bytes >= self._bytes_at_once or self._steps >= self._steps_at_once:
            self._bytes = self._steps = 0
            await trio.lowlevel.checkpoint()


class OneATurn:
    """Of the pieces of one kind that are not cut, one is made in each turn of the others."""

    def __init__(self) -> None:
        self._one_at_a_time = trio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The place is kept until the others had their turn."""
        async with self._one_at_a_time:
            yield
            await trio.lowlevel.checkpoint()
