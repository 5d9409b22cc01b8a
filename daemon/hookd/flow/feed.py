"""Owns who waits for the next settlement: long polls of the feed, woken together.

Rules:
 1. All who wait share one `trio.Event`. The first makes it; it goes when it is set, or when the last one leaves.
    So nothing is polled, and a settlement costs the same however many wait.
 2. A reader looks at the ring and begins to wait with no `await` in between. So no settlement is missed.
 3. The beginning of a drain answers those who wait. They may ask again and wait on: settling goes on.
 4. `close` ends all waiting. It comes after the final report, when the server stops.
Limits: a waiter is a request in progress, so there are at most `http.connections_max`.
"""

import trio

from hookd.core.event import Event
from hookd.core.settlements import Settlements


class Feed:
    def __init__(self, settlements: Settlements) -> None:
        self.settlements = settlements
        self._news: trio.Event | None = None  # None: nobody waits
        self._is_closed = False

    def note(self, event: Event) -> None:
        """Takes an event that has just settled. Where that fails, whoever reads on is told of a gap."""
        try:
            self.settlements.append(event)
        except Exception:
            self.settlements.lose()
            raise
        finally:
            self.answer_waiting()

    async def wait(self, position: int, *, seconds: float) -> None:
        """Until something has settled at `position` or after, for at most so long; it may return earlier."""
        if position < self.settlements.end or self._is_closed or not seconds:
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
        """From here on nobody waits; what settled can still be read."""
        self._is_closed = True
        self.answer_waiting()
