"""Owns who waits for the next settlement: long polls of the feed, woken together.

Rules: whoever waits holds one `trio.Event`, made for the first of them and dropped when it is set; so a settlement
costs nothing per waiter but the first of a tick, and nothing is polled. Between a reader's look at the ring and its
wait there is no `await`, so no settlement falls between them.
The beginning of a drain answers those who wait, so that they look up; who asks again waits on, since settling goes on.
Only `close`, once the run is accounted for, ends waiting: then the server stops, and nobody may hold that up.
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
        """Takes an event that has just settled."""
        self.settlements.append(event)
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
