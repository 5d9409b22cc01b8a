"""Owns who waits for the next row of a feed, a settlement or a notice: long polls, woken together.

Rules:
 1. All who wait share one `trio.Event`. The first makes it; it goes when it is set, or when the last one leaves.
    So nothing is polled, and a row costs the same however many wait.
 2. A reader looks at the ring and begins to wait with no `await` in between. So none is missed.
 3. The beginning of a drain answers those who wait. They may ask again and wait on: it goes on.
 4. `close` ends all waiting. It comes after the final report, when the server stops.
Limits: a waiter is a request in progress, so there are at most `http.connections_max`.
"""

from typing import Generic

import trio

from hookd.core.ring import Ring, Row, Taken


class Feed(Generic[Taken, Row]):
    def __init__(self, ring: Ring[Taken, Row]) -> None:
        self.ring = ring
        self._news: trio.Event | None = None  # None: nobody waits
        self._is_closed = False

    def note(self, taken: Taken) -> None:
        """Takes what has just happened. Where that fails, whoever reads on is told of a gap."""
        try:
            self.ring.append(taken)
        except Exception:
            self.ring.lose()
            raise
        finally:
            self.answer_waiting()

    async def wait(self, position: int, *, seconds: float) -> None:
        """Until there is a row at `position` or after, for at most so long; it may return earlier."""
        if position < self.ring.end or self._is_closed or not seconds:
            return
        if self._news is None:
            self._news = trio.Event()
        news = self._news
        try:
            with trio.move_on_after(seconds):
                await news.wait()
        finally:
            if news is self._news and not news.statistics().tasks_waiting:
                self._news = None  # the last that waited leaves nothing behind

    def answer_waiting(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None

    def close(self) -> None:
        """From here on nobody waits; what is there can still be read."""
        self._is_closed = True
        self.answer_waiting()
