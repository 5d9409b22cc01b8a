"""Owns what the pages of one endpoint and of one event show: the words of `hookd explain`, attempts, and actions.

An action is a POST to a route of the API: what it will do, to how many, and the same as a command. The person
confirms it first.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.explanation import Telling, endpoint_of
from hookd.core.quoting import quoted
from hookd.core.refusal import NotFound
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.rendering import client_view, event_view
from hookd.edge.api.schemas import EndpointView, EventView
from hookd.edge.api.sent_routes import newest_attempts
from hookd.edge.api.services import Services

ATTEMPTS_MAX = 20


class Action(NamedTuple):
    """`path` is the route's, from the API's root."""

    name: str
    path: str
    says: str  # what it will do
    command: str


class Explained(NamedTuple):
    """A sentence, or a command that the sentence before names."""

    text: str
    is_command: bool


async def endpoint_page(services: Services, visit: Visit, client_id: str, endpoint_id: str) -> dict[str, Any]:
    """Raises UnknownClient or NotFound."""
    view = client_view(services, services.registry.get(client_id))
    endpoint = next((one for one in view.endpoints if one.id == endpoint_id), None)
    if endpoint is None:
        raise NotFound(f"client {client_id!r} has no endpoint {quoted(endpoint_id)}")
    telling = Telling(visit.curl, visit.now)
    return {
        "client": view,
        "endpoint": endpoint,
        "state": telling.state(msgspec.to_builtins(endpoint.health)),
        "explained": _explained(list(telling.endpoint(client_id, msgspec.to_builtins(endpoint)))),
        "attempts": await newest_attempts(services, client_id, endpoint_id, limit=ATTEMPTS_MAX),
        "actions": endpoint_actions(visit, client_id, endpoint),
    }


def endpoint_actions(visit: Visit, client_id: str, endpoint: EndpointView) -> list[Action]:
    health, name = endpoint.health, f"{client_id}/{endpoint.id}"
    waiting = health.unsettled - health.in_flight
    says = {
        "pause": f"Pause {name}: no attempts, no probes, no expiry, until someone resumes it. Deliveries that wait: "
        f"{waiting:,}. Attempts in flight, which run out: {health.in_flight:,}.",
        "resume": f"Resume {name}: it ends a pause, disabled and Retry-After. Deliveries that go on: {waiting:,}.",
        "test": f"Test {name}: posts one event of type hookd.test to {endpoint.url}. It counts nowhere.",
    }
    root = f"v1/clients/{client_id}/endpoints/{endpoint.id}"
    return [Action(verb, f"{root}/{verb}", text, visit.curl(f"/{root}/{verb}")) for verb, text in says.items()]


def event_page(services: Services, visit: Visit, event: Event) -> dict[str, Any]:
    view = event_view(services, event)
    client = services.registry.find(event.client_id)
    shown = None if client is None else msgspec.to_builtins(client_view(services, client))
    telling, told = Telling(visit.curl, visit.now), msgspec.to_builtins(view)
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


def event_actions(visit: Visit, event: EventView, *, has_payload: bool) -> Iterator[Action]:
    """Those that have something to do."""
    root, of = f"v1/clients/{event.client_id}/events/{event.id}", len(event.deliveries)
    unsettled = sum(one.status in (Status.PENDING, Status.FAILED) for one in event.deliveries)
    exhausted = sum(one.status is Status.EXHAUSTED for one in event.deliveries)
    waiting = unsettled - sum(one.in_flight for one in event.deliveries)
    says = {}
    if waiting + exhausted:
        says["retry"] = (
            f"Retry {event.id}: what is not delivered of it ({waiting + exhausted:,} of {of:,}) becomes due now; what "
            "was given up gets a whole schedule. An operator's pause, a disabled endpoint and Retry-After still hold."
        )
    if has_payload and not of:
        says["redeliver"] = f"Redeliver {event.id}: it went to nobody, and is sent to those that want its type now."
    elif has_payload and unsettled < of:
        says["redeliver"] = (
            f"Redeliver {event.id}: what is settled of it ({of - unsettled:,} of {of:,}) is sent once more under the "
            "same id, and to endpoints that came later. A client that has it already gets it twice."
        )
    if unsettled:
        says["cancel"] = (
            f"Cancel {event.id}: what waits of it ({waiting:,} of {of:,}) is given up; what is in flight "
            f"({unsettled - waiting:,}) runs out, and is given up if that fails."
        )
    for verb, text in says.items():
        yield Action(verb, f"{root}/{verb}", text, visit.curl(f"/{root}/{verb}"))


def _latest(delivery: dict[str, Any]) -> dict[str, Any]:
    """Of its attempts the last alone: the page has a time line of all of them."""
    return {**delivery, "attempts": delivery["attempts"][-1:]}


def _explained(lines: Sequence[str]) -> list[Explained]:
    return [Explained(line.strip(), line.startswith("  ")) for line in lines]
