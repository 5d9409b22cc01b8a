"""What a receiver writes behind an answer is never another event's; when a kept connection is used once more or not."""

from typing import Any

import pytest
import trio
import trio.testing
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.outcome import Blocked, Exchange, Invalid, Responded, TimedOut, Unreachable
from hookd.core.settings import DeliverySettings, Settings
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.resolver import Resolver
from hookd.edge.egress.sender import HttpSender
from hookd.edge.egress.transport import AddressDenied, open_transport

from tests.edge.egress import peers
from tests.edge.egress.peers import (
    OK,
    FakeDial,
    FakeNetworkStream,
    Progress,
    answering,
    faked,
    local_transport,
    post,
    read_request,
    serving,
)
from tests.edge.egress.test_tls import TRUSTING, server_context
from tests.edge.egress.test_verdict import request_to, send, sender_over

STRAY = {
    "204 with an end of chunks": (b"HTTP/1.1 204 X\r\ntransfer-encoding: chunked\r\n\r\n", b"0\r\n\r\n", 204),
    "204 with a body": (b"HTTP/1.1 204 X\r\ncontent-length: 2\r\n\r\n", b"ok", 204),
    "205 with a body": (b"HTTP/1.1 205 X\r\ncontent-length: 0\r\n\r\n", b"ok", 205),
    "304 with a body": (b"HTTP/1.1 304 X\r\ncontent-length: 2\r\n\r\n", b"ok", 304),
    "CRLF after a length": (OK, b"\r\n", 200),
    "LF after a length": (OK, b"\n", 200),
    "CRLF after chunks": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"\r\n", 200),
    "more than the length": (OK, b"k\n", 200),
    "another answer": (OK, b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", 200),
}


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("kind", STRAY)
async def test_stray_bytes_behind_an_answer_are_never_the_next_ones(kind: str, is_tls: bool) -> None:
    """A millisecond later, with the next event sent at once: every event is sent once, and gets its own answer."""
    answer, stray, status = STRAY[kind]
    received = 0

    async def handle(stream: trio.abc.Stream) -> None:
        nonlocal received
        while await read_request(stream) is not None:
            received += 1
            if kind == "another answer":  # one that comes later than the next request cannot be told from its own
                await stream.send_all(answer + stray)
                continue
            await stream.send_all(answer)
            await trio.sleep(0.001)
            await stream.send_all(stray)

    context = server_context("127.0.0.1") if is_tls else None
    async with serving(handle, context=context) as server, local_transport(ssl_context=TRUSTING) as transport:
        url = f"http{'s' * is_tls}://127.0.0.1:{server.port}/hook"
        for _ in range(30):
            outcome, exchange = await send(transport, url)
            assert outcome == Responded(status)
            if exchange.reconnected:
                received -= 1
        # What came while the next request was out may have cost that one a second sending, never an answer.
        assert received == 30
        if kind.startswith(("204", "304")):
            assert (server.connections, transport.statistics().reconnects) == (30, 0)


async def test_line_ends_before_an_answer_are_skipped_and_its_connection_is_not_kept() -> None:
    async with serving(answering(b"\r\n\r\n" + OK)) as server, local_transport() as transport:
        for _ in range(2):
            assert await post(transport, server.url) == (200, b"ok")
        assert server.connections == 2


@pytest.mark.parametrize("stray", [b"0\r\n\r\n", b"ok", b"\r\n0\r\n\r\n", b"\x00", b"\x15\x03\x03"])
async def test_what_is_no_answer_on_a_kept_connection_has_the_request_sent_on_a_fresh_one(
    stray: bytes, nursery: trio.Nursery
) -> None:
    """It came behind the answer before, while this request went out. On a fresh connection it is the answer itself."""
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK), FakeNetworkStream(stray)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport, endpoint=1)

        async def say() -> None:
            await trio.testing.wait_all_tasks_blocked()
            network_streams[0].say(stray)

        nursery.start_soon(say)
        progress = Progress()
        assert await post(transport, endpoint=1, exchange=progress) == (200, b"ok")
        assert progress.reconnected
        assert network_streams[0].is_closed
        outcome, exchange = await send(transport, "http://other.example/")
        assert isinstance(outcome, Invalid)
        assert not exchange.reconnected


async def test_line_ends_and_then_an_end_on_a_kept_connection_are_a_stale_one(nursery: trio.Nursery) -> None:
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport)

        async def say_and_end() -> None:
            await trio.testing.wait_all_tasks_blocked()
            network_streams[0].say(b"\r\n")
            network_streams[0].end()

        nursery.start_soon(say_and_end)
        assert await post(transport) == (200, b"ok")
        assert transport.statistics().reconnects == 1


# --- Another policy


@pytest.mark.parametrize("changes_at", ["look-up", "dial"])
async def test_connection_that_was_being_made_when_the_policy_changed_is_not_kept(
    changes_at: str, nursery: trio.Nursery
) -> None:
    """What is looked up later is judged by the new one; what was judged already serves its request, and no other."""
    at, goes_on = trio.Event(), trio.Event()

    async def pause(here: str) -> None:
        if here == changes_at and not at.is_set():
            at.set()
            await goes_on.wait()

    async def resolve(host: str, port: int) -> list[str]:
        await pause("look-up")
        return ["10.0.0.1"]

    async def dial(address: str, port: int) -> FakeNetworkStream:
        await pause("dial")
        return FakeNetworkStream(answer=OK)

    allowing = AddressPolicy(allow_networks=["10.0.0.0/8"])
    async with open_transport(policy=allowing, resolve=resolve, dial=dial) as transport:
        outcomes: list[Any] = []

        async def ask() -> None:
            outcomes.append((await send(transport, "http://hook.example/"))[0])

        nursery.start_soon(ask)
        await at.wait()
        transport.policy = AddressPolicy()
        transport.close_idle()
        goes_on.set()
        await trio.testing.wait_all_tasks_blocked()
        await ask()
        denied = Blocked("10.0.0.1")
        assert outcomes == [Responded(200) if changes_at == "dial" else denied, denied]


# --- 408

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
GIVEN_UP = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("size", [2, 300_000], ids=["short", "long"])
async def test_408_on_a_kept_connection_is_repeated_once_on_a_fresh_one(size: int, is_tls: bool) -> None:
    """As HAProxy says it when its idle time ends just then."""

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(OK)
        await stream.receive_some(1)
        await stream.send_all(GIVEN_UP)

    context = server_context("127.0.0.1") if is_tls else None
    async with serving(handle, context=context) as server, local_transport(ssl_context=TRUSTING) as transport:
        url = f"http{'s' * is_tls}://127.0.0.1:{server.port}/hook"
        outcome, exchange = await send(transport, url)
        assert (outcome, exchange.reconnected) == (Responded(200), False)
        outcome, exchange = await send(transport, url, body=b"x" * size)
        assert (outcome, exchange.reconnected) == (Responded(200), True)
        assert (server.connections, transport.statistics().reconnects) == (2, 1)


async def test_408_on_a_fresh_connection_is_the_answer() -> None:
    """And where the fresh one says it too, that is the end of it."""
    kept = FakeNetworkStream(OK)
    streams = kept, FakeNetworkStream(GIVEN_UP), FakeNetworkStream(GIVEN_UP)
    async with faked(FakeDial(*streams)) as transport, trio.open_nursery() as nursery:
        await post(transport, endpoint=1)

        async def say() -> None:
            await trio.testing.wait_all_tasks_blocked()
            kept.say(GIVEN_UP)

        nursery.start_soon(say)
        assert await post(transport, endpoint=1) == (408, b"")
        assert await post(transport, endpoint=2) == (408, b"")
        assert transport.statistics().reconnects == 1
        assert transport.statistics().connections_open == 0


async def test_attempt_that_fails_on_the_fresh_connection_says_that_it_reconnected(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also where it gets no answer at all: the request may have been read twice."""
    for second in (ConnectionRefusedError(), FakeNetworkStream(ends=True), FakeNetworkStream()):
        kept = FakeNetworkStream(OK)
        async with faked(FakeDial(kept, second)) as transport, trio.open_nursery() as nursery:
            await send(transport, "http://hook.example/")
            nursery.start_soon(end_when_asked, kept)
            exchange = Exchange()
            outcome: Any = TimedOut(15)
            with trio.move_on_after(15):
                outcome = await sender_over(transport).send(request_to("http://hook.example/"), exchange)
            assert isinstance(outcome, Unreachable | TimedOut)
            assert (exchange.reconnected, exchange.sending_started, exchange.request_sent) == (True, True, True)


@pytest.mark.parametrize("is_answered", [False, True])
async def test_request_that_a_kept_connection_took_without_an_answer_is_doubted(is_answered: bool) -> None:
    """Whatever the fresh one answers: who was behind it may have broken after the work. A 408 says that it had not."""
    kept = FakeNetworkStream(OK)
    async with faked(FakeDial(kept, FakeNetworkStream(UNAVAILABLE))) as transport, trio.open_nursery() as nursery:
        _, first = await send(transport, "http://hook.example/")
        assert not first.unanswered_before

        async def say() -> None:
            await trio.testing.wait_all_tasks_blocked()
            kept.say(GIVEN_UP)

        nursery.start_soon(*((say,) if is_answered else (end_when_asked, kept)))
        outcome, exchange = await send(transport, "http://hook.example/")
        assert (outcome, exchange.reconnected) == (Responded(503), True)
        assert exchange.unanswered_before is not is_answered


async def end_when_asked(network_stream: FakeNetworkStream) -> None:
    await trio.testing.wait_all_tasks_blocked()
    network_stream.end()


# --- the age of connections


class MovingName:
    """getaddrinfo and dial of a name that moves."""

    def __init__(self, address: str = "1.1.1.1") -> None:
        self.address = address
        self.dialled: list[str] = []
        self.streams: list[tuple[str, FakeNetworkStream]] = []
        self.asked = 0

    def getaddrinfo(self, host: bytes, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        return [(2, 1, 6, "", (self.address, port))]

    async def dial(self, address: str, port: int) -> FakeNetworkStream:
        await trio.lowlevel.checkpoint()
        self.dialled.append(address)
        self.streams.append((address, FakeNetworkStream(answer=OK)))
        return self.streams[-1][1]

    def count_sent(self, to: str) -> int:
        """Of requests to the address, since it was asked last."""
        sent = 0
        for address, stream in self.streams:
            if address == to:
                sent += stream.sent.count(b"POST")
                stream.sent.clear()
        return sent


@pytest.mark.parametrize("age_seconds_max", [60.0, 5.0])
async def test_endpoint_that_moved_is_followed_within_the_age_of_a_connection(
    age_seconds_max: float, nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """While events keep coming, an event a second, and with the resolver's cache on top. The clock jumps by hand:
    a look-up has a thread."""
    name = MovingName()
    resolver = Resolver(nursery, getaddrinfo=name.getaddrinfo)
    async with open_transport(
        policy=AddressPolicy(),
        resolve=resolver,
        dial=name.dial,
        ssl_context=peers.TLS,
        connection_age_seconds_max=age_seconds_max,
    ) as transport:
        old_last_used = 0.0
        for second in range(200):
            name.address = "1.1.1.1" if second < 100 else "1.1.1.2"
            for endpoint in (1, second):  # others look the name up too, at other times
                assert await post(transport, endpoint=endpoint) == (200, b"ok")
            if name.count_sent("1.1.1.1"):
                old_last_used = second
            mock_clock.jump(1)
        assert 90 <= old_last_used < 100 + age_seconds_max
    nursery.cancel_scope.cancel()


async def test_no_connection_is_used_later_than_its_age_after_its_look_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    name = MovingName()
    async with faked(name.dial, connection_age_seconds_max=60.0) as transport:
        started_at = trio.current_time()
        for second, connects in ((0, 1), (19, 1), (38, 1), (57, 1), (60, 2), (79, 2)):
            await trio.sleep_until(started_at + second)
            await post(transport)
            assert len(name.dialled) == connects


async def test_connection_that_grew_old_in_use_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    network_stream = FakeNetworkStream()
    async with faked(FakeDial(network_stream), connection_age_seconds_max=2.0) as transport:
        async with trio.open_nursery() as nursery:

            async def say_late() -> None:
                await trio.sleep(3)
                network_stream.say(OK)

            nursery.start_soon(say_late)
            assert await post(transport) == (200, b"ok")
        assert network_stream.is_closed


async def test_name_that_moved_to_a_denied_address_is_judged_again(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    name = MovingName()
    resolver = Resolver(nursery, getaddrinfo=name.getaddrinfo)
    async with open_transport(
        policy=AddressPolicy(), resolve=resolver, dial=name.dial, ssl_context=peers.TLS
    ) as transport:
        await post(transport)
        name.address = "169.254.169.254"
        for _ in range(4):
            mock_clock.jump(14.9)
            await post(transport)
        mock_clock.jump(1)
        with pytest.raises(AddressDenied):
            await post(transport)
    nursery.cancel_scope.cancel()


async def test_age_follows_a_reload(autojump_clock: trio.testing.MockClock) -> None:
    name = MovingName()
    effective = EffectiveSettings(Settings(dev=True))
    async with faked(name.dial) as transport:
        sender = HttpSender(effective, transport)
        for age_seconds, connects in ((60.0, 1), (5.0, 2), (60.0, 2)):
            effective.settings = Settings(dev=True, delivery=DeliverySettings(connection_age_seconds_max=age_seconds))
            assert await sender.send(request_to("http://hook.example/"), Exchange()) == Responded(200)
            assert len(name.dialled) == connects
            await trio.sleep(6)


async def test_cached_answer_is_not_given_beyond_its_age(
    nursery: trio.Nursery, mock_clock: trio.testing.MockClock
) -> None:
    """Shorter than what answers and failures are kept for otherwise."""
    name = MovingName()
    resolve = Resolver(nursery, getaddrinfo=name.getaddrinfo, ttl_seconds=30)
    resolve.age_seconds_max = 10
    for jump_seconds, asked in ((0, 1), (9, 1), (2, 2)):
        mock_clock.jump(jump_seconds)
        await resolve("hook.example", 443)
        assert name.asked == asked
    nursery.cancel_scope.cancel()
