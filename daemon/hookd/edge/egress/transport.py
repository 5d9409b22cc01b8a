"""An `httpx.AsyncBaseTransport` for POSTing to strangers, on trio.

`open_transport` is the way in:

    async with open_transport(policy=AddressPolicy()) as transport:
        response = await transport.handle_async_request(request)
        body = await response.stream.read()

What a request may carry in `extensions`, all of it optional:

    endpoint             any hashable: whose pool of connections to use. Default: one for each scheme, host and port
    exchange             an object whose `sending_started`, `request_sent`, `reconnected` and `unanswered_before` are
                         set as that happens
    response_bytes_max   of the body to read, over the transport's own

What it gives: a response with its status, its header fields as they came, and a `ResponseStream`. What it raises is
`httpx.TransportError`: `AddressDenied` (a ConnectError), `ConnectError` for DNS, connect and TLS, `WriteError` and
`ReadError` for a connection that broke, `RemoteProtocolError` for what is not HTTP/1.1 or over budget, and with
"disconnected" in it for an end without an answer, `LocalProtocolError` and `UnsupportedProtocol` for requests that
cannot be sent.

Rules:
 * Every connect: resolve, judge every address, connect to a literal that was judged. TLS verifies the URL's host, SNI
   and Host name it.
 * The addresses are tried as RFC 8305 has it (happy_eyeballs.py): a black hole in one family costs a quarter second.
 * A kept connection is used for `connection_age_seconds_max` from the look-up of its address on. What comes later
   looks the name up again, and judges it again.
 * A kept connection that fails before the first byte of an answer costs one try on a fresh one, at once. The peer may
   have read the first: a receiver of webhooks must bear that anyway, and for anything else do not keep connections. The
   same where what comes is no answer (what the receiver wrote behind the last one), and where it is 408: the receiver
   gave up waiting while the request was on its way.
 * A proxy is asked for a tunnel over https, and gets the request in absolute form over http. It looks the name up and
   judges it; a literal is judged here. The proxy's own address is judged unless it is the operator's.
 * No redirects, cookies, environment (its proxies included), netrc, authentication or content decoding, and no
   timeouts: the caller's cancel scope bounds it all, DNS included. A cancel leaves no socket, slot or task behind.
 * `finish` is for answers whose head was enough: the rest of the body is read aside, within bounds (finishing.py).
 * The request body is put together in memory before it is sent.

`exchange` is the same without httpx's Request and Response, for who has the request as bytes: the sender.

CPU of one POST on a kept connection (tests/benchmarks/egress.py): where stock httpx.AsyncClient takes 1,000 us, this
takes 130 with a request of `post_request` and 205 with an `httpx.Request` of text, and a bare trio socket loop 60. It
is the same with 1,000 other endpoints idle.

Known limits: no HTTP/2. When descriptors run out that is a ConnectError that says so; keep
`connections_max` below their limit. A change of policy does not touch requests whose connect has begun.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import httpx
import trio

from hookd.core.endpoint_egress import Proxy
from hookd.edge.egress import network_streams
from hookd.edge.egress.addresses import AddressPolicy, canonical
from hookd.edge.egress.connection import Connection, Progress
from hookd.edge.egress.drips import Drips
from hookd.edge.egress.finishing import Finisher
from hookd.edge.egress.happy_eyeballs import dial_first
from hookd.edge.egress.long_heads import LongHeads
from hookd.edge.egress.network_streams import Dial
from hookd.edge.egress.pool import Pool
from hookd.edge.egress.request_head import RequestHead
from hookd.edge.egress.resolver import Addresses, Resolve, Resolver, is_literal
from hookd.edge.egress.response import ResponseStream
from hookd.edge.egress.tls_contexts import TlsContexts, client_ssl_context
from hookd.edge.egress.tunnel import Way, connect_head, open_tunnel
from hookd.edge.egress.wire import ResponseReader

REQUEST_TIMEOUT = 408  # RFC 9110 15.5.9: on another connection, if the client wants to

# Addresses and a port to the first of them that is denied.
Judge = Callable[[AddressPolicy, Iterable[str], int], str | None]

_PORTS = {"https": 443, "http": 80}


class AddressDenied(httpx.ConnectError):
    """The address policy forbids it; nothing was connected to."""

    def __init__(self, address: str) -> None:
        super().__init__(f"address {address} is not allowed")
        self.address = address


@dataclass(frozen=True, slots=True)
class Statistics:
    connections_open: int  # in use, idle or being finished
    connections_idle: int
    connections_finishing: int  # answered; the rest of the body is being read
    look_ups_in_flight: int
    connects: int  # begun, since the start
    reconnects: int  # requests sent again on a fresh connection, since the start


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
        dial: Dial | None = None,
        ssl_context: ssl.SSLContext | None = None,
        response_bytes_max: int = 16384,
        idle_seconds: float = 20.0,
        idle_per_endpoint_max: int = 4,
        idle_max: int = 1024,
        connections_max: int = 4096,
        connection_age_seconds_max: float = 60.0,
        tls_contexts_max: int = 32,
    ) -> None:
        """`nursery` holds the pool's janitor, the looks at peers that drip, and the writing of long requests."""
        self.policy = policy
        self.response_bytes_max = response_bytes_max
        self._resolve = resolve
        self._dial: Dial = dial or partial(network_streams.dial, drips=Drips(nursery))
        self._ssl_context = ssl_context or client_ssl_context()
        self._tls_contexts = TlsContexts(tls_contexts_max, on_evicted=self.close_idle)
        self._pool = Pool(
            nursery,
            idle_seconds=idle_seconds,
            idle_per_key_max=idle_per_endpoint_max,
            idle_max=idle_max,
            connections_max=connections_max,
        )
        self._finisher = Finisher(nursery)
        self._long_heads = LongHeads()
        self._connections_max = connections_max
        self.connection_age_seconds_max = connection_age_seconds_max
        self._connects = 0
        self._reconnects = 0
        self._is_closed = False

    @property
    def connection_age_seconds_max(self) -> float:
        return self._pool.age_seconds_max

    @connection_age_seconds_max.setter
    def connection_age_seconds_max(self, seconds: float) -> None:
        self._pool.age_seconds_max = seconds
        if isinstance(self._resolve, Resolver):
            self._resolve.age_seconds_max = seconds

    @property
    def tls_contexts_max(self) -> int:
        """Of endpoints with certificates or authorities of their own."""
        return self._tls_contexts.contexts_max

    @tls_contexts_max.setter
    def tls_contexts_max(self, contexts_max: int) -> None:
        self._tls_contexts.contexts_max = contexts_max

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        extensions = request.extensions
        parts = url_parts(request.url)
        method = request.method.encode("ascii", "replace")
        # A ByteStream is its one piece; anything else is put together first.
        body = b"".join(request.stream) if isinstance(request.stream, httpx.ByteStream) else await request.aread()
        progress: Progress = extensions.get("exchange") or _Unwatched()
        response, stream = await self.exchange(
            parts,
            (extensions.get("endpoint"), parts.scheme, parts.host, parts.port),
            RequestHead(method, parts.path, parts.authority, request.headers.raw).request((), body),
            progress,
            body_bytes_max=extensions.get("response_bytes_max", self.response_bytes_max),
            is_head_only=method == b"HEAD",
        )
        return httpx.Response(
            response.status_code,
            headers=response.fields,
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "reconnected": progress.reconnected},
        )

    async def exchange(
        self,
        parts: UrlParts,
        key: Hashable,
        request: tuple[bytes, ...],
        progress: Progress,
        *,
        body_bytes_max: int,
        is_head_only: bool = False,
        way: Way | None = None,
    ) -> tuple[ResponseReader, ResponseStream]:
        """One request and its answer, up to the final head, without httpx's types; raises the same.

        On a kept connection of the key's if there is one, on a fresh one if there is none or it was stale. Whatever has
        the same key goes the same `way`; None is the straight one.
        """
        connection = self._pool.take(key)
        while connection is not None and connection.is_secured and not await connection.is_quiet_within():
            connection.close()
            connection = self._pool.take(key)
        if connection is not None:
            response = self._reader(key, body_bytes_max, is_head_only=is_head_only)
            if await self._is_answered(connection, request, response, progress):
                return response, ResponseStream(connection, response, self._pool.give_back)
            progress.reconnected = True
            self._reconnects += 1
        connection = await self._connect(parts, key, way)
        response = self._reader(key, body_bytes_max, is_head_only=is_head_only)
        await connection.exchange(request, response, progress)
        return response, ResponseStream(connection, response, self._pool.give_back)

    def finish(self, stream: ResponseStream) -> None:
        """Whoever has read what it wants leaves the rest here."""
        self._finisher.finish(stream)

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
            connections_finishing=self._finisher.count,
            look_ups_in_flight=self._resolve.look_ups_in_flight if isinstance(self._resolve, Resolver) else 0,
            connects=self._connects,
            reconnects=self._reconnects,
        )

    def _reader(self, key: Hashable, body_bytes_max: int, *, is_head_only: bool) -> ResponseReader:
        if is_head_only:
            return ResponseReader(body_bytes_max, self._long_heads, key, is_head_only=True)
        return ResponseReader(body_bytes_max, self._long_heads, key)  # a class called by a name takes twice as long

    async def _is_answered(
        self, connection: Connection, request: tuple[bytes, ...], response: ResponseReader, progress: Progress
    ) -> bool:
        """By a kept connection; False, and it is closed, if it was stale."""
        try:
            await connection.exchange(request, response, progress)
        except httpx.TransportError:
            if response.has_begun or self._is_closed:
                raise
            progress.unanswered_before = True
            return False
        if response.status_code == REQUEST_TIMEOUT:
            response.let_go()
            await connection.abandon()
            return False
        return True

    async def _connect(self, parts: UrlParts, key: Hashable, way: Way | None) -> Connection:
        if self._is_closed:
            raise httpx.ConnectError("the transport is closed")
        if self.policy.denies_port(parts.port):
            raise AddressDenied(f"{parts.host}:{parts.port} (egress.deny_ports)")
        context = self._ssl_context
        if way is not None and way.tls is not None and parts.scheme == "https":
            context = await self._tls_contexts.context(way.tls)
        if way is None or way.proxy is None:
            connection = await self._connect_to(parts.host, parts.port, key, judge=AddressPolicy.judge)
        else:
            connection = await self._connect_through(way.proxy, parts, key)
        if parts.scheme == "https":
            await connection.secure(context, parts.host.rstrip("."))
        return connection

    async def _connect_to(self, host: str, port: int, key: Hashable, *, judge: Judge) -> Connection:
        addresses = await self._resolve(host, port)
        policy = self.policy  # as it is now: a reload may have come while the name was looked up
        denied = judge(policy, addresses, port)
        if denied is not None:
            raise AddressDenied(denied)
        self._make_room()
        self._connects += 1
        literals = list(dict.fromkeys(str(canonical(each)) for each in addresses))
        looked_up_at = addresses.looked_up_at if isinstance(addresses, Addresses) else trio.current_time()
        network_stream = await dial_first(self._dial, literals, port)
        if self.policy is not policy:  # one came while it was dialled: nobody is to have it after this request
            looked_up_at = -math.inf
        return self._pool.adopt(network_stream, key, looked_up_at=looked_up_at)

    async def _connect_through(self, proxy: Proxy, parts: UrlParts, key: Hashable) -> Connection:
        """To the proxy; over https the connection then leads to the endpoint."""
        if is_literal(parts.host) and (denied := self.policy.judge((parts.host,), parts.port)) is not None:
            raise AddressDenied(denied)
        if proxy.is_judged and self.policy.denies_port(proxy.port):
            raise AddressDenied(f"{proxy.host}:{proxy.port} (the proxy; egress.deny_ports)")
        judge = AddressPolicy.judge if proxy.is_judged else AddressPolicy.own_among
        try:
            connection = await self._connect_to(proxy.host, proxy.port, key, judge=judge)
        except AddressDenied as denied_proxy:
            raise AddressDenied(f"{denied_proxy.address} (the proxy)") from None
        except httpx.ConnectError as error:
            raise httpx.ProxyError(f"the proxy: {error}") from error
        if parts.scheme == "https":
            response = self._reader(key, 0, is_head_only=True)
            await open_tunnel(connection, connect_head(parts.host, parts.port, proxy), response, proxy)
        return connection

    def _make_room(self) -> None:
        self._pool.make_room()
        while self._pool.open_count >= self._connections_max and self._finisher.close_oldest():
            pass


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
    reconnected = False
    unanswered_before = False


class UrlParts(NamedTuple):
    """A URL taken apart."""

    scheme: str
    host: str
    port: int
    authority: bytes
    path: bytes


def url_parts(url: httpx.URL) -> UrlParts:
    """Raises httpx.UnsupportedProtocol and httpx.LocalProtocolError."""
    scheme, host, port = url.scheme, url.raw_host.decode("ascii"), url.port
    if scheme not in _PORTS:
        raise httpx.UnsupportedProtocol("only http and https can be sent")
    if port is None:
        port = _PORTS[scheme]
    if not host or not 1 <= port <= 65535:
        raise httpx.LocalProtocolError("the URL has no host, or a port that does not exist")
    return UrlParts(scheme, host, port, url.netloc, url.raw_path)
