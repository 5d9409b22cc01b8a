"""Requests: those that are not HTTP/1.1 or mean two things, those in pieces, and those that follow one another."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.edge.server.harness import GET_OK_AND_CLOSE, Harness, in_memory, read_all, serving
from tests.edge.server.probes import CHUNKS, LENGTH, PROBES, Probe, chunked, post, status_of

GOOD = {"length": post(LENGTH), "chunks": chunked(CHUNKS)}
H2C = (
    b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
)
BODY_IN_GET = b"GET /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


async def exchange(harness: Harness, probe: Probe) -> bytes:
    """Over streams in memory; the server has to end it."""
    ours, theirs = trio.testing.memory_stream_pair()
    received = b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(harness.server.handle, ours)
        nursery.start_soon(send, theirs, probe)
        received = await read_all(theirs)
        await theirs.aclose()
    return received


async def send(stream: trio.StapledStream, probe: Probe) -> None:  # type: ignore[type-arg]
    try:
        await stream.send_all(probe.sent)
        if probe.ends:
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it was answered and closed before all of it was read


@pytest.mark.parametrize("name", PROBES)
async def test_probe_gets_its_status_and_the_end(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """At once: in no case does it take until a deadline. And nothing of it is an error of ours."""
    harness = in_memory()
    before = trio.current_time()
    received = await exchange(harness, PROBES[name])
    assert status_of(received) in PROBES[name].statuses, received
    assert received.count(b"HTTP/1.1 ") <= 1
    assert trio.current_time() - before < 5
    assert harness.logged == []
    assert harness.server.statistics().connections_open == 0


@pytest.mark.parametrize("name", PROBES)
async def test_probe_over_a_socket_ends_only_its_connection(name: str) -> None:
    """A peer that has not ended its sending side is told before it is cut off."""
    probe = PROBES[name]
    async with serving() as harness:
        with trio.fail_after(10):
            async with await harness.connect() as stream, trio.open_nursery() as nursery:
                nursery.start_soon(send, stream, probe)
                assert status_of(await read_all(stream)) in probe.statuses
                nursery.cancel_scope.cancel()
        await harness.assert_alive()


async def test_h2c_upgrade_is_ignored_and_answered_in_http_1() -> None:
    """As RFC 9110 allows. Stock speaks HTTP/2."""
    async with serving() as harness:
        assert (await harness.ask(H2C)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("name", GOOD)
async def test_good_request_is_read_however_it_is_cut_up(name: str, autojump_clock: trio.testing.MockClock) -> None:
    """In two pieces, at each byte; the next request on the connection is read too."""
    request, harness = GOOD[name], in_memory()
    for cut in range(1, len(request)):
        ours, theirs = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(harness.server.handle, ours)
            await theirs.send_all(request[:cut])
            await trio.testing.wait_all_tasks_blocked()
            await theirs.send_all(request[cut:] + GET_OK_AND_CLOSE)
            assert (await read_all(theirs)).count(b"HTTP/1.1 200") == 2, cut


async def test_pipelined_requests_are_answered_in_order(autojump_clock: trio.testing.MockClock) -> None:
    """Each answer whole before the next begins, bodies read or not, the last one closing."""
    harness = in_memory()
    echo = [b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(9)]
    sent = b"".join(one + BODY_IN_GET for one in echo) + GET_OK_AND_CLOSE
    received = await exchange(harness, Probe(sent))
    assert [answer[-2:] for answer in received.split(b"HTTP/1.1 200")[1:]] == [
        *[end for n in range(9) for end in (b"\n%d" % n, b"ok")],
        b"ok",
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_answer_goes_out_in_one_write(method: str, autojump_clock: trio.testing.MockClock) -> None:
    """Head and body together, or a head alone: each write is a lock, a deadline and a packet."""
    ours, theirs = trio.testing.memory_stream_pair()
    writes = 0

    async def count() -> None:
        nonlocal writes
        writes += 1

    ours.send_stream.send_all_hook = count
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_memory().server.handle, ours)
        await theirs.send_all(GET_OK_AND_CLOSE.replace(b"GET", method.encode()))
        answer = await read_all(theirs)
    assert answer.startswith(b"HTTP/1.1 200")
    assert writes == 1


async def test_what_follows_a_body_is_the_next_request(autojump_clock: trio.testing.MockClock) -> None:
    """A length that is too small: the first is taken as it says it is, the rest is no request."""
    received = await exchange(in_memory(), Probe(post(b"Content-Length: 5\r\n") + b"\r\n\r\n"))
    assert [status_of(b"HTTP/1.1 " + answer) for answer in received.split(b"HTTP/1.1 ")[1:]] == [200, 400]


async def test_bare_line_feeds_in_a_body_are_the_bodys_own(autojump_clock: trio.testing.MockClock) -> None:
    """NDJSON is full of them, and a body may look like a head."""
    lines = b"\n\n x\nContent-Length: 1, 2\nContent-Length: 2\n"
    for sent in (
        post(b"Content-Length: %d\r\n" % len(lines), lines),
        chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(lines), lines)),
    ):
        received = await exchange(in_memory(), Probe(sent + GET_OK_AND_CLOSE))
        assert received.count(b"HTTP/1.1 200") == 2, received


async def test_many_slow_peers_are_cut_at_the_head_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """500 heads that come a byte at a time end together; none of them keeps a place for longer."""
    harness = in_memory(header_timeout_seconds=10)

    async def drip(stream: trio.StapledStream) -> None:  # type: ignore[type-arg]
        for letter in post(LENGTH):
            await stream.send_all(bytes([letter]))
            await trio.sleep(3)  # virtual

    async with trio.open_nursery() as peers:
        async with trio.open_nursery() as nursery:
            for _ in range(500):
                ours, theirs = trio.testing.memory_stream_pair()
                nursery.start_soon(harness.server.handle, ours)
                peers.start_soon(drip, theirs)
        assert trio.current_time() == pytest.approx(10, abs=0.1)
        peers.cancel_scope.cancel()
