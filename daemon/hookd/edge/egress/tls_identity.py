"""Proves what an endpoint, or `[egress]`, wants to use in TLS, before anything is registered or taken into force.

Rules: the authorities are PEM and hold a certificate; the client certificate is one, its key is PEM without a
passphrase and belongs to it, and it is valid now. It is what the server's own certificate is held to (edge/server/tls).
A mistake's pointer is the part at fault: `ca`, `client_certificate` or `client_key`.

Does not keep contexts, and does not ask who issued a certificate: that is for the endpoint to judge.
"""

import ssl
from collections.abc import Callable, Iterator

from hookd.core.certificate_validity import validity
from hookd.core.endpoint_egress import EndpointEgress
from hookd.core.mistakes import Mistake
from hookd.core.timestamps import rfc3339
from hookd.edge.egress.tls_contexts import CannotUse, take_identity


def tls_mistakes(egress: EndpointEgress, *, wall: Callable[[], float]) -> Iterator[Mistake]:
    """The first that there is. `wall` is the time that the validity is held against."""
    identity = egress.tls
    if identity is None:
        return
    try:
        take_identity(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), identity)
    except CannotUse as error:
        yield Mistake(error.part, error.detail)
        return
    if identity.client_certificate and (detail := _out_of_time(identity.client_certificate, wall())):
        yield Mistake("client_certificate", detail)


def _out_of_time(pem: str, now: float) -> str:
    try:
        not_before, not_after = validity(pem)
    except ValueError as error:
        return f"cannot be read: {error}"
    if now > not_after:
        return f"expired at {rfc3339(not_after)}"
    return f"is valid from {rfc3339(not_before)} on" if now < not_before else ""
