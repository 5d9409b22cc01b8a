"""Owns the routes that show what was sent: an event's payload, and an endpoint's last attempts.

Rules: a payload is shown as it came, byte for byte, and to admins alone. Attempts are looked for among all events that
are held of the client, in slices, one request at a time. They are of the instants at which they were looked at.
Limits: `intake.payload_bytes_max`; as many attempts as were asked for, LIMIT_MAX at most, while they are looked for.
"""

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.delivery import Delivery
from hookd.core.event import Event
from hookd.core.history import Attempt
from hookd.core.refusal import PayloadForgotten
from hookd.core.report import AttemptView, attempt_view
from hookd.edge.api.bodies import JSON
from hookd.edge.api.event_routes import find_event
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.schemas import LIMIT_DEFAULT, EventId, Limit
from hookd.edge.api.services import Services

# About 3 ms.
EVENTS_AT_ONCE = 1000


class AttemptsQuery(msgspec.Struct):
    limit: Limit = LIMIT_DEFAULT


class SentAttempt(msgspec.Struct):
    event_id: EventId
    attempt: AttemptView


class AttemptsView(msgspec.Struct):
    attempts: Annotated[list[SentAttempt], Meta(description="The newest first, of whatever event that is held")]


class _Sent(msgspec.Struct, gc=False, order=True):
    started_at: float
    sequence: int  # of its event
    number: int

    def attempt_of(self, delivery: Delivery) -> Attempt | None:
        return next((one for one in delivery.attempts if one.number == self.number), None)


def sent_routes(services: Services) -> Blueprint:
    routes = Blueprint("sent", __name__)
    one_at_a_time = trio.Lock()

    @routes.get("/v1/clients/<client_id>/events/<event_id>/payload")
    @operation(
        "An event's payload, as it came",
        scope=Scope.ADMIN,
        answers={200: Any},
        problems=("unknown-client", "unknown-event", "payload-forgotten"),
    )
    async def get_payload(client_id: str, event_id: str) -> Response:
        event = find_event(services, client_id, event_id)
        if event.payload is None:
            raise PayloadForgotten(
                f"event {event.id!r} has settled, and its payload was dropped to keep within [retention]"
            )
        return Response(event.payload, 200, content_type=JSON)

    @routes.get("/v1/clients/<client_id>/endpoints/<endpoint_id>/attempts")
    @operation(
        "An endpoint's last attempts, of whatever event",
        scope=Scope.READ,
        query=AttemptsQuery,
        answers={200: AttemptsView},
        problems=("unknown-client", "not-found"),
    )
    async def list_attempts(client_id: str, endpoint_id: str) -> Response:
        services.registry.get_endpoint(client_id, endpoint_id)
        async with one_at_a_time:
            newest = await newest_attempts(services, client_id, endpoint_id, limit=query(AttemptsQuery).limit)
        return json_response(AttemptsView(newest))

    return routes


async def newest_attempts(services: Services, client_id: str, endpoint_id: str, *, limit: int) -> list[SentAttempt]:
    """The newest first, of whatever event that is held."""
    return list(_views(services, endpoint_id, await _newest(services, client_id, endpoint_id, limit=limit)))


async def _newest(services: Services, client_id: str, endpoint_id: str, *, limit: int) -> list[tuple[_Sent, Event]]:
    """The newest first."""
    newest: list[tuple[_Sent, int, Event]] = []  # a heap, the oldest first; no two are alike in both
    events = iter(list(services.ledger.of_client(client_id)))
    while looked_at := list(islice(events, EVENTS_AT_ONCE)):
        for event in looked_at:
            delivery = event.delivery_to(endpoint_id)
            for attempt in () if delivery is None else delivery.attempts:
                row = (_Sent(attempt.started_at, event.sequence, attempt.number), event.sequence, event)
                if len(newest) < limit:
                    heapq.heappush(newest, row)
                elif newest[0][0] < row[0]:
                    heapq.heapreplace(newest, row)
        await trio.lowlevel.checkpoint()
    return [(sent, event) for sent, _, event in sorted(newest, reverse=True)]


def _views(services: Services, endpoint_id: str, newest: list[tuple[_Sent, Event]]) -> Iterator[SentAttempt]:
    for sent, event in newest:
        delivery = event.delivery_to(endpoint_id)
        attempt = None if delivery is None else sent.attempt_of(delivery)
        if delivery is not None and attempt is not None:  # of a long history one may have gone meanwhile
            excerpt = services.ledger.excerpt(event, delivery, attempt.number)
            yield SentAttempt(event.id, attempt_view(attempt, excerpt))
