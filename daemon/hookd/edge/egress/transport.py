"""An `httpx.AsyncBaseTransport` for POSTing to strangers, on trio.

`open_transport` is the way in:

    async with open_transport(policy=AddressPolicy()) as transport:
        response = await transport.handle_async_request(request)
        body = await response.stream.read()

What a request may carry in `extensions`, all of it optional:

    endpoint             any hashable: whose pool of connections to use. Default: one for each scheme, host and port
    exchange             an object whose `sending_started` and `request_sent` are set as that happens
    response_bytes_max   of the body to read, over the transport's own
    reconnected          set here to True if a kept connection turned out stale and the request was sent once more

What it gives: a response with its status, its header fields as they came, and a `ResponseStream`. What it raises is
`httpx.TransportError`: `AddressDenied` (a ConnectError), `ConnectError` for DNS, connect and TLS, `WriteError` and
`ReadError` for a connection that broke, `RemoteProtocolError` for what is not HTTP/1.1 or over budget, and with
"disconnected" in it for an end without an answer, `LocalProtocolError` and `UnsupportedProtocol` for requests that
cannot be sent.

Rules:
 * Every connect: resolve, judge every address, connect to a literal that was judged. TLS verifies the URL's host, SNI
   and Host name it.
 * The addresses are tried in turn, the two families by turns, ADDRESSES_TRIED_MAX of them. As long as there is another
   one to try, one gets ADDRESS_SECONDS_MAX: a black hole in one family must not use up the attempt.
 * A kept connection that fails before the first byte of an answer costs one try on a fresh one, at once. The peer may
   have read the first: a receiver of webhooks must bear that anyway, and for anything else do not keep connections.
 * No redirects, cookies, proxies, environment, netrc, authentication or content decoding, and no timeouts but the one
   above: the caller's cancel scope bounds it all, DNS included. A cancel leaves no socket, slot or task behind.
 * The request body is put together in memory before it is sent.

CPU of one POST on a kept connection (tests/benchmarks/egress.py): where stock httpx.AsyncClient takes 1,000 us, this
takes 130 with a request of `post_request` and 205 with an `httpx.Request` of text, and a bare trio socket loop 60. It
is the same with 1,000 other endpoints idle.

Known limits: no HTTP/2, no client certificates. When descriptors run out that is a ConnectError that says so; keep
`connections_max` below their limit. A change of policy does not touch requests in flight.
"""

from __future__ import annotations

import math
import os
import ssl
from collections.abc import AsyncIterator, Hashable, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple

import httpx
import trio

from hookd.edge.egress import network_streams
from hookd.edge.egress.addresses import AddressPolicy, canonical
from hookd.edge.egress.connection import Connection, Progress
from hookd.edge.egress.network_streams import Dial, NetworkStream
from hookd.edge.egress.pool import Pool
from hookd.edge.egress.resolver import Resolve, Resolver
from hookd.edge.egress.response import ResponseStream
from hookd.edge.egress.wire import ResponseReader, request_bytes

ADDRESSES_TRIED_MAX = 6
ADDRESS_SECONDS_MAX = 2.5  # a lost SYN is sent again after one second

_PORTS = {"https": 443, "http": 80}


class AddressDenied(httpx.ConnectError):
    """The address policy forbids it; nothing was connected to."""

    def __init__(self, address: str) -> None:
        super().__init__(f"address {address} is not allowed")
        self.address = address


@dataclass(frozen=True, slots=True)
class Statistics:
    connections_open: int  # in use or idle
    connections_idle: int
    look_ups_in_flight: int
    connects: int  # begun, since the start
    reconnects: int  # requests sent again because a kept connection was stale, since the start


class Transport(httpx.AsyncBaseTransport):
    """Made by `open_transport`. `policy` and `response_bytes_max` may be assigned at any time.

    After a stricter policy call `close_idle`: kept connections were judged when they were made.
    """

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        policy: AddressPolicy,
        resolve: Resolve,
        dial: Dial = network_streams.dial,
        ssl_context: ssl.SSLContext | None = None,
        response_bytes_max: int = 16384,
        idle_seconds: float = 20.0,
        idle_per_endpoint_max: int = 4,
        idle_max: int = 1024,
        connections_max: int = 4096,
    ) -> None:
        """`nursery` holds the pool's janitor and the writing of long requests."""
        self.policy = policy
        self.response_bytes_max = response_bytes_max
        self._resolve = resolve
        self._dial = dial
        self._ssl_context = ssl_context or client_ssl_context()
        self._pool = Pool(
            nursery,
            idle_seconds=idle_seconds,
            idle_per_key_max=idle_per_endpoint_max,
            idle_max=idle_max,
            connections_max=connections_max,
        )
        self._connects = 0
        self._reconnects = 0
        self._is_closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        extensions = request.extensions
        target = _target(request.url)
        method = request.method.encode("ascii", "replace")
        # A ByteStream is its one piece; anything else is put together first.
        body = b"".join(request.stream) if isinstance(request.stream, httpx.ByteStream) else await request.aread()
        content = request_bytes(method, target.path, target.authority, request.headers.raw, body)
        connection, response = await self._exchange(target, content, method == b"HEAD", extensions)
        return httpx.Response(
            response.status_code,
            headers=response.fields,
            stream=ResponseStream(connection, response, give_back=self._pool.give_back),
            extensions={"http_version": b"HTTP/1.1", "reconnected": extensions.get("reconnected", False)},
        )

    async def aclose(self) -> None:
        self.close()

    def close(self) -> None:
        """Every connection, also those in use; requests fail from now on."""
        self._is_closed = True
        self._pool.close()

    def close_idle(self) -> None:
        self._pool.close_idle()

    def statistics(self) -> Statistics:
        return Statistics(
            connections_open=self._pool.open_count,
            connections_idle=self._pool.idle_count,
            look_ups_in_flight=self._resolve.look_ups_in_flight if isinstance(self._resolve, Resolver) else 0,
            connects=self._connects,
            reconnects=self._reconnects,
        )

    async def _exchange(
        self, target: _Target, content: bytes, is_head_only: bool, extensions: MutableMapping[str, Any]
    ) -> tuple[Connection, ResponseReader]:
        """A request on a kept connection if there is one, on a fresh one if there is none or it was stale."""
        body_bytes_max = extensions.get("response_bytes_max", self.response_bytes_max)
        progress: Progress = extensions.get("exchange") or _Unwatched()
        key = (extensions.get("endpoint"), *target[:3])
        response = ResponseReader(body_bytes_max=body_bytes_max, is_head_only=is_head_only)
        connection = await self._pool.take(key)
        if connection is not None:
            try:
                await connection.exchange(content, response, progress)
                return connection, response
            except httpx.TransportError:
                if not response.is_untouched or self._is_closed:
                    raise
                extensions["reconnected"] = True
                self._reconnects += 1
        connection = await self._connect(target, key)
        await connection.exchange(content, response, progress)
        return connection, response

    async def _connect(self, target: _Target, key: Hashable) -> Connection:
        if self._is_closed:
            raise httpx.ConnectError("the transport is closed")
        addresses = await self._resolve(target.host, target.port)
        denied = self.policy.judge(addresses, target.port)
        if denied is not None:
            raise AddressDenied(denied)
        self._pool.make_room()
        literals = list(dict.fromkeys(str(canonical(each)) for each in addresses))
        connection = self._pool.adopt(await self._dial_in_turn(literals, target.port), key)
        if target.scheme == "https":
            await connection.secure(self._ssl_context, target.host.rstrip("."))
        return connection

    async def _dial_in_turn(self, literals: Sequence[str], port: int) -> NetworkStream:
        self._connects += 1
        reason = "the name has no address"
        tried = by_turns(literals)[:ADDRESSES_TRIED_MAX]
        for address in tried:
            with trio.move_on_after(math.inf if address == tried[-1] else ADDRESS_SECONDS_MAX):
                try:
                    return await self._dial(address, port)
                except OSError as error:
                    reason = f"{address}: {os.strerror(error.errno) if error.errno else error}"
                    continue
            reason = f"{address}: no answer within {ADDRESS_SECONDS_MAX:g} s"
        raise httpx.ConnectError(reason)


@asynccontextmanager
async def open_transport(
    *, policy: AddressPolicy, resolve: Resolve | None = None, **options: Any
) -> AsyncIterator[Transport]:
    """A transport with its resolver and its tasks; options are Transport's. At the end every connection is closed.

    It holds a nursery, so what is raised in its block comes out in an ExceptionGroup.
    """
    async with trio.open_nursery() as nursery:
        transport = Transport(nursery, policy=policy, resolve=resolve or Resolver(nursery), **options)
        try:
            yield transport
        finally:
            transport.close()
            nursery.cancel_scope.cancel()


def client_ssl_context() -> ssl.SSLContext:
    """certifi's authorities, names verified, TLS 1.2 or later; nothing of it from the environment. Takes 20 ms."""
    context = httpx.create_ssl_context(trust_env=False)
    context.set_alpn_protocols(["http/1.1"])
    return context


def by_turns(addresses: Sequence[str]) -> list[str]:
    """IPv4 and IPv6 by turns, the first one's family first, otherwise in the resolver's order."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    other = [each for each in addresses if each not in first]
    return [each for pair in zip_longest(first, other) for each in pair if each is not None]


def post_request(
    url: httpx.URL, fields: Sequence[tuple[bytes, bytes]], body: bytes, **extensions: Any
) -> httpx.Request:
    """A POST at little cost: 5 us where httpx.Request takes 90 with a URL in text, header text and `content`.

    Keep the `httpx.URL` for as long as the endpoint has it; parsing one takes as much as half a request.
    """
    return httpx.Request("POST", url, headers=list(fields), stream=httpx.ByteStream(body), extensions=extensions)


class _Unwatched:
    """The progress of a request whose caller does not look."""

    sending_started = False
    request_sent = False


class _Target(NamedTuple):
    """A URL taken apart; the first three and the endpoint name a pool."""

    scheme: str
    host: str
    port: int
    authority: bytes
    path: bytes


def _target(url: httpx.URL) -> _Target:
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol("only http and https can be sent")
    if port is None:
        port = _PORTS[scheme]
    if not host or not 1 <= port <= 65535:
        raise httpx.LocalProtocolError("the URL has no host, or a port that does not exist")
    return _Target(scheme, host, port, url.netloc, url.raw_path)
