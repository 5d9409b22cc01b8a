"""The hardened server: over real sockets on port 0, and over streams in memory where time is the subject.

Where a test says "stock", hypercorn.trio.serve of hypercorn 0.18 does that. Nothing here waits by sleeping: a reader
waits for bytes, for the end of the stream or for an event, with a bound around it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from quart import request
from quart_trio import QuartTrio

from daemon.edge.server import AppFailed, CannotBind, Server, bound_sockets

GET_OK = b"GET /ok HTTP/1.1\r\nHost: h\r\n\r\n"
GET_OK_AND_CLOSE = b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
GET_BIG = b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"
BAD_CHUNK = b"POST /ok HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nxx\r\n"
WEBSOCKET = (
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\n"
)
H2C = (
    b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)
GET_HELD = b"GET /held HTTP/1.1\r\nHost: h\r\n\r\n"
HALF_A_REQUEST = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"
GET_CRASH = b"GET /crash HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
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

        @app.route("/ok", methods=["GET", "POST"])
        async def ok() -> str:
            return "ok"

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


# --- peers that send nonsense


async def test_websocket_with_a_trailing_byte_gets_400_and_the_server_goes_on() -> None:
    """Stock: h11.LocalProtocolError leaves serve(), every time."""
    async with serving() as harness:
        for _ in range(20):
            assert (await harness.ask(WEBSOCKET + b"x")).startswith(b"HTTP/1.1 400")
        await harness.assert_alive()


async def test_bad_chunk_size_ends_only_its_connection() -> None:
    """Stock: BusyResourceError leaves serve(), a race that 20 tries do not miss."""
    async with serving() as harness:
        for _ in range(20):
            assert (await harness.ask(BAD_CHUNK)).startswith(b"HTTP/1.1 ")
        await harness.assert_alive()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (WEBSOCKET, b"400"),
        (b"GET /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x00\x00garbage\r\n\r\n", b"400"),
        (b"GET /ok HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /ok HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 200_000 + b"\r\n\r\n", b"431"),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"40"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", b"505"),
        (H2C, b"200"),
        (GET_OK_AND_CLOSE + b"EXTRA", b"400"),
    ],
    ids=["websocket", "two_lengths", "tls", "no_host", "huge_head", "connect", "h2", "h2c", "extra_after_close"],
)
async def test_odd_request_gets_its_answer_and_the_server_goes_on(sent: bytes, status: bytes) -> None:
    """Each in HTTP/1.1, each followed by the end of the stream. Stock speaks HTTP/2 on h2 and h2c."""
    async with serving() as harness:
        assert (await harness.ask(sent)).startswith(b"HTTP/1.1 " + status)
        await harness.assert_alive()


async def test_handler_crash_is_500_and_the_server_goes_on() -> None:
    async with serving() as harness:
        assert (await harness.ask(GET_CRASH)).startswith(b"HTTP/1.1 500")
        await harness.assert_alive()


async def test_app_crash_below_quart_is_500_and_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """Hypercorn's own log lines come to our log and not to stderr."""

    async def app(scope: Any, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] != "lifespan":
            raise RuntimeError("on purpose")
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})

    harness = Harness()
    harness.server = Server(app, bound_sockets(["127.0.0.1:0"]), log=harness.log)
    async with trio.open_nursery() as nursery:
        await nursery.start(harness.serve)
        assert (await harness.ask(GET_OK)).startswith(b"HTTP/1.1 500")
        harness.server.stop(grace_seconds=1)
    assert [(event, "on purpose" in fields["error"]) for event, fields in harness.logged] == [("request.failed", True)]
    assert capfd.readouterr() == ("", "")


async def test_rejected_upload_is_answered_rather_than_reset() -> None:
    """The peer is still sending when the 413 comes: closing at once would reset it."""
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 20000000\r\n\r\n")
            await stream.send_all(b"z" * 20_000_000)
            assert (await read_all(stream)).startswith(b"HTTP/1.1 413")


# --- closing


async def test_connection_close_is_honoured() -> None:
    """Stock under Quart-Trio: the connection stays open for ever."""
    async with serving() as harness:
        for _ in range(5):
            assert (await harness.ask(GET_OK_AND_CLOSE)).endswith(b"\r\n\r\nok")


async def test_two_requests_share_a_connection_and_pipelined_ones_too() -> None:
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            for _ in range(3):
                await stream.send_all(GET_OK)
                await read_response(stream)
            await stream.send_all(GET_OK + GET_OK_AND_CLOSE)
            assert (await read_all(stream)).count(b"HTTP/1.1 200") == 2


async def test_idle_connection_is_closed_after_the_keep_alive_time(autojump_clock: trio.testing.MockClock) -> None:
    """Stock under Quart-Trio: never."""
    harness = in_memory(keep_alive_seconds=75)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.server.handle, ours)
        await theirs.send_all(GET_OK)
        await read_response(theirs)
        started_at = trio.current_time()
        assert await read_all(theirs) == b""
        assert trio.current_time() - started_at == pytest.approx(75)


@pytest.mark.parametrize("before", [b"", GET_OK], ids=["first_head", "next_head"])
async def test_slow_head_is_cut_though_bytes_keep_coming(before: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """The deadline is of the whole head; a byte that comes in time does not move it."""
    harness = in_memory(header_timeout_seconds=10)
    ours, theirs = trio.testing.memory_stream_pair()

    async def drip() -> None:
        for letter in GET_OK:
            await theirs.send_all(bytes([letter]))
            await trio.sleep(0.7)  # virtual

    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.serve_one, ours)
        if before:
            await theirs.send_all(before)
            await read_response(theirs)
        started_at = trio.current_time()
        nursery.start_soon(drip)
        await harness.ended.wait()
        assert trio.current_time() - started_at == pytest.approx(10)
        nursery.cancel_scope.cancel()


async def test_handler_may_take_longer_than_any_read_timeout(autojump_clock: trio.testing.MockClock) -> None:
    harness = in_memory(header_timeout_seconds=1, keep_alive_seconds=1)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.server.handle, ours)
        await theirs.send_all(GET_HELD)
        await trio.sleep(3600)  # virtual
        harness.release.set()
        await read_response(theirs, b"held")


async def test_peer_that_never_reads_is_cut_at_the_write_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Stock: its write is shielded and has no deadline."""
    harness = in_memory(write_timeout_seconds=10)
    ours, theirs = trio.testing.lockstep_stream_pair()
    started_at = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, GET_BIG)
        await harness.server.handle(ours)
    assert trio.current_time() - started_at == pytest.approx(10)
    assert harness.logged == [("connection.cut", {"level": "info", "reason": "the peer does not read"})]


async def test_peer_that_reads_a_byte_a_second_is_cut_as_well(autojump_clock: trio.testing.MockClock) -> None:
    """The deadline is of the whole write, not of each bit of progress."""
    harness = in_memory(write_timeout_seconds=10)
    ours, theirs = trio.testing.lockstep_stream_pair()

    async def drip() -> None:
        await theirs.send_all(GET_OK)
        for _ in range(1000):
            await theirs.receive_some(1)
            await trio.sleep(1)  # virtual

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drip)
        started_at = trio.current_time()
        await harness.server.handle(ours)
        assert trio.current_time() - started_at == pytest.approx(10)
        nursery.cancel_scope.cancel()


async def test_close_beside_a_blocked_write_waits_for_it(autojump_clock: trio.testing.MockClock) -> None:
    """Stock: send_eof beside send_all is BusyResourceError. Here the bad chunk's close waits until the write is cut."""
    harness = in_memory(write_timeout_seconds=10)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.serve_one, ours)
        await theirs.send_all(b"POST /big HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        await harness.entered.wait()
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"ZZ\r\nxx\r\n")
        await harness.ended.wait()
    assert [event for event, _ in harness.logged] == ["connection.cut"]


# --- stopping


async def test_stop_lets_a_request_finish_and_refuses_new_connections() -> None:
    async with serving() as harness, await harness.connect() as stream:
        await stream.send_all(GET_HELD)
        await harness.entered.wait()
        harness.server.stop(grace_seconds=60)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match="connect"):
            await harness.connect()
        harness.release.set()
        with trio.fail_after(5):
            assert (await read_all(stream)).endswith(b"held")
            await stream.aclose()
            await harness.ended.wait()
        assert harness.phases == ["startup", "shutdown"]


async def test_stop_closes_idle_connections_at_once() -> None:
    """Stock under Quart-Trio: one idle client costs the whole grace."""
    async with serving() as harness:
        fresh, used, half_a_head = [await harness.connect() for _ in range(3)]
        await half_a_head.send_all(GET_OK[:10])
        await used.send_all(GET_OK)
        await read_response(used)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert harness.server.statistics().connections_open == 3
        harness.server.stop(grace_seconds=60)
        with trio.fail_after(5):
            for stream in (fresh, used, half_a_head):
                assert await read_all(stream) == b""
                await stream.aclose()
            await harness.ended.wait()


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["stop", "cancel"])
@pytest.mark.parametrize(
    "sent",
    [GET_BIG, HALF_A_REQUEST, GET_HELD],
    ids=["never_reads", "half_a_request", "held_handler"],
)
async def test_peer_cannot_hold_the_end(sent: bytes, is_cancelled: bool) -> None:
    """The write deadline is an hour here, so that only the cut can end it. Stock: never_reads holds both for ever."""
    async with serving(write_timeout_seconds=3600) as harness, await harness.connect() as stream:
        await stream.send_all(sent)
        await harness.entered.wait()
        await trio.testing.wait_all_tasks_blocked(0.02)
        started_at = trio.current_time()
        if is_cancelled:
            harness.nursery.cancel_scope.cancel()
        else:
            harness.server.stop(grace_seconds=0.1)
        with trio.fail_after(5, shield=True):  # the peer stays until the server has ended
            await harness.ended.wait()
    assert trio.current_time() - started_at < 2
    assert harness.phases == (["startup"] if is_cancelled else ["startup", "shutdown"])


async def test_second_stop_shortens_the_grace() -> None:
    async with serving() as harness, await harness.connect() as stream:
        await stream.send_all(GET_HELD)
        await harness.entered.wait()
        harness.server.stop(grace_seconds=3600)
        harness.server.stop(grace_seconds=0)
        with trio.fail_after(5):
            await harness.ended.wait()


async def test_stop_before_serve_ends_it_at_once() -> None:
    harness = Harness()
    harness.server = Server(harness.app, bound_sockets(["127.0.0.1:0"]), log=harness.log)
    harness.server.stop(grace_seconds=60)
    with trio.fail_after(5):
        await harness.server.serve()
    assert harness.phases == ["startup", "shutdown"]


# --- limits, binds, lifespan


async def test_connections_over_the_limit_get_503_and_are_counted() -> None:
    async with serving(connections_max=2) as harness:
        first, second = [await harness.connect() for _ in range(2)]
        with trio.fail_after(5):
            for stream in (first, second):
                await stream.send_all(GET_OK)
                await read_response(stream)
            for _ in range(2):
                async with await harness.connect() as third:
                    assert (await read_all(third)).startswith(b"HTTP/1.1 503")
            statistics = harness.server.statistics()
            assert (statistics.connections_open, statistics.connections_max) == (2, 2)
            assert statistics.connections_refused == 2
            assert [event for event, _ in harness.logged] == ["connection.refused"]
            await first.aclose()
            await second.send_all(GET_OK)
            await read_response(second)
            await trio.testing.wait_all_tasks_blocked(0.02)
            await harness.assert_alive()
            await second.aclose()


async def test_port_0_is_reported_as_the_real_port() -> None:
    async with serving(("127.0.0.1:0", "[::1]:0")) as harness:
        assert harness.port > 0
        assert harness.server.urls[1].startswith("http://[::1]:")
        await harness.assert_alive()
        async with await trio.open_tcp_stream("::1", int(harness.server.urls[1].rpartition(":")[2])) as stream:
            await stream.send_all(GET_OK_AND_CLOSE)
            assert (await read_all(stream)).endswith(b"ok")


async def test_unix_socket_is_served_and_a_stale_one_replaced(tmp_path: Path) -> None:
    path = f"{tmp_path}/hookd.sock"
    for _ in range(2):
        async with serving((f"unix:{path}",)) as harness:
            assert harness.server.urls == (f"unix:{path}",)
            with pytest.raises(CannotBind, match="in use"):
                bound_sockets([f"unix:{path}"])
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(GET_OK_AND_CLOSE)
                with trio.fail_after(5):
                    assert (await read_all(stream)).endswith(b"ok")


async def test_inherited_socket_is_served() -> None:
    """What systemd's socket activation hands over."""
    given = socket.create_server(("127.0.0.1", 0))
    async with serving((f"fd://{given.detach()}",)) as harness:
        await harness.assert_alive()


def test_bind_conflict_is_cannot_bind() -> None:
    """The message names the bind and the system's words; sockets bound before it are closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(CannotBind, match=rf"^{bind}: Address already in use$"):
            bound_sockets(["127.0.0.1:0", bind])


@pytest.mark.parametrize("bind", ["8080", ":8080", "127.0.0.1:x", "127.0.0.1:99999", "fd://x", "unix:/no/such/dir/s"])
def test_senseless_bind_is_cannot_bind(bind: str) -> None:
    with pytest.raises(CannotBind, match=bind):
        bound_sockets([bind])


async def test_address_taken_between_bind_and_listen_is_cannot_bind() -> None:
    """Linux lets two sockets bind with SO_REUSEADDR while neither listens."""
    sockets = bound_sockets(["127.0.0.1:0"])
    server = Server(QuartTrio("test"), sockets, log=Harness().log)
    rival = bound_sockets([server.urls[0].removeprefix("http://")])[0]
    with rival:
        rival.listen()
        with pytest.raises(CannotBind, match="in use"):
            await server.serve()


async def test_failed_startup_raises_and_closes_the_sockets() -> None:
    harness = Harness()

    @harness.app.before_serving
    async def fail() -> None:
        raise RuntimeError("no recorder")

    sockets = bound_sockets(["127.0.0.1:0"])
    with pytest.raises(AppFailed, match="no recorder"):
        await Server(harness.app, sockets, log=harness.log).serve()
    assert sockets[0].fileno() == -1


async def test_crash_in_the_apps_nursery_ends_the_server() -> None:
    """Stock: goes on as a zombie that answers 200."""
    harness = Harness()
    harness.server = Server(harness.app, bound_sockets(["127.0.0.1:0"]), log=harness.log)

    async def crash() -> None:
        raise RuntimeError("on purpose")

    @harness.app.before_serving
    async def plant() -> None:
        harness.app.nursery.start_soon(crash)

    with trio.fail_after(5), pytest.raises(ExceptionGroup):
        await harness.server.serve()
