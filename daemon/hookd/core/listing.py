"""Owns the listing of held events: one page at a time, newest first.

Rules:
 1. A page holds the events that were admitted before its cursor. The cursor is a sequence number, so a page never
    shifts while events come and go.
 2. One page takes PAGE_LOOKS_MAX looks: at each row, more where its time or its deliveries are asked for. So a filtered
    page may be short, or empty; its cursor goes on.
 3. The rows of one client are walked from the newest, past those of the pages before. Where that would be too many the
    rows of all clients are, past the others'.
 4. Held events stand in blocks, by sequence. A block that gets no more is a tuple until one of it is forgotten: the
    collector forgets a tuple of events, and looks through a list (core/unsettled).
Limits: 9 B an event, and about 200 B for each BLOCK sequence numbers of which one is held.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.retry import Reason

# 4 ms at most: a look is 0.3 us. What is more than one look follows.
PAGE_LOOKS_MAX = 10_000
LOOKS_PER_ROW = 2
LOOKS_PER_TIME = 2
LOOKS_PER_STATUS = 3  # or reason, or endpoint; and one for each delivery
# Rows of one client that are walked past: about 0.5 ms.
ROWS_PASSED_MAX = 10_000
# Sequence numbers of one block. A block of which nothing is held any more is passed over in one step.
BLOCK = 128


class Page(NamedTuple):
    events: list[Event]
    before: int | None  # where the next page begins; None: there is none


class Wanted(NamedTuple):
    """Which events a page is to hold; None: whichever. With `endpoint_id` the rest is asked of its delivery alone."""

    status: Status | None = None
    event_type: str | None = None
    endpoint_id: str | None = None
    reason: Reason | None = None
    since: float | None = None  # wall, of acceptance, both ends included to the millisecond that people are shown
    until: float | None = None

    @property
    def looks(self) -> int:
        """At a row, besides those at its deliveries."""
        asks_times = (self.since is not None) + (self.until is not None)
        return LOOKS_PER_ROW + LOOKS_PER_TIME * asks_times + LOOKS_PER_STATUS * self.asks_deliveries

    @property
    def asks_deliveries(self) -> bool:
        return self.status is not None or self.endpoint_id is not None or self.reason is not None

    def holds(self, event: Event) -> bool:
        if self.event_type is not None and event.type != self.event_type:
            return False
        if self.since is not None and round(event.accepted_at * 1000) < round(self.since * 1000):
            return False
        if self.until is not None and round(event.accepted_at * 1000) > round(self.until * 1000):
            return False
        if self.endpoint_id is None and self.reason is None:
            return self.status is None or event.status is self.status
        return self._holds_delivery(event)

    def _holds_delivery(self, event: Event) -> bool:
        if self.endpoint_id is None and self.status is not None and event.status is not self.status:
            return False
        for delivery in event.deliveries:
            if self.endpoint_id is not None and delivery.endpoint_id != self.endpoint_id:
                continue
            is_in_status = self.endpoint_id is None or self.status is None or delivery.status is self.status
            if is_in_status and (self.reason is None or delivery.reason is self.reason):
                return True
        return False


ALL = Wanted()


class Rows(Protocol):
    """The events held of one client, in order of admission: the values of a dict."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Event]: ...

    def __reversed__(self) -> Iterator[Event]: ...


class Listing:
    def __init__(self) -> None:
        self._blocks: dict[int, list[Event] | tuple[Event, ...]] = {}  # by sequence // BLOCK, in ascending order
        self._newest: list[Event] = []  # the block that still gets events, while any of it is held
        self._newest_block = -1

    def add(self, event: Event) -> None:
        """It came in. Sequence numbers only grow."""
        block = event.sequence // BLOCK
        if block != self._newest_block:
            self._begin(block)
        self._newest.append(event)

    def remove(self, event: Event) -> None:
        """It was forgotten: as a rule the first of its block."""
        block = event.sequence // BLOCK
        rows = self._blocks[block]
        if isinstance(rows, tuple):
            rows = self._blocks[block] = list(rows)
        rows.remove(event)
        if not rows:
            del self._blocks[block]
            if block == self._newest_block:
                self._newest_block = -1

    def _begin(self, block: int) -> None:
        last = self._newest_block
        if last >= 0:
            self._blocks[last] = tuple(self._newest)
        self._newest_block = block
        self._newest = self._blocks[block] = []

    def page(
        self,
        rows: Rows | None,
        *,
        wanted: Wanted = ALL,
        before: int,
        limit: int,
    ) -> Page:
        """The newest events that were admitted before `before`: among `rows` (one client's), or of all clients."""
        events: list[Event] = []
        looks, looks_per_row, asks_deliveries = 0, wanted.looks, wanted.asks_deliveries
        for sequence, event in self._newest_first(rows, before):
            if looks >= PAGE_LOOKS_MAX or (event is not None and len(events) == limit):
                return Page(events, sequence + 1)
            if event is None:
                looks += LOOKS_PER_ROW
                continue
            looks += looks_per_row + (len(event.deliveries) if asks_deliveries else 0)
            if wanted is ALL or wanted.holds(event):
                events.append(event)
        return Page(events, None)

    def _newest_first(self, rows: Rows | None, before: int) -> Iterator[tuple[int, Event | None]]:
        """By their sequence; None for what is another client's."""
        if rows is None:
            return self._down_from(before)
        if len(rows) <= ROWS_PASSED_MAX:
            return ((event.sequence, event) for event in reversed(rows) if event.sequence < before)
        client_id = next(iter(rows)).client_id
        return (
            (sequence, event if event.client_id == client_id else None) for sequence, event in self._down_from(before)
        )

    def _down_from(self, before: int) -> Iterator[tuple[int, Event]]:
        for block in reversed(self._blocks):
            if block * BLOCK >= before:
                continue
            for event in reversed(self._blocks[block]):
                if event.sequence < before:
                    yield event.sequence, event
