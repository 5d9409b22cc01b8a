"""Owns what a run's records amount to: the events that were unsettled when they end, and the totals.

Rules:
 1. It takes any bytes. A segment is read up to its first record that is not whole or not the next one; the rest of
    that segment is counted as unread. It is not searched for a next record: a length that cannot be trusted says
    nothing of where that would begin, and a payload may hold bytes that look like one.
 2. A segment that is longer than its header says was the newest when the recorder failed: the run went on without.
 3. It claims nothing that is not known. Once records are missing, any of them may have been an attempt's: whatever was
    unsettled before counts as maybe received. In flight at the end counts so, too.
 4. Its events stand in the order of acceptance, by the run's own numbers. Their rows do not: one that was carried, or
    reopened, is written anew behind newer ones. A start takes them back in this order, which strict order rests on.
It takes segments as they come from core/recorder; where they stand is edge/recorder_files's.
"""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from hookd.core.delivery import SETTLED, Delivery, Status
from hookd.core.event import Event
from hookd.core.history import Attempt, of_one
from hookd.core.record import (
    FORMAT,
    Begun,
    Cancelled,
    Cause,
    Counts,
    Ended,
    Header,
    Record,
    Row,
    Settled,
    Unreadable,
    Unrecorded,
)
from hookd.core.record_reader import read_framed
from hookd.core.retry import Reason
from hookd.core.timestamps import WALL_MAX


class Recording:
    """What the records of one run say. `header` is None where no segment could be read."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.header: Header | None = None
        self.counts = Counts()
        self.events: dict[int, Event] = {}  # the unsettled, by the run's own numbers; at the end in order
        self.last_wall = 0.0  # the latest time that stands in a record
        self.unread_bytes = 0
        self.records_missing = 0
        self.is_broken_off = False  # the run went on, and nothing more was recorded
        self._next_sequence: int | None = None
        self._is_torn = False

    @property
    def sequence(self) -> int:
        """Of the last record that was read; 0 where there is none."""
        return 0 if self._next_sequence is None else self._next_sequence - 1

    @property
    def is_whole(self) -> bool:
        return self.header is not None and not (self.unread_bytes or self.records_missing or self.is_broken_off)

    def take_segments(self, segments: Iterable[tuple[int, bytes]]) -> None:
        """All there are, by their numbers; in ascending order."""
        for number, data in segments:
            self._take_segment(number, data)
        if self._is_torn or self.is_broken_off:
            self._doubt()
        self.events = dict(sorted(self.events.items()))
        for event in self.events.values():
            for delivery in event.deliveries:
                delivery.maybe_received |= delivery.in_flight
                delivery.crash_count += delivery.in_flight

    def _take_segment(self, number: int, data: bytes) -> None:
        offset = 0
        while True:
            try:
                read = read_framed(data, offset)
                if read is None:
                    break
                sequence, record, next_offset = read
                if offset == 0:
                    self._begin_segment(number, sequence, record)
                elif isinstance(record, Header) or sequence != self._next_sequence:
                    raise Unreadable
                else:
                    self._take(record)
            except Unreadable:
                break
            if offset:
                self._next_sequence = sequence + 1
            self._is_torn = False
            offset = next_offset
        if offset == 0:  # a segment is named once its header is in it
            self.records_missing += 1
        rest = max(0, len(data.rstrip(b"\0")) - offset)
        cut = self.header.segment_bytes - len(data) if offset and self.header is not None else 0
        self.is_broken_off |= cut < 0
        self.unread_bytes += rest + max(0, cut)
        self._is_torn |= rest > 0 or cut > 0 or offset == 0

    def _begin_segment(self, number: int, sequence: int, header: Record) -> None:
        is_ours = isinstance(header, Header) and (header.format, header.run_id) == (FORMAT, self.run_id)
        if not is_ours or not isinstance(header, Header) or header.segment != number:
            raise Unreadable
        missing = 0 if self._next_sequence is None else sequence + 1 - self._next_sequence
        if missing < 0:
            raise Unreadable
        if missing:
            self.records_missing += missing
            self._doubt()
        self.header = header
        self._next_sequence = sequence + 1
        self.counts = replace(header.counts)
        self._see(header.started_at)

    def _take(self, record: Record) -> None:
        match record:
            case Row(cause=cause, was=was, event=event):
                self.counts.count_row(cause, was, len(event.deliveries))
                if event.deliveries:  # a row is written of nothing that is settled but what is owed to nobody
                    self.events[event.sequence] = event
                if cause not in (Cause.RECOVERED, Cause.ADDED, Cause.CARRIED):  # those may be older than the run
                    self._see(event.accepted_at)
            case Begun():
                self._begin(record)
            case Ended():
                self._end(record)
            case Settled(status=status, event_status=event_status):
                self.counts.count_settled(status, event_status)
                self._settle(record)
            case Cancelled():
                self._cancel(record)
            case Unrecorded():
                self.counts.unrecorded += 1
            case Header():
                raise Unreadable

    def _begin(self, begun: Begun) -> None:
        self._see(begun.started_at)
        delivery = self._delivery(begun)
        if delivery is not None:
            delivery.url = begun.url
            delivery.in_flight = True
            delivery.attempt_count = begun.attempt_number
            # Whether the request went out is not known: the client may have it.
            delivery.history = of_one(Attempt(begun.attempt_number, begun.started_at, request_sent=True))

    def _end(self, ended: Ended) -> None:
        delivery = self._delivery(ended)
        if delivery is None:
            return
        delivery.in_flight = False
        delivery.attempt_count = ended.attempt_number
        delivery.attempts_before = ended.unscheduled_attempts
        if ended.outcome is not None:
            delivery.status = Status.FAILED
        delivery.maybe_received = ended.maybe_received  # of all of its attempts, also of those that are missing
        if delivery.history:
            last = msgspec.structs.replace(
                delivery.last_attempt,
                duration_seconds=ended.duration_seconds,
                outcome=ended.outcome,
                request_sent=ended.request_sent,
            )
            delivery.history = of_one(last)
            self._see(last.started_at + ended.duration_seconds)

    def _settle(self, settled: Settled) -> None:
        delivery = self._delivery(settled)
        if delivery is not None:
            delivery.in_flight = False
            delivery.status, delivery.reason = settled.status, settled.reason
        event = self.events.get(settled.serial)
        if event is not None and (settled.event_status is not None or event.status in SETTLED):
            del self.events[settled.serial]

    def _cancel(self, cancelled: Cancelled) -> None:
        delivery = self._delivery(cancelled)
        if delivery is not None:
            delivery.abandoned_as = Reason.CANCELLED

    def _delivery(self, record: Begun | Ended | Settled | Cancelled) -> Delivery | None:
        """None where the row is among what is missing."""
        event = self.events.get(record.serial)
        if event is None or record.index >= len(event.deliveries):
            return None
        return event.deliveries[record.index]

    def _doubt(self) -> None:
        for event in self.events.values():
            for delivery in event.deliveries:
                delivery.maybe_received |= delivery.status not in SETTLED

    def _see(self, wall: float) -> None:
        self.last_wall = max(self.last_wall, min(wall, WALL_MAX))
