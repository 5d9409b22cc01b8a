"""Owns the one POST to a client's endpoint: httpx in, an `Outcome` out.

Rules: no redirects, cookies, proxies, environment or content decoding; the verdict is the final head's, the body is
read for the excerpt only. It has no timeout: the attempt's scope bounds it all.
Known limits: httpx's stock transport, with a fresh connection for each attempt. Kept-alive connections would need a
pool for each endpoint (the shared one costs time quadratic in idle connections and can be handed an answer that an
endpoint planted for the request after).
"""

import os
from collections.abc import AsyncIterator
from typing import Any, cast

import httpx
import trio

from daemon.core.live import Live
from daemon.core.outcome import Exchange, Invalid, Outcome, Responded, Unreachable
from daemon.flow.ports import Request


class HttpxSender:
    """`transport` may be any httpx transport; without one, stock httpx over TCP."""

    def __init__(self, live: Live, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._live = live
        self._transport = transport or httpx.AsyncHTTPTransport(
            verify=httpx.create_ssl_context(trust_env=False),
            trust_env=False,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
        )

    async def send(self, request: Request, exchange: Exchange) -> Outcome:
        try:
            return await self._send(request, exchange)
        except httpx.HTTPError as error:
            return exchange.answer or _outcome_of(error)
        except (httpx.InvalidURL, UnicodeError) as error:  # a URL that no validation foresaw
            return Invalid(f"the URL cannot be used: {type(error).__name__}")

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _send(self, request: Request, exchange: Exchange) -> Outcome:
        async def trace(name: str, _info: Any) -> None:
            # httpcore's own names, the same over HTTP/1.1 since 1.0; a body follows every head of ours.
            if name == "http11.send_request_headers.started":
                exchange.sending_started = True
            elif name == "http11.send_request_body.complete":
                exchange.request_sent = True

        posted = httpx.Request(
            "POST",
            request.url,
            headers=[*request.headers, ("accept-encoding", "identity")],
            content=request.body,
            extensions={"trace": trace},
        )
        posted.stream = _Body(request.body)
        response = await self._transport.handle_async_request(posted)
        try:
            exchange.answer = Responded(response.status_code)
            exchange.excerpt = await self._body(cast("AsyncIterator[bytes]", response.stream))
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await response.aclose()
        return exchange.answer

    async def _body(self, stream: AsyncIterator[bytes]) -> bytes:
        """The first bytes of the body; leaving the loop by a scope of our own closes every generator under it."""
        body = bytearray()
        bytes_max = self._live.settings.delivery.response_bytes_max
        with trio.CancelScope() as enough:
            async for chunk in stream:
                body += chunk
                if len(body) >= bytes_max:
                    enough.cancel()
        return bytes(body[:bytes_max])


class _Body(httpx.AsyncByteStream):
    """The payload in one piece; no generator, which a failed request would leave unfinished to the collector."""

    def __init__(self, body: bytes) -> None:
        self._pieces = iter((body,))

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def _outcome_of(error: httpx.HTTPError) -> Outcome:
    """httpx's exceptions in our words, by a table; messages of the operating system, never of the receiver."""
    match error:
        case httpx.RemoteProtocolError() if "disconnected" in str(error):
            return Unreachable("the connection was closed before an answer")
        case httpx.RemoteProtocolError():
            return Invalid("the answer is not HTTP/1.1")
        case httpx.UnsupportedProtocol() | httpx.LocalProtocolError():
            return Invalid(f"the request cannot be sent: {error}")
        case httpx.ConnectError():
            return Unreachable(f"cannot connect: {_reason(error)}")
        case httpx.TransportError():
            return Unreachable(f"the connection broke: {_reason(error)}")
        case _:
            return Invalid(f"{type(error).__name__}")


def _reason(error: BaseException) -> str:
    """The innermost cause's words: httpx and trio wrap the operating system's, the latter in a group."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif (inner := error.__cause__ or error.__context__) is not None:
            error = inner
        else:
            break
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # trio's own text has the address, which the log names already
    return str(error) or type(error).__name__
