"""Asks a forward proxy for a tunnel to an endpoint (CONNECT, RFC 9110 section 9.3.6), and says why there is none.

Rules:
 * Nothing of the attempt's request is sent before the tunnel stands, so `request_sent` stays false until then.
 * A 2xx is a tunnel, whatever its head says of a body. Anything else, also an end, noise or bytes behind the head, is
   `httpx.ProxyError`: the endpoint was not reached. TLS's first word is ours, so such bytes are not the endpoint's.
 * The head has the byte budget of every answer. The proxy's own words are never repeated.
 * Credentials are for the proxy alone. They stand in CONNECT, or in a request of absolute form, and a proxy takes them
   off there. A 407 is its answer to them.

Has no timeout: the attempt's deadline bounds it, DNS and the proxy's connect included.
"""

import base64
from typing import NamedTuple

import httpx

from hookd.core.endpoint_egress import Proxy, TlsIdentity
from hookd.edge.egress.connection import Connection
from hookd.edge.egress.wire import ResponseReader

PROXY_AUTHENTICATION_REQUIRED = 407  # RFC 9110 15.5.8
UNAUTHORIZED = 401  # what tinyproxy says in place of 407, where there are credentials and they are wrong

_HINTS = {
    403: "it does not allow this host, or this port",
    405: "it takes no CONNECT",
    501: "it takes no CONNECT",
    502: "it could not reach the endpoint",
    503: "it could not reach the endpoint",
    504: "the endpoint did not answer it in time",
}


class Way(NamedTuple):
    """How to get to an endpoint, where that is not straight."""

    tls: TlsIdentity | None
    proxy: Proxy | None


def credentials_field(proxy: Proxy) -> tuple[bytes, bytes] | None:
    """RFC 7617, in UTF-8."""
    if not proxy.credentials:
        return None
    return b"proxy-authorization", b"Basic " + base64.b64encode(proxy.credentials.encode())


def connect_head(host: str, port: int, proxy: Proxy) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1".encode("ascii"), b"host: " + authority.encode("ascii")]
    if field := credentials_field(proxy):
        lines.append(b"%b: %b" % field)
    return b"\r\n".join([*lines, b"", b""])


async def open_tunnel(connection: Connection, head: bytes, response: ResponseReader, proxy: Proxy) -> None:
    """The connection leads to the endpoint then. Raises httpx.ProxyError, and it is closed then."""
    try:
        await _ask(connection, head, response)
        if not 200 <= response.status_code <= 299:
            raise refusal(response.status_code, proxy)
        if response.has_leftover:
            raise httpx.ProxyError("the proxy sent something before the endpoint could")
    except BaseException:
        connection.close()
        raise
    finally:
        response.let_go()


async def _ask(connection: Connection, head: bytes, response: ResponseReader) -> None:
    try:
        await connection.ask(head, response)
    except httpx.TransportError as error:
        raise httpx.ProxyError(_broken(error)) from error


def refusal(status_code: int, proxy: Proxy) -> httpx.ProxyError:
    if status_code in (PROXY_AUTHENTICATION_REQUIRED, UNAUTHORIZED):
        said = "refused our credentials" if proxy.credentials else "wants credentials"
        return httpx.ProxyError(f"the proxy {said} ({status_code})")
    hint = _HINTS.get(status_code)
    return httpx.ProxyError(f"the proxy answered {status_code}{f': {hint}' if hint else ''}")


def _broken(error: httpx.TransportError) -> str:
    match error:
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return "the proxy closed the connection before it answered"
        case httpx.RemoteProtocolError():
            return f"the proxy's answer cannot be read: {error}"
        case _:
            return f"the connection to the proxy broke: {error}"
