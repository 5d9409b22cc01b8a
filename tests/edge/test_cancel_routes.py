"""The routes of cancel, and `expires_at` of an event: what they take, what they answer, and what they refuse."""

import json
from typing import Any

import pytest
from hookd.core.delivery import Status
from hookd.core.timestamps import rfc3339

from tests.edge.test_api import Answer, Api, event, refused_as, started
from tests.flow.harness import EPOCH, URL, Hang, at, now

RANGE = "/v1/clients/acme/cancel"


async def asked(api: Api, path: str, body: object) -> Answer:
    """With the length that a server would have been told."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await api.post(path, data, content_type="application/json", content_length=str(len(data)))


async def waiting(nursery: Any) -> Api:
    """One event, `e1`, that waits at an endpoint that an operator paused."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    assert (await api.post("/v1/events", event(id="e1"))).status == 202
    return api


def path(event_id: str = "e1") -> str:
    return f"/v1/clients/acme/events/{event_id}/cancel"


async def test_cancel_of_an_event_answers_202_with_the_event_and_then_200(autojump_clock, nursery) -> None:
    """The second has nothing to do."""
    api = await waiting(nursery)
    answer = await api.post(path())
    assert answer.status == 202
    [delivery] = answer.body["deliveries"]
    assert (delivery["status"], delivery["reason"], delivery["ends_as"]) == ("exhausted", "cancelled", None)
    assert (await api.post(path())).status == 200
    listed = await api.get("/v1/events?reason=cancelled")
    assert [one["id"] for one in listed.body["events"]] == ["e1"]
    settled = (await api.get("/v1/settlements")).body["settlements"]
    assert [one["reason"] for one in settled] == ["cancelled"]
    assert b'hookd_deliveries_exhausted_total{reason="cancelled"} 1' in (await api.get("/metrics")).body


async def test_event_in_flight_shows_what_it_ends_as(autojump_clock, nursery) -> None:
    """Until its attempt has ended."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang())
    await api.post("/v1/events", event(id="e1"))
    await now()
    [delivery] = (await asked(api, path(), {"endpoint_id": "default"})).body["deliveries"]
    assert (delivery["status"], delivery["in_flight"], delivery["ends_as"]) == ("pending", True, "cancelled")
    assert delivery["expires_at"] is None
    await at(20)
    [delivery] = (await api.get("/v1/clients/acme/events/e1")).body["deliveries"]
    assert (delivery["reason"], delivery["ends_as"]) == ("cancelled", None)


@pytest.mark.parametrize(
    ("body", "status", "slug", "pointer"),
    [
        (b"{", 400, "malformed-json", None),
        (b"\xff", 400, "malformed-json", None),
        ([], 422, "invalid-query", ""),
        ({"endpoint": "default"}, 422, "invalid-query", "/endpoint"),
        ({"endpoint_id": 1}, 422, "invalid-query", "/endpoint_id"),
        ({"endpoint_id": "no blank"}, 422, "invalid-query", "/endpoint_id"),
        ({"endpoint_id": "nobody"}, 404, "not-found", None),
        (b" " * 70_000, 413, "too-large", None),
    ],
)
async def test_bad_cancel_of_an_event_is_refused_and_cancels_nothing(
    autojump_clock, nursery, body, status, slug, pointer
) -> None:
    """The documented problem, with a pointer where one field is wrong."""
    api = await waiting(nursery)
    answer = refused_as(await asked(api, path(), body), status, slug)
    if pointer is not None:
        assert answer.body["errors"][0]["pointer"] == pointer
    assert api.flow.events()[0].status is Status.PENDING


@pytest.mark.parametrize(
    ("body", "status", "slug", "pointer"),
    [
        (b"", 400, "malformed-json", None),
        ({"since": "yesterday"}, 422, "invalid-query", "/since"),
        ({"until": "2026-11-21T18:35:00"}, 422, "invalid-query", "/until"),
        ({"since": "2026-11-21T18:35:00Z", "until": "2026-11-20T18:35:00Z"}, 422, "invalid-query", "/until"),
        ({"types": "invoice.paid"}, 422, "invalid-query", "/types"),
        ({"types": []}, 422, "invalid-query", "/types"),
        ({"types": ["a"] * 101}, 422, "invalid-query", "/types"),
        ({"types": ["a", "no blank"]}, 422, "invalid-query", "/types/1"),
        ({"endpoint_id": "no blank"}, 422, "invalid-query", "/endpoint_id"),
        ({"endpoint_id": "nobody"}, 404, "not-found", None),
        ({"dry_run": "yes"}, 422, "invalid-query", "/dry_run"),
        ({"statuses": ["pending"]}, 422, "invalid-query", "/statuses"),
    ],
)
async def test_bad_range_is_refused_and_cancels_nothing(autojump_clock, nursery, body, status, slug, pointer) -> None:
    """The documented problem, with a pointer where one field is wrong."""
    api = await waiting(nursery)
    answer = refused_as(await asked(api, RANGE, body), status, slug)
    if pointer is not None:
        assert answer.body["errors"][0]["pointer"].startswith(pointer)
    assert api.flow.events()[0].status is Status.PENDING


async def test_range_answers_with_its_counts(autojump_clock, nursery) -> None:
    """A dry run counts, and changes nothing; who is not there is refused."""
    api = await waiting(nursery)
    assert (await asked(api, RANGE, {"dry_run": True})).body == {"matched": 1, "cancelled": 0, "in_flight": 0}
    matches = {"since": rfc3339(EPOCH), "until": rfc3339(EPOCH), "types": ["invoice.*"], "endpoint_id": "default"}
    assert (await asked(api, RANGE, {"types": ["!invoice.*"]})).body["matched"] == 0
    assert (await asked(api, RANGE, matches)).body == {"matched": 1, "cancelled": 1, "in_flight": 0}
    refused_as(await asked(api, "/v1/clients/nobody/cancel", {}), 404, "unknown-client")
    refused_as(await api.post("/v1/clients/nobody/events/e1/cancel"), 404, "unknown-client")
    refused_as(await api.post(path("e2")), 404, "unknown-event")


@pytest.mark.parametrize(
    "wrong",
    ["soon", "", "2026-11-21", "2026-11-21T18:35:00", "2026-13-21T18:35:00Z", "1969-12-31T23:59:59Z", 5, [], {}],
)
async def test_bad_expiry_is_refused_and_nothing_is_admitted(autojump_clock, nursery, wrong) -> None:
    """With a pointer to it: singly, in a batch of either form, and beside other mistakes."""
    api = await started(nursery)
    bad = event(id="e1", expires_at=wrong)
    for at_, answer in (
        ("", await api.post("/v1/events", bad)),
        ("", await api.post("/v1/clients/acme/events", bad)),
        ("/1", await api.post("/v1/events/batch", [event(), bad])),
        ("/1", await api.ndjson("/v1/events/batch", event(), bad)),
    ):
        refused_as(answer, 422, "invalid-event")
        assert [one["pointer"] for one in answer.body["errors"]] == [f"{at_}/expires_at"]
    both = refused_as(await api.post("/v1/events", event(type="no blank", expires_at=wrong)), 422, "invalid-event")
    assert {one["pointer"] for one in both.body["errors"]} >= {"/expires_at"}
    assert api.flow.events() == []


async def test_expiry_is_shown_as_it_was_given(autojump_clock, nursery) -> None:
    """In UTC with milliseconds; null is none; a delivery shows the sooner of that and its age."""
    api = await started(nursery)
    api.flow.registration.pause("acme", "default")
    given = {"later": "2030-01-01T02:00:00+02:00", "soon": rfc3339(EPOCH + 60), "none": None}
    for event_id, expires_at in given.items():
        assert (await api.post("/v1/events", event(id=event_id, expires_at=expires_at))).status == 202
    api.flow.registration.resume("acme", "default")
    api.flow.sender.script(URL, Hang())
    shown = {one["id"]: one for one in (await api.get("/v1/events")).body["events"]}
    assert {key: one["expires_at"] for key, one in shown.items()} == {
        "later": "2030-01-01T00:00:00.000Z",
        "soon": rfc3339(EPOCH + 60),
        "none": None,
    }
    assert {key: one["deliveries"][0]["expires_at"] for key, one in shown.items()} == {
        "later": rfc3339(EPOCH + 3600),
        "soon": rfc3339(EPOCH + 60),
        "none": rfc3339(EPOCH + 3600),
    }


async def test_event_that_names_its_expiry_twice_is_refused(autojump_clock, nursery) -> None:
    """Decoders disagree which one counts."""
    api = await started(nursery)
    text = json.dumps(event(expires_at=rfc3339(EPOCH + 60)))
    twice = text[:-1] + f', "expires_at": "{rfc3339(EPOCH + 90)}"}}'
    refused_as(await api.post("/v1/events", twice.encode()), 422, "invalid-event")
    batch = b"[" + twice.encode() + b"]"
    refused_as(await api.post("/v1/events/batch", batch), 422, "invalid-event")
