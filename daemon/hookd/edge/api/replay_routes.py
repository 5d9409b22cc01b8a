"""Owns the routes that send again: of one event, and of a client's after an outage; their bodies and answers."""

import re
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from quart import Blueprint, Response

from hookd.core.client_schema import EVENT_TYPES_MAX, SUBSCRIPTION_PATTERN
from hookd.core.delivery import Status
from hookd.core.subscription import Subscription
from hookd.core.timestamps import Time, parse_rfc3339, rfc3339
from hookd.edge.api.action_bodies import Action, read_action
from hookd.edge.api.bodies import JSON
from hookd.edge.api.event_routes import find_event
from hookd.edge.api.operations import Scope, operation
from hookd.edge.api.rendering import event_view, json_response
from hookd.edge.api.request_exchange import this_request
from hookd.edge.api.schemas import Count, EndpointId, EventView, Seconds
from hookd.edge.api.services import Services
from hookd.flow.replay import Replayed, Span, Wanted

_REPLAY = Action("a replay", "this cannot be replayed", "{} replays all that is exhausted")
_REDELIVERY = Action("a redelivery", "this cannot be redelivered", "without a body every endpoint gets it again")
_ENTRY = re.compile(SUBSCRIPTION_PATTERN)

OneEndpoint = Annotated[EndpointId, Meta(description="This endpoint alone; without it all of them")]


class RedeliverBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoint_id: OneEndpoint | None = None


class ReplayBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the client's deliveries: those that came into one of `statuses` from `since` to `until`."""

    since: Annotated[Time, Meta(description="Given up, delivered or last failed then or later")] | None = None
    until: Annotated[Time, Meta(description="Given up, delivered or last failed then or earlier")] | None = None
    statuses: Annotated[
        tuple[Literal["exhausted", "delivered", "failed"], ...],
        Meta(
            min_length=1,
            description="`exhausted` reopens what was given up; `delivered` sends it again, and what was accepted in "
            "that time to endpoints that came later; `failed` makes due now what waits",
        ),
    ] = ("exhausted",)
    types: (
        Annotated[
            tuple[Annotated[str, Meta(extra_json_schema={"pattern": SUBSCRIPTION_PATTERN})], ...],
            Meta(
                min_length=1,
                max_length=EVENT_TYPES_MAX,
                description="Of these types alone, as `event_types` has them",
                examples=[["invoice.*"]],
            ),
        ]
        | None
    ) = None
    endpoint_id: OneEndpoint | None = None
    dry_run: Annotated[bool, Meta(description="count what matches, change nothing")] = False


class ReplayView(msgspec.Struct, frozen=True):
    """Deliveries: matched = reopened + left, but for a dry run."""

    matched: Count
    reopened: Annotated[Count, Meta(description="Reopened, opened or made due")]
    left: Annotated[Count, Meta(description="Matched and had no room, or hookd began to drain")]
    without_payload: Annotated[Count, Meta(description="Delivered then, and cannot be sent again")]
    stopped_by: Annotated[Literal["client-full", "full", "draining"], Meta(description="Why some are left")] | None
    retry_after_seconds: Annotated[Seconds, Meta(description="When to ask again")] | None
    until: Annotated[Time, Meta(description="To go on with what is left, ask the same with this `until`")]


_redelivery_decoder = msgspec.json.Decoder(RedeliverBody)
_replay_decoder = msgspec.json.Decoder(ReplayBody)


def replay_routes(services: Services) -> Blueprint:
    routes = Blueprint("replay", __name__)

    @routes.post("/v1/clients/<client_id>/events/<event_id>/redeliver")
    @operation(
        "Send an event's settled deliveries once more, and to endpoints that came later",
        scope=Scope.ADMIN,
        bodies={JSON: RedeliverBody},
        is_body_optional=True,
        answers={202: EventView, 200: EventView},
        problems=(
            *("malformed-json", "too-large", "unsupported-media-type", "unknown-client", "unknown-event", "not-found"),
            *("no-payload", "endpoint-disabled", "client-full", "full", "draining"),
        ),
    )
    async def redeliver_event(client_id: str, event_id: str) -> Response:
        asked = await read_action(services.effective, _REDELIVERY, _redelivery_decoder, without=RedeliverBody())
        _REDELIVERY.check_endpoint_id(asked.endpoint_id)
        event = find_event(services, client_id, event_id)
        is_sent = services.redelivery.redeliver(event, asked.endpoint_id)
        return json_response(event_view(services, event), 202 if is_sent else 200)

    @routes.post("/v1/clients/<client_id>/replay")
    @operation(
        "Send a client's events again after an outage, as far as the budgets have room",
        scope=Scope.ADMIN,
        bodies={JSON: ReplayBody},
        answers={200: ReplayView},
        problems=("malformed-json", "unknown-client", "not-found", "too-large", "unsupported-media-type", "draining"),
    )
    async def replay(client_id: str) -> Response:
        asked = await read_action(services.effective, _REPLAY, _replay_decoder)
        until = services.clock.now().wall
        reopen = partial(services.replay.replay, client_id, _wanted(asked), dry_run=asked.dry_run)
        replayed = await this_request().exchange.listening(reopen)
        return json_response(_view(replayed, asked.until or rfc3339(until)))

    return routes


def _view(replayed: Replayed, until: str) -> ReplayView:
    stopped_by = replayed.stopped_by
    return ReplayView(
        matched=replayed.matched,
        reopened=replayed.reopened,
        left=replayed.left,
        without_payload=replayed.without_payload,
        stopped_by=None if stopped_by is None else stopped_by.slug,  # type: ignore[arg-type] # one of the three
        retry_after_seconds=None if stopped_by is None else stopped_by.retry_after_seconds,
        until=until,
    )


def _wanted(asked: ReplayBody) -> Wanted:
    """Raises InvalidQuery."""
    span = Span(_time("since", asked.since), _time("until", asked.until))
    if span.since is not None and span.until is not None and span.until < span.since:
        raise _REPLAY.refusal("/until", "is before since")
    for index, entry in enumerate(asked.types or ()):
        if not _ENTRY.fullmatch(entry):
            raise _REPLAY.refusal(f"/types/{index}", 'must be a type such as "invoice.paid" or "invoice.*"')
    _REPLAY.check_endpoint_id(asked.endpoint_id)
    statuses = frozenset(Status(one) for one in asked.statuses)
    return Wanted(span, statuses, Subscription.of(asked.types or ()), asked.endpoint_id)


def _time(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_rfc3339(text)
    except ValueError:
        raise _REPLAY.refusal(f"/{name}", "is not an RFC 3339 time such as 2026-11-21T18:35:00Z") from None
