"""What older or half-closed peers send that means nothing, and must cost nobody an answer: over real sockets."""

from __future__ import annotations

import socket
import struct
import tomllib
from pathlib import Path

import h11
import pytest
import trio
import trio.testing

from tests.edge.server.harness import (
    GET_HELD,
    GET_OK,
    GET_OK_AND_CLOSE,
    in_memory,
    read_all,
    read_response,
    serving,
)
from tests.edge.server.probes import CHUNKS, LENGTH, chunked, post, status_of

ROOT = Path(__file__).parents[3]
CLOSING = b"Connection: close\r\n"
BEHIND = {
    "CRLF": b"\r\n",
    "LF": b"\n",
    "several": b"\r\n\r\n\n",
    "a space": b" ",
    "NUL": b"\0",
    "another request": GET_OK,
    "half a request": GET_OK[:9],
    "64 KiB": b"x" * 65536,
}
ENDS = {
    "close": post(CLOSING + LENGTH),
    "close, chunked": post(CLOSING + b"Transfer-Encoding: chunked\r\n", CHUNKS),
    "HTTP/1.0": post(LENGTH).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "close without a body": GET_OK_AND_CLOSE,
}


def test_inner_name_of_h11_is_there_and_its_release_line_pinned() -> None:
    """Empty lines before a request are skipped through it: without it, each would be answered 400."""
    buffer = h11.Connection(h11.SERVER)._receive_buffer
    buffer += b"\r\nGET"
    assert buffer.maybe_extract_lines() == []
    assert bytes(buffer) == b"GET"
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one for one in named if one.startswith("h11")] == ["h11==0.16.*"]


@pytest.mark.parametrize("behind", BEHIND)
@pytest.mark.parametrize("end", ENDS)
async def test_what_follows_the_last_request_is_ignored(end: str, behind: str) -> None:
    """RFC 9112, section 9.6; in the same packet as the body, and in one that comes while it is being answered."""
    async with serving() as harness:
        assert (await harness.ask(ENDS[end] + BEHIND[behind])).count(b"HTTP/1.1 ") == 1
        answer = await harness.ask(ENDS[end] + BEHIND[behind])
        assert status_of(answer) == 200, answer
        async with await harness.connect() as stream:
            with trio.fail_after(5):
                await stream.send_all(GET_HELD.replace(b"Host", CLOSING + b"Host"))
                await harness.entered.wait()
                await stream.send_all(BEHIND[behind])
                harness.release.set()
                assert status_of(await read_all(stream)) == 200
        assert not harness.logged


@pytest.mark.parametrize("request_", [post(LENGTH), chunked(CHUNKS), GET_OK], ids=["length", "chunks", "no body"])
@pytest.mark.parametrize("between", [b"\r\n", b"\n", b"\r\n\r\n", b"\n\r\n\n", b"\r\n" * 128])
async def test_empty_lines_before_a_request_line_are_skipped(between: bytes, request_: bytes) -> None:
    """RFC 9112, section 2.2: before the first request, behind the body, and in a packet of their own."""
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(between + request_ + between)
            assert status_of(await read_response(stream)) == 200
            await stream.send_all(request_)
            assert status_of(await read_response(stream)) == 200
            await stream.send_all(between + request_ + between + GET_OK_AND_CLOSE)
            received = await read_all(stream)
            assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1 ") == 2, received


async def test_empty_line_in_pieces_is_skipped(autojump_clock: trio.testing.MockClock) -> None:
    """A CR whose LF is in the next packet."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_memory().server.handle, ours)
        for piece in (b"\r", b"\n", GET_OK + b"\r", b"\n\r", b"\n" + GET_OK[:3], GET_OK[3:], GET_OK_AND_CLOSE):
            await theirs.send_all(piece)
            await trio.testing.wait_all_tasks_blocked()
        received = await read_all(theirs)
    assert received.count(b"HTTP/1.1 200") == received.count(b"HTTP/1.1 ") == 3, received


async def test_empty_lines_neither_begin_a_head_nor_keep_a_connection(autojump_clock: trio.testing.MockClock) -> None:
    """The keep-alive time goes on from the last answer, whatever line breaks come."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_memory(keep_alive_seconds=75, header_timeout_seconds=10).server.handle, ours)
        await theirs.send_all(GET_OK)
        await read_response(theirs)
        started_at = trio.current_time()
        for _ in range(7):
            await theirs.send_all(b"\r\n")
            await trio.sleep(10)  # virtual
        await theirs.send_all(GET_OK)
        await read_response(theirs)
        assert trio.current_time() - started_at == pytest.approx(70)
        await theirs.send_all(b"\r\n")
        assert await read_all(theirs) == b""
        assert trio.current_time() - started_at == pytest.approx(145)


async def test_129_empty_lines_are_400() -> None:
    """EMPTY_LINES_MAX, counted over packets."""
    async with serving() as harness:
        assert status_of(await harness.ask(b"\r\n" * 129 + GET_OK_AND_CLOSE)) == 400
        async with await harness.connect() as stream:
            with trio.fail_after(5):
                await stream.send_all(b"\r\n" * 128)
                await stream.send_all(b"\r\n")
                assert status_of(await read_all(stream)) == 400


# The end of a peer's sending


@pytest.mark.parametrize("head", [GET_HELD, GET_HELD.replace(b"Host", CLOSING + b"Host")], ids=["keeps", "closes"])
async def test_half_closed_peer_gets_its_answer_and_the_end(head: bytes) -> None:
    """Before, its handler was cancelled and nothing came."""
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(head)
            await harness.entered.wait()
            await stream.send_eof()
            await trio.testing.wait_all_tasks_blocked(0.05)
            harness.release.set()
            assert (await read_all(stream)).endswith(b"\r\n\r\nheld")


async def test_half_closed_peer_gets_all_its_pipelined_answers() -> None:
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(GET_OK * 3 + GET_HELD)
            await stream.send_eof()
            await harness.entered.wait()
            harness.release.set()
            assert (await read_all(stream)).count(b"HTTP/1.1 200") == 4


async def test_half_closed_peer_is_cut_by_the_stop() -> None:
    """Its handler holds nothing for longer than the grace."""
    async with serving() as harness, await harness.connect() as stream:
        with trio.fail_after(5):
            await stream.send_all(GET_HELD)
            await harness.entered.wait()
            await stream.send_eof()
            harness.server.stop(grace_seconds=0.1)
            assert await read_all(stream) == b""
            await harness.ended.wait()


async def test_peer_that_resets_counts_as_gone() -> None:
    """Its handler is cancelled, and its place is free, though nothing is written."""
    async with serving() as harness:
        stream = await harness.connect()
        with trio.fail_after(5):
            await stream.send_all(GET_HELD)
            await harness.entered.wait()
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close is a reset
            await stream.aclose()
            while harness.server.statistics().connections_open:
                await trio.lowlevel.checkpoint()


# Targets


@pytest.mark.parametrize(
    "target",
    [b"http://h/ok", b"HTTP://h/ok", b"HttpS://h/ok", b"http://h:80/ok?", b"http://elsewhere/ok"],
)
async def test_absolute_target_is_taken(target: bytes) -> None:
    """Schemes know no case."""
    async with serving() as harness:
        assert status_of(await harness.ask(GET_OK_AND_CLOSE.replace(b"/ok", target))) == 200
