"""A forward proxy for tests: it tunnels and forwards to this machine, whatever the name, and says what it was asked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from tests.edge.egress.peers import Server, serving

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ForwardProxy:
    """`heads` are the requests' heads as they came."""

    def __init__(self, answer: bytes = ESTABLISHED) -> None:
        self.heads: list[bytes] = []
        self.server: Server | None = None
        self._answer = answer

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.port

    async def handle(self, stream: trio.abc.Stream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some(65536)
            if not data:
                return
            head += data
        head, end, rest = head.partition(b"\r\n\r\n")
        self.heads.append(head)
        method, where, _ = head.split(b"\r\n")[0].split(b" ")
        tunnel = method == b"CONNECT"
        port = int((where if tunnel else where.split(b"/")[2]).rpartition(b":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as endpoint:
            if tunnel:
                await stream.send_all(self._answer)
            else:
                await endpoint.send_all(_forwarded(head) + end + rest)
            await _both_ways(stream, endpoint)


def _forwarded(head: bytes) -> bytes:
    """As the endpoint gets it: its own part of the target, and nothing that was for the proxy."""
    first, *fields = head.split(b"\r\n")
    method, target, version = first.split(b" ")
    path = b"/" + target.split(b"/", 3)[3]
    kept = [field for field in fields if not field.lower().startswith(b"proxy-")]
    return b"\r\n".join([b" ".join([method, path, version]), *kept])


async def _both_ways(first: trio.abc.Stream, second: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:

        async def one_way(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
            try:
                while data := await source.receive_some(65536):
                    await sink.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            nursery.cancel_scope.cancel()

        nursery.start_soon(one_way, first, second)
        nursery.start_soon(one_way, second, first)


@asynccontextmanager
async def proxying(answer: bytes = ESTABLISHED) -> AsyncIterator[ForwardProxy]:
    proxy = ForwardProxy(answer)
    async with serving(proxy.handle) as server:
        proxy.server = server
        yield proxy
