"""Owns what a record of the flight recorder holds, and its form in bytes.

    length u32 | crc32 u32 | sequence u64 | kind u8 | body        little-endian

Rules:
 * `length` counts what follows the checksum. A `length` of 0 ends the segment.
 * The checksum covers the length too.
 * The sequences of a run have no gaps, so a reader can count the records that are missing.
 * A row is a whole event as it stands, with all that a report needs. What the recorder wrote about this event earlier
   may be overwritten.
 * Of an attempt's error only the kind is kept, because its text may hold anything.

core/record_writer writes records and core/record_reader reads them. core/recorder keeps them in segments.
core/recording works out what they amount to.
"""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hookd.core.client_schema import URL_CHARS_MAX
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.read_number import ReadNumber
from hookd.core.retry import Reason
from hookd.core.trace_context import TRACEPARENT_CHARS

FORMAT = 3

HEAD_FORM = struct.Struct("<II")
TAIL_FORM = struct.Struct("<QB")  # each of the following begins with it, when it is written
# cause, the status of the event before, serial, accepted_at, payload, deliveries, ids, type; then the texts
ROW_FORM = struct.Struct("<BBQdIHBBB")
# status, reason, flags, crashes, id, url, attempts, those unscheduled, the last attempt's facts
DELIVERY_FORM = struct.Struct("<BBBBBHIIdfBH")
BEGUN_FORM = struct.Struct("<QHId")  # serial, index of the delivery, attempt's number, started_at; then the url
# serial, index, attempt's number, those unscheduled, duration, flags, outcome, status code
ENDED_FORM = struct.Struct("<QHIIfBBH")
SETTLED_FORM = struct.Struct("<QHBBB")  # serial, index, status, reason, the event's status then
CANCELLED_FORM = struct.Struct("<QH")  # serial, index
EXPIRY_FORM = struct.Struct("<d")  # behind the type, in the row of an event that expires: when, as wall time

OVERHEAD_BYTES = HEAD_FORM.size + TAIL_FORM.size
NO_PAYLOAD = 2**32 - 1
COUNT_MAX = 2**32 - 1
_IDS_BYTES_MAX = 64 + 64 + 128 + TRACEPARENT_CHARS  # event, client, type, and its traceparent
_ENDPOINT_ID_BYTES_MAX = 64
_ROW_BYTES_MAX = OVERHEAD_BYTES + ROW_FORM.size + _IDS_BYTES_MAX + EXPIRY_FORM.size
_DELIVERY_BYTES_MAX = DELIVERY_FORM.size + _ENDPOINT_ID_BYTES_MAX

IN_FLIGHT, MAYBE_RECEIVED, REQUEST_SENT, HAS_ATTEMPT, IS_CANCELLED = 1, 2, 4, 8, 16
# Beside a row's cause: a traceparent stands behind its type, and then an expiry.
TRACED, EXPIRES = 128, 64

STATUSES: tuple[Status | None, ...] = (None, *Status)
STATUS_CODES = {status: code for code, status in enumerate(STATUSES)}
REASONS: tuple[Reason | None, ...] = (None, *Reason)
OUTCOME_CODES = {Responded: 1, TimedOut: 2, Unreachable: 3, Blocked: 4, Invalid: 5}


class Kind(enum.IntEnum):
    HEADER = 1
    ROW = 2
    BEGUN = 3
    ENDED = 4
    SETTLED = 5
    UNRECORDED = 6
    CANCELLED = 7


class Cause(enum.IntEnum):
    """Why a row is written."""

    ADMITTED = 1
    RECOVERED = 2
    ADDED = 3
    REOPENED = 4  # one that was exhausted
    CARRIED = 5
    REDELIVERED = 6  # reopened, one that was delivered


# To reach a member through its enum takes Python 3.11 as long as to pack it.
_DELIVERED, _EXHAUSTED = Status.DELIVERED, Status.EXHAUSTED
_ADMITTED, _RECOVERED, _ADDED = Cause.ADMITTED, Cause.RECOVERED, Cause.ADDED
_REOPENED, _REDELIVERED = Cause.REOPENED, Cause.REDELIVERED


class Unreadable(Exception):
    """Not a record of ours, or not whole."""


@dataclass(slots=True)  # counted in with each record; to set a field of a Struct takes ten times as long
class Counts:
    """A run's totals as its records tell them. `unrecorded` events found no room, and are in none of the others."""

    accepted: ReadNumber = 0
    recovered: ReadNumber = 0
    delivered: ReadNumber = 0  # events
    exhausted: ReadNumber = 0  # events
    opened: ReadNumber = 0
    deliveries_delivered: ReadNumber = 0
    deliveries_exhausted: ReadNumber = 0
    unrecorded: ReadNumber = 0

    def count_row(self, cause: Cause, was: Status | None, delivery_count: int) -> None:
        if cause is _ADMITTED or cause is _RECOVERED:
            self.accepted += 1
            self.opened += delivery_count
            if cause is _RECOVERED:
                self.recovered += 1
            if not delivery_count:  # to nobody
                self.delivered += 1
        elif cause is _ADDED:
            self.opened += 1
            self._count_unsettled(was)
        elif cause is _REOPENED:
            self.deliveries_exhausted -= 1
            self._count_unsettled(was)
        elif cause is _REDELIVERED:
            self.deliveries_delivered -= 1
            self._count_unsettled(was)

    def count_settled(self, status: Status, event_status: Status | None) -> None:
        """`event_status`: where the event settled with it."""
        if status is _DELIVERED:
            self.deliveries_delivered += 1
        elif status is _EXHAUSTED:
            self.deliveries_exhausted += 1
        if event_status is _DELIVERED:
            self.delivered += 1
        elif event_status is _EXHAUSTED:
            self.exhausted += 1

    def _count_unsettled(self, was: Status | None) -> None:
        self.delivered -= was is _DELIVERED
        self.exhausted -= was is _EXHAUSTED


class Header(msgspec.Struct, frozen=True):
    """A segment's first record: whose it is, and the totals up to it."""

    format: ReadNumber
    run_id: str
    segment: ReadNumber
    version: str
    host: str
    pid: ReadNumber
    started_at: float  # wall
    payloads: bool
    segment_bytes: ReadNumber  # its whole length: a shorter one was cut
    counts: Counts


class Row(msgspec.Struct, frozen=True, gc=False):
    cause: Cause
    was: Status | None
    event: Event


class Begun(msgspec.Struct, frozen=True, gc=False):
    serial: int
    index: int
    attempt_number: int
    started_at: float
    url: str


class Ended(msgspec.Struct, frozen=True):
    """Failed, or cut: then without an outcome."""

    serial: int
    index: int
    attempt_number: int
    unscheduled_attempts: int
    duration_seconds: float
    maybe_received: bool
    request_sent: bool
    outcome: Outcome | None


class Settled(msgspec.Struct, frozen=True):
    serial: int
    index: int
    status: Status
    reason: Reason | None
    event_status: Status | None


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Before it settled: an attempt in flight was its last."""

    serial: int
    index: int


class Unrecorded(msgspec.Struct, frozen=True):
    """One more event for which there was no room."""


Record = Header | Row | Begun | Ended | Settled | Cancelled | Unrecorded


def row_bytes_max(payload_bytes: int, urls: Sequence[str]) -> int:
    """At most what a row of such an event takes, whatever its ids, its type and its history."""
    return _ROW_BYTES_MAX + len(urls) * _DELIVERY_BYTES_MAX + sum(map(len, urls)) + payload_bytes


def largest_row_bytes(payload_bytes_max: int, endpoints_max: int) -> int:
    return row_bytes_max(payload_bytes_max, ["x" * URL_CHARS_MAX] * endpoints_max)
