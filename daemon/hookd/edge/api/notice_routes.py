"""Owns the route of the notices feed (contract section 9); edge/api/feed_pages has how it is read."""

import msgspec
from quart import Blueprint, Response

from hookd.core.notice import Notice
from hookd.edge.api.feed_pages import FeedPages, FeedQuery
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.services import Services


class NoticesView(msgspec.Struct, frozen=True):
    run_id: str
    notices: list[Notice]
    next_cursor: str
    gap: bool


def notice_routes(services: Services) -> Blueprint:
    routes = Blueprint("notices", __name__)
    run_id = services.run.run_id
    pages = FeedPages(services.notices.feed, run_id, letter="n", view=_as_it_is)

    @routes.get("/v1/notices")
    @operation(
        "What hookd tells of endpoints, budgets and the run before; waits for the next one if asked to",
        scope=Scope.READ,
        query=FeedQuery,
        answers={200: NoticesView},
        problems=("invalid-query",),
        names_clients=True,
    )
    async def get_notices() -> Response:
        return json_response(NoticesView(run_id, *await pages.read(query(FeedQuery))))

    return routes


def _as_it_is(notice: Notice) -> Notice:
    return notice
