"""Owns the route of the settlement feed; edge/api/feed_pages has how it is read.

Whoever is told of a gap asks for the events that it is not sure of, or posts them again. The shutdown report tells what
settled too late to be read: all that is neither undelivered nor exhausted was delivered.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.retry import Reason
from hookd.core.settlements import Settlement
from hookd.core.timestamps import Time, rfc3339
from hookd.edge.api.feed_pages import FeedPages, FeedQuery
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.schemas import ClientId, EventId, Standing
from hookd.edge.api.services import Services


class SettlementView(msgspec.Struct, frozen=True):
    event_id: EventId
    client_id: ClientId
    status: Standing
    reason: Annotated[Reason, Meta(description="Of its first exhausted delivery")] | None
    settled_at: Time


class SettlementsView(msgspec.Struct, frozen=True):
    run_id: str
    settlements: list[SettlementView]
    next_cursor: str
    gap: bool


def settlement_routes(services: Services) -> Blueprint:
    routes = Blueprint("settlements", __name__)
    run_id = services.run.run_id
    pages = FeedPages(services.feed, run_id, letter="s", view=_view)

    @routes.get("/v1/settlements")
    @operation(
        "What settled, in order of settling; waits for the next one if asked to",
        scope=Scope.READ,
        producers_too=True,
        query=FeedQuery,
        answers={200: SettlementsView},
        problems=("invalid-query",),
        names_clients=True,
    )
    async def get_settlements() -> Response:
        return json_response(SettlementsView(run_id, *await pages.read(query(FeedQuery))))

    return routes


def _view(settled: Settlement) -> SettlementView:
    return SettlementView(
        settled.event_id, settled.client_id, settled.status, settled.reason, rfc3339(settled.settled_at)
    )
