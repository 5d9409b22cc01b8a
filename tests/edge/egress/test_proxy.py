"""A forward proxy between us and the endpoint: what it is asked, what it may do wrong, and who sees its credentials."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.endpoint_egress import DIRECT, EndpointEgress, Proxy
from hookd.core.outcome import Blocked, Exchange, Outcome, Responded, Unreachable
from hookd.core.settings import EgressSettings, Settings
from hookd.edge.egress import HttpSender, open_sender
from hookd.edge.egress.transport import client_ssl_context
from hookd.flow.ports import DeliveryRequest

from tests.edge.egress.forward_proxy import proxying
from tests.edge.egress.peers import (
    OK,
    FakeDial,
    FakeNetworkStream,
    Handler,
    answering,
    read_request,
    resolving,
    serving,
)

HOST = "hook.example"
CA = trustme.CA()
TRUSTING = client_ssl_context()
CA.configure_trust(TRUSTING)
CREDENTIALS = "hookd:pass word:€"
BASIC = b"Basic " + base64.b64encode(CREDENTIALS.encode())
BODY = b'{"a": 1}'


def tls_server() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(HOST).configure_cert(context)
    return context


def through(port: int, credentials: str = "", *, is_judged: bool = False) -> EndpointEgress:
    return EndpointEgress(proxy=Proxy("proxy.example", port, credentials, is_judged))


def request_to(url: str, egress: EndpointEgress | None, *, body: bytes = BODY, endpoint: str = "a") -> DeliveryRequest:
    return DeliveryRequest("acme", endpoint, url, [("webhook-id", "evt_1")], body, (), egress)


@asynccontextmanager
async def sending(settings: Settings | None = None, **options: Any) -> AsyncIterator[HttpSender]:
    """A sender for which every name is this machine, and that trusts our authority."""
    options.setdefault("resolve", resolving("127.0.0.1"))
    effective = EffectiveSettings(settings or Settings())
    async with open_sender(effective, ssl_context=TRUSTING, **options) as sender:
        yield sender


async def send(sender: HttpSender, request: DeliveryRequest) -> tuple[Outcome, Exchange]:
    exchange = Exchange()
    with trio.fail_after(10):
        return await sender.send(request, exchange), exchange


@asynccontextmanager
async def recording(context: ssl.SSLContext | None, answer: bytes = OK) -> AsyncIterator[tuple[int, list[bytes]]]:
    """An endpoint's port, and the heads that it got."""
    heads: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        while request := await read_request(stream):
            heads.append(request[0])
            await stream.send_all(answer)

    async with serving(handle, context=context) as server:
        yield server.port, heads


async def test_https_goes_through_a_tunnel_with_tls_inside_and_the_endpoint_sees_no_credentials() -> None:
    """One CONNECT for many requests; the name goes to the proxy, which looks it up, and not to our resolver."""
    looked_up: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    async with recording(tls_server()) as (port, heads), proxying() as proxy, sending(resolve=resolve) as sender:
        egress = through(proxy.port, CREDENTIALS)
        for body in (BODY, b"x" * 200_000, BODY):
            outcome, exchange = await send(sender, request_to(f"https://{HOST}:{port}/in", egress, body=body))
            assert (outcome, exchange.request_sent, exchange.excerpt) == (Responded(200), True, b"ok")
        assert proxy.heads == [
            f"CONNECT {HOST}:{port} HTTP/1.1\r\nhost: {HOST}:{port}\r\nproxy-authorization: ".encode() + BASIC
        ]
        assert looked_up == ["proxy.example"]
    assert len(heads) == 3
    assert all(head.startswith(b"POST /in HTTP/1.1\r\n") for head in heads)
    assert not any(b"proxy" in head.lower() for head in heads)


async def test_http_goes_in_absolute_form_on_a_kept_connection() -> None:
    async with recording(None) as (port, heads), proxying() as proxy, sending() as sender:
        egress = through(proxy.port, CREDENTIALS)
        for _ in range(2):
            outcome, exchange = await send(sender, request_to(f"http://{HOST}:{port}/in?a=1", egress))
            assert (outcome, exchange.request_sent) == (Responded(200), True)
        (head,) = proxy.heads  # the second goes on the same connection
        assert head.startswith(f"POST http://{HOST}:{port}/in?a=1 HTTP/1.1\r\nhost: {HOST}:{port}\r\n".encode())
        assert b"\r\nproxy-authorization: " + BASIC in head
    assert heads[0].startswith(b"POST /in?a=1 HTTP/1.1\r\n")
    assert b"proxy" not in heads[0].lower()


async def test_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with recording(None) as (port, _), sending(Settings(dev=True)) as sender:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        assert (await send(sender, request_to(f"http://{HOST}:{port}/", None)))[0] == Responded(200)


MISBEHAVING: dict[str, tuple[bytes, bool, str]] = {
    # What it answers, whether it then closes, and what is said of it.
    "wants credentials": (b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n", False, "the proxy wants credentials (407)"),
    "wants credentials, as tinyproxy says it": (
        b"HTTP/1.1 401 X\r\ncontent-length: 0\r\n\r\n",
        False,
        "the proxy wants credentials (401)",
    ),
    "refuses the host": (
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno!",
        False,
        "the proxy answered 403: it does not allow this host, or this port",
    ),
    "cannot reach it": (b"HTTP/1.0 503 X\r\n\r\n", True, "the proxy answered 503: it could not reach the endpoint"),
    "redirects": (b"HTTP/1.1 302 X\r\nlocation: http://169.254.169.254/\r\n\r\n", True, "the proxy answered 302"),
    "switches protocols": (b"HTTP/1.1 101 X\r\n\r\n", False, "the proxy answered 101"),
    "garbage": (b"SSH-2.0-x\r\n\r\n", False, "the proxy's answer cannot be read: not HTTP"),
    "binary": (bytes(range(256)), False, "the proxy's answer cannot be read: not HTTP"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", False, "the proxy's answer cannot be read: not HTTP/1.1"),
    "closes": (b"", True, "the proxy closed the connection before it answered"),
    "closes halfway": (b"HTTP/1.1 200 Conn", True, "the proxy closed the connection before it answered"),
    "endless head": (b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 20_000, False, "no final response head within 65536 bytes"),
    "endless interims": (b"HTTP/1.1 100 X\r\n\r\n" * 100, False, "more than 64 interim responses"),
    "speaks for the endpoint": (
        b"HTTP/1.1 200 X\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        False,
        "the proxy sent something before the endpoint could",
    ),
    "closes the tunnel": (b"HTTP/1.1 200 X\r\n\r\n", True, "TLS: "),
}


@pytest.mark.parametrize("name", MISBEHAVING)
async def test_proxy_that_misbehaves_is_unreachable_and_nothing_was_sent(name: str) -> None:
    """Told apart from the endpoint; its connection is closed, and nothing of the request left."""
    answer, closes, said = MISBEHAVING[name]
    got = bytearray()

    async def handle(stream: trio.abc.Stream) -> None:
        got.extend(await stream.receive_some(65536))
        await stream.send_all(answer)
        while not closes and (data := await stream.receive_some(65536)):
            got.extend(data)

    async with serving(handle) as server, sending() as sender:
        outcome, exchange = await send(sender, request_to(f"https://{HOST}/in", through(server.port)))
        assert isinstance(outcome, Unreachable)
        assert outcome.error.startswith("cannot connect: ")
        assert said in outcome.error
        assert not exchange.sending_started
        assert not exchange.request_sent
        await server.wait_open_connections(0)
        assert server.connections == 1
    assert got.startswith(b"CONNECT hook.example:443 HTTP/1.1\r\n")
    assert b"POST" not in got
    assert BODY not in got


async def test_credentials_that_are_refused_are_told_apart_and_not_repeated() -> None:
    refusing = answering(b"HTTP/1.1 407 hookd:pass\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n")
    async with serving(_after_head(refusing)) as server, sending() as sender:
        for scheme in ("https", "http"):
            outcome, exchange = await send(sender, request_to(f"{scheme}://{HOST}/", through(server.port, CREDENTIALS)))
            assert outcome == Unreachable("cannot connect: the proxy refused our credentials (407)")
            assert (exchange.sending_started, exchange.request_sent) == (False, False)


def _after_head(handler: Handler) -> Handler:
    """For a request without a length: one is put into it."""

    class Lengthened(trio.abc.Stream):
        def __init__(self, stream: trio.abc.Stream) -> None:
            self._stream = stream

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            data = bytes(await self._stream.receive_some(max_bytes))
            return data.replace(b"\r\n\r\n", b"\r\ncontent-length: 0\r\n\r\n") if data.startswith(b"CONNECT") else data

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            await self._stream.send_all(data)

        async def wait_send_all_might_not_block(self) -> None:
            await self._stream.wait_send_all_might_not_block()

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def handle(stream: trio.abc.Stream) -> None:
        await handler(Lengthened(stream))

    return handle


async def test_407_after_a_reconnect_keeps_what_the_first_try_may_have_brought() -> None:
    """The endpoint may have got the request that went out before the kept connection turned out stale."""
    kept, fresh = FakeNetworkStream(answer=OK), FakeNetworkStream(answer=b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n")
    async with sending(Settings(dev=True), dial=FakeDial(kept, fresh)) as sender:
        request = request_to("http://hook.example/", through(3128))
        assert (await send(sender, request))[0] == Responded(200)
        kept._answer = b""

        async def break_when_asked() -> None:
            while kept.sent.count(b"POST") < 2:
                await trio.lowlevel.checkpoint()
            kept.end()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(break_when_asked)
            outcome, exchange = await send(sender, request)
        assert isinstance(outcome, Unreachable)
        assert (exchange.reconnected, exchange.request_sent) == (True, True)


async def test_407_of_the_endpoint_inside_the_tunnel_is_its_answer() -> None:
    answer = b"HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n"
    async with recording(tls_server(), answer) as (port, _), proxying() as proxy, sending() as sender:
        outcome, exchange = await send(sender, request_to(f"https://{HOST}:{port}/", through(proxy.port)))
        assert (outcome, exchange.request_sent) == (Responded(407), True)


async def test_proxy_that_hangs_is_bounded_by_the_attempts_deadline() -> None:
    """Nothing was sent, and no socket is left."""

    async def handle(stream: trio.abc.Stream) -> None:
        while await stream.receive_some(65536):
            pass

    async with serving(handle) as server, sending() as sender:
        exchange = Exchange()
        with trio.move_on_after(0.1) as scope:
            await sender.send(request_to(f"https://{HOST}/", through(server.port)), exchange)
        assert scope.cancelled_caught
        assert not exchange.sending_started
        await server.wait_open_connections(0)


async def test_proxy_that_cannot_be_connected_to_is_named_as_the_one_at_fault() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with sending() as sender:
        outcome, exchange = await send(sender, request_to(f"https://{HOST}/", through(port)))
    assert outcome == Unreachable("cannot connect: the proxy: 127.0.0.1: Connection refused")
    assert not exchange.sending_started


@pytest.mark.parametrize(
    "head", [b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n"]
)
async def test_body_that_a_2xx_announces_is_none(head: bytes) -> None:
    """RFC 9110, section 9.3.6: what follows the head is the tunnel."""
    answer = b"HTTP/1.1 204 X\r\n" + head + b"\r\n"
    async with recording(tls_server()) as (port, _), proxying(answer) as proxy, sending() as sender:
        outcome, _ = await send(sender, request_to(f"https://{HOST}:{port}/", through(proxy.port)))
    assert outcome == Responded(200)


async def test_certificate_of_the_endpoint_is_verified_through_the_tunnel() -> None:
    """A proxy that answers in the endpoint's place is found out."""
    async with recording(tls_server()) as (port, heads), proxying() as proxy, sending() as sender:
        outcome, exchange = await send(sender, request_to(f"https://other.example:{port}/", through(proxy.port)))
    assert isinstance(outcome, Unreachable)
    assert "the endpoint shows a certificate for another name" in outcome.error
    assert (exchange.request_sent, heads) == (False, [])


# --- the address policy


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_literal_is_judged_here_and_the_proxy_is_not_asked(scheme: str, host: str) -> None:
    async with sending(dial=(dial := FakeDial())) as sender:
        outcome, _ = await send(sender, request_to(f"{scheme}://{host}/", through(3128)))
    assert outcome == Blocked(host.strip("[]"))
    assert dial.dialled == []


async def test_operators_proxy_may_be_anywhere_but_where_we_listen() -> None:
    dial = FakeDial(OSError("unreachable"))
    options: dict[str, Any] = {"dial": dial, "own_sockets": lambda: [("127.0.0.1", 8080)]}
    async with sending(**options) as sender:
        outcome, _ = await send(sender, request_to("https://hook.example/", through(3128)))
        assert isinstance(outcome, Unreachable)
        outcome, _ = await send(sender, request_to("https://hook.example/", through(8080)))
        assert outcome == Blocked("127.0.0.1 (the proxy)")
    assert dial.dialled == [("127.0.0.1", 3128)]


async def test_proxy_that_the_api_registered_is_judged_like_any_address() -> None:
    """Else a proxy's URL would lead where an endpoint's cannot: `POST http://x/ HTTP/1.1` to a metadata service."""
    egress = through(3128, is_judged=True)
    async with sending(dial=(dial := FakeDial())) as sender:
        for scheme in ("http", "https"):
            assert (await send(sender, request_to(f"{scheme}://x.example/", egress)))[0] == Blocked(
                "127.0.0.1 (the proxy)"
            )
    assert dial.dialled == []
    allowed = Settings(egress=EgressSettings(allow_networks=("127.0.0.0/8",)))
    async with sending(allowed, dial=(dial := FakeDial(OSError("unreachable")))) as sender:
        assert isinstance((await send(sender, request_to("https://x.example/", egress)))[0], Unreachable)
    assert dial.dialled == [("127.0.0.1", 3128)]


@pytest.mark.parametrize("egress", [None, through(3128), through(3128, is_judged=True)])
async def test_denied_port_is_blocked_before_anything_is_looked_up(egress: EndpointEgress | None) -> None:
    settings = Settings(dev=True, egress=EgressSettings(deny_ports=(25, 6379)))
    async with sending(settings, dial=(dial := FakeDial()), resolve=None) as sender:
        for port in (25, 6379):
            outcome, _ = await send(sender, request_to(f"http://hook.example:{port}/", egress))
            assert outcome == Blocked(f"hook.example:{port} (egress.deny_ports)")
    assert dial.dialled == []


async def test_denied_port_is_no_port_of_a_proxy_that_the_api_registered() -> None:
    settings = Settings(dev=True, egress=EgressSettings(deny_ports=(3128,)))
    async with sending(settings, dial=FakeDial(OSError("unreachable"))) as sender:
        outcome, _ = await send(sender, request_to("https://hook.example/", through(3128, is_judged=True)))
        assert outcome == Blocked("proxy.example:3128 (the proxy; egress.deny_ports)")
        assert isinstance((await send(sender, request_to("https://hook.example/", through(3128))))[0], Unreachable)


# --- whose connection


async def test_connection_is_shared_only_within_one_way() -> None:
    """The same endpoint and place: another proxy, other credentials, or none, each have their own."""
    ways = [None, EndpointEgress(proxy=DIRECT), through(1), through(2), through(1, "a:b"), through(1, "a:c")]
    streams = [FakeNetworkStream(answer=OK) for _ in ways]
    async with sending(Settings(dev=True), dial=(dial := FakeDial(*streams))) as sender:
        for _ in range(2):
            for way in ways:
                assert (await send(sender, request_to("http://hook.example/", way)))[0] == Responded(200)
    assert len(dial.dialled) == len(ways)
    assert [stream.sent.count(b"webhook-id") for stream in streams] == [2] * len(ways)


async def test_connection_in_use_at_a_reload_is_not_kept_after_it() -> None:
    """It went by rules that are in force no more."""
    slow, fresh = FakeNetworkStream(), FakeNetworkStream(answer=OK)
    effective = EffectiveSettings(Settings(dev=True))
    dial = FakeDial(slow, fresh)
    async with open_sender(effective, ssl_context=TRUSTING, resolve=resolving("127.0.0.1"), dial=dial) as sender:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, sender, request_to("http://hook.example/", None))
            await trio.testing.wait_all_tasks_blocked()
            effective.settings = Settings(dev=True, egress=EgressSettings(allow_http=True))
            assert (await send(sender, request_to("http://hook.example/", None)))[0] == Responded(200)
            slow.say(OK)
        assert slow.is_closed
        assert not fresh.is_closed
    assert len(dial.dialled) == 2


def test_no_credentials_are_printed() -> None:
    printed = repr(through(3128, CREDENTIALS))
    assert printed == "EndpointEgress(ca=False, client_certificate=False, proxy=Proxy('http://***@proxy.example:3128'))"
    assert repr(through(3128)).count("***") == 0
