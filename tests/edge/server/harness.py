"""A server with a small app: over real sockets on port 0, or over streams in memory where time is the subject.

Nothing here waits by sleeping: a reader waits for bytes, for the end of the stream or for an event, with a bound
round it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import trio
import trio.testing
from hookd.core.bind import GRANTED
from hookd.edge.server import Server, bound_sockets
from hookd.edge.server.gate import TurnCount
from quart import request
from quart_trio import QuartTrio

GET_OK = b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"
GET_OK_AND_CLOSE = b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
GET_BIG = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"
GET_HELD = b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"
GET_GRANTED_AND_HELD = b"GET /granted-and-held HTTP/1.1\r\nHost: h\r\n\r\n"
HALF_A_REQUEST = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"
BIG_BYTES = 8_000_000  # more than the kernel buffers of a socket pair


class Harness:
    """A server in a nursery, its app, and what it logged."""

    def __init__(self) -> None:
        self.app = QuartTrio("test")
        self.app.logger.addHandler(logging.NullHandler())
        self.app.logger.propagate = False
        self.app.config["MAX_CONTENT_LENGTH"] = 1000
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.phases: list[str] = []
        self.granted = 0
        self.turns = TurnCount()
        self.asked: list[tuple[int, str]] = []  # /ok and /livez, and in which turn; `count_turns` counts those
        self.entered = trio.Event()
        self.release = trio.Event()
        self.ended = trio.Event()
        self.server: Server
        self.nursery: trio.Nursery
        self._routes()

    def _routes(self) -> None:
        app = self.app

        @app.before_serving
        async def before() -> None:
            self.phases.append("startup")

        @app.after_serving
        async def after() -> None:
            self.phases.append("shutdown")

        @app.route("/v1/events", methods=["POST"])
        async def event() -> str:
            await request.get_data()
            return "ok"

        @app.route("/ok", methods=["GET", "POST"])
        async def ok() -> str:
            self.asked.append((self.turns.number, "/ok"))
            return "ok"

        @app.route("/livez")
        async def livez() -> str:
            self.asked.append((self.turns.number, "/livez"))
            return "alive"

        @app.route("/body", methods=["POST"])
        async def body() -> bytes:
            self.entered.set()
            received = await request.get_data()
            assert isinstance(received, bytes)
            return received

        @app.route("/big", methods=["GET", "POST"])
        async def big() -> bytes:
            self.entered.set()
            return b"x" * BIG_BYTES

        @app.route("/crash")
        async def crash() -> str:
            raise RuntimeError("on purpose")

        @app.route("/held")
        async def held() -> str:
            self.entered.set()
            await self.release.wait()
            return "held"

        @app.route("/granted-and-held")
        async def granted_and_held() -> str:
            request.scope["state"][GRANTED]()
            self.granted += 1
            await self.release.wait()
            return "held"

    @contextmanager
    def count_turns(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self.turns)
        yield
        trio.lowlevel.remove_instrument(self.turns)

    def log(self, event: str, **fields: Any) -> None:
        self.logged.append((event, fields))

    @property
    def port(self) -> int:
        return int(self.server.urls[0].rpartition(":")[2])

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, sent: bytes) -> bytes:
        """Sends, and reads to the end of the stream; the server has to end it."""
        with trio.fail_after(5):
            async with await self.connect() as stream:
                await stream.send_all(sent)
                return await read_all(stream)

    async def assert_alive(self) -> None:
        assert (await self.ask(GET_OK_AND_CLOSE)).startswith(b"HTTP/1.1 200")

    async def serve(self, task_status: trio.TaskStatus[Any]) -> None:
        try:
            await self.server.serve(task_status=task_status)
        finally:
            self.ended.set()

    async def serve_one(self, stream: trio.StapledStream[Any, Any]) -> None:
        await self.server.handle(stream)
        self.ended.set()


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    received = b""
    try:
        async for data in stream:
            received += data
    except trio.BrokenResourceError:
        pass
    return received


async def read_response(stream: trio.abc.ReceiveStream, ending: bytes = b"ok") -> bytes:
    received = b""
    while not received.endswith(b"\r\n\r\n" + ending):
        data = await stream.receive_some(4096)
        assert data, received
        received += data
    return received


@asynccontextmanager
async def serving(binds: tuple[str, ...] = ("127.0.0.1:0",), **options: Any) -> AsyncIterator[Harness]:
    """A running server; stopped without grace at the end, if the test did not."""
    harness = Harness()
    harness.server = Server(harness.app, bound_sockets(binds), log=harness.log, **options)
    async with trio.open_nursery() as nursery:
        harness.nursery = nursery
        await nursery.start(harness.serve)
        yield harness
        harness.server.stop(grace_seconds=0)
        with trio.fail_after(5):
            await harness.ended.wait()
        nursery.cancel_scope.cancel()


def in_memory(**options: Any) -> Harness:
    """A server without sockets: connections are given to `handle`, so that virtual time may run."""
    harness = Harness()
    harness.server = Server(harness.app, [], log=harness.log, **options)
    return harness
