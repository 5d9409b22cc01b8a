"""Owns HTTP/1.1 as it is spoken here: what of hypercorn's and h11's is used, and what of theirs is refused.

h11 takes what older software sends: lines that end without CR, headers that go on over several lines, a length that is
given twice. Each means something else to some proxy, and where two programs disagree on the end of a request, a peer
can put one into another's (request smuggling). So each gets 400 and the end of the connection, as do both ways of
giving a length at once.

Other things older software sends mean nothing, and cost nobody an answer (RFC 9112): empty lines before a request line
are skipped (2.2), and whatever follows a request that ends the connection is ignored (9.6). The host of an absolute
target takes the place of `Host` (3.2.2), so that who judges the one judges the other.

The usual request and its answer do not pass through h11: plain_exchange.py has both in one pass. h11 is told of such a
request only where its answer is not the usual one.
"""

from __future__ import annotations

import re
import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import h11
from hypercorn.config import Config
from hypercorn.events import Closed, RawData, Updated
from hypercorn.logging import Logger
from hypercorn.protocol.events import Body, EndBody, Request, Response, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.worker_context import EventWrapper

from hookd.core.shard import HEADER
from hookd.edge.server.plain_exchange import PlainRequest, plain_answer_head, read_plain_request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.events import Event

    Log = Callable[..., None]

# Of a request line with all headers, and of its lines. h11 itself bounds only the bytes of a head that is not complete
# yet, and 5,000 headers that come in one read kept the loop for 25 ms.
HEAD_BYTES_MAX = 16 * 1024
HEAD_LINES_MAX = 128
# Before one request line: a producer's stray line break is one or two.
EMPTY_LINES_MAX = 128
# In the last answer of a connection: its peer sends the next request on another one.
CLOSES = (b"connection", b"close")

_TARGET = re.compile(rb"/|\*$|(?i:https?://)([^/?#]+)(?=[/?]|$)")  # not CONNECT's
_EMPTY_LINES = re.compile(rb"(?:\r?\n)*")
_IDLE = {h11.CLIENT: h11.IDLE, h11.SERVER: h11.IDLE}
_LAST_REQUEST_IS_IN = (h11.MUST_CLOSE, h11.CLOSED)
_LOOSE = re.compile(rb"(?<!\r)\n|(?<=\n)[ \t]|\n(?i:content-length)[ \t]*:[^\n]*,")
_LENGTH = re.compile(rb"\n(?i:content-length)[ \t]*:")


class Http1(H11Protocol):
    """HTTP/1.1 and nothing else: hypercorn would switch to HTTP/2 or to a websocket whenever the peer asks for it."""

    def __init__(self, *given: Any, turn: Callable[[], Awaitable[None]]) -> None:
        super().__init__(*given)
        self.can_read = _AnsweredAndItsTurn(turn)
        self.connection: _Strict = _Strict(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._head = b""  # of the response, until there is more of it
        self._plain: bytes | None = None  # the plain request in progress, of which h11 knows nothing
        self._unsent_bytes = 0  # of the body of its answer
        self._is_over = False

    @property
    def is_in_request(self) -> bool:
        """Whether the peer has begun a request, or may begin one, and has not sent all of it."""
        return self._plain is None and self.connection.their_state in (h11.IDLE, h11.SEND_BODY)

    @property
    def is_answering(self) -> bool:
        """Whether a request is here, whole, and its answer is not out yet."""
        return self.stream is not None and not self.is_in_request

    async def handle(self, event: Event) -> None:
        if not isinstance(event, RawData):
            await super().handle(event)
            return
        if self._plain is not None:  # what comes meanwhile waits, as h11 has it wait
            await self.can_read.clear()
            await self.can_read.wait()
            if self._is_over:
                return
        request = read_plain_request(event.data) if self._is_between_requests() else None
        if request is None:
            await super().handle(event)
        else:
            self._plain = event.data
            self.connection.forget_empty_lines()
            await self._take(request)

    def _is_between_requests(self) -> bool:
        """Also for h11, and nothing that it was given is left."""
        return self.stream is None and self.connection.states == _IDLE and not self.connection.trailing_data[0]

    async def _take(self, request: PlainRequest) -> None:
        """As `_create_stream` does it, and with the body in one message that is its last."""
        await self.send(Updated(idle=False))
        self.stream = HTTPStream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        method, target, fields, body = request
        await self.stream.handle(Request(STREAM_ID, fields, "1.1", method, target, self.connection_state))
        self.keep_alive_requests += 1
        await self.context.mark_request()
        await self.stream.app_put({"type": "http.request", "body": body, "more_body": False})

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, Response) and self.context.terminated.is_set():
            event = replace(event, headers=[*event.headers, CLOSES])
        if self._plain is not None and isinstance(event, Response):
            self._begin_answer(event)
        if self._plain is None:
            await super().stream_send(event)
            return
        match event:
            case Body(data=data):
                await self._send_plain(data)
            case EndBody():
                if self._unsent_bytes:
                    raise h11.LocalProtocolError("the answer is shorter than its length")
                await self._send_plain(b"")
            case StreamClosed():
                await self._end_plain()

    def _begin_answer(self, response: Response) -> None:
        """Its head waits for what follows. Where it is not plain, h11 is told of the request, and goes on."""
        assert self._plain is not None
        fields = [*response.headers, *self.config.response_headers("h11")]
        is_last = self.keep_alive_requests >= self.config.keep_alive_max_requests  # hypercorn says so in it
        head = None if is_last else plain_answer_head(response.status_code, fields)
        if head is None:
            self.connection.receive_data(self._plain)
            self._plain = None
            while self.connection.their_state is not h11.DONE:
                self.connection.next_event()
        else:
            self._plain = b""  # h11 needs to know it no more
            self._head, self._unsent_bytes = head

    async def _send_plain(self, data: bytes) -> None:
        self._unsent_bytes -= len(data)
        if self._unsent_bytes < 0:
            raise h11.LocalProtocolError("the answer is longer than its length")
        data, self._head = self._head + data, b""
        if data:
            await self.send(RawData(data))

    async def _end_plain(self) -> None:
        """As `_maybe_recycle` does it."""
        is_whole = not self._unsent_bytes and not self._head
        self._is_over = self.context.terminated.is_set() or not is_whole
        self._plain = None
        await self._close_stream()
        await self.can_read.set()
        await self.send(Closed() if self._is_over else Updated(idle=True))

    async def _check_protocol(self, event: h11.Request) -> None:
        pass  # hypercorn's looks for HTTP/2; an ignored h2c upgrade is answered in HTTP/1.1

    async def _create_stream(self, request: h11.Request) -> None:
        status_code = _refusal(request)
        if status_code is None:
            await super()._create_stream(_in_origin_form(request))
        else:
            await self._send_error_response(status_code)
            await self.send(Closed())

    async def _send_h11_event(self, event: Any) -> None:
        """A head goes out with what follows it: ASGI has it wait for that, and it spares a write. So do no bytes."""
        try:
            data = self._head + self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            self._head = data
        elif data:
            self._head = b""
            await self.send(RawData(data))


class _AnsweredAndItsTurn(EventWrapper):
    """What a request waits for that came behind another: that one's answer, and then its own turn."""

    def __init__(self, turn: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._turn = turn

    async def wait(self) -> None:
        await super().wait()
        await self._turn()


class _Strict(h11.Connection):
    """h11 without its leniency about where lines, heads and bodies end."""

    _last_taken = b""  # a byte, since what ends a line may come in two reads
    _empty_lines = 0  # skipped since the last request

    def receive_data(self, data: bytes) -> None:
        if data and self.their_state in _LAST_REQUEST_IS_IN:
            return  # it is ignored, and not held either
        super().receive_data(data)

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.their_state in _LAST_REQUEST_IS_IN:
            return h11.NEED_DATA
        before, _ = self.trailing_data
        if self.their_state is h11.IDLE and before[:1] in (b"\r", b"\n"):
            self._skip_empty_lines(before)
            before, is_ended = self.trailing_data
            if before == b"\r" and not is_ended:
                return h11.NEED_DATA
        if self.their_state is h11.IDLE and _is_too_long(before):
            raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            error.__traceback__ = None  # h11's frames hold the error, and would be garbage that only gc finds
            raise
        taken, last = before[: len(before) - len(self.trailing_data[0])], self._last_taken
        self._last_taken = taken[-1:] or last
        if isinstance(event, h11.Request | h11.EndOfMessage) and _is_ambiguous(last + taken, len(last)):
            raise h11.RemoteProtocolError("programs would disagree on where this ends", error_status_hint=400)
        if isinstance(event, h11.Request):
            self._empty_lines = 0
        return event

    def forget_empty_lines(self) -> None:
        """There was a request since."""
        self._empty_lines = 0

    def _skip_empty_lines(self, head: bytes) -> None:
        """h11 refuses them; its buffer, an inner name, gives one as a head without lines."""
        skipped = _EMPTY_LINES.match(head)
        assert skipped is not None
        for _ in range(min(skipped[0].count(b"\n"), EMPTY_LINES_MAX - self._empty_lines)):
            self._receive_buffer.maybe_extract_lines()
            self._empty_lines += 1


def _is_too_long(head: bytes) -> bool:
    """Of what has come of a head, with what may stand behind it."""
    end = head.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
    return head.count(b"\n", 0, end if end >= 0 else HEAD_BYTES_MAX) > HEAD_LINES_MAX or (
        end < 0 and len(head) > HEAD_BYTES_MAX
    )


def _is_ambiguous(taken: bytes, start: int) -> bool:
    return bool(_LOOSE.search(taken, start)) or len(_LENGTH.findall(taken)) > 1


def _in_origin_form(request: h11.Request) -> h11.Request:
    """`GET http://host/path` as `GET /path` with that host, whatever `Host` says."""
    found = _TARGET.match(request.target)
    assert found is not None, "another target is refused"
    if found[1] is None:
        return request
    path = request.target[found.end() :]
    headers = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        target=path if path.startswith(b"/") else b"/" + path,
        headers=[(b"host", found[1]), *headers],
        http_version=request.http_version,
    )


def _refusal(request: h11.Request) -> int | None:
    """The status code for a head that asks for what we do not speak."""
    headers = dict(request.headers)
    if request.http_version not in (b"1.0", b"1.1"):
        return 505
    if not _TARGET.match(request.target):
        return 400
    if headers.get(b"upgrade", b"").strip().lower() == b"websocket":
        return 400
    if b"transfer-encoding" in headers and (b"content-length" in headers or request.http_version == b"1.0"):
        return 400
    return None


class HypercornConfig(Config):
    include_server_header = False

    def __init__(self, log: Log, shard: str = "") -> None:
        self._log = _HypercornLog(log)
        self._own_headers = [(HEADER.encode(), shard.encode())] if shard else []

    def response_headers(self, protocol: str) -> list[tuple[bytes, bytes]]:
        return super().response_headers(protocol) + self._own_headers


class _HypercornLog(Logger):
    """Hypercorn's log calls as our events. Its own logger would write to stderr, and block when nobody reads that."""

    def __init__(self, log: Log) -> None:  # not super's: it makes the handlers
        self._log = log
        self.access_logger = None
        self.error_logger = None

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        pass

    async def exception(self, *_: Any, **__: Any) -> None:
        error = sys.exc_info()[1]
        self._log("request.failed", level="error", error=repr(error)[:300], traceback=traceback.format_exc())
