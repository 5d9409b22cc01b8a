"""Owns what events, deliveries, clients and the daemon's status look like from outside: the API's answers."""

import math
from typing import Any

import msgspec

from daemon.core import outcome as outcomes
from daemon.core.client import Client, Endpoint, shown_url
from daemon.core.delivery import Delivery, Status
from daemon.core.event import Event
from daemon.core.outcome import Outcome
from daemon.core.report import attempt_view
from daemon.core.timestamps import Moment, rfc3339, rfc3339_or_none
from daemon.core.units import format_duration
from daemon.edge.api.services import Services
from daemon.flow.survey import Seen

encode = msgspec.json.encode


def event_view(services: Services, event: Event) -> dict[str, Any]:
    now = services.clock.now()
    return {
        "id": event.id,
        "client_id": event.client_id,
        "type": event.type,
        "status": event.status.value,
        "unrouted": event.is_unrouted,
        "accepted_at": rfc3339(event.accepted_at),
        "settled_at": rfc3339_or_none(event.settled_at),
        "deliveries": [delivery_view(services, event, delivery, now) for delivery in event.deliveries],
    }


def delivery_view(services: Services, event: Event, delivery: Delivery, now: Moment) -> dict[str, Any]:
    begins_at = services.ledger.begins_at(event, delivery)
    return {
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.url,
        "status": delivery.status.value,
        "reason": None if delivery.reason is None else delivery.reason.value,
        "in_flight": delivery.in_flight,
        "attempt_count": delivery.attempt_count,
        "attempts_max": delivery.attempts_max,
        "next_attempt_at": None if begins_at is None else rfc3339(now.wall + begins_at - now.monotonic),
        "attempts": [
            attempt_view(attempt, services.ledger.excerpt(event, delivery, attempt.number))
            for attempt in delivery.attempts
        ],
    }


def client_view(services: Services, client: Client, *, secrets: dict[str, str] | None = None) -> dict[str, Any]:
    """`secrets` are those made in this very call, shown this once."""
    endpoints = [endpoint_view(services, client.id, endpoint) for endpoint in client.endpoints]
    for view in endpoints:
        if secrets and view["id"] in secrets:
            view["secret"] = secrets[view["id"]]
    return {
        "id": client.id,
        "managed_by_config": client.managed_by_config,
        "unsettled": sum(view["health"]["unsettled"] for view in endpoints),
        "endpoints": endpoints,
    }


def endpoint_view(services: Services, client_id: str, endpoint: Endpoint) -> dict[str, Any]:
    live = services.live
    return {
        "id": endpoint.id,
        "url": shown_url(endpoint.url),
        "event_types": list(endpoint.event_types),
        "headers": sorted(name for name, _ in endpoint.headers),  # names only: values may be credentials
        "timeout_seconds": live.timeout_seconds(endpoint),
        "concurrency": live.concurrency(endpoint),
        "schedule": [format_duration(delay_seconds) for delay_seconds in live.policy(endpoint).schedule_seconds],
        "health": health_view(services, client_id, endpoint),
    }


def health_view(services: Services, client_id: str, endpoint: Endpoint) -> dict[str, Any]:
    health = services.ledger.health(client_id, endpoint.id)
    now = services.clock.now()
    probe_at = max(health.next_probe_at, health.not_before)  # Retry-After holds a probe back too
    unsettled = services.ledger.unsettled_of(client_id, endpoint.id) if health.unsettled else ()
    oldest = min((event.accepted_at for event, _ in unsettled), default=None)
    return {
        "state": health.state(now.monotonic).value,
        "paused_by": None if health.paused_by is None else health.paused_by.value,
        "failing_since": rfc3339_or_none(health.failing_since),
        "consecutive_failures": health.consecutive_failures,
        "next_probe_at": None if probe_at == math.inf else rfc3339(now.wall + probe_at - now.monotonic),
        "unsettled": health.unsettled,
        "in_flight": health.in_flight,
        "concurrency_now": health.room(services.live.concurrency(endpoint)),
        "oldest_unsettled_seconds": None if oldest is None else round(max(0.0, now.wall - oldest), 3),
        "last_outcome": _outcome_view(health.last_outcome),
        "last_delivered_at": rfc3339_or_none(health.last_delivered_at),
    }


def status_view(services: Services, seen: Seen) -> dict[str, Any]:
    totals, now, rates = services.ledger.totals(), services.clock.now(), services.upkeep.rates()
    intake = services.live.settings.intake
    return {
        "state": "draining" if services.intake.is_draining else "running",
        "version": services.run.version,
        "run_id": services.run.run_id,
        "started_at": rfc3339(services.run.started_at),
        "uptime_seconds": round(now.wall - services.run.started_at, 3),
        "events": {
            "accepted": totals.accepted,
            "recovered": totals.recovered,
            **_by_status(totals.events),
            "unrouted": totals.unrouted,
        },
        "deliveries": {"opened": totals.opened, **_by_status(totals.deliveries), "in_flight": totals.in_flight},
        "memory": {
            "unsettled_events": totals.unsettled_events,
            "unsettled_events_max": intake.unsettled_events_max,
            "unsettled_bytes": totals.unsettled_bytes,
            "unsettled_bytes_max": intake.unsettled_bytes_max,
        },
        "oldest_unsettled_seconds": _rounded(seen.oldest_unsettled_seconds),
        "oldest_overdue_seconds": _rounded(seen.oldest_overdue_seconds),
        "loop_lag_seconds": round(services.upkeep.loop_lag_seconds, 6),
        "per_second": {name: round(rate, 3) for name, rate in rates._asdict().items()},
        "connections": services.connections()._asdict(),
        "endpoints": {state.value: count for state, count in seen.endpoints.items()},
        "clients": len(services.registry),
        "crashed_couriers": services.dispatch.crashed_couriers,
        "waiting_for_client": 0,
        "previous_run": None,
    }


def _outcome_view(outcome: Outcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "outcome": outcomes.name(outcome),
        "status_code": outcomes.status_code(outcome),
        "error": outcomes.error(outcome),
    }


def _by_status(counts: dict[Status, int]) -> dict[str, int]:
    return {status.value: count for status, count in counts.items()}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
