"""Owns the crash report: a run's recording in the form of a shutdown report. The next run makes it.

Rules:
 1. It has the lines and sums of a shutdown report, and claims no more than the records say.
 2. `stopped_at` is when the run was last heard of.
 3. What the recorder does not keep is null: `next_attempt_at`, `failing_since`, an attempt's excerpt.
 4. Of the exhausted deliveries, those of unsettled events are listed. Settled events are not recorded any more.
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
    Counted,
    DeliveryCounts,
    EventCounts,
    Line,
    Owed,
    Recorded,
    Summary,
    attempt_view,
    class_of,
    client_line,
    line_of,
    summary_of,
    tally,
)
from hookd.core.run import Run, Stop


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
    counted = Counted(
        events, deliveries, by_class, exhausted_held, max(0, counts.deliveries_exhausted - exhausted_held)
    )
    run = Run(recording.run_id, identity.version, identity.host, identity.pid, identity.started_at)
    return summary_of(
        run,
        Stop(max(heard_at, recording.last_wall), CRASH, forced=False, drain_seconds=0.0),
        counted,
        _client_lines(owed, by_endpoint),
        is_whole=recording.is_whole and not counts.unrecorded,
        payloads=identity.payloads,
        recovery=recovery,
        recorder=Recorded(
            recording.unread_bytes,
            recording.records_missing,
            counts.unrecorded,
            broken_off=recording.is_broken_off or msgspec.UNSET,
        ),
    )


def lines(recording: Recording) -> Iterator[Line]:
    """The undelivered, then the exhausted; payloads where the recorder held them."""
    for event, delivery in undelivered(recording):
        yield _line(event, delivery, kind="undelivered", class_=class_of(delivery))
    for event, delivery in exhausted(recording):
        reason = "" if delivery.reason is None else delivery.reason.value
        yield _line(event, delivery, kind="exhausted", maybe_received=delivery.maybe_received, reason=reason)


def _line(event: Event, delivery: Delivery, **fields: object) -> Line:
    last = attempt_view(delivery.last_attempt, None) if delivery.history else None
    return line_of(event, delivery, last, payloads=True, next_attempt_at=None, **fields)


def _client_lines(owed: list[tuple[Event, Delivery]], by_endpoint: dict[tuple[str, str], Owed]) -> list[ClientLine]:
    errors = {
        (event.client_id, delivery.endpoint_id): _last_error(delivery)
        for event, delivery in owed
        if delivery.history and delivery.last_attempt.outcome is not None
    }
    return [client_line(*key, one, None, errors.get(key)) for key, one in by_endpoint.items()]


def _last_error(delivery: Delivery) -> str | None:
    outcome = delivery.last_attempt.outcome
    code = outcomes.status_code(outcome)
    return f"answered {code}" if code is not None else outcomes.error(outcome)
