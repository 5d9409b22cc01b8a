"""`POST …/redeliver` and `POST …/replay`: their bodies, their answers, and what each refuses."""

import json
from typing import Any

import pytest
from hookd.core.delivery import Status
from hookd.core.settings import IntakeSettings, RetentionSettings, RetrySettings, Settings

from tests.edge.test_api import Answer, Api, refused_as, started
from tests.flow.harness import PAYLOAD, URL, Hang, at, endpoint, now

EVENT = "/v1/clients/acme/events/e1"
REDELIVER, REPLAY = f"{EVENT}/redeliver", "/v1/clients/acme/replay"
LATE = "https://late.example/hook"


async def delivered(nursery, **sections: Any) -> Api:
    api = await started(nursery, Settings(**{"retry": RetrySettings(schedule_seconds=(50.0,))} | sections))
    api.flow.admit(event_id="e1")
    await now()
    return api


async def redeliver(api: Api, body: object, path: str = REDELIVER, content_type: str = "application/json") -> Answer:
    """With the length that a server would have been told."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await api.post(path, data, content_type=content_type, content_length=str(len(data)))


def standing(api: Api) -> list[tuple[str, Status, int]]:
    event = api.flow.ledger.find("acme", "e1")
    assert event is not None
    return [(one.endpoint_id, one.status, one.attempt_count) for one in event.deliveries]


@pytest.mark.parametrize("body", [None, {}, {"endpoint_id": None}, {"endpoint_id": "default"}])
async def test_redelivery_is_accepted_and_shows_the_event(autojump_clock, nursery, body: object) -> None:
    """202, pending again, by a whole schedule more; while it is owed there is nothing to do, and that is 200."""
    api = await delivered(nursery)
    api.flow.sender.script(URL, Hang())
    answer = await (api.post(REDELIVER) if body is None else redeliver(api, body))
    assert answer.status == 202
    [delivery] = answer.body["deliveries"]
    assert (answer.body["status"], answer.body["settled_at"]) == ("pending", None)
    assert (delivery["attempt_count"], delivery["attempts_max"], delivery["reason"]) == (1, 3, None)
    assert (await api.post(REDELIVER)).status == 200
    await at(1)
    status = (await api.get("/v1/status")).body
    assert (status["events"]["pending"], status["events"]["delivered"]) == (1, 0)
    assert (status["deliveries"]["opened"], status["deliveries"]["pending"]) == (1, 1)


async def test_redelivery_opens_deliveries_to_endpoints_that_came_later(autojump_clock, nursery) -> None:
    """And they are listed with the event."""
    api = await delivered(nursery)
    api.flow.put("acme", endpoint(), endpoint("late", LATE))
    answer = await redeliver(api, {"endpoint_id": "late"})
    assert [one["endpoint_id"] for one in answer.body["deliveries"]] == ["default", "late"]
    await now()
    assert standing(api) == [("default", Status.DELIVERED, 1), ("late", Status.DELIVERED, 1)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ("default", ""),
        ({"endpoint": "default"}, "/endpoint"),
        ({"endpoint_id": 1}, "/endpoint_id"),
        ({"endpoint_id": ""}, "/endpoint_id"),
        ({"endpoint_id": "a b"}, "/endpoint_id"),
        ({"endpoint_id": "default\n"}, "/endpoint_id"),
        ({"endpoint_id": "x" * 65}, "/endpoint_id"),
        ({"endpoint_id": ["default"]}, "/endpoint_id"),
        ({"endpoint_id": "deaf"}, "/endpoint_id"),
    ],
)
async def test_wrong_redelivery_is_422_and_says_where(autojump_clock, nursery, body: object, pointer: str) -> None:
    """Nothing is sent."""
    api = await delivered(nursery)
    api.flow.put("acme", endpoint(), endpoint("deaf", LATE, event_types=("user.*",)))
    refused = refused_as(await redeliver(api, body), 422, "invalid-query")
    assert refused.pointers == [pointer]
    await now()
    assert standing(api) == [("default", Status.DELIVERED, 1)]


@pytest.mark.parametrize("path", [REDELIVER, REPLAY])
@pytest.mark.parametrize("body", [b"{", b"nothing", b"\xff", b'{"endpoint_id": "\\ud800"}', b'\xef\xbb\xbf{"a": 1}'])
async def test_body_that_is_no_json_is_400(autojump_clock, nursery, path: str, body: bytes) -> None:
    api = await delivered(nursery)
    refused_as(await redeliver(api, body, path), 400, "malformed-json")
    assert standing(api) == [("default", Status.DELIVERED, 1)]


@pytest.mark.parametrize("path", [REDELIVER, REPLAY])
async def test_body_is_of_one_media_type_and_short(autojump_clock, nursery, path: str) -> None:
    api = await delivered(nursery)
    refused_as(await redeliver(api, b"{}", path, "text/plain"), 415, "unsupported-media-type")
    refused_as(await redeliver(api, b" " * (64 * 1024 + 1), path), 413, "too-large")


async def test_whose_redelivery_it_is_must_be_there(autojump_clock, nursery) -> None:
    """404 for the client, the event and the endpoint, each by its name."""
    api = await delivered(nursery)
    refused_as(await api.post(REDELIVER.replace("acme", "nobody")), 404, "unknown-client")
    refused_as(await api.post(REDELIVER.replace("e1", "e2")), 404, "unknown-event")
    refused_as(await redeliver(api, {"endpoint_id": "nowhere"}), 404, "not-found")
    assert not api.flow.ledger.knows("nobody")


async def test_dropped_payload_is_409(autojump_clock, nursery) -> None:
    """And says what would keep more."""
    api = await delivered(nursery, retention=RetentionSettings(delivered_bytes_max=0))
    refused_as(await api.post(REDELIVER), 409, "no-payload")
    assert "delivered_bytes_max" in (await api.get("/problems/no-payload")).body.decode()
    assert (await api.post(REPLAY, {"statuses": ["delivered"]})).body["without_payload"] == 1


async def test_disabled_full_and_draining_are_said_as_elsewhere(autojump_clock, nursery) -> None:
    """409; 429 and 503 with how long to wait; nothing has changed."""
    api = await delivered(nursery)
    api.flow.ledger.ensure_health("acme", "default").disable(0.0)
    refused_as(await api.post(REDELIVER), 409, "endpoint-disabled")
    api.flow.registration.resume("acme", "default")
    api.flow.set(intake=IntakeSettings(client_events_max=0))
    assert int(refused_as(await api.post(REDELIVER), 429, "client-full").headers["retry-after"]) >= 1
    api.flow.set(intake=IntakeSettings(unsettled_events_max=0))
    assert int(refused_as(await api.post(REDELIVER), 503, "full").headers["retry-after"]) >= 1
    api.flow.intake.close()
    refused_as(await api.post(REDELIVER), 503, "draining")
    assert standing(api) == [("default", Status.DELIVERED, 1)]
    assert api.flow.balanced()


# Replay


async def test_replay_answers_what_matched_what_was_done_and_what_is_left(autojump_clock, nursery) -> None:
    """With why it stopped, when to ask again, and the `until` to go on with."""
    api = await delivered(nursery)
    for number in range(2, 5):
        api.flow.admit(event_id=f"e{number}")
    await at(2)
    api.flow.sender.script(URL, Hang())
    api.flow.set(intake=IntakeSettings(client_events_max=3))
    answer = await api.post(REPLAY, {"statuses": ["delivered"]})
    seconds = answer.body["retry_after_seconds"]
    assert answer.body == {
        "matched": 4,
        "reopened": 3,
        "left": 1,
        "without_payload": 0,
        "stopped_by": "client-full",
        "retry_after_seconds": seconds,
        "until": "2027-01-15T08:00:02.000Z",
    }
    assert seconds >= 1
    api.flow.set(intake=IntakeSettings())
    again = await api.post(REPLAY, {"statuses": ["delivered"], "until": answer.body["until"]})
    assert (again.body["matched"], again.body["reopened"], again.body["left"]) == (1, 1, 0)
    assert (again.body["stopped_by"], again.body["retry_after_seconds"]) == (None, None)


async def test_replay_takes_each_of_its_fields(autojump_clock, nursery) -> None:
    """All narrow what it finds; a dry run counts the same."""
    api = await delivered(nursery)
    api.flow.admit(event_id="e2", type="user.created")
    await now()
    wanted = {"statuses": ["delivered", "failed", "exhausted"], "endpoint_id": "default", "types": ["user.*", "!*.x"]}
    wanted |= {"since": "2027-01-15T08:00:00Z", "until": "2027-01-15T08:00:10Z"}
    counted = await api.post(REPLAY, wanted | {"dry_run": True})
    assert (counted.body["matched"], counted.body["reopened"]) == (1, 0)
    assert counted.body["until"] == "2027-01-15T08:00:10Z"
    assert (await api.post(REPLAY, wanted)).body["reopened"] == 1
    await now()
    assert standing(api) == [("default", Status.DELIVERED, 1)]
    refused_as(await api.post(REPLAY, {"endpoint_id": "nowhere"}), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        ({"statuses": []}, "/statuses"),
        ({"statuses": None}, "/statuses"),
        ({"statuses": ["pending"]}, "/statuses/0"),
        ({"statuses": ["delivered", "sent"]}, "/statuses/1"),
        ({"statuses": "delivered"}, "/statuses"),
        ({"types": []}, "/types"),
        ({"types": "invoice.*"}, "/types"),
        ({"types": ["a"] * 101}, "/types"),
        ({"types": ["invoice.paid", "a b"]}, "/types/1"),
        ({"types": ["invoice.paid\n"]}, "/types/0"),
        ({"types": [""]}, "/types/0"),
        ({"types": ["x" * 132]}, "/types/0"),
        ({"types": [7]}, "/types/0"),
        ({"endpoint_id": "a b"}, "/endpoint_id"),
        ({"endpoint_id": 1}, "/endpoint_id"),
        ({"since": "yesterday"}, "/since"),
        ({"until": 1}, "/until"),
        ({"since": "2027-01-15T08:00:02Z", "until": "2027-01-15T08:00:01Z"}, "/until"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"client_id": "acme"}, "/client_id"),
    ],
)
async def test_wrong_replay_is_422_and_says_where(autojump_clock, nursery, body: object, pointer: str) -> None:
    """Nothing is sent."""
    api = await delivered(nursery)
    refused = refused_as(await api.post(REPLAY, body), 422, "invalid-query")
    assert refused.pointers == [pointer], json.dumps(refused.body)
    assert standing(api) == [("default", Status.DELIVERED, 1)]


async def test_metrics_tell_what_was_sent_again(autojump_clock, nursery) -> None:
    """Apart from what was given up; each 2xx is one delivery more that succeeded, and the rate never falls below 0."""
    api = await delivered(nursery)
    await at(2)
    await api.post(REDELIVER)
    text = (await api.get("/metrics")).body.decode()
    assert "hookd_deliveries_redelivered_total 1.0" in text
    assert "hookd_deliveries_reopened_total 0.0" in text
    assert api.flow.housekeeping.rates().delivered >= 0
    await now()
    assert "hookd_delivery_lag_seconds_count 2.0" in (await api.get("/metrics")).body.decode()


async def test_payload_that_was_sent_again_is_the_one_that_came(autojump_clock, nursery) -> None:
    """Byte for byte, also where it is odd."""
    api = await delivered(nursery)
    await api.post(REDELIVER)
    await now()
    assert [sent.request.body for sent in api.flow.sender.transcript] == [PAYLOAD, PAYLOAD]
