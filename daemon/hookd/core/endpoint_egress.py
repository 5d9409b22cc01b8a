"""Owns how an endpoint is reached where that is not straight: whom TLS trusts, what we show it, through which proxy.

Rules:
 1. What an endpoint has of its own wins over what `[egress]` gives to all, part by part. A certificate and its key are
    one part. So are a proxy and its credentials: those of one are never sent to another.
 2. No key and no password is in a text that is printed.
 3. A proxy that the API registered is judged like any address. One of the configuration is the operator's.

Does not read files (config/), prove certificates (edge/egress/tls_identity), or connect.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from hookd.core.mistakes import Mistake

EGRESS_BYTES = 512  # the objects and what their texts take besides their letters


class TlsIdentity(NamedTuple):
    """What TLS contexts differ in, each in PEM or empty."""

    ca: str  # trusted beside certifi's
    client_certificate: str  # with its chain, ours first
    client_key: str


class Proxy(msgspec.Struct, frozen=True, gc=False):
    """A forward proxy, spoken to in plain http."""

    host: str  # empty: none, although `[egress]` names one
    port: int
    credentials: str = ""  # user:password
    is_judged: bool = True  # by the address policy

    @property
    def shown(self) -> str:
        """As a URL, without its credentials."""
        if not self.host:
            return ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{'***@' if self.credentials else ''}{host}:{self.port}"

    def __repr__(self) -> str:
        return f"Proxy({self.shown!r})"


DIRECT = Proxy("", 0)


class EndpointEgress(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one endpoint, or `[egress]` for all, says of it."""

    ca: str = ""
    client_certificate: str = ""
    client_key: str = ""
    proxy: Proxy | None = None

    def __repr__(self) -> str:
        shown = f"ca={bool(self.ca)}, client_certificate={bool(self.client_certificate)}, proxy={self.proxy}"
        return f"EndpointEgress({shown})"

    @property
    def tls(self) -> TlsIdentity | None:
        """None where it is certifi's authorities and no certificate."""
        if not self.ca and not self.client_certificate:
            return None
        return TlsIdentity(self.ca, self.client_certificate, self.client_key)

    @property
    def held_bytes(self) -> int:
        proxy = self.proxy or DIRECT
        texts = (self.ca, self.client_certificate, self.client_key, proxy.host, proxy.credentials)
        return EGRESS_BYTES + sum(map(len, texts))

    def over(self, shared: "EndpointEgress | None") -> "EndpointEgress":
        """This one where it says something, and the shared one where it does not."""
        if shared is None:
            return self
        certified = self if self.client_certificate else shared
        return EndpointEgress(
            ca=self.ca or shared.ca,
            client_certificate=certified.client_certificate,
            client_key=certified.client_key,
            proxy=shared.proxy if self.proxy is None else self.proxy,
        )


# What is wrong with the parts, by looking into them; a mistake's pointer is the part's name. Core has no TLS.
ProveTls = Callable[[EndpointEgress], Iterable[Mistake]]


def unproved(_egress: EndpointEgress) -> Iterable[Mistake]:
    """For who has no TLS at hand."""
    return ()
