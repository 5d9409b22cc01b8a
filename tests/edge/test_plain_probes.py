"""A plain probe is answered from its first bytes: with what the application says, and whoever else is there."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hookd.edge.api import create_app
from hookd.edge.api.health_checks import PLAIN_ANSWERS
from hookd.edge.server import Server, bound_sockets
from hookd.edge.server.api_server import spare_connections
from hookd.edge.server.http1 import HypercornConfig
from hookd.edge.server.probes import Probes

from tests.edge.server.harness import GET_HELD, GET_OK, Harness, in_memory, read_all, read_response, serving
from tests.flow.harness import Flow

LINE = b"GET /livez HTTP/1.1\r\n"
PLAIN = {
    "least": LINE + b"host: localhost\r\n\r\n",
    "closing": LINE + b"Host: localhost\r\nConnection: close\r\n\r\n",
    "kubelet": LINE + b"Host: 10.0.0.1:8080\r\nUser-Agent: kube-probe/1.31\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    "curl": LINE + b"Host: h\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n",
    "wget": LINE + b"Host: h\r\nUser-Agent: Wget\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
    b"Connection: Keep-Alive\r\n\r\n",
}
OTHER = {
    "query": b"GET /livez?verbose HTTP/1.1\r\nHost: h\r\n\r\n",
    "readyz": b"GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n",
    "HEAD": b"HEAD /livez HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST": b"POST /livez HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    "no host": LINE + b"\r\n",
    "two hosts": LINE + b"Host: a\r\nHost: b\r\n\r\n",
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\nHost: h\r\n\r\n",
    "other type": LINE + b"Host: h\r\nAccept: application/xml\r\n\r\n",
    "body": LINE + b"Host: h\r\nContent-Length: 2\r\n\r\n\r\n",
    "chunks": LINE + b"Host: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "another header": LINE + b"Host: h\r\nX: y\r\n\r\n",
    "token": LINE + b"Host: h\r\nAuthorization: Bearer x\r\n\r\n",
    "upgrade": LINE + b"Host: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "another behind it": (LINE + b"Host: h\r\n\r\n") * 2,
    "empty line before": b"\r\n" + LINE + b"Host: h\r\n\r\n",
    "space before the colon": LINE + b"Host : h\r\n\r\n",
    "folded": LINE + b"Host: h\r\nAccept: */*\r\n  \r\n\r\n",
    "line without CR": LINE + b"Host: h\nAccept: */*\r\n\r\n",
    "control character": LINE + b"Host: h\x01\r\n\r\n",
    "not ASCII": LINE + b"Host: h\r\nUser-Agent: \xe9\r\n\r\n",
    "no value": LINE + b"Host:\r\n\r\n",
    "longer path": b"GET /livez/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "absolute": b"GET http://h/livez HTTP/1.1\r\nHost: h\r\n\r\n",
    "not whole": LINE + b"Host: h\r\n",
}
PROBES = Probes(("/livez", "/readyz"), PLAIN_ANSWERS, HypercornConfig(print))
GET_LIVEZ = PLAIN["least"]
SILENT_PLACES = 1 + spare_connections(1)


@asynccontextmanager
async def door(**options: Any) -> AsyncIterator[int]:
    """The port of the application."""
    server = Server(create_app(Flow().services()), bound_sockets(["127.0.0.1:0"]), log=lambda *_, **__: None, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield int(server.urls[0].rpartition(":")[2])
        nursery.cancel_scope.cancel()


async def answer_of(port: int, sent: bytes) -> bytes:
    """To the end of the stream, which the peer ends first; without the time."""
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(sent)
            await stream.send_eof()
            return re.sub(rb"date: [^\r]*", b"date: now", await read_all(stream))


@pytest.mark.parametrize("name", PLAIN)
def test_plain_probe_is_known(name: str) -> None:
    assert PROBES.answer(PLAIN[name]) is not None
    assert PROBES.begins(PLAIN[name])


@pytest.mark.parametrize("name", OTHER)
def test_everything_else_goes_the_long_way(name: str) -> None:
    assert PROBES.answer(OTHER[name]) is None


async def test_plain_probe_is_answered_as_by_the_application() -> None:
    async with door() as long_way, door(plain_answers=PLAIN_ANSWERS) as short_way:
        for sent in {**PLAIN, **OTHER}.values():
            answers = [await answer_of(port, sent) for port in (long_way, short_way)]
            assert answers[0] == answers[1]
            assert answers[0] or sent == OTHER["not whole"], "a 400 for half a request may be lost"


@pytest.mark.parametrize(
    ("data", "may"),
    [
        (b"GET /livez HTTP", True),
        (b"GET /li", True),
        (b"\r\nGET /readyz?v", True),
        (b"\r\n", True),
        (b"HEAD /livez ", True),
        (b"GET /v1/", False),
        (b"GET /livezx", False),
        (b"POST /livez ", False),
    ],
)
def test_what_may_become_a_probe(data: bytes, may: bool) -> None:
    assert PROBES.may_begin(data) is may


async def test_connection_goes_on_after_a_plain_probe(autojump_clock: trio.testing.MockClock) -> None:
    """With another, with a request, with a probe behind that; and it is closed when it stays idle."""
    harness = in_memory(plain_answers={"/livez": b"plain"}, keep_alive_seconds=20.0)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.serve_one, ours)
        for sent, said in ((GET_LIVEZ, b"plain"), (GET_LIVEZ, b"plain"), (GET_OK, b"ok"), (GET_LIVEZ, b"alive")):
            await theirs.send_all(sent)
            await read_response(theirs, said)
        before = trio.current_time()
        assert await read_all(theirs) == b""
        assert trio.current_time() - before == 20


async def test_connection_that_had_only_plain_probes_is_closed_when_idle_and_at_the_stop(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for stops in (False, True):
        harness = in_memory(plain_answers={"/livez": b"plain"}, keep_alive_seconds=20.0)
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(harness.serve_one, ours)
            await theirs.send_all(GET_LIVEZ)
            await read_response(theirs, b"plain")
            before = trio.current_time()
            if stops:
                harness.server.stop(grace_seconds=5)
            assert await read_all(theirs) == b""
            assert trio.current_time() - before == (0 if stops else 20)


async def test_deaf_prober_is_cut_at_the_write_deadline(autojump_clock: trio.testing.MockClock) -> None:
    harness = in_memory(plain_answers={"/livez": b"x" * 100_000}, write_timeout_seconds=7.0)
    ours, theirs = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.serve_one, ours)
        await theirs.send_all(GET_LIVEZ)
        await harness.ended.wait()
        assert trio.current_time() == 7
    assert [event for event, _ in harness.logged] == ["connection.cut"]


async def test_plain_probe_takes_few_turns_beside_peers_that_come_at_once() -> None:
    """Before: it waited for eight turns of theirs."""
    async with serving(plain_answers={"/livez": b"plain"}) as harness:
        with trio.fail_after(20):
            others = [socket.create_connection(("127.0.0.1", harness.port)) for _ in range(10)]
            for other in others:
                other.sendall(GET_OK)
            probe = socket.create_connection(("127.0.0.1", harness.port))
            probe.setblocking(False)
            probe.send(GET_LIVEZ)
            with harness.count_turns():
                while not harness.asked:
                    await trio.lowlevel.checkpoint()
                assert probe.recv(1000).endswith(b"plain"), "it came last and is answered first"
            for one in (probe, *others):
                one.close()


async def open_silent(harness: Harness) -> list[trio.SocketStream]:
    """They take every place, the spare ones too, and have been there for a moment only."""
    silent = [await harness.connect() for _ in range(SILENT_PLACES - 1)]
    held = await harness.connect()
    await held.send_all(GET_HELD)
    return [*silent, held]


async def test_plain_probe_is_answered_where_every_place_is_taken() -> None:
    """By connections that have brought nothing yet. Before: 503, until the oldest of them was a second old."""
    async with serving(connections_max=1, plain_answers={"/livez": b"plain"}) as harness:
        with trio.fail_after(20):
            silent = await open_silent(harness)
            while harness.server.statistics().connections_spare < SILENT_PLACES - 1:
                await trio.lowlevel.checkpoint()
            waiting = [socket.create_connection(("127.0.0.1", harness.port)) for _ in range(3)]
            for one, sent in zip(waiting, (GET_LIVEZ, GET_OK, GET_LIVEZ), strict=True):
                one.sendall(sent)
            answers = [await trio.to_thread.run_sync(one.recv, 1000) for one in waiting]
            assert [answer[9:12] for answer in answers] == [b"200", b"503", b"200"]
            for one in waiting:
                one.close()
            for stream in silent:
                await trio.aclose_forcefully(stream)


async def test_spare_place_is_not_kept_by_what_is_no_probe(autojump_clock: trio.testing.MockClock) -> None:
    """Half a head that no probe has. Before: it was waited for, and held the place for a second."""
    harness = in_memory(connections_max=1)
    async with trio.open_nursery() as nursery:

        async def connect(sent: bytes) -> Any:
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(harness.server.handle, ours)
            await theirs.send_all(sent)
            await trio.testing.wait_all_tasks_blocked()
            return theirs

        held = await connect(GET_HELD)
        for _ in range(3 * spare_connections(1)):
            other = await connect(b"GET /v1/")
            assert (await other.receive_some(1000)).startswith(b"HTTP/1.1 503")
            await other.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert harness.server.statistics().connections_spare == 0
        half = await connect(b"GET /li")
        assert harness.server.statistics().connections_spare == 1
        await half.send_all(b"vez HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"alive" in await read_all(half)
        harness.release.set()
        await held.aclose()
