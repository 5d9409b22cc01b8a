"""Owns the route of the settlement feed: its cursor, and the long poll.

Rules: a cursor names a run and a position in it. A cursor of another run, or older than the oldest settlement held, is
answered at once with `gap: true`, from the oldest on. Its reader may have missed some; it asks for the events that it
is not sure of, or posts them again. The feed ends with its run. The shutdown report tells what settled too late to be
read: all that is neither undelivered nor exhausted was delivered.
"""

import base64
import binascii
import re
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.refusal import InvalidQuery
from hookd.core.retry import Reason
from hookd.core.settlements import Settlement
from hookd.core.timestamps import Time, rfc3339
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.schemas import LIMIT_DEFAULT, ClientId, EventId, Limit, Standing
from hookd.edge.api.services import Services
from hookd.edge.api.slices import OneATurn
from hookd.flow.feed import Feed

WAIT_SECONDS_MAX = 60
_CURSOR = re.compile(r"s([A-Za-z0-9_-]{1,64}):(0|[1-9][0-9]{0,18})")


class SettlementsQuery(msgspec.Struct):
    cursor: Annotated[str, Meta(description="The next_cursor of the page before")] | None = None
    limit: Limit = LIMIT_DEFAULT
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX, description="Wait so long for the next one")] = 0.0


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


class _Cursor(NamedTuple):
    run_id: str
    position: int

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(b"s%s:%d" % (self.run_id.encode(), self.position)).decode().rstrip("=")


def settlement_routes(services: Services) -> Blueprint:
    routes = Blueprint("settlements", __name__)
    pages = OneATurn()

    @routes.get("/v1/settlements")
    @operation(
        "What settled, in order of settling; waits for the next one if asked to",
        scope=Scope.READ,
        producers_too=True,
        query=SettlementsQuery,
        answers={200: SettlementsView},
        problems=("invalid-query",),
    )
    async def get_settlements() -> Response:
        asked = query(SettlementsQuery)
        cursor = None if asked.cursor is None else _parse(asked.cursor)
        is_other_run = cursor is not None and cursor.run_id != services.run.run_id
        position = None if cursor is None or is_other_run else cursor.position
        if not is_other_run:
            await _wait(services.feed, position, seconds=asked.wait_seconds)
        async with pages.turn():  # of 1,000: 3 ms
            return json_response(_page(services, position, is_other_run=is_other_run, limit=asked.limit))

    return routes


async def _wait(feed: Feed, position: int | None, *, seconds: float) -> None:
    settlements = feed.settlements
    if position is not None and position > settlements.end:
        raise InvalidQuery("the cursor is ahead of everything that has settled in this run")
    await feed.wait(settlements.oldest if position is None else position, seconds=seconds)


def _page(services: Services, position: int | None, *, is_other_run: bool, limit: int) -> SettlementsView:
    run_id, page = services.run.run_id, services.feed.settlements.page(position, limit=limit)
    return SettlementsView(
        run_id=run_id,
        settlements=[_view(one) for one in page.settlements],
        next_cursor=str(_Cursor(run_id, page.next_position)),
        gap=is_other_run or page.has_gap,
    )


def _view(settlement: Settlement) -> SettlementView:
    event_id, client_id, status, reason, settled_at = settlement
    return SettlementView(event_id, client_id, status, reason, rfc3339(settled_at))


def _parse(text: str) -> _Cursor:
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode())
        cursor = None if found is None else _Cursor(found[1], int(found[2]))
        if cursor is None or str(cursor) != text:  # base64 has more than one spelling
            raise ValueError("not of our making")
    except (ValueError, binascii.Error):
        raise InvalidQuery("the cursor is not one that this feed gave") from None
    return cursor
