"""One request through the real application and server, over streams in memory: hung up on, cut short, and refused."""

import json

import pytest
import trio
import trio.testing
from hookd.core.settings import HttpSettings, RetrySettings, TokenSettings

from tests.edge.server.harness import read_all, read_response
from tests.edge.test_body_budget import GET_LIVEZ, HEAD, closing, read_response_of, started, with_length
from tests.flow.harness import URL, Hang, now

EVENT = json.dumps({"client_id": "acme", "type": "t", "payload": 1}).encode()
TOKEN = "token-of-ops-0123456789"
NOWHERE = HEAD.replace(b"/v1/events", b"/nowhere")


def get(path: str, *headers: bytes) -> bytes:
    return b"".join(
        [
            b"GET %s HTTP/1.1\r\n" % path.encode(),
            *(header + b"\r\n" for header in (b"Host: localhost", *headers)),
            b"\r\n",
        ]
    )


def post(path: str, body: bytes = b"") -> bytes:
    return with_length(body).replace(b"/v1/events", path.encode(), 1)


async def test_waiting_answer_ends_when_its_peer_resets(autojump_clock, nursery) -> None:
    """A test attempt that hangs is not waited for on behalf of nobody."""
    front = await started(nursery)
    front.flow.sender.script(URL, Hang())
    ours, peer = trio.testing.memory_stream_pair()
    nursery.start_soon(front.server.handle, ours)
    await peer.send_all(post("/v1/clients/acme/endpoints/default/test"))
    await now()
    assert front.flow.sender.flying == 1
    ours.receive_stream.close()  # as a reset: reading fails
    await now()
    assert front.flow.sender.flying == 0
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "path", ["/v1/clients/acme/endpoints/default/test", "/v1/settlements?wait_seconds=60", "/v1/status", "/metrics"]
)
async def test_half_closed_caller_gets_its_answer(path: str, autojump_clock, nursery) -> None:
    """The end of its sending is no hang-up, also where the answer takes its time."""
    front = await started(nursery)
    front.flow.sender.script(URL, Hang())
    peer = await front.connect()
    await peer.send_all(post(path) if path.endswith("/test") else get(path))
    await peer.send_eof()
    assert (await read_all(peer)).startswith(b"HTTP/1.1 200")


async def test_replay_stops_when_its_peer_resets(autojump_clock, nursery) -> None:
    """It reads a body and waits after it: of 3,000 events some are reopened, and what was is in the log."""
    front = await started(nursery)
    front.flow.set(retry=RetrySettings(schedule_seconds=()))
    front.flow.sender.script(URL, 404)
    front.flow.admit_many(3000)
    await now()
    front.flow.sender.script(URL, Hang())
    ours, peer = trio.testing.memory_stream_pair()
    nursery.start_soon(front.server.handle, ours)
    await peer.send_all(post("/v1/clients/acme/replay", b"{}"))
    while not front.flow.sender.flying:
        await trio.lowlevel.checkpoint()
    ours.receive_stream.close()  # as a reset: reading fails
    await trio.testing.wait_all_tasks_blocked()
    (line,) = front.flow.log.of("client.replayed")
    assert 0 < line["reopened"] == line["matched"] < 3000  # of what it had looked at by then


async def test_answer_to_half_a_body_that_goes_on_does_not_hold_up_the_server(autojump_clock, nursery) -> None:
    """404 before the body is in: a peer that sends on and on reads its answer and is closed, and holds no place."""
    front = await started(nursery)
    peer = await front.connect()

    async def send_on() -> None:
        await peer.send_all(NOWHERE + b"Content-Length: 90000000\r\n\r\n")
        try:
            while True:
                await peer.send_all(bytes(65536))
                await trio.sleep(0.01)  # virtual
        except trio.BrokenResourceError:
            pass

    with trio.fail_after(5):
        async with trio.open_nursery() as sending:
            sending.start_soon(send_on)
            assert (await read_all(peer)).startswith(b"HTTP/1.1 404")
    assert not front.server.statistics().connections_open


async def test_peer_that_sends_while_its_answer_waits_does_not_hold_up_the_server(autojump_clock, nursery) -> None:
    """A body that no route reads, and an answer that goes out as it is read: both ways move until the end."""
    front = await started(nursery)
    ours, peer = trio.testing.lockstep_stream_pair()
    nursery.start_soon(front.server.handle, ours)
    with trio.fail_after(5):
        await peer.send_all(get("/v1/clients", b"Content-Length: 90000000"))
        for _ in range(100):
            await peer.send_all(bytes(65536))
        assert (await read_all(peer)).startswith(b"HTTP/1.1 200")


async def test_next_request_is_read_after_one_whose_body_no_route_read(autojump_clock, nursery) -> None:
    """Refused, read by nobody, with a body or without one: the connection goes on, as does what comes with it."""
    front = await started(nursery)
    peer = await front.connect()
    for _ in range(20):
        await peer.send_all(NOWHERE + b"Content-Length: 1000\r\n\r\n" + bytes(1000))
        await read_response_of(peer, b"HTTP/1.1 404")
        await peer.send_all(get("/v1/clients", b"Content-Length: 3") + b"abc")
        await read_response_of(peer, b"HTTP/1.1 200")
        await peer.send_all(with_length(EVENT))
        await read_response_of(peer, b"HTTP/1.1 202")
    await peer.send_all(GET_LIVEZ)
    await read_response(peer, b"ok\n")


NO_NAMES = ["a" * 64, "xn--", "\xff", "a..b", ".", "[", "%"]


@pytest.mark.parametrize("name", NO_NAMES)
async def test_host_that_is_no_name_is_foreign(name: str, autojump_clock, nursery) -> None:
    """Quart's own look at it ends in a 500 where a label has 64 letters."""
    front = await started(nursery)
    answer = await front.ask(closing(get("/v1/clients").replace(b"localhost", name.encode("latin1"))))
    assert answer.startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize("name", NO_NAMES)
async def test_host_that_is_no_name_does_not_matter_with_a_token(name: str, autojump_clock, nursery) -> None:
    front = await started(nursery)
    front.flow.set(http=HttpSettings(tokens=(TokenSettings(name="ops", scope="admin", token=TOKEN),)))
    for token, status in ((TOKEN, b"200"), ("x", b"401")):
        asked = get("/v1/clients", b"Authorization: Bearer " + token.encode())
        answer = await front.ask(closing(asked.replace(b"localhost", name.encode("latin1"))))
        assert answer.startswith(b"HTTP/1.1 " + status)
