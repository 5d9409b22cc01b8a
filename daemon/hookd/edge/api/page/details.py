"""Owns what the pages of one endpoint and of one event show: the words of `hookd explain`, attempts, and actions."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from hookd.core.event import Event
from hookd.core.explanation import Telling, endpoint_of
from hookd.core.notice import Notice
from hookd.core.notices import LOOKED_AT_AT_ONCE
from hookd.core.timestamps import rfc3339
from hookd.edge.api.page.actions import endpoint_actions, event_actions
from hookd.edge.api.page.attempt_runs import attempt_runs
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.rendering import client_view, event_view
from hookd.edge.api.sent_routes import newest_attempts
from hookd.edge.api.services import Services
from hookd.flow.oldest_expiry import oldest_expires_at

ATTEMPTS_MAX = 20
NOTICES_MAX = 10


class Explained(NamedTuple):
    """A sentence, or a command that the sentence before names."""

    text: str
    is_command: bool


async def endpoint_page(services: Services, visit: Visit, client_id: str, endpoint_id: str) -> dict[str, Any]:
    """Raises UnknownClient or NotFound."""
    services.registry.get_endpoint(client_id, endpoint_id)
    view = client_view(services, services.registry.get(client_id))
    [endpoint] = (one for one in view.endpoints if one.id == endpoint_id)
    telling = Telling(visit, visit.now)
    expires_at = oldest_expires_at(services.ledger, client_id, endpoint_id, services.clock.now())
    attempts = await newest_attempts(services, client_id, endpoint_id, limit=ATTEMPTS_MAX)
    return {
        "client": view,
        "endpoint": endpoint,
        "state": telling.state(msgspec.to_builtins(endpoint.health)),
        "explained": _explained(list(telling.endpoint(client_id, msgspec.to_builtins(endpoint)))),
        "oldest_expires_at": None if expires_at is None else rfc3339(expires_at),
        "attempt_runs": list(attempt_runs(attempts)),
        "notices": _latest_notices(services, client_id, endpoint_id),
        "actions": list(endpoint_actions(visit, view, endpoint)),
    }


def _latest_notices(services: Services, client_id: str, endpoint_id: str) -> list[Notice]:
    """The newest first, of those that the ring looks through in one go."""
    ring, clients = services.notices.feed.ring, frozenset({client_id})
    page = ring.page(max(0, ring.end - LOOKED_AT_AT_ONCE), limit=LOOKED_AT_AT_ONCE, clients=clients)
    return [one for one in page.rows if one.endpoint_id == endpoint_id][: -NOTICES_MAX - 1 : -1]


def event_page(services: Services, visit: Visit, event: Event) -> dict[str, Any]:
    view = event_view(services, event)
    client = services.registry.find(event.client_id)
    shown = None if client is None else msgspec.to_builtins(client_view(services, client))
    telling, told = Telling(visit, visit.now), msgspec.to_builtins(view)
    deliveries = [
        (delivery, _explained(list(telling.delivery(told, _latest(as_told), endpoint_of(shown, as_told)))))
        for delivery, as_told in zip(view.deliveries, told["deliveries"], strict=True)
    ]
    return {
        "event": view,
        "deliveries": deliveries,
        "is_registered": client is not None,
        "has_payload": event.payload is not None,
        "payload_bytes": 0 if event.payload is None else len(event.payload),
        "payload_path": f"v1/clients/{event.client_id}/events/{event.id}/payload",
        "actions": list(event_actions(visit, view, has_payload=event.payload is not None)),
    }


def _latest(delivery: dict[str, Any]) -> dict[str, Any]:
    """Of its attempts the last alone: the page has a time line of all of them."""
    return {**delivery, "attempts": delivery["attempts"][-1:]}


def _explained(lines: Sequence[str]) -> list[Explained]:
    return [Explained(line.strip(), line.startswith("  ")) for line in lines]
