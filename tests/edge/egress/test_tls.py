"""TLS: what is verified, what a receiver can do wrong, and that nothing is ever sent without it."""

import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from hookd.edge.egress.addresses import AddressPolicy
from hookd.edge.egress.transport import Transport, client_ssl_context, open_transport

from tests.edge.egress.peers import (
    OK,
    Handler,
    Server,
    answering,
    post,
    read_request,
    reset,
    resolving,
    serving,
    wait_end,
)

HOST = "hook.example"
CA = trustme.CA()
OTHER_CA = trustme.CA()
TRUSTING = client_ssl_context()
CA.configure_trust(TRUSTING)
YESTERDAY = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)


def server_context(*identities: str, ca: trustme.CA = CA, **options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert(*(identities or (HOST,)), **options).configure_cert(context)
    return context


@asynccontextmanager
async def secured(handler: Handler, context: ssl.SSLContext | None) -> AsyncIterator[tuple[Server, Transport]]:
    """A server of this machine under whatever name it is asked for, and a transport that trusts our authority."""
    policy = AddressPolicy(allow_private=True)
    async with (
        serving(handler, context=context) as server,
        open_transport(policy=policy, resolve=resolving("127.0.0.1"), ssl_context=TRUSTING) as transport,
    ):
        server.url = f"https://{HOST}:{server.port}/hook"
        yield server, transport


async def test_request_goes_over_tls_with_the_name_in_sni_and_host_and_keeps_the_connection() -> None:
    names: list[str | None] = []
    heads: list[bytes] = []
    context = server_context()
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def handle(stream: trio.abc.Stream) -> None:
        while request := await read_request(stream):
            heads.append(request[0])
            await stream.send_all(OK)

    async with secured(handle, context) as (server, transport):
        for content in (b"{}", b"x" * 1_000_000, b"{}"):
            assert await post(transport, server.url, content=content) == (200, b"ok")
        assert (names, server.connections) == ([HOST], 1)
        assert all(f"host: {HOST}:{server.port}".encode() in head for head in heads)


async def test_name_with_a_dot_at_its_end_is_verified_without_it() -> None:
    async with secured(answering(OK), server_context()) as (server, transport):
        assert await post(transport, server.url.replace(HOST, HOST + ".")) == (200, b"ok")


async def test_literal_is_verified_against_the_addresses_of_the_certificate() -> None:
    async with secured(answering(OK), server_context("127.0.0.1")) as (server, transport):
        assert await post(transport, server.url.replace(HOST, "127.0.0.1")) == (200, b"ok")


BAD_CERTIFICATES: dict[str, Callable[[], ssl.SSLContext]] = {
    "expired": lambda: server_context(not_before=YESTERDAY - dt.timedelta(days=9), not_after=YESTERDAY),
    "mismatch": lambda: server_context("other.example"),
    "IP address mismatch": lambda: server_context("other.example"),
    "unable to get local issuer": lambda: server_context(ca=OTHER_CA),
    "self-signed|self signed": lambda: self_signed(),
}


def self_signed() -> ssl.SSLContext:
    """An authority that shows its own certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca = trustme.CA()
    with ca.cert_pem.tempfile() as certificate, ca.private_key_pem.tempfile() as key:
        context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("reason", BAD_CERTIFICATES)
async def test_bad_certificate_is_a_connect_error_and_nothing_is_sent(reason: str) -> None:
    received: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        received.append(bytes(await stream.receive_some()))

    async with secured(handle, BAD_CERTIFICATES[reason]()) as (server, transport):
        if reason.startswith("IP"):
            server.url = server.url.replace(HOST, "127.0.0.1")
        with pytest.raises(httpx.ConnectError, match=f"TLS: .*({reason})"):
            await post(transport, server.url)
        await server.wait_open_connections(0)
        assert server.connections == 1
        assert b"".join(received) == b""


async def test_certificate_of_nobody_we_were_told_of_is_refused_by_default() -> None:
    """Without a context of the caller's."""
    policy = AddressPolicy(allow_private=True)
    async with (
        serving(answering(OK), context=server_context()) as server,
        open_transport(policy=policy, resolve=resolving("127.0.0.1")) as transport,
    ):
        with pytest.raises(httpx.ConnectError, match="issuer"):
            await post(transport, f"https://{HOST}:{server.port}/")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
async def test_old_tls_is_refused() -> None:
    context = server_context()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with secured(wait_end, context) as (server, transport):
        with pytest.raises(httpx.ConnectError, match="TLS: "):
            await post(transport, server.url)
        await server.wait_open_connections(0)


async def test_stalled_handshake_is_bounded_by_the_callers_scope_and_its_socket_closed_at_once() -> None:
    received: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        while data := await stream.receive_some(65536):
            received.append(bytes(data))
            scope.deadline = trio.current_time() + 0.05  # however late the machine lets it begin

    async with secured(handle, None) as (server, transport):
        with trio.CancelScope() as scope:
            await post(transport, server.url)
        assert scope.cancelled_caught
        assert transport.statistics().connections_open == 0
        await server.wait_open_connections(0)
    data = b"".join(received)
    assert data[:1] == b"\x16"  # a TLS handshake
    assert b"POST" not in data


@pytest.mark.parametrize("answer", [OK, b"\x15\x03\x01\x00\x02\x02\x28", b"", b"SSH-2.0-x\r\n"])
async def test_server_without_tls_is_a_connect_error_and_there_is_no_plaintext_fallback(answer: bytes) -> None:
    received: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        received.append(bytes(await stream.receive_some(65536)))
        if answer:
            await stream.send_all(answer)

    async with secured(handle, None) as (server, transport):
        with pytest.raises(httpx.ConnectError, match="TLS"):
            await post(transport, server.url)
        await server.wait_open_connections(0)
        assert server.connections == 1
    assert b"POST" not in b"".join(received)


async def test_receiver_that_ends_without_a_goodbye_ends_its_response() -> None:
    """No close_notify, as half of the web does it; a response with a length is complete without."""

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nok")

    async with secured(handle, server_context()) as (server, transport):
        assert await post(transport, server.url) == (200, b"ok")


class Corked(trio.abc.Stream):
    """Sends nothing until it is uncorked, and then all at once."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._kept: bytearray | None = None

    def cork(self) -> None:
        self._kept = bytearray()

    async def uncork(self) -> None:
        kept, self._kept = self._kept, None
        await self._stream.send_all(kept or b"")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._kept is None:
            await self._stream.send_all(data)
        else:
            await trio.lowlevel.checkpoint()
            self._kept += data

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


PLANTED = b"HTTP/1.1 202 Planted\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize("records", [[OK + PLANTED], [OK, PLANTED], [OK, PLANTED[:5]], [OK[:-1], OK[-1:] + PLANTED]])
async def test_planted_answer_inside_tls_is_not_used(records: list[bytes]) -> None:
    """In one record, or in several at once, which then wait undecrypted where no look at the socket finds them."""
    context = server_context()

    async def handle(stream: trio.abc.Stream) -> None:
        corked = Corked(stream)
        secure = trio.SSLStream(corked, context, server_side=True)
        await read_request(secure)
        if server.connections > 1:
            await secure.send_all(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
        else:
            corked.cork()
            for record in records:
                await secure.send_all(record)
            await corked.uncork()
        await wait_end(secure)

    async with secured(handle, None) as (server, transport):
        assert await post(transport, server.url) == (200, b"ok")
        assert await post(transport, server.url) == (503, b"")
        assert server.connections == 2


async def test_planted_answer_after_the_first_over_tls_is_not_used() -> None:
    planting = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(OK)
        if server.connections == 1:
            await planting.wait()
            await stream.send_all(PLANTED)
        await wait_end(stream)

    async with secured(handle, server_context()) as (server, transport):
        assert await post(transport, server.url) == (200, b"ok")
        planting.set()
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert await post(transport, server.url) == (200, b"ok")
        assert server.connections == 2


# --- what the receiver says while the request is still being written

BIG = b"x" * 5_000_000  # more than any socket buffer takes


@pytest.mark.parametrize(
    "records",
    [
        [b"HTTP/1.1 403 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno"],
        [b"HTTP/1.1 403 X\r\n", b"content-length: 2\r\n", b"connection: close\r\n\r\n", b"no"],
        [b"HTTP/1.1 403 X\r\ncontent-length: 2\r\n\r\n", b"n", b"o"],
        [bytes([byte]) for byte in b"HTTP/1.1 403 X\r\ncontent-length: 2\r\n\r\nno"],
        [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 403 X\r\ncontent-length: 2\r\n\r\n", b"no"],
    ],
    ids=["one", "head_in_three", "body_in_two", "byte_by_byte", "interim"],
)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_early_answer_in_several_records_counts_though_writing_broke(
    records: list[bytes], version: ssl.TLSVersion
) -> None:
    """The receiver answers and closes with the request unread, which resets us while we write."""
    context = server_context()
    context.maximum_version = version

    async def handle(stream: trio.abc.Stream) -> None:
        corked = Corked(stream)  # all records in one piece, the reset right behind it
        secure = trio.SSLStream(corked, context, server_side=True)
        await secure.receive_some(100)
        corked.cork()
        for record in records:
            await secure.send_all(record)
        await corked.uncork()

    async with secured(handle, None) as (server, transport):
        for _ in range(8):
            assert await post(transport, server.url, content=BIG) == (403, b"no")
        await server.wait_open_connections(0)
        assert transport.statistics().connections_open == 0


def shake_hands_and_close(listener: socket.socket, context: ssl.SSLContext, count: int) -> None:
    """In a thread: trio's stream does not send the alert that OpenSSL has for a handshake that failed."""
    for _ in range(count):
        peer, _ = listener.accept()
        peer.settimeout(5)
        try:
            context.wrap_socket(peer, server_side=True).recv(100)
        except OSError:
            pass
        finally:
            peer.close()


@asynccontextmanager
async def closing_after_handshake(context: ssl.SSLContext, count: int) -> AsyncIterator[tuple[str, Transport]]:
    policy = AddressPolicy(allow_private=True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with (
            trio.open_nursery() as nursery,
            open_transport(policy=policy, resolve=resolving("127.0.0.1"), ssl_context=TRUSTING) as transport,
        ):
            serve = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
            nursery.start_soon(serve, shake_hands_and_close, listener, context, count)
            yield f"https://{HOST}:{listener.getsockname()[1]}/hook", transport


@pytest.mark.parametrize("content", [b"{}", BIG], ids=["short", "long"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_receiver_that_requires_a_certificate_is_told_as_such(version: ssl.TLSVersion, content: bytes) -> None:
    """In TLS 1.3 its alert comes after the handshake, and behind it a reset."""
    context = server_context()
    context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    CA.configure_trust(context)
    reason = "certificate required" if version == ssl.TLSVersion.TLSv1_3 else "handshake failure"
    async with closing_after_handshake(context, 8) as (url, transport):
        for _ in range(8):
            with pytest.raises(httpx.TransportError, match=f"alert {reason}"):
                await post(transport, url, content=content)
        assert transport.statistics().connections_open == 0


async def test_receiver_that_is_gone_while_we_write_over_tls_is_told_as_that() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(100)
        reset(stream)

    async with secured(handle, server_context()) as (server, transport):
        with pytest.raises((httpx.WriteError, httpx.ReadError), match=r"(?i)reset|pipe"):
            await post(transport, server.url, content=BIG)
        await server.wait_open_connections(0)
        assert transport.statistics().connections_open == 0
