"""Owns the route that says which events are known: what a platform asks after a gap in the feed, before it posts again.

Rules: it tells the status alone; what is forgotten, and what was never admitted, is null alike. It changes nothing.
Limits: as many events as a batch may have, ENTRY_BYTES_MAX each; 1,000 are found in 1 ms.
"""

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.event import mistake_of
from hookd.core.ids import is_id
from hookd.core.mistakes import Mistake
from hookd.core.quoting import cut
from hookd.core.refusal import InvalidEvent, Malformed, TooLarge
from hookd.core.text_check import check_text
from hookd.edge.api.bodies import JSON, read_body
from hookd.edge.api.held_tokens import refuse_other_clients
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import ClientId, EventId, Standing
from hookd.edge.api.services import Services

ENTRY_BYTES_MAX = 512  # two ids of 64 characters, their names, and spaces


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    client_id: ClientId
    id: EventId


class LookupBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    events: Annotated[list[Asked], Meta(description="At most intake.batch_events_max")]


class Known(msgspec.Struct, frozen=True):
    client_id: ClientId
    id: EventId
    status: Annotated[Standing | None, Meta(description="null: it is not known, or forgotten")]


class LookupAnswer(msgspec.Struct, frozen=True):
    events: Annotated[list[Known], Meta(description="In the order they were asked for")]


_decoder = msgspec.json.Decoder(LookupBody)


def lookup_routes(services: Services) -> Blueprint:
    routes = Blueprint("lookup", __name__)

    @routes.post("/v1/events/lookup")
    @operation(
        "Which of these events are known, and their statuses",
        scope=Scope.PRODUCE,
        bodies={JSON: LookupBody},
        answers={200: LookupAnswer},
        problems=("invalid-event",),
        names_clients=True,
    )
    async def look_up() -> Response:
        events_max = services.effective.settings.intake.batch_events_max
        body = await read_body(services.effective, JSON, bytes_max=events_max * ENTRY_BYTES_MAX)
        asked = _decode(body, events_max)
        refuse_other_clients(each.client_id for each in asked)
        this_request().exchange.answer.refuse_if_full()
        return json_response(LookupAnswer([_known(services, each) for each in asked]))

    return routes


def _decode(body: bytes, events_max: int) -> list[Asked]:
    """Raises TooLarge before anything is built, Malformed or InvalidEvent."""
    if body.count(b"{") > events_max + 1:
        raise TooLarge(f"more than {events_max:,} events in one lookup; intake.batch_events_max is {events_max:,}")
    check_text(body)
    try:
        asked = _decoder.decode(body).events
    except msgspec.ValidationError as error:
        mistake = mistake_of(str(error), "", of="a lookup")
        detail = f"this is no lookup: {mistake.pointer or 'it'} {mistake.detail}"
        raise InvalidEvent(detail, mistakes=[mistake]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the body is not JSON: {cut(str(error))}") from None
    _refuse_bad_ids(asked)
    return asked


def _refuse_bad_ids(asked: list[Asked]) -> None:
    """A schema's pattern is not the decoder's to check."""
    mistakes = [
        Mistake(f"/events/{number}/{name}", "must be 1 to 64 of A-Z a-z 0-9 _ -")
        for number, each in enumerate(asked)
        for name, text in (("client_id", each.client_id), ("id", each.id))
        if not is_id(text)
    ]
    if mistakes:
        detail = f"this is no lookup: {mistakes[0].pointer} {mistakes[0].detail}"
        raise InvalidEvent(detail, mistakes=mistakes)


def _known(services: Services, asked: Asked) -> Known:
    event = services.ledger.find(asked.client_id, asked.id)
    return Known(asked.client_id, asked.id, None if event is None else event.status)
