"""What was sent: an event's payload, an endpoint's last attempts, and the listing's filters."""

from typing import Any

import pytest
from hookd.core.settings import RetentionSettings, RetrySettings, Settings
from hookd.core.timestamps import rfc3339

from tests.edge.test_api import Answer, Api, event, refused_as, started
from tests.flow.harness import EPOCH, URL, Hang, at, endpoint, now
from tests.turns import turns_of_another

OTHER = "https://other.example/"
SOON = Settings(retry=RetrySettings(schedule_seconds=(5.0,), jitter=0.0))


def attempts_of(answer: Answer) -> list[tuple[str, int, int | None]]:
    assert answer.status == 200, answer
    return [
        (one["event_id"], one["attempt"]["number"], one["attempt"]["status_code"]) for one in answer.body["attempts"]
    ]


async def listed(api: Api, query: str) -> list[str]:
    answer = await api.get(f"/v1/events?{query}")
    assert answer.status == 200, answer
    return [one["id"] for one in answer.body["events"]]


@pytest.mark.parametrize("payload", [b'{"a" : 1.50, "\\u00e9":[ ]}', b'"\xc3\xa9"', b"null", b"1e400"])
async def test_payload_is_shown_as_it_came(autojump_clock, nursery, payload: bytes) -> None:
    """Byte for byte, while the event is unsettled and after."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang())
    body = b'{"client_id": "acme", "id": "e1", "type": "x", "payload": %s}' % payload
    assert (await api.call("POST", "/v1/events", body, content_type="application/json")).status == 202
    response = await api.client.get("/v1/clients/acme/events/e1/payload")
    assert (response.status_code, response.content_type) == (200, "application/json")
    assert await response.get_data(as_text=False) == payload


async def test_payload_that_is_held_no_more_is_410(autojump_clock, nursery) -> None:
    """The event itself is still known; one that never was is 404."""
    api = await started(nursery, Settings(retention=RetentionSettings(delivered_bytes_max=0)))
    await api.post("/v1/events", event(id="e1"))
    await now()
    refused_as(await api.get("/v1/clients/acme/events/e1/payload"), 410, "payload-forgotten")
    assert (await api.get("/v1/clients/acme/events/e1")).status == 200
    refused_as(await api.get("/v1/clients/acme/events/e2/payload"), 404, "unknown-event")
    refused_as(await api.get("/v1/clients/nobody/events/e1/payload"), 404, "unknown-client")


async def test_last_attempts_are_listed_newest_first_of_whatever_event(autojump_clock, nursery) -> None:
    """Of this endpoint alone, up to the limit; what is in flight is among them."""
    api = await started(nursery, SOON)
    api.flow.put("acme", endpoint(), endpoint("other", OTHER))
    api.flow.sender.script(URL, 500, 404, 200, Hang())
    for second, event_id in ((0, "e0"), (1, "e1"), (7, "e2")):
        await at(second)
        await api.post("/v1/events", event(id=event_id))
        await now()
    await at(8)
    path = "/v1/clients/acme/endpoints/default/attempts"
    found = [("e2", 1, None), ("e1", 2, None), ("e0", 2, 200), ("e1", 1, 404), ("e0", 1, 500)]
    assert attempts_of(await api.get(path)) == found
    assert attempts_of(await api.get(f"{path}?limit=2")) == attempts_of(await api.get(path))[:2]
    others = attempts_of(await api.get("/v1/clients/acme/endpoints/other/attempts"))
    assert [event_id for event_id, _, _ in others] == ["e2", "e1", "e0"]
    api.flow.put("idle")
    assert attempts_of(await api.get("/v1/clients/idle/endpoints/default/attempts")) == []


async def test_attempts_of_nobody_are_404(autojump_clock, nursery) -> None:
    api = await started(nursery)
    refused_as(await api.get("/v1/clients/nobody/endpoints/default/attempts"), 404, "unknown-client")
    refused_as(await api.get("/v1/clients/acme/endpoints/nothing/attempts"), 404, "not-found")
    refused_as(await api.get("/v1/clients/acme/endpoints/default/attempts?limit=0"), 422, "invalid-query")


async def test_attempts_are_looked_for_in_slices(autojump_clock, nursery) -> None:
    """Others have their turns beside a search of many events."""
    api = await started(nursery)
    api.flow.admit_many(4000)
    await now()
    async with turns_of_another() as turns:
        assert len(attempts_of(await api.get("/v1/clients/acme/endpoints/default/attempts?limit=1000"))) == 1000
    assert turns.count >= 4


async def test_events_are_listed_by_time_endpoint_and_reason(autojump_clock, nursery) -> None:
    """Each filter by itself and together. With an endpoint, status and reason are those of its delivery."""
    api = await started(nursery, SOON)
    api.flow.put("acme", endpoint(give_up_on=(400,)), endpoint("other", OTHER, event_types=("both",)))
    api.flow.sender.script(URL, 400, 200, 500, 500, 200)
    for second, event_id, event_type in ((0, "e0", "one"), (10, "e1", "both"), (20, "e2", "both"), (40, "e3", "one")):
        await at(second)
        await api.post("/v1/events", event(id=event_id, type=event_type))
        await now()
    await at(60)
    assert await listed(api, "") == ["e3", "e2", "e1", "e0"]
    assert await listed(api, f"since={rfc3339(EPOCH + 10)}&until={rfc3339(EPOCH + 20)}") == ["e2", "e1"]
    assert await listed(api, f"until={rfc3339(EPOCH + 9.999)}") == ["e0"]
    assert await listed(api, "endpoint_id=other") == ["e2", "e1"]
    assert await listed(api, "reason=refused") == ["e0"]
    assert await listed(api, "reason=attempts_used") == ["e2"]
    assert await listed(api, "reason=expired") == []
    assert await listed(api, "endpoint_id=other&status=delivered") == ["e2", "e1"]
    assert await listed(api, "endpoint_id=default&status=delivered") == ["e3", "e1"]
    assert await listed(api, "status=exhausted") == ["e2", "e0"]
    assert await listed(api, f"endpoint_id=default&reason=attempts_used&since={rfc3339(EPOCH + 20)}&type=both") == [
        "e2"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "until=2026-11-21",
        "since=2026-11-21T18:35:00",
        "reason=tired",
        "endpoint_id=a%20b",
        "since=2026-11-21T18:35:01Z&until=2026-11-21T18:35:00Z",
    ],
)
async def test_filter_that_is_none_is_refused(autojump_clock, nursery, query: str) -> None:
    refused_as(await (await started(nursery)).get(f"/v1/events?{query}"), 422, "invalid-query")


async def test_filtered_page_looks_at_so_many_rows_and_goes_on(autojump_clock, nursery) -> None:
    """A page that found nothing has a cursor; the last has none."""
    api = await started(nursery)
    api.flow.admit_many(10_500)
    await now()
    found: list[Any] = []
    cursor = ""
    for _ in range(20):
        answer = await api.get(f"/v1/events?reason=expired{cursor}")
        found.append(answer.body["events"])
        if answer.body["next_cursor"] is None:
            break
        cursor = f"&cursor={answer.body['next_cursor']}"
    assert answer.body["next_cursor"] is None
    assert not any(found)
    assert len(found) > 1
