"""The HTTP API of contract section 5 through the real application, in virtual time; no sockets."""

import functools
import json
from typing import Any, NamedTuple

import msgspec
import pytest
import trio
from hookd.core.client import Client
from hookd.core.settings import DeliverySettings, IntakeSettings, RegistrySettings, RetentionSettings, Settings
from hookd.core.timestamps import rfc3339
from hookd.edge.api import create_app
from hookd.edge.api.openapi import describe
from hookd.edge.api.rendering import status_view

from tests.edge.conformity import Conformity
from tests.flow.harness import EPOCH, SECRET, URL, Flow, Hang, Held, at, endpoint, now

JSON = {"content-type": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}
PROBLEM = "application/problem+json"
OTHER = "https://other.example/hook"
EVENT: dict[str, Any] = {"client_id": "acme", "type": "invoice.paid", "payload": {"amount": 1}}


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any

    @property
    def pointers(self) -> list[str]:
        return [mistake["pointer"] for mistake in self.body["errors"]]


class Api:
    """The application over a `Flow`, called as a producer would."""

    def __init__(self, flow: Flow, **services: Any) -> None:
        self.flow = flow
        self.services = flow.services(**services)
        self.app = create_app(self.services)
        self.client = self.app.test_client()
        self._conformity: Conformity | None = None

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """`body` goes as JSON unless it is bytes already."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        given = (JSON if body is not None else {}) | {name.replace("_", "-"): value for name, value in headers.items()}
        response = await self.client.open(path, method=method, data=data, headers=given)
        answer = await answer_of(response)
        if self._conformity is None:
            document = describe(self.app, version="0", has_tokens=True)  # a test may give some to a daemon without
            self._conformity = conformity(msgspec.json.encode(document))
        if method != "HEAD":
            self._conformity.check(method, path, answer.status, answer.headers, answer.body)
        return answer

    async def get(self, path: str) -> Answer:
        return await self.call("GET", path)

    async def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return await self.call("POST", path, body, **headers)

    async def put(self, path: str, body: object, **headers: str) -> Answer:
        return await self.call("PUT", path, body, **headers)

    async def delete(self, path: str) -> Answer:
        return await self.call("DELETE", path)

    async def ndjson(self, path: str, *lines: object) -> Answer:
        body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
        return await self.post(path, body, content_type=NDJSON["content-type"])


@functools.cache
def conformity(document: bytes) -> Conformity:
    return Conformity(json.loads(document))


async def answer_of(response: Any) -> Answer:
    data = await response.get_data(as_text=False)
    is_json = "json" in (response.content_type or "")
    answer = Answer(response.status_code, json.loads(data) if is_json else data, response.headers)
    if answer.status >= 400:
        assert response.content_type == PROBLEM
        assert answer.body["status"] == answer.status
        assert answer.body["type"].startswith("/problems/")
        assert answer.body["title"]
        assert answer.body["detail"]
    return answer


def refused_as(answer: Answer, status: int, slug: str) -> Answer:
    assert (answer.status, answer.body.get("type")) == (status, f"/problems/{slug}"), answer.body
    return answer


def event(**fields: Any) -> dict[str, Any]:
    return EVENT | fields


async def started(nursery: trio.Nursery, settings: Settings | None = None, **services: Any) -> Api:
    """Running, with client `acme` at URL."""
    flow = Flow(settings)
    await flow.start(nursery)
    flow.put()
    return Api(flow, **services)


def bounded(**fields: int) -> Settings:
    return Settings(intake=IntakeSettings(**fields))


# Admission of one event


async def test_post_is_answered_202_with_the_event_as_it_stands(autojump_clock, nursery) -> None:
    """Location, and every field of the contract's event."""
    api = await started(nursery)
    answer = await api.post("/v1/events", event(id="mine"))
    assert answer.status == 202
    assert answer.headers["location"] == "/v1/clients/acme/events/mine"
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == {
        "id": "mine",
        "client_id": "acme",
        "type": "invoice.paid",
        "status": "pending",
        "unrouted": False,
        "accepted_at": rfc3339(EPOCH),
        "expires_at": None,
        "settled_at": None,
        "deliveries": [
            {
                "endpoint_id": "default",
                "url": URL,
                "status": "pending",
                "reason": None,
                "in_flight": False,
                "attempt_count": 0,
                "attempts_max": 6,
                "next_attempt_at": rfc3339(EPOCH),
                "expires_at": rfc3339(EPOCH + 3600),
                "ends_as": None,
                "attempts": [],
            }
        ],
    }


async def test_post_is_answered_at_once_while_every_receiver_hangs(autojump_clock, nursery) -> None:
    """202 in zero virtual time, singly and in batches, with every slot taken by receivers that never answer."""
    api = await started(nursery, Settings(delivery=DeliverySettings(connections_max=10)))
    for number in range(5):
        api.flow.put(f"c{number}", endpoint(url=f"https://c{number}.example/"))
        api.flow.sender.script(f"https://c{number}.example/", Hang())
    answers = []
    for number in range(200):
        answers.append(await api.post("/v1/events", event(client_id=f"c{number % 5}")))
    answers.append(await api.post("/v1/events/batch", [event(client_id="c0") for _ in range(500)]))
    assert trio.current_time() == 0
    assert {answer.status for answer in answers} == {202}
    assert api.flow.sender.flying == 10
    assert (await api.get("/v1/status")).body["events"]["pending"] == 700


async def test_post_with_client_in_the_path_takes_it_from_there(autojump_clock, nursery) -> None:
    """Without client_id in the body, or with the same; another is a mistake."""
    api = await started(nursery)
    bare = {"type": "invoice.paid", "payload": 1}
    assert (await api.post("/v1/clients/acme/events", bare)).body["client_id"] == "acme"
    assert (await api.post("/v1/clients/acme/events", event())).status == 202
    answer = refused_as(await api.post("/v1/clients/acme/events", event(client_id="other")), 422, "invalid-event")
    assert answer.pointers == ["/client_id"]
    refused_as(await api.post("/v1/clients/nobody/events", bare), 404, "unknown-client")


async def test_payload_is_delivered_byte_for_byte(autojump_clock, nursery) -> None:
    """White space, key order, escapes and big numbers arrive as they were posted."""
    api = await started(nursery)
    payload = b'{ "b": 1.0,\n "a" : "\\u00e9\xc3\xa9", "n": 123456789012345678901234567890 }'
    body = b'{"client_id": "acme", "type": "t", "payload": ' + payload + b"}"
    assert (await api.post("/v1/events", body)).status == 202
    await now()
    assert api.flow.sender.transcript[0].request.body == payload


async def test_known_id_is_answered_200_and_another_event_409(autojump_clock, nursery) -> None:
    """The same again is the event as it stands; another payload or type under the id is a conflict."""
    api = await started(nursery)
    first = await api.post("/v1/events", event(id="e1"))
    await now()
    again = await api.post("/v1/events", event(id="e1"))
    assert (first.status, again.status) == (202, 200)
    assert again.body["status"] == "delivered"
    assert again.headers["location"] == first.headers["location"]
    refused_as(await api.post("/v1/events", event(id="e1", payload=2)), 409, "id-conflict")
    refused_as(await api.post("/v1/events", event(id="e1", type="other")), 409, "id-conflict")
    assert len(api.flow.sender.transcript) == 1


async def test_known_id_is_told_apart_after_its_payload_was_dropped(autojump_clock, nursery) -> None:
    """The digest stands in for the bytes that retention let go."""
    api = await started(nursery, Settings(retention=RetentionSettings(delivered_bytes_max=1)))
    await api.post("/v1/events", event(id="e1"))
    await now()
    kept = api.flow.ledger.find("acme", "e1")
    assert kept is not None
    assert kept.payload is None
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    refused_as(await api.post("/v1/events", event(id="e1", payload=2)), 409, "id-conflict")


@pytest.mark.parametrize(
    ("content_type", "others"),
    [
        ("text/plain", {}),
        ("application/x-ndjson", {}),
        ("application/json; charset=latin-1", {}),
        ("application/json", {"content_encoding": "gzip"}),
    ],
)
async def test_media_type_not_taken_is_415(autojump_clock, nursery, content_type, others) -> None:
    """JSON in UTF-8, as it is; a charset that says so is fine."""
    api = await started(nursery)
    answer = await api.post("/v1/events", event(), content_type=content_type, **others)
    refused_as(answer, 415, "unsupported-media-type")
    assert (await api.post("/v1/events", event(), content_type="application/json; charset=UTF-8")).status == 202


async def test_post_without_media_type_is_415(autojump_clock, nursery) -> None:
    """Nothing is guessed."""
    api = await started(nursery)
    response = await api.client.open("/v1/events", method="POST", data=b"{}", headers={})
    refused_as(await answer_of(response), 415, "unsupported-media-type")


async def test_payload_too_large_is_413(autojump_clock, nursery) -> None:
    """Measured as posted; at the limit it is taken."""
    api = await started(nursery, bounded(payload_bytes_max=100))
    assert (await api.post("/v1/events", event(payload="x" * 98))).status == 202
    answer = refused_as(await api.post("/v1/events", event(payload="x" * 99)), 413, "too-large")
    assert answer.pointers == ["/payload"]


async def test_body_announced_too_large_is_413_before_it_is_read(autojump_clock, nursery) -> None:
    """By Content-Length: no byte of the body is waited for."""
    api = await started(nursery, bounded(payload_bytes_max=100, body_bytes_max=1000))
    headers = JSON | {"content-length": "1001"}
    async with api.client.request("/v1/events", method="POST", headers=headers) as connection:
        pass
    refused_as(await answer_of(await connection.as_response()), 413, "too-large")
    assert trio.current_time() == 0


async def test_body_growing_too_large_is_413(autojump_clock, nursery) -> None:
    """Chunked, with no length announced: refused as soon as it is over, not at its end."""
    api = await started(nursery, bounded(payload_bytes_max=100, body_bytes_max=1000))
    async with api.client.request("/v1/events", method="POST", headers=JSON) as connection:
        for _ in range(3):
            await connection.send(b" " * 400)
    refused_as(await answer_of(await connection.as_response()), 413, "too-large")
    assert trio.current_time() == 0


async def test_body_in_chunks_is_taken(autojump_clock, nursery) -> None:
    """However it is cut."""
    api = await started(nursery)
    async with api.client.request("/v1/events", method="POST", headers=JSON) as connection:
        data = json.dumps(event()).encode()
        for start in range(0, len(data), 20):
            await connection.send(data[start : start + 20])
            await now()
        await connection.send_complete()
    assert (await answer_of(await connection.as_response())).status == 202


async def test_body_that_does_not_end_is_408(autojump_clock, nursery) -> None:
    """After a minute, with nothing admitted."""
    api = await started(nursery)
    async with api.client.request("/v1/events", method="POST", headers=JSON) as connection:
        await connection.send(json.dumps(event()).encode()[:20])
    refused_as(await answer_of(await connection.as_response()), 408, "body-timeout")
    assert trio.current_time() == 60
    assert api.flow.events() == []


async def test_producer_hanging_up_in_its_body_admits_nothing(autojump_clock, nursery) -> None:
    """What has not wholly arrived is not an event."""
    api = await started(nursery)
    with trio.move_on_after(1):  # the test client waits for an answer that nobody is there to get
        async with api.client.request("/v1/events", method="POST", headers=JSON) as connection:
            await connection.send(json.dumps(event()).encode()[:-1])
            await now()
            await connection.disconnect()
    assert api.flow.events() == []
    assert (await api.post("/v1/events", event())).status == 202


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"client_id": ...}, "/client_id"),
        ({"client_id": 1}, "/client_id"),
        ({"type": ...}, "/type"),
        ({"type": ""}, "/type"),
        ({"type": "a b"}, "/type"),
        ({"type": "x" * 129}, "/type"),
        ({"payload": ...}, "/payload"),
        ({"id": "a/b"}, "/id"),
        ({"id": "x" * 65}, "/id"),
        ({"id": 7}, "/id"),
        ({"when": "now"}, "/when"),
    ],
)
async def test_event_of_wrong_shape_is_422_with_pointer(autojump_clock, nursery, fields, pointer) -> None:
    """Missing, mistyped, illegal and unknown fields are named."""
    api = await started(nursery)
    body = {name: value for name, value in event(**fields).items() if value is not ...}
    answer = refused_as(await api.post("/v1/events", body), 422, "invalid-event")
    assert answer.pointers == [pointer]
    assert api.flow.events() == []


async def test_event_with_several_mistakes_names_them_all(autojump_clock, nursery) -> None:
    """One round trip is enough to learn of each."""
    api = await started(nursery)
    answer = refused_as(await api.post("/v1/events", event(type="?", id="?")), 422, "invalid-event")
    assert answer.pointers == ["/type", "/id"]


@pytest.mark.parametrize(("depth", "status"), [(1000, 202), (1001, 422), (100_000, 422)])
async def test_payload_nested_too_deep_is_422(autojump_clock, nursery, depth, status) -> None:
    """A thousand levels are taken, more are refused, however many more."""
    api = await started(nursery)
    body = b'{"client_id": "acme", "type": "t", "payload": ' + b"[" * depth + b"]" * depth + b"}"
    answer = await api.post("/v1/events", body)
    assert answer.status == status
    if status == 422:
        refused_as(answer, 422, "invalid-event")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"nonsense", b'{"client_id": "acme", "type": "t", "payload": 1} x', b'{"client_id": "\xff"}']
)
async def test_body_that_is_not_json_in_utf8_is_400(autojump_clock, nursery, body) -> None:
    """Empty, cut, no JSON, more than one value, not UTF-8."""
    api = await started(nursery)
    response = await api.client.open("/v1/events", method="POST", data=body, headers=JSON)
    refused_as(await answer_of(response), 400, "malformed-json")


@pytest.mark.parametrize(
    ("limits", "status", "slug"),
    [
        ({"client_events_max": 1}, 429, "client-full"),
        ({"client_bytes_max": 1100}, 429, "client-full"),
        ({"unsettled_events_max": 1}, 503, "full"),
        ({"unsettled_bytes_max": 1100}, 503, "full"),
    ],
)
async def test_event_without_budget_is_refused_with_retry_after(autojump_clock, nursery, limits, status, slug) -> None:
    """429 for the client's own, 503 for the daemon's; once something settles there is room again."""
    api = await started(nursery, bounded(**limits))
    held = Held()
    api.flow.sender.script(URL, held)
    assert (await api.post("/v1/events", event(id="e1"))).status == 202
    for path, body in (("/v1/events", event()), ("/v1/events/batch", [event()])):
        answer = refused_as(await api.post(path, body), status, slug)
        assert int(answer.headers["retry-after"]) > 0
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    held.release(200)
    await now()
    assert (await api.post("/v1/events", event())).status == 202


async def test_draining_refuses_what_admits_reopens_or_registers_and_reads_go_on(autojump_clock, nursery) -> None:
    """503 with Retry-After, /readyz too; known ids, reads and /livez are answered."""
    api = await started(nursery)
    api.flow.sender.script(URL, 410)
    await api.post("/v1/events", event(id="e1"))
    await now()
    api.flow.intake.close()
    for refused in (
        await api.post("/v1/events", event()),
        await api.post("/v1/events/batch", [event()]),
        await api.post("/v1/clients/acme/events", event()),
        await api.post("/v1/clients/acme/events/e1/retry"),
        await api.ndjson("/v1/resend", report_line()),
        await api.put("/v1/clients/new", {"url": URL}),
        await api.delete("/v1/clients/acme"),
        await api.post("/v1/clients/acme/endpoints/default/rotate-secret"),
        await api.get("/readyz"),
    ):
        refused_as(refused, 503, "draining")
        assert int(refused.headers["retry-after"]) > 0
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    for path in ("/v1/events/e1", "/v1/events", "/v1/clients/acme", "/v1/clients", "/v1/status", "/livez"):
        assert (await api.get(path)).status == 200
    assert (await api.get("/v1/status")).body["state"] == "draining"


async def test_checks_run_in_the_contracts_order(autojump_clock, nursery) -> None:
    """Media type, size, shape, client, known id, draining, client's budget, whole budget: the first answers."""
    limits = {"payload_bytes_max": 50, "body_bytes_max": 500, "client_events_max": 1, "unsettled_events_max": 1}
    api = await started(nursery, bounded(**limits))
    api.flow.put("other", endpoint(url=OTHER))
    api.flow.sender.script(URL, Hang())
    await api.post("/v1/events", event(id="e1"))
    oversized = b"{" * 501
    refused_as(await api.post("/v1/events", oversized, content_type="text/plain"), 415, "unsupported-media-type")
    refused_as(await api.post("/v1/events", oversized), 413, "too-large")
    refused_as(await api.post("/v1/events", b"{"), 400, "malformed-json")
    refused_as(await api.post("/v1/events", event(client_id="nobody", payload="x" * 60)), 413, "too-large")
    refused_as(await api.post("/v1/events", event(client_id="nobody", type="?")), 422, "invalid-event")
    refused_as(await api.post("/v1/events", event(client_id="other")), 503, "full")
    refused_as(await api.post("/v1/events", event()), 429, "client-full")
    api.flow.intake.close()
    refused_as(await api.post("/v1/events", event(client_id="nobody", id="e1")), 404, "unknown-client")
    refused_as(await api.post("/v1/events", event(id="e1", payload=2)), 409, "id-conflict")
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    refused_as(await api.post("/v1/events", event()), 503, "draining")


# Batches


async def test_batch_is_admitted_whole_in_order(autojump_clock, nursery) -> None:
    """As an array and as NDJSON, to any clients; each with id, client and status."""
    api = await started(nursery)
    api.flow.put("other", endpoint(url=OTHER))
    await api.post("/v1/events", event(id="known"))
    await now()
    items = [event(id="a"), event(id="known"), event(client_id="other", id="a")]
    answer = await api.post("/v1/events/batch", items)
    assert answer.status == 202
    assert answer.body == {
        "events": [
            {"id": "a", "client_id": "acme", "status": "pending"},
            {"id": "known", "client_id": "acme", "status": "delivered"},
            {"id": "a", "client_id": "other", "status": "pending"},
        ]
    }
    await now()
    again = await api.ndjson("/v1/events/batch", *items, b"", event(id="b"))
    assert again.status == 202
    assert [item["status"] for item in again.body["events"]] == ["delivered"] * 3 + ["pending"]
    assert len(api.flow.events()) == 4


async def test_batch_to_one_client_takes_it_from_the_path(autojump_clock, nursery) -> None:
    """An array or NDJSON where a single event may stand too; of that client's only."""
    api = await started(nursery)
    bare = {"type": "t", "payload": 1}
    assert len((await api.post("/v1/clients/acme/events", [bare, bare])).body["events"]) == 2
    assert len((await api.ndjson("/v1/clients/acme/events", bare)).body["events"]) == 1
    answer = refused_as(
        await api.post("/v1/clients/acme/events", [bare, event(client_id="other")]), 422, "invalid-event"
    )
    assert answer.pointers == ["/1/client_id"]


async def test_batch_with_bad_items_answers_as_the_first_and_lists_all(autojump_clock, nursery) -> None:
    """Nothing of it is admitted; pointers begin at /0, array and NDJSON alike."""
    api = await started(nursery)
    items = [event(), event(client_id="nobody"), event(type="?", id="?"), event(extra=1), event(payload="x" * 300_000)]
    answer = refused_as(await api.post("/v1/events/batch", items), 404, "unknown-client")
    assert answer.pointers == ["/1", "/2/type", "/2/id", "/3/extra", "/4/payload"]
    answer = refused_as(await api.ndjson("/v1/events/batch", event(), b"{", event(type="?")), 400, "malformed-json")
    assert answer.pointers == ["/1", "/2/type"]
    answer = refused_as(await api.post("/v1/events/batch", [event(), 7]), 422, "invalid-event")
    assert answer.pointers == ["/1"]
    assert api.flow.events() == []


async def test_batch_partial_admits_what_it_can(autojump_clock, nursery) -> None:
    """Always 202; a refused item stands in its place with its problem."""
    api = await started(nursery, bounded(client_events_max=2))
    api.flow.sender.script(URL, Hang())
    items = [event(id="a"), event(client_id="nobody", id="b"), event(type="?"), event(id="a"), event(), event(id="c")]
    answer = await api.post("/v1/events/batch?partial=true", items)
    assert answer.status == 202
    found = answer.body["events"]
    assert [item["status"] for item in found] == ["pending", None, None, "pending", "pending", None]
    assert found[1]["id"] == "b"
    assert found[1]["client_id"] == "nobody"
    slugs = [item["problem"]["type"].removeprefix("/problems/") for item in found if item["status"] is None]
    assert slugs == ["unknown-client", "invalid-event", "client-full"]
    assert ["retry_after_seconds" in item.get("problem", {}) for item in found] == [*[False] * 5, True]
    assert found[5]["problem"]["retry_after_seconds"] > 0
    assert found[2]["problem"]["status"] == 422
    assert [mistake["pointer"] for mistake in found[2]["problem"]["errors"]] == ["/2/type"]
    assert len(api.flow.events()) == 2
    lines = await api.ndjson("/v1/events/batch?partial=true", event(id="a"), b"{")
    assert [item["status"] for item in lines.body["events"]] == ["pending", None]


async def test_batch_naming_an_id_twice_is_one_event_named_twice(autojump_clock, nursery) -> None:
    """The same event twice is one; two events under one id are a conflict."""
    api = await started(nursery)
    answer = await api.post("/v1/events/batch", [event(id="a"), event(id="a")])
    assert [item["id"] for item in answer.body["events"]] == ["a", "a"]
    assert len(api.flow.events()) == 1
    answer = refused_as(
        await api.post("/v1/events/batch", [event(id="b"), event(id="b", payload=2)]), 409, "id-conflict"
    )
    assert answer.pointers == ["/1"]
    assert len(api.flow.events()) == 1


@pytest.mark.parametrize("partial", ["", "?partial=true"])
async def test_batch_that_is_empty_or_no_list_is_422(autojump_clock, nursery, partial) -> None:
    """It says nothing; an object is no batch."""
    api = await started(nursery)
    refused_as(await api.post(f"/v1/events/batch{partial}", []), 422, "invalid-event")
    refused_as(await api.ndjson(f"/v1/events/batch{partial}", b"\n"), 422, "invalid-event")
    refused_as(await api.post(f"/v1/events/batch{partial}", event()), 422, "invalid-event")


async def test_batch_of_too_many_is_413(autojump_clock, nursery) -> None:
    """At the limit it is taken, over it nothing is, partially neither."""
    api = await started(nursery, bounded(batch_events_max=3))
    assert (await api.post("/v1/events/batch", [event()] * 3)).status == 202
    for path in ("/v1/events/batch", "/v1/events/batch?partial=true", "/v1/clients/acme/events"):
        refused_as(await api.post(path, [event()] * 4), 413, "too-large")
        refused_as(await api.ndjson(path, *[event()] * 4), 413, "too-large")
    assert len(api.flow.events()) == 3


async def test_batch_with_unknown_flag_value_is_422(autojump_clock, nursery) -> None:
    """true or false, nothing between."""
    api = await started(nursery)
    refused_as(await api.post("/v1/events/batch?partial=yes", [event()]), 422, "invalid-query")


# Reading


async def test_event_is_read_with_its_attempts(autojump_clock, nursery) -> None:
    """Status, times, outcome and the last failure's excerpt, as in the contract's example."""
    api = await started(nursery)
    api.flow.sender.script(URL, 503)
    await api.post("/v1/events", event(id="e1"))
    await at(1)
    answer = await api.get("/v1/clients/acme/events/e1")
    assert answer.status == 200
    assert (answer.body["status"], answer.body["settled_at"]) == ("failed", None)
    [delivery] = answer.body["deliveries"]
    assert delivery["next_attempt_at"] == rfc3339(EPOCH + 5)
    assert (delivery["status"], delivery["attempt_count"], delivery["attempts_max"]) == ("failed", 1, 6)
    assert delivery["attempts"] == [
        {
            "number": 1,
            "started_at": rfc3339(EPOCH),
            "duration_seconds": 0.0,
            "outcome": "responded",
            "status_code": 503,
            "request_sent": True,
            "reconnected": False,
            "error": None,
            "response_excerpt": "answered 503",
        }
    ]
    assert (await api.get("/v1/events/e1")).body == answer.body


async def test_event_in_flight_shows_its_attempt_without_outcome(autojump_clock, nursery) -> None:
    """attempt_count includes it; nothing is next."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang())
    await api.post("/v1/events", event(id="e1"))
    await now()
    [delivery] = (await api.get("/v1/events/e1")).body["deliveries"]
    assert (delivery["status"], delivery["in_flight"], delivery["attempt_count"]) == ("pending", True, 1)
    assert delivery["next_attempt_at"] is None
    assert delivery["attempts"][0]["outcome"] is None


async def test_unrouted_event_is_delivered_to_nobody(autojump_clock, nursery) -> None:
    """deliveries: [], delivered, unrouted: true."""
    api = await started(nursery)
    api.flow.put("acme", endpoint(event_types=("user.*",)))
    answer = await api.post("/v1/events", event())
    assert answer.status == 202
    assert (answer.body["status"], answer.body["unrouted"], answer.body["deliveries"]) == ("delivered", True, [])
    assert answer.body["settled_at"] == rfc3339(EPOCH)
    counts = (await api.get("/v1/status")).body["events"]
    assert (counts["delivered"], counts["unrouted"]) == (1, 1)


async def test_event_not_held_is_404_with_what_is_remembered(autojump_clock, nursery) -> None:
    """unknown-event says since when nothing was forgotten; an unknown client is told apart."""
    api = await started(nursery)
    for path in ("/v1/events/none", "/v1/clients/acme/events/none"):
        answer = refused_as(await api.get(path), 404, "unknown-event")
        assert answer.body["remembers_since"] == answer.body["started_at"] == rfc3339(EPOCH)
    refused_as(await api.get("/v1/clients/nobody/events/none"), 404, "unknown-client")


async def test_id_of_several_clients_is_ambiguous_in_the_short_form(autojump_clock, nursery) -> None:
    """409 in the short form, each by its long form."""
    api = await started(nursery)
    api.flow.put("other", endpoint(url=OTHER))
    for client_id in ("acme", "other"):
        await api.post("/v1/events", event(client_id=client_id, id="e1"))
    answer = refused_as(await api.get("/v1/events/e1"), 409, "ambiguous-id")
    assert answer.body["clients"] == ["acme", "other"]
    for client_id in ("acme", "other"):
        assert (await api.get(f"/v1/clients/{client_id}/events/e1")).body["client_id"] == client_id


async def pages(api: Api, query: str) -> list[list[str]]:
    """Every page's event ids, by following the cursors."""
    found, cursor = [], ""
    while True:
        answer = await api.get(f"/v1/events?{query}{cursor}")
        assert answer.status == 200
        found.append([event["id"] for event in answer.body["events"]])
        if answer.body["next_cursor"] is None:
            return found
        cursor = f"&cursor={answer.body['next_cursor']}"


async def test_listing_is_newest_first_and_goes_on_by_cursor(autojump_clock, nursery) -> None:
    """Every event once, also while others come in between the pages."""
    api = await started(nursery)
    for number in range(5):
        await api.post("/v1/events", event(id=f"e{number}"))
    assert await pages(api, "") == [["e4", "e3", "e2", "e1", "e0"]]
    assert await pages(api, "limit=2") == [["e4", "e3"], ["e2", "e1"], ["e0"]]
    first = await api.get("/v1/events?limit=3")
    await api.post("/v1/events", event(id="later"))
    rest = await api.get(f"/v1/events?limit=3&cursor={first.body['next_cursor']}")
    assert [one["id"] for one in first.body["events"] + rest.body["events"]] == ["e4", "e3", "e2", "e1", "e0"]
    assert rest.body["next_cursor"] is None


async def test_listing_is_filtered_by_client_status_and_type(autojump_clock, nursery) -> None:
    """Each alone and together; a client without events lists none."""
    api = await started(nursery)
    api.flow.put("other", endpoint(url=OTHER, schedule_seconds=()))
    api.flow.sender.script(OTHER, 503)
    api.flow.sender.script(URL, 200, 503, Hang())
    for fields in ({"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d", "client_id": "other", "type": "user.created"}):
        await api.post("/v1/events", event(**fields))
        await now()
    for query, ids in (
        ("client_id=acme", ["c", "b", "a"]),
        ("client_id=other", ["d"]),
        ("client_id=nobody", []),
        ("status=delivered", ["a"]),
        ("status=failed", ["b"]),
        ("status=pending", ["c"]),
        ("status=exhausted", ["d"]),
        ("type=user.created", ["d"]),
        ("type=invoice.paid&client_id=acme&status=failed", ["b"]),
    ):
        assert await pages(api, query) == [ids], query
    assert await pages(api, "client_id=acme&limit=1") == [["c"], ["b"], ["a"]]


@pytest.mark.parametrize(
    "query",
    [
        "cursor=nonsense",
        "cursor=%C3%A9",
        "cursor=ZTEy!",
        "cursor=",
        "limit=0",
        "limit=1001",
        "limit=ten",
        "limit=-1",
        "status=done",
        "client_id=a/b",
        "page=2",
    ],
)
async def test_listing_with_a_bad_query_is_422(autojump_clock, nursery, query) -> None:
    """Cursors that are none of ours, limits out of range, unknown words and unknown parameters."""
    api = await started(nursery)
    refused_as(await api.get(f"/v1/events?{query}"), 422, "invalid-query")


# Retry and resend


async def test_retry_is_202_where_something_becomes_due_and_200_where_not(autojump_clock, nursery) -> None:
    """failed: 202; delivered: 200; an event or a client that is not there: 404."""
    api = await started(nursery)
    api.flow.sender.script(URL, 503, 200)
    await api.post("/v1/events", event(id="e1"))
    await now()
    answer = await api.post("/v1/clients/acme/events/e1/retry")
    assert answer.status == 202
    assert answer.body["deliveries"][0]["next_attempt_at"] == rfc3339(EPOCH)
    await now()
    answer = await api.post("/v1/clients/acme/events/e1/retry")
    assert (answer.status, answer.body["status"]) == (200, "delivered")
    refused_as(await api.post("/v1/clients/acme/events/none/retry"), 404, "unknown-event")
    refused_as(await api.post("/v1/clients/nobody/events/e1/retry"), 404, "unknown-client")


async def test_retry_of_exhausted_without_budget_is_refused(autojump_clock, nursery) -> None:
    """429 and 503 as at admission."""
    api = await started(nursery, bounded(client_events_max=1))
    api.flow.put("acme", endpoint(schedule_seconds=()))
    api.flow.sender.script(URL, 503, Hang())
    await api.post("/v1/events", event(id="e1"))
    await now()
    await api.post("/v1/events", event())
    refused_as(await api.post("/v1/clients/acme/events/e1/retry"), 429, "client-full")
    api.flow.set(intake=IntakeSettings(unsettled_events_max=1))
    answer = refused_as(await api.post("/v1/clients/acme/events/e1/retry"), 503, "full")
    assert int(answer.headers["retry-after"]) > 0


async def test_disabled_endpoint_is_409_for_retry_until_resumed(autojump_clock, nursery) -> None:
    """410 shows as `disabled`; resume makes it `ok`; a new event meanwhile is exhausted as `gone` at its 202."""
    api = await started(nursery)
    api.flow.sender.script(URL, 410, 200)
    await api.post("/v1/events", event(id="e1"))
    await now()
    client = (await api.get("/v1/clients/acme")).body
    assert client["endpoints"][0]["health"]["state"] == "disabled"
    assert (await api.get("/v1/status")).body["endpoints"] == {"ok": 0, "throttled": 0, "paused": 0, "disabled": 1}
    gone = await api.post("/v1/events", event())
    assert (gone.status, gone.body["status"], gone.body["deliveries"][0]["reason"]) == (202, "exhausted", "gone")
    refused_as(await api.post("/v1/clients/acme/events/e1/retry"), 409, "endpoint-disabled")
    resumed = await api.post("/v1/clients/acme/endpoints/default/resume")
    assert resumed.status == 200
    assert resumed.body["endpoints"][0]["health"]["state"] == "ok"
    assert (await api.post("/v1/clients/acme/events/e1/retry")).status == 202
    await now()
    assert (await api.get("/v1/events/e1")).body["status"] == "delivered"
    refused_as(await api.post("/v1/clients/acme/endpoints/none/resume"), 404, "not-found")
    refused_as(await api.post("/v1/clients/nobody/endpoints/default/resume"), 404, "unknown-client")


def report_line(**fields: Any) -> dict[str, Any]:
    line = {"kind": "undelivered", "class": "never_attempted", "event_id": "r1", "client_id": "acme"}
    line |= {"endpoint_id": "default", "url": URL, "type": "invoice.paid", "accepted_at": rfc3339(EPOCH - 60)}
    return line | {"attempt_count": 2, "next_attempt_at": None, "last_outcome": None, "payload": {"a": 1}} | fields


async def test_resend_answers_each_line_in_order(autojump_clock, nursery) -> None:
    """A whole file's lines, the summary passed over; posted again all are known."""
    api = await started(nursery)
    without = {name: value for name, value in report_line(event_id="r2").items() if name != "payload"}
    lines = [
        {"kind": "summary", "format": 1},
        report_line(),
        report_line(client_id="nobody"),
        report_line(endpoint_id="none"),
        without,
    ]
    answer = await api.ndjson("/v1/resend", *lines)
    assert answer.status == 200
    assert answer.body == {"lines": ["admitted", "unknown-client", "unknown-endpoint", "no-payload"]}
    await now()
    event = (await api.get("/v1/events/r1")).body
    assert event["accepted_at"] == rfc3339(EPOCH - 60)
    assert (event["status"], event["deliveries"][0]["attempt_count"]) == ("delivered", 3)
    assert (await api.ndjson("/v1/resend", *lines)).body["lines"][0] == "known"
    counts = (await api.get("/v1/status")).body["events"]
    assert (counts["accepted"], counts["recovered"], counts["delivered"]) == (1, 1, 1)


async def test_resend_refuses_what_is_no_report(autojump_clock, nursery) -> None:
    """Media type, cut lines, mistakes with their pointers, too many, a full budget: nothing comes in."""
    api = await started(nursery, bounded(batch_events_max=3, client_events_max=1))
    refused_as(await api.post("/v1/resend", [report_line()]), 415, "unsupported-media-type")
    refused_as(await api.ndjson("/v1/resend", b'{"kind": "undel'), 400, "malformed-json")
    answer = await api.ndjson("/v1/resend", report_line(), report_line(event_id="?", type="?"))
    assert refused_as(answer, 422, "invalid-event").pointers == ["/1/event_id", "/1/type"]
    refused_as(await api.ndjson("/v1/resend", *[report_line()] * 4), 413, "too-large")
    two = [report_line(), report_line(event_id="r2")]
    refused_as(await api.ndjson("/v1/resend", *two), 429, "client-full")
    assert api.flow.events() == []


# Clients


async def test_put_registers_and_replaces(autojump_clock, nursery) -> None:
    """201 for a new client, 200 for one that was there; short and long form; GET shows what holds."""
    api = await started(nursery)
    assert (await api.put("/v1/clients/new", {"url": f"{URL}?token=t"})).status == 201
    definition = {
        "endpoints": [
            {
                "id": "main",
                "url": OTHER,
                "event_types": ["invoice.*"],
                "headers": {"x-team": "billing"},
                "timeout": "2s",
                "concurrency": 3,
                "schedule": ["1s", "2m"],
            },
            {"id": "audit", "url": URL},
        ]
    }
    answer = await api.put("/v1/clients/new?end_unsettled=true", definition)
    assert answer.status == 200
    client = (await api.get("/v1/clients/new")).body
    main, audit = client["endpoints"]
    assert (client["id"], client["managed_by_config"], client["unsettled"]) == ("new", False, 0)
    assert (main["id"], main["url"], main["event_types"], main["headers"]) == ("main", OTHER, ["invoice.*"], ["x-team"])
    assert (main["timeout_seconds"], main["concurrency"], main["schedule"]) == (2.0, 3, ["1s", "2m"])
    assert (audit["timeout_seconds"], audit["concurrency"]) == (15.0, 8)
    assert "billing" not in json.dumps(client)
    assert (await api.put("/v1/clients/new", definition)).status == 200


async def test_put_shows_only_the_secret_it_made(autojump_clock, nursery) -> None:
    """Made when none is given and none is there, shown by that call alone, and kept from then on."""
    api = await started(nursery)

    def shown(answer: Answer) -> list[str | None]:
        return [view.get("secret") for view in answer.body["endpoints"]]

    def held() -> list[str]:
        return [one.secret for one in api.flow.registry.get("new").endpoints]

    first = await api.put("/v1/clients/new", {"url": URL})
    [made] = shown(first)
    assert made is not None
    assert made.startswith("whsec_")
    assert held() == [made]
    assert shown(await api.put("/v1/clients/new", {"url": OTHER})) == [None]
    assert held() == [made]
    assert shown(await api.get("/v1/clients/new")) == [None]
    assert shown(await api.put("/v1/clients/new", {"url": OTHER, "secret": SECRET})) == [None]
    assert held() == [SECRET]
    several = {"endpoints": [{"id": "default", "url": URL}, {"id": "more", "url": OTHER}]}
    none, new = shown(await api.put("/v1/clients/new", several))
    assert (none, held()) == (None, [SECRET, new])
    listed = (await api.get("/v1/clients")).body
    assert "whsec_" not in json.dumps(listed)
    assert not [line for line in api.flow.log.lines if "whsec_" in json.dumps(line)]


@pytest.mark.parametrize(
    ("definition", "pointers"),
    [
        ({}, [""]),
        ([], [""]),
        ({"url": "http://acme.example/"}, ["/url"]),
        ({"url": URL, "secret": "short"}, ["/secret"]),
        ({"endpoints": []}, ["/endpoints"]),
        ({"endpoints": [{"url": URL}, {"url": URL}]}, ["/endpoints/0", "/endpoints/1"]),
        ({"endpoints": [{"url": URL, "timeout": 5}]}, ["/endpoints/0/timeout"]),
        ({"endpoints": [{"url": "ftp://a", "colour": 1}]}, ["/endpoints/0/colour", "/endpoints/0/url"]),
    ],
)
async def test_put_of_an_invalid_client_is_422_with_pointers(autojump_clock, nursery, definition, pointers) -> None:
    """Every mistake of the definition is named, and nothing is registered."""
    api = await started(nursery)
    answer = refused_as(await api.put("/v1/clients/new", definition), 422, "invalid-client")
    assert answer.pointers == pointers
    assert answer.body["detail"].endswith("; and 1 more, in errors") == (len(pointers) == 2)
    refused_as(await api.get("/v1/clients/new"), 404, "unknown-client")


async def test_put_checks_body_and_id(autojump_clock, nursery) -> None:
    """Media type, JSON, the id in the path, the flag."""
    api = await started(nursery)
    refused_as(await api.put("/v1/clients/new", b"{}", content_type="text/plain"), 415, "unsupported-media-type")
    refused_as(await api.put("/v1/clients/new", b"{"), 400, "malformed-json")
    refused_as(await api.put("/v1/clients/new", b'{"url": "\xff"}'), 400, "malformed-json")
    refused_as(await api.put("/v1/clients/no.dots", {"url": URL}), 422, "invalid-client")
    refused_as(await api.put("/v1/clients/new?end_unsettled=maybe", {"url": URL}), 422, "invalid-query")


async def test_put_over_clients_max_is_409(autojump_clock, nursery) -> None:
    """A new client is refused; replacing one takes no room."""
    api = await started(nursery, Settings(registry=RegistrySettings(clients_max=1)))
    refused_as(await api.put("/v1/clients/new", {"url": URL}), 409, "registry-full")
    assert (await api.put("/v1/clients/acme", {"url": OTHER})).status == 200


async def test_put_and_delete_that_end_deliveries_are_refused_unless_said(autojump_clock, nursery) -> None:
    """409 with the count; ?end_unsettled=true does it; 204, then 404; the events can still be read."""
    api = await started(nursery)
    api.flow.sender.script(URL, 503)
    for number in range(3):
        await api.post("/v1/events", event(id=f"e{number}"))
    await now()
    elsewhere = {"endpoints": [{"id": "other", "url": OTHER}]}
    for refused in (await api.put("/v1/clients/acme", elsewhere), await api.delete("/v1/clients/acme")):
        assert refused_as(refused, 409, "unsettled-deliveries").body["unsettled_deliveries"] == 3
    refused_as(await api.delete("/v1/clients/acme?end_unsettled=1"), 422, "invalid-query")
    assert (await api.put("/v1/clients/acme?end_unsettled=true", elsewhere)).status == 200
    delivery = (await api.get("/v1/events/e0")).body["deliveries"][0]
    assert (delivery["status"], delivery["reason"]) == ("exhausted", "endpoint_removed")
    assert (await api.delete("/v1/clients/acme")).status == 204
    refused_as(await api.delete("/v1/clients/acme"), 404, "unknown-client")
    refused_as(await api.get("/v1/clients/acme"), 404, "unknown-client")
    assert (await api.get("/v1/clients/acme/events/e0")).status == 200


async def test_client_of_config_is_read_only(autojump_clock, nursery) -> None:
    """It is shown as such; PUT and DELETE are 409."""
    api = await started(nursery)
    api.flow.registration.take_config([Client(id="filed", endpoints=(endpoint(),), managed_by_config=True)])
    assert (await api.get("/v1/clients/filed")).body["managed_by_config"] is True
    refused_as(await api.put("/v1/clients/filed", {"url": OTHER}), 409, "managed-by-config")
    refused_as(await api.delete("/v1/clients/filed"), 409, "managed-by-config")


async def test_client_shows_its_health(autojump_clock, nursery) -> None:
    """Every field of the contract, from failures to delivery."""
    api = await started(nursery)
    held = Held()
    api.flow.sender.script(URL, 503, held)
    await at(10)
    await api.post("/v1/events", event())
    await at(20)
    [view] = (await api.get("/v1/clients/acme")).body["endpoints"]
    assert view["health"] == {
        "state": "throttled",
        "state_since": rfc3339(EPOCH + 10),
        "paused_by": None,
        "gone": 0,
        "failing": False,
        "failing_since": rfc3339(EPOCH + 10),
        "consecutive_failures": 1,
        "next_probe_at": None,
        "not_before": None,
        "unsettled": 1,
        "in_flight": 1,
        "concurrency_now": 1,
        "next_attempt_at": None,
        "budget_used": 0.00005,
        "oldest_unsettled_seconds": 10,
        "held_up_by": None,
        "held_up_attempts": 0,
        "last_outcome": {"outcome": "responded", "status_code": 503, "error": None},
        "last_delivered_at": None,
    }
    held.release(200)
    await now()
    health = (await api.get("/v1/clients/acme")).body["endpoints"][0]["health"]
    assert (health["failing_since"], health["consecutive_failures"], health["unsettled"]) == (None, 0, 0)
    assert (health["in_flight"], health["oldest_unsettled_seconds"]) == (0, None)
    assert health["last_delivered_at"] == rfc3339(EPOCH + 20)


async def test_health_says_when_the_next_attempt_may_begin(autojump_clock, nursery) -> None:
    """Of what waits: after its delay, at the next probe, never while an operator pauses, null where nothing waits."""
    api = await started(nursery)

    async def next_attempt() -> Any:
        return (await api.get("/v1/clients/acme")).body["endpoints"][0]["health"]["next_attempt_at"]

    assert await next_attempt() is None
    api.flow.sender.script(URL, 500)
    await at(10)
    await api.post("/v1/events", event())
    await now()
    assert await next_attempt() == rfc3339(EPOCH + 15)
    await api.post("/v1/clients/acme/endpoints/default/pause", {})
    assert await next_attempt() is None
    await api.post("/v1/clients/acme/endpoints/default/resume", {})
    assert await next_attempt() == rfc3339(EPOCH + 15)


async def test_health_says_what_an_endpoint_takes_of_its_clients_budget(autojump_clock, nursery) -> None:
    """Of events or of bytes, whichever is more; an event counts for each endpoint that it is yet owed to."""
    api = await started(nursery, bounded(client_events_max=10, client_bytes_max=1_000_000))
    api.flow.put("acme", endpoint("up", URL), endpoint("down", OTHER))
    api.flow.sender.script(OTHER, Held())

    async def used() -> list[float]:
        await now()
        endpoints = (await api.get("/v1/clients/acme")).body["endpoints"]
        return [one["health"]["budget_used"] for one in endpoints]

    assert await used() == [0, 0]
    for _ in range(3):
        await api.post("/v1/events", event())
    assert await used() == [0, 0.3]
    for _ in range(3):
        await api.post("/v1/events", event(payload="x" * 240_000))
    assert await used() == [0, pytest.approx(0.73, abs=0.005)]


async def test_clients_are_listed_by_id_in_pages(autojump_clock, nursery) -> None:
    """In order of id; next_cursor goes on; bad limits and cursors are 422."""
    api = await started(nursery)
    for client_id in ("zeta", "beta", "gamma"):
        api.flow.put(client_id)
    first = (await api.get("/v1/clients?limit=3")).body
    assert [client["id"] for client in first["clients"]] == ["acme", "beta", "gamma"]
    rest = (await api.get(f"/v1/clients?limit=3&cursor={first['next_cursor']}")).body
    assert ([client["id"] for client in rest["clients"]], rest["next_cursor"]) == (["zeta"], None)
    assert (await api.get("/v1/clients?limit=4")).body["next_cursor"] is None
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=a/b"):
        refused_as(await api.get(f"/v1/clients?{query}"), 422, "invalid-query")


# Status and errors


async def test_status_totals_balance_all_the_while(autojump_clock, nursery) -> None:
    """accepted and opened are the sums of their parts after whatever happens, forgetting and reopening included."""
    settings = Settings(retention=RetentionSettings(delivered_events_max=2, exhausted_events_max=2))
    api = await started(nursery, settings)
    api.flow.put("acme", endpoint("a", URL, schedule_seconds=(5.0,)), endpoint("b", OTHER, event_types=("x",)))
    api.flow.sender.script(URL, 200, 503, 503, 200, 503, 410)

    async def balanced() -> dict[str, Any]:
        body = (await api.get("/v1/status")).body
        parts = ("pending", "failed", "delivered", "exhausted")
        assert body["events"]["accepted"] == sum(body["events"][part] for part in parts)
        assert body["deliveries"]["opened"] == sum(body["deliveries"][part] for part in parts)
        return body

    await balanced()
    for number in range(8):
        await api.post("/v1/events", event(id=f"e{number}", type="x" if number % 2 else "y"))
        await balanced()
        await at(number * 2)
        await balanced()
    for number in range(8):
        await api.post(f"/v1/clients/acme/events/e{number}/retry")
        await balanced()
    await api.post("/v1/clients/acme/endpoints/a/resume")
    for number in range(8):
        await api.post(f"/v1/clients/acme/events/e{number}/retry")
        await balanced()
    await at(100)
    await balanced()
    await api.put("/v1/clients/acme?end_unsettled=true", {"endpoints": [{"id": "b", "url": OTHER}]})
    await at(200)
    body = await balanced()
    assert body["events"]["accepted"] == 8
    assert body["deliveries"]["opened"] == 12
    assert (body["events"]["pending"], body["events"]["failed"], body["deliveries"]["in_flight"]) == (0, 0, 0)
    assert body["memory"]["unsettled_events"] == body["memory"]["unsettled_bytes"] == 0
    assert api.flow.forgotten


async def test_status_has_every_field_of_the_contract(autojump_clock, nursery) -> None:
    """Names are fixed; idle, nothing is old and nothing is overdue."""
    api = await started(nursery)
    await at(30)
    body = (await api.get("/v1/status")).body
    assert body["state"] == "running"
    assert (body["version"], body["run_id"], body["started_at"]) == ("0.0.test", "run_1", rfc3339(EPOCH))
    assert body["uptime_seconds"] == 30
    assert set(body["events"]) == {"accepted", "recovered", "pending", "failed", "delivered", "exhausted", "unrouted"}
    assert set(body["deliveries"]) == {"opened", "pending", "failed", "delivered", "exhausted", "in_flight"}
    assert body["memory"] == {
        "unsettled_events": 0,
        "unsettled_events_max": 100_000,
        "unsettled_bytes": 0,
        "unsettled_bytes_max": 256 * 2**20,
    }
    assert (body["oldest_unsettled_seconds"], body["oldest_overdue_seconds"]) == (None, None)
    assert body["per_second"] == {"accepted": 0, "attempts": 0, "delivered": 0}
    assert body["connections"] == {"open": 1, "max": 1000, "refused": 0}
    assert body["endpoints"] == {"ok": 1, "throttled": 0, "paused": 0, "disabled": 0}
    assert (body["clients"], body["waiting_for_client"], body["previous_run"]) == (1, 0, None)
    assert body["loop_lag_seconds"] == 0


async def test_status_tells_how_long_what_is_due_has_waited(autojump_clock, nursery) -> None:
    """Behind a full window: since it was due. A retry that is due later is not overdue."""
    api = await started(nursery, Settings(delivery=DeliverySettings(concurrency=1)))
    api.flow.sender.script(URL, 500, Hang())
    await api.post("/v1/events", event())
    await at(1)
    assert (await api.get("/v1/status")).body["oldest_overdue_seconds"] is None
    await api.post("/v1/events", event())
    await at(2)
    await api.post("/v1/events", event())
    await at(4)
    body = (await api.get("/v1/status")).body
    assert (body["oldest_overdue_seconds"], body["oldest_unsettled_seconds"]) == (2, 4)


async def test_status_between_admission_and_dispatch_claims_no_great_delay(autojump_clock, nursery) -> None:
    """Events admitted this very moment are not overdue since the clock's beginning."""
    api = await started(nursery)
    await at(1000)
    api.flow.admit_many(2)
    assert status_view(api.services, await api.flow.gauge_collector.take()).oldest_overdue_seconds in (None, 0)


async def test_probes_answer(autojump_clock, nursery) -> None:
    """Alive, and taking events."""
    api = await started(nursery)
    for path in ("/livez", "/readyz"):
        answer = await api.get(path)
        assert (answer.status, answer.body) == (200, b"ok\n")


async def test_route_not_there_is_404_as_problem(autojump_clock, nursery) -> None:
    """Errors of the framework have our form too."""
    api = await started(nursery)
    for path in ("/nowhere", "/v1/nowhere", "/v1/clients/acme/nowhere"):
        refused_as(await api.get(path), 404, "not-found")


async def test_method_not_taken_is_405_with_allow(autojump_clock, nursery) -> None:
    """Allow says which are."""
    api = await started(nursery)
    answer = refused_as(await api.delete("/v1/events"), 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    refused_as(await api.post("/v1/status"), 405, "method-not-allowed")
    refused_as(await api.get("/v1/events/e1/retry"), 404, "not-found")


async def test_handler_that_crashes_is_500_as_problem_and_logged(autojump_clock, nursery) -> None:
    """A bug of ours ends its request alone, says nothing of its inside, and leaves its traceback in the log."""

    def broken() -> None:
        raise RuntimeError("a bug of ours")

    api = await started(nursery, connections=broken)
    answer = refused_as(await api.get("/v1/status"), 500, "internal")
    assert "a bug of ours" not in json.dumps(answer.body)
    [line] = api.flow.log.of("request.crashed")
    assert line["level"] == "error"
    assert "a bug of ours" in line["traceback"]
    assert (await api.post("/v1/events", event())).status == 202


async def test_refusals_are_logged_without_payload(autojump_clock, nursery) -> None:
    """A refused event leaves one line with its ids and the problem."""
    api = await started(nursery, bounded(client_events_max=1))
    api.flow.sender.script(URL, Hang())
    await api.post("/v1/events", event())
    await api.post("/v1/events", event(id="e2", payload="confidential"))
    [line] = api.flow.log.of("event.refused")
    assert (line["problem"], line["client_id"], line["event_id"]) == ("client-full", "acme", "e2")
    assert b"confidential" not in msgspec.json.encode(api.flow.log.lines)
