"""Owns what can be pressed on the pages of an endpoint and of an event.

An action is a POST to a route of the API: what it will do, to how many, and the same as a command. The person
confirms it first. What changes as many as match is asked for a dry run before, and the person is told the count.
One that would change nothing now keeps its place, greyed, with the reason: the others do not move under the hand.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hookd.core.delivery import SETTLED, Status
from hookd.core.health import PausedBy, State
from hookd.edge.api.page.visit import Visit
from hookd.edge.api.schemas import ClientView, DeliveryView, EndpointView, EventView, HealthView

# Stands in what an action says, for what its dry run counts.
MATCHED = "{matched}"
# What stands beside each button.
DOES = {
    "test": "posts an event of its own, and says what it answers; it counts nowhere",
    "resume": "ends a pause, disabled and Retry-After",
    "pause": "nothing is sent and nothing expires, until someone resumes it",
    "replay": "sends again what was given up",
    "retry-all": "tries now what failed and waits for a later attempt; where it is down, one of them first",
    "retry": "tries now what is not delivered; whoever has it is left alone",
    "redeliver": "sends it once more, also to who has it already; the same webhook-id tells them",
    "cancel": "gives up what is unsettled",
    "rotate-secret": "makes a new secret, which its client has to take",
}
# These take away what no other button gives back, so they stand apart.
ENDINGS = frozenset({"cancel", "rotate-secret"})


class Action(NamedTuple):
    """`path` is the route's, from the API's root."""

    name: str
    path: str
    says: str  # what it will do
    command: str
    body: str = ""  # JSON, where the route takes `dry_run` and `since` beside it; "": it needs no body
    why_not: str = ""  # it would change nothing now

    @property
    def does(self) -> str:
        return f"not now: {self.why_not}" if self.why_not else DOES[self.name]

    @property
    def ends(self) -> bool:
        return self.name in ENDINGS


def endpoint_actions(
    visit: Visit, client: ClientView, endpoint: EndpointView, *, has_given_up: bool
) -> Iterator[Action]:
    """In the order in which one would press them: look, then what is safe, then what ends something."""
    health, name = endpoint.health, f"{client.id}/{endpoint.id}"
    waiting = health.unsettled - health.in_flight
    root = f"v1/clients/{client.id}"
    says = {
        "test": f"Test {name}: posts one event of type hookd.test to {endpoint.url}. It counts nowhere.",
        "resume": f"Resume {name}: it ends a pause, disabled and Retry-After. Deliveries that go on: {waiting:,}.",
        "pause": f"Pause {name}: no attempts, no probes, no expiry, until someone resumes it. Deliveries that wait: "
        f"{waiting:,}. Attempts in flight, which run out: {health.in_flight:,}.",
    }
    why_not = _why_not(health, has_given_up=has_given_up)
    for verb, text in says.items():
        yield _of_endpoint(visit, verb, root, endpoint, text)._replace(why_not=why_not.get(verb, ""))
    replays = (
        f"Replay what was given up for {name} and is still held. Deliveries that match now: {MATCHED}. Each gets a "
        "whole schedule, as far as the budgets have room."
    )
    yield _range(visit, "replay", root, endpoint, replays)._replace(why_not=why_not.get("replay", ""))
    yield _retry_all(visit, root, endpoint)
    yield from _endpoint_endings(visit, client, endpoint)


def _retry_all(visit: Visit, root: str, endpoint: EndpointView) -> Action:
    """The same route: it makes due what failed, too."""
    name, health = f"{root.rpartition('/')[2]}/{endpoint.id}", endpoint.health
    says = f"Retry what failed for {name} and waits for a later attempt. Deliveries that match now: {MATCHED}."
    path, body = f"{root}/replay", {"endpoint_id": endpoint.id, "statuses": [Status.FAILED.value]}
    text = msgspec.json.encode(body).decode()
    why_not = "an operator holds it, so first resume it" if health.paused_by is PausedBy.OPERATOR else ""
    why_not = why_not if health.unsettled > health.in_flight else "nothing waits"
    return Action("retry-all", path, says, visit.curl(f"/{path}", text), text, why_not)


def _why_not(health: HealthView, *, has_given_up: bool) -> dict[str, str]:
    found = {}
    if health.state not in (State.PAUSED, State.DISABLED) and health.not_before is None:
        found["resume"] = "it is neither paused nor disabled, and has asked for no wait"
    if health.paused_by is PausedBy.OPERATOR:
        found["pause"] = "an operator holds it already"
    if not has_given_up:
        found["replay"] = "nothing that was given up for it is held"
    elif health.state is State.DISABLED:
        found["replay"] = "it is disabled, so first resume it"
    return found


def _endpoint_endings(visit: Visit, client: ClientView, endpoint: EndpointView) -> Iterator[Action]:
    root, name = f"v1/clients/{client.id}", f"{client.id}/{endpoint.id}"
    if endpoint.health.unsettled:
        cancels = (
            f"Cancel what is unsettled for {name}. Deliveries that match now: {MATCHED}. They are given up; those in "
            "flight run out first."
        )
        yield _range(visit, "cancel", root, endpoint, cancels)
    if not client.managed_by_config:
        rotates = (
            f"Rotate the secret of {name}: a new one is made, and shown here this once. The one before signs too for "
            "delivery.secret_overlap, until the client has the new one."
        )
        yield _of_endpoint(visit, "rotate-secret", root, endpoint, rotates)


def _of_endpoint(visit: Visit, verb: str, root: str, endpoint: EndpointView, says: str) -> Action:
    path = f"{root}/endpoints/{endpoint.id}/{verb}"
    return Action(verb, path, says, visit.curl(f"/{path}"))


def _range(visit: Visit, verb: str, root: str, endpoint: EndpointView, says: str) -> Action:
    path, body = f"{root}/{verb}", msgspec.json.encode({"endpoint_id": endpoint.id}).decode()
    return Action(verb, path, says, visit.curl(f"/{path}", body), body)


def event_actions(visit: Visit, event: EventView, client: ClientView | None, *, has_payload: bool) -> Iterator[Action]:
    """Those that have something to do, in the same order."""
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
    why_not = {
        "retry": _not_retried(client, [one for one in event.deliveries if not one.in_flight and not _has_it(one)]),
        "redeliver": _nowhere(client, [one for one in event.deliveries if one.status in SETTLED])
        if _went_to_all(client, event)
        else "",
    }
    for verb, text in says.items():
        command = visit.curl(f"/{root}/{verb}")
        yield Action(verb, f"{root}/{verb}", text, command, why_not=why_not.get(verb, ""))


def _has_it(delivery: DeliveryView) -> bool:
    return delivery.status is Status.DELIVERED


def _went_to_all(client: ClientView | None, event: EventView) -> bool:
    """Whether no endpoint could be found for it that came later."""
    owed = {one.endpoint_id for one in event.deliveries}
    return client is None or all(one.id in owed for one in client.endpoints)


def _not_retried(client: ClientView | None, deliveries: Sequence[DeliveryView]) -> str:
    """Why none of these can be retried. What was given up is taken back under a pause, too."""
    pauses = {} if client is None else {one.id: one.health.paused_by for one in client.endpoints}
    waits = all(one.status is not Status.EXHAUSTED for one in deliveries)
    if deliveries and waits and all(pauses.get(one.endpoint_id) is PausedBy.OPERATOR for one in deliveries):
        return "an operator holds its endpoint, so first resume that"
    return _nowhere(client, deliveries)


def _nowhere(client: ClientView | None, deliveries: Sequence[DeliveryView]) -> str:
    """Why none of these can be sent; empty where one can, and where there is none."""
    states = {} if client is None else {one.id: one.health.state for one in client.endpoints}
    found = {states.get(one.endpoint_id) for one in deliveries}
    if not found or found - {None, State.DISABLED}:
        return ""
    return "its endpoint is disabled, so first resume that" if State.DISABLED in found else "its endpoint is removed"
