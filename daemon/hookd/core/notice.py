"""Owns the notice: what hookd tells of an endpoint, a client's budget, itself or the run before (contract section 9).

A notice is a row of the notices feed, and as JSON the payload of the event that goes to `operations.client`. It holds
no payload, no secret and no URL.
"""

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

from hookd.core.timestamps import Time

ERROR_CHARACTERS_MAX = 200


class Kind(enum.Enum):
    """A notice's type, and its event's."""

    FAILING = "hookd.endpoint.failing"
    THROTTLED = "hookd.endpoint.throttled"
    PAUSED = "hookd.endpoint.paused"
    DISABLED = "hookd.endpoint.disabled"
    RECOVERED = "hookd.endpoint.recovered"
    EXHAUSTED = "hookd.delivery.exhausted"
    CLIENT_FILLING = "hookd.client.filling"
    CLIENT_FULL = "hookd.client.full"
    DAEMON_FILLING = "hookd.daemon.filling"
    RUN_UNDELIVERED = "hookd.run.undelivered"


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """At most 2,000 B, with ids at their longest; its JSON 1,500."""

    id: Annotated[str, Meta(description="Also the id of the event that brings it")]
    type: Kind
    at: Time
    client_id: Annotated[str, Meta(description="Null where it is about the whole daemon")] | None = None
    endpoint_id: str | None = None
    state: Annotated[str, Meta(description="The endpoint's state, how the run ended, or filling or full")] | None = None
    since: Annotated[Time, Meta(description="When that began; of given up deliveries, their minute")] | None = None
    error: Annotated[str, Meta(description="What the last failed attempt came to")] | None = None
    counts: Annotated[dict[str, int], Meta(description="Numbers by name, which depend on the type")]
    paused_by: str | msgspec.UnsetType = msgspec.UNSET
    reasons: Annotated[dict[str, int], Meta(description="Why so many were given up")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    first_event_id: str | msgspec.UnsetType = msgspec.UNSET
    last_event_id: str | msgspec.UnsetType = msgspec.UNSET
    run_id: Annotated[str, Meta(description="Of the run before")] | msgspec.UnsetType = msgspec.UNSET


_encode = msgspec.json.Encoder().encode


def payload_of(notice: Notice) -> bytes:
    return _encode(notice)
