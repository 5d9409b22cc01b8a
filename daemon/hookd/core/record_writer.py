"""Owns the writing of the flight recorder's records: what the ledger tells the recorder, as bytes.

Three records are written for each delivered event. There a call costs more than what it does, so the framing is
written out in each function, and comparisons stand in for look-ups.
Ids, types and URLs are ASCII (core/ids, core/urls). "replace" keeps their lengths, whatever comes.
"""

import struct
from functools import lru_cache
from zlib import crc32

import msgspec

from hookd.core import history
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.expiring_event import ExpiringEvent
from hookd.core.outcome import Outcome, Responded
from hookd.core.particulars import NOTHING
from hookd.core.record import (
    BEGUN_FORM,
    CANCELLED_FORM,
    COUNT_MAX,
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
    OUTCOME_CODES,
    REASONS,
    REQUEST_SENT,
    ROW_FORM,
    SETTLED_FORM,
    STATUS_CODES,
    TAIL_FORM,
    TRACED,
    Cause,
    Header,
    Kind,
)

_TAIL_ROW, _TAIL_BEGUN, _TAIL_ENDED, _TAIL_SETTLED, _TAIL_CANCELLED = (
    struct.Struct(TAIL_FORM.format + body.format.removeprefix("<"))
    for body in (ROW_FORM, BEGUN_FORM, ENDED_FORM, SETTLED_FORM, CANCELLED_FORM)
)
_TAIL_SERIAL = struct.Struct(TAIL_FORM.format + "Q")
# Of an event's only delivery: what follows the serial in `SETTLED_FORM`.
_DELIVERED_ALONE = SETTLED_FORM.pack(0, 0, STATUS_CODES[Status.DELIVERED], 0, STATUS_CODES[Status.DELIVERED])[8:]

# Written out, since to reach an enum's member through its class takes Python 3.11 as long as to pack it.
_PENDING, _DELIVERED = Status.PENDING, Status.DELIVERED
_KIND_ROW, _KIND_BEGUN, _KIND_ENDED, _KIND_SETTLED = map(int, (Kind.ROW, Kind.BEGUN, Kind.ENDED, Kind.SETTLED))


def header_record(sequence: int, header: Header) -> bytes:
    return _framed(TAIL_FORM.pack(sequence, Kind.HEADER) + msgspec.json.encode(header))


def row_record(
    sequence: int, event: Event, cause: Cause, was: Status | None, *, payload: bytes | None, urls: bool = True
) -> bytes:
    event_id, client_id, event_type, deliveries = event.id, event.client_id, event.type, event.deliveries
    traceparent = event.traceparent
    expiry = EXPIRY_FORM.pack(event.expires_at) if type(event) is ExpiringEvent else b""
    tail = _TAIL_ROW.pack(
        sequence,
        _KIND_ROW,
        cause | (0 if traceparent is None else TRACED) | (EXPIRES if expiry else 0),
        STATUS_CODES[was],
        event.sequence,
        event.accepted_at,
        NO_PAYLOAD if payload is None else len(payload),
        len(deliveries),
        len(event_id),
        len(client_id),
        len(event_type),
    )
    tail += (event_id + client_id + event_type + (traceparent or "")).encode("ascii", "replace") + expiry
    for delivery in deliveries:
        url = delivery.url if urls else ""
        is_new = not delivery.attempt_count and delivery.status is _PENDING and delivery.particulars is NOTHING
        tail += _new_delivery_part(delivery.endpoint_id, url) if is_new else _delivery_part(delivery, url)
    if payload is not None:
        tail += payload
    length = len(tail)
    return HEAD_FORM.pack(length, crc32(tail, length)) + tail


@lru_cache(maxsize=1024)  # of those that admit; at most 2.3 MB, where every URL is as long as it may be
def _new_delivery_part(endpoint_id: str, url: str) -> bytes:
    fixed = DELIVERY_FORM.pack(1, 0, 0, 0, len(endpoint_id), len(url), 0, 0, 0.0, 0.0, 0, 0)
    return fixed + (endpoint_id + url).encode("ascii", "replace")


def _delivery_part(delivery: Delivery, url: str) -> bytes:
    endpoint_id = delivery.endpoint_id
    started_at = duration_seconds = 0.0
    outcome = status_code = 0
    flags = (IN_FLIGHT if delivery.in_flight else 0) | (MAYBE_RECEIVED if delivery.maybe_received else 0)
    flags |= IS_CANCELLED if delivery.is_cancelled else 0
    if delivery.history:
        last = delivery.last_attempt
        flags |= HAS_ATTEMPT | (REQUEST_SENT if last.request_sent else 0)
        started_at, duration_seconds = last.started_at, last.duration_seconds or 0.0
        outcome, status_code = _outcome_codes(last.outcome)
    fixed = DELIVERY_FORM.pack(
        STATUS_CODES[delivery.status],
        REASONS.index(delivery.reason),
        flags,
        min(delivery.crash_count, 255),
        len(endpoint_id),
        len(url),
        min(delivery.attempt_count, COUNT_MAX),
        min(delivery.unscheduled_attempts, COUNT_MAX),
        started_at,
        duration_seconds,
        outcome,
        status_code,
    )
    return fixed + (endpoint_id + url).encode("ascii", "replace")


def begun_record(sequence: int, event: Event, delivery: Delivery) -> bytes:
    index = 0 if event.bundle is delivery else _index(event, delivery)
    number = delivery.attempt_count if delivery.attempt_count < COUNT_MAX else COUNT_MAX
    tail = _TAIL_BEGUN.pack(sequence, _KIND_BEGUN, event.sequence, index, number, history.started_at(delivery.history))
    tail += delivery.url.encode("ascii", "replace")
    length = len(tail)
    return HEAD_FORM.pack(length, crc32(tail, length)) + tail


def ended_record(sequence: int, event: Event, delivery: Delivery) -> bytes:
    last = delivery.last_attempt
    tail = _TAIL_ENDED.pack(
        sequence,
        _KIND_ENDED,
        event.sequence,
        _index(event, delivery),
        min(delivery.attempt_count, COUNT_MAX),
        min(delivery.unscheduled_attempts, COUNT_MAX),
        last.duration_seconds or 0.0,
        (MAYBE_RECEIVED if delivery.maybe_received else 0) | (REQUEST_SENT if last.request_sent else 0),
        *_outcome_codes(last.outcome),
    )
    return _framed(tail)


def settled_record(sequence: int, event: Event, delivery: Delivery, event_status: Status | None) -> bytes:
    if event_status is _DELIVERED and event.bundle is delivery:  # as nearly all events end
        tail = _TAIL_SERIAL.pack(sequence, _KIND_SETTLED, event.sequence) + _DELIVERED_ALONE
    else:
        tail = _TAIL_SETTLED.pack(
            sequence,
            _KIND_SETTLED,
            event.sequence,
            _index(event, delivery),
            STATUS_CODES[delivery.status],
            REASONS.index(delivery.reason),
            STATUS_CODES[event_status],
        )
    length = len(tail)
    return HEAD_FORM.pack(length, crc32(tail, length)) + tail


def cancelled_record(sequence: int, event: Event, delivery: Delivery) -> bytes:
    return _framed(_TAIL_CANCELLED.pack(sequence, Kind.CANCELLED, event.sequence, _index(event, delivery)))


def unrecorded_record(sequence: int) -> bytes:
    return _framed(TAIL_FORM.pack(sequence, Kind.UNRECORDED))


def _index(event: Event, delivery: Delivery) -> int:
    return event.deliveries.index(delivery)  # they compare by identity


def _framed(tail: bytes) -> bytes:
    return HEAD_FORM.pack(len(tail), crc32(tail, len(tail))) + tail


def _outcome_codes(outcome: Outcome | None) -> tuple[int, int]:
    if outcome is None:
        return 0, 0
    return OUTCOME_CODES[type(outcome)], outcome.status_code if isinstance(outcome, Responded) else 0
