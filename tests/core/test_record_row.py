"""What is written of a row and of an end is what is read of it."""

from typing import Any

import pytest
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event, Submission
from hookd.core.expiring_event import ExpiringEvent
from hookd.core.outcome import Responded
from hookd.core.record import Cancelled, Cause, Row, Settled
from hookd.core.record_reader import read_framed
from hookd.core.record_writer import cancelled_record, row_record, settled_record
from hookd.core.retry import Reason, Success

from tests.core.test_crash import Run, busy


def known(delivery: Delivery) -> dict[str, Any]:
    last = delivery.last_attempt if delivery.history else None
    return {
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.url,
        "status": delivery.status,
        "reason": delivery.reason,
        "attempt_count": delivery.attempt_count,
        "unscheduled_attempts": delivery.unscheduled_attempts,
        "in_flight": delivery.in_flight,
        "maybe_received": delivery.maybe_received,
        "crash_count": delivery.crash_count,
        "last": last and (last.number, last.started_at, last.duration_seconds, last.outcome, last.request_sent),
    }


@pytest.mark.parametrize("payload", [None, b"", b'{"a": 1}'])
def test_row_is_read_as_it_was_written(payload: bytes | None) -> None:
    """With its last attempt: how it ended and how long it took, or that it has not ended."""
    run = busy()
    flying = run.open("flying", "a", "b")
    run.ledger.begin_attempt(flying, flying.deliveries[1], url="https://b.example/", now=run.now)
    flying.deliveries[1].crash_count = 2
    events = list(run.ledger.unsettled)
    assert len(events) == 4
    for event in events:
        record = row_record(7, event, Cause.CARRIED, Status.FAILED, payload=payload)
        framed = read_framed(record, 0)
        assert framed is not None
        sequence, row, end = framed
        assert isinstance(row, Row)
        assert (sequence, row.cause, row.was, end) == (7, Cause.CARRIED, Status.FAILED, len(record))
        read = row.event
        assert (read.sequence, read.id, read.client_id, read.type) == (event.sequence, event.id, "acme", "invoice.paid")
        assert (read.accepted_at, read.payload) == (event.accepted_at, payload)
        assert list(map(known, read.deliveries)) == list(map(known, event.deliveries))


def settled(run: Run, event: Event, index: int, then: Status | None) -> object:
    framed = read_framed(settled_record(7, event, event.deliveries[index], then), 0)
    assert framed is not None
    return framed[1]


def test_end_is_read_as_it_was_written() -> None:
    """Which of the event's deliveries it was, what it came to and what the event came to, however many it has."""
    run = Run()
    one, two = run.open("one", "a"), run.open("two", "a", "b")
    run.attempt(one, "a", Responded(200), Success())
    assert settled(run, one, 0, Status.DELIVERED) == Settled(one.sequence, 0, Status.DELIVERED, None, Status.DELIVERED)
    for index, endpoint_id in enumerate("ab"):
        run.attempt(two, endpoint_id, Responded(200), Success())
        for then in (None, Status.DELIVERED):
            assert settled(run, two, index, then) == Settled(two.sequence, index, Status.DELIVERED, None, then)
    three = run.open("three", "a")
    run.ledger.give_up(three, three.deliveries[0], Reason.EXPIRED, now=run.now)
    ended = Settled(three.sequence, 0, Status.EXHAUSTED, Reason.EXPIRED, Status.EXHAUSTED)
    assert settled(run, three, 0, Status.EXHAUSTED) == ended


@pytest.mark.parametrize("payload", [None, b'{"a": 1}'])
def test_row_of_what_expires_and_is_cancelled_is_read_as_it_was_written(payload: bytes | None) -> None:
    """The expiry to the last bit; which of the deliveries was cancelled, as long as that is unsettled."""
    run = Run()
    deliveries = tuple(
        Delivery(endpoint_id=one, url=f"https://{one}.example/", opened_at=0.0, due_at=0.0) for one in "ab"
    )
    event = run.ledger.open(Submission("acme", "t", b"{}", expires_at=2e9 + 1 / 3), "e", deliveries, now=run.now)
    run.ledger.cancel(event, deliveries[1])
    framed = read_framed(row_record(7, event, Cause.REOPENED, Status.EXHAUSTED, payload=payload), 0)
    assert framed is not None
    row = framed[1]
    assert isinstance(row, Row)
    assert (row.cause, row.event.payload, type(row.event)) == (Cause.REOPENED, payload, ExpiringEvent)
    assert row.event.expires_at == 2e9 + 1 / 3
    assert [one.is_cancelled for one in row.event.deliveries] == [False, True]
    framed = read_framed(cancelled_record(8, event, deliveries[1]), 0)
    assert framed is not None
    assert framed[1] == Cancelled(event.sequence, 1)
