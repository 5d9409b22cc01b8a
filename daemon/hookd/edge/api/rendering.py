"""Owns how events, deliveries, clients and the daemon's status look from outside: it fills schemas.py's Structs."""

import math

import msgspec
from quart import Response

from hookd.core import outcome as outcomes
from hookd.core.budget import budget_used
from hookd.core.certificate_validity import validity
from hookd.core.client import Client, Endpoint
from hookd.core.delivery import Delivery, Status
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.event import Event
from hookd.core.health import Health, State
from hookd.core.outcome import Outcome
from hookd.core.report import attempt_view
from hookd.core.timestamps import Moment, rfc3339, rfc3339_or_none
from hookd.core.units import format_duration
from hookd.edge.api.schemas import (
    ClientView,
    ConnectionsView,
    DeliveryTotals,
    DeliveryView,
    EndpointStatesView,
    EndpointView,
    EventTotals,
    EventView,
    HealthView,
    LastOutcomeView,
    MemoryView,
    OperationsView,
    PerSecondView,
    StatusView,
)
from hookd.edge.api.services import Services
from hookd.flow.gauges import Gauges

JSON = "application/json"

_encode = msgspec.json.Encoder().encode


def json_response(view: msgspec.Struct, status: int = 200) -> Response:
    return Response(_encode(view), status, content_type=JSON)


def event_view(services: Services, event: Event) -> EventView:
    now = services.clock.now()
    return EventView(
        id=event.id,
        client_id=event.client_id,
        type=event.type,
        status=event.status,
        unrouted=event.is_unrouted,
        accepted_at=rfc3339(event.accepted_at),
        expires_at=rfc3339_or_none(event.expires_at),
        settled_at=rfc3339_or_none(event.settled_at),
        deliveries=[delivery_view(services, event, delivery, now) for delivery in event.deliveries],
    )


def delivery_view(services: Services, event: Event, delivery: Delivery, now: Moment) -> DeliveryView:
    begins_at = services.ledger.terms.begins_at(event, delivery, now=now.monotonic)
    return DeliveryView(
        endpoint_id=delivery.endpoint_id,
        url=delivery.url,
        status=delivery.status,
        reason=delivery.reason,
        in_flight=delivery.in_flight,
        attempt_count=delivery.attempt_count,
        attempts_max=services.ledger.terms.attempts_max(event, delivery),
        next_attempt_at=_shown(begins_at, now),
        expires_at=_shown(services.ledger.terms.expires_at(event, delivery, now=now.monotonic), now),
        ends_as=None if delivery.is_settled else delivery.abandoned_as,
        attempts=[
            attempt_view(attempt, services.ledger.excerpt(event, delivery, attempt.number))
            for attempt in delivery.attempts
        ],
    )


def client_view(services: Services, client: Client, *, secrets: dict[str, str] | None = None) -> ClientView:
    """`secrets` are those made in this call; they are shown this once."""
    oldest = services.ledger.oldest_unsettled(client.id)
    endpoints = [endpoint_view(services, client.id, one, oldest.get(one.id)) for one in client.endpoints]
    for view in endpoints:
        if secrets and view.id in secrets:
            view.secret = secrets[view.id]
    return ClientView(
        id=client.id,
        managed_by_config=client.managed_by_config,
        unsettled=sum(view.health.unsettled for view in endpoints),
        endpoints=endpoints,
    )


def endpoint_view(services: Services, client_id: str, endpoint: Endpoint, oldest: float | None) -> EndpointView:
    """`oldest`: since when (monotonic) its oldest unsettled event is."""
    effective, egress = services.effective, endpoint.egress or EndpointEgress()
    return EndpointView(
        id=endpoint.id,
        url=endpoint.shown_url,
        event_types=list(endpoint.event_types),
        headers=sorted(name for name, _ in endpoint.headers),  # names only: values may be credentials
        timeout_seconds=effective.timeout_seconds(endpoint),
        concurrency=effective.concurrency(endpoint),
        schedule=[format_duration(delay_seconds) for delay_seconds in effective.policy(endpoint).schedule_seconds],
        order=endpoint.order,
        rate=None if endpoint.rate is None else endpoint.rate.text,
        give_up_on=list(endpoint.give_up_on),
        trace_context=endpoint.trace_context,
        ca=egress.ca or None,
        client_certificate=egress.client_certificate or None,
        client_certificate_expires_at=_expiry(egress),
        proxy=None if egress.proxy is None else egress.proxy.shown,
        health=health_view(services, client_id, endpoint, oldest),
    )


def _expiry(egress: EndpointEgress) -> str | None:
    return rfc3339(validity(egress.client_certificate)[1]) if egress.client_certificate else None


def health_view(services: Services, client_id: str, endpoint: Endpoint, oldest: float | None) -> HealthView:
    health = services.ledger.health(client_id, endpoint.id) or Health()
    now = services.clock.now()
    state = health.state(now.monotonic)
    probe_at = max(health.next_probe_at, health.not_before)  # Retry-After holds a probe back too
    intake = services.effective.settings.intake
    return HealthView(
        state=state,
        state_since=None if state is State.OK else _shown(health.since, now),
        paused_by=health.paused_by,
        gone=health.gone if state is State.DISABLED else 0,
        failing=health.fails_straight(now.monotonic),
        failing_since=rfc3339_or_none(health.failing_since),
        consecutive_failures=health.consecutive_failures,
        next_probe_at=_shown(probe_at, now),
        not_before=_shown(health.not_before, now) if health.not_before > now.monotonic else None,
        unsettled=health.unsettled,
        in_flight=health.in_flight,
        concurrency_now=health.room(services.effective.concurrency(endpoint)),
        next_attempt_at=_shown(services.dispatch.next_attempt_to(client_id, endpoint.id), now),
        budget_used=round(budget_used(services.ledger.held(client_id), health.unsettled, intake), 6),
        oldest_unsettled_seconds=None if oldest is None else round(now.monotonic - oldest, 3),
        held_up_by=health.held_up_by,
        held_up_attempts=0 if health.held_up_by is None else health.held_up_attempts,
        last_outcome=_outcome_view(health.last_outcome),
        last_delivered_at=rfc3339_or_none(health.last_delivered_at),
    )


def status_view(services: Services, gauges: Gauges) -> StatusView:
    totals, now, rates = services.ledger.totals(), services.clock.now(), services.housekeeping.rates()
    intake, connections = services.effective.settings.intake, services.connections()
    return StatusView(
        state="draining" if services.intake.is_draining else "running",
        version=services.run.version,
        run_id=services.run.run_id,
        shard=services.run.shard,
        started_at=rfc3339(services.run.started_at),
        now=rfc3339(now.wall),
        uptime_seconds=round(now.monotonic - services.ledger.started.monotonic, 3),
        events=EventTotals(
            accepted=totals.accepted,
            recovered=totals.recovered,
            unrouted=totals.unrouted,
            **_by_status(totals.events),
        ),
        deliveries=DeliveryTotals(opened=totals.opened, in_flight=totals.in_flight, **_by_status(totals.deliveries)),
        memory=MemoryView(
            unsettled_events=totals.unsettled_events,
            unsettled_events_max=intake.unsettled_events_max,
            unsettled_bytes=totals.unsettled_bytes,
            unsettled_bytes_max=intake.unsettled_bytes_max,
        ),
        oldest_unsettled_seconds=_rounded(gauges.oldest_unsettled_seconds),
        oldest_overdue_seconds=_rounded(gauges.oldest_overdue_seconds),
        loop_lag_seconds=round(services.housekeeping.loop_lag_seconds, 6),
        per_second=PerSecondView(**{name: round(rate, 3) for name, rate in rates._asdict().items()}),
        notices=services.notices.made,
        operations=_operations_view(services),
        connections=ConnectionsView(open=connections.open, max=connections.max, refused=connections.refused),
        endpoints=EndpointStatesView(**{state.value: count for state, count in gauges.endpoints.items()}),
        clients=len(services.registry),
        crashed_couriers=services.dispatch.crashed_couriers,
        waiting_for_client=gauges.waiting_for_client,
        previous_run=services.previous_run(),
        unclaimed_reports=len(services.standing().unclaimed_reports),
        report_directory=services.report_directory,
        recorder=services.ledger.recorder.state,
    )


def _operations_view(services: Services) -> OperationsView:
    totals = services.ledger.operations.snapshot()
    refused = services.notices.operations.refused.total()
    counts = _by_status(totals.events)
    return OperationsView(accepted=totals.accepted, in_flight=totals.in_flight, refused=refused, **counts)


def _shown(at: float | None, now: Moment) -> str | None:
    """A monotonic time as wall time; None for None, and for a time that never comes."""
    return None if at is None or math.isinf(at) else rfc3339(now.wall + at - now.monotonic)


def _outcome_view(outcome: Outcome | None) -> LastOutcomeView | None:
    if outcome is None:
        return None
    return LastOutcomeView(
        outcome=outcomes.name(outcome),
        status_code=outcomes.status_code(outcome),
        error=outcomes.error(outcome),
    )


def _by_status(counts: dict[Status, int]) -> dict[str, int]:
    return {status.value: count for status, count in counts.items()}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
