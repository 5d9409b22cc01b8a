"""Scope `register`, and tokens that are held to certain clients: they see and change those alone."""

import json

import pytest
import trio
from hookd.core.settings import HttpSettings, IntakeSettings, Settings, TokenSettings
from hookd.edge.api.operations import Operation

from tests.edge.test_api import Answer, Api, event, refused_as, started
from tests.edge.test_auth import IDS, ROUTES
from tests.flow.harness import now

OTHER = "https://globex.example/hook"


def held(scope: str, *clients: str) -> TokenSettings:
    return TokenSettings(name=f"held-{scope}", scope=scope, token=f"token-{scope}-0123456789", clients=clients)


TOKENS = {scope: held(scope, "acme") for scope in ("produce", "register", "read", "admin")}
FREE = TokenSettings(name="free", scope="register", token="token-of-a-platform-0123")


async def api_of(nursery: trio.Nursery, *tokens: TokenSettings) -> Api:
    api = await started(nursery, Settings(http=HttpSettings(tokens=tokens or (*TOKENS.values(), FREE))))
    api.flow.put("globex")
    return api


class As:
    """One token's requests."""

    def __init__(self, api: Api, token: TokenSettings) -> None:
        self._api = api
        self._headers = {"authorization": f"Bearer {token.token}"}

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        return await self._api.call(method, path, body, **self._headers, **headers)


async def test_register_puts_removes_and_posts_but_reads_no_totals(autojump_clock, nursery) -> None:
    """What the event handler of a platform does: register on 404, and post again. No admin token is needed."""
    api = await api_of(nursery)
    ask = As(api, FREE)
    refused_as(await ask("POST", "/v1/events", event(client_id="new")), 404, "unknown-client")
    assert (await ask("PUT", "/v1/clients/new", {"url": OTHER})).status == 201
    posted = await ask("POST", "/v1/events", event(client_id="new", id="e1"))
    assert posted.status == 202
    await now()
    assert (await ask("GET", "/v1/clients/new/events/e1")).body["status"] == "delivered"
    assert (await ask("DELETE", "/v1/clients/new")).status == 204
    for path in ("/v1/status", "/metrics", "/v1/clients"):
        refused_as(await ask("GET", path), 403, "forbidden")
    refused_as(await ask("POST", "/v1/clients/acme/replay", {}), 403, "forbidden")


@pytest.mark.parametrize(("method", "path", "operation"), ROUTES, ids=IDS)
async def test_every_route_refuses_what_is_beyond_the_tokens_clients(
    autojump_clock, nursery, method: str, path: str, operation: Operation
) -> None:
    """Another client's path, and what speaks of the whole daemon. What the route judges itself is tested below."""
    api = await api_of(nursery)
    foreign = path.replace("<client_id>", "globex").replace("<endpoint_id>", "default").replace("<event_id>", "e1")
    answer = await api.client.open(foreign, method=method, headers={"authorization": f"Bearer {TOKENS['admin'].token}"})
    if operation.scope is None or (operation.names_clients and "<client_id>" not in path):
        assert answer.status_code != 403 or path in ("/v1/events", "/v1/notices", "/v1/settlements")
    else:
        assert answer.status_code == 403


async def test_held_tokens_work_for_their_own_client(autojump_clock, nursery) -> None:
    """A customer's support page reads, and retries, what is the customer's."""
    api = await api_of(nursery)
    assert (await As(api, TOKENS["produce"])("POST", "/v1/events", event(id="e1"))).status == 202
    assert (
        await As(api, TOKENS["produce"])("POST", "/v1/clients/acme/events", {"type": "x", "payload": 1})
    ).status == 202
    await now()
    read = As(api, TOKENS["read"])
    assert (await read("GET", "/v1/clients/acme")).status == 200
    assert (await read("GET", "/v1/events/e1")).body["client_id"] == "acme"
    assert len((await read("GET", "/v1/events?client_id=acme")).body["events"]) == 2
    assert len((await read("GET", "/v1/settlements?clients=acme")).body["settlements"]) == 2
    assert (await As(api, TOKENS["register"])("PUT", "/v1/clients/acme", {"url": OTHER})).status == 200
    admin = As(api, TOKENS["admin"])
    assert (await admin("POST", "/v1/clients/acme/endpoints/default/pause")).status == 200
    assert (await admin("POST", "/v1/clients/acme/events/e1/retry")).status == 200
    assert (await read("GET", "/openapi.json")).status == 403


async def test_events_of_others_cannot_be_posted(autojump_clock, nursery) -> None:
    """Single, batch and in part; nothing is admitted."""
    api = await api_of(nursery)
    ask = As(api, TOKENS["produce"])
    foreign, own = event(client_id="globex", id="f"), event(id="o")
    refused = refused_as(await ask("POST", "/v1/events", foreign), 403, "forbidden")
    assert "'globex'" in refused.body["detail"]
    for batch in ([own, foreign], [own] * 250 + [foreign]):  # a short one is read by another way
        refused = refused_as(await ask("POST", "/v1/events/batch", batch), 403, "forbidden")
        assert [one["pointer"] for one in refused.body["errors"]] == [f"/{len(batch) - 1}"]
    assert api.flow.ledger.totals().accepted == 0
    partly = await ask("POST", "/v1/events/batch?partial=true", [foreign, own])
    assert [one["status"] for one in partly.body["events"]] == [None, "pending"]
    assert partly.body["events"][0]["problem"]["type"] == "/problems/forbidden"
    assert api.flow.ledger.totals().accepted == 1


async def test_events_of_others_are_neither_found_nor_listed(autojump_clock, nursery) -> None:
    """The short form finds the token's own, although another client has the same id, and says nothing of that."""
    api = await api_of(nursery)
    for client_id, event_id in (("globex", "theirs"), ("globex", "both"), ("acme", "both")):
        api.flow.admit(client_id, event_id)
    await now()
    read = As(api, TOKENS["read"])
    refused_as(await read("GET", "/v1/events/theirs"), 404, "unknown-event")
    assert (await read("GET", "/v1/events/both")).body["client_id"] == "acme"
    refused_as(await read("GET", "/v1/events"), 403, "forbidden")
    refused_as(await read("GET", "/v1/events?client_id=globex"), 403, "forbidden")
    refused_as(await read("GET", "/v1/settlements"), 403, "forbidden")
    refused_as(await read("GET", "/v1/settlements?clients=acme,globex"), 403, "forbidden")
    ask = {"events": [{"client_id": "acme", "id": "both"}, {"client_id": "globex", "id": "theirs"}]}
    refused_as(await As(api, TOKENS["produce"])("POST", "/v1/events/lookup", ask), 403, "forbidden")


async def test_lines_of_others_cannot_be_sent_again(autojump_clock, nursery) -> None:
    """One foreign line refuses all of them: nothing is admitted."""
    api = await api_of(nursery)
    line = {"kind": "undelivered", "event_id": "e1", "endpoint_id": "default", "url": OTHER, "type": "x"}
    line |= {"attempt_count": 0, "payload": 1, "accepted_at": "2026-11-21T18:35:00.000Z"}
    lines = b"\n".join(json.dumps(line | {"client_id": client_id}).encode() for client_id in ("acme", "globex"))
    ask = As(api, TOKENS["admin"])
    refused_as(await ask("POST", "/v1/resend", lines, content_type="application/x-ndjson"), 403, "forbidden")
    assert api.flow.ledger.totals().accepted == 0


async def test_only_own_clients_can_be_declared_and_nothing_pruned(autojump_clock, nursery) -> None:
    api = await api_of(nursery)
    ask = As(api, TOKENS["register"])
    own = {"clients": [{"id": "acme", "url": OTHER}]}
    assert (await ask("PUT", "/v1/clients", own)).status == 200
    refused_as(await ask("PUT", "/v1/clients?prune=true", own), 403, "forbidden")
    both = {"clients": [*own["clients"], {"id": "globex", "url": OTHER}]}
    refused_as(await ask("PUT", "/v1/clients", both), 403, "forbidden")
    assert api.flow.registry.get("globex").endpoints[0].url != OTHER


async def test_page_of_an_endpoint_names_no_other_client(autojump_clock, nursery) -> None:
    """Who fills the whole budget is told to those who may see all clients."""
    free = TokenSettings(name="all", scope="read", token="token-of-an-operator-0123")
    limits = IntakeSettings(unsettled_events_max=2)
    settings = Settings(http=HttpSettings(tokens=(TOKENS["read"], free)), intake=limits)
    api = await started(nursery, settings)
    api.flow.put("globex")
    api.flow.registration.pause("globex", "default")
    api.flow.admit_many(2, "globex")
    path = "/clients/acme/endpoints/default"
    [own, whole] = [(await As(api, token)("GET", path)).body.decode() for token in (TOKENS["read"], free)]
    assert "globex/default holds 100 % of it" in whole
    assert "globex" not in own
    assert "Producers" not in own
