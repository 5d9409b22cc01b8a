"""The transport against receivers of every kind: which answer counts, what is sent, where it connects."""

import errno
import gc
import gzip
import time
import tracemalloc
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hookd.edge.egress.addresses import DENIED, AddressPolicy
from hookd.edge.egress.resolver import Resolver
from hookd.edge.egress.transport import AddressDenied, Transport, open_transport, post_request
from hookd.edge.egress.wire import HEAD_BYTES_MAX
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.edge.egress import peers
from tests.edge.egress.peers import (
    OK,
    FakeDial,
    FakeNetworkStream,
    Progress,
    answering,
    body_of,
    faked,
    local_transport,
    post,
    read_request,
    serving,
    start,
    wait_end,
)

BIG = b"x" * 5_000_000  # more than any socket buffer takes


# --- what is sent, and that it is sent on kept connections


async def test_requests_share_a_connection_and_reach_the_server_whole() -> None:
    seen: list[tuple[bytes, bytes] | None] = []

    async def handle(stream: trio.abc.Stream) -> None:
        while True:
            seen.append(await read_request(stream))
            await stream.send_all(OK)

    async with serving(handle) as server, local_transport() as transport:
        for content in (b"{}", b"", BIG):
            progress = Progress()
            assert await post(transport, server.url + "?a=b", content=content, exchange=progress) == (200, b"ok")
            assert (progress.sending_started, progress.request_sent) == (True, True)
        assert [request and request[1] for request in seen] == [b"{}", b"", BIG]
        assert seen[0] is not None
        assert seen[0][0].split(b"\r\n") == [
            b"POST /hook?a=b HTTP/1.1",
            b"host: 127.0.0.1:%d" % server.port,
            b"accept: */*",
            b"accept-encoding: identity",
            b"content-length: 2",
        ]
        assert server.connections == 1
        statistics = transport.statistics()
        assert (statistics.connections_open, statistics.connections_idle, statistics.connects) == (1, 1, 1)


async def test_ipv6_literal_is_connected_to_and_named_in_host(nursery: trio.Nursery) -> None:
    heads: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        while request := await read_request(stream):
            heads.append(request[0])
            await stream.send_all(OK)

    try:
        listeners = await trio.open_tcp_listeners(0, host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    nursery.start_soon(trio.serve_listeners, handle, listeners)
    port = listeners[0].socket.getsockname()[1]
    async with local_transport() as transport:
        assert await post(transport, f"http://[::1]:{port}/hook") == (200, b"ok")
    assert f"\r\nhost: [::1]:{port}\r\n".encode() in heads[0]
    nursery.cancel_scope.cancel()


async def test_prepared_request_is_sent_the_same() -> None:
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        request = post_request(httpx.URL("http://example.com/hook"), [(b"a", b"b")], b"{}", endpoint=1)
        await transport.handle_async_request(request)
        await post(transport, headers=[("a", "b")], endpoint=2)
    assert network_streams[0].sent == network_streams[1].sent


async def test_endpoints_do_not_share_connections_and_a_moved_one_does_not_keep_its_own() -> None:
    """Two clients with the same receiver must not see each other's; a new URL means a new connection."""
    dial = FakeDial(*(FakeNetworkStream(OK) for _ in range(4)))
    async with faked(dial) as transport:
        await post(transport, "http://a.example/", endpoint="one")
        await post(transport, "http://a.example/", endpoint="two")
        await post(transport, "http://b.example/", endpoint="one")
        await post(transport, "http://a.example:81/", endpoint="one")
        assert [port for _, port in dial.dialled] == [80, 80, 80, 81]


async def test_transport_serves_an_httpx_client() -> None:
    """It is an httpx transport like any other; get, head and a body that comes in pieces included."""

    async def pieces() -> Any:
        yield b"ab"
        yield b"cd"

    network_streams = [
        FakeNetworkStream(OK),
        FakeNetworkStream(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        FakeNetworkStream(OK),
    ]
    async with faked(FakeDial(*network_streams)) as transport, httpx.AsyncClient(transport=transport) as client:
        assert (await client.get("http://a.example/")).text == "ok"
        assert (await client.head("http://b.example/")).headers["content-length"] == "5"
        assert (await client.post("http://c.example/", content=pieces())).content == b"ok"
    assert network_streams[2].sent.endswith(b"content-length: 4\r\n\r\nabcd")
    assert b"transfer-encoding" not in network_streams[2].sent.lower()


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://example.com:0/", httpx.LocalProtocolError),
        ("http://example.com:65536/", httpx.LocalProtocolError),
        ("http:example.com", httpx.LocalProtocolError),
        ("ftp://example.com/", httpx.UnsupportedProtocol),
        ("//example.com/", httpx.UnsupportedProtocol),
        ("http://[fe80::1%25eth0]/", AddressDenied),
    ],
)
async def test_poison_url_is_a_transport_error(url: str, error: type[Exception]) -> None:
    async with open_transport(policy=AddressPolicy(), dial=FakeDial(), ssl_context=peers.TLS) as transport:
        with pytest.raises(error):
            await transport.handle_async_request(httpx.Request("POST", url))


async def test_poison_names_are_transport_errors() -> None:
    """With the real resolver."""
    async with open_transport(policy=AddressPolicy(), dial=FakeDial(), ssl_context=peers.TLS) as transport:
        for host in ("a" * 64 + ".example", "a..b", ".a", "..", "-", "*.example.invalid"):
            with pytest.raises(httpx.TransportError):
                await post(transport, f"http://{host}/")


async def test_closed_transport_refuses() -> None:
    async with faked(FakeDial()) as transport:
        await transport.aclose()
        with pytest.raises(httpx.ConnectError, match="closed"):
            await post(transport)


async def test_close_ends_a_request_in_flight(nursery: trio.Nursery) -> None:
    async with faked(FakeDial(FakeNetworkStream())) as transport:

        async def close() -> None:
            await trio.testing.wait_all_tasks_blocked()
            transport.close()

        nursery.start_soon(close)
        with pytest.raises(httpx.ReadError):
            await post(transport)
        assert transport.statistics().connections_open == 0


# --- receivers that break, are slow, flood


async def test_refused_is_a_connect_error() -> None:
    async with serving(wait_end) as server:
        pass
    async with local_transport() as transport:
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1: Connection refused"):
            await post(transport, server.url)
        assert transport.statistics().connections_open == 0


ANSWER = b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello"
HEAD_BYTES = ANSWER.index(b"hello")


@pytest.mark.parametrize("ending", ["reset", "end"])
async def test_connection_that_breaks_after_every_byte_of_an_answer(ending: str) -> None:
    """No verdict before the head is complete; from then on the verdict stands and only the body is missing."""
    for count in range(len(ANSWER) + 1):
        network_stream = FakeNetworkStream(*([ANSWER[:count]] if count else []))
        if ending == "end":
            network_stream.end()
        async with faked(FakeDial(network_stream)) as transport:
            async with trio.open_nursery() as nursery:
                if ending == "reset":
                    nursery.start_soon(reset_when_read, network_stream)
                await expect_by_length(transport, "http://example.com/", count)
            assert network_stream.is_closed or count == len(ANSWER)


async def reset_when_read(network_stream: FakeNetworkStream) -> None:
    await trio.testing.wait_all_tasks_blocked()
    network_stream.reset()


async def expect_by_length(transport: Transport, url: str, count: int) -> None:
    if count < HEAD_BYTES:
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await start(transport, url)
        return
    response = await start(transport, url)
    stream = body_of(response)
    assert response.status_code == 200
    if count == len(ANSWER):
        assert await stream.read() == b"hello"
    else:
        with pytest.raises(httpx.TransportError):
            await stream.read()
        assert stream.body == ANSWER[HEAD_BYTES:count]


async def test_real_reset_after_every_byte_of_an_answer() -> None:
    counts = iter(range(len(ANSWER)))

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        count = next(counts)
        if count:
            await stream.send_all(ANSWER[:count])
        peers.reset(stream)

    async with serving(handle) as server, local_transport() as transport:
        for count in range(len(ANSWER)):
            await expect_by_length(transport, server.url, count)
        await server.wait_open_connections(0)
        assert transport.statistics().connections_open == 0


async def test_end_in_the_middle_of_the_head_is_no_verdict() -> None:
    for head in (b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n", b"HTTP/1.1 200 OK\r\nx: y\r\n\r"):
        async with faked(FakeDial(FakeNetworkStream(head, ends=True))) as transport:
            with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
                await post(transport)


async def test_broken_body_is_an_error_of_the_body_and_not_of_the_answer() -> None:
    for rest in (b"content-length: 9\r\n\r\nhello", b"transfer-encoding: chunked\r\n\r\n5\r\nhelloZZ"):
        async with faked(FakeDial(FakeNetworkStream(b"HTTP/1.1 201 X\r\n" + rest, ends=True))) as transport:
            response = await start(transport)
            assert response.status_code == 201
            stream = body_of(response)
            with pytest.raises(httpx.RemoteProtocolError):
                await stream.read()
            assert stream.body == b"hello"
            assert transport.statistics().connections_open == 0


@pytest.mark.parametrize("drip", [b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 99, ANSWER[:HEAD_BYTES] + b"hell"])
async def test_drip_is_bounded_by_the_callers_scope(drip: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """Of the head, and of the body, whose bytes so far are still there."""
    network_stream = FakeNetworkStream()

    async def say_slowly() -> None:
        for byte in drip:
            network_stream.say(bytes([byte]))
            await trio.sleep(0.1)

    response = None
    async with faked(FakeDial(network_stream)) as transport, trio.open_nursery() as nursery:
        nursery.start_soon(say_slowly)
        started_at = trio.current_time()
        with trio.move_on_after(15) as scope:
            response = await start(transport)
            await body_of(response).read()
        assert scope.cancelled_caught
        assert trio.current_time() - started_at == pytest.approx(15)
        assert network_stream.is_closed
        nursery.cancel_scope.cancel()
    assert (response and body_of(response).body) == (b"hell" if drip.endswith(b"hell") else None)


class LongestStep(trio.abc.Instrument):
    """The most CPU time that one step of a task took: what an innocent timer may be late because of it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began_at = time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began_at = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.seconds = max(self.seconds, time.thread_time() - self._began_at)


FLOODS = {
    "interim": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    "tiny_interim": b"HTTP/1.1 100\r\n\r\n",
    "fields": b"x-flood: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n",
    "tiny_fields": b"a:\r\n",
    "one_field": b"y" * 64,
    "reason": b"\xff" * 64,
}
FLOOD_BEGINS = {
    "fields": ANSWER[:17],
    "tiny_fields": ANSWER[:17],
    "one_field": ANSWER[:17] + b"x: ",
    "reason": ANSWER[:15],
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_flood_before_the_final_head_ends_by_its_budget(kind: str) -> None:
    """In less than 0.2 s of CPU, after at most the budget and one read more, nobody late by 5 ms."""
    unit = FLOODS[kind]
    piece = unit * (16384 // len(unit))

    class Flood(FakeNetworkStream):
        received = 0

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            self.received += len(piece)
            return piece if self.received > len(piece) else FLOOD_BEGINS.get(kind, b"") + piece

    flood = Flood()
    async with faked(FakeDial(flood)) as transport:
        gc.collect()
        gc.disable()  # a full collection of what the test suite holds is not the flood's doing
        trio.lowlevel.add_instrument(watch := LongestStep())
        began_at = time.thread_time()
        with pytest.raises(httpx.RemoteProtocolError):
            await post(transport)
        took_seconds = time.thread_time() - began_at
        trio.lowlevel.remove_instrument(watch)
        gc.enable()
    assert flood.is_closed
    assert flood.received <= HEAD_BYTES_MAX + len(piece)
    assert took_seconds < 0.2
    assert watch.seconds < 0.005


async def test_real_flood_of_interim_responses_ends() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        while True:
            await stream.send_all(FLOODS["interim"] * 400)

    async with serving(handle) as server, local_transport() as transport:
        with trio.fail_after(5), pytest.raises(httpx.RemoteProtocolError, match="interim"):
            await post(transport, server.url)
        await server.wait_open_connections(0)


async def test_gzip_bomb_is_not_decoded() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)
    async with serving(answering(head + bomb)) as server, local_transport() as transport:
        tracemalloc.start()
        status, body = await post(transport, server.url)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (status, body) == (200, bomb[:16384])
        assert peak < 2_000_000
        await server.wait_open_connections(0)


@pytest.mark.parametrize("framing", ["chunked", "close", "length"])
async def test_endless_body_is_cut_and_the_connection_closed(framing: str) -> None:
    sent = 0

    async def handle(stream: trio.abc.Stream) -> None:
        nonlocal sent
        await read_request(stream)
        field = {"chunked": b"transfer-encoding: chunked\r\n", "length": b"content-length: 99999999999\r\n"}
        await stream.send_all(b"HTTP/1.1 200 OK\r\n" + field.get(framing, b"") + b"\r\n")
        while True:
            piece = b"y" * 4096
            await stream.send_all(b"1000\r\n" + piece + b"\r\n" if framing == "chunked" else piece)
            sent += len(piece)

    async with serving(handle) as server, local_transport() as transport:
        response = await start(transport, server.url)
        assert await body_of(response).read() == b"y" * 16384
        assert body_of(response).is_cut
        await server.wait_open_connections(0)
        assert await post(transport, server.url, response_bytes_max=10) == (200, b"y" * 10)


# --- answers that nobody asked for


@pytest.mark.parametrize("is_apart", [False, True], ids=["in_one", "after"])
async def test_planted_second_answer_is_not_used(is_apart: bool) -> None:
    """Neither when it comes with the first, nor when it comes after it while the connection is idle."""
    planted = b"HTTP/1.1 202 Planted\r\ncontent-length: 0\r\n\r\n"
    planting = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        if server.connections > 1:
            await stream.send_all(b"HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n")
        elif is_apart:
            await stream.send_all(OK)
            await planting.wait()
            await stream.send_all(planted)
        else:
            await stream.send_all(OK + planted)
        await wait_end(stream)

    async with serving(handle) as server, local_transport() as transport:
        assert await post(transport, server.url) == (200, b"ok")
        planting.set()
        if is_apart:
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert await post(transport, server.url) == (503, b"")
        assert server.connections == 2


@pytest.mark.parametrize("leftover", [b"\r\n", b"x", b"\x00"])
async def test_one_byte_after_an_answer_costs_the_connection(leftover: bytes) -> None:
    network_streams = FakeNetworkStream(OK + leftover), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport)
        assert network_streams[0].is_closed
        await post(transport)
        assert not network_streams[1].is_closed


# --- stale kept connections


async def test_connection_that_the_peer_closed_while_idle_is_not_used() -> None:
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport)
        network_streams[0].end()
        request = post_request(httpx.URL("http://example.com/hook"), [], b"{}")
        response = await transport.handle_async_request(request)
        assert (response.extensions["reconnected"], transport.statistics().reconnects) == (False, 0)
        assert network_streams[0].sent.count(b"POST") == network_streams[1].sent.count(b"POST") == 1


@pytest.mark.parametrize("ending", ["reset", "end"])
async def test_stale_connection_costs_one_try_on_a_fresh_one_and_says_so(ending: str) -> None:
    """The peer closes just as the request goes out."""
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_when_read, network_streams[0], ending)
            progress = Progress()
            response = await start(transport, exchange=progress)
        assert progress.reconnected
        assert response.extensions["reconnected"] is True
        assert transport.statistics().reconnects == 1
        assert network_streams[0].is_closed
        assert network_streams[1].sent * 2 == network_streams[0].sent


async def end_when_read(network_stream: FakeNetworkStream, ending: str) -> None:
    await trio.testing.wait_all_tasks_blocked()
    if ending == "end":
        network_stream.end()
    else:
        network_stream.reset()


async def test_stale_connection_is_not_tried_again_once_a_byte_came(nursery: trio.Nursery) -> None:
    network_streams = FakeNetworkStream(OK), FakeNetworkStream(OK)
    async with faked(FakeDial(*network_streams)) as transport:
        await post(transport)

        async def half_an_answer() -> None:
            await trio.testing.wait_all_tasks_blocked()
            network_streams[0].say(b"H")
            network_streams[0].end()

        nursery.start_soon(half_an_answer)
        with pytest.raises(httpx.RemoteProtocolError):
            await post(transport)
        assert transport.statistics().reconnects == 0


async def test_fresh_connection_that_breaks_is_not_tried_again() -> None:
    async with faked(FakeDial(FakeNetworkStream(ends=True), FakeNetworkStream(OK))) as transport:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending"):
            await post(transport)


# --- answers before their time


@pytest.mark.parametrize("is_reading", [False, True], ids=["never_reads", "reads_after"])
async def test_early_success_counts_and_the_rest_is_still_sent(is_reading: bool) -> None:
    """A receiver may answer first and read after. One that never reads holds its attempt and cannot undo its answer."""
    received: list[int] = []
    has_received = trio.Event()

    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(17)
        await stream.send_all(OK)
        if is_reading:
            await trio.testing.wait_all_tasks_blocked(0.01)
            request = await read_request(stream)
            received.append(len(request[1]) if request else 0)
            has_received.set()
        await trio.sleep_forever()

    async with serving(handle) as server, local_transport() as transport:
        progress = Progress()
        response = await start(transport, server.url, content=BIG, exchange=progress)
        assert response.status_code == 200
        assert not progress.request_sent
        with trio.move_on_after(5 if is_reading else 0.1) as scope:
            await body_of(response).read()
        assert body_of(response).body == b"ok"
        assert (scope.cancelled_caught, progress.request_sent) == (not is_reading, is_reading)
        assert transport.statistics().connections_open == (1 if is_reading else 0)
        if is_reading:
            await has_received.wait()
            assert received == [len(BIG)]


async def test_early_refusal_ends_the_sending() -> None:
    """On a kept connection, which cannot be kept then."""

    async def handle(stream: trio.abc.Stream) -> None:
        await read_request(stream)
        await stream.send_all(OK)
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
        await trio.sleep_forever()

    async with serving(handle) as server, local_transport() as transport:
        progress = Progress()
        with trio.fail_after(5):
            assert await post(transport, server.url) == (200, b"ok")
            assert await post(transport, server.url, content=BIG, exchange=progress) == (413, b"")
        assert (progress.sending_started, progress.request_sent) == (True, False)
        assert server.connections == 1
        assert transport.statistics().connections_open == 0


async def test_answer_before_a_reset_counts_though_sending_broke() -> None:
    """A receiver that answers and closes with the request unread resets us while we write."""

    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(100)
        await stream.send_all(b"HTTP/1.1 403 X\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")

    async with serving(handle) as server, local_transport() as transport:
        for _ in range(5):
            assert await post(transport, server.url, content=BIG) == (403, b"no")
        await server.wait_open_connections(0)


async def test_receiver_that_is_gone_while_we_write_is_a_write_error() -> None:
    async def handle(stream: trio.abc.Stream) -> None:
        await stream.receive_some(100)
        peers.reset(stream)

    async with serving(handle) as server, local_transport() as transport:
        progress = Progress()
        with pytest.raises((httpx.WriteError, httpx.ReadError)):
            await post(transport, server.url, content=BIG, exchange=progress)
        assert (progress.sending_started, progress.request_sent) == (True, False)


async def test_interim_responses_are_not_answers() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    async with serving(answering(interim + OK)) as server, local_transport() as transport:
        for _ in range(2):
            assert await post(transport, server.url) == (200, b"ok")
        assert server.connections == 1


@pytest.mark.parametrize("fields", [b"", b"connection: upgrade\r\nupgrade: websocket\r\n"])
async def test_switching_protocols_is_an_answer_that_ends_its_connection(fields: bytes) -> None:
    async with faked(FakeDial(FakeNetworkStream(b"HTTP/1.1 101 Switching\r\n" + fields + b"\r\n"))) as transport:
        assert await post(transport) == (101, b"")
        assert transport.statistics().connections_open == 0


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00\xff", b"220 mail ESMTP\r\n", b"\x15\x03\x01\x00\x02"]
)
async def test_garbage_is_an_error_at_once(garbage: bytes) -> None:
    """Not when the deadline has passed: the peer stays and says no more."""
    async with faked(FakeDial(FakeNetworkStream(garbage))) as transport:
        with trio.fail_after(5), pytest.raises(httpx.RemoteProtocolError, match="not HTTP"):
            await post(transport)


async def test_odd_status_is_an_answer() -> None:
    async with faked(FakeDial(FakeNetworkStream(b"HTTP/1.1 999 \xff\xfe\r\ncontent-length: 0\r\n\r\n"))) as transport:
        assert await post(transport) == (999, b"")


# --- where it connects


@pytest.mark.parametrize("network", [each.network for each in DENIED])
async def test_no_connect_into_any_denied_range(network: str) -> None:
    address = network.partition("/")[0]
    async with faked(dial := FakeDial(), address) as transport:
        with pytest.raises(AddressDenied) as caught:
            await post(transport)
        assert (caught.value.address, dial.dialled) == (address, [])


async def test_denied_literal_is_denied_like_a_name() -> None:
    async with open_transport(policy=AddressPolicy(), dial=(dial := FakeDial()), ssl_context=peers.TLS) as transport:
        for host in (
            "127.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[64:ff9b::7f00:1]",
            "169.254.169.254",
        ):
            with pytest.raises(AddressDenied):
                await post(transport, f"http://{host}/")
        assert dial.dialled == []


@pytest.mark.parametrize("as_bytes", [False, True], ids=["str", "bytes"])
async def test_only_the_judged_address_is_connected_to_and_each_connect_is_judged(as_bytes: bool) -> None:
    """A name that is public once and private from then on, asked for in both types, with a TTL of zero."""
    answers = [["1.1.1.1"], ["127.0.0.1"], ["127.0.0.1"]]
    asked: list[bytes] = []

    def getaddrinfo(host: bytes, port: int, **_: Any) -> Sequence[tuple[Any, ...]]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in answers.pop(0)]

    dial = FakeDial(FakeNetworkStream(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"))
    async with trio.open_nursery() as nursery:
        resolver = Resolver(nursery, getaddrinfo=getaddrinfo, ttl_seconds=0)

        async def resolve(host: str, port: int) -> Sequence[str]:
            return await resolver(host.encode() if as_bytes else host, port)

        async with open_transport(
            policy=AddressPolicy(), resolve=resolve, dial=dial, ssl_context=peers.TLS
        ) as transport:
            assert await post(transport, "http://rebind.example/") == (200, b"")
            for _ in range(2):
                with pytest.raises(AddressDenied):
                    await post(transport, "http://rebind.example/")
        nursery.cancel_scope.cancel()
    assert dial.dialled == [("1.1.1.1", 80)]
    assert asked == [b"rebind.example"] * 3


async def test_mapped_address_is_connected_to_as_the_ipv4_address_that_it_is() -> None:
    dial = FakeDial(OSError(errno.ECONNREFUSED, ""))
    async with faked(dial, "::ffff:1.1.1.1", "1.1.1.1") as transport:
        with pytest.raises(httpx.ConnectError):
            await post(transport)
    assert dial.dialled == [("1.1.1.1", 80)]


async def test_mixed_public_and_private_addresses_are_denied() -> None:
    async with faked(dial := FakeDial(), "1.1.1.1", "10.0.0.1") as transport:
        with pytest.raises(AddressDenied, match=r"10\.0\.0\.1"):
            await post(transport)
        assert dial.dialled == []


SPELLINGS = [
    "127.1",
    "0177.0.0.1",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "127\u30020\u30020\u30021",
    "\uff11\uff12\uff17.0.0.1",
    "0",
    "127.0.0.1.",
    "017700000001",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_other_spellings_of_loopback_are_never_connected_to(host: str) -> None:
    """With the real getaddrinfo, which turns most of them into 127.0.0.1. A few do not get past httpx.URL."""
    async with open_transport(policy=AddressPolicy(), dial=(dial := FakeDial()), ssl_context=peers.TLS) as transport:
        with pytest.raises((httpx.ConnectError, httpx.InvalidURL)) as caught:
            await post(transport, f"http://{host}/")
        assert dial.dialled == []
        assert isinstance(caught.value, AddressDenied | httpx.InvalidURL) or "looked up" in str(caught.value)


@pytest.mark.parametrize("host", SPELLINGS)
async def test_other_spellings_of_loopback_do_not_pass_resolver_and_policy(host: str, nursery: trio.Nursery) -> None:
    """Whatever parser came before."""
    try:
        addresses = await Resolver(nursery)(host, 80)
    except httpx.ConnectError:
        addresses = ()
    assert not addresses or AddressPolicy().judge(addresses, 80) is not None
    nursery.cancel_scope.cancel()


async def test_own_listening_socket_is_denied_in_development_too() -> None:
    async with serving(answering(OK)) as server:
        policy = AddressPolicy(allow_private=True, own_sockets=lambda: [("0.0.0.0", server.port)])
        async with open_transport(policy=policy, ssl_context=peers.TLS) as transport:
            with pytest.raises(AddressDenied):
                await post(transport, server.url)
        assert server.connections == 0


# --- nothing from anywhere else


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_an_answer_and_not_followed(status: int) -> None:
    requests = 0

    async def handle(stream: trio.abc.Stream) -> None:
        nonlocal requests
        while await read_request(stream) is not None:
            requests += 1
            location = b"http://127.0.0.1:%d/other" % server.port
            await stream.send_all(b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, location))

    async with serving(handle) as server, local_transport() as transport:
        assert await post(transport, server.url) == (status, b"")
        assert requests == server.connections == 1


async def test_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Proxies, authorities and passwords from it would be somebody else's idea of where a delivery goes."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/does/not/exist")
    monkeypatch.setenv("SSL_CERT_DIR", "/does/not/exist")
    heads: list[bytes] = []

    async def handle(stream: trio.abc.Stream) -> None:
        while request := await read_request(stream):
            heads.append(request[0])
            await stream.send_all(OK)

    async with serving(handle) as server, local_transport() as transport:
        assert await post(transport, server.url) == (200, b"ok")
    assert heads[0].startswith(b"POST /hook HTTP/1.1\r\n")
    assert b"authorization" not in heads[0].lower()


async def test_cookies_are_never_sent() -> None:
    """Not over a kept connection, and not over a new one either."""
    cookie = b"HTTP/1.1 200 OK\r\nset-cookie: sid=1; path=/\r\ncontent-length: 0\r\n\r\n"
    network_streams = FakeNetworkStream(answer=cookie), FakeNetworkStream(answer=cookie)
    async with faked(FakeDial(*network_streams)) as transport:
        for endpoint in (1, 1, 2):
            assert await post(transport, endpoint=endpoint) == (200, b"")
    for network_stream in network_streams:
        assert b"POST" in network_stream.sent
        assert b"cookie" not in network_stream.sent.lower()


# --- any bytes at all


@settings(max_examples=150)
@given(
    st.lists(st.one_of(st.binary(max_size=20), st.sampled_from(OK.splitlines(keepends=True))), max_size=8),
    st.booleans(),
)
async def test_whatever_a_receiver_says_is_an_answer_or_a_transport_error(pieces: list[bytes], is_reset: bool) -> None:
    """And the connection is closed or clean."""
    network_stream = FakeNetworkStream(*(piece for piece in pieces if piece), ends=not is_reset)
    async with faked(FakeDial(network_stream)) as transport, trio.open_nursery() as nursery:
        if is_reset:
            nursery.start_soon(reset_when_read, network_stream)
        try:
            response = await start(transport)
            await body_of(response).read()
        except httpx.TransportError:
            assert network_stream.is_closed
        statistics = transport.statistics()
        assert statistics.connections_open == statistics.connections_idle
        nursery.cancel_scope.cancel()
