"""`PUT /v1/clients`: the whole registry in one call, in force together or not at all."""

import json
import tracemalloc
from typing import Any

import pytest
import trio
from hookd.core.batch import BYTES_AT_ONCE
from hookd.core.client import Client
from hookd.core.settings import IntakeSettings, RegistrySettings, Settings

from tests.edge.test_api import Answer, Api, refused_as, started
from tests.flow.harness import endpoint, now
from tests.turns import turns_of_another

CLIENTS = "/v1/clients"
URL, OTHER = "https://acme.example/hook", "https://other.example/hook"


def one(client_id: str, url: str = OTHER, **fields: Any) -> dict[str, Any]:
    return {"id": client_id, "endpoints": [{"url": url, **fields}]}


async def declare(api: Api, *clients: object, query: str = "") -> Answer:
    return await api.put(CLIENTS + query, {"clients": list(clients)})


def changes(answer: Answer) -> dict[str, str]:
    assert answer.status == 200, answer
    return {row["id"]: row["change"] for row in answer.body["clients"]}


def registered(api: Api) -> dict[str, str]:
    return {client.id: client.endpoints[0].url for client in api.flow.registry}


async def test_declared_clients_are_registered_replaced_or_left_as_they_are(autojump_clock, nursery) -> None:
    """What is not in the list stays; secrets made are told once; the same again changes nothing and makes nothing."""
    api = await started(nursery)
    listed = [
        one("acme"),
        one("new"),
        {"id": "short", "url": URL},
        {"id": "two", "endpoints": [{"id": "a", "url": URL}, {"id": "b", "url": OTHER}]},
    ]
    api.flow.put("stays")
    answer = await declare(api, *listed)
    assert changes(answer) == {"acme": "replaced", "new": "registered", "short": "registered", "two": "registered"}
    assert answer.body["removed"] == []
    assert [sorted(row["secrets"]) for row in answer.body["clients"]] == [[], ["default"], ["default"], ["a", "b"]]
    before = {client.id: client for client in api.flow.registry}
    assert registered(api) == {"acme": OTHER, "stays": URL, "new": OTHER, "short": URL, "two": URL}
    again = await declare(api, *listed)
    assert set(changes(again).values()) == {"unchanged"}
    assert not any(row["secrets"] for row in again.body["clients"])
    assert all(api.flow.registry.get(client_id) is client for client_id, client in before.items())
    lines = [line for line in api.flow.log.lines if line["event"] == "clients.declared"]
    assert [(line["registered"], line["replaced"], line["unchanged"], line["removed"]) for line in lines] == [
        (3, 1, 0, 0),
        (0, 0, 4, 0),
    ]


async def test_prune_removes_what_the_api_registered_and_the_list_lacks(autojump_clock, nursery) -> None:
    """The config file's clients stay; an empty list removes all others."""
    api = await started(nursery)
    api.flow.registration.take_config([Client(id="file", endpoints=(endpoint(),), managed_by_config=True)])
    api.flow.put("gone")
    answer = await declare(api, one("acme"), query="?prune=true")
    assert answer.body["removed"] == ["gone"]
    assert sorted(registered(api)) == ["acme", "file"]
    assert (await declare(api, query="?prune=true")).body["removed"] == ["acme"]
    assert sorted(registered(api)) == ["file"]


async def test_what_would_end_unsettled_deliveries_is_refused_whole(autojump_clock, nursery) -> None:
    """By a client that goes and by an endpoint that goes; `end_unsettled` ends both, with their reason."""
    api = await started(nursery)
    api.flow.put("two", endpoint("a", URL), endpoint("b", URL))
    for client_id, endpoint_id in (("acme", "default"), ("two", "a"), ("two", "b")):
        api.flow.registration.pause(client_id, endpoint_id)
    for client_id in ("acme", "two"):
        api.flow.admit(client_id, "e1")
        api.flow.admit(client_id, "e2")
    await now()
    before = registered(api)
    listed = ({"id": "two", "endpoints": [{"id": "a", "url": OTHER}]}, one("new"))
    refused = refused_as(await declare(api, *listed, query="?prune=true"), 409, "unsettled-deliveries")
    assert refused.body["unsettled_deliveries"] == 4
    assert registered(api) == before
    answer = await declare(api, *listed, query="?prune=true&end_unsettled=true")
    assert (changes(answer), answer.body["removed"]) == ({"two": "replaced", "new": "registered"}, ["acme"])
    await now()
    for client_id, reasons in (("acme", ["endpoint_removed"]), ("two", [None, "endpoint_removed"])):
        for event_id in ("e1", "e2"):
            found = await api.get(f"/v1/clients/{client_id}/events/{event_id}")
            assert [one["reason"] for one in found.body["deliveries"]] == reasons


async def test_new_urls_hold_for_what_waits(autojump_clock, nursery) -> None:
    """As after a PUT of one."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    api.flow.admit(event_id="e1")
    await now()
    await declare(api, one("acme", OTHER))
    assert (await api.get("/v1/clients/acme/events/e1")).body["deliveries"][0]["url"] == OTHER
    api.flow.registration.resume("acme", "default")
    await now()
    assert (await api.get("/v1/clients/acme/events/e1")).body["status"] == "delivered"
    assert [sent.request.url for sent in api.flow.sender.transcript] == [OTHER]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ([], [""]),
        ({}, ["/clients"]),
        ({"clients": {}}, ["/clients"]),
        ({"clients": [], "x": 1}, ["/x"]),
        ({"clients": [1]}, ["/clients/0"]),
        ({"clients": [{"url": OTHER}]}, ["/clients/0"]),
        ({"clients": [one("a b")]}, ["/clients/0"]),
        ({"clients": [one("a"), one("b"), one("a")]}, ["/clients/2/id"]),
        (
            {"clients": [one("a", "ftp://x"), {"id": "b"}, one("c", timeout="1y", x=1)]},
            ["/clients/0/endpoints/0/url", "/clients/1", "/clients/2/endpoints/0/x", "/clients/2/endpoints/0/timeout"],
        ),
    ],
)
async def test_every_mistake_is_told_and_nothing_registered(
    autojump_clock, nursery, body: object, pointers: list[str]
) -> None:
    api = await started(nursery)
    refused = refused_as(await api.put(CLIENTS, body), 422, "invalid-client")
    assert [mistake["pointer"] for mistake in refused.body["errors"]] == pointers
    assert registered(api) == {"acme": URL}


async def test_mistakes_are_looked_for_up_to_a_hundred(autojump_clock, nursery) -> None:
    api = await started(nursery)
    refused = refused_as(await declare(api, *[one("a", "ftp://x")] * 500), 422, "invalid-client")
    assert len(refused.body["errors"]) == 100


@pytest.mark.parametrize("body", [b"", b'{"clients": [', b'{"clients": [{"id": "a"},]}', b'{"clients": [1 2]}'])
async def test_body_that_is_no_json_is_400(autojump_clock, nursery, body: bytes) -> None:
    refused_as(await (await started(nursery)).put(CLIENTS, body), 400, "malformed-json")


async def test_clients_of_the_config_file_refuse_the_whole_list(autojump_clock, nursery) -> None:
    api = await started(nursery)
    api.flow.registration.take_config([Client(id="file", endpoints=(endpoint(),), managed_by_config=True)])
    refused_as(await declare(api, one("new"), one("file")), 409, "managed-by-config")
    assert sorted(registered(api)) == ["acme", "file"]


async def test_more_than_the_registry_holds_is_409_and_nothing_is_registered(autojump_clock, nursery) -> None:
    """Counted in the list, and with those registered; pruned ones make room in the same step."""
    api = await started(nursery, Settings(registry=RegistrySettings(clients_max=3)))
    refused_as(await declare(api, *(one(f"c{number}") for number in range(4))), 409, "registry-full")
    three = [one(f"c{number}") for number in range(3)]
    refused_as(await declare(api, *three), 409, "registry-full")
    assert sorted(registered(api)) == ["acme"]
    assert (await declare(api, *three, query="?prune=true")).status == 200
    assert sorted(registered(api)) == ["c0", "c1", "c2"]


async def test_draining_daemon_declares_nothing(autojump_clock, nursery) -> None:
    api = await started(nursery)
    api.flow.intake.close()
    refused_as(await declare(api, one("new")), 503, "draining")
    assert sorted(registered(api)) == ["acme"]


async def test_definitions_that_take_much_memory_are_refused(autojump_clock, nursery) -> None:
    """Small bodies, large clients: what they take is counted as they are read."""
    api = await started(nursery, Settings(intake=IntakeSettings(body_bytes_max=64 * 1024)))
    many = [
        {"id": f"c{number}", "endpoints": [{"id": f"e{at}", "url": "https://a.b/"} for at in range(16)]}
        for number in range(40)
    ]
    refused = refused_as(await declare(api, *many), 413, "too-large")
    assert "intake.body_bytes_max" in refused.body["detail"]
    assert sorted(registered(api)) == ["acme"]


async def test_change_that_comes_between_is_not_overwritten_unseen(autojump_clock, nursery) -> None:
    """A PUT and a removal while a long list is compared: it is compared again, and counts for both."""
    api = await started(nursery)
    listed = {f"c{number}": Client(id=f"c{number}", endpoints=(endpoint(),)) for number in range(1000)}
    found: list[Any] = []

    async def declare_all() -> None:
        found.extend(await api.flow.declaration.declare(listed, prune=True))

    async with trio.open_nursery() as others:
        others.start_soon(declare_all)
        await trio.lowlevel.checkpoint()
        assert not found
        api.flow.put("c1", endpoint(url=OTHER))
        api.flow.put("late")
        api.flow.registration.remove("acme")
    changed = {change.client_id: change.name for change in found}
    assert (changed["c1"], changed["late"]) == ("replaced", "removed")
    assert "acme" not in changed
    assert sorted(registered(api)) == sorted(listed)
    assert registered(api)["c1"] == URL


async def test_others_have_their_turn_beside_a_long_declaration(autojump_clock, nursery) -> None:
    """5,000 clients are read, compared and followed in slices."""
    api = await started(nursery)
    async with turns_of_another() as turns:
        assert len(changes(await declare(api, *(one(f"c{number}") for number in range(5000))))) == 5000
    assert turns.count > 5000 / 20 + 5000 / 100


async def test_long_declaration_is_taken_apart_where_its_array_begins(autojump_clock, nursery) -> None:
    """It is not read as a whole first: what is wrong behind a hundred mistakes is not come to."""
    api = await started(nursery)
    answer = await api.put(CLIENTS, b'{ "clients" : [' + b"0," * BYTES_AT_ONCE)
    refused_as(answer, 422, "invalid-client")
    assert len(answer.body["errors"]) == 100
    assert answer.body["errors"][0]["pointer"] == "/clients/0"


@pytest.mark.parametrize(("behind", "status"), [(b"} ", 200), (b', "clients": []}', 400), (b"", 400), (b"} 0", 400)])
async def test_long_declaration_is_one_object_with_one_list(
    autojump_clock, nursery, behind: bytes, status: int
) -> None:
    """What follows the list is looked at before anything is registered."""
    api = await started(nursery)
    space = b" " * (BYTES_AT_ONCE // 2)
    answer = await api.put(CLIENTS, b'{"clients":[' + space + json.dumps(one("new")).encode() + space + b"]" + behind)
    assert answer.status == status, answer
    assert ("new" in registered(api)) == (status == 200)


def test_definition_is_charged_before_it_is_registered() -> None:
    """What waits in a list takes no more than it is said to."""
    tracemalloc.start()
    try:
        clients = [
            Client(
                id=f"c{number}",
                endpoints=tuple(
                    endpoint(f"e{at}", f"https://e{at}.c{number}.example/", event_types=(f"a{at}.{number}",))
                    for at in range(4)
                ),
            )
            for number in range(100)
        ]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held <= sum(client.definition_bytes for client in clients)


async def test_paused_endpoints_are_paused_in_the_moment_they_are_registered(autojump_clock, nursery) -> None:
    """However long the list is: an event that comes next finds it so."""
    api = await started(nursery)
    listed = {f"c{number}": Client(id=f"c{number}", endpoints=(endpoint(paused=True),)) for number in range(500)}
    seen: list[bool] = []

    async def look() -> None:
        while api.flow.registry.find("c499") is None:
            await trio.lowlevel.checkpoint()
        health = api.flow.ledger.health("c499", "default")
        seen.append(health is not None and health.is_held)

    async with trio.open_nursery() as others:
        others.start_soon(look)
        await api.flow.declaration.declare(listed)
    assert seen == [True]
