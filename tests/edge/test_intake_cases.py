"""What producers send: JSON as it comes, media types, ids that come again.

A payload arrives byte for byte as it was posted, or it is refused with a status that says why.
"""

import json

import pytest
from hookd.core.settings import RetentionSettings, Settings

from tests.edge.test_api import answer_of, event, refused_as, started
from tests.flow.harness import URL, Hang, endpoint, now

OTHER = "https://other.example/hook"
MANY_KEYS = b"{" + b",".join(b'"key%d":%d' % (number, number) for number in range(10_000)) + b"}"


PAYLOADS = [
    b"1e400",
    b"-1e-400",
    b"9" * 5000,
    b"-0",
    b"1.000000000000000000000000000001",
    b'{"a":1,"a":2}',
    b'{"client_id":1,"type":2,"payload":3,"id":4}',
    b'"client_id"',
    b'"\\"payload\\""',
    b'"\\ud83d\\ude00 \\u0000"',
    '"\U0001f600 \u2028 \ufeff"'.encode(),
    b" [ 1 ,\t2\r\n] ".strip(),
    b"[" * 1000 + b"]" * 1000,
    b'"' + b"[" * 5000 + b'"',
    MANY_KEYS,
    b"null",
    b"false",
    b'""',
    b"{}",
]


def body_of(payload: bytes, head: bytes = b'{"client_id": "acme", "type": "t", "payload": ') -> bytes:
    return head + payload + b"}"


@pytest.mark.parametrize("form", ["single", "batch", "ndjson"])
async def test_payload_arrives_byte_for_byte(autojump_clock, nursery, form: str) -> None:
    """Big numbers, doubled keys inside, escapes, depth, many keys: the payload is never read, so never changed."""
    api = await started(nursery)
    for number, payload in enumerate(PAYLOADS, start=1):
        if form == "ndjson":
            payload = payload.replace(b"\r\n", b" ")
            answer = await api.post("/v1/events/batch", body_of(payload), content_type="application/x-ndjson")
        elif form == "batch":
            answer = await api.post("/v1/events/batch", b" [ " + body_of(payload) + b" ] ")
        else:
            answer = await api.post("/v1/events", body_of(payload))
        assert answer.status == 202, answer.body
        await now()
        assert len(api.flow.sender.transcript) == number
        assert api.flow.sender.transcript[-1].request.body == payload


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (body_of(b"NaN"), 400, "byte"),
        (body_of(b"-Infinity"), 400, "byte"),
        (body_of(b"0x10"), 400, "byte"),
        (body_of(b"01"), 400, "number"),
        (body_of(b"'a'"), 400, "byte"),
        (body_of(b"[1,]"), 400, "byte"),
        (body_of(b'"\x00"'), 400, "byte"),
        (body_of(b'"\\ud800"'), 400, "\\ud800 is half of a pair of surrogates"),
        (body_of(b'"\\ud800 and more of it"'), 400, "\\ud800 is half of a pair of surrogates"),
        (body_of(b'"\\uDC00\\ud800"'), 400, "\\uDC00 is half of a pair of surrogates"),
        (body_of(b'"\\ud83d\\ud83d\\ude00"'), 400, "is half of a pair of surrogates"),
        (body_of(b"1", b'{"client_id": "acme", "type": "\\ud800", "payload": '), 400, "half of a pair"),
        (body_of(b'"\\u00g0 xxxxxxxx"'), 400, "escape"),
        (body_of(b'"\xed\xa0\x80"'), 400, "not UTF-8"),
        (body_of(b'"\xff"'), 400, "not UTF-8"),
        (b"\xef\xbb\xbf" + body_of(b"1"), 400, "byte order mark"),
        (body_of(b"1").decode().encode("utf-16"), 400, "not UTF-8"),
        (body_of(b"1").decode().encode("utf-16-le"), 400, "byte 1"),
        (body_of(b"1").decode().encode("utf-32"), 400, "not UTF-8"),
        (body_of(b"[" * 1001 + b"]" * 1001), 422, "deeper than 1,000"),
        (b"[" * 100_000, 422, "array"),
        (body_of(b"1", b'{"payload": 2, "client_id": "acme", "type": "t", "payload": '), 422, "names a field twice"),
        (body_of(b"1", b'{"client_id": "b", "client_id": "acme", "type": "t", "payload": '), 422, "twice"),
        (body_of(b"1", b'{"client_id": "acme", "type": "t", "t\\u0079pe": "t", "payload": '), 422, "twice"),
        (body_of(b"1", b'{"client_id": "acme", "type": "t", "id": null, "id": "e1", "payload": '), 422, "twice"),
        (b'{"client_id": "acme", "type": "t", "payload": 1, "payload": "\\"x"}', 422, "names a field twice"),
        (b"{" + MANY_KEYS[1:-1] + b"}", 422, "/key0 is not a field"),
        (b"1e400", 422, ""),
        (b"9" * 5000, 422, ""),
    ],
)
async def test_what_is_refused_says_why_and_admits_nothing(autojump_clock, nursery, body, status, word) -> None:
    """400 for what is no JSON in UTF-8, 422 for what is no event, singly, in a batch and as a line."""
    api = await started(nursery)
    answer = refused_as(
        await api.post("/v1/events", body), status, {400: "malformed-json", 422: "invalid-event"}[status]
    )
    assert word in answer.body["detail"]
    for content, content_type in ((b"[" + body + b"]", "application/json"), (body, "application/x-ndjson")):
        if b"\n" not in content:
            batch = await api.post("/v1/events/batch", content, content_type=content_type)
            assert batch.status in (400, 422)
    assert api.flow.events() == []
    assert not api.flow.log.of("request.crashed")


@pytest.mark.parametrize(
    "head",
    [
        b'{"client_id": "acme", "type": "t", "id": null, "payload": ',
        b'{"client_id": "acme", "type": "t", "id": "payload", "payload": ',
        b'{"\\u0063lient_id": "acme", "type": "t", "payload": ',
        b'{\n"type"\t:"t","client_id":"\\u0061cme" , "payload": ',
    ],
)
async def test_fields_named_once_however_spelled_are_taken(autojump_clock, nursery, head) -> None:
    """null for what may be left out, escapes in names, names as values: no field is there twice."""
    api = await started(nursery)
    for payload in (b'"\\"client_id\\""', b'{"id": 1, "id": 2}'):
        assert (await api.post("/v1/events", body_of(payload, head))).status in (202, 409)
    assert api.flow.events()


async def test_client_definitions_of_any_json_are_answered(autojump_clock, nursery) -> None:
    """The other body that is read: 400 or 422, never 500."""
    api = await started(nursery)
    for body in (
        b'{"url": "https://a.example/", "concurrency": 1e400}',
        b'{"url": "https://a.example/", "concurrency": ' + b"9" * 5000 + b"}",
        b'{"url": "\\ud800"}',
        b'{"endpoints": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b"\xef\xbb\xbf{}",
        MANY_KEYS,
        b"NaN",
    ):
        assert (await api.put("/v1/clients/new", body)).status in (400, 422), body[:40]
    assert not api.flow.log.of("request.crashed")


# Media types


NOT_TAKEN: list[tuple[str, dict[str, str]]] = [
    ("multipart/form-data; boundary=x", {}),
    ("application/x-www-form-urlencoded", {}),
    ("text/json", {}),
    ("application/jsonp", {}),
    ("application/problem+json", {}),
    ("application/cloudevents+json", {}),
    ("*/*", {}),
    ("application/json, text/plain", {}),
    ("application/json; charset=utf-16", {}),
    ("application/json", {"content_encoding": "gzip"}),
    ("application/json", {"content_encoding": "identity, gzip"}),
    ("application/json", {"content_encoding": "br"}),
    ("\xff", {}),
]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/events"),
        ("POST", "/v1/events/batch"),
        ("POST", "/v1/clients/acme/events"),
        ("POST", "/v1/clients/acme/replay"),
        ("POST", "/v1/resend"),
        ("PUT", "/v1/clients/new"),
    ],
)
async def test_other_media_types_are_415(autojump_clock, nursery, method, path) -> None:
    """On every route that reads a body; forms are never parsed."""
    api = await started(nursery)
    for content_type, others in NOT_TAKEN:
        answer = await api.call(method, path, json.dumps(event()).encode(), content_type=content_type, **others)
        refused_as(answer, 415, "unsupported-media-type")
    assert api.flow.events() == []


async def test_json_with_the_words_that_say_utf8_is_taken(autojump_clock, nursery) -> None:
    """Case and spelling of the charset, other parameters, identity."""
    api = await started(nursery)
    for content_type in (
        "application/json;charset=UTF-8",
        'Application/JSON; charset="utf-8"',
        "application/json; v=1",
    ):
        answer = await api.post("/v1/events", event(), content_type=content_type, content_encoding="identity")
        assert answer.status == 202, content_type


# Ids that come again


async def test_same_id_again_is_the_same_event(autojump_clock, nursery) -> None:
    """By every route, while it is pending and after; one event, one delivery."""
    api = await started(nursery)
    api.flow.sender.script(URL, Hang(), 200)
    one = event(id="e1")
    first = await api.post("/v1/events", one)
    bare = {name: value for name, value in one.items() if name != "client_id"}
    again = [
        await api.post("/v1/events", one),
        await api.post("/v1/clients/acme/events", bare),
        await api.post("/v1/clients/acme/events", one),
    ]
    assert first.status == 202
    assert [answer.status for answer in again] == [200] * 3
    assert {answer.body["accepted_at"] for answer in again} == {first.body["accepted_at"]}
    for path, items in (("/v1/events/batch", [one, one]), ("/v1/events/batch?partial=true", [one])):
        batch = await api.post(path, items)
        assert (batch.status, {item["id"] for item in batch.body["events"]}) == (202, {"e1"})
    await now()
    assert len(api.flow.events()) == len(api.flow.sender.transcript) == 1


@pytest.mark.parametrize("other", [{"payload": {"amount": 1.0}}, {"payload": {"amount": 2}}, {"type": "invoice.void"}])
async def test_same_id_with_another_event_is_409(autojump_clock, nursery, other) -> None:
    """Singly and in batches; the first stays what it was. White space alone is another payload, too."""
    api = await started(nursery)
    await api.post("/v1/events", event(id="e1"))
    refused_as(await api.post("/v1/events", event(id="e1", **other)), 409, "id-conflict")
    refused_as(await api.post("/v1/events/batch", [event(id="e1", **other)]), 409, "id-conflict")
    partial = await api.post("/v1/events/batch?partial=true", [event(id="e1", **other), event(id="e2")])
    assert [item["status"] for item in partial.body["events"]] == [None, "pending"]
    assert partial.body["events"][0]["problem"]["type"] == "/problems/id-conflict"
    spaced = b'{"client_id": "acme", "type": "invoice.paid", "id": "e1", "payload": {"amount":1}}'
    refused_as(await api.post("/v1/events", spaced), 409, "id-conflict")
    await now()
    assert [sent.event_id for sent in api.flow.sender.transcript] == ["e1", "e2"]


async def test_ids_of_clients_are_independent(autojump_clock, nursery) -> None:
    """The same id with other payloads for two clients: two events."""
    api = await started(nursery)
    api.flow.put("other", endpoint(url=OTHER))
    answers = [
        await api.post("/v1/events", event(id="e1")),
        await api.post("/v1/events", event(id="e1", client_id="other", payload=2)),
        await api.post("/v1/events", event(id="e1", client_id="other", payload=2)),
    ]
    assert [answer.status for answer in answers] == [202, 202, 200]
    await now()
    assert len(api.flow.sender.transcript) == 2


async def test_a_forgotten_id_is_new(autojump_clock, nursery) -> None:
    """Known for as long as it is remembered: after that it is admitted and sent again, also as another event."""
    api = await started(nursery, Settings(retention=RetentionSettings(delivered_events_max=1)))
    await api.post("/v1/events", event(id="e1"))
    await now()
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    await api.post("/v1/events", event(id="e2"))
    await now()
    again = await api.post("/v1/events", event(id="e1", payload=2))
    assert again.status == 202
    await now()
    assert [sent.event_id for sent in api.flow.sender.transcript] == ["e1", "e2", "e1"]


async def test_id_of_a_removed_client_is_known_once_it_is_back(autojump_clock, nursery) -> None:
    """An event outlives its client's registration; meanwhile the client is unknown."""
    api = await started(nursery)
    await api.post("/v1/events", event(id="e1"))
    await now()
    api.flow.registration.remove("acme")
    refused_as(await api.post("/v1/events", event(id="e1")), 404, "unknown-client")
    api.flow.put()
    assert (await api.post("/v1/events", event(id="e1"))).status == 200
    refused_as(await api.post("/v1/events", event(id="e1", payload=2)), 409, "id-conflict")


async def test_partial_batch_shows_the_ids_of_what_it_refused(autojump_clock, nursery) -> None:
    """Wherever they can be read and are ids: a producer looks for them."""
    api = await started(nursery)
    items = [
        event(id="a", type="?"),
        event(id="b", extra=1),
        event(id="c", payload="x" * 300_000),
        {"id": "d", "client_id": "acme"},
        event(id="not an id"),
        event(id=7, client_id=["acme"]),
        7,
        event(id="e", client_id="nobody"),
    ]
    answer = await api.post("/v1/events/batch?partial=true", items)
    assert [(item["id"], item["client_id"]) for item in answer.body["events"]] == [
        ("a", "acme"),
        ("b", "acme"),
        ("c", "acme"),
        ("d", "acme"),
        (None, "acme"),
        (None, None),
        (None, None),
        ("e", "nobody"),
    ]
    assert all(item["status"] is None for item in answer.body["events"])
    lines = await api.ndjson("/v1/clients/acme/events?partial=true", b"{", {"id": "f", "type": "?", "payload": 1})
    assert [(item["id"], item["client_id"]) for item in lines.body["events"]] == [(None, "acme"), ("f", "acme")]


async def test_header_that_cannot_be_read_is_no_500(autojump_clock, nursery) -> None:
    """Accept and Content-Type in bytes that are nobody's."""
    api = await started(nursery)
    headers = {"accept": "\xff, ;q=, text", "content-type": "application/json"}
    response = await api.client.open("/v1/events", method="POST", data=json.dumps(event()).encode(), headers=headers)
    assert response.status_code == 202
    response = await api.client.open("/v1/events", method="GET", headers=headers)
    refused_as(await answer_of(response), 406, "not-acceptable")
