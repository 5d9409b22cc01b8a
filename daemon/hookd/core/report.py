"""Owns the report that every stop ends with: what was lost, whose, how old, why, and whether to send it again.

Rules:
 1. The report is read off the ledger once nothing moves any more. Its sums are the ledger's totals.
 2. It claims nothing that is not known.
 3. Its lines are made one at a time: a report of 100,000 deliveries needs no memory of its own.
Does not: choose where the report goes. That is flow/final_report's; the files are edge/reports', the text for a
terminal is core/report_text's, a crash report is core/crash's.
"""

import base64
import contextlib
import re
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from hookd.core import outcome as outcomes
from hookd.core.delivery import SETTLED, Delivery, Status
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.history import Attempt
from hookd.core.ledger import Ledger
from hookd.core.outcome import OutcomeName
from hookd.core.read_number import ReadNumber
from hookd.core.run import Run, Stop
from hookd.core.timestamps import Time, rfc3339, rfc3339_or_none
from hookd.core.totals import Totals

FORMAT = 1
CRASH = "crash"  # the trigger of a report that the next run made
CLASSES = ("never_attempted", "attempted_failed", "outcome_unknown")

# JSON allows these three raw inside strings; a reader that splits lines by Unicode's rules would break there.
_BREAKS_IN_STRINGS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_LINE_BREAK = re.compile("[\n\r\u0085\u2028\u2029]")


class EventCounts(msgspec.Struct, frozen=True):
    accepted: ReadNumber
    recovered: ReadNumber
    delivered: ReadNumber
    exhausted: ReadNumber
    undelivered: ReadNumber


class DeliveryCounts(msgspec.Struct, frozen=True):
    opened: ReadNumber
    delivered: ReadNumber
    exhausted: ReadNumber
    undelivered: ReadNumber


class Undelivered(msgspec.Struct, frozen=True):
    never_attempted: ReadNumber
    attempted_failed: ReadNumber
    outcome_unknown: ReadNumber


class ClientLine(msgspec.Struct, frozen=True):
    """What one endpoint is owed."""

    client_id: str
    endpoint_id: str
    undelivered: ReadNumber
    oldest_accepted_at: str
    failing_since: str | None
    last_error: str | None


class Recorded(msgspec.Struct, frozen=True):
    """What of a run's flight recorder is not in its crash report; all 0 where the report is complete."""

    unread_bytes: ReadNumber
    records_missing: ReadNumber
    events_unrecorded: ReadNumber  # there was no room for them
    broken_off: bool | msgspec.UnsetType = msgspec.UNSET  # True: it failed, and the run went on without it

    @property
    def is_whole(self) -> bool:
        missing = self.unread_bytes or self.records_missing or self.events_unrecorded
        return not missing and self.broken_off is not True


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The report's first line."""

    kind: str = "summary"
    format: ReadNumber = FORMAT
    run_id: str
    version: str
    host: str
    pid: ReadNumber
    started_at: str
    stopped_at: str
    trigger: str
    forced: bool
    drain_seconds: float
    events: EventCounts
    deliveries: DeliveryCounts
    undelivered: Undelivered
    balanced: bool
    exhausted_held: ReadNumber
    exhausted_forgotten: ReadNumber
    payloads: bool | msgspec.UnsetType = msgspec.UNSET  # False: the lines have none, and cannot be sent again
    recovery: bool | msgspec.UnsetType = msgspec.UNSET  # True: starts take back what reports list
    recorder: Recorded | msgspec.UnsetType = msgspec.UNSET  # of a crash report
    recorder_failure: str | msgspec.UnsetType = msgspec.UNSET  # why the run went on without its recorder, if it did
    operations: EventCounts | msgspec.UnsetType = msgspec.UNSET  # hookd's own, in no other count and no line
    clients: list[ClientLine]


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt, in the report and in the API; `outcome` is null while it is in flight, and where a stop cut it."""

    number: Annotated[int, Meta(ge=1, examples=[1])]
    started_at: Time
    duration_seconds: Annotated[float, Meta(ge=0, examples=[0.041])] | None
    outcome: Annotated[OutcomeName, Meta(examples=["responded"])] | None
    status_code: Annotated[int, Meta(examples=[503])] | None
    request_sent: Annotated[bool, Meta(description="The whole request was written, so the client may have it")]
    reconnected: Annotated[bool, Meta(description="It was sent once more, since a kept connection was stale")]
    error: Annotated[str, Meta(description="What went wrong, in words; null for an answer")] | None
    response_excerpt: Annotated[str, Meta(description="The first KiB of the last failed attempt's answer")] | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One undelivered or exhausted delivery. `class` is a word of Python's: hence the rename."""

    kind: str
    class_: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="class")
    reason: str | msgspec.UnsetType = msgspec.UNSET
    maybe_received: bool | msgspec.UnsetType = msgspec.UNSET  # of an exhausted one, which has no class
    crash_count: int | msgspec.UnsetType = msgspec.UNSET  # at how many crashes it was in flight, where at any
    unscheduled_attempts: int | msgspec.UnsetType = msgspec.UNSET  # those that took nothing from the schedule, if any
    cancelled: bool | msgspec.UnsetType = msgspec.UNSET  # True: of an undelivered one that is not to be attempted
    event_id: str
    client_id: str
    endpoint_id: str
    url: str
    type: str
    accepted_at: str
    expires_at: str | msgspec.UnsetType = msgspec.UNSET  # the event's own, where it has one
    attempt_count: int
    next_attempt_at: str | None
    last_outcome: AttemptView | None
    traceparent: str | msgspec.UnsetType = msgspec.UNSET  # where one came with the event
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | msgspec.UnsetType = msgspec.UNSET


def class_of(delivery: Delivery) -> str:
    """What is known of an undelivered delivery (contract section 7)."""
    if delivery.particulars.maybe_received:
        return "outcome_unknown"
    return "attempted_failed" if delivery.attempt_count else "never_attempted"


def undelivered(ledger: Ledger) -> Iterator[tuple[Event, Delivery]]:
    """In the order of acceptance: a recovery admits line by line, and strict order is the order of admission."""
    for event in sorted(ledger.unsettled, key=attrgetter("sequence")):
        for delivery in event.deliveries:
            if delivery.status not in SETTLED:
                yield event, delivery


def exhausted(ledger: Ledger) -> Iterator[tuple[Event, Delivery]]:
    """The exhausted deliveries still held, those of events that are not settled yet among them."""
    for events in (ledger.unsettled, ledger.exhausted()):
        for event in events:
            for delivery in event.deliveries:
                if delivery.status is Status.EXHAUSTED:
                    yield event, delivery


class Owed(NamedTuple):
    """What one endpoint is owed."""

    deliveries: int
    oldest_accepted_at: float


def tally(deliveries: Iterable[tuple[Event, Delivery]]) -> tuple[dict[str, int], dict[tuple[str, str], Owed]]:
    """Counts of the undelivered: by class, and by client and endpoint."""
    by_class = dict.fromkeys(CLASSES, 0)
    oldest: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], int] = {}
    for event, delivery in deliveries:  # a million at a stop, in one go
        by_class[class_of(delivery)] += 1
        key, accepted_at = (event.client_id, delivery.endpoint_id), event.accepted_at
        if accepted_at < oldest.setdefault(key, accepted_at):
            oldest[key] = accepted_at
        counts[key] = counts.get(key, 0) + 1
    return by_class, {key: Owed(count, oldest[key]) for key, count in counts.items()}


def summarise(ledger: Ledger, run: Run, stop: Stop, *, payloads: bool = True, recovery: bool = False) -> Summary:
    totals = ledger.totals()
    by_class, by_endpoint = tally(undelivered(ledger))
    deliveries = DeliveryCounts(
        opened=totals.opened,
        delivered=totals.deliveries[Status.DELIVERED],
        exhausted=totals.deliveries[Status.EXHAUSTED],
        undelivered=sum(by_class.values()),
    )
    events, own = _event_counts(totals, len(ledger.unsettled)), ledger.operations.snapshot()
    counted = Counted(events, deliveries, by_class, totals.exhausted_held, totals.exhausted_forgotten)
    return summary_of(
        run,
        stop,
        counted,
        _client_lines(ledger, by_endpoint),
        is_whole=totals.is_balanced,
        payloads=payloads,
        recovery=recovery,
        recorder_failure=ledger.recorder.failure or msgspec.UNSET,
        operations=_event_counts(own, own.unsettled_events) if own.accepted else msgspec.UNSET,
    )


def _event_counts(totals: Totals, undelivered: int) -> EventCounts:
    delivered, exhausted = totals.events[Status.DELIVERED], totals.events[Status.EXHAUSTED]
    return EventCounts(totals.accepted, totals.recovered, delivered, exhausted, undelivered)


class Counted(NamedTuple):
    """The sums of a report."""

    events: EventCounts
    deliveries: DeliveryCounts
    undelivered: dict[str, int]  # by class
    exhausted_held: int
    exhausted_forgotten: int


def summary_of(
    run: Run,
    stop: Stop,
    counted: Counted,
    clients: list[ClientLine],
    *,
    is_whole: bool,
    payloads: bool,
    recovery: bool,
    recorder: Recorded | msgspec.UnsetType = msgspec.UNSET,
    recorder_failure: str | msgspec.UnsetType = msgspec.UNSET,
    operations: EventCounts | msgspec.UnsetType = msgspec.UNSET,
) -> Summary:
    """The first line of either kind of report. `is_whole`: what was counted is all there was."""
    return Summary(
        run_id=run.run_id,
        version=run.version,
        host=run.host,
        pid=run.pid,
        started_at=rfc3339(run.started_at),
        stopped_at=rfc3339(stop.stopped_at),
        trigger=stop.trigger,
        forced=stop.forced,
        drain_seconds=round(stop.drain_seconds, 3),
        events=counted.events,
        deliveries=counted.deliveries,
        undelivered=Undelivered(**counted.undelivered),
        balanced=is_whole and is_balanced(counted.events, counted.deliveries),
        exhausted_held=counted.exhausted_held,
        exhausted_forgotten=counted.exhausted_forgotten,
        payloads=msgspec.UNSET if payloads else False,
        recovery=recovery or msgspec.UNSET,
        recorder=recorder,
        recorder_failure=recorder_failure,
        operations=operations,
        clients=sorted(clients, key=lambda line: (-line.undelivered, line.client_id, line.endpoint_id)),
    )


def is_balanced(events: EventCounts, deliveries: DeliveryCounts) -> bool:
    """What was counted one by one equals what was counted as it came. A difference is a bug, and the report says so."""
    return (
        events.accepted == events.delivered + events.exhausted + events.undelivered
        and deliveries.opened == deliveries.delivered + deliveries.exhausted + deliveries.undelivered
    )


def lines(ledger: Ledger, *, now_monotonic: float, now_wall: float, payloads: bool) -> Iterator[Line]:
    """The report's lines after the summary: the undelivered, then the exhausted still held."""
    for event, delivery in undelivered(ledger):
        begins_at = ledger.terms.begins_at(event, delivery, now=now_monotonic)
        yield line_of(
            event,
            delivery,
            last_outcome(ledger, event, delivery),
            payloads=payloads,
            kind="undelivered",
            class_=class_of(delivery),
            next_attempt_at=rfc3339_or_none(None if begins_at is None else now_wall + begins_at - now_monotonic),
        )
    for event, delivery in exhausted(ledger):
        assert delivery.reason is not None
        yield line_of(
            event,
            delivery,
            last_outcome(ledger, event, delivery),
            payloads=payloads,
            kind="exhausted",
            maybe_received=delivery.maybe_received,
            reason=delivery.reason.value,
            next_attempt_at=None,
        )


def last_outcome(ledger: Ledger, event: Event, delivery: Delivery) -> AttemptView | None:
    if not delivery.history:
        return None
    last = delivery.last_attempt
    return attempt_view(last, ledger.excerpt(event, delivery, last.number))


def attempt_view(attempt: Attempt, excerpt: str | None) -> AttemptView:
    """One attempt as the report and the API show it."""
    duration_seconds = attempt.duration_seconds
    return AttemptView(
        number=attempt.number,
        started_at=rfc3339(attempt.started_at),
        duration_seconds=None if duration_seconds is None else round(duration_seconds, 6),
        outcome=None if attempt.outcome is None else outcomes.name(attempt.outcome),
        status_code=outcomes.status_code(attempt.outcome),
        request_sent=attempt.request_sent,
        reconnected=attempt.reconnected,
        error=outcomes.error(attempt.outcome),
        response_excerpt=excerpt,
    )


def one_line(payload: bytes) -> bytes:
    """The same JSON value on one line. A line break is white space outside strings; inside, JSON has it escaped."""
    text = payload.decode()
    if not _LINE_BREAK.search(text):
        return payload
    return _LINE_BREAK.sub(lambda match: _BREAKS_IN_STRINGS.get(match[0], " "), text).encode()


def _client_lines(ledger: Ledger, by_endpoint: dict[tuple[str, str], Owed]) -> list[ClientLine]:
    found = []
    for (client_id, endpoint_id), owed in by_endpoint.items():
        health = ledger.health(client_id, endpoint_id) or Health()
        found.append(client_line(client_id, endpoint_id, owed, health.failing_since, health.last_error))
    return found


def client_line(
    client_id: str, endpoint_id: str, owed: Owed, failing_since: float | None, last_error: str | None
) -> ClientLine:
    return ClientLine(
        client_id=client_id,
        endpoint_id=endpoint_id,
        undelivered=owed.deliveries,
        oldest_accepted_at=rfc3339(owed.oldest_accepted_at),
        failing_since=rfc3339_or_none(failing_since),
        last_error=last_error,
    )


def line_of(event: Event, delivery: Delivery, last: AttemptView | None, *, payloads: bool, **fields: Any) -> Line:
    if payloads and event.payload is not None:
        fields |= _payload_fields(event.payload)
    return Line(
        event_id=event.id,
        client_id=event.client_id,
        endpoint_id=delivery.endpoint_id,
        url=delivery.url,
        type=event.type,
        accepted_at=rfc3339(event.accepted_at),
        expires_at=msgspec.UNSET if event.expires_at is None else rfc3339(event.expires_at),
        attempt_count=delivery.attempt_count,
        cancelled=delivery.is_cancelled or msgspec.UNSET,
        crash_count=delivery.crash_count or msgspec.UNSET,
        unscheduled_attempts=delivery.unscheduled_attempts or msgspec.UNSET,
        last_outcome=last,
        traceparent=event.traceparent or msgspec.UNSET,
        **fields,
    )


def _payload_fields(payload: bytes) -> dict[str, Any]:
    """Raw where it can be read in a line; its bytes too where the line cannot show them as they are."""
    fields: dict[str, Any] = {}
    with contextlib.suppress(UnicodeDecodeError):
        fields["payload"] = msgspec.Raw(shown := one_line(payload))
        if shown == payload:
            return fields
    return fields | {"payload_base64": base64.b64encode(payload).decode()}
