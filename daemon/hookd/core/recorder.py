"""Owns the flight recorder: what the ledger does to unsettled events, noted in memory that outlives the process.

Rules:
 1. A record stands before the next step is taken: before the 202, before the request of an attempt goes out.
 2. It is a log of segments, dropped from its old end only: a record means something together with those before it.
    What is still unsettled in the oldest segment is carried: written anew, as it stands, at the new end.
 3. Room for a row is asked for at admission. Records of attempts are never refused for want of room: rows take at
    most half of the segments, so carrying always frees some. Segments are taken as rows need them, up to
    `recorder.bytes_max`, and given back.
 4. An event that found no room all the same (what was not asked for) is counted, and none of its records is kept.
It knows no files: segments are a `Store`'s. What the records amount to is core/recording's.
Limits: 10 B of memory for each unsettled event and 160 for each client of one, besides the segments; 60 B where every
row has a length of its own.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from hookd.core.client_rows import ClientRows
from hookd.core.delivery import SETTLED, Delivery, Status
from hookd.core.event import Event
from hookd.core.record import Cause, Header, row_bytes_max
from hookd.core.record_writer import (
    begun_record,
    cancelled_record,
    ended_record,
    header_record,
    row_record,
    settled_record,
    unrecorded_record,
)
from hookd.core.recorder_room import RecorderRoom
from hookd.core.recorder_rows import RowPlace, Segment
from hookd.core.refusal import Full
from hookd.core.segment_layout import SegmentLayout
from hookd.core.segment_store import Store

SEGMENTS_MIN = 6
# How many rows are carried at one append while free segments are few: about 20 us.
CARRIED_AT_ONCE = 4
RETRY_AFTER_SECONDS = 5

# To reach a member through its enum takes Python 3.11 a while.
_DELIVERED, _EXHAUSTED, _ADMITTED = Status.DELIVERED, Status.EXHAUSTED, Cause.ADMITTED

Find = Callable[[int], Event | None]


class Recorder(RecorderRoom, Protocol):
    """What the ledger tells the recorder, each at the moment that it happens."""

    def attach(self, find: Find) -> None:
        """At first, where it finds an unsettled event by its sequence."""
        ...

    def admitted(self, event: Event, *, recovered: bool) -> None: ...

    def added(self, event: Event, was: Status) -> None: ...

    def reopened(self, event: Event, was: Status, delivery_was: Status) -> None:
        """What its one delivery was, and the event with it, before that was reopened."""
        ...

    def restated(self, event: Event) -> None:
        """What is known of its deliveries' past has changed, and nothing else."""
        ...

    def begun(self, event: Event, delivery: Delivery) -> None: ...

    def ended(self, event: Event, delivery: Delivery) -> None: ...

    def cancelled(self, event: Event, delivery: Delivery) -> None:
        """An attempt in flight is its last."""
        ...

    def settled(self, event: Event, delivery: Delivery, event_status: Status) -> None: ...

    def prove(self) -> None:
        """Raises OSError where the next start would not find what is noted."""
        ...

    def break_off(self) -> None:
        """It has failed: nothing more is noted, and what is noted says so to whoever reads it."""
        ...

    def discard(self) -> None:
        """The run's report is complete: nothing is kept, and nothing more is noted."""
        ...


class NoRoom(Exception):
    """Not even the first segments fit."""


class SegmentRecorder:
    """`identity` is the header of segment 0, with counts of nothing. `Event.row` is where an event's row stands."""

    def __init__(self, store: Store, plan: SegmentLayout, identity: Header) -> None:
        self._store = store
        self._layout = plan
        self._segment_bytes = plan.segment_bytes
        self._identity = identity
        self._counts = identity.counts
        self._find: Find | None = None  # until the ledger attaches itself
        self._rows = 0
        self._rows_bytes = self._rows_bytes_max = 0
        self._clients = ClientRows()
        self._room_bytes = plan.rows_bytes_max(plan.segments_max)  # for rows, with every segment there may be
        self._log: deque[Segment] = deque()
        self._segments = self._free = 0
        self._sequence = 0
        self._used_bytes = 0  # of the newest segment
        self._is_short = False
        self._is_discarded = False
        while self._segments < SEGMENTS_MIN:
            if not self._allocate():
                raise NoRoom
        self._begin_segment()

    @property
    def rows_bytes(self) -> int:
        return self._rows_bytes

    @property
    def segments(self) -> int:
        return self._segments

    @property
    def sequence(self) -> int:
        """Of the last record."""
        return self._sequence

    @property
    def unrecorded(self) -> int:
        return self._counts.unrecorded

    # Room

    def row_bytes(self, payload_bytes: int, urls: Sequence[str]) -> int:
        row_bytes = row_bytes_max(payload_bytes if self._identity.payloads else 0, urls)
        if row_bytes > self._layout.row_bytes:
            raise Full(
                f"the event takes {row_bytes:,} bytes in the flight recorder, which was started for "
                f"{self._layout.row_bytes:,} at most; larger limits need a restart",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ).at("recorder.bytes_max")
        return row_bytes

    def refuse_if_full(self, row_bytes: int) -> None:
        if self._rows_bytes + row_bytes > self._rows_bytes_max and not self._has_room(row_bytes):
            room = self._rows_bytes_max
            cause = "recorder.bytes_max" if self._segments >= self._layout.segments_max else "its file system"
            raise Full(
                f"the flight recorder holds {self._rows_bytes:,} bytes of unsettled events and has room for {room:,}; "
                f"{cause} allows no more",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            ).at("recorder.bytes_max")

    def client_room(self, client_id: str, *, share: float) -> tuple[int, int]:
        """One row of the largest always fits. What the file system gives of `recorder.bytes_max` is not asked."""
        return self._clients.bytes_of(client_id), max(self._layout.row_bytes, int(self._room_bytes * share))

    def fill(self) -> tuple[int, int]:
        return self._rows_bytes, self._room_bytes

    def _has_room(self, row_bytes: int) -> bool:
        while self._rows_bytes + row_bytes > self._rows_bytes_max:
            if self._segments >= self._layout.segments_max or not self._allocate():
                return False
        return True

    def _allocate(self) -> bool:
        if not self._store.allocate():
            return False
        self._count_segments(1)
        self._free += 1
        return True

    def _count_segments(self, more: int) -> None:
        self._segments += more
        self._rows_bytes_max = self._layout.rows_bytes_max(self._segments)

    # What the ledger does

    def attach(self, find: Find) -> None:
        self._find = find

    def admitted(self, event: Event, *, recovered: bool) -> None:
        self._note_row(event, Cause.RECOVERED if recovered else _ADMITTED, None)

    def added(self, event: Event, was: Status) -> None:
        self._note_row(event, Cause.ADDED, was)

    def reopened(self, event: Event, was: Status, delivery_was: Status) -> None:
        self._note_row(event, Cause.REDELIVERED if delivery_was is _DELIVERED else Cause.REOPENED, was)

    def restated(self, event: Event) -> None:
        if event.row is not None and not self._is_discarded:
            self._carry(event, event.row)
            if self._is_short:
                self._make_room()

    def begun(self, event: Event, delivery: Delivery) -> None:
        if event.row is not None and not self._is_discarded:
            self._put(begun_record(self._sequence + 1, event, delivery))
            if self._is_short:
                self._make_room()

    def ended(self, event: Event, delivery: Delivery) -> None:
        if event.row is not None and not self._is_discarded:
            self._put(ended_record(self._sequence + 1, event, delivery))
            if self._is_short:
                self._make_room()

    def cancelled(self, event: Event, delivery: Delivery) -> None:
        if event.row is not None and not self._is_discarded:
            self._put(cancelled_record(self._sequence + 1, event, delivery))
            if self._is_short:
                self._make_room()

    def settled(self, event: Event, delivery: Delivery, event_status: Status) -> None:
        row = event.row
        if row is None or self._is_discarded:
            return
        then = event_status if event_status is _DELIVERED or event_status is _EXHAUSTED else None
        self._put(settled_record(self._sequence + 1, event, delivery, then))
        self._counts.count_settled(delivery.status, then)
        if then is not None:
            self._forget_row(event, row)
            event.row = None
        if self._is_short:
            self._make_room()

    def prove(self) -> None:
        self._store.prove()

    def break_off(self) -> None:
        self._is_discarded = True
        self._store.break_off()

    def discard(self) -> None:
        self._is_discarded = True
        self._store.discard()

    # Rows and segments

    def _note_row(self, event: Event, cause: Cause, was: Status | None) -> None:
        if self._is_discarded:
            return
        known = None
        if cause is not _ADMITTED:
            known = event.row
            if known is None and was is not None and was not in SETTLED:
                return  # there was no room for it when it was admitted
        payload = event.payload if self._identity.payloads else None
        record = row_record(self._sequence + 1, event, cause, was, payload=payload)
        more_bytes = len(record) - (0 if known is None else known.bytes)
        has_room = self._rows_bytes + more_bytes <= self._rows_bytes_max or self._has_room(more_bytes)
        if not has_room or len(record) > self._layout.row_bytes:
            self._put(unrecorded_record(self._sequence + 1))  # of a known event, what was known of it goes on
            self._counts.unrecorded += 1
            return
        self._put_row(event, record, known)
        self._counts.count_row(cause, was, len(event.deliveries))
        if self._is_short:
            self._make_room()

    def _put_row(self, event: Event, record: bytes, before: RowPlace | None) -> None:
        """`before` is the event's row so far: it is needed until this one stands."""
        self._put(record)
        if before is not None:
            self._forget_row(event, before)
        if event.bundle:
            event.row = self._log[-1].take(event.sequence, len(record))
            self._rows += 1
            self._rows_bytes += len(record)
            self._clients.count(event.client_id, len(record))

    def _forget_row(self, event: Event, row: RowPlace) -> None:
        self._rows -= 1
        row.segment.unsettled -= 1
        self._rows_bytes -= row.bytes
        self._clients.count(event.client_id, -row.bytes)

    def _put(self, record: bytes) -> None:
        """The record was made for the next sequence, and a segment's header takes none of its own."""
        used_bytes = self._used_bytes + len(record)
        if used_bytes > self._segment_bytes:
            self._begin_segment()
            used_bytes = self._used_bytes + len(record)
        self._append(record)
        self._used_bytes = used_bytes
        self._sequence += 1

    def _begin_segment(self) -> None:
        """Its header bears the sequence of the last record before it."""
        assert self._free
        self._free -= 1
        if self._log:
            self._log[-1].close()
        number = self._log[-1].number + 1 if self._log else 0
        self._log.append(Segment(number))
        header = msgspec.structs.replace(self._identity, segment=number, counts=self._counts)
        record = header_record(self._sequence, header)
        self._append = self._store.begin(number, record)
        self._used_bytes = len(record)
        self._drop_settled()
        self._is_short = self._free * 8 < self._segments * 3

    def _make_room(self) -> None:
        """A little at each record while free segments are few; whatever it takes when they are very few."""
        for _ in range(CARRIED_AT_ONCE):
            if self._free * 8 >= self._segments * 3:
                self._is_short = False
                return
            self._carry_oldest()
        for _ in range(self._rows):
            if self._free >= max(2, self._segments // 4):
                return
            self._carry_oldest()

    def _carry_oldest(self) -> None:
        oldest = self._log[0]
        while oldest is not self._log[-1] and oldest.serials:
            assert self._find is not None
            event = self._find(oldest.serials.popleft())
            if event is not None and event.row is not None and event.row.segment is oldest:
                self._carry(event, event.row)
                break
        self._drop_settled()

    def _carry(self, event: Event, row: RowPlace) -> None:
        """Should its URLs have grown since, beyond what there is room for, the event is named without them."""
        payload = event.payload if self._identity.payloads else None
        record = row_record(self._sequence + 1, event, Cause.CARRIED, None, payload=payload)
        if len(record) > row.bytes and not self._has_room(len(record) - row.bytes):
            record = row_record(self._sequence + 1, event, Cause.CARRIED, None, payload=payload, urls=False)
        self._put_row(event, record, row)

    def _drop_settled(self) -> None:
        """Drops the oldest segments as far as nothing unsettled stands in them."""
        while not self._log[0].unsettled and len(self._log) > 1:
            keep = not self._is_too_many()
            self._store.drop(self._log.popleft().number, keep=keep)
            self._free += keep
            if not keep:
                self._count_segments(-1)

    def _is_too_many(self) -> bool:
        """Whether half of the room would do without one segment: what grew with a backlog goes with it."""
        fewer, rows_bytes = self._segments - 1, 2 * self._rows_bytes
        return fewer >= SEGMENTS_MIN and self._free * 2 > fewer and rows_bytes < self._layout.rows_bytes_max(fewer)
