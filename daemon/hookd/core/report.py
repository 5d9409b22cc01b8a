"""Owns the account that every stop ends with: what was lost, whose, how old, why, and whether to send it again.

Rules: it is read off the ledger once nothing moves any more and sums to the ledger's totals; it claims nothing
that is not known. Lines are made one at a time, so that a report of 100,000 deliveries needs no memory of its own.
Where it goes (log, stderr, file) is edge/reports'.
"""

import base64
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from hookd.core import outcome as outcomes
from hookd.core.delivery import Attempt, Delivery, Status
from hookd.core.event import Event
from hookd.core.health import Health
from hookd.core.ledger import Ledger
from hookd.core.outcome import OutcomeName
from hookd.core.timestamps import Time, parse_rfc3339, rfc3339, rfc3339_or_none
from hookd.core.units import format_duration

FORMAT = 1
CRASH = "crash"  # the trigger of a report that the next run made
TEXT_LINES_MAX = 25
TEXT_COLUMNS_MAX = 100
CLASSES = ("never_attempted", "attempted_failed", "outcome_unknown")

# JSON allows these three raw inside strings, and readers that split lines by Unicode's rules break there.
_BREAKS_IN_STRINGS = {"\u0085": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_LINE_BREAK = re.compile("[\n\r\u0085\u2028\u2029]")


class Run(msgspec.Struct, frozen=True):
    """Which run this is about."""

    run_id: str
    version: str
    host: str
    pid: int
    started_at: float  # wall


class Stop(msgspec.Struct, frozen=True):
    """How the run ended. `trigger` is SIGTERM, SIGINT, error or crash."""

    stopped_at: float  # wall
    trigger: str
    forced: bool
    drain_seconds: float


class EventCounts(msgspec.Struct, frozen=True):
    accepted: int
    recovered: int
    delivered: int
    exhausted: int
    undelivered: int


class DeliveryCounts(msgspec.Struct, frozen=True):
    opened: int
    delivered: int
    exhausted: int
    undelivered: int


class Undelivered(msgspec.Struct, frozen=True):
    never_attempted: int
    attempted_failed: int
    outcome_unknown: int


class ClientLine(msgspec.Struct, frozen=True):
    """What one endpoint is owed."""

    client_id: str
    endpoint_id: str
    undelivered: int
    oldest_accepted_at: str
    failing_since: str | None
    last_error: str | None


class Recorded(msgspec.Struct, frozen=True):
    """What of a run's flight recorder is not in its crash report; all 0 where the report is complete."""

    unread_bytes: int
    records_missing: int
    events_unrecorded: int  # there was no room for them

    @property
    def is_whole(self) -> bool:
        return not (self.unread_bytes or self.records_missing or self.events_unrecorded)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The report's first line."""

    kind: str = "summary"
    format: int = FORMAT
    run_id: str
    version: str
    host: str
    pid: int
    started_at: str
    stopped_at: str
    trigger: str
    forced: bool
    drain_seconds: float
    events: EventCounts
    deliveries: DeliveryCounts
    undelivered: Undelivered
    balanced: bool
    exhausted_held: int
    exhausted_forgotten: int
    payloads: bool | msgspec.UnsetType = msgspec.UNSET  # False: the lines have none, and cannot be sent again
    recovery: bool | msgspec.UnsetType = msgspec.UNSET  # True: starts take back what reports list
    recorder: Recorded | msgspec.UnsetType = msgspec.UNSET  # of a crash report
    clients: list[ClientLine]


class Pruned(msgspec.Struct, frozen=True):
    """What became of the reports that are older than those to be kept."""

    deleted: int
    held: int  # they list undelivered deliveries that nobody claimed


class Unclaimed(msgspec.Struct, frozen=True):
    """A report with something undelivered that nobody took up yet; `run_id` is None where it cannot be read."""

    path: str
    run_id: str | None


class AttemptView(msgspec.Struct, frozen=True):
    """One attempt, in the report and in the API; `outcome` is null while it is in flight, and where a stop cut it."""

    number: Annotated[int, Meta(ge=1, examples=[1])]
    started_at: Time
    duration_seconds: Annotated[float, Meta(ge=0, examples=[0.041])] | None
    outcome: Annotated[OutcomeName, Meta(examples=["responded"])] | None
    status_code: Annotated[int, Meta(examples=[503])] | None
    request_sent: Annotated[bool, Meta(description="The whole request was written, so the client may have it")]
    error: Annotated[str, Meta(description="What went wrong, in words; null for an answer")] | None
    response_excerpt: Annotated[str, Meta(description="The first KiB of the last failed attempt's answer")] | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One undelivered or exhausted delivery. `class` is a word of Python's: hence the rename."""

    kind: str
    class_: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="class")
    reason: str | msgspec.UnsetType = msgspec.UNSET
    maybe_received: bool | msgspec.UnsetType = msgspec.UNSET  # of an exhausted one, which has no class
    crash_count: int | msgspec.UnsetType = msgspec.UNSET  # at how many crashes it was in flight, where at any
    event_id: str
    client_id: str
    endpoint_id: str
    url: str
    type: str
    accepted_at: str
    attempt_count: int
    next_attempt_at: str | None
    last_outcome: AttemptView | None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    payload_base64: str | msgspec.UnsetType = msgspec.UNSET


def class_of(delivery: Delivery) -> str:
    """What is known of an undelivered delivery (contract section 7)."""
    if delivery.maybe_received:
        return "outcome_unknown"
    return "attempted_failed" if delivery.attempt_count else "never_attempted"


def undelivered(ledger: Ledger) -> Iterator[tuple[Event, Delivery]]:
    for event in ledger.unsettled.values():
        for delivery in event.deliveries:
            if not delivery.is_settled:
                yield event, delivery


def exhausted(ledger: Ledger) -> Iterator[tuple[Event, Delivery]]:
    """The exhausted deliveries still held, those of events that are not settled yet among them."""
    for events in (ledger.unsettled.values(), ledger.exhausted()):
        for event in events:
            for delivery in event.deliveries:
                if delivery.status is Status.EXHAUSTED:
                    yield event, delivery


class Owed(NamedTuple):
    """What one endpoint is owed."""

    deliveries: int
    oldest_accepted_at: float


def tally(deliveries: Iterable[tuple[Event, Delivery]]) -> tuple[dict[str, int], dict[tuple[str, str], Owed]]:
    """The undelivered by class, and by client and endpoint."""
    by_class = dict.fromkeys(CLASSES, 0)
    by_endpoint: dict[tuple[str, str], Owed] = {}
    for event, delivery in deliveries:
        by_class[class_of(delivery)] += 1
        key = (event.client_id, delivery.endpoint_id)
        count, oldest = by_endpoint.get(key, (0, event.accepted_at))
        by_endpoint[key] = Owed(count + 1, min(oldest, event.accepted_at))
    return by_class, by_endpoint


def summarise(ledger: Ledger, run: Run, stop: Stop, *, payloads: bool = True, recovery: bool = False) -> Summary:
    totals = ledger.totals()
    by_class, by_endpoint = tally(undelivered(ledger))
    counted = sum(by_class.values())
    deliveries = DeliveryCounts(
        opened=totals.opened,
        delivered=totals.deliveries[Status.DELIVERED],
        exhausted=totals.deliveries[Status.EXHAUSTED],
        undelivered=counted,
    )
    events = EventCounts(
        accepted=totals.accepted,
        recovered=totals.recovered,
        delivered=totals.events[Status.DELIVERED],
        exhausted=totals.events[Status.EXHAUSTED],
        undelivered=len(ledger.unsettled),
    )
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
        events=events,
        deliveries=deliveries,
        undelivered=Undelivered(**by_class),
        balanced=is_balanced(events, deliveries) and totals.is_balanced,
        exhausted_held=totals.exhausted_held,
        exhausted_forgotten=totals.exhausted_forgotten,
        payloads=msgspec.UNSET if payloads else False,
        recovery=recovery or msgspec.UNSET,
        clients=_client_lines(ledger, by_endpoint),
    )


def is_balanced(events: EventCounts, deliveries: DeliveryCounts) -> bool:
    """Counted one by one against counted as they came: a difference is a bug, and is said rather than hidden."""
    return (
        events.accepted == events.delivered + events.exhausted + events.undelivered
        and deliveries.opened == deliveries.delivered + deliveries.exhausted + deliveries.undelivered
    )


def lines(ledger: Ledger, *, now_monotonic: float, now_wall: float, payloads: bool) -> Iterator[Line]:
    """The report's lines after the summary: the undelivered, then the exhausted still held."""
    for event, delivery in undelivered(ledger):
        begins_at = ledger.begins_at(event, delivery)
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
    if not delivery.attempts:
        return None
    return attempt_view(delivery.attempts[-1], ledger.excerpt(event, delivery, delivery.attempts[-1].number))


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
        error=outcomes.error(attempt.outcome),
        response_excerpt=excerpt,
    )


def one_line(payload: bytes) -> bytes:
    """The same JSON value without a line break: outside strings they are white space, inside only as escapes."""
    text = payload.decode()
    if not _LINE_BREAK.search(text):
        return payload
    return _LINE_BREAK.sub(lambda match: _BREAKS_IN_STRINGS.get(match[0], " "), text).encode()


def text(summary: Summary, *, path: str | None) -> str:
    """The summary for someone woken by it: at most 25 lines of 100 columns, most important first."""
    lost, deliveries = summary.undelivered, summary.deliveries
    rows = [
        f"hookd {summary.version} run {summary.run_id} {_ending(summary)}",
        _sum("events", "accepted", summary.events.accepted, summary.events),
        _sum("deliveries", "opened", deliveries.opened, deliveries),
    ]
    if isinstance(summary.recorder, Recorded) and not summary.recorder.is_whole:
        rows.append(_text_not_whole(summary.recorder))
    elif not summary.balanced:
        rows.append("THE TOTALS DO NOT BALANCE: that is a bug of hookd; keep this report and say so.")
    if not deliveries.undelivered:
        rows.append("Nothing was left undelivered.")
        if summary.exhausted_held:
            rows.append(f"{summary.exhausted_held:,} given up earlier (exhausted) are listed in the report.")
    else:
        rows += [
            f"UNDELIVERED: {deliveries.undelivered:,} deliveries",
            f"  never_attempted  {lost.never_attempted:>9,}  no attempt began: safe to send again",
            f"  attempted_failed {lost.attempted_failed:>9,}  refused or not sent: safe to send again",
            f"  outcome_unknown  {lost.outcome_unknown:>9,}  sent, no answer read: the client may have it;",
            "                              sending again may duplicate, under the same webhook-id",
        ]
        rows += _text_clients(summary)
    if path is not None:
        rows.append(f"report: {path}")
    if deliveries.undelivered and summary.payloads is False:
        rows.append("Nothing will be sent, and it holds no payloads: post these events again from your own records,")
        rows.append("under the same ids.")
    elif deliveries.undelivered and path is not None:
        if summary.recovery is True:
            rows.append("Recovery is on: a start sends these again, once. By hand, once a daemon runs:")
        else:
            rows.append("Nothing will be sent until someone does; once a daemon runs again:")
        rows.append(f"  hookd resend {shlex.quote(path)}")
    assert len(rows) <= TEXT_LINES_MAX
    return "".join(f"{_clip(row)}\n" for row in rows)


def text_not_written(why: str, summary: Summary | None, *, is_recorded: bool) -> str:
    """For someone woken by a report that has no file: what is left of it, and what to do before that is gone, too."""
    rows = [f"THE REPORT COULD NOT BE WRITTEN: {why}"]
    if summary is not None and not summary.deliveries.undelivered:
        rows += ["Nothing was left undelivered, so nothing has to be done about this run."]
    elif is_recorded:
        rows += [
            "There is no such file, but the flight recorder is kept, in memory: give the report directory room",
            "and start hookd again on this host, with the same settings. The crash report that it makes then",
            "names every undelivered event. A reboot, or the end of this container or pod, loses the recorder.",
        ]
    else:
        rows += [
            "There is no such file, and the flight recorder is off: the summary is all there is. Post again",
            "what your own records do not show as settled, under the same ids.",
        ]
    return "".join(f"{_clip(row)}\n" for row in rows)


def _ending(summary: Summary) -> str:
    if summary.trigger == CRASH:
        return f"crashed or was killed; last heard of {summary.stopped_at}"
    how = f"{summary.trigger}{', forced' if summary.forced else ''}"
    return f"stopped {summary.stopped_at} ({how}, drained {summary.drain_seconds:g} s)"


def _text_not_whole(recorded: Recorded) -> str:
    return (
        f"THE RECORDER IS NOT WHOLE: {recorded.unread_bytes:,} bytes unread, "
        f"{recorded.records_missing:,} records missing, {recorded.events_unrecorded:,} events unrecorded"
    )


def _sum(what: str, came_in: str, total: int, counts: EventCounts | DeliveryCounts) -> str:
    parts = f"{counts.delivered:,} delivered + {counts.exhausted:,} exhausted + {counts.undelivered:,} undelivered"
    return f"{what}: {total:,} {came_in} = {parts}"


def _text_clients(summary: Summary) -> list[str]:
    """The endpoints owed most, as many as leave room for the rest."""
    shown, hidden = summary.clients[:10], summary.clients[10:]
    stopped = parse_rfc3339(summary.stopped_at)
    rows = ["  owed (deliveries, oldest, to client/endpoint, why):"]
    for line in shown:
        age = format_duration(max(0, round(stopped - parse_rfc3339(line.oldest_accepted_at))))
        why = line.last_error or "not attempted, or no failure yet"
        rows.append(f"    {line.undelivered:,}  {age}  {line.client_id}/{line.endpoint_id}  {why}")
    if hidden:
        rest = sum(line.undelivered for line in hidden)
        rows.append(f"    and {len(hidden):,} more endpoints with {rest:,} deliveries, all in the report")
    return rows


def _clip(row: str) -> str:
    """Paths are never cut: a command that cannot be pasted is worse than a long line. Errors may hold anything."""
    row = "".join(character if character.isprintable() else "?" for character in row)
    if len(row) <= TEXT_COLUMNS_MAX or row.startswith(("report: ", "  hookd ")):
        return row
    return row[: TEXT_COLUMNS_MAX - 1] + "…"


def _client_lines(ledger: Ledger, by_endpoint: dict[tuple[str, str], Owed]) -> list[ClientLine]:
    found = []
    for (client_id, endpoint_id), owed in by_endpoint.items():
        health = ledger.health(client_id, endpoint_id) or Health()
        found.append(client_line(client_id, endpoint_id, owed, health.failing_since, health.last_error))
    return most_owed_first(found)


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


def most_owed_first(lines: list[ClientLine]) -> list[ClientLine]:
    return sorted(lines, key=lambda line: (-line.undelivered, line.client_id, line.endpoint_id))


def line_of(event: Event, delivery: Delivery, last: AttemptView | None, *, payloads: bool, **fields: Any) -> Line:
    if payloads and event.payload is not None:
        fields["payload"] = msgspec.Raw(shown := one_line(event.payload))
        if shown != event.payload:
            fields["payload_base64"] = base64.b64encode(event.payload).decode()
    return Line(
        event_id=event.id,
        client_id=event.client_id,
        endpoint_id=delivery.endpoint_id,
        url=delivery.url,
        type=event.type,
        accepted_at=rfc3339(event.accepted_at),
        attempt_count=delivery.attempt_count,
        crash_count=delivery.crash_count or msgspec.UNSET,
        last_outcome=last,
        **fields,
    )
