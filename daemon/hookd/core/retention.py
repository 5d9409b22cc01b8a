"""Owns what is remembered of settled events, and what is forgotten when.

Rules:
 1. Unsettled events never come here.
 2. Delivered and exhausted events have limits of their own. In each, the oldest is forgotten first.
 3. A delivered event loses its payload before its row. The digest stays, so that a repeated id can be compared.
 4. A row is charged what it takes. Rows have room for ROW_BYTES an event that may be kept: an event of many deliveries
    takes the room of several.
Limits: `retention.*`; 250,000 rows of 1 KiB, 64 + 128 MiB of payloads, 16 MiB of excerpts.
"""

from bisect import bisect_left
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Reversible
from operator import attrgetter

import msgspec

from hookd.core.delivery import Delivery, Status
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, payload_digest
from hookd.core.timestamps import Moment
from hookd.core.trace_context import TRACEPARENT_BYTES

EXCERPT_BYTES_MAX = 1024
# What an excerpt costs besides its bytes: key, tuple and places. Measured: 390 B.
EXCERPT_ROW_BYTES = 400
# The room for rows: so much for each event that may be kept, and so much for the first.
ROW_BYTES, ROWS_BYTES_LEAST = 1024, 2**20
# What a settled event takes besides its texts, its payload and its deliveries, and what each delivery takes besides its
# history. With the places in the indexes, and the allocator's rounding.
SETTLED_EVENT_BYTES, SETTLED_DELIVERY_BYTES = 600, 300

_DELIVERED, _EXHAUSTED = Status.DELIVERED, Status.EXHAUSTED  # as core/health has its own
_since = attrgetter("since")


class Excerpt(msgspec.Struct, frozen=True, gc=False):
    attempt_number: int
    body: bytes  # as text, one character of four bytes would make four of each

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Retention:
    """The settled events, and the excerpts of every event. Returns what it forgot; the ledger drops the rest."""

    def __init__(self, effective: EffectiveSettings) -> None:
        self._effective = effective
        self._kept_by = effective.settings.retention  # the limits that what is kept is known to be within
        # Both in order of settling. Most are delivered, and few of these are reopened. A deque takes 8 B for each. An
        # OrderedDict takes 150 B, and 220 once as many have passed through it: its table grows.
        self._delivered: deque[Event] = deque()
        # This finds its first key at once. A dict looks at every freed place before it: 144 us at 200,000 rows.
        self._exhausted: OrderedDict[int, Event] = OrderedDict()
        self._row_bytes = {_DELIVERED: 0, _EXHAUSTED: 0}
        self._payload_bytes = {_DELIVERED: 0, _EXHAUSTED: 0}
        self._with_payload: deque[Event] = deque()  # the delivered events that still have theirs, oldest first
        self._excerpts: OrderedDict[tuple[int, str], Excerpt] = OrderedDict()
        self._excerpts_bytes = 0

    @property
    def exhausted(self) -> Reversible[Event]:
        return self._exhausted.values()

    def keep(self, event: Event) -> list[Event]:
        """Takes an event that has just settled; returns those forgotten to make room, oldest first."""
        status = event.status
        if status is _DELIVERED:
            self._delivered.append(event)
        else:
            self._exhausted[event.sequence] = event
        self._row_bytes[status] += row_bytes(event)
        if event.payload is not None:
            self._payload_bytes[status] += len(event.payload)
            if status is _DELIVERED:
                self._with_payload.append(event)
                if self._payload_bytes[status] > self._effective.settings.retention.delivered_bytes_max:
                    self._drop_payloads()
        retention = self._effective.settings.retention
        if retention is self._kept_by and not self._is_over_budget(status):  # then the other is not, either
            return []
        self._kept_by = retention
        return list(self._over_budget())

    def release(self, event: Event, status: Status) -> None:
        """Gives up an event that is unsettled again: it was reopened, or a delivery was added."""
        if status is _DELIVERED:
            _take_out(self._delivered, event)
        else:
            del self._exhausted[event.sequence]
        self._row_bytes[status] -= row_bytes(event)
        if event.payload is not None:
            self._payload_bytes[status] -= len(event.payload)
            if status is _DELIVERED:
                _take_out(self._with_payload, event)

    def expire(self, now: Moment, *, most: int) -> list[Event]:
        """Forgets what settled longer than `retention.age_max` ago, at most so many at once."""
        settled_before = now.monotonic - self._effective.settings.retention.age_seconds_max
        forgotten: list[Event] = []
        for kept in (self._delivered, self._exhausted.values()):
            for event in kept:
                if event.since > settled_before or len(forgotten) == most:
                    break
                forgotten.append(event)
        for event in forgotten:
            self._forget(event)
        return forgotten

    def keep_excerpt(self, event: Event, endpoint_id: str, attempt_number: int, body: bytes) -> None:
        """Keeps the first KiB of a failed attempt's answer. That of the delivery's attempt before goes."""
        self.drop_excerpt(event, endpoint_id)
        if not body:
            return
        body = body[:EXCERPT_BYTES_MAX]
        self._excerpts[event.sequence, endpoint_id] = Excerpt(attempt_number, body)
        self._excerpts_bytes += EXCERPT_ROW_BYTES + len(body)
        while self._excerpts_bytes > self._effective.settings.retention.excerpts_bytes_max:
            _, dropped = self._excerpts.popitem(last=False)
            self._excerpts_bytes -= EXCERPT_ROW_BYTES + len(dropped.body)

    def drop_excerpt(self, event: Event, endpoint_id: str) -> None:
        excerpt = self._excerpts.pop((event.sequence, endpoint_id), None)
        if excerpt is not None:
            self._excerpts_bytes -= EXCERPT_ROW_BYTES + len(excerpt.body)

    def excerpt(self, event: Event, endpoint_id: str) -> Excerpt | None:
        return self._excerpts.get((event.sequence, endpoint_id))

    def _over_budget(self) -> Iterator[Event]:
        for status in (_DELIVERED, _EXHAUSTED):
            while self._is_over_budget(status):
                yield self._forget(next(iter(self._of(status))))

    def _is_over_budget(self, status: Status) -> bool:
        retention = self._effective.settings.retention
        if status is _DELIVERED:
            events_max = retention.delivered_events_max
        elif self._payload_bytes[_EXHAUSTED] > retention.exhausted_bytes_max:
            return True
        else:
            events_max = retention.exhausted_events_max
        kept = self._delivered if status is _DELIVERED else self._exhausted
        return len(kept) > events_max or self._row_bytes[status] > rows_bytes_max(events_max)

    def _drop_payloads(self) -> None:
        while self._payload_bytes[_DELIVERED] > self._effective.settings.retention.delivered_bytes_max:
            event = self._with_payload.popleft()
            assert event.payload is not None
            self._payload_bytes[_DELIVERED] -= len(event.payload)
            event.digest = payload_digest(event.payload)
            event.payload = None

    def _of(self, status: Status) -> Collection[Event]:
        return self._delivered if status is _DELIVERED else self._exhausted.values()

    def _forget(self, event: Event) -> Event:
        self.release(event, event.status)
        for delivery in event.deliveries:
            self.drop_excerpt(event, delivery.endpoint_id)
        return event


def _take_out(kept: deque[Event], event: Event) -> None:
    """They stand by when they settled: to look at each of 200,000 would take 7 ms, and this takes 0.2 at most."""
    if kept[0] is event:
        kept.popleft()
    else:
        del kept[kept.index(event, bisect_left(kept, event.since, key=_since))]


def row_bytes(event: Event) -> int:
    """What a settled event takes without its payload, and without the excerpts."""
    size, bundle = SETTLED_EVENT_BYTES + len(event.id) + len(event.type), event.bundle
    if event.traceparent is not None:
        size += TRACEPARENT_BYTES
    if type(bundle) is Delivery:
        return size + SETTLED_DELIVERY_BYTES + len(bundle.history)
    for delivery in event.deliveries:
        size += SETTLED_DELIVERY_BYTES + len(delivery.history)
    return size


def rows_bytes_max(events_max: int) -> int:
    """The room for the rows of so many settled events. A small limit is a limit of events alone."""
    return ROWS_BYTES_LEAST + events_max * ROW_BYTES
