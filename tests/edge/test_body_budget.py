"""How many bytes of bodies are held over all connections: through the real application, in virtual time; no sockets."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.refusal import Full, TooLarge
from hookd.core.settings import IntakeSettings, Settings
from hookd.edge.api import create_app
from hookd.edge.api.body_budget import DISCARD_BYTES_MAX, BodyBudget, CountedBody
from hookd.edge.server.api_server import Server

from tests.edge.server.harness import read_all, read_response
from tests.flow.harness import Flow

KIB = 1024
INTAKE = IntakeSettings(payload_bytes_max=8 * KIB, body_bytes_max=64 * KIB, receiving_bytes_max=100 * KIB)
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
EVENT = b'{"client_id": "acme", "type": "t", "id": "%s", "payload": 1}'
GET_LIVEZ = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def with_length(body: bytes, length: int | None = None) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


class Front:
    """The application behind the server, over streams in memory."""

    def __init__(self, flow: Flow, nursery: trio.Nursery) -> None:
        self.flow = flow
        self._nursery = nursery
        self.server = Server(create_app(flow.services()), [], log=lambda *_, **__: None)

    async def connect(self) -> Any:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.server.handle, ours)
        return theirs

    @asynccontextmanager
    async def sending(self, *sent: bytes) -> AsyncIterator[list[Any]]:
        """Peers that have sent so much and wait."""
        peers = [await self.connect() for _ in sent]
        for peer, data in zip(peers, sent, strict=True):
            await peer.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        yield peers
        for peer in peers:
            await peer.aclose()
        await trio.testing.wait_all_tasks_blocked()

    async def ask(self, sent: bytes) -> bytes:
        peer = await self.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer.send_all, sent)
            return await read_all(peer)
        raise AssertionError

    def accepted(self) -> int:
        return sum(1 for _ in self.flow.ledger.page(client_id=None, before=None, limit=99)[0])


async def started(nursery: trio.Nursery, **fields: int) -> Front:
    flow = Flow(Settings(intake=msgspec.structs.replace(INTAKE, **fields)))
    await flow.start(nursery)
    flow.put()
    return Front(flow, nursery)


def closing(sent: bytes) -> bytes:
    return sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)


async def test_bodies_over_all_connections_are_bounded_by_503(autojump_clock, nursery) -> None:
    """Two that are half here take the budget: a third is full, with Retry-After, and closed."""
    front = await started(nursery)
    half = with_length(b" " * (50 * KIB - 100), 60 * KIB)
    async with front.sending(half, half):
        answer = await front.ask(with_length(b" " * 1000, 60 * KIB))
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"/problems/full" in answer
        assert b"\r\nretry-after: 1\r\n" in answer
        assert b"\r\nconnection: close\r\n" in answer.lower()
    assert (await front.ask(closing(with_length(EVENT % b"later")))).startswith(b"HTTP/1.1 202")
    assert front.accepted() == 1


async def test_what_a_refused_body_held_is_free_for_the_others(autojump_clock, nursery) -> None:
    """Of several that are too many together, those that are left get in."""
    front = await started(nursery)
    bodies = [(EVENT % b"%d" % n).ljust(60 * KIB) for n in range(3)]
    async with front.sending(*[with_length(body)[: 40 * KIB] for body in bodies]) as peers:
        with trio.fail_after(2):
            refused = await read_all(peers[2])
        assert refused.startswith(b"HTTP/1.1 503")
        for peer, body in zip(peers[:1], bodies, strict=False):
            await peer.send_all(with_length(body)[40 * KIB :])
            await read_response_of(peer, b"HTTP/1.1 202")
    assert front.accepted() == 1


async def read_response_of(peer: Any, status_line: bytes) -> None:
    """Head and body, and no byte more."""
    answer = b""
    with trio.fail_after(2):
        while not (found := re.search(rb"content-length: ([0-9]+)\r\n(?s:.*?)\r\n\r\n", answer)):
            answer += await peer.receive_some(1)
        while len(answer) < found.end() + int(found[1]):
            answer += await peer.receive_some(found.end() + int(found[1]) - len(answer))
    assert answer.startswith(status_line)


async def test_small_refused_body_leaves_the_connection_open(autojump_clock, nursery) -> None:
    """A producer that is told to come back has its next request answered on the same connection."""
    front = await started(nursery, receiving_bytes_max=1)
    peer = await front.connect()
    await peer.send_all(with_length(EVENT % b"x"))
    await read_response_of(peer, b"HTTP/1.1 503")
    await peer.send_all(GET_LIVEZ)
    await read_response(peer, b"ok\n")
    assert front.accepted() == 0


async def test_bytes_count_until_the_request_has_ended_however_it_does(autojump_clock, nursery) -> None:
    """Answered, refused, cut by the peer, or too slow: nothing stays counted, so that the budget does not leak away."""
    front = await started(nursery, receiving_bytes_max=64 * KIB)
    full = (EVENT % b"full").ljust(60 * KIB)
    for _ in range(5):
        async with front.sending(with_length(full)[: 50 * KIB]):
            pass  # cut
        assert (await front.ask(closing(with_length(full)))).startswith((b"HTTP/1.1 202", b"HTTP/1.1 200"))
        assert (await front.ask(closing(with_length(b"x" * 60 * KIB)))).startswith(b"HTTP/1.1 400")
        assert (await front.ask(with_length(full[:-1], len(full)))).startswith(b"HTTP/1.1 408")
        assert (await front.ask(closing(with_length(full).replace(b"/v1/events", b"/v1/nothing")))).startswith(
            b"HTTP/1.1 404"
        )
    assert front.accepted() == 1


@pytest.mark.parametrize("form", ["length", "chunks", "lying length"])
async def test_body_over_the_limit_is_413(form: str, autojump_clock, nursery) -> None:
    """Announced, or as it grows. A length that lies in what it announces has no more than that taken."""
    front = await started(nursery)
    body = (EVENT % b"x").ljust(65 * KIB)
    chunks = b"".join(b"400\r\n%s\r\n" % body[n : n + KIB] for n in range(0, len(body), KIB)) + b"0\r\n\r\n"
    sent, status = {
        "length": (with_length(body), b"413"),
        "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks, b"413"),
        "lying length": (with_length(body, 20) + b"\r\n\r\n", b"400"),
    }[form]
    answer = await front.ask(sent)
    assert answer.startswith(b"HTTP/1.1 " + status), answer
    assert front.accepted() == 0


async def test_body_that_trickles_is_408_and_admits_nothing(autojump_clock, nursery) -> None:
    """A byte a second keeps no place for longer than the body's own time."""
    front = await started(nursery)
    peer = await front.connect()
    await peer.send_all(with_length(b"", 1000))
    began = trio.current_time()

    async def drip() -> None:
        while True:
            await peer.send_all(b" ")
            await trio.sleep(1)  # virtual

    async with trio.open_nursery() as dripping:
        dripping.start_soon(drip)
        answer = await read_all(peer)
        dripping.cancel_scope.cancel()
    assert answer.startswith(b"HTTP/1.1 408")
    assert trio.current_time() - began == pytest.approx(60)
    assert front.accepted() == 0


async def test_body_behind_a_large_batch_keeps_the_connection(autojump_clock, nursery) -> None:
    """What is read whole is no reason to close, however long it was."""
    front = await started(nursery, body_bytes_max=1024 * KIB, receiving_bytes_max=1024 * KIB)
    peer = await front.connect()
    for n in range(2):
        await peer.send_all(with_length((EVENT % b"%d" % n).ljust(512 * KIB)))
        await read_response_of(peer, b"HTTP/1.1 202")
    assert front.accepted() == 2


async def test_body_that_no_route_reads_is_not_held(autojump_clock, nursery) -> None:
    """Of a GET: up to what may be discarded, whatever the peer goes on sending; then the connection is closed."""
    front = await started(nursery, receiving_bytes_max=16 * 1024 * KIB, body_bytes_max=16 * 1024 * KIB)
    answer = await front.ask(GET_LIVEZ.replace(b"\r\n\r\n", b"\r\nContent-Length: 8000000\r\n\r\n") + bytes(8_000_000))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close\r\n" in answer.lower()


async def test_count_follows_what_is_held() -> None:
    """One body at a time: taken, refused, dropped, and of a method without a body."""
    effective = EffectiveSettings(Settings(intake=INTAKE))
    receiving = BodyBudget(effective)
    first, second, unread = (
        CountedBody(receiving, is_read=True),
        CountedBody(receiving, is_read=True),
        CountedBody(receiving, is_read=False),
    )
    first.append(b"x" * 60 * KIB)
    assert receiving.held_bytes == 60 * KIB
    second.append(b"x" * 30 * KIB)
    second.append(b"x" * 30 * KIB)
    with pytest.raises(Full):
        second.take()
    assert receiving.held_bytes == 60 * KIB
    first.append(b"x" * 5 * KIB)
    with pytest.raises(TooLarge):
        first.take()
    assert receiving.held_bytes == 0
    for _ in range(100):
        unread.append(b"x" * KIB)
        assert receiving.held_bytes <= DISCARD_BYTES_MAX
    assert receiving.held_bytes == 0
    effective.settings = Settings(intake=msgspec.structs.replace(INTAKE, receiving_bytes_max=1))  # SIGHUP
    third = CountedBody(receiving, is_read=True)
    third.append(b"xx")
    with pytest.raises(Full):
        third.take()
