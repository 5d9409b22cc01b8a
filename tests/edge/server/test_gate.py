"""Whose turn it is: how many pass in a turn, in which order, and that nobody who waits is lost."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hookd.edge.server.arrivals import FIRST_BYTES, Arrivals
from hookd.edge.server.gate import PROBES_PER_TURN, REQUESTS_PER_TURN, Gate, Gates, TurnCount
from hookd.edge.server.http1 import HypercornConfig
from hookd.edge.server.probes import Probes

from tests.edge.server.harness import (
    GET_HELD,
    GET_LIVEZ,
    GET_OK,
    Harness,
    in_memory,
    read_all,
    read_response,
    serving,
)

PEERS = 100
SECONDS = 20


@asynccontextmanager
async def counted_turns() -> AsyncIterator[TurnCount]:
    turns = TurnCount()
    trio.lowlevel.add_instrument(turns)
    yield turns
    trio.lowlevel.remove_instrument(turns)


class Passing:
    """Tasks that go through one gate: who came when, who passed when."""

    def __init__(self, gate: Gate, turns: TurnCount) -> None:
        self._gate, self._turns = gate, turns
        self.came: list[int] = []
        self.passed: list[tuple[int, int]] = []  # turn, who

    async def go(self, number: int) -> None:
        self.came.append(number)
        if not self._gate.passes():
            await self._gate.wait()
        self.passed.append((self._turns.number, number))

    @property
    def per_turn(self) -> Counter[int]:
        return Counter(turn for turn, _ in self.passed)


async def test_where_few_come_nobody_waits() -> None:
    async with counted_turns() as turns:
        gate = Gate(3, turns)
        for _ in range(5):
            assert [gate.passes() for _ in range(4)] == [True, True, True, False]
            await trio.lowlevel.checkpoint()
            assert gate.waiting == 0


async def test_those_who_wait_pass_in_order_so_many_a_turn() -> None:
    async with counted_turns() as turns:
        passing = Passing(Gate(4, turns), turns)
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(passing.go, number)
    assert max(passing.per_turn.values()) == 4
    assert len(passing.per_turn) <= 50 // 4 + 3
    turn_of = {number: turn for turn, number in passing.passed}
    waited = [turn_of[number] for number in passing.came]
    assert waited == sorted(waited)


async def test_newcomers_stand_behind_those_who_wait() -> None:
    async with counted_turns() as turns:
        gate = Gate(2, turns)
        passing = Passing(gate, turns)
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(passing.go, number)
            while not gate.waiting:
                await trio.lowlevel.checkpoint()
            for number in range(20, 30):
                await trio.lowlevel.checkpoint()
                assert gate.waiting > 0
                nursery.start_soon(passing.go, number)
    assert max(passing.per_turn.values()) == 2
    assert [number for _, number in passing.passed][-1] >= 28
    turn_of = {number: turn for turn, number in passing.passed}
    waited = [turn_of[number] for number in passing.came]
    assert waited == sorted(waited)


@pytest.mark.parametrize("cut", [range(1), range(9), range(3, 9), range(1, 20, 2)], ids=str)
async def test_who_is_cancelled_holds_up_nobody(cut: range) -> None:
    """Also the one that lets the others pass."""
    async with counted_turns() as turns:
        gate = Gate(1, turns)
        assert gate.passes()
        came: list[trio.CancelScope] = []
        passed: list[trio.CancelScope] = []

        async def go() -> None:
            with trio.CancelScope() as scope:
                came.append(scope)
                if len(came) == 20:
                    for at in cut:
                        came[at].cancel()
                await gate.wait()
                await trio.lowlevel.checkpoint()
                passed.append(scope)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(go)
        assert len(passed) == 20 - len(cut)
        assert gate.waiting == 0
        await trio.lowlevel.checkpoint()
        assert gate.passes()


# --- on the connections of a server


async def kept(harness: Harness, count: int) -> list[trio.SocketStream]:
    """Connections that were answered once."""
    streams = [await harness.connect() for _ in range(count)]
    for stream in streams:
        await stream.send_all(GET_OK)
        await read_response(stream)
    harness.asked.clear()
    return streams


def send_at_once(streams: list[trio.SocketStream], sent: bytes) -> None:
    """The server has no turn meanwhile."""
    for stream in streams:
        with socket.socket(fileno=socket.dup(stream.socket.fileno())) as own:
            own.send(sent)


async def asked(harness: Harness, count: int) -> list[str]:
    """So many requests, in order."""
    with harness.count_turns():
        while len(harness.asked) < count:
            await trio.lowlevel.checkpoint()
    return [path for _, path in harness.asked]


def most_in_a_turn(harness: Harness) -> int:
    return max(Counter(turn for turn, _ in harness.asked).values())


async def close(streams: list[trio.SocketStream]) -> None:
    for stream in streams:
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("pipelined", [1, 5])
async def test_requests_of_many_peers_are_asked_some_a_turn(pipelined: int) -> None:
    """Before: all of them in one turn."""
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            streams = await kept(harness, PEERS)
            send_at_once(streams, GET_OK * pipelined)
            await asked(harness, PEERS * pipelined)
            assert most_in_a_turn(harness) <= REQUESTS_PER_TURN
            await close(streams)


async def test_probe_passes_a_hundred_that_wait() -> None:
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            streams = await kept(harness, PEERS + 1)
            send_at_once(streams[1:], GET_OK)
            send_at_once(streams[:1], GET_LIVEZ)
            assert (await asked(harness, PEERS + 1)).index("/livez") <= 3 * REQUESTS_PER_TURN
            assert b"alive" in await read_response(streams[0], b"alive")
            await close(streams)


async def test_flood_of_probes_waits_for_itself() -> None:
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            streams = await kept(harness, PEERS + 1)
            send_at_once(streams[1:], GET_LIVEZ)
            send_at_once(streams[:1], GET_OK)
            assert (await asked(harness, PEERS + 1)).index("/ok") <= PEERS // 3
            assert most_in_a_turn(harness) <= PROBES_PER_TURN + REQUESTS_PER_TURN  # which they may be, too
            await close(streams)


async def test_what_waits_is_in_the_systems_buffers() -> None:
    """A thousand that wait with a body hold a thousand times FIRST_BYTES here."""
    gates, waiting, goes_on = Gates(), trio.Event(), trio.Event()

    async def wait(gate: Gate) -> None:
        assert gate is gates.requests
        waiting.set()
        await goes_on.wait()

    near, far = socket.socketpair()
    with far:
        far.sendall(b"x" * 5000)
        ours = trio.SocketStream(trio.socket.from_stdlib_socket(near))
        arrivals = Arrivals(ours, gates, Probes((), {}, HypercornConfig(print)), wait)
        while gates.requests.passes():
            pass
        received: list[bytes] = []

        async def receive() -> None:
            received.append(await arrivals.receive_some())

        with trio.fail_after(5):
            async with arrivals, trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await waiting.wait()
                assert len(ours.socket._sock.recv(9999, socket.MSG_PEEK)) == 5000 - FIRST_BYTES  # type: ignore[attr-defined]
                goes_on.set()
    assert received == [b"x" * 5000]


async def test_wait_for_a_turn_is_not_the_peers_time(autojump_clock: trio.testing.MockClock) -> None:
    """Each turn takes a second, and a head has to come within three. Before: those in line were cut."""
    harness = in_memory(header_timeout_seconds=3.0, write_timeout_seconds=1000.0)
    ends: list[Any] = []
    async with trio.open_nursery() as nursery:
        for _ in range(60):
            ours, theirs = trio.testing.memory_stream_pair()
            nursery.start_soon(harness.server.handle, ours)
            ends.append(theirs)
        await trio.testing.wait_all_tasks_blocked()
        for theirs in ends:
            await theirs.send_all(GET_OK)
        began = trio.current_time()
        while len(harness.asked) < 60:
            await trio.lowlevel.checkpoint()
            autojump_clock.jump(1)
            assert trio.current_time() < began + 60
        assert trio.current_time() > began + 3
        for theirs in ends:
            await read_response(theirs)
            await theirs.aclose()


async def test_requests_that_wait_are_answered_at_the_stop() -> None:
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            streams = await kept(harness, PEERS)
            send_at_once(streams, GET_OK)
            while not harness.asked:
                await trio.lowlevel.checkpoint()
            assert len(harness.asked) < PEERS
            harness.server.stop(grace_seconds=10)
            for stream in streams:
                async with stream:
                    assert (await read_all(stream)).endswith(b"ok")
            await harness.ended.wait()


async def test_cut_ends_those_who_wait() -> None:
    async with serving() as harness:
        with trio.fail_after(SECONDS):
            streams = await kept(harness, PEERS)
            send_at_once(streams, GET_HELD)
            await harness.entered.wait()
            harness.server.stop(grace_seconds=0)
            await harness.ended.wait()
            await close(streams)
