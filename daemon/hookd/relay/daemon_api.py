"""Owns what the relay asks of a daemon, or of the proxy in front of several: posts, look-ups, feeds, definitions.

Rules: the client stands in the path of a post, so that a proxy can choose the daemon by it. What an answer means is
decided here once: taken, refused for good, refused for now, or not known. Feeds and look-ups go to each daemon by
itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import msgspec

from hookd.relay.http_origin import HttpAnswer, HttpOrigin, Unanswered
from hookd.relay.parking import Reason, Row

POST_SECONDS_MAX = 10.0
FEED_PAGE_MAX = 1000
SETTLED = ("delivered", "exhausted")
# What an event is itself to blame for stays so. All else may pass: a wrong path in --to refuses no event for good.
_FOR_GOOD = ("invalid-event", "malformed-json", "too-large", "id-conflict")
_OF_THE_CLIENT = {"unknown-client": Reason.UNKNOWN, "client-full": Reason.FULL}
# Of a whole request. A proxy's 502 and 504, as a bug's 500, leave open what arrived.
_UNCERTAIN = (500, 502, 504)
_DENIED = (401, 403)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: JSON of thousands of levels
_RETRY_AFTER_SECONDS_MAX = 3600  # longer than any lane is parked
NO_FEED = "there is no settlement feed; if this is a proxy, name each daemon behind it by --feed"


class Denied(Exception):
    """The daemon refuses the token."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """What was said of one event: a status, or a problem."""

    status: str | None = None
    problem: dict[str, Any] | None = None


class _Batch(msgspec.Struct):
    events: list[Item]


class _Known(msgspec.Struct, frozen=True, gc=False):
    status: str | None


class _Lookup(msgspec.Struct):
    events: list[_Known]


class Settled(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    client_id: str
    status: str
    reason: str | None


class Page(msgspec.Struct):
    run_id: str
    settlements: list[Settled]
    next_cursor: str
    gap: bool


class Taken(NamedTuple):
    """A request that was answered event by event."""

    items: list[Item]


class Refused(NamedTuple):
    """A whole request that was not taken, or one event of it. `reason` is None where it never will be."""

    reason: Reason | None
    problem: str
    detail: str
    retry_after_seconds: float | None = None


_batch_decoder = msgspec.json.Decoder(_Batch)
_lookup_decoder = msgspec.json.Decoder(_Lookup)
_page_decoder = msgspec.json.Decoder(Page)


class DaemonApi:
    """Of one origin. Every method raises Unsent or Unanswered."""

    def __init__(self, url: str, token: str | None) -> None:
        self._origin = HttpOrigin(url)
        self.url = self._origin.url
        self._headers = {"content-type": "application/json", "user-agent": "hookd-relay"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"

    async def aclose(self) -> None:
        await self._origin.aclose()

    async def post(self, client_id: str, items: Sequence[bytes]) -> Taken | Refused:
        """Events of one client, each taken or refused by itself."""
        path = f"/v1/clients/{quote(client_id, safe='')}/events?partial=true"
        answer = await self._ask("POST", path, b"[%b]" % b",".join(items), seconds=POST_SECONDS_MAX)
        if answer.status == 202:
            taken = _decoded(_batch_decoder, answer)
            if len(taken.events) != len(items):
                raise Unanswered(f"{len(taken.events)} answers to {len(items)} events")
            return Taken(taken.events)
        return _refused(answer)

    async def look_up(self, rows: Sequence[Row]) -> list[str | None]:
        """Each one's status there, or None."""
        asked = {"events": [{"client_id": row.client_id, "id": row.event_id} for row in rows]}
        answer = await self._ask("POST", "/v1/events/lookup", msgspec.json.encode(asked), seconds=POST_SECONDS_MAX)
        found = _decoded(_lookup_decoder, _good(answer))
        if len(found.events) != len(rows):
            raise Unanswered(f"{len(found.events)} answers to a look-up of {len(rows)}")
        return [one.status for one in found.events]

    async def settlements(self, cursor: str | None, wait_seconds: float) -> Page | None:
        """One page. None: the cursor is none of its."""
        asked = {"limit": FEED_PAGE_MAX, "wait_seconds": wait_seconds} | ({"cursor": cursor} if cursor else {})
        path = f"/v1/settlements?{urlencode(asked)}"
        answer = await self._ask("GET", path, seconds=wait_seconds + POST_SECONDS_MAX)
        if answer.status == 422:
            return None
        if answer.status == 404:
            raise Unanswered(NO_FEED)
        page: Page = _decoded(_page_decoder, _good(answer))
        return page

    async def reason_of(self, client_id: str, event_id: str) -> str:
        """Why an event was exhausted; empty where that is forgotten."""
        answer = await self._ask("GET", f"/v1/clients/{client_id}/events/{event_id}", seconds=POST_SECONDS_MAX)
        if answer.status == 404:
            return ""
        try:
            deliveries = msgspec.json.decode(_good(answer).body)["deliveries"]
            return str(next((one["reason"] for one in deliveries if one["reason"]), ""))
        except (*_UNREADABLE, KeyError, TypeError) as error:
            raise Unanswered(f"its answer cannot be read: {error}") from error

    async def put_client(self, client_id: str, definition: bytes) -> str | None:
        """What was wrong with it, or None."""
        path = f"/v1/clients/{quote(client_id, safe='')}"
        answer = await self._ask("PUT", path, definition, seconds=POST_SECONDS_MAX)
        return None if answer.status in (200, 201) else _refused(answer).detail

    async def _ask(self, method: str, path: str, body: bytes = b"", *, seconds: float) -> HttpAnswer:
        return await self._origin.ask(method, path, body, headers=self._headers, seconds=seconds)


def refusal_of(problem: Mapping[str, Any]) -> Refused:
    """Of one event."""
    slug = str(problem.get("type", "")).rpartition("/")[2]
    after = problem.get("retry_after_seconds")
    seconds = float(min(after, _RETRY_AFTER_SECONDS_MAX)) if isinstance(after, int | float) else None
    reason = None if slug in _FOR_GOOD else _OF_THE_CLIENT.get(slug, Reason.UNAVAILABLE)
    return Refused(reason, slug, str(problem.get("detail", "")), seconds)


def _refused(answer: HttpAnswer) -> Refused:
    """Of a whole request. Raises Unanswered where it leaves open what arrived."""
    try:
        problem = msgspec.json.decode(answer.body)
    except _UNREADABLE:
        problem = None
    is_hookds = isinstance(problem, dict) and str(problem.get("type", "")).startswith("/problems/")
    if answer.status in _UNCERTAIN:
        raise Unanswered(f"it answers {answer.status}")
    if not is_hookds:
        return Refused(Reason.UNAVAILABLE, str(answer.status), f"what answers {answer.status} there is no hookd")
    refused = refusal_of(problem)
    # Of a whole request a 429 is about the token's share, not the client's.
    return refused._replace(reason=Reason.UNAVAILABLE) if answer.status == 429 else refused


def _good(answer: HttpAnswer) -> HttpAnswer:
    """Raises Denied or Unanswered."""
    if answer.status in _DENIED:
        raise Denied(_refused(answer).detail)
    if answer.status != 200:
        raise Unanswered(f"it answers {answer.status}")
    return answer


def _decoded(decoder: msgspec.json.Decoder[Any], answer: HttpAnswer) -> Any:
    try:
        return decoder.decode(answer.body)
    except _UNREADABLE as error:
        raise Unanswered(f"its answer cannot be read: {error}") from error
