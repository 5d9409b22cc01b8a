"""The hardened server: over real sockets on port 0, and over streams in memory where time is the subject.

Where a test says "stock", hypercorn.trio.serve of hypercorn 0.18 does that. Nothing here waits by sleeping: a reader
waits for bytes, for the end of the stream or for an event, with a bound around it.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hookd.edge.server import CannotBind, Server, bound_sockets
from hookd.edge.server.lifespan import AppFailed
from quart_trio import QuartTrio

from tests.edge.server.harness import (
    GET_BIG,
    GET_HELD,
    GET_OK,
    GET_OK_AND_CLOSE,
    HALF_A_REQUEST,
    Harness,
    in_memory,
    read_all,
    read_response,
    serving,
)
from tests.edge.server.probes import PROBES

GET_CRASH = b"GET /crash HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


# --- peers that send nonsense


@pytest.mark.parametrize("name", ["websocket and a byte", "chunk size no number"])
async def test_what_ends_the_stock_server_ends_only_its_connection(name: str) -> None:
    """Stock: h11.LocalProtocolError leaves serve() every time, BusyResourceError in a race that 20 tries win."""
    async with serving() as harness:
        for _ in range(20):
            assert (await harness.ask(PROBES[name].sent)).startswith(b"HTTP/1.1 ")
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
    """The message names the bind, the system's words and what to do; sockets bound before it are closed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        advice = r".*maybe another hookd: stop it, or .*http\.bind"
        with pytest.raises(CannotBind, match=rf"^{bind}: Address already in use; {advice}$"):
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
