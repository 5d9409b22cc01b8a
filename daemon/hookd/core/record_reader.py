"""Owns the reading of the flight recorder's records: bytes, as the run that died left them.

Rule: whatever the bytes hold, the answer is a record or Unreadable.
"""

import struct
from collections.abc import Callable
from zlib import crc32

import msgspec

from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event, bundled
from hookd.core.expiring_event import expiring
from hookd.core.history import Attempt, of_one
from hookd.core.outcome import Blocked, Invalid, Outcome, Responded, TimedOut, Unreachable
from hookd.core.particulars import Particulars
from hookd.core.record import (
    BEGUN_FORM,
    CANCELLED_FORM,
    DELIVERY_FORM,
    ENDED_FORM,
    EXPIRES,
    EXPIRY_FORM,
    HAS_ATTEMPT,
    HEAD_FORM,
    IN_FLIGHT,
    IS_CANCELLED,
    MAYBE_RECEIVED,
    NO_PAYLOAD,
    OVERHEAD_BYTES,
    REASONS,
    REQUEST_SENT,
    ROW_FORM,
    SETTLED_FORM,
    STATUSES,
    TAIL_FORM,
    TRACED,
    Begun,
    Cancelled,
    Cause,
    Ended,
    Header,
    Kind,
    Record,
    Row,
    Settled,
    Unreadable,
    Unrecorded,
)
from hookd.core.retry import Reason
from hookd.core.timestamps import WALL_MAX, Moment
from hookd.core.trace_context import TRACEPARENT_CHARS, traceparent_from

NEVER = Moment(monotonic=0.0, wall=0.0)


def read_framed(data: bytes, offset: int) -> tuple[int, Record, int] | None:
    """The record at `offset`: its sequence, what it says and where the next begins; None where nothing follows.

    Raises Unreadable; where the next record would begin is then not known either.
    """
    if len(data) < offset + OVERHEAD_BYTES:
        if any(data[offset:]):
            raise Unreadable
        return None
    length, checksum = HEAD_FORM.unpack_from(data, offset)
    if not length and not checksum:
        return None
    begin = offset + HEAD_FORM.size
    tail = data[begin : begin + length]
    if length < TAIL_FORM.size or len(tail) < length or crc32(tail, length) != checksum:
        raise Unreadable
    sequence, kind = TAIL_FORM.unpack_from(tail)
    return sequence, _read_body(kind, tail[TAIL_FORM.size :]), begin + length


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
    serial, index, attempt_number, started_at = BEGUN_FORM.unpack_from(body)
    _check_wall(started_at)
    return Begun(serial, index, attempt_number, started_at, body[BEGUN_FORM.size :].decode("ascii"))


def _read_ended(body: bytes) -> Ended:
    serial, index, number, unscheduled_attempts, duration_seconds, flags, *codes = ENDED_FORM.unpack(body)
    _check_wall(duration_seconds)
    outcome = _outcome(*codes, duration_seconds=duration_seconds)
    maybe_received, request_sent = bool(flags & MAYBE_RECEIVED), bool(flags & REQUEST_SENT)
    return Ended(serial, index, number, unscheduled_attempts, duration_seconds, maybe_received, request_sent, outcome)


def _read_settled(body: bytes) -> Settled:
    serial, index, status, reason, event_status = SETTLED_FORM.unpack(body)
    return Settled(serial, index, _known_status(status), REASONS[reason], STATUSES[event_status])


def _read_cancelled(body: bytes) -> Cancelled:
    return Cancelled(*CANCELLED_FORM.unpack(body))


def _read_unrecorded(_: bytes) -> Unrecorded:
    return Unrecorded()


def _read_row(body: bytes) -> Row:
    fields = ROW_FORM.unpack_from(body)
    cause, was, serial, accepted_at, payload_bytes, delivery_count, id_chars, client_chars, type_chars = fields
    _check_wall(accepted_at)
    chars = id_chars + client_chars + type_chars
    ids = _text(body, ROW_FORM.size, chars)
    at = ROW_FORM.size + chars
    traceparent = expires_at = None
    if cause & TRACED:
        traceparent = traceparent_from(_text(body, at, TRACEPARENT_CHARS))
        at += TRACEPARENT_CHARS
    if cause & EXPIRES:
        (expires_at,) = EXPIRY_FORM.unpack_from(body, at)
        _check_wall(expires_at)
        at += EXPIRY_FORM.size
    deliveries = []
    for _ in range(delivery_count):
        delivery, at = _read_delivery(body, at)
        deliveries.append(delivery)
    payload = None if payload_bytes == NO_PAYLOAD else _part(body, at, payload_bytes)
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
        bundle=bundled(deliveries),
        traceparent=traceparent,
    )
    if expires_at is not None:
        event = expiring(event, expires_at, now=NEVER)  # when that is by a clock of that run is not asked any more
    return Row(Cause(cause & ~(TRACED | EXPIRES)), STATUSES[was], event)


def _read_delivery(body: bytes, at: int) -> tuple[Delivery, int]:
    fields = DELIVERY_FORM.unpack_from(body, at)
    status, reason, flags, crash_count, id_chars, url_chars, count, unscheduled, started_at, duration, *codes = fields
    _check_wall(started_at)
    _check_wall(duration)
    at += DELIVERY_FORM.size
    text = _text(body, at, id_chars + url_chars)
    history = b""
    in_flight = bool(flags & IN_FLIGHT)
    if flags & HAS_ATTEMPT:
        outcome = _outcome(*codes, duration_seconds=duration)
        sent = bool(flags & REQUEST_SENT)
        history = of_one(Attempt(count, started_at, None if in_flight else duration, outcome, sent))
    delivery = Delivery(
        endpoint_id=text[:id_chars],
        url=text[id_chars:],
        opened_at=0.0,
        due_at=None,
        status=_known_status(status),
        attempt_count=count,
        in_flight=in_flight,
        history=history,
        particulars=Particulars(
            reason=REASONS[reason],
            attempts_before=unscheduled,
            maybe_received=bool(flags & MAYBE_RECEIVED),
            crash_count=crash_count,
            abandoned_as=Reason.CANCELLED if flags & IS_CANCELLED else None,
        ),
    )
    return delivery, at + id_chars + url_chars


def _text(body: bytes, at: int, length: int) -> str:
    return _part(body, at, length).decode("ascii")


def _known_status(code: int) -> Status:
    status = STATUSES[code]
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
    Kind.CANCELLED: _read_cancelled,
    Kind.UNRECORDED: _read_unrecorded,
}
