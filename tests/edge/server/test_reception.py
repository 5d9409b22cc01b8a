"""Who connects: how many are accepted before anyone is served, that no burst holds up a probe, who displaces whom."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import trio
from hookd.edge.server import bound_sockets
from hookd.edge.server.gate import REQUESTS_PER_TURN, TurnCount
from hookd.edge.server.http1 import HypercornConfig
from hookd.edge.server.probes import Probes
from hookd.edge.server.reception import ACCEPTED_PER_TURN, STARTED_PER_TURN, Newcomer, Reception, listen
from hookd.edge.server.room import Room
from hookd.edge.server.standing import Use

from tests.edge.server.harness import GET_HELD, GET_LIVEZ, GET_OK, Harness, read_response, serving

BURST = 200
PLAIN = {"/livez": b"alive"}
SECONDS = 20


@contextmanager
def connected(harness: Harness, count: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """The server has no turn meanwhile."""
    with ExitStack() as stack:
        peers = [stack.enter_context(socket.create_connection(("127.0.0.1", harness.port))) for _ in range(count)]
        for peer in peers:
            peer.sendall(sent)
            peer.setblocking(False)
        yield peers


async def answer_of(peer: socket.socket) -> bytes:
    """What is there after as few turns as it takes."""
    while True:
        try:
            return peer.recv(1000)
        except BlockingIOError:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("sent", [GET_OK, GET_OK[:9], b""], ids=["requests", "halves", "silent"])
async def test_probe_is_answered_before_the_burst_that_it_stands_behind(sent: bytes) -> None:
    """Before: each that connected before it was served as far as it went."""
    async with serving(plain_answers=PLAIN) as harness:
        burst, behind = connected(harness, BURST, sent), connected(harness, 1, GET_LIVEZ)
        with trio.fail_after(SECONDS), harness.count_turns(), burst, behind as (probe,):
            assert b"alive" in await answer_of(probe)
            assert harness.turns.number <= BURST // ACCEPTED_PER_TURN + 3
            assert len(harness.asked) <= harness.turns.number * REQUESTS_PER_TURN


async def test_burst_of_probes_is_answered_as_it_is_accepted() -> None:
    """Each stays open, and may ask for something else then."""
    async with serving(plain_answers=PLAIN) as harness:
        with trio.fail_after(SECONDS), harness.count_turns(), connected(harness, BURST, GET_LIVEZ) as peers:
            for peer in reversed(peers):
                assert b"alive" in await answer_of(peer)
            assert harness.turns.number <= BURST // ACCEPTED_PER_TURN + 3
            for peer in (peers[0], peers[-1]):
                peer.sendall(GET_OK)
                assert (await answer_of(peer)).startswith(b"HTTP/1.1 200")
            assert harness.server.statistics().connections_open == BURST


async def test_those_in_line_are_started_some_a_turn_in_order() -> None:
    room, started = 100, list[tuple[int, bytes | None]]()
    with receiving(room=lambda: room, beyond_max=1) as (reception, one), trio.fail_after(SECONDS), ExitStack() as stack:
        turns = TurnCount()
        trio.lowlevel.add_instrument(turns)

        async def start(newcomer: Newcomer) -> None:
            reception.leave(newcomer)
            started.append((turns.number, newcomer.first))
            await newcomer.stream.aclose()

        for number in range(80):
            peer = stack.enter_context(socket.create_connection(one.getsockname()))
            peer.sendall(b"POST %d" % number if number < 79 else b"GET /livez?")
        await hand_out(start, one, reception, lambda: len(started) == 80)
        trio.lowlevel.remove_instrument(turns)
    found = [first for _, first in started]
    assert b"GET /livez?" in found[: 2 * STARTED_PER_TURN]
    found.remove(b"GET /livez?")
    per_turn = [[first for turn, first in started if turn == number] for number in {turn for turn, _ in started}]
    assert max(map(len, per_turn)) <= STARTED_PER_TURN + 1
    for turn, expected in zip(range(0, 79, STARTED_PER_TURN), range(0, 79, STARTED_PER_TURN), strict=True):
        assert b"POST %d" % expected in found[turn : turn + STARTED_PER_TURN]


@contextmanager
def receiving(**given: Any) -> Iterator[tuple[Reception, socket.socket]]:
    (one,) = bound_sockets(["127.0.0.1:0"])
    probes = Probes(("/livez",), {}, HypercornConfig(print))
    with one:
        one.listen()
        yield Reception(probes, is_last=lambda: False, **given), one


async def hand_out(start: Any, one: socket.socket, reception: Reception, is_done: Any) -> None:
    listener = listen(one, "http://here", reception, is_tls=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, start, [listener])
        while not is_done():
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert not listener.last()


@pytest.mark.parametrize("_", range(12))  # whose turn it is first is chance
async def test_those_accepted_count_before_more_are(_: int) -> None:
    """With a small descriptor limit a burst of 60 took twice the room that there was, and the next found none."""
    served: list[bool] = []
    with receiving(room=lambda: max(0, 16 - len(served)), beyond_max=1) as (reception, one), ExitStack() as stack:

        async def start(newcomer: Newcomer) -> None:
            assert reception.placed + sum(served) <= 16
            assert reception.beyond <= 1
            reception.leave(newcomer)
            served.append(newcomer.has_place)
            await newcomer.stream.aclose()

        for _ in range(60):
            stack.enter_context(socket.create_connection(one.getsockname()))
        with trio.fail_after(SECONDS):
            await hand_out(start, one, reception, lambda: len(served) == 60)
    assert sum(served) == 16


async def test_plain_probes_displace_nobody() -> None:
    """Where all places are taken, each is answered, and closed. Before: each took the place of a kept one."""
    async with serving(plain_answers=PLAIN, connections_max=3) as harness:
        with trio.fail_after(SECONDS):
            kept = [await harness.connect() for _ in range(3)]
            for stream in kept:
                await stream.send_all(GET_OK)
                await read_response(stream)
            with connected(harness, 50, GET_LIVEZ) as peers:
                for peer in peers:
                    assert b"Connection: close\r\n\r\nalive" in await answer_of(peer)
                    assert await answer_of(peer) == b""
            found = harness.server.statistics()
            assert (found.connections_open, found.connections_displaced, found.connections_refused) == (3, 0, 0)
            for stream in kept:
                await stream.aclose()


async def test_who_waits_in_line_at_the_stop_is_answered() -> None:
    """And ends then. Before: who had its answer just after the stop was waited for until the grace was over."""
    async with serving() as harness:
        with trio.fail_after(SECONDS), connected(harness, 100, GET_OK) as peers:
            while not harness.asked:
                await trio.lowlevel.checkpoint()
            assert harness.server.statistics().connections_open == 100
            assert len(harness.asked) < 100
            harness.server.stop(grace_seconds=1000)
            for peer in peers:
                assert (await answer_of(peer)).endswith(b"ok")
            await harness.ended.wait()


async def test_beyond_all_places_the_line_is_passed() -> None:
    """Who has no place is refused, or displaces one, while those with a place still wait in line."""
    async with serving(connections_max=200) as harness:
        held, behind = connected(harness, 200, GET_HELD), connected(harness, 1, GET_OK)
        with trio.fail_after(SECONDS), harness.count_turns(), held, behind as (late,):
            assert (await answer_of(late)).startswith(b"HTTP/1.1 503")
            assert harness.server.statistics().connections_open == 200
            assert harness.turns.number < 200 // STARTED_PER_TURN


async def test_peers_that_connect_and_go_leave_nothing() -> None:
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            for _ in range(50):
                socket.create_connection(("127.0.0.1", harness.port)).close()
            async with await harness.connect() as stream:
                await stream.send_all(GET_OK)
                await read_response(stream)
                assert harness.server.statistics().connections_open == 1


class Idle:
    """A connection that could make room, and counts how often it was looked at."""

    def __init__(self, due: float) -> None:
        self.due, self.looks = due, 0

    @property
    def standing(self) -> tuple[Use, float] | None:
        self.looks += 1
        return (Use.KEPT, self.due) if self.due else None

    def close_if_idle(self) -> None:
        self.due = 0.0


def test_who_makes_room_is_looked_up_once_a_turn() -> None:
    """A thousand were gone through for each of a hundred that found no room: 0.7 ms each."""
    idle = [Idle(due) for due in range(1000, 0, -1)]
    connections, turns = list[Any](idle), TurnCount()
    room = Room(connections, None, turns=turns, connections_max=1000, header_timeout_seconds=10.0)
    for displaced in range(1, 9):
        assert room.make("")
        assert [one.due for one in idle].count(0.0) == displaced
    assert [one.due for one in idle[-8:]] == [0.0] * 8  # the oldest
    assert sum(one.looks for one in idle) < 2 * len(idle)
    turns.after_io_wait(0.0)
    idle[0].due = 0.5
    assert room.make("")
    assert idle[0].due == 0.0
