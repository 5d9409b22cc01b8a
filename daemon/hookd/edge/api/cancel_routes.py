"""Owns the routes of cancelling: of one event, and of a range of a client's unsettled deliveries."""

import re
from functools import partial
from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.client_schema import ENTRY_CHARS_MAX, EVENT_TYPES_MAX, SUBSCRIPTION_PATTERN
from hookd.core.subscription import Subscription
from hookd.core.timestamps import Time, parse_rfc3339
from hookd.edge.api.action_bodies import Action, read_action
from hookd.edge.api.bodies import JSON
from hookd.edge.api.event_routes import find_event
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import event_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import Count, EndpointId, EventView
from hookd.edge.api.services import Services
from hookd.flow.cancel import Range

_CANCEL = Action("a cancel", "this cannot be cancelled", "without a body all of the event is cancelled")
_RANGE = Action("a cancel", "this cannot be cancelled", "{} cancels all that is unsettled")


class CancelBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Without an endpoint all of the event is cancelled."""

    endpoint_id: EndpointId | None = None


class CancelRangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the client's unsettled deliveries to cancel."""

    since: Annotated[Time, Meta(description="Accepted then or later; without it there is no bound")] | None = None
    until: Annotated[Time, Meta(description="Accepted then or earlier; without it there is no bound")] | None = None
    types: (
        Annotated[
            list[Annotated[str, Meta(pattern=SUBSCRIPTION_PATTERN, examples=["invoice.*"])]],
            Meta(
                min_length=1,
                max_length=EVENT_TYPES_MAX,
                description="As an endpoint's event_types; else every type",
            ),
        ]
        | None
    ) = None
    endpoint_id: EndpointId | None = None
    dry_run: Annotated[bool, Meta(description="Count what matches, cancel nothing")] = False


class CancelView(msgspec.Struct, frozen=True):
    """Deliveries. Of those that match, the cancelled ones waited, and those in flight run out."""

    matched: Count
    cancelled: Count
    in_flight: Annotated[Count, Meta(description="A 2xx delivers them; anything else exhausts them as cancelled")]


_decoder = msgspec.json.Decoder(CancelBody)
_range_decoder = msgspec.json.Decoder(CancelRangeBody)


def cancel_routes(services: Services) -> Blueprint:
    routes = Blueprint("cancel", __name__)

    @routes.post("/v1/clients/<client_id>/events/<event_id>/cancel")
    @operation(
        "Give up what is unsettled of an event; what is in flight runs out",
        scope=Scope.ADMIN,
        bodies={JSON: CancelBody},
        is_body_optional=True,
        answers={202: EventView, 200: EventView},
        problems=("unknown-client", "unknown-event", "not-found", "draining"),
    )
    async def cancel_event(client_id: str, event_id: str) -> Response:
        find_event(services, client_id, event_id)
        wanted = await read_action(services.effective, _CANCEL, _decoder, without=CancelBody())
        _CANCEL.check_endpoint_id(wanted.endpoint_id)
        event = find_event(services, client_id, event_id)  # it may have been forgotten meanwhile
        changed = services.cancel.cancel(event, wanted.endpoint_id)
        return json_response(event_view(services, event), 202 if changed else 200)

    @routes.post("/v1/clients/<client_id>/cancel")
    @operation(
        "Give up what is unsettled of a client, all of it or a range",
        scope=Scope.ADMIN,
        bodies={JSON: CancelRangeBody},
        answers={200: CancelView},
        problems=("malformed-json", "unknown-client", "not-found", "too-large", "unsupported-media-type", "draining"),
    )
    async def cancel_range(client_id: str) -> Response:
        wanted = await read_action(services.effective, _RANGE, _range_decoder)
        cancel = partial(services.cancel.cancel_range, client_id, _range(wanted), dry_run=wanted.dry_run)
        return json_response(CancelView(*await this_request().exchange.listening(cancel)))

    return routes


def _range(wanted: CancelRangeBody) -> Range:
    """Raises InvalidQuery."""
    _RANGE.check_endpoint_id(wanted.endpoint_id)
    since, until = _time("since", wanted.since), _time("until", wanted.until)
    if since is not None and until is not None and until < since:
        raise _RANGE.refusal("/until", "is before since")
    return Range(since, until, _types(wanted.types), wanted.endpoint_id)


def _types(entries: list[str] | None) -> Subscription | None:
    if entries is None:
        return None
    if not 1 <= len(entries) <= EVENT_TYPES_MAX:
        raise _RANGE.refusal("/types", f"must have 1 to {EVENT_TYPES_MAX} entries")
    for number, entry in enumerate(entries):
        if not re.fullmatch(SUBSCRIPTION_PATTERN, entry):
            detail = f"must be 1 to {ENTRY_CHARS_MAX} of A-Z a-z 0-9 _ . : / - *, with a ! before it or not"
            raise _RANGE.refusal(f"/types/{number}", detail)
    return Subscription.of(tuple(entries))


def _time(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise _RANGE.refusal(f"/{name}", "is not an RFC 3339 time such as 2026-11-21T18:35:00Z") from None
