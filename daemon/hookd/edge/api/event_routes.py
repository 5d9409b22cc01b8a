"""Owns the routes of the events that are held: reading, listing and retry."""

import base64
import binascii
from typing import Annotated

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.delivery import Status
from hookd.core.event import Event
from hookd.core.ids import EventType
from hookd.core.listing import Wanted
from hookd.core.quoting import quoted
from hookd.core.refusal import AmbiguousId, InvalidQuery, UnknownEvent
from hookd.core.retry import Reason
from hookd.core.timestamps import Time, parse_rfc3339, rfc3339
from hookd.edge.api.held_tokens import held_clients, refuse_other_clients, refuse_whole
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.pages import Page
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import event_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import (
    LIMIT_DEFAULT,
    ClientId,
    EndpointId,
    EventPage,
    EventView,
    Limit,
)
from hookd.edge.api.services import Services


class EventsQuery(msgspec.Struct):
    client_id: ClientId | None = None
    endpoint_id: EndpointId | None = None
    status: Status | None = None
    reason: Annotated[Reason, Meta(description="Of a delivery that is exhausted")] | None = None
    type: EventType | None = None
    since: Annotated[Time, Meta(description="Accepted then or later")] | None = None
    until: Annotated[Time, Meta(description="Accepted then or earlier")] | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: Annotated[str, Meta(description="The next_cursor of the page before")] | None = None


def event_routes(services: Services) -> Blueprint:
    routes = Blueprint("events", __name__)
    one_at_a_time = trio.Lock()

    @routes.get("/v1/clients/<client_id>/events/<event_id>")
    @operation(
        "One event with its deliveries and their attempts",
        scope=Scope.READ,
        producers_too=True,
        answers={200: EventView},
        problems=("unknown-client", "unknown-event"),
    )
    async def get_client_event(client_id: str, event_id: str) -> Response:
        return json_response(event_view(services, find_event(services, client_id, event_id)))

    @routes.get("/v1/events/<event_id>")
    @operation(
        "One event, where only one client has this id",
        scope=Scope.READ,
        producers_too=True,
        answers={200: EventView},
        problems=("unknown-event", "ambiguous-id"),
        names_clients=True,
    )
    async def get_event(event_id: str) -> Response:
        held = held_clients()
        found = [
            event for event in services.ledger.find_everywhere(event_id) if held is None or event.client_id in held
        ]
        if len(found) > 1:
            clients = sorted(event.client_id for event in found)
            raise AmbiguousId(
                f"{len(found):,} clients have an event {event_id!r}; ask /v1/clients/CLIENT/events/{event_id}",
                clients=clients[:LIMIT_DEFAULT],
            )
        if not found:
            raise _unknown_event(services, event_id)
        return json_response(event_view(services, found[0]))

    @routes.get("/v1/events")
    @operation(
        "Events, newest first",
        scope=Scope.READ,
        producers_too=True,
        query=EventsQuery,
        answers={200: EventPage},
        names_clients=True,
    )
    async def list_events() -> Response:
        client_id = query(EventsQuery).client_id
        if client_id is None:
            refuse_whole("client_id=")
        else:
            refuse_other_clients([client_id])
        async with one_at_a_time:
            return json_response(await _page(services, query(EventsQuery)))

    @routes.post("/v1/clients/<client_id>/events/<event_id>/retry")
    @operation(
        "Attempt an event's unsettled or exhausted deliveries now",
        scope=Scope.ADMIN,
        answers={202: EventView, 200: EventView},
        problems=("unknown-client", "unknown-event", "endpoint-disabled", "client-full", "full", "draining"),
    )
    async def retry_event(client_id: str, event_id: str) -> Response:
        event = find_event(services, client_id, event_id)
        changed = services.retry_now.retry(event)
        return json_response(event_view(services, event), 202 if changed else 200)

    return routes


def find_event(services: Services, client_id: str, event_id: str) -> Event:
    """Raises UnknownClient or UnknownEvent; an event outlives its client's registration."""
    event = services.ledger.find(client_id, event_id)
    if event is None:
        services.registry.get(client_id)
        raise _unknown_event(services, event_id)
    return event


def _unknown_event(services: Services, event_id: str) -> UnknownEvent:
    remembers_since = rfc3339(services.ledger.remembers_since)
    return UnknownEvent(
        f"no event {quoted(event_id)} is held; events that settled and were accepted before {remembers_since} "
        "may be forgotten, and so is what settled in an earlier run",
        remembers_since=remembers_since,
        started_at=rfc3339(services.run.started_at),
    )


async def _page(services: Services, asked: EventsQuery) -> EventPage:
    events, before = services.ledger.page(
        client_id=asked.client_id,
        wanted=_wanted(asked),
        before=None if asked.cursor is None else _before(asked.cursor),
        limit=asked.limit,
    )
    page = Page[EventView](this_request().exchange.answer)
    for number, event in enumerate(events):
        if not await page.add(event_view(services, event)):
            before = events[number - 1].sequence
            break
    return EventPage(events=page.rows, next_cursor=None if before is None else _cursor_of(before))


def _wanted(asked: EventsQuery) -> Wanted:
    """Raises InvalidQuery."""
    since, until = _time("since", asked.since), _time("until", asked.until)
    if since is not None and until is not None and until < since:
        raise InvalidQuery("until is before since")
    return Wanted(asked.status, asked.type, asked.endpoint_id, asked.reason, since, until)


def _time(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise InvalidQuery(f"{name} is not an RFC 3339 time such as 2026-11-21T18:35:00Z") from None


def _before(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        before = int(text[1:]) if text[1:].isdigit() and len(text) <= 20 else -1
        if cursor != _cursor_of(before):
            raise ValueError("not of our making")
        return before
    except (ValueError, binascii.Error):
        raise InvalidQuery("the cursor is not one that this listing gave") from None


def _cursor_of(before: int) -> str:
    return base64.urlsafe_b64encode(b"e%d" % before).decode().rstrip("=")
