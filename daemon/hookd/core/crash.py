"""Owns the crash report: a run's recording in the form of a shutdown report, made by the run after it.

Rules: the same lines and sums as a shutdown report's, and no more claimed than the records say. `stopped_at` is the
last that was heard of the run. The times and errors that the recorder does not keep (`next_attempt_at`,
`failing_since`, an attempt's excerpt) are null, and of the exhausted only those of events that were not settled are
listed.
"""

from collections.abc import Iterator

import msgspec

from hookd.core import outcome as outcomes
from hookd.core.delivery import Delivery, Status
from hookd.core.event import Event
from hookd.core.record import Header
from hookd.core.recording import Recording
from hookd.core.report import (
    CRASH,
    ClientLine,
    DeliveryCounts,
    EventCounts,
    Line,
    Owed,
    Recorded,
    Summary,
    Undelivered,
    attempt_view,
    class_of,
    client_line,
    is_balanced,
    line_of,
    most_owed_first,
    tally,
)
from hookd.core.timestamps import rfc3339


def undelivered(recording: Recording) -> Iterator[tuple[Event, Delivery]]:
    for event in recording.events.values():
        for delivery in event.deliveries:
            if not delivery.is_settled:
                yield event, delivery


def exhausted(recording: Recording) -> Iterator[tuple[Event, Delivery]]:
    for event in recording.events.values():
        for delivery in event.deliveries:
            if delivery.status is Status.EXHAUSTED:
                yield event, delivery


def summarise(recording: Recording, identity: Header, *, heard_at: float, recovery: bool = False) -> Summary:
    """`identity` says whose the recording is; its own header where that can be read."""
    counts = recording.counts
    owed = list(undelivered(recording))
    by_class, by_endpoint = tally(owed)
    exhausted_held = sum(1 for _ in exhausted(recording))
    events = EventCounts(
        accepted=counts.accepted,
        recovered=counts.recovered,
        delivered=counts.delivered,
        exhausted=counts.exhausted,
        undelivered=len(recording.events),
    )
    deliveries = DeliveryCounts(
        opened=counts.opened,
        delivered=counts.deliveries_delivered,
        exhausted=counts.deliveries_exhausted,
        undelivered=sum(by_class.values()),
    )
    return Summary(
        run_id=recording.run_id,
        version=identity.version,
        host=identity.host,
        pid=identity.pid,
        started_at=rfc3339(identity.started_at),
        stopped_at=rfc3339(max(heard_at, recording.last_wall)),
        trigger=CRASH,
        forced=False,
        drain_seconds=0.0,
        events=events,
        deliveries=deliveries,
        undelivered=Undelivered(**by_class),
        balanced=recording.is_whole and not counts.unrecorded and is_balanced(events, deliveries),
        exhausted_held=exhausted_held,
        exhausted_forgotten=max(0, counts.deliveries_exhausted - exhausted_held),
        payloads=msgspec.UNSET if identity.payloads else False,
        recovery=recovery or msgspec.UNSET,
        recorder=Recorded(recording.unread_bytes, recording.records_missing, counts.unrecorded),
        clients=_client_lines(owed, by_endpoint),
    )


def lines(recording: Recording) -> Iterator[Line]:
    """The undelivered, then the exhausted; payloads where the recorder held them."""
    for event, delivery in undelivered(recording):
        yield _line(event, delivery, kind="undelivered", class_=class_of(delivery))
    for event, delivery in exhausted(recording):
        reason = "" if delivery.reason is None else delivery.reason.value
        yield _line(event, delivery, kind="exhausted", maybe_received=delivery.maybe_received, reason=reason)


def _line(event: Event, delivery: Delivery, **fields: object) -> Line:
    last = attempt_view(delivery.attempts[-1], None) if delivery.attempts else None
    return line_of(event, delivery, last, payloads=True, next_attempt_at=None, **fields)


def _client_lines(owed: list[tuple[Event, Delivery]], by_endpoint: dict[tuple[str, str], Owed]) -> list[ClientLine]:
    errors = {
        (event.client_id, delivery.endpoint_id): _last_error(delivery)
        for event, delivery in owed
        if delivery.attempts and delivery.attempts[-1].outcome is not None
    }
    return most_owed_first([client_line(*key, one, None, errors.get(key)) for key, one in by_endpoint.items()])


def _last_error(delivery: Delivery) -> str | None:
    outcome = delivery.attempts[-1].outcome
    code = outcomes.status_code(outcome)
    return f"answered {code}" if code is not None else outcomes.error(outcome)
