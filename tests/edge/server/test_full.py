"""As many connections as there may be: who makes room, who is refused, and that a probe is always answered."""

import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from hookd.edge.server.api_server import spare_connections
from hookd.edge.server.room import HEAD_PATIENCE_SECONDS
from hookd.edge.server.strangers import Strangers, network_of

from tests.edge.server.harness import (
    GET_GRANTED_AND_HELD,
    GET_HELD,
    GET_LIVEZ,
    GET_OK,
    GET_OK_AND_CLOSE,
    Harness,
    in_memory,
    read_all,
    read_response,
    serving,
)
from tests.turns import turns_of_another

SYSTEM_MAX = int(Path("/proc/sys/net/core/somaxconn").read_text())
ESTABLISHED = b"\x01"  # the first byte of TCP_INFO
SPARE = spare_connections(3)


class Peers:
    """Connections in memory, in virtual time."""

    def __init__(self, nursery: trio.Nursery, connections_max: int) -> None:
        self._nursery = nursery
        self.harness: Harness = in_memory(connections_max=connections_max)
        trio.lowlevel.add_instrument(self.harness.server._terms.gates.turns)  # as `serve` does

    async def connect(self, sent: bytes = b"") -> Any:
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.harness.server.handle, ours)
        await trio.testing.wait_all_tasks_blocked()
        if sent:
            with suppress(trio.BrokenResourceError):  # refused before it has sent anything
                await theirs.send_all(sent)
            await trio.testing.wait_all_tasks_blocked()
        return theirs

    async def kept(self) -> Any:
        """One that had its answer and is open."""
        peer = await self.connect(GET_OK)
        await read_response(peer)
        await trio.testing.wait_all_tasks_blocked()
        return peer

    async def answer_of(self, sent: bytes) -> bytes:
        peer = await self.connect(sent)
        with trio.fail_after(5):
            data: bytes = await peer.receive_some(1000)
        await peer.aclose()
        await trio.testing.wait_all_tasks_blocked()
        return data

    @property
    def open(self) -> int:
        found = self.harness.server.statistics()
        return found.connections_open + found.connections_spare


async def is_closed(peer: Any) -> bool:
    with trio.move_on_after(0.1):
        return not await peer.receive_some(1)
    return False


async def test_oldest_idle_connection_makes_room(autojump_clock, nursery) -> None:
    """Before: 503 for as long as the others were kept, the probes included."""
    peers = Peers(nursery, 3)
    kept = [await peers.kept() for _ in range(3)]
    await trio.sleep(1)  # virtual
    await kept[0].send_all(GET_OK)  # so that the second is the one that was idle the longest
    await read_response(kept[0])
    for _ in range(2):
        await trio.sleep(1)  # virtual
        assert (await peers.answer_of(GET_OK)).startswith(b"HTTP/1.1 200")
    assert [await is_closed(peer) for peer in kept] == [False, True, False]
    assert peers.open == 2
    statistics = peers.harness.server.statistics()
    assert (statistics.connections_refused, statistics.connections_displaced) == (0, 1)
    assert [event for event, _ in peers.harness.logged] == ["connection.displaced"]


async def test_connections_in_use_make_no_room_and_probes_are_answered(autojump_clock, nursery) -> None:
    """What is asked beside them gets 503 and Retry-After, and is counted."""
    peers = Peers(nursery, 3)
    held = [await peers.connect(GET_HELD) for _ in range(3)]
    for _ in range(3):
        assert b"alive" in await peers.answer_of(GET_LIVEZ)
        refused = await peers.answer_of(GET_OK)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1\r\n" in refused
        assert b"connection: close\r\n" in refused
    assert [event for event, _ in peers.harness.logged] == ["connection.refused"]
    assert peers.harness.server.statistics().connections_refused == 3
    peers.harness.release.set()
    for peer in held:
        await read_response(peer, b"held")
        await peer.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert (await peers.answer_of(GET_OK)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("sent", [b"", b"GET /li"])
async def test_probe_passes_those_that_bring_no_head(autojump_clock, nursery, sent: bytes) -> None:
    """They hold every place, the spare ones too. For a moment their heads may be under way; then the oldest goes."""
    peers = Peers(nursery, 3)
    slow = [await peers.connect(sent) for _ in range(3 + SPARE)]
    assert peers.open == 3 + SPARE
    assert (await peers.answer_of(GET_OK)).startswith(b"HTTP/1.1 503")
    await trio.sleep(HEAD_PATIENCE_SECONDS)  # virtual
    for _ in range(3):
        assert b"alive" in await peers.answer_of(GET_LIVEZ)
    assert await is_closed(slow[0])
    assert not await is_closed(slow[3])


async def test_probe_passes_those_that_do_not_read_and_those_that_hang(autojump_clock, nursery) -> None:
    """Places in use and spare places with slow heads, both full."""
    peers = Peers(nursery, 2)
    for _ in range(2):
        await peers.connect(GET_HELD)
    for _ in range(SPARE):
        await peers.connect(b"GET")
    await trio.sleep(HEAD_PATIENCE_SECONDS)  # virtual
    assert b"alive" in await peers.answer_of(GET_LIVEZ)


async def test_flood_of_connections_leaves_no_more_than_there_may_be(nursery) -> None:
    """Over real sockets, all at once: those that make room are gone, and nothing is left over."""
    async with serving(connections_max=5) as harness:
        streams: list[trio.SocketStream] = []

        async def use() -> None:
            stream = await harness.connect()
            streams.append(stream)
            try:
                await stream.send_all(GET_OK)
                await stream.receive_some(1000)
            except trio.BrokenResourceError:
                pass

        with trio.fail_after(20):
            async with trio.open_nursery() as flood:
                for _ in range(200):
                    flood.start_soon(use)
            async with await harness.connect() as stream:
                await stream.send_all(GET_LIVEZ)
                assert b"alive" in await stream.receive_some(1000)
            for stream in streams:
                await trio.aclose_forcefully(stream)
            while harness.server.statistics().connections_open:
                await trio.lowlevel.checkpoint()
        assert harness.server.statistics().connections_max == 5


async def test_stop_ends_the_spare_connections_too() -> None:
    async with serving(connections_max=1) as harness:
        with trio.fail_after(5):
            held, spare = await harness.connect(), await harness.connect()
            await held.send_all(GET_HELD)
            await harness.entered.wait()
            async with await harness.connect() as probe:
                await probe.send_all(GET_LIVEZ)
                assert b"alive" in await read_all(probe)
            harness.server.stop(grace_seconds=0)
            assert await read_all(spare) == b""
            await harness.ended.wait()
            for stream in (held, spare):
                await trio.aclose_forcefully(stream)


async def test_answered_connection_that_lingers_makes_room(autojump_clock, nursery) -> None:
    """Its peer has the answer and does not go. Before: 503 for the others, for up to 2 s each time."""
    peers = Peers(nursery, 1)
    for _ in range(3):
        peer = await peers.connect(GET_OK_AND_CLOSE)
        await read_response(peer)
    assert peers.harness.server.statistics().connections_displaced == 2
    assert peers.harness.server.statistics().connections_refused == 0


async def open_from(harness: Harness, address: str, sent: bytes) -> trio.SocketStream:
    stream = await trio.open_tcp_stream("127.0.0.1", harness.port, local_address=address)
    await stream.send_all(sent)
    return stream


async def asked_from(harness: Harness, address: str, sent: bytes = GET_OK_AND_CLOSE) -> bytes:
    async with await open_from(harness, address, sent) as stream:
        return await read_all(stream)


async def wait_open(harness: Harness, count: int) -> None:
    while harness.server.statistics().connections_open != count:
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("sent", [b"GET /o", GET_HELD], ids=["no head", "not granted"])
async def test_strangers_of_one_network_make_room_for_anothers_at_once(sent: bytes) -> None:
    """They hold every connection. Before: those in use kept the other out until they ended, those without a head for
    a second, and for as long as new ones came quickly enough."""
    async with serving(connections_max=6) as harness:
        with trio.fail_after(20):
            held = [await open_from(harness, "127.0.0.2", sent) for _ in range(6)]
            await wait_open(harness, 6)
            for displaced in range(1, 4):
                assert (await asked_from(harness, "127.0.0.1")).startswith(b"HTTP/1.1 200")
                await wait_open(harness, 5)
                held.append(await open_from(harness, f"127.0.0.{2 + displaced}", GET_HELD))
                await wait_open(harness, 6)
            for stream in held:
                await stream.aclose()


async def test_granted_connections_of_a_network_do_not_make_room_like_strangers() -> None:
    """A proxy's are all of one network. Once a request of each was granted, one in use stays."""
    async with serving(connections_max=4) as harness:
        with trio.fail_after(20):
            held = [await open_from(harness, "127.0.0.2", GET_GRANTED_AND_HELD) for _ in range(4)]
            while harness.granted < 4:
                await trio.lowlevel.checkpoint()
            assert (await asked_from(harness, "127.0.0.1")).startswith(b"HTTP/1.1 503")
            harness.release.set()
            for stream in held:
                await read_response(stream, b"held")
                await stream.aclose()


async def test_network_over_its_share_makes_no_room_for_itself_but_of_the_idle() -> None:
    async with serving(connections_max=4) as harness:
        with trio.fail_after(20):
            held = [await open_from(harness, "127.0.0.2", GET_HELD) for _ in range(4)]
            await wait_open(harness, 4)
            assert (await asked_from(harness, "127.0.0.2")).startswith(b"HTTP/1.1 503")
            assert (await asked_from(harness, "127.0.0.1")).startswith(b"HTTP/1.1 200")
            for stream in held:
                await stream.aclose()


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_network_is_what_one_peer_has(host: str, network: str) -> None:
    assert network_of((host, 1)) == network


def test_strangers_are_forgotten_once_granted_or_closed() -> None:
    strangers: Strangers[str] = Strangers()
    for name in ("a", "b", "c"):
        strangers.add(name, "net")
    strangers.add("d", "other")
    assert strangers.over(3) is None
    over = strangers.over(2)
    assert over is not None
    assert (over[0], list(over[1])) == ("net", ["a", "b", "c"])
    for name in ("a", "a", "b", "c"):
        strangers.discard(name, "net")
    strangers.discard("d", "other")
    assert strangers._by_network == {}


async def test_connections_that_wait_are_taken_several_a_turn() -> None:
    """A probe is behind all that connected before it. Before: one a turn, each as long as what the others do in it."""
    async with serving() as harness:
        waiting = [socket.create_connection(("127.0.0.1", harness.port)) for _ in range(80)]
        async with turns_of_another() as turns:
            await wait_open(harness, 80)
            assert turns.count < 40
        for one in waiting:
            one.close()


async def test_six_hundred_may_connect_before_the_server_has_a_turn() -> None:
    """Before, 512: the system dropped what the others sent, and each tried again a second later, probes as well."""
    count = min(600, SYSTEM_MAX)
    async with serving() as harness:
        peers = [socket.socket() for _ in range(count)]
        for peer in peers:
            peer.setblocking(False)
            peer.connect_ex(("127.0.0.1", harness.port))
        connected = [peer for peer in peers if peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == ESTABLISHED]
        assert len(connected) == count
        for peer in peers:
            peer.close()
