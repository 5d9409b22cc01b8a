"""Owns the route of the settlement feed: its cursor, and the long poll.

Rules: a cursor names a run and a position in it. A cursor of another run, or older than the oldest settlement held, is
answered at once with `gap: true`, from the oldest on. Its reader may have missed some; it asks for the events that it
is not sure of, or posts them again. The feed ends with its run. The shutdown report tells what settled too late to be
read: all that is neither undelivered nor exhausted was delivered.

With `clients=` only those are listed; the cursor passes over the others. So a page may be empty although its cursor has
moved. They are looked for in slices.
"""

import base64
import binascii
import re
from typing import Annotated, NamedTuple

import msgspec
import trio
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.refusal import InvalidQuery
from hookd.core.retry import Reason
from hookd.core.settlements import Settlement, Settlements
from hookd.core.timestamps import Time, rfc3339
from hookd.edge.api.held_tokens import refuse_other_clients, refuse_whole
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.queries import query
from hookd.edge.api.rendering import json_response
from hookd.edge.api.schemas import LIMIT_DEFAULT, ClientId, EventId, Limit, Standing
from hookd.edge.api.services import Services
from hookd.edge.api.slices import OneATurn
from hookd.flow.feed import Feed

WAIT_SECONDS_MAX = 60
NOW = "now"
_CURSOR = re.compile(r"s([A-Za-z0-9_-]{1,64}):(0|[1-9][0-9]{0,18})")


ClientIds = Annotated[
    str,
    Meta(
        description="Only these clients' events: at most 100 ids with commas between them",
        extra_json_schema={
            "pattern": r"^[A-Za-z0-9_-]{1,64}(?:,[A-Za-z0-9_-]{1,64}){0,99}$",
            "examples": ["acme,globex"],
        },
    ),
]


class SettlementsQuery(msgspec.Struct):
    cursor: Annotated[str, Meta(description="The next_cursor of the page before; `now`: begin at the end")] | None = (
        None
    )
    limit: Limit = LIMIT_DEFAULT
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX, description="Wait so long for the next one")] = 0.0
    clients: ClientIds | None = None


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
        names_clients=True,
    )
    async def get_settlements() -> Response:
        asked, run_id, settlements = query(SettlementsQuery), services.run.run_id, services.feed.settlements
        cursor = _cursor(asked.cursor, run_id, settlements)
        clients = None if asked.clients is None else frozenset(asked.clients.split(","))
        if clients is None:
            refuse_whole("clients=")
        else:
            refuse_other_clients(clients)
        is_other_run = cursor is not None and cursor.run_id != run_id
        position = None if cursor is None or is_other_run else cursor.position
        if position is not None and position > settlements.end:
            raise InvalidQuery("the cursor is ahead of everything that has settled in this run")
        reading = _Reading(services.feed, pages, position, limit=asked.limit, clients=clients)
        await reading.read(wait_seconds=0.0 if is_other_run else asked.wait_seconds)
        return json_response(reading.view(run_id, is_other_run=is_other_run))

    return routes


class _Reading:
    """One page, in the making: what a wait is cut off from stands here."""

    def __init__(
        self, feed: Feed, pages: OneATurn, position: int | None, *, limit: int, clients: frozenset[str] | None
    ) -> None:
        self._feed = feed
        self._pages = pages
        self._position = position
        self._limit = limit
        self._clients = clients
        self._has_gap = False
        self._found: list[SettlementView] = []

    async def read(self, *, wait_seconds: float) -> None:
        """Until something is found, or this time is over. A drain that begins answers with what there is."""
        until, settlements = trio.current_time() + wait_seconds, self._feed.settlements
        if self._position is None:
            self._position = settlements.oldest
        while True:
            if self._position < settlements.end:  # else it waits at once: a drain that begins now answers it, too
                await self._scan()
            position = self._position
            seconds_left = until - trio.current_time()
            if self._found or seconds_left <= 0:
                return
            await self._feed.wait(position, seconds=seconds_left)
            if settlements.end == position:
                return

    def view(self, run_id: str, *, is_other_run: bool) -> SettlementsView:
        assert self._position is not None, "a page was read"
        return SettlementsView(
            run_id=run_id,
            settlements=self._found,
            next_cursor=str(_Cursor(run_id, self._position)),
            gap=is_other_run or self._has_gap,
        )

    async def _scan(self) -> None:
        """Up to the limit, or to the end."""
        while True:
            async with self._pages.turn():  # of 1,000: 3 ms
                page = self._feed.settlements.page(
                    self._position, limit=self._limit - len(self._found), clients=self._clients
                )
                self._has_gap = self._has_gap or page.has_gap
                self._found += [_view(one) for one in page.settlements]
                self._position = page.next_position
            if len(self._found) >= self._limit or self._position >= self._feed.settlements.end:
                return


def _view(settlement: Settlement) -> SettlementView:
    event_id, client_id, status, reason, settled_at = settlement
    return SettlementView(event_id, client_id, status, reason, rfc3339(settled_at))


def _cursor(text: str | None, run_id: str, settlements: Settlements) -> _Cursor | None:
    if text == NOW:
        return _Cursor(run_id, settlements.end)
    return None if text is None else _parse(text)


def _parse(text: str) -> _Cursor:
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode())
        cursor = None if found is None else _Cursor(found[1], int(found[2]))
        if cursor is None or str(cursor) != text:  # base64 has more than one spelling
            raise ValueError("not of our making")
    except (ValueError, binascii.Error):
        raise InvalidQuery("the cursor is not one that this feed gave") from None
    return cursor
