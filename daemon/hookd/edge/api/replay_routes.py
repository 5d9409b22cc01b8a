"""Owns the route of replay: its body, and its answer."""

from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.event import mistake_of
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidQuery, Malformed
from hookd.core.text_check import check_text
from hookd.core.timestamps import Time, parse_rfc3339
from hookd.edge.api.bodies import JSON, read_body
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.services import Services
from hookd.flow.replay import Span

# Four short fields; more would only hold the loop.
BODY_BYTES_MAX = 64 * 1024


class ReplayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the client's deliveries to reopen: those given up from `since` to `until`."""

    since: Annotated[Time, Meta(description="Given up then or later; without it there is no bound")] | None = None
    until: Annotated[Time, Meta(description="Given up then or earlier; without it there is no bound")] | None = None
    statuses: Annotated[
        tuple[Literal["exhausted"], ...],
        Meta(min_length=1, description="only what was given up can be reopened; a delivered event is not sent again"),
    ] = ("exhausted",)
    dry_run: Annotated[bool, Meta(description="count what matches, reopen nothing")] = False


class ReplayView(msgspec.Struct, frozen=True):
    """Deliveries. Fewer reopened than matched: the budgets had no room for the rest; ask again later."""

    matched: int
    reopened: int


_decoder = msgspec.json.Decoder(ReplayBody)


def replay_routes(services: Services) -> Blueprint:
    routes = Blueprint("replay", __name__)

    @routes.post("/v1/clients/<client_id>/replay")
    @operation(
        "Reopen a client's exhausted deliveries, as far as the budgets have room",
        scope=Scope.ADMIN,
        bodies={JSON: ReplayBody},
        answers={200: ReplayView},
        problems=("malformed-json", "unknown-client", "too-large", "unsupported-media-type", "draining"),
    )
    async def replay(client_id: str) -> Response:
        wanted = _decode(await read_body(services.effective, JSON, bytes_max=BODY_BYTES_MAX))
        reopen = partial(services.replay.replay, client_id, _span(wanted), dry_run=wanted.dry_run)
        replayed = await this_request().exchange.listening(reopen)
        return json_response(ReplayView(*replayed))

    return routes


def _decode(body: bytes) -> ReplayBody:
    """Raises Malformed or InvalidQuery."""
    check_text(body)
    try:
        return _decoder.decode(body)
    except msgspec.ValidationError as error:
        mistake = mistake_of(str(error), "", of="a replay")
        if mistake.detail.startswith("Invalid enum value"):
            detail = 'must be "exhausted": only what was given up is reopened; what is unsettled is attempted anyway'
            mistake = Mistake(mistake.pointer, detail)
        raise _invalid(mistake) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}; {{}} replays all that is exhausted") from None


def _span(wanted: ReplayBody) -> Span:
    span = Span(_time("since", wanted.since), _time("until", wanted.until))
    if span.since is not None and span.until is not None and span.until < span.since:
        raise _invalid(Mistake("/until", "is before since"))
    return span


def _time(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise _invalid(Mistake(f"/{name}", "is not an RFC 3339 time such as 2026-11-21T18:35:00Z")) from None


def _invalid(mistake: Mistake) -> InvalidQuery:
    return InvalidQuery(f"this cannot be replayed: {mistake.pointer or 'it'} {mistake.detail}", mistakes=[mistake])
