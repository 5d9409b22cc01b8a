"""Owns the listing of held events: one page at a time, newest first.

Rules:
 1. A page holds the events that were admitted before its cursor. The cursor is a sequence number, so a page never
    shifts while events come and go.
 2. One page looks at PAGE_ROWS_MAX rows at most. A filtered page may be short, or empty; its cursor goes on.
It holds no event: it counts the held sequence numbers by block, and looks the events up where the ledger keeps them.
Limits: one count for each BLOCK sequence numbers of which an event is held, about 100 B.
"""

from collections.abc import Callable, Iterator, Reversible, Sequence
from typing import NamedTuple

from hookd.core.delivery import Status
from hookd.core.event import Event

# Rows looked at for one page: about 5 ms.
PAGE_ROWS_MAX = 10_000
# Sequence numbers of one block. A block of which nothing is held any more is passed over in one step.
BLOCK = 128


class Page(NamedTuple):
    events: list[Event]
    before: int | None  # where the next page begins; None: there is none


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
        rows: Reversible[Event] | None,
        *,
        status: Status | None,
        event_type: str | None,
        before: int,
        limit: int,
    ) -> Page:
        """The newest events that were admitted before `before`: among `rows` (one client's), or of all clients."""
        events: list[Event] = []
        last = None
        newest_first = self._down_from(before) if rows is None else _newest_first(rows, before)
        for looked_at, event in enumerate(newest_first):
            if len(events) == limit or looked_at == PAGE_ROWS_MAX:
                return Page(events, last)
            last = event.sequence
            if (status is None or event.status is status) and (event_type is None or event.type == event_type):
                events.append(event)
        return Page(events, None)

    def _down_from(self, before: int) -> Iterator[Event]:
        for block in reversed(self._blocks):
            first = block * BLOCK
            if first >= before:
                continue
            for sequence in range(min(before, first + BLOCK) - 1, first - 1, -1):
                for find in self._find:
                    if (event := find(sequence)) is not None:
                        yield event
                        break


def _newest_first(rows: Reversible[Event], before: int) -> Iterator[Event]:
    return (event for event in reversed(rows) if event.sequence < before)
