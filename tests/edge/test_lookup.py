"""`POST /v1/events/lookup`: which events are known, and how they stand."""

import json

import pytest
from hookd.core.settings import IntakeSettings, Settings

from tests.edge.test_api import refused_as, started
from tests.flow.harness import Hang, now

LOOKUP = "/v1/events/lookup"
URL = "https://acme.example/hook"


def asked(*ids: str, client_id: str = "acme") -> dict[str, list[dict[str, str]]]:
    return {"events": [{"client_id": client_id, "id": event_id} for event_id in ids]}


async def test_known_events_have_their_status_and_others_null(autojump_clock, nursery) -> None:
    """In the order asked for, twice if asked twice; an unknown client is no error; nothing is made by it."""
    api = await started(nursery)
    api.flow.admit(event_id="done")
    await now()
    api.flow.sender.script(URL, Hang())
    api.flow.admit(event_id="waits")
    await now()
    answer = await api.post(LOOKUP, asked("waits", "never", "done", "waits"))
    assert answer.status == 200
    statuses = ["pending", None, "delivered", "pending"]
    assert [one["status"] for one in answer.body["events"]] == statuses
    assert answer.body["events"][1] == {"client_id": "acme", "id": "never", "status": None}
    assert (await api.post(LOOKUP, asked("done", client_id="nobody"))).body["events"][0]["status"] is None
    assert (await api.post(LOOKUP, {"events": []})).body == {"events": []}
    assert api.flow.registry.find("nobody") is None
    assert api.flow.ledger.totals().accepted == 2


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({}, "/events"),
        ({"events": None}, "/events"),
        ({"events": {}}, "/events"),
        ({"events": [1]}, "/events/0"),
        ({"events": [{"client_id": "acme", "id": "e"}, {"client_id": "acme"}]}, "/events/1/id"),
        ({"events": [{"client_id": "acme", "id": 1}]}, "/events/0/id"),
        ({"events": [{"client_id": "acme", "id": "e", "x": 1}]}, "/events/0/x"),
        ({"events": [{"client_id": "no blank", "id": "e"}]}, "/events/0/client_id"),
        ({"events": [{"client_id": "acme", "id": "e\n"}]}, "/events/0/id"),
        ({"events": [], "more": 1}, "/more"),
    ],
)
async def test_wrong_lookup_is_422_and_says_where(autojump_clock, nursery, body: object, pointer: str) -> None:
    refused = refused_as(await (await started(nursery)).post(LOOKUP, body), 422, "invalid-event")
    assert [one["pointer"] for one in refused.body["errors"]] == [pointer]


@pytest.mark.parametrize("body", [b"", b"{", b"nothing", b'{"events": [', b"\xff"])
async def test_body_that_is_no_json_is_400(autojump_clock, nursery, body: bytes) -> None:
    refused_as(await (await started(nursery)).post(LOOKUP, body), 400, "malformed-json")


async def test_more_than_a_batch_is_413_before_anything_is_built(autojump_clock, nursery) -> None:
    """By their number, also of what is not JSON to its end, and by their bytes."""
    api = await started(nursery, Settings(intake=IntakeSettings(batch_events_max=3)))
    assert (await api.post(LOOKUP, asked("a", "b", "c"))).status == 200
    refused = refused_as(await api.post(LOOKUP, asked("a", "b", "c", "d")), 413, "too-large")
    assert "intake.batch_events_max" in refused.body["detail"]
    refused_as(await api.post(LOOKUP, b"{" * 5), 413, "too-large")
    refused_as(await api.post(LOOKUP, json.dumps(asked("a")).encode() + b" " * 4096), 413, "too-large")
