"""Owns the shape of every answer, and the descriptions that several routes' parameters share.

rendering.py fills these Structs, openapi.py publishes them.

Rules: names, order and types are the contract's (section 5). Times are RFC 3339 in UTC. Numbers carry their unit in
their name. An attempt's shape is in core, because the report has it too.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hookd.core.delivery import Status
from hookd.core.guarded_recorder import RecorderState
from hookd.core.health import PausedBy, State
from hookd.core.ids import EventType, Id
from hookd.core.outcome import OutcomeName
from hookd.core.report import AttemptView
from hookd.core.retry import Reason
from hookd.core.run_history import PreviousRun
from hookd.core.timestamps import Time
from hookd.flow.resend import Answer

LIMIT_DEFAULT = 100
LIMIT_MAX = 1000

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="How many at most; a page may be shorter")]
Count = Annotated[int, Meta(ge=0, examples=[0])]
Seconds = Annotated[float, Meta(ge=0, examples=[0.5])]
Share = Annotated[float, Meta(ge=0, examples=[0.25])]
Standing = Annotated[Status, Meta(examples=["pending"])]
EndUnsettled = Annotated[bool, Meta(description="Give up what is unsettled of the endpoints that go")]
Cursor = Annotated[str, Meta(description="Where the next page begins; null: there is none")]
ClientId = Annotated[Id, Meta(examples=["acme"])]
EventId = Annotated[Id, Meta(examples=["in_1-paid"])]
EndpointId = Annotated[Id, Meta(examples=["default"])]
ShownUrl = Annotated[str, Meta(description="Without query values", examples=["https://example.com/hook"])]


class DeliveryView(msgspec.Struct):
    """The duty to bring an event to one endpoint."""

    endpoint_id: EndpointId
    url: ShownUrl
    status: Standing
    reason: Reason | None
    in_flight: bool
    attempt_count: Annotated[Count, Meta(description="Attempts begun, the one in flight included")]
    attempts_max: Annotated[Count, Meta(examples=[6])]
    next_attempt_at: Time | None
    expires_at: Annotated[Time, Meta(description="When it is given up as too old, or past its event's expiry")] | None
    ends_as: Annotated[Reason, Meta(description="It is unsettled, and only a 2xx in flight keeps it from that")] | None
    attempts: Annotated[list[AttemptView], Meta(description="Of a long history the first and the last nine")]


class EventView(msgspec.Struct):
    """An event as it stands."""

    id: EventId
    client_id: ClientId
    type: Annotated[EventType, Meta(examples=["invoice.paid"])]
    status: Standing
    unrouted: Annotated[bool, Meta(description="No endpoint of its client subscribes to it: it owes nothing")]
    accepted_at: Time
    expires_at: Annotated[Time, Meta(description="As its producer gave it")] | None
    settled_at: Time | None
    deliveries: list[DeliveryView]


class EventPage(msgspec.Struct):
    events: list[EventView]
    next_cursor: Cursor | None


class MistakeView(msgspec.Struct):
    pointer: Annotated[str, Meta(description="A JSON pointer into the body", examples=["/type"])]
    detail: str


class ProblemView(msgspec.Struct):
    """RFC 9457. What some problems have besides stands last."""

    type: Annotated[str, Meta(description="/problems/SLUG, which says what it means and what to do")]
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    remembers_since: Time | UnsetType = UNSET
    started_at: Time | UnsetType = UNSET
    clients: list[ClientId] | UnsetType = UNSET
    unsettled_deliveries: Count | UnsetType = UNSET
    retry_after_seconds: Annotated[int, Meta(ge=1, description="As the answer's Retry-After")] | UnsetType = UNSET
    errors: Annotated[list[MistakeView], Meta(description="The first 100")] | UnsetType = UNSET
    errors_omitted: Annotated[int, Meta(ge=1, description="How many more there are")] | UnsetType = UNSET


class BatchItem(msgspec.Struct):
    """One event of a batch; its `status` is null where a `partial` batch went on without it."""

    id: EventId | None
    client_id: Annotated[str, Meta(description="As in the body or the path", examples=["acme"])] | None
    status: Standing | None
    problem: ProblemView | UnsetType = UNSET


class BatchAnswer(msgspec.Struct):
    events: Annotated[list[BatchItem], Meta(description="In the order they were posted")]


class ResendAnswer(msgspec.Struct):
    lines: Annotated[list[Answer], Meta(description="In the order they were posted")]


class LastOutcomeView(msgspec.Struct):
    outcome: OutcomeName
    status_code: int | None
    error: str | None


class HealthView(msgspec.Struct):
    """How an endpoint fares."""

    state: Annotated[State, Meta(examples=["ok"])]
    state_since: Annotated[Time, Meta(description="Since when it is not ok")] | None
    paused_by: PausedBy | None
    gone: Annotated[Count, Meta(description="While disabled: deliveries given up since its 410")]
    failing: Annotated[bool, Meta(description="All its attempts failed, for 30 s at least; whatever its state")]
    failing_since: Time | None
    consecutive_failures: Count
    next_probe_at: Time | None
    not_before: Annotated[Time, Meta(description="Retry-After: no attempt begins earlier")] | None
    unsettled: Count
    in_flight: Count
    concurrency_now: Annotated[Count, Meta(description="Its window: attempts in flight at most, now", examples=[2])]
    next_attempt_at: Annotated[Time, Meta(description="When the next of what waits may begin, a probe too")] | None
    budget_used: Annotated[Share, Meta(description="Of the client's budget, what this endpoint's deliveries take")]
    oldest_unsettled_seconds: Seconds | None
    held_up_by: Annotated[EventId, Meta(description="Strict order: the event that others wait for")] | None
    held_up_attempts: Annotated[Count, Meta(description="How many that event has had; 0 where none holds up")]
    last_outcome: LastOutcomeView | None
    last_delivered_at: Time | None


class EndpointView(msgspec.Struct):
    """One webhook URL of a client, with the settings in force for it."""

    id: EndpointId
    url: ShownUrl
    event_types: list[str]
    headers: Annotated[list[str], Meta(description="Their names only: values may be credentials")]
    timeout_seconds: Annotated[Seconds, Meta(examples=[15.0])]
    concurrency: Annotated[Count, Meta(examples=[8])]
    schedule: Annotated[list[str], Meta(examples=[["5s", "30s", "2m", "10m", "30m"]])]
    order: Literal["any", "strict"]
    rate: Annotated[str, Meta(examples=["10/s"])] | None
    give_up_on: Annotated[list[int | str], Meta(examples=[[400, "3xx"]])]
    trace_context: bool
    ca: Annotated[str, Meta(description="Its own authorities in PEM; null: as [egress] says")] | None
    client_certificate: Annotated[str, Meta(description="Its own, in PEM; its key is never shown")] | None
    client_certificate_expires_at: Annotated[Time, Meta(description="Of its own")] | None
    proxy: Annotated[str, Meta(description="Its own, without user and password; empty: none")] | None
    health: HealthView
    secret: Annotated[str, Meta(description="Only in the answer of the call that made it")] | UnsetType = UNSET


class ClientView(msgspec.Struct):
    id: ClientId
    managed_by_config: bool
    unsettled: Count
    endpoints: list[EndpointView]


class ClientPage(msgspec.Struct):
    clients: list[ClientView]
    next_cursor: Cursor | None


class EventTotals(msgspec.Struct):
    """accepted = pending + failed + delivered + exhausted, always; since start, forgotten ones included."""

    accepted: Count
    recovered: Count
    pending: Count
    failed: Count
    delivered: Count
    exhausted: Count
    unrouted: Count


class DeliveryTotals(msgspec.Struct):
    """opened = pending + failed + delivered + exhausted, always; since start, forgotten ones included."""

    opened: Count
    pending: Count
    failed: Count
    delivered: Count
    exhausted: Count
    in_flight: Count


class MemoryView(msgspec.Struct):
    unsettled_events: Count
    unsettled_events_max: Count
    unsettled_bytes: Count
    unsettled_bytes_max: Count


class PerSecondView(msgspec.Struct):
    """Over the last ten seconds."""

    accepted: Seconds
    attempts: Seconds
    delivered: Seconds


class ConnectionsView(msgspec.Struct):
    open: Count
    max: Count
    refused: Annotated[Count, Meta(description="Closed at once since the start, because max were open")]


class EndpointStatesView(msgspec.Struct):
    ok: Count
    throttled: Count
    paused: Count
    disabled: Count


class OperationsView(msgspec.Struct):
    """Notices as events for `operations.client`: counted here, and in none of the daemon's other totals."""

    accepted: Count
    pending: Count
    failed: Count
    delivered: Count
    exhausted: Count
    in_flight: Annotated[Count, Meta(description="Attempts")]
    refused: Annotated[Count, Meta(description="Not admitted: no room, no such client, or draining")]


class StatusView(msgspec.Struct):
    """The daemon's totals, of the platform's events."""

    state: Literal["running", "draining"]
    version: str
    run_id: str
    shard: Annotated[str, Meta(description="This daemon's name among several; empty without one")]
    started_at: Time
    now: Annotated[Time, Meta(description="The daemon's wall clock, which its other times are read off")]
    uptime_seconds: float
    events: EventTotals
    deliveries: DeliveryTotals
    memory: MemoryView
    oldest_unsettled_seconds: Seconds | None
    oldest_overdue_seconds: Annotated[Seconds, Meta(description="Due, and nothing but hookd makes it wait")] | None
    loop_lag_seconds: Seconds
    per_second: PerSecondView
    notices: Annotated[Count, Meta(description="Made since the start")]
    operations: OperationsView
    connections: ConnectionsView
    endpoints: EndpointStatesView
    clients: Count
    crashed_couriers: Count
    waiting_for_client: Annotated[Count, Meta(description="Recovered deliveries of clients that are not registered")]
    previous_run: PreviousRun | None
    unclaimed_reports: Annotated[Count, Meta(description="List undelivered deliveries that nobody took up")]
    report_directory: Annotated[str, Meta(description="Where this run's report will be, on the daemon's machine")]
    recorder: Annotated[RecorderState, Meta(description="Failed: the run goes on, and a kill would leave no list")]
