"""One POST over httpx: what comes back is an outcome, what went out is known."""

from functools import partial

import trio
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.outcome import Blocked, Exchange, Invalid, Outcome, Responded, Unreachable
from hookd.core.settings import DEFAULTS, EgressSettings, Settings
from hookd.edge.egress import open_sender
from hookd.flow.ports import DeliveryRequest

BODY = b'{"a": 1}'
DEV = Settings(dev=True)


async def post_to(answer: bytes, *, close_at_once: bool = False) -> tuple[Outcome, Exchange, bytes]:
    """Sends one request to a real listener that answers with these bytes; returns also what it received."""
    received = bytearray()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            if close_at_once:
                return
            while not received.endswith(BODY):
                received.extend(await stream.receive_some())
            await stream.send_all(answer)

    exchange = Exchange()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        outcome = await send(f"http://127.0.0.1:{port}/hook?x=1", exchange)
        nursery.cancel_scope.cancel()
    return outcome, exchange, bytes(received)


async def send(url: str, exchange: Exchange, settings: Settings = DEV) -> Outcome:
    async with open_sender(EffectiveSettings(settings)) as sender:
        with trio.fail_after(10):
            return await sender.send(request_to(url), exchange)


def request_to(url: str) -> DeliveryRequest:
    return DeliveryRequest(
        "acme", "default", url, [("webhook-id", "evt_1"), ("content-type", "application/json")], BODY
    )


async def test_answer_is_responded_and_the_request_is_whole():
    """Status, body's first bytes and the request's progress are known; the payload goes out byte for byte."""
    outcome, exchange, received = await post_to(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")
    assert outcome == Responded(201)
    assert (exchange.sending_started, exchange.request_sent, exchange.excerpt) == (True, True, b"ok")
    assert received.startswith(b"POST /hook?x=1 HTTP/1.1\r\n")
    assert received.endswith(b"\r\n\r\n" + BODY)
    assert b"webhook-id: evt_1\r\n" in received
    assert b"accept-encoding: identity\r\n" in received.lower()
    assert received.lower().count(b"content-length: 8\r\n") == 1


async def test_body_that_breaks_off_changes_nothing():
    """The complete head decides: a body cut in the middle is still an answer."""
    outcome, exchange, _ = await post_to(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\npart")
    assert outcome == Responded(200)
    assert exchange.answer == Responded(200)


async def test_body_is_read_up_to_its_limit_only():
    """An endless body is cut at delivery.response_bytes_max, and nothing is left running."""
    outcome, exchange, _ = await post_to(b"HTTP/1.1 500 X\r\n\r\n" + b"x" * 100_000)
    assert outcome == Responded(500)
    assert exchange.excerpt == b"x" * DEFAULTS.delivery.response_bytes_max


async def test_not_http_is_invalid():
    """A banner of another protocol is no answer; the request may have been received all the same."""
    outcome, exchange, _ = await post_to(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert isinstance(outcome, Invalid)
    assert exchange.request_sent


async def test_closed_without_an_answer_is_unreachable():
    """A connection that ends before an answer is the network's failure."""
    outcome, _, _ = await post_to(b"", close_at_once=True)
    assert isinstance(outcome, Unreachable)


async def test_refused_connection_sent_nothing():
    """Where nobody listens, nothing can have been received, and the system's words say why."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    exchange = Exchange()
    outcome = await send(f"http://127.0.0.1:{port}/", exchange)
    assert outcome == Unreachable("cannot connect: 127.0.0.1: Connection refused")
    assert not exchange.sending_started


async def test_url_that_no_validation_foresaw_is_invalid():
    """A poison URL ends its attempt with an outcome, never with an exception."""
    for url in ("http://a..b/", "http://" + "x" * 64 + ".test/", "nonsense", "ftp://h/"):
        outcome = await send(url, Exchange())
        assert isinstance(outcome, Invalid | Unreachable), url


async def test_private_address_is_blocked_unless_it_is_allowed():
    """Without --dev a loopback address is denied by name and nothing is sent; a network that is allowed is not."""
    exchange = Exchange()
    assert await send("http://127.0.0.1:9/", exchange, DEFAULTS) == Blocked("127.0.0.1")
    assert not exchange.sending_started
    allowed = Settings(egress=EgressSettings(allow_http=True, allow_networks=("127.0.0.0/8",)))
    outcome = await send("http://127.0.0.1:9/", exchange, allowed)
    assert isinstance(outcome, Unreachable)


async def test_reloaded_policy_is_in_force_at_the_next_request():
    """SIGHUP can open and close a network while the daemon runs."""
    effective = EffectiveSettings(DEFAULTS)
    async with open_sender(effective) as sender:
        assert await sender.send(request_to("http://127.0.0.1:9/"), Exchange()) == Blocked("127.0.0.1")
        effective.settings = Settings(egress=EgressSettings(allow_networks=("127.0.0.1/32",)))
        assert isinstance(await sender.send(request_to("http://127.0.0.1:9/"), Exchange()), Unreachable)
        effective.settings = Settings()
        assert await sender.send(request_to("http://127.0.0.1:9/"), Exchange()) == Blocked("127.0.0.1")


async def test_own_listening_socket_is_denied_whatever_is_allowed():
    """A client's URL cannot make hookd post to its own API."""
    async with open_sender(EffectiveSettings(DEV), own_sockets=lambda: [("127.0.0.1", 8080)]) as sender:
        outcome = await sender.send(request_to("http://127.0.0.1:8080/v1/events"), Exchange())
    assert outcome == Blocked("127.0.0.1")


async def test_retry_after_is_kept_as_it_came():
    """The header of the final head is handed on unread; given twice it says nothing."""
    _, exchange, _ = await post_to(b"HTTP/1.1 503 x\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n")
    assert exchange.retry_after == "120"
    _, exchange, _ = await post_to(b"HTTP/1.1 503 x\r\nretry-after: 1\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n")
    assert exchange.retry_after is None


async def test_endpoint_kept_busy_at_its_concurrency_is_not_connected_to_again():
    """As many connections as attempts at once, kept from one round to the next."""
    at_once = DEFAULTS.delivery.concurrency
    connections, arrived, answering = 0, 0, trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections, arrived
        connections += 1
        received = b""
        async for data in stream:
            received += data
            if received.endswith(BODY):
                received = b""
                arrived += 1
                if arrived % at_once == 0:  # all of a round are in flight
                    answering.set()
                await answering.wait()
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/"
        async with open_sender(EffectiveSettings(DEV)) as sender:
            for _ in range(3):
                answering = trio.Event()
                with trio.fail_after(10):
                    async with trio.open_nursery() as round_of_attempts:
                        for _ in range(at_once):
                            round_of_attempts.start_soon(sender.send, request_to(url), Exchange())
        nursery.cancel_scope.cancel()
    assert connections == at_once
