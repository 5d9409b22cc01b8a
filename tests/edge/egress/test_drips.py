"""Peers that send a byte at a time: what they cost the loop, counted in reads and in steps of a turn; never in time."""

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from hookd.edge.egress.drips import DRIP_BYTES, DRIPS_MAX, LOOK_SECONDS, TICKS, Drips
from hookd.edge.egress.network_streams import TcpStream

HEAD = b"HTTP/1.1 200 OK\r\nx-drip: %b\r\ncontent-length: 0\r\n\r\n" % (b"y" * 960)
EVERY_SECONDS = 0.01


@asynccontextmanager
async def drips() -> AsyncIterator[Drips]:
    async with trio.open_nursery() as nursery:
        yield Drips(nursery)
        nursery.cancel_scope.cancel()


class Pair:
    """Our stream, what it reads, and its peer."""

    def __init__(self, drips: Drips) -> None:
        ours, self.peer = socket.socketpair()
        ours.setblocking(False)
        self.stream = TcpStream(ours, drips)
        self.reads: list[bytes] = []
        self.read_at = 0.0

    async def read_to_end(self) -> None:
        """Until the end of a head."""
        while not b"".join(self.reads[-4:]).endswith(b"\r\n\r\n"):
            self.reads.append(await self.stream.receive_some())
            self.read_at = trio.current_time()

    async def drip(self, head: bytes = HEAD) -> None:
        for number in range(len(head)):
            self.peer.send(head[number : number + 1])
            await trio.sleep(EVERY_SECONDS)

    def close(self) -> None:
        self.stream.close()
        self.peer.close()


class FullestTurn(trio.abc.Instrument):
    """How many steps of tasks the turn with the most of them had."""

    def __init__(self) -> None:
        self.steps = self._of_turn = 0

    def after_io_wait(self, timeout: float) -> None:
        self._of_turn = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._of_turn += 1
        self.steps = max(self.steps, self._of_turn)


async def test_head_that_drips_is_read_in_a_few_looks(autojump_clock: trio.testing.MockClock) -> None:
    """Before: 1,000 reads."""
    async with drips() as looked_at, trio.open_nursery() as nursery:
        pair = Pair(looked_at)
        nursery.start_soon(pair.read_to_end)
        await pair.drip()
        said_at = trio.current_time() - EVERY_SECONDS
        await trio.sleep(LOOK_SECONDS)
        assert b"".join(pair.reads) == HEAD
        assert pair.read_at - said_at <= LOOK_SECONDS
        # One alone has its look in each tick.
        assert len(pair.reads) <= DRIPS_MAX + 1 + len(HEAD) * EVERY_SECONDS / LOOK_SECONDS * TICKS
        pair.close()


async def test_many_that_drip_in_step_share_no_turn(autojump_clock: trio.testing.MockClock) -> None:
    """Before: each byte of all of them was one turn with as many steps as there are."""
    count = 160
    async with drips() as looked_at:
        pairs = [Pair(looked_at) for _ in range(count)]
        async with trio.open_nursery() as readers:
            for pair in pairs:
                readers.start_soon(pair.read_to_end)
            for byte in HEAD[:DRIPS_MAX]:
                _say_to_all(pairs, bytes([byte]))
                await trio.testing.wait_all_tasks_blocked()
            turns = FullestTurn()
            trio.lowlevel.add_instrument(turns)
            looks = 4
            for _ in range(round(looks * LOOK_SECONDS / EVERY_SECONDS)):
                _say_to_all(pairs, b"y")
                await trio.sleep(EVERY_SECONDS)
            trio.lowlevel.remove_instrument(turns)
            readers.cancel_scope.cancel()
        assert turns.steps <= math.ceil(count / TICKS) + 3  # besides: who looks, who drips
        reads = sum(len(pair.reads) - DRIPS_MAX for pair in pairs)
        assert count * (looks - 1) <= reads <= count * (looks + 1)
        for pair in pairs:
            pair.close()


def _say_to_all(pairs: list[Pair], data: bytes) -> None:
    for pair in pairs:
        pair.peer.send(data)


async def test_usual_answers_are_read_as_they_come(autojump_clock: trio.testing.MockClock) -> None:
    """Any number of them on one connection, and long ones in any number of pieces: nothing waits for a look."""
    began_at = trio.current_time()
    async with drips() as looked_at:
        pair = Pair(looked_at)
        for _ in range(3 * DRIPS_MAX):
            await pair.stream.send_all(b"POST")
            pair.peer.send(b"HTTP/1.1 200 OK\r\n")
            pair.peer.send(await pair.stream.receive_some())
        for _ in range(3 * DRIPS_MAX):
            pair.peer.send(b"x" * DRIP_BYTES)
            await pair.stream.receive_some()
        assert trio.current_time() == began_at
        pair.close()


async def _dripping(pair: Pair) -> None:
    """From here on it waits for looks."""
    for _ in range(DRIPS_MAX):
        pair.peer.send(b"y")
        await pair.stream.receive_some()


async def test_end_of_one_that_dripped_is_seen_by_the_next_look(autojump_clock: trio.testing.MockClock) -> None:
    async with drips() as looked_at:
        pair = Pair(looked_at)
        await _dripping(pair)
        pair.peer.close()
        with trio.fail_after(LOOK_SECONDS):
            assert await pair.stream.receive_some() == b""
        pair.close()


async def test_closed_while_it_waits_for_a_look_is_told_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """As by `close` of any stream. A cancel leaves nothing behind: the next read waits anew."""
    async with drips() as looked_at:
        pair = Pair(looked_at)
        await _dripping(pair)
        with trio.move_on_after(LOOK_SECONDS / 3) as scope:
            await pair.stream.receive_some()
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_expect_closed, pair)
            await trio.testing.wait_all_tasks_blocked()
            began_at = trio.current_time()
            pair.stream.close()
        assert trio.current_time() == began_at
        pair.close()


async def _expect_closed(pair: Pair) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await pair.stream.receive_some()
