"""What egress tests talk to: a scripted link for virtual time, and real servers on port 0."""

import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import trio
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.network_streams import NetworkStream
from hookd.edge.egress.response import ResponseStream
from hookd.edge.egress.transport import Transport, client_ssl_context, open_transport

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
TLS = client_ssl_context()  # it takes 20 ms to make one
Handler = Callable[[trio.abc.Stream], Awaitable[None]]


class Progress:
    """What an Exchange is to a transport."""

    def __init__(self) -> None:
        self.sending_started = False
        self.request_sent = False
        self.reconnected = False
        self.unanswered_before = False


class FakeNetworkStream(trio.abc.Stream):
    """A link and, in `sent`, `say`, `end` and `reset`, its peer. What is said in pieces is read in those pieces.

    `pieces` are said from the start, `answer` after each request.
    """

    def __init__(self, *pieces: bytes, ends: bool = False, answer: bytes = b"") -> None:
        self.stream = self
        self.sent = bytearray()
        self.is_closed = False
        self._pieces = deque(pieces)
        self._ends = ends
        self._answer = answer
        self._breaks = False
        self._news = trio.Event()

    def say(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._tell()

    def end(self) -> None:
        self._ends = True
        self._tell()

    def reset(self) -> None:
        self._breaks = True
        self._tell()

    def close(self) -> None:
        self.is_closed = True
        self._tell()

    def has_input(self) -> bool:
        return bool(self._pieces) or self._ends or self._breaks

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self.sent += data
        if self._answer:
            self.say(self._answer)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self._pieces:
            self._check()
            if self._ends:
                return b""
            await self._news.wait()
        return self._pieces.popleft()

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        self.close()

    def _check(self) -> None:
        if self.is_closed:
            raise trio.ClosedResourceError
        if self._breaks:
            raise trio.BrokenResourceError

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


class FakeDial:
    """Hands out links in turn and notes what was dialled; an error in their place is raised."""

    def __init__(self, *network_streams: NetworkStream | BaseException) -> None:
        self.network_streams = deque(network_streams)
        self.dialled: list[tuple[str, int]] = []

    async def __call__(self, address: str, port: int) -> NetworkStream:
        self.dialled.append((address, port))
        await trio.lowlevel.checkpoint()
        network_stream = self.network_streams.popleft()
        if isinstance(network_stream, BaseException):
            raise network_stream
        return network_stream


def resolving(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A resolver for which every name has these addresses."""

    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


@asynccontextmanager
async def faked(dial: Any, *addresses: str, **options: Any) -> AsyncIterator[Transport]:
    """A transport without network, for names that all have these addresses, public by default."""
    resolve = resolving(*(addresses or ("1.1.1.1",)))
    options.setdefault("policy", AddressPolicy())
    options.setdefault("ssl_context", TLS)
    async with open_transport(resolve=resolve, dial=dial, **options) as transport:
        yield transport


def local_transport(**options: Any) -> Any:
    """A transport for servers of this machine."""
    options.setdefault("ssl_context", TLS)
    return open_transport(policy=AddressPolicy(allow_private=True), **options)


async def post(
    transport: httpx.AsyncBaseTransport,
    url: str = "http://example.com/hook",
    *,
    content: bytes = b"{}",
    headers: Iterable[tuple[str, str]] = (),
    **extensions: Any,
) -> tuple[int, bytes]:
    """One POST and its whole answer."""
    response = await start(transport, url, content=content, headers=headers, **extensions)
    stream = body_of(response)
    try:
        return response.status_code, await stream.read()
    finally:
        stream.close()


async def start(
    transport: httpx.AsyncBaseTransport,
    url: str = "http://example.com/hook",
    *,
    content: bytes = b"{}",
    headers: Iterable[tuple[str, str]] = (),
    **extensions: Any,
) -> httpx.Response:
    """One POST, up to the final head."""
    request = httpx.Request("POST", url, content=content, headers=list(headers), extensions=extensions)
    return await transport.handle_async_request(request)


def body_of(response: httpx.Response) -> ResponseStream:
    assert isinstance(response.stream, ResponseStream)
    return response.stream


class Server:
    """What a real server saw."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/hook"
        self.connections = 0
        self.open_connections = 0
        self._change = trio.Event()

    async def wait_open_connections(self, count: int) -> None:
        with trio.fail_after(5):
            while self.open_connections != count:
                await self._change.wait()

    def changed(self, by: int) -> None:
        self.open_connections += by
        self.connections += max(by, 0)
        self._change.set()
        self._change = trio.Event()


@asynccontextmanager
async def serving(handler: Handler, *, context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """A server on a free port; `handler` has each connection to itself. What the peer does to it is no error."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = Server(listeners[0].socket.getsockname()[1])

        async def handle(stream: trio.SocketStream) -> None:
            server.changed(+1)
            try:
                await handler(stream if context is None else trio.SSLStream(stream, context, server_side=True))
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                stream.socket.close()
                server.changed(-1)

        nursery.start_soon(trio.serve_listeners, handle, listeners)
        yield server
        nursery.cancel_scope.cancel()


def answering(*answers: bytes) -> Handler:
    """Each connection gets the answers in turn, one a request, the last one for all that follow."""

    async def handle(stream: trio.abc.Stream) -> None:
        left = deque(answers)
        while await read_request(stream) is not None:
            await stream.send_all(left.popleft() if len(left) > 1 else left[0])

    return handle


async def read_request(stream: trio.abc.Stream) -> tuple[bytes, bytes] | None:
    """The next request's head and body, None at the end of the connection."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(65536)
        if not data:
            return None
        head += data
    head, _, body = head.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        data = await stream.receive_some(65536)
        if not data:
            return None
        body += data
    return head, body


async def wait_end(stream: trio.abc.Stream) -> None:
    """Reads and throws away until the peer is gone."""
    while await stream.receive_some(65536):
        pass


def reset(stream: trio.abc.Stream) -> None:
    """Closes with an RST instead of a FIN."""
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()
