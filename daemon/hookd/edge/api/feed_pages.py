"""Owns how a feed is read over HTTP, settlements and notices alike: its cursor, its pages and the long poll.

Rules: a cursor names its feed, a run and a position in it. A cursor of another run, or older than the oldest row held,
is answered at once with `gap: true`, from the oldest on. Its reader may have missed some. The feed ends with its run.

With `clients=` only those are listed; the cursor passes over the others. So a page may be empty although its cursor has
moved. They are looked for in slices.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
import trio
from msgspec import Meta

from hookd.core.refusal import InvalidQuery
from hookd.core.ring import Row
from hookd.edge.api.held_tokens import refuse_other_clients, refuse_whole
from hookd.edge.api.schemas import LIMIT_DEFAULT, Limit
from hookd.edge.api.slices import OneATurn
from hookd.flow.feed import Feed

WAIT_SECONDS_MAX = 60
NOW = "now"
_CURSOR = re.compile(r"([a-z])([A-Za-z0-9_-]{1,64}):(0|[1-9][0-9]{0,18})")

View = TypeVar("View")

ClientIds = Annotated[
    str,
    Meta(
        description="Only what is about these clients: at most 100 ids with commas between them",
        extra_json_schema={
            "pattern": r"^[A-Za-z0-9_-]{1,64}(?:,[A-Za-z0-9_-]{1,64}){0,99}$",
            "examples": ["acme,globex"],
        },
    ),
]


class FeedQuery(msgspec.Struct):
    cursor: Annotated[str, Meta(description="The next_cursor of the page before; `now`: begin at the end")] | None = (
        None
    )
    limit: Limit = LIMIT_DEFAULT
    wait_seconds: Annotated[float, Meta(ge=0, le=WAIT_SECONDS_MAX, description="Wait so long for the next one")] = 0.0
    clients: ClientIds | None = None


class FeedPage(NamedTuple, Generic[View]):
    found: list[View]
    next_cursor: str
    gap: bool


class _Cursor(NamedTuple):
    letter: str  # of the feed
    run_id: str
    position: int

    def __str__(self) -> str:
        text = f"{self.letter}{self.run_id}:{self.position}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class FeedPages(Generic[Row, View]):
    """`letter` tells this feed's cursors from another's; `view` makes of a row what is shown."""

    def __init__(self, feed: Feed[Any, Row], run_id: str, *, letter: str, view: Callable[[Row], View]) -> None:
        self._feed = feed
        self._run_id = run_id
        self._letter = letter
        self._view = view
        self._turns = OneATurn()

    async def read(self, asked: FeedQuery) -> FeedPage[View]:
        """Waits as long as is asked for. Raises InvalidQuery, or Forbidden for clients that are not the token's."""
        cursor = self._cursor(asked.cursor)
        clients = None if asked.clients is None else frozenset(asked.clients.split(","))
        if clients is None:
            refuse_whole("clients=")
        else:
            refuse_other_clients(clients)
        is_other_run = cursor is not None and cursor.run_id != self._run_id
        position = None if cursor is None or is_other_run else cursor.position
        if position is not None and position > self._feed.ring.end:
            raise InvalidQuery("the cursor is ahead of everything that this feed has in this run")
        reading = _Reading(self._feed, self._turns, self._view, position, limit=asked.limit, clients=clients)
        await reading.read(wait_seconds=0.0 if is_other_run else asked.wait_seconds)
        next_cursor = str(_Cursor(self._letter, self._run_id, reading.position))
        return FeedPage(reading.found, next_cursor, is_other_run or reading.has_gap)

    def _cursor(self, text: str | None) -> _Cursor | None:
        if text == NOW:
            return _Cursor(self._letter, self._run_id, self._feed.ring.end)
        return None if text is None else self._parse(text)

    def _parse(self, text: str) -> _Cursor:
        try:
            found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode())
            cursor = None if found is None else _Cursor(found[1], found[2], int(found[3]))
            if cursor is None or cursor.letter != self._letter or str(cursor) != text:  # base64 has several spellings
                raise ValueError("not of our making")
        except (ValueError, binascii.Error):
            raise InvalidQuery("the cursor is not one that this feed gave") from None
        return cursor


class _Reading(Generic[Row, View]):
    """One page, in the making: what a wait is cut off from stands here."""

    def __init__(
        self,
        feed: Feed[Any, Row],
        turns: OneATurn,
        view: Callable[[Row], View],
        position: int | None,
        *,
        limit: int,
        clients: frozenset[str] | None,
    ) -> None:
        self._feed = feed
        self._turns = turns
        self._view = view
        self._limit = limit
        self._clients = clients
        self.position = feed.ring.oldest if position is None else position
        self.has_gap = False
        self.found: list[View] = []

    async def read(self, *, wait_seconds: float) -> None:
        """Until something is found, or this time is over. A drain that begins answers with what there is."""
        until, ring = trio.current_time() + wait_seconds, self._feed.ring
        while True:
            if self.position < ring.end:  # else it waits at once: a drain that begins now answers it, too
                await self._scan()
            position = self.position
            seconds_left = until - trio.current_time()
            if self.found or seconds_left <= 0:
                return
            await self._feed.wait(position, seconds=seconds_left)
            if ring.end == position:
                return

    async def _scan(self) -> None:
        """Up to the limit, or to the end."""
        while True:
            async with self._turns.turn():  # of 1,000: 3 ms
                page = self._feed.ring.page(self.position, limit=self._limit - len(self.found), clients=self._clients)
                self.has_gap = self.has_gap or page.has_gap
                self.found += map(self._view, page.rows)
                self.position = page.next_position
            if len(self.found) >= self._limit or self.position >= self._feed.ring.end:
                return
