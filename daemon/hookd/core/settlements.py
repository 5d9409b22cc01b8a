"""Owns the settlement feed's ring: which events settled, in order, as far back as `retention.settlements_max`.

Rules: as core/ring has them. Where a settlement could not be taken, some positions are passed over. An event that was
reopened settles, and is listed, again. Who waits for the next one is flow/feed's business, its cursor edge/api's.
Limits: at most `retention.settlements_max` and one block. Full blocks are packed, at a million (measured) 58 B a row
with ids of 36 and 10 characters, 140 B with both at their longest, 64: so the default million is at most 140 MB. A
page of 1,000 takes 0.8 ms, its answer 6 ms more. Where only certain clients' are wanted, a page looks through
BLOCKS_AT_ONCE blocks at most, 4 ms, and may have nothing of them.
"""

from array import array
from collections.abc import Set
from typing import NamedTuple

import msgspec

from hookd.core.delivery import Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event
from hookd.core.retry import Reason
from hookd.core.ring import Page

BLOCK_ROWS = 256
BLOCKS_AT_ONCE = 10
# How an event can have settled, and why; a packed row holds the index.
ENDS: tuple[tuple[Status, Reason | None], ...] = (
    (Status.DELIVERED, None),
    *((Status.EXHAUSTED, reason) for reason in Reason),
)

_DELIVERED = Status.DELIVERED  # as core/health has its own


class Settlement(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    client_id: str
    status: Status
    reason: Reason | None  # of its first exhausted delivery
    settled_at: float  # wall


class _Block(NamedTuple):
    """BLOCK_ROWS settlements in three objects, since a million tuples would cost three times as much."""

    ids: str  # event and client, event and client: neither can hold a blank
    ends: bytes
    settled_at: "array[float]"


class Settlements:
    """`end` is the position that the next settlement will have, `oldest` that of the oldest held."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._packed: dict[int, _Block] = {}  # by position // BLOCK_ROWS
        self._tail: list[Settlement] = []
        self._oldest = 0  # of those not dropped yet
        self.end = 0

    @property
    def oldest(self) -> int:
        """Reading drops nothing: what a reload made too many is hidden here, and dropped by `trim`."""
        return max(self._oldest, self.end - self._effective.settings.retention.settlements_max)

    def append(self, event: Event) -> None:
        """Takes an event that has just settled."""
        assert event.settled_at is not None
        status, reason = event.status, None
        if status is not _DELIVERED:
            reason = next((one.reason for one in event.deliveries if one.status is Status.EXHAUSTED), None)
        self._tail.append(Settlement(event.id, event.client_id, status, reason, event.settled_at))
        self.end += 1
        if len(self._tail) == BLOCK_ROWS:
            self._packed[(self.end - 1) // BLOCK_ROWS] = _packed(self._tail)
            self._tail = []
        if self.end - self._oldest > self._effective.settings.retention.settlements_max:
            self.trim()

    def lose(self) -> None:
        """A settlement could not be taken, and may be missing: whoever reads on is told of a gap."""
        self._packed.clear()
        self._tail = []
        first = (self.end // BLOCK_ROWS + 1) * BLOCK_ROWS  # positions only grow, and a block begins here
        self.end = self._oldest = first

    def page(self, position: int | None, *, limit: int, clients: Set[str] | None = None) -> Page[Settlement]:
        """From `position` on, or from the oldest held where it is None or dropped already; of these clients alone."""
        assert position is None or position <= self.end
        has_gap = position is not None and position < self.oldest
        begin = self.oldest if position is None or has_gap else position
        if clients is not None:
            return self._page_of(clients, begin, limit=limit, has_gap=has_gap)
        end = min(begin + limit, self.end)
        found: list[Settlement] = []
        for number in range(begin // BLOCK_ROWS, -(-end // BLOCK_ROWS)):
            first = number * BLOCK_ROWS
            found += self._rows(number)[max(begin - first, 0) : end - first]
        return Page(found, end, has_gap)

    def _page_of(self, clients: Set[str], begin: int, *, limit: int, has_gap: bool) -> Page[Settlement]:
        found: list[Settlement] = []
        at = begin
        for number in range(begin // BLOCK_ROWS, begin // BLOCK_ROWS + BLOCKS_AT_ONCE):
            first = number * BLOCK_ROWS
            if first >= self.end:
                break
            for position, row in self._rows_of(clients, number):
                if position >= begin:
                    found.append(row)
                if len(found) == limit:
                    return Page(found, position + 1, has_gap)
            at = min(first + BLOCK_ROWS, self.end)
        return Page(found, at, has_gap)

    def _rows_of(self, clients: Set[str], number: int) -> list[tuple[int, Settlement]]:
        block, first = self._packed.get(number), number * BLOCK_ROWS
        if block is not None and clients.isdisjoint(block.ids.split(" ")[1::2]):
            return []  # a sixth of what it costs to unpack them
        return [(position, row) for position, row in enumerate(self._rows(number), first) if row.client_id in clients]

    def trim(self) -> None:
        """Drops what is over the limit: with each settlement, and when a reload has changed the limit."""
        oldest = self.oldest
        if oldest == self._oldest:
            return
        for number in range(self._oldest // BLOCK_ROWS, oldest // BLOCK_ROWS):
            del self._packed[number]
        self._oldest = oldest

    def _rows(self, number: int) -> list[Settlement]:
        block = self._packed.get(number)
        return self._tail if block is None else _unpacked(block)


def _packed(rows: list[Settlement]) -> _Block:
    return _Block(
        " ".join(f"{row.event_id} {row.client_id}" for row in rows),
        bytes([ENDS.index((row.status, row.reason)) for row in rows]),
        array("d", [row.settled_at for row in rows]),
    )


def _unpacked(block: _Block) -> list[Settlement]:
    ids = block.ids.split(" ")
    return [
        Settlement(event_id, client_id, *ENDS[end], settled_at)
        for event_id, client_id, end, settled_at in zip(ids[::2], ids[1::2], block.ends, block.settled_at, strict=True)
    ]
