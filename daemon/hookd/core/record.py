"""Owns the form of one record of the flight recorder: what the ledger tells it, as bytes, and back.

    length u32 | crc32 u32 | sequence u64 | kind u8 | body        little-endian; `length` counts what follows the crc

Rules: `length` 0 ends a segment; the checksum covers the length too; sequences of a run are consecutive, so that what
is missing is counted. A row is an event as it stands, with everything that a report needs: whatever came before it
about this event may be forgotten. Of an attempt's error only the kind is kept: a text may hold anything.
It does not know segments (core/recorder) nor what records amount to (core/recording).
"""

import enum
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import msgspec

from hookd.core.definition import URL_CHARS_MAX
from hookd.core.delivery import Attempt, Delivery, Status
from hookd.core.event import Event
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.retry import Reason
from hookd.core.timestamps import WALL_MAX

FORMAT = 2

_HEAD = struct.Struct("<II")
_TAIL = struct.Struct("<QB")  # each of the following begins with it, when it is written
_ROW = struct.Struct("<BBQdIHBBB")  # cause, event's status before, serial, accepted_at, payload, deliveries, ids, type
_DELIVERY = struct.Struct("<BBBBBHIdfBH")  # status, reason, flags, crashes, id, url, attempts, the last one's facts
_BEGUN = struct.Struct("<QHId")  # serial, index of the delivery, attempt's number, started_at; then the url
_ENDED = struct.Struct("<QHIfBBH")  # serial, index, attempt's number, duration, flags, outcome, status code
_SETTLED = struct.Struct("<QHBBB")  # serial, index, status, reason, the event's status then

_TAIL_ROW, _TAIL_BEGUN, _TAIL_ENDED, _TAIL_SETTLED = (
    struct.Struct(_TAIL.format + body.format.removeprefix("<")) for body in (_ROW, _BEGUN, _ENDED, _SETTLED)
)

_TAIL_SERIAL = struct.Struct(_TAIL.format + "Q")

OVERHEAD_BYTES = _HEAD.size + _TAIL.size
_NO_PAYLOAD = 2**32 - 1
_COUNT_MAX = 2**32 - 1
_IDS_BYTES_MAX = 64 + 64 + 128  # event, client, type
_ENDPOINT_ID_BYTES_MAX = 64
_ROW_BYTES_MAX = OVERHEAD_BYTES + _ROW.size + _IDS_BYTES_MAX
_DELIVERY_BYTES_MAX = _DELIVERY.size + _ENDPOINT_ID_BYTES_MAX

_IN_FLIGHT, _MAYBE_RECEIVED, _REQUEST_SENT, _HAS_ATTEMPT = 1, 2, 4, 8

_STATUSES: tuple[Status | None, ...] = (None, *Status)
_STATUS_CODES = {status: code for code, status in enumerate(_STATUSES)}
_REASONS: tuple[Reason | None, ...] = (None, *Reason)
# Of an event's only delivery: what follows the serial in `_SETTLED`.
_DELIVERED_ALONE = _SETTLED.pack(0, 0, _STATUS_CODES[Status.DELIVERED], 0, _STATUS_CODES[Status.DELIVERED])[8:]
_OUTCOME_CODES = {Responded: 1, TimedOut: 2, Unreachable: 3, Blocked: 4, Invalid: 5}


class Kind(enum.IntEnum):
    HEADER = 1
    ROW = 2
    BEGUN = 3
    ENDED = 4
    SETTLED = 5
    UNRECORDED = 6


class Cause(enum.IntEnum):
    """Why a row is written."""

    ADMITTED = 1
    RECOVERED = 2
    ADDED = 3
    REOPENED = 4
    CARRIED = 5


# Written out, since to reach an enum's member through its class takes Python 3.11 as long as to pack it.
_PENDING, _DELIVERED, _EXHAUSTED = Status.PENDING, Status.DELIVERED, Status.EXHAUSTED
_ADMITTED, _RECOVERED, _ADDED, _REOPENED = Cause.ADMITTED, Cause.RECOVERED, Cause.ADDED, Cause.REOPENED
_KIND_ROW, _KIND_BEGUN, _KIND_ENDED, _KIND_SETTLED = map(int, (Kind.ROW, Kind.BEGUN, Kind.ENDED, Kind.SETTLED))


class Unreadable(Exception):
    """Not a record of ours, or not whole."""


@dataclass(slots=True)  # counted in with each record; to set a field of a Struct takes ten times as long
class Counts:
    """A run's totals as its records tell them. `unrecorded` events found no room, and are in none of the others."""

    accepted: int = 0
    recovered: int = 0
    delivered: int = 0  # events
    exhausted: int = 0  # events
    opened: int = 0
    deliveries_delivered: int = 0
    deliveries_exhausted: int = 0
    unrecorded: int = 0

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

    format: int
    run_id: str
    segment: int
    version: str
    host: str
    pid: int
    started_at: float  # wall
    payloads: bool
    segment_bytes: int  # its whole length: a shorter one was cut
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


class Unrecorded(msgspec.Struct, frozen=True):
    """One more event for which there was no room."""


Record = Header | Row | Begun | Ended | Settled | Unrecorded


def row_bytes_max(payload_bytes: int, urls: Sequence[str]) -> int:
    """At most what a row of such an event takes, whatever its ids, its type and its history."""
    return _ROW_BYTES_MAX + len(urls) * _DELIVERY_BYTES_MAX + sum(map(len, urls)) + payload_bytes


def largest_row_bytes(payload_bytes_max: int, endpoints_max: int) -> int:
    return row_bytes_max(payload_bytes_max, ["x" * URL_CHARS_MAX] * endpoints_max)


# Writing: three of these for each event that is delivered, between much else, where each call of a function costs more
# than what it does: hence what they have in common is written out, and nothing is looked up that can be compared.
# Ids, types and URLs are ASCII (core/client says so); "replace" keeps their lengths, whatever comes.


def header_record(sequence: int, header: Header) -> bytes:
    return _framed(_TAIL.pack(sequence, Kind.HEADER) + msgspec.json.encode(header))


def row_record(
    sequence: int, event: Event, cause: Cause, was: Status | None, *, payload: bytes | None, urls: bool = True
) -> bytes:
    event_id, client_id, event_type, deliveries = event.id, event.client_id, event.type, event.deliveries
    tail = _TAIL_ROW.pack(
        sequence,
        _KIND_ROW,
        cause,
        _STATUS_CODES[was],
        event.sequence,
        event.accepted_at,
        _NO_PAYLOAD if payload is None else len(payload),
        len(deliveries),
        len(event_id),
        len(client_id),
        len(event_type),
    ) + (event_id + client_id + event_type).encode("ascii", "replace")
    for delivery in deliveries:
        url = delivery.url if urls else ""
        is_new = not delivery.attempt_count and delivery.status is _PENDING and not delivery.maybe_received
        tail += _new_delivery_part(delivery.endpoint_id, url) if is_new else _delivery_part(delivery, url)
    if payload is not None:
        tail += payload
    length = len(tail)
    return _HEAD.pack(length, crc32(tail, length)) + tail


@lru_cache(maxsize=1024)  # of those that admit; at most 2.3 MB, where every URL is as long as it may be
def _new_delivery_part(endpoint_id: str, url: str) -> bytes:
    fixed = _DELIVERY.pack(1, 0, 0, 0, len(endpoint_id), len(url), 0, 0.0, 0.0, 0, 0)
    return fixed + (endpoint_id + url).encode("ascii", "replace")


def _delivery_part(delivery: Delivery, url: str) -> bytes:
    endpoint_id = delivery.endpoint_id
    started_at = duration_seconds = 0.0
    outcome = status_code = 0
    flags = (_IN_FLIGHT if delivery.in_flight else 0) | (_MAYBE_RECEIVED if delivery.maybe_received else 0)
    if delivery.attempts:
        last = delivery.attempts[-1]
        flags |= _HAS_ATTEMPT | (_REQUEST_SENT if last.request_sent else 0)
        started_at, duration_seconds = last.started_at, last.duration_seconds or 0.0
        outcome, status_code = _outcome_codes(last.outcome)
    fixed = _DELIVERY.pack(
        _STATUS_CODES[delivery.status],
        _REASONS.index(delivery.reason),
        flags,
        min(delivery.crash_count, 255),
        len(endpoint_id),
        len(url),
        min(delivery.attempt_count, _COUNT_MAX),
        started_at,
        duration_seconds,
        outcome,
        status_code,
    )
    return fixed + (endpoint_id + url).encode("ascii", "replace")


def begun_record(sequence: int, event: Event, delivery: Delivery) -> bytes:
    attempt = delivery.attempts[-1]
    index = event.deliveries.index(delivery)  # they compare by identity
    number = attempt.number if attempt.number < _COUNT_MAX else _COUNT_MAX
    tail = _TAIL_BEGUN.pack(sequence, _KIND_BEGUN, event.sequence, index, number, attempt.started_at)
    tail += delivery.url.encode("ascii", "replace")
    length = len(tail)
    return _HEAD.pack(length, crc32(tail, length)) + tail


def ended_record(sequence: int, event: Event, delivery: Delivery) -> bytes:
    last = delivery.attempts[-1]
    tail = _TAIL_ENDED.pack(
        sequence,
        _KIND_ENDED,
        event.sequence,
        event.deliveries.index(delivery),
        min(delivery.attempt_count, _COUNT_MAX),
        last.duration_seconds or 0.0,
        (_MAYBE_RECEIVED if delivery.maybe_received else 0) | (_REQUEST_SENT if last.request_sent else 0),
        *_outcome_codes(last.outcome),
    )
    return _framed(tail)


def settled_record(sequence: int, event: Event, delivery: Delivery, event_status: Status | None) -> bytes:
    if event_status is _DELIVERED and len(event.deliveries) == 1:  # as nearly all events end
        tail = _TAIL_SERIAL.pack(sequence, _KIND_SETTLED, event.sequence) + _DELIVERED_ALONE
    else:
        tail = _TAIL_SETTLED.pack(
            sequence,
            _KIND_SETTLED,
            event.sequence,
            event.deliveries.index(delivery),
            _STATUS_CODES[delivery.status],
            _REASONS.index(delivery.reason),
            _STATUS_CODES[event_status],
        )
    length = len(tail)
    return _HEAD.pack(length, crc32(tail, length)) + tail


def unrecorded_record(sequence: int) -> bytes:
    return _framed(_TAIL.pack(sequence, Kind.UNRECORDED))


def _framed(tail: bytes) -> bytes:
    return _HEAD.pack(len(tail), crc32(tail, len(tail))) + tail


def _outcome_codes(outcome: Outcome | None) -> tuple[int, int]:
    if outcome is None:
        return 0, 0
    return _OUTCOME_CODES[type(outcome)], outcome.status_code if isinstance(outcome, Responded) else 0


# Reading


def read_framed(data: bytes, offset: int) -> tuple[int, Record, int] | None:
    """The record at `offset`: its sequence, what it says and where the next begins; None where nothing follows.

    Raises Unreadable; where the next record would begin is then not known either.
    """
    if len(data) < offset + OVERHEAD_BYTES:
        if any(data[offset:]):
            raise Unreadable
        return None
    length, checksum = _HEAD.unpack_from(data, offset)
    if not length and not checksum:
        return None
    begin = offset + _HEAD.size
    tail = data[begin : begin + length]
    if length < _TAIL.size or len(tail) < length or crc32(tail, length) != checksum:
        raise Unreadable
    sequence, kind = _TAIL.unpack_from(tail)
    return sequence, _read_body(kind, tail[_TAIL.size :]), begin + length


def _read_body(kind: int, body: bytes) -> Record:
    reader = _READERS.get(kind)
    if reader is None:
        raise Unreadable
    try:
        return reader(body)
    except (struct.error, ValueError, IndexError, msgspec.DecodeError):  # another version's
        raise Unreadable from None


def _read_header(body: bytes) -> Header:
    header = msgspec.json.decode(body, type=Header)
    _check_wall(header.started_at)
    return header


def _read_begun(body: bytes) -> Begun:
    serial, index, attempt_number, started_at = _BEGUN.unpack_from(body)
    _check_wall(started_at)
    return Begun(serial, index, attempt_number, started_at, body[_BEGUN.size :].decode("ascii"))


def _read_ended(body: bytes) -> Ended:
    serial, index, number, duration_seconds, flags, *codes = _ENDED.unpack(body)
    _check_wall(duration_seconds)
    outcome = _outcome(*codes, duration_seconds=duration_seconds)
    maybe_received, request_sent = bool(flags & _MAYBE_RECEIVED), bool(flags & _REQUEST_SENT)
    return Ended(serial, index, number, duration_seconds, maybe_received, request_sent, outcome)


def _read_settled(body: bytes) -> Settled:
    serial, index, status, reason, event_status = _SETTLED.unpack(body)
    return Settled(serial, index, _known_status(status), _REASONS[reason], _STATUSES[event_status])


def _read_unrecorded(_: bytes) -> Unrecorded:
    return Unrecorded()


def _read_row(body: bytes) -> Row:
    fields = _ROW.unpack_from(body)
    cause, was, serial, accepted_at, payload_bytes, delivery_count, id_chars, client_chars, type_chars = fields
    _check_wall(accepted_at)
    chars = id_chars + client_chars + type_chars
    ids = _text(body, _ROW.size, chars)
    at = _ROW.size + chars
    deliveries = []
    for _ in range(delivery_count):
        delivery, at = _read_delivery(body, at)
        deliveries.append(delivery)
    payload = None if payload_bytes == _NO_PAYLOAD else _part(body, at, payload_bytes)
    if at + len(payload or b"") != len(body):
        raise Unreadable
    (payload or b"").decode()  # as the one that was admitted was
    event = Event(
        sequence=serial,
        id=ids[:id_chars],
        client_id=ids[id_chars : id_chars + client_chars],
        type=ids[id_chars + client_chars :],
        payload=payload,
        accepted_at=accepted_at,
        since=0.0,
        deliveries=tuple(deliveries),
    )
    return Row(Cause(cause), _STATUSES[was], event)


def _read_delivery(body: bytes, at: int) -> tuple[Delivery, int]:
    fields = _DELIVERY.unpack_from(body, at)
    status, reason, flags, crash_count, id_chars, url_chars, count, started_at, duration, *codes = fields
    _check_wall(started_at)
    _check_wall(duration)
    at += _DELIVERY.size
    text = _text(body, at, id_chars + url_chars)
    attempts: tuple[Attempt, ...] = ()
    in_flight = bool(flags & _IN_FLIGHT)
    if flags & _HAS_ATTEMPT:
        outcome = _outcome(*codes, duration_seconds=duration)
        attempts = (Attempt(count, started_at, None if in_flight else duration, outcome, bool(flags & _REQUEST_SENT)),)
    delivery = Delivery(
        endpoint_id=text[:id_chars],
        url=text[id_chars:],
        opened_at=0.0,
        attempts_max=count,
        due_at=None,
        status=_known_status(status),
        reason=_REASONS[reason],
        attempt_count=count,
        in_flight=in_flight,
        maybe_received=bool(flags & _MAYBE_RECEIVED),
        attempts=attempts,
        crash_count=crash_count,
    )
    return delivery, at + id_chars + url_chars


def _text(body: bytes, at: int, length: int) -> str:
    return _part(body, at, length).decode("ascii")


def _known_status(code: int) -> Status:
    status = _STATUSES[code]
    if status is None:
        raise Unreadable
    return status


def _check_wall(wall: float) -> None:
    if not 0 <= wall <= WALL_MAX:  # also where it is no number
        raise Unreadable


def _part(body: bytes, at: int, length: int) -> bytes:
    part = body[at : at + length]
    if len(part) != length:
        raise Unreadable
    return part


def _outcome(code: int, status_code: int, *, duration_seconds: float) -> Outcome | None:
    match code:
        case 0:
            return None
        case 1:
            return Responded(status_code)
        case 2:
            return TimedOut(round(duration_seconds, 3))
        case 3:
            return Unreachable("could not be reached")
        case 4:
            return Blocked("of this endpoint")
        case 5:
            return Invalid("what came back was not valid")
    raise Unreadable


_READERS: dict[int, Callable[[bytes], Record]] = {
    Kind.HEADER: _read_header,
    Kind.ROW: _read_row,
    Kind.BEGUN: _read_begun,
    Kind.ENDED: _read_ended,
    Kind.SETTLED: _read_settled,
    Kind.UNRECORDED: _read_unrecorded,
}
