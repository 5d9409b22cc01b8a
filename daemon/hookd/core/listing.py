"""Owns the listing of held events: one page at a time, newest first.

Rules:
 1. A page holds the events that were admitted before its cursor. The cursor is a sequence number, so a page never
    shifts while events come and go.
 2. One page takes PAGE_LOOKS_MAX looks: at each row, more where its time or its deliveries are asked for, and at each
    number that is held no more. So a filtered page may be short, or empty; its cursor goes on.
 3. The rows of one client are walked from the newest, past those of the pages before. Where that would be too many the
    numbers of all clients are, past the others' rows.
It holds no event: it counts the held sequence numbers by block, and looks the events up where the ledger keeps them.
Limits: one count for each BLOCK sequence numbers of which an event is held, about 100 B.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.retry import Reason

# 4 ms at most: a look is 0.3 us. What is more than one look follows.
PAGE_LOOKS_MAX = 10_000
LOOKS_PER_ROW = 2  # or number without one
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
    """`find` each find an event by its sequence number, or None; together they know every held event."""

    def __init__(self, find: Sequence[Callable[[int], Event | None]]) -> None:
        self._find = find
        self._blocks: dict[int, int] = {}  # events held by sequence // BLOCK, in ascending order

    def add(self, sequence: int) -> None:
        """An event came in. Sequence numbers only grow."""
        block = sequence // BLOCK
        self._blocks[block] = self._blocks.get(block, 0) + 1

    def remove(self, sequence: int) -> None:
        """The event was forgotten."""
        block = sequence // BLOCK
        self._blocks[block] -= 1
        if not self._blocks[block]:
            del self._blocks[block]

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
        """By their sequence; None for what is not asked for."""
        if rows is None:
            return self._down_from(before)
        if len(rows) <= ROWS_PASSED_MAX:
            return ((event.sequence, event) for event in reversed(rows) if event.sequence < before)
        client_id = next(iter(rows)).client_id
        return (
            (sequence, event if event is not None and event.client_id == client_id else None)
            for sequence, event in self._down_from(before)
        )

    def _down_from(self, before: int) -> Iterator[tuple[int, Event | None]]:
        for block in reversed(self._blocks):
            first = block * BLOCK
            if first >= before:
                continue
            for sequence in range(min(before, first + BLOCK) - 1, first - 1, -1):
                for find in self._find:
                    if (event := find(sequence)) is not None:
                        yield sequence, event
                        break
                else:
                    yield sequence, None
