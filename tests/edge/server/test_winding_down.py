"""A server that is about to go: every answer says that it is the last, and nobody is closed before it had one."""

import socket

import pytest
import trio
import trio.testing

from tests.edge.server.harness import GET_LIVEZ, GET_OK, read_all, read_response, serving

POST_BODY = b"POST /body HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


@pytest.mark.parametrize("request_bytes", [GET_OK, POST_BODY, GET_LIVEZ], ids=["plain", "by_h11", "probe"])
async def test_answer_while_winding_down_closes_its_connection(request_bytes: bytes) -> None:
    """On kept connections and on new ones; until then they are kept."""
    async with serving(plain_answers={"/livez": b"ok"}) as harness, await harness.connect() as kept:
        await kept.send_all(request_bytes)
        assert b"connection: close" not in (await read_response(kept)).lower()
        await harness.server.wind_down()
        for stream in (kept, await harness.connect()):
            with trio.fail_after(5):
                await stream.send_all(request_bytes)
                answer = await read_all(stream)
            head = answer.lower().partition(b"\r\n\r\n")[0]
            assert answer.endswith(b"ok")
            assert head.count(b"connection: close") == 1
            await stream.aclose()


async def test_kept_connection_gets_its_last_answer_after_the_stop() -> None:
    """Its request was on its way when the server stopped. One that stays idle is closed when the patience ends."""
    async with serving() as harness, await harness.connect() as kept, await harness.connect() as idle:
        await kept.send_all(GET_OK)
        await read_response(kept)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await harness.server.wind_down()
        harness.server.stop(grace_seconds=60, patience_seconds=0.5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        stopped_at = trio.current_time()
        await kept.send_all(GET_OK)
        with trio.fail_after(5):
            assert b"connection: close\r\n" in await read_all(kept)
            assert await read_all(idle) == b""
            assert trio.current_time() - stopped_at >= 0.4
            await kept.aclose()
            await idle.aclose()
            await harness.ended.wait()


@pytest.mark.parametrize("has_asked", [True, False])
async def test_who_connected_before_the_stop_is_answered(has_asked: bool) -> None:
    """More than are accepted in a turn, and the server had none since: the kernel would reset them."""
    async with serving() as harness:
        port = int(harness.server.urls[0].rpartition(":")[2])
        peers = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        if has_asked:
            for peer in peers:
                peer.sendall(GET_OK)
        harness.server.stop(grace_seconds=60, patience_seconds=0.0 if has_asked else 30.0)
        await trio.testing.wait_all_tasks_blocked(0.01)
        for peer in peers:
            if not has_asked:
                peer.sendall(GET_OK)
            peer.setblocking(False)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(peer))
            with trio.fail_after(5):
                assert b"connection: close" in (await read_all(stream)).lower()
            await stream.aclose()
        with trio.fail_after(5):
            await harness.ended.wait()


async def test_held_socket_keeps_what_connects_for_the_next_server() -> None:
    """It connects while the first winds down, and after its end; the second answers it."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
        ours, next_ones = held.dup().detach(), held.dup().detach()
        async with serving((f"fd://{ours}",), held_descriptors=(ours,)) as first:
            await first.assert_alive()
            await first.server.wind_down()
            await trio.testing.wait_all_tasks_blocked(0.01)
            early = await trio.open_tcp_stream("127.0.0.1", port)
            await early.send_all(GET_OK)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert first.server.statistics().connections_open == 0
        late = await trio.open_tcp_stream("127.0.0.1", port)
        await late.send_all(GET_OK)
        async with serving((f"fd://{next_ones}",), held_descriptors=(next_ones,)):
            for stream in (early, late):
                with trio.fail_after(5):
                    assert (await read_response(stream)).startswith(b"HTTP/1.1 200")
                await stream.aclose()


async def test_socket_of_our_own_goes_on_while_winding_down() -> None:
    """On-call watches the drain by it; a held one beside it does not change that."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        ours = held.dup().detach()
        async with serving(("127.0.0.1:0", f"fd://{ours}"), held_descriptors=(ours,)) as harness:
            await harness.server.wind_down()
            await harness.assert_alive()
