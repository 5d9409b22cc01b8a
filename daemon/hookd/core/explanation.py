"""Owns the words for what a client or an event waits for, since when, until when, and what ends it.

`hookd explain` prints them, and the status page shows them.

Rules: they are made from what the API shows of a client or an event, by the daemon's clock, and from nothing else.
Each thing that a person can do comes as a command to paste, on a line that begins with two spaces more.
Pure: it decides and changes nothing. What endpoints and producers wrote stands in it as they wrote it; who shows it
makes it harmless.
"""

from collections.abc import Iterator
from typing import Any, Protocol

from hookd.core.attempt_text import advice, excerpt_text, maybe_received, outcome_text, past_attempts
from hookd.core.plurals import are, counted, plural
from hookd.core.time_text import ago, ahead, moment, span, took
from hookd.core.timestamps import parse_rfc3339, rfc3339

GIVEN_UP = {
    "attempts_used": "every attempt of its schedule was used",
    "refused": "the endpoint answered a status of its give_up_on",
    "expired": "it grew older than retry.age_max, or its event was past its expires_at",
    "cancelled": "an operator cancelled it",
    "gone": "the endpoint answered 410, which disables it",
    "endpoint_removed": "its endpoint was removed",
    "crashed": "it was in flight at three crashes",
}


class Commands(Protocol):
    """What a person can do, each as a command to paste."""

    def resume(self, client_id: str, endpoint_id: str) -> str: ...

    def retry(self, client_id: str, event_id: str) -> str: ...

    def explain(self, name: str) -> str: ...


class Telling:
    """`now` is the daemon's wall clock. `tells_end`: whether of a delivery is told when it is given up."""

    def __init__(self, commands: Commands, now: float, *, tells_end: bool = True) -> None:
        self._commands = commands
        self._now = now
        self._tells_end = tells_end

    # Clients

    def client(self, client: dict[str, Any]) -> Iterator[str]:
        kept = "the configuration or --client" if client["managed_by_config"] else "the API"
        yield (
            f"client {client['id']}, registered through {kept}: {client['unsettled']:,} unsettled "
            f"{plural('delivery', client['unsettled'])}"
        )
        for endpoint in client["endpoints"]:
            yield f"  {endpoint['id']} -> {endpoint['url']}: {self.state(endpoint['health'])}"
            for sentence in self.endpoint(client["id"], endpoint):
                yield f"    {sentence}"

    def state(self, health: dict[str, Any]) -> str:
        by = f" by {health['paused_by']}" if health["state"] == "paused" else ""
        since = f" since {ago(health['state_since'], self._now)}" if health["state_since"] else ""
        failing = ", but failing" if health["state"] == "ok" and health["failing"] else ""
        return f"{health['state']}{by}{since}{failing}"

    def endpoint(self, client_id: str, endpoint: dict[str, Any]) -> Iterator[str]:
        health = endpoint["health"]
        if not health["unsettled"] and health["state"] != "disabled":  # there the loss is told, below
            yield f"Nothing waits here{': what failed is given up' if health['failing'] else ''}."
        elif health["unsettled"]:
            yield (
                f"{are(health['unsettled'], 'delivery')} unsettled, {health['in_flight']:,} in flight; the oldest for "
                f"{span(health['oldest_unsettled_seconds'])}."
            )
        if health["failing_since"]:
            failures, since = health["consecutive_failures"], ago(health["failing_since"], self._now)
            run = "Its last attempt failed" if failures == 1 else f"Its last {failures:,} attempts failed, the first"
            yield f"{run} {since}; {'' if failures == 1 else 'the last: '}{outcome_text(health['last_outcome'])}."
            yield from advice(health["last_outcome"])
        if health["held_up_by"]:
            yield f"Strict order: {health['held_up_by']}, {_failed(health)}, holds up those behind it."
        if endpoint["rate"]:
            yield f"Its attempts begin no faster than {endpoint['rate']}."
        if health["last_delivered_at"]:
            yield f"The last delivery succeeded {ago(health['last_delivered_at'], self._now)}."
        yield from self._what_ends(client_id, endpoint)

    def _what_ends(self, client_id: str, endpoint: dict[str, Any]) -> Iterator[str]:
        """The endpoint's state: until when, and what a person can do."""
        health, state = endpoint["health"], endpoint["health"]["state"]
        resume = self._resume(client_id, endpoint)
        if state == "disabled":
            so_far = f", {counted(health['gone'], 'delivery')} so far" if health["gone"] else ""
            yield f"It answered 410: whatever comes for it is given up at once as gone{so_far}."
            yield "It ends by a PUT with another URL, or by:"
            yield f"  {resume}"
        elif state == "paused" and health["paused_by"] == "operator":
            yield "No attempts, no probes, and nothing expires, until someone resumes it:"
            yield f"  {resume}"
        elif state == "paused":
            yield f"{self._probe(health)} An answer below 500 ends the pause. Not to wait for it:"
            yield f"  {resume}"
        elif health["not_before"]:
            again = ahead(health["not_before"], self._now)
            yield f"It asked by Retry-After to be left alone: attempts begin again {again}."
            yield "Not to wait for it:"
            yield f"  {resume}"
        elif state == "throttled":
            yield (
                f"It said that it was asked too much: {health['concurrency_now']:,} of "
                f"{endpoint['concurrency']:,} attempts at once, until the next 2xx."
            )
        if state in ("ok", "throttled") and (at := health["next_attempt_at"]):
            yield f"The next attempt {self._due(at)}."

    def _probe(self, health: dict[str, Any]) -> str:
        if health["next_probe_at"] is None or health["in_flight"]:
            return "An attempt is in flight on it now."
        if not health["unsettled"]:
            return "Nothing waits to probe it with: the next event that comes is its probe."
        return f"The next probe, which is the oldest delivery, {self._due(health['next_probe_at'])}."

    # Events

    def event(self, event: dict[str, Any], client: dict[str, Any] | None) -> Iterator[str]:
        status = "delivered (to nobody)" if event["unrouted"] else event["status"]
        accepted = ago(event["accepted_at"], self._now)
        yield f"event {event['id']} of client {event['client_id']}, type {event['type']}, accepted {accepted}: {status}"
        if event["unrouted"]:
            yield "  No endpoint of the client subscribed to its type when it was accepted: it owes nothing."
        if client is None:
            yield f"  Client {event['client_id']} is not registered."
        for delivery in event["deliveries"]:
            endpoint = endpoint_of(client, delivery)
            yield f"  {delivery['endpoint_id']} -> {delivery['url']}: {delivery['status']}"
            for sentence in self.delivery(event, delivery, endpoint):
                yield f"    {sentence}"

    def delivery(
        self, event: dict[str, Any], delivery: dict[str, Any], endpoint: dict[str, Any] | None
    ) -> Iterator[str]:
        ended = [attempt for attempt in delivery["attempts"] if attempt["outcome"] is not None]
        of = f"of {delivery['attempts_max']}"
        if ended:
            last = ended[-1]
            yield (
                f"Attempt {last['number']} {of} began {ago(last['started_at'], self._now)} and took "
                f"{took(last['duration_seconds'])}: {outcome_text(last)}{maybe_received(last)}."
            )
            if delivery["status"] != "delivered":
                yield from excerpt_text(last)
                yield from advice(last)
            if ended[:-1]:
                yield "Those before it:"
                yield from past_attempts(ended[:-1], self._now)
        if delivery["status"] == "delivered":
            return
        if delivery["status"] == "exhausted":
            yield from self._given_up(event, delivery, endpoint)
            return
        if any(200 <= (attempt["status_code"] or 0) <= 299 for attempt in ended):
            yield "It was delivered before, and is sent once more."
        if delivery["in_flight"]:
            yield from self._in_flight(delivery, endpoint, of)
        else:
            yield from self._waiting(event, delivery, endpoint, f"Attempt {delivery['attempt_count'] + 1} {of}")
        if self._tells_end:
            yield from self._end(event, delivery, endpoint)

    def _end(self, event: dict[str, Any], delivery: dict[str, Any], endpoint: dict[str, Any] | None) -> Iterator[str]:
        """What ends an unsettled delivery, if no 2xx does."""
        expires_at, ends = delivery["expires_at"], _ends(delivery, endpoint)
        if ends and delivery["in_flight"]:
            yield f"{ends}: this attempt is its last, and only a 2xx counts."
        elif ends:
            yield f"{ends}: it is being given up, with no attempt."
        elif expires_at is None:
            late = f"; after {event['expires_at']} it is not attempted all the same" if event["expires_at"] else ""
            yield f"It does not expire while an operator holds the endpoint{late}."
        elif delivery["in_flight"] and parse_rfc3339(expires_at) <= self._now:
            yield f"If this attempt fails, it is given up as {_too_late(event, expires_at)}."
        else:
            late = f"{_too_late(event, expires_at)} {ahead(expires_at, self._now)}"
            yield f"If nothing settles it before, it is given up as {late}."

    def _given_up(
        self, event: dict[str, Any], delivery: dict[str, Any], endpoint: dict[str, Any] | None
    ) -> Iterator[str]:
        reason, count = delivery["reason"], delivery["attempt_count"]
        after = f"after {counted(count, 'attempt')}" if count else "without an attempt"
        yield f"Given up ({reason}) {after}: {GIVEN_UP[reason]}."
        if endpoint is None:
            yield "Its endpoint is not registered, so it cannot be tried again."
            return
        if event["expires_at"] and parse_rfc3339(event["expires_at"]) <= self._now:
            yield f"It cannot be tried again: its event expired {ago(event['expires_at'], self._now)}."
            return
        if endpoint["health"]["state"] == "disabled":
            yield "The endpoint is disabled. First resume it, or PUT the client with another URL:"
            yield f"  {self._resume(event['client_id'], endpoint)}"
        yield "To try it again:"
        yield f"  {self._retry(event)}"

    def _in_flight(self, delivery: dict[str, Any], endpoint: dict[str, Any] | None, of: str) -> Iterator[str]:
        running = delivery["attempts"][-1]
        until = ""
        if endpoint is not None:
            ends_at = parse_rfc3339(running["started_at"]) + endpoint["timeout_seconds"]
            left, by = ends_at - self._now, moment(rfc3339(ends_at), self._now)
            until = f"; it ends within {span(left)}, by {by}" if left > 0 else ""
        yield f"Attempt {running['number']} {of} is in flight since {ago(running['started_at'], self._now)}{until}."

    def _waiting(
        self, event: dict[str, Any], delivery: dict[str, Any], endpoint: dict[str, Any] | None, attempt: str
    ) -> Iterator[str]:
        health = None if endpoint is None else endpoint["health"]
        if _ends(delivery, endpoint):
            return
        if endpoint is None or health is None:
            yield f"{attempt} waits for its client's PUT, with this endpoint's id and its old secret."
        elif health["state"] == "paused" and health["paused_by"] == "operator":
            yield f"{attempt} waits: an operator paused the endpoint{self._since(health)}. It goes on after:"
            yield f"  {self._resume(event['client_id'], endpoint)}"
        elif health["held_up_by"] not in (None, event["id"]):
            first = health["held_up_by"]
            yield f"{attempt} waits behind {first}, {_failed(health)}; strict order. What that one waits for:"
            yield f"  {self._commands.explain('/'.join((event['client_id'], first)))}"
        elif health["state"] == "paused":
            yield f"{attempt} waits: the endpoint is paused by its failures{self._since(health)}."
            yield f"{self._probe(health)} An answer below 500 ends the pause. To try this one now:"
            yield f"  {self._retry(event)}"
        elif delivery["next_attempt_at"] is None:
            yield f"{attempt} will not come: by its schedule it is due when the delivery is too old. To try it before:"
            yield f"  {self._retry(event)}"
        elif parse_rfc3339(delivery["next_attempt_at"]) > self._now:
            yield f"{attempt} {self._due(delivery['next_attempt_at'])}{_why_then(delivery, health)}."
            if health["not_before"] and parse_rfc3339(health["not_before"]) > self._now:  # no retry goes over it
                yield "To call it all the same:"
                yield f"  {self._resume(event['client_id'], endpoint)}"
            else:
                yield "To try it now:"
                yield f"  {self._retry(event)}"
        elif health["in_flight"] >= health["concurrency_now"]:
            yield (
                f"{attempt} is due and waits for its turn: on the endpoint {are(health['in_flight'], 'attempt')} in "
                f"flight, which may be {health['concurrency_now']:,} at most, and "
                f"{are(health['unsettled'], 'delivery')} unsettled."
            )
        elif endpoint["rate"] or endpoint["order"] == "strict":
            yield f"{attempt} is due and waits for its turn: {_turn(endpoint)}."
        else:
            yield f"{attempt} is due now."

    def _since(self, health: dict[str, Any]) -> str:
        return f" since {ago(health['state_since'], self._now)}" if health["state_since"] else ""

    def _due(self, at: str) -> str:
        return f"comes {ahead(at, self._now)}" if parse_rfc3339(at) > self._now else "is due now"

    def _resume(self, client_id: str, endpoint: dict[str, Any]) -> str:
        return self._commands.resume(client_id, endpoint["id"])

    def _retry(self, event: dict[str, Any]) -> str:
        return self._commands.retry(event["client_id"], event["id"])


def endpoint_of(client: dict[str, Any] | None, delivery: dict[str, Any]) -> dict[str, Any] | None:
    endpoints = [] if client is None else client["endpoints"]
    return next((endpoint for endpoint in endpoints if endpoint["id"] == delivery["endpoint_id"]), None)


def _too_late(event: dict[str, Any], expires_at: str) -> str:
    is_own = event["expires_at"] and parse_rfc3339(event["expires_at"]) < parse_rfc3339(expires_at) + 1
    return "past its event's expires_at" if is_own else "too old"


def _ends(delivery: dict[str, Any], endpoint: dict[str, Any] | None) -> str | None:
    """What ends an unsettled delivery before any age does: a cancel, a 410, or the removal of its endpoint."""
    if delivery["ends_as"] == "cancelled":
        return "It was cancelled"
    health = None if endpoint is None else endpoint["health"]
    if health is not None and health["state"] == "disabled":
        return "Its endpoint answered 410"
    is_held = health is not None and health["paused_by"] == "operator"
    return None if delivery["expires_at"] or is_held else "Its endpoint was removed"


def _why_then(delivery: dict[str, Any], health: dict[str, Any]) -> str:
    if health["not_before"] == delivery["next_attempt_at"]:
        return ": the endpoint asked by Retry-After not to be called before"
    return ", by its schedule" if delivery["attempt_count"] else ""


def _failed(health: dict[str, Any]) -> str:
    """Of the event that holds up others."""
    times = {1: "once", 2: "twice"}
    count = health["held_up_attempts"]
    return f"which failed {times.get(count, f'{count:,} times')}"


def _turn(endpoint: dict[str, Any]) -> str:
    rate = f"its endpoint takes {endpoint['rate']}" if endpoint["rate"] else ""
    order = "its endpoint has strict order, one at a time" if endpoint["order"] == "strict" else ""
    return " and ".join(part for part in (order, rate) if part)
