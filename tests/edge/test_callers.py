"""What one token may hold of what all share: it gets 429 beyond its share, and the other token never waits for it.

Through the real application, in virtual time; no sockets.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.settings import HttpSettings, IntakeSettings, Settings, TokenSettings
from hookd.edge.api import create_app
from hookd.edge.api.callers import Caller, Callers
from hookd.edge.server.api_server import Server

from tests.edge.server.harness import read_all
from tests.flow.harness import Flow, Hang, endpoint

KIB, MIB = 1024, 2**20
GREEDY, OTHER = (
    TokenSettings(name=name, scope="admin", token=f"token-of-{name}-012345") for name in ("greedy", "other")
)
EVENT = b'{"client_id": "acme", "type": "t", "payload": "%s"}'
LONG_URL = "https://e.example/" + "x" * 2000
WAITING = "/v1/settlements?wait_seconds=60&cursor="  # for the next


def settings(*tokens: TokenSettings, connections_max: int = 1000, sending_bytes_max: int = 64 * MIB) -> Settings:
    return Settings(
        http=HttpSettings(tokens=tokens, connections_max=connections_max, sending_bytes_max=sending_bytes_max),
        intake=IntakeSettings(payload_bytes_max=8 * KIB, body_bytes_max=40 * KIB, receiving_bytes_max=100 * KIB),
    )


class Door:
    """The application behind the server; nothing is buffered on the way, so an answer waits until it is read."""

    def __init__(self, flow: Flow, nursery: trio.Nursery) -> None:
        self.flow = flow
        self._nursery = nursery
        connections_max = flow.effective.settings.http.connections_max
        self.server = Server(create_app(flow.services()), [], log=flow.log, connections_max=connections_max)
        trio.lowlevel.add_instrument(self.server._terms.gates.turns)  # as `serve` does

    async def send(self, data: bytes) -> Any:
        ours, theirs = trio.testing.lockstep_stream_pair()
        self._nursery.start_soon(self.server.handle, ours)
        with trio.move_on_after(1):  # virtual; what is refused is not read to its end
            await theirs.send_all(data)
        await trio.testing.wait_all_tasks_blocked()
        return theirs

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        peer = await self.send(data)
        with trio.fail_after(60):  # virtual
            answer = await read_all(peer)
        return int(answer[9:12]), answer

    @asynccontextmanager
    async def holding(self, peers: int, data: bytes) -> AsyncIterator[None]:
        held = [await self.send(data) for _ in range(peers)]
        yield
        for peer in held:
            await peer.aclose()
        await trio.testing.wait_all_tasks_blocked()


async def opened(nursery: trio.Nursery, *tokens: TokenSettings, **named: int) -> Door:
    flow = Flow(settings(*tokens, **named))
    await flow.start(nursery)
    flow.put()
    return Door(flow, nursery)


def request(token: TokenSettings, method: str, path: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token.token}\r\nconnection: close\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


def refused(answer: tuple[int, bytes], setting: str) -> None:
    status, data = answer
    assert status == 429
    assert b"\r\nretry-after: 1\r\n" in data
    problem = json.loads(data.partition(b"\r\n\r\n")[2])
    assert problem["type"] == "/problems/client-full"
    assert "the token 'greedy' has " in problem["detail"]
    assert f"one token's share of {setting} is " in problem["detail"]


async def test_bodies_of_one_token_leave_room_for_anothers(autojump_clock, nursery) -> None:
    """Of 100 KiB it holds 30, and may hold 50. Before: 90, and the other's body of 20 KiB was refused with 503."""
    door = await opened(nursery, GREEDY, OTHER)
    begun = request(GREEDY, "POST", "/v1/events/batch", b"[" + b" " * 30 * KIB, length=35 * KIB)
    async with door.holding(1, begun):
        refused(await door.ask(begun), "intake.receiving_bytes_max")
        async with door.holding(1, begun.replace(GREEDY.token.encode(), OTHER.token.encode())):
            good = request(OTHER, "POST", "/v1/events", EVENT % (b"x" * 7 * KIB))
            assert (await door.ask(good))[0] == 202
    async with door.holding(1, begun):  # its share is free again
        pass
    assert len(door.flow.events()) == 1


@pytest.mark.parametrize("tokens", [(GREEDY,), ()])
async def test_only_token_has_no_share(autojump_clock, nursery, tokens: tuple[TokenSettings, ...]) -> None:
    """There is nobody to keep anything for: three bodies of 30 KiB at once are taken."""
    door = await opened(nursery, *tokens)
    begun = request(GREEDY, "POST", "/v1/events/batch", b"[" + b" " * 30 * KIB, length=35 * KIB)
    begun = begun.replace(b"host: h", b"host: localhost")
    async with door.holding(3, begun):
        status, answer = await door.ask(begun)
        assert (status, b"/problems/full" in answer) == (503, True)


async def test_requests_in_progress_of_one_token_leave_connections_for_anothers(autojump_clock, nursery) -> None:
    """Two of four wait for settlements. Before: all four, and the other token got 503 for a minute."""
    door = await opened(nursery, GREEDY, OTHER, connections_max=4)
    door.flow.set(http=settings(GREEDY, OTHER, connections_max=400).http)  # a reload: that takes a restart
    async with door.holding(2, request(GREEDY, "GET", f"{WAITING}{await cursor(door)}")):
        for _ in range(5):
            refused(await door.ask(request(GREEDY, "GET", "/v1/status")), "http.connections_max")
            slow = request(GREEDY, "POST", "/v1/events", b"{", length=30 * KIB)
            refused(await door.ask(slow), "http.connections_max")
        assert (await door.ask(request(OTHER, "GET", "/v1/status")))[0] == 200
        assert (await door.ask(b"GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"))[0] == 200
        await trio.sleep(61)  # virtual; until then the answers are to come
    assert (await door.ask(request(GREEDY, "GET", "/v1/status")))[0] == 200


async def cursor(door: Door) -> str:
    _, answer = await door.ask(request(OTHER, "GET", "/v1/settlements"))
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["next_cursor"])


async def test_answers_that_one_token_does_not_take_leave_room_for_anothers(autojump_clock, nursery) -> None:
    """Of 4 MiB for pages it holds two of 1 MiB. Before: all four, and the other's page was refused with 503."""
    door = await opened(nursery, GREEDY, OTHER, sending_bytes_max=8 * MIB)
    door.flow.sender.script(LONG_URL, Hang())
    door.flow.put("wide", *(endpoint(f"e{n}", LONG_URL) for n in range(16)))
    door.flow.admit_many(100, "wide")
    page = "/v1/events?limit=1000"
    async with door.holding(2, request(GREEDY, "GET", page)):
        refused(await door.ask(request(GREEDY, "GET", page)), "http.sending_bytes_max")
        assert (await door.ask(request(OTHER, "GET", page)))[0] == 200
        assert (await door.ask(request(GREEDY, "GET", "/v1/status")))[0] == 200  # it is short
    assert (await door.ask(request(GREEDY, "GET", page)))[0] == 200


def test_nothing_is_kept_of_a_caller_without_a_request() -> None:
    callers = Callers(EffectiveSettings(settings(GREEDY, OTHER)))
    entered = [callers.enter("a"), callers.enter("b"), callers.enter("a")]
    assert entered[0] is entered[2]
    for caller in entered:
        callers.leave(caller)
    assert callers._callers == {}


def test_share_has_room_for_one_at_least() -> None:
    """One connection, one body, one page; an odd number is divided upward."""
    effective = EffectiveSettings(settings(GREEDY, OTHER, connections_max=1, sending_bytes_max=1))
    caller = Caller("greedy", effective, 1)
    caller.refuse_request_over_share()
    assert caller.body_over_share(50 * KIB) is None
    assert caller.body_over_share(50 * KIB + 1) is not None
    caller.refuse_answer_over_share(MIB, bytes_max=10, least=MIB)
