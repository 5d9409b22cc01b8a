"""What decides an attempt, and when: over real sockets, with and without TLS."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.outcome import Exchange, Outcome, Responded
from hookd.core.settings import DEFAULTS, Settings
from hookd.edge.egress.finishing import BODY_SECONDS_MAX, FINISHING_MAX, FINISHING_PER_KEY_MAX
from hookd.edge.egress.sender import HttpSender
from hookd.edge.egress.transport import Transport
from hookd.flow.ports import DeliveryRequest

from tests.edge.egress.peers import (
    OK,
    FakeDial,
    FakeNetworkStream,
    Server,
    faked,
    local_transport,
    read_request,
    reset,
    serving,
    wait_end,
)
from tests.edge.egress.test_tls import TRUSTING, server_context

AT_ONCE_SECONDS = 0.5  # for what takes milliseconds, on a machine that others share


def request_to(url: str, endpoint_id: str = "default", body: bytes = b"{}") -> DeliveryRequest:
    return DeliveryRequest("acme", endpoint_id, url, [("webhook-id", "evt_1")], body)


def sender_over(transport: Transport) -> HttpSender:
    return HttpSender(EffectiveSettings(Settings(dev=True)), transport)


async def send(transport: Transport, url: str, **options: Any) -> tuple[Outcome, Exchange]:
    exchange = Exchange()
    return await sender_over(transport).send(request_to(url, **options), exchange), exchange


Handler = Callable[[trio.abc.Stream], Any]


@asynccontextmanager
async def receiver(handler: Handler, *, is_tls: bool) -> AsyncIterator[tuple[Server, Transport]]:
    context: ssl.SSLContext | None = server_context("127.0.0.1") if is_tls else None
    async with serving(handler, context=context) as server, local_transport(ssl_context=TRUSTING) as transport:
        server.url = f"http{'s' * is_tls}://127.0.0.1:{server.port}/hook"
        yield server, transport


def saying_and_staying(*pieces: bytes) -> Handler:
    """Answers every request, and keeps the connection open."""

    async def handle(stream: trio.abc.Stream) -> None:
        while await read_request(stream) is not None:
            for piece in pieces:
                await stream.send_all(piece)

    return handle


async def endless(stream: trio.abc.Stream) -> None:
    await read_request(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await stream.send_all(b"x" * 1000)
        await trio.lowlevel.checkpoint()


async def cut(stream: trio.abc.Stream) -> None:
    await read_request(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab")
    reset(stream)


UNENDED: dict[str, Handler] = {
    "no length and kept open": saying_and_staying(b"HTTP/1.1 200 OK\r\n\r\nok"),
    "length too large": saying_and_staying(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nok"),
    "event stream": saying_and_staying(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", b"data: 1\n\n"),
    "chunked without its end": saying_and_staying(b"HTTP/1.1 202 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n"),
    "head without body": saying_and_staying(b"HTTP/1.1 201 X\r\ncontent-length: 2\r\n\r\n"),
    "blemished and kept open": saying_and_staying(b"HTTP/1.1 200 OK\ntransfer-encoding: identity\n\nok"),
    "bad chunk": saying_and_staying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n"),
    "endless": endless,
    "cut": cut,
}


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("kind", UNENDED)
async def test_success_is_told_at_its_head_whatever_its_body_does(kind: str, is_tls: bool) -> None:
    """At once, and again and again; what is left of it is gone a second later."""
    async with receiver(UNENDED[kind], is_tls=is_tls) as (server, transport):
        started_at = trio.current_time()
        for _ in range(3):
            outcome, exchange = await send(transport, server.url)
            assert isinstance(outcome, Responded)
            assert 200 <= outcome.status_code <= 202
            assert exchange.answer == outcome
        assert trio.current_time() - started_at < AT_ONCE_SECONDS
        await server.wait_open_connections(0)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert transport.statistics().connections_open == 0
        assert trio.current_time() - started_at < BODY_SECONDS_MAX + AT_ONCE_SECONDS


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
async def test_connection_is_kept_when_the_body_comes_after_its_head(is_tls: bool) -> None:
    """Head and body in two writes, as many servers have it."""
    finished = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        while await read_request(stream) is not None:
            await stream.send_all(OK[:-2])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await stream.send_all(OK[-2:])
            finished.set()

    async with receiver(handle, is_tls=is_tls) as (server, transport):
        for _ in range(3):
            finished = trio.Event()
            assert (await send(transport, server.url))[0] == Responded(200)
            await finished.wait()
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert transport.statistics().connections_idle == 1
        assert server.connections == 1


async def test_failure_gets_a_second_for_its_excerpt(autojump_clock: trio.testing.MockClock) -> None:
    """No more, and no less: what has come by then is the excerpt."""
    network_stream = FakeNetworkStream(b"HTTP/1.1 500 X\r\n\r\nwhy")
    async with faked(FakeDial(network_stream)) as transport, trio.open_nursery() as nursery:

        async def say_more() -> None:
            await trio.sleep(BODY_SECONDS_MAX / 2)
            network_stream.say(b" not")
            await trio.sleep(BODY_SECONDS_MAX)
            network_stream.say(b" too late")

        nursery.start_soon(say_more)
        started_at = trio.current_time()
        outcome, exchange = await send(transport, "http://hook.example/")
        assert (outcome, exchange.excerpt) == (Responded(500), b"why not")
        assert trio.current_time() - started_at == BODY_SECONDS_MAX
        assert network_stream.is_closed
        assert transport.statistics().connections_open == 0


async def test_success_with_an_endless_body_holds_its_connection_for_a_second(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network_stream = FakeNetworkStream(b"HTTP/1.1 200 OK\r\n\r\n")
    async with faked(FakeDial(network_stream)) as transport:
        started_at = trio.current_time()
        assert (await send(transport, "http://hook.example/"))[0] == Responded(200)
        assert trio.current_time() == started_at
        assert transport.statistics().connections_finishing == 1
        await trio.sleep(BODY_SECONDS_MAX - 0.01)
        assert not network_stream.is_closed
        await trio.sleep(0.02)
        assert network_stream.is_closed
        assert (transport.statistics().connections_open, transport.statistics().connections_finishing) == (0, 0)


async def test_body_of_a_success_is_read_up_to_its_limit_only(autojump_clock: trio.testing.MockClock) -> None:
    network_stream = FakeNetworkStream(b"HTTP/1.1 200 OK\r\n\r\n")
    async with faked(FakeDial(network_stream)) as transport:
        await send(transport, "http://hook.example/")
        for _ in range(4):
            network_stream.say(b"x" * (DEFAULTS.delivery.response_bytes_max // 2))
        await trio.testing.wait_all_tasks_blocked()
        assert network_stream.is_closed
        assert network_stream.has_input()


class Unended:
    """A dial whose connections answer 200 and never end their bodies."""

    def __init__(self) -> None:
        self.streams: list[FakeNetworkStream] = []

    async def __call__(self, address: str, port: int) -> FakeNetworkStream:
        await trio.lowlevel.checkpoint()
        self.streams.append(FakeNetworkStream(b"HTTP/1.1 200 OK\r\n\r\n"))
        return self.streams[-1]

    @property
    def open(self) -> int:
        return len([stream for stream in self.streams if not stream.is_closed])


async def test_answers_that_are_being_finished_are_bounded_for_an_endpoint_and_in_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Over that they are closed at once, and the delivery counts all the same."""
    async with faked(dial := Unended()) as transport:
        for _ in range(FINISHING_PER_KEY_MAX + 5):
            assert (await send(transport, "http://hook.example/"))[0] == Responded(200)
        assert dial.open == transport.statistics().connections_finishing == FINISHING_PER_KEY_MAX
        for number in range(FINISHING_MAX):
            assert (await send(transport, "http://hook.example/", endpoint_id=f"e{number}"))[0] == Responded(200)
        assert dial.open == transport.statistics().connections_finishing == FINISHING_MAX
        await trio.sleep(BODY_SECONDS_MAX + 0.1)
        assert dial.open == transport.statistics().connections_finishing == 0


async def test_answers_that_are_being_finished_make_room_for_connections(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with faked(dial := Unended(), connections_max=3) as transport:
        for number in range(9):
            await send(transport, "http://hook.example/", endpoint_id=f"e{number}")
            assert transport.statistics().connections_open <= 3
        assert [stream.is_closed for stream in dial.streams] == [True] * 6 + [False] * 3


async def test_end_of_the_transport_closes_what_is_being_finished() -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with faked(dial := Unended()) as transport:
        await send(transport, "http://hook.example/")
        assert dial.open == 1
    assert dial.open == 0
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_cancel_of_an_attempt_that_is_told_leaves_its_body_to_be_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The reading is no part of the attempt any more."""
    network_stream = FakeNetworkStream(OK[:-2])
    async with faked(FakeDial(network_stream)) as transport:
        with trio.CancelScope() as scope:
            await send(transport, "http://hook.example/")
            scope.cancel()
        network_stream.say(b"ok")
        await trio.testing.wait_all_tasks_blocked()
        assert transport.statistics().connections_idle == 1


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
async def test_early_success_is_told_at_once_and_the_rest_is_written_aside(is_tls: bool) -> None:
    """A receiver may answer first and read after: it gets the whole request."""
    body = b"x" * 5_000_000
    received = 0
    told, has_all = trio.Event(), trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        nonlocal received
        await stream.receive_some(17)
        await stream.send_all(OK)
        await told.wait()
        while received < len(body):
            received += len(await stream.receive_some(65536))
        has_all.set()
        await wait_end(stream)

    async with receiver(handle, is_tls=is_tls) as (server, transport):
        outcome, exchange = await send(transport, server.url, body=body)
        assert (outcome, exchange.request_sent) == (Responded(200), False)
        told.set()
        with trio.fail_after(10):
            await has_all.wait()


# --- blemished heads

KEPT_OPEN = b"content-length: 2\r\n\r\nok"
BLEMISHED = {
    "two equal lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n" + KEPT_OPEN,
    "length and chunked": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\n" + b"transfer-encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "identity": b"HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n" + KEPT_OPEN,
    "folded line": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\n" + KEPT_OPEN,
    "bare LF": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "LF from a CGI script": b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-type: text/plain\n\nok",
    "control byte in a value": b"HTTP/1.1 200 OK\r\nx: a\x01\r\n" + KEPT_OPEN,
    "space in a header name": b"HTTP/1.1 200 OK\r\nx y: a\r\n" + KEPT_OPEN,
    "two spaces in the status line": b"HTTP/1.1  200 OK\r\n" + KEPT_OPEN,
}


@pytest.mark.parametrize("is_tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("status", [b"200", b"410", b"503"])
@pytest.mark.parametrize("kind", BLEMISHED)
async def test_blemished_head_counts_by_its_status_and_its_connection_is_not_kept(
    kind: str, status: bytes, is_tls: bool
) -> None:
    answer = BLEMISHED[kind].replace(b"200", status)
    async with receiver(saying_and_staying(answer), is_tls=is_tls) as (server, transport):
        for _ in range(2):
            assert (await send(transport, server.url))[0] == Responded(int(status))
        assert server.connections == 2
        assert transport.statistics().connections_idle == 0


async def test_retry_after_of_a_blemished_head_is_read() -> None:
    answer = b"HTTP/1.1 503 X\nretry-after:\n 120\ncontent-length: 0\n\n"
    async with receiver(saying_and_staying(answer), is_tls=False) as (server, transport):
        _, exchange = await send(transport, server.url)
    assert exchange.retry_after == "120"


async def test_retry_after_standing_twice_counts_where_both_agree() -> None:
    for values, read in (((b"7", b"7"), "7"), ((b"7", b"8"), None), ((b"7",), "7"), ((b"7", b"7", b"8"), None)):
        lines = b"".join(b"retry-after: %b\r\n" % value for value in values)
        answer = b"HTTP/1.1 503 X\r\n" + lines + b"content-length: 0\r\n\r\n"
        async with receiver(saying_and_staying(answer), is_tls=False) as (server, transport):
            _, exchange = await send(transport, server.url)
        assert exchange.retry_after == read
