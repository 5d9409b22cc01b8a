"""Owns what the pages of one endpoint and of one event show: the words of `hookd explain`, attempts, and actions."""

from collections.abc import Sequence
from itertools import islice
from typing import Any, NamedTuple

import msgspec
import trio

from hookd.core.deadline import Deadline
from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.explanation import Telling, endpoint_of
from hookd.core.notice import Kind, Notice
from hookd.core.notices import LOOKED_AT_AT_ONCE
from hookd.core.time_text import moment, span
from hookd.core.timestamps import parse_rfc3339, rfc3339
from hookd.edge.api.page.actions import endpoint_actions, event_actions
from hookd.edge.api.page.attempt_runs import attempt_runs
from hookd.edge.api.page.overview import Overview
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.rendering import client_view, event_view
from hookd.edge.api.schemas import HealthView
from hookd.edge.api.sent_routes import EVENTS_AT_ONCE, newest_attempts
from hookd.edge.api.services import Services
from hookd.flow.oldest_deadline import oldest_deadline

ATTEMPTS_MAX = 20
NOTICES_MAX = 10


class Explained(NamedTuple):
    """A sentence, or a command that the sentence before names."""

    text: str
    is_command: bool


async def endpoint_page(
    services: Services, overview: Overview, visit: Visit, client_id: str, endpoint_id: str
) -> dict[str, Any]:
    """Raises UnknownClient or NotFound."""
    services.registry.get_endpoint(client_id, endpoint_id)
    view = client_view(services, services.registry.get(client_id))
    [endpoint] = (one for one in view.endpoints if one.id == endpoint_id)
    telling = Telling(visit, visit.now)
    wrong, now = await overview.of_one(client_id, endpoint_id, sees_all=visit.sees_all), services.clock.now()
    is_untold = not wrong and endpoint.health.failing_since is not None  # where nothing fails it would frighten
    attempts = await newest_attempts(services, client_id, endpoint_id, limit=ATTEMPTS_MAX)
    return {
        "client": view,
        "endpoint": endpoint,
        "state": telling.state(msgspec.to_builtins(endpoint.health)),
        "explained": _explained(list(telling.endpoint(client_id, msgspec.to_builtins(endpoint)))),
        "troubles": wrong,
        "deadline": oldest_deadline(services.ledger, client_id, endpoint_id, now) if is_untold else None,
        "gone_kept": _gone_kept(services, endpoint.health, now.wall),
        "attempt_runs": list(attempt_runs(attempts)),
        "notices": _latest_notices(services, client_id, endpoint_id),
        "actions": list(
            endpoint_actions(visit, view, endpoint, has_given_up=await _has_given_up(services, client_id, endpoint_id))
        ),
    }


def _gone_kept(services: Services, health: HealthView, now: float) -> str:
    """How long what was given up since its 410 is held, and until when the first of it that is not forgotten."""
    held_seconds = services.effective.settings.retention.age_seconds_max
    since = now if health.state_since is None else parse_rfc3339(health.state_since)
    until = moment(rfc3339(max(since + held_seconds, now)), now)
    return f"{span(held_seconds)}, {'the first ' if health.gone > 1 else ''}until {until}"


async def _has_given_up(services: Services, client_id: str, endpoint_id: str) -> bool:
    """Whether something given up for it is held. A look at each event of the client, unless none of any is held."""
    events = iter(list(services.ledger.of_client(client_id)) if services.ledger.totals().exhausted_held else ())
    while looked_at := list(islice(events, EVENTS_AT_ONCE)):
        for event in looked_at:
            delivery = event.delivery_to(endpoint_id)
            if delivery is not None and delivery.status is Status.EXHAUSTED:
                return True
        await trio.lowlevel.checkpoint()
    return False


def _latest_notices(services: Services, client_id: str, endpoint_id: str) -> list[tuple[Notice, str]]:
    """Each with its state; the newest first, of those that the ring looks through in one go."""
    ring, clients = services.notices.feed.ring, frozenset({client_id})
    page = ring.page(max(0, ring.end - LOOKED_AT_AT_ONCE), limit=LOOKED_AT_AT_ONCE, clients=clients)
    newest = [one for one in page.rows if one.endpoint_id == endpoint_id][: -NOTICES_MAX - 1 : -1]
    return [(one, _state_then(one)) for one in newest]


def _state_then(notice: Notice) -> str:
    """`ok` says only that nothing holds attempts back. Beside failures it would sound as if all were well."""
    if notice.state == "ok" and notice.type is not Kind.RECOVERED:
        return "failing" if notice.type is Kind.FAILING else ""
    return notice.state or ""


def event_page(services: Services, visit: Visit, event: Event) -> dict[str, Any]:
    view = event_view(services, event)
    client, now = services.registry.find(event.client_id), services.clock.now()
    seen = None if client is None else client_view(services, client)
    shown = None if seen is None else msgspec.to_builtins(seen)
    deadlines = [_to_come(services.ledger.terms.deadline(event, one, now=now), now.wall) for one in event.deliveries]
    told = msgspec.to_builtins(view)
    deliveries = [
        (one, deadline, _told(visit, told, as_told, shown, tells_end=deadline is None))
        for one, deadline, as_told in zip(view.deliveries, deadlines, told["deliveries"], strict=True)
    ]
    return {
        "event": view,
        "deliveries": deliveries,
        "is_registered": client is not None,
        "has_payload": event.payload is not None,
        "payload_bytes": 0 if event.payload is None else len(event.payload),
        "payload_path": f"v1/clients/{event.client_id}/events/{event.id}/payload",
        "actions": list(event_actions(visit, view, seen, has_payload=event.payload is not None)),
    }


def _to_come(deadline: Deadline | None, now: float) -> Deadline | None:
    return None if deadline is None or deadline.at <= now else deadline


def _told(
    visit: Visit, event: dict[str, Any], delivery: dict[str, Any], client: dict[str, Any] | None, *, tells_end: bool
) -> list[Explained]:
    """Where the time line has its deadline, no sentence has another."""
    telling = Telling(visit, visit.now, tells_end=tells_end)
    return _explained(list(telling.delivery(event, _latest(delivery), endpoint_of(client, delivery))))


def _latest(delivery: dict[str, Any]) -> dict[str, Any]:
    """Of its attempts the last alone: the page has a time line of all of them."""
    return {**delivery, "attempts": delivery["attempts"][-1:]}


def _explained(lines: Sequence[str]) -> list[Explained]:
    return [Explained(line.strip(), line.startswith("  ")) for line in lines]
