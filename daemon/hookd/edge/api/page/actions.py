"""Owns what can be pressed on the pages of an endpoint and of an event.

An action is a POST to a route of the API: what it will do, to how many, and the same as a command. The person
confirms it first. What changes as many as match is asked for a dry run before, and the person is told the count.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from hookd.core.delivery import Status
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.schemas import ClientView, EndpointView, EventView

# Stands in what an action says, for what its dry run counts.
MATCHED = "{matched}"


class Action(NamedTuple):
    """`path` is the route's, from the API's root."""

    name: str
    path: str
    says: str  # what it will do
    command: str
    body: str = ""  # JSON, where the route takes `dry_run` and `since` beside it; "": it needs no body


def endpoint_actions(visit: Visit, client: ClientView, endpoint: EndpointView) -> Iterator[Action]:
    health, name = endpoint.health, f"{client.id}/{endpoint.id}"
    waiting = health.unsettled - health.in_flight
    says = {
        "pause": f"Pause {name}: no attempts, no probes, no expiry, until someone resumes it. Deliveries that wait: "
        f"{waiting:,}. Attempts in flight, which run out: {health.in_flight:,}.",
        "resume": f"Resume {name}: it ends a pause, disabled and Retry-After. Deliveries that go on: {waiting:,}.",
        "test": f"Test {name}: posts one event of type hookd.test to {endpoint.url}. It counts nowhere.",
    }
    if not client.managed_by_config:
        says["rotate-secret"] = (
            f"Rotate the secret of {name}: a new one is made, and shown here this once. The one before signs too for "
            "delivery.secret_overlap, until the client has the new one."
        )
    root = f"v1/clients/{client.id}"
    for verb, text in says.items():
        path = f"{root}/endpoints/{endpoint.id}/{verb}"
        yield Action(verb, path, text, visit.curl(f"/{path}"))
    replays = (
        f"Replay what was given up for {name} and is still held. Deliveries that match now: {MATCHED}. Each gets a "
        "whole schedule, as far as the budgets have room."
    )
    yield _range(visit, "replay", root, endpoint, replays)
    if health.unsettled:
        cancels = (
            f"Cancel what is unsettled for {name}. Deliveries that match now: {MATCHED}. They are given up; those in "
            "flight run out first."
        )
        yield _range(visit, "cancel", root, endpoint, cancels)


def _range(visit: Visit, verb: str, root: str, endpoint: EndpointView, says: str) -> Action:
    path, body = f"{root}/{verb}", msgspec.json.encode({"endpoint_id": endpoint.id}).decode()
    return Action(verb, path, says, visit.curl(f"/{path}", body), body)


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
