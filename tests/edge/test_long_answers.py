"""Answers that are long, and those that nobody takes: pages end early, what is held is bounded, probes get through."""

import json
import re
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hookd.core.settings import HttpSettings, IntakeSettings, Settings
from hookd.edge.api import create_app
from hookd.edge.api.answer_budget import SHORT_BYTES_MAX
from hookd.edge.api.pages import PAGE_BYTES_MAX
from hookd.edge.server.api_server import Server

from tests.edge.server.harness import read_all
from tests.edge.test_api import Api, started
from tests.flow.harness import Flow, Hang, endpoint
from tests.turns import turns_of_another

MIB = 2**20
# What a page may hold beside its rows: the brackets, the cursor.
AROUND_BYTES = 200
LONG_URL = "https://e.example/" + "x" * 2000


def settings(sending_bytes_max: int = 64 * MIB, **intake: int) -> Settings:
    return Settings(http=HttpSettings(sending_bytes_max=sending_bytes_max), intake=IntakeSettings(**intake))


def wide(flow: Flow, client_id: str = "acme") -> None:
    """A client whose events are long where they are shown: 16 endpoints with long URLs, 35 KiB an event."""
    flow.sender.script(LONG_URL, Hang())
    flow.put(client_id, *(endpoint(f"e{n}", LONG_URL) for n in range(16)))


async def listed(api: Api, path: str, field: str) -> tuple[list[str], int]:
    """The ids of all pages, and how many pages there were; none is longer than it may be."""
    ids: list[str] = []
    cursor, pages = "", 0
    while True:
        response = await api.client.get(f"{path}{cursor}")
        data = await response.get_data(as_text=False)
        assert response.status_code == 200
        assert len(data) <= PAGE_BYTES_MAX + AROUND_BYTES
        body = json.loads(data)
        ids += [row["id"] for row in body[field]]
        pages += 1
        if body["next_cursor"] is None:
            return ids, pages
        cursor = f"&cursor={body['next_cursor']}"


async def test_page_of_events_ends_early_and_its_cursor_goes_on(autojump_clock, nursery) -> None:
    """Each event stands on one page, in order, although events come in between."""
    api = await started(nursery, settings())
    wide(api.flow)
    events = [event.id for event in api.flow.admit_many(100)]
    ids, pages = await listed(api, "/v1/events?limit=1000", "events")
    assert ids == events[::-1]
    assert pages == pytest.approx(100 * 35_000 / MIB, abs=2)
    assert await listed(api, "/v1/events?limit=1000&client_id=acme", "events") == (ids, pages)
    few, _ = await listed(api, "/v1/events?limit=7", "events")
    assert few == ids


async def test_page_of_clients_ends_early_and_its_cursor_goes_on(autojump_clock, nursery) -> None:
    api = await started(nursery, settings())
    for number in range(100):
        wide(api.flow, f"c{number:03}")
    ids, pages = await listed(api, "/v1/clients?limit=1000", "clients")
    assert ids == ["acme", *(f"c{number:03}" for number in range(100))]
    assert pages > 2


async def test_row_that_is_longer_than_a_page_stands_alone(autojump_clock, nursery) -> None:
    """Else its listing would never end."""
    api = await started(nursery, settings())
    api.flow.sender.script(LONG_URL, Hang())
    api.flow.put("acme", *(endpoint(f"e{n}", LONG_URL) for n in range(600)))
    events = [event.id for event in api.flow.admit_many(3)]
    cursor = ""
    for event_id in events[::-1]:
        answer = await api.get(f"/v1/events?limit=9{cursor}")
        assert [row["id"] for row in answer.body["events"]] == [event_id]
        cursor = f"&cursor={answer.body['next_cursor']}"
    assert answer.body["next_cursor"] is None


@pytest.mark.parametrize("path", ["/v1/events?limit=1000", "/v1/clients?limit=1000"])
async def test_long_page_gives_others_a_turn(autojump_clock, nursery, path: str) -> None:
    """However many ask: one page is made at a time, a slice of it in each turn of the others."""
    api = await started(nursery, settings())
    for number in range(30):
        wide(api.flow, f"c{number}")
        api.flow.admit(f"c{number}")
    await trio.testing.wait_all_tasks_blocked()
    async with turns_of_another() as turns, trio.open_nursery() as askers:
        for _ in range(5):
            askers.start_soon(api.get, path)
    assert turns.count > 5 * 30 * 30_000 / 40_000  # 30 rows of 30 KB, in slices of 32 KiB


@pytest.mark.parametrize("asked", ["/v1/settlements?limit=1000", "/metrics", "PUT"])
async def test_many_that_ask_for_what_takes_milliseconds_are_answered_a_turn_each(
    autojump_clock, nursery, asked: str
) -> None:
    """Before: all forty in one turn of the event loop, which is as long as all of them together."""
    api = await started(nursery, settings())
    api.flow.admit_many(100)
    await trio.testing.wait_all_tasks_blocked()

    async def ask(number: int) -> None:
        if asked == "PUT":
            assert (await api.put(f"/v1/clients/c{number}", {"url": "https://e.example/"})).status == 201
        else:
            assert (await api.client.get(asked)).status_code == 200

    async with turns_of_another() as turns, trio.open_nursery() as askers:
        for number in range(40):
            askers.start_soon(ask, number)
    assert turns.count >= 40


class Door:
    """The application behind the server, and peers that may not read: nothing is buffered on the way."""

    def __init__(self, flow: Flow, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.server = Server(create_app(flow.services()), [], log=lambda *_, **__: None)

    async def send(self, request: bytes) -> Any:
        ours, theirs = trio.testing.lockstep_stream_pair()
        self._nursery.start_soon(self.server.handle, ours)
        await theirs.send_all(request)
        await trio.testing.wait_all_tasks_blocked()
        return theirs

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        peer = await self.send(request)
        with trio.fail_after(60):
            answer = await read_all(peer)
        return int(answer[9:12]), answer


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


def post(path: str, body: Any) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def new_event(event_id: str) -> dict[str, Any]:
    return {"client_id": "plain", "type": "t", "id": event_id, "payload": 1}


async def test_answers_that_nobody_takes_are_bounded(autojump_clock, nursery) -> None:
    """Of 40 that ask for a page and do not read, as many have one as there is room for; the others wait."""
    flow = Flow(settings(8 * MIB))
    await flow.start(nursery)
    wide(flow)
    flow.put("plain")
    flow.admit_many(100)
    door = Door(flow, nursery)
    peers = [await door.send(get("/v1/events?limit=1000")) for _ in range(40)]
    heads = [await peer.receive_some(200) for peer in peers]
    statuses = [int(head[9:12]) for head in heads]
    assert statuses.count(200) == 4  # half of 8 MiB
    assert statuses.count(503) == 36
    status, answer = await door.ask(get("/v1/events?limit=1000"))
    assert status == 503
    assert b"/problems/full" in answer
    assert b"http.sending_bytes_max" in answer
    assert b"\r\nretry-after: 1\r\n" in answer
    # What is short goes on, and so does what changes something.
    for path in ("/livez", "/readyz", "/v1/status", "/metrics", "/v1/events?limit=1&client_id=plain"):
        assert (await door.ask(get(path)))[0] == 200
    assert (await door.ask(post("/v1/events", new_event("a"))))[0] == 202
    assert (await door.ask(post("/v1/events", new_event("a"))))[0] == 200
    assert (await door.ask(post("/v1/events/batch", [new_event("b")])))[0] == 202
    for peer in peers:
        await peer.aclose()
    await trio.testing.wait_all_tasks_blocked()
    status, answer = await door.ask(get("/v1/events?limit=1000"))
    assert (status, len(answer) > MIB // 2) == (200, True)


async def test_writers_that_do_not_read_are_bounded_too_and_admit_nothing_then(autojump_clock, nursery) -> None:
    """Refused before anything of the batch is admitted. One event, whose answer is short, always gets in."""
    flow = Flow(settings(MIB))
    await flow.start(nursery)
    flow.put("plain")
    door = Door(flow, nursery)
    refused = post("/v1/events/batch?partial=true", [0] * 1000)
    peers = [await door.send(refused) for _ in range(12)]
    statuses = [int((await peer.receive_some(200))[9:12]) for peer in peers]
    assert set(statuses) == {202, 503}
    assert statuses == sorted(statuses)
    assert (await door.ask(post("/v1/events/batch", [new_event("b")])))[0] == 503
    assert flow.events() == []
    assert (await door.ask(post("/v1/events", new_event("a"))))[0] == 202
    assert (await door.ask(get("/livez")))[0] == 200
    for peer in peers:
        await peer.aclose()


@pytest.mark.parametrize("end", ["taken", "cut", "late"])
async def test_answers_count_until_they_are_taken_however_that_ends(autojump_clock, nursery, end: str) -> None:
    """Nothing stays counted, so that the budget does not leak away."""
    flow = Flow(settings(4 * MIB))
    await flow.start(nursery)
    wide(flow)
    flow.admit_many(100)
    door = Door(flow, nursery)
    for _ in range(6):
        peer = await door.send(get("/v1/events?limit=1000"))
        assert (await peer.receive_some(12)).endswith(b"200")
        if end == "taken":
            assert re.search(rb'"next_cursor":"\w+"}$', await read_all(peer))
        elif end == "late":
            await trio.sleep(11)  # virtual; the server's deadline for a write is 10 s
        await peer.aclose()
        await trio.testing.wait_all_tasks_blocked()


async def test_short_answers_do_not_count(autojump_clock, nursery) -> None:
    """A connection is reckoned to hold as much; else a thousand of them would keep readers out."""
    flow = Flow(settings(2 * SHORT_BYTES_MAX))
    await flow.start(nursery)
    flow.put()
    door = Door(flow, nursery)
    peers = [await door.send(get("/v1/clients")) for _ in range(50)]
    assert {int((await peer.receive_some(12))[9:12]) for peer in peers} == {200}
    for peer in peers:
        await peer.aclose()


async def test_new_settings_hold_for_the_next_answer(autojump_clock, nursery) -> None:
    """As after SIGHUP."""
    api = await started(nursery)
    wide(api.flow)
    api.flow.admit_many(10)
    assert (await api.get("/v1/events")).status == 200
    api.flow.set(http=msgspec.structs.replace(HttpSettings(), sending_bytes_max=1))
    assert (await api.get("/v1/events")).status == 503


async def test_client_with_much_that_settled_is_shown_without_a_look_at_it(autojump_clock, nursery) -> None:
    """The age of its oldest unsettled event, for each endpoint, is found among the unsettled ones alone."""
    flow = Flow()
    await flow.start(nursery)
    flow.put("acme", endpoint("a"), endpoint("b", LONG_URL))
    flow.admit_many(50)
    await trio.testing.wait_all_tasks_blocked()
    assert list(flow.ledger.unsettled) == []
    flow.sender.script(LONG_URL, Hang())
    await trio.sleep(10)  # virtual
    first = flow.admit_many(3)[0]
    await trio.testing.wait_all_tasks_blocked()
    assert flow.ledger.oldest_unsettled("acme") == {"b": first.since}
    answer = await Api(flow).get("/v1/clients/acme")
    health = {one["id"]: one["health"] for one in answer.body["endpoints"]}
    assert health["a"]["oldest_unsettled_seconds"] is None
    assert health["b"]["oldest_unsettled_seconds"] == pytest.approx(0, abs=1)
    assert answer.body["unsettled"] == 3
