"""Owns the client: the registered party that wants its events, and its endpoints.

Rule: all of it is bounded, because a registered client stays in memory. core/client_schema has the limits.

It does not read definitions (core/client_definition) and does not keep clients (core/registry).
"""

import sys
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from hookd.core.endpoint_egress import EndpointEgress, TlsIdentity
from hookd.core.rate import Rate
from hookd.core.subscription import Subscription
from hookd.core.subscription import held_bytes as subscription_bytes
from hookd.core.urls import logged_url, shown_url

# Each rotated secret is one more signature of 47 bytes in the header, and one more digest an attempt.
OLD_SECRETS_MAX = 3
# What a client takes besides its endpoints: its book, its courier and that one's look, measured with a delivery
# waiting. What an endpoint takes besides its texts: its health, its lane, a schedule, old secrets.
CLIENT_BYTES, ENDPOINT_BYTES = 5 * 1024, 1024
# Of these, what the definitions take, before anybody works for them.
CLIENT_DEFINITION_BYTES, ENDPOINT_DEFINITION_BYTES = 256, 384
TEXT_BYTES, TUPLE_BYTES, NUMBER_BYTES = 64, 64, 40  # of a string, a pair, a number in a tuple


Order = Literal["any", "strict"]


class OldSecret(NamedTuple):
    """A secret that was rotated away and still signs, for receivers that have not changed over."""

    secret: str
    until: float  # monotonic


class Endpoint(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One webhook URL of a client. Without timeout, concurrency, schedule or egress: as `[delivery]`, `[retry]` and
    `[egress]` say."""

    id: str
    url: str
    secret: str
    event_types: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    timeout_seconds: float | None = None
    concurrency: int | None = None
    schedule_seconds: tuple[float, ...] | None = None
    order: Order = "any"
    rate: Rate | None = None
    give_up_on: tuple[int | str, ...] = ()  # statuses, and classes such as "4xx"
    trace_context: bool = False  # whether it gets the traceparent that came with an event
    paused: bool | None = None  # what the definition says; None: nothing, and a pause stays as it is
    egress: EndpointEgress | None = None
    old_secrets: tuple[OldSecret, ...] = ()
    shown_url: str = ""  # for people who may read events; every delivery has it, so it is made and held once
    subscription: Subscription | None = None  # made of event_types, once for a registration

    def __post_init__(self) -> None:
        """Also after a PUT that repeats it, equal texts are one object: what has settled holds it on."""
        for name, text in (("id", self.id), ("shown_url", shown_url(self.url))):
            msgspec.structs.force_setattr(self, name, sys.intern(text))
        msgspec.structs.force_setattr(self, "subscription", Subscription.of(self.event_types))

    def __repr__(self) -> str:  # tracebacks and logs print structs; secrets, header values and tokens in URLs stay out
        return f"Endpoint(id={self.id!r}, url={logged_url(self.url)!r})"

    def secrets(self, now: float) -> tuple[str, ...]:
        """What to sign with now (monotonic), the newest first."""
        if not self.old_secrets:
            return (self.secret,)
        return (self.secret, *(old.secret for old in self.old_secrets if now < old.until))

    @property
    def held_bytes(self) -> int:
        """Its texts, what its health and its lane take, and its secret's three predecessors."""
        texts = (self.id, self.url, self.shown_url, self.secret, *self.event_types)
        headers = sum(TEXT_BYTES + TUPLE_BYTES + len(name) + TEXT_BYTES + len(value) for name, value in self.headers)
        schedule = (len(self.schedule_seconds or ()) + len(self.give_up_on)) * NUMBER_BYTES
        held = ENDPOINT_BYTES + sum(TEXT_BYTES + len(text) for text in texts) + headers + schedule
        held += 0 if self.rate is None else self.rate.log_bytes
        held += 0 if self.egress is None else self.egress.held_bytes
        return held + subscription_bytes(self.event_types)

    @property
    def is_strict(self) -> bool:
        """Whether it gets its events one at a time, in the order of acceptance."""
        return self.order == "strict"

    def gives_up_on(self, status_code: int) -> bool:
        return status_code in self.give_up_on or f"{status_code // 100}xx" in self.give_up_on

    def wants(self, event_type: str) -> bool:
        return self.subscription is None or self.subscription.wants(event_type)


class Client(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    id: str
    endpoints: tuple[Endpoint, ...]
    managed_by_config: bool = False

    @property
    def definition_bytes(self) -> int:
        """What it takes before it is registered."""
        unused = CLIENT_BYTES - CLIENT_DEFINITION_BYTES
        return self.held_bytes - unused - len(self.endpoints) * (ENDPOINT_BYTES - ENDPOINT_DEFINITION_BYTES)

    @property
    def held_bytes(self) -> int:
        """What it takes at most while it is registered, its deliveries apart: its definition, and who brings them."""
        return CLIENT_BYTES + sum(endpoint.held_bytes for endpoint in self.endpoints)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        for endpoint in self.endpoints:
            if endpoint.id == endpoint_id:
                return endpoint
        return None


def tls_identities(clients: Iterable[Client]) -> Iterator[TlsIdentity]:
    """Those that endpoints have of their own; each set of authorities and certificate as often as it is used."""
    for client in clients:
        for endpoint in client.endpoints:
            if endpoint.egress is not None and endpoint.egress.tls is not None:
                yield endpoint.egress.tls
