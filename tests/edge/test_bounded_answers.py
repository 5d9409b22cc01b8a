"""Whatever a request holds, its refusal is short: every route, every place of a request that an answer might repeat.

One refusal takes at most 4 KiB, however long the request. A list of errors takes at most 100 times that, and a batch
admitted in part 4 KiB for each event; neither grows with what is in the events.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hookd.core.quoting import CUT_MARK, QUOTED_CHARS_MAX
from hookd.edge.api.operations import operation_of
from hookd.edge.api.problems import ERRORS_MAX
from hookd.edge.api.queries import parameters_of

from tests.edge.test_api import EVENT, URL, Answer, Api, answer_of, event, started

REFUSAL_BYTES_MAX = 4096
# A control character takes six bytes of JSON, a quote two, a slash of a pointer two; a letter of the planes four.
FILLINGS = ["x", "\x01", '"', "/", "~", "\U0001f600", "'"]
IN_A_HEAD = 20_000
IN_A_BODY = 100_000
NDJSON = "application/x-ndjson"


def size_of(answer: Answer) -> int:
    return len(answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode())


async def asked(api: Api, method: str, path: str, body: bytes | None = None, **named: Any) -> Answer:
    """Past the test of conformity: paths such as these are none that the description knows."""
    headers = {"content-type": "application/json"} | named.pop("headers", {})
    return await answer_of(await api.client.open(path, method=method, data=body, headers=headers, **named))


def refused_shortly(answer: Answer) -> None:
    assert answer.status >= 400
    assert size_of(answer) <= REFUSAL_BYTES_MAX


def operations(api: Api) -> Iterator[tuple[str, str, Any]]:
    """Method, path with its parameters in <>, operation, of every route."""
    for rule in api.app.url_map.iter_rules():
        operation = operation_of(api.app.view_functions[rule.endpoint])
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, rule.rule, operation


def filled(path: str, **given: str) -> str:
    known = {"client_id": "acme", "endpoint_id": "default", "event_id": "none", "slug": "none"} | given
    for name, value in known.items():
        path = path.replace(f"<{name}>", value)
    assert "<" not in path
    return path


async def test_long_name_in_a_path_is_not_repeated(autojump_clock, nursery) -> None:
    """Every route with ids in its path."""
    api = await started(nursery)
    long, bodies = "x" * IN_A_HEAD, {"/events": json.dumps({"type": "t", "payload": 1}), "/replay": "{}"}
    tried = 0
    for method, path, _ in operations(api):
        for name in (name for name in ("client_id", "endpoint_id", "event_id", "slug") if f"<{name}>" in path):
            body = next((body for end, body in bodies.items() if path.endswith(end)), '{"url": "https://h.example/"}')
            refused_shortly(await asked(api, method, filled(path, **{name: long}), body.encode()))
            tried += 1
    assert tried > 12


@pytest.mark.parametrize("filling", FILLINGS)
async def test_long_path_of_no_route_is_not_repeated(autojump_clock, nursery, filling: str) -> None:
    """Also with a slash at its end, and where only the method is not taken."""
    api = await started(nursery)
    for path in ("/" + filling * IN_A_HEAD, "/v1/x" + filling * IN_A_HEAD + "/", "/v1/clients/" + filling * IN_A_HEAD):
        refused_shortly(await asked(api, "PATCH", path))
        refused_shortly(await asked(api, "X" * 5000, path))


@pytest.mark.parametrize("filling", FILLINGS)
async def test_long_parameter_is_not_repeated(autojump_clock, nursery, filling: str) -> None:
    """On every route a name that is none; on those that have parameters each with a value that it cannot have.

    The page's search box may have any: its page is no longer than with a short one, but for what is shown of it.
    """
    api = await started(nursery)
    long, tried = filling * IN_A_HEAD, 0
    for method, path, operation in operations(api):
        refused_shortly(await asked(api, method, filled(path), query_string={long: "1"}))
        for name in parameters_of(operation.query) if operation.query else ():
            answer = await asked(api, method, filled(path), query_string={name: long})
            short = await asked(api, method, filled(path), query_string={name: "x"})
            assert size_of(answer) <= REFUSAL_BYTES_MAX + (size_of(short) if answer.status < 400 else 0)
            assert answer.status >= 400 or name in {"verbose", "name"}  # which may have any value
            refused_shortly(await asked(api, method, filled(path), query_string={name: [long] * 9}))
            tried += 1
    assert tried > 8


async def test_long_header_is_not_repeated(autojump_clock, nursery) -> None:
    """Media type, charset, encoding, Host, Origin, Accept: on every route that looks at them."""
    api = await started(nursery)
    long = "x" * IN_A_HEAD
    for method, path, operation in operations(api):
        if operation.bodies:
            for headers in (
                {"content-type": f"{long}/{long}"},
                {"content-type": f"{next(iter(operation.bodies))}; charset={long}"},
                {"content-type": next(iter(operation.bodies)), "content-encoding": long},
            ):
                headers["content-length"] = "2"  # as a server would have it; rotate-secret reads no body without
                refused_shortly(await asked(api, method, filled(path), b"{}", headers=headers))
        if operation.scope is not None:
            for headers in ({"host": long}, {"origin": long}, {"sec-fetch-site": long}):
                refused_shortly(await asked(api, method, filled(path), headers=headers))
        if method == "GET" and operation.answers and None not in operation.answers.values():
            refused_shortly(await asked(api, method, filled(path), headers={"accept": f"{long}/{long}"}))


def hostile_objects(good: dict[str, Any], long: str) -> Iterator[dict[str, Any]]:
    """A long name, and a long text or a long name in the place of each field."""
    yield good | {long: 1}
    for name in good:
        yield good | {name: long}
        yield good | {name: {long: long}}
        yield good | {name: [long]}


@pytest.mark.parametrize("filling", FILLINGS)
async def test_long_text_in_an_event_is_not_repeated(autojump_clock, nursery, filling: str) -> None:
    """One event, a batch, lines; the client in the body or in the path."""
    api = await started(nursery)
    long = filling * (IN_A_BODY // len(json.dumps(filling)))
    for number, hostile in enumerate(hostile_objects(event(id="e", payload=1), long)):
        if hostile["payload"] != 1:  # any payload is right
            continue
        body = json.dumps(hostile).encode()
        for path, data, kind in (
            ("/v1/events", body, "application/json"),
            ("/v1/clients/acme/events", body, "application/json"),
            ("/v1/events/batch", b"[" + body + b"]", "application/json"),
            ("/v1/events/batch", body, NDJSON),
        ):
            refused_shortly(await asked(api, "POST", path, data, headers={"content-type": kind}))
        answer = await asked(api, "POST", "/v1/events/batch?partial=true", b"[" + body + b"]")
        assert (answer.status, size_of(answer) <= REFUSAL_BYTES_MAX) == (202, True), number


@pytest.mark.parametrize("filling", FILLINGS)
async def test_long_text_in_a_definition_is_not_repeated(autojump_clock, nursery, filling: str) -> None:
    """Names, ids, URLs and their hosts, header names and values, durations."""
    api = await started(nursery)
    long = filling * (IN_A_BODY // len(json.dumps(filling)))
    entry = {"url": URL, "id": "a", "secret": "s", "event_types": [], "headers": {}, "timeout": "1s", "schedule": []}
    hostile = [{"endpoints": [one]} for one in hostile_objects(entry, long)]
    hostile += [*hostile_objects({"url": URL, "secret": "s"}, long), {"endpoints": [entry], long: 1}]
    hostile += [{"url": f"https://{long}/"}, {"url": f"{long}://h/"}, {"url": f"https://h:{long}/"}]
    for definition in hostile:
        refused_shortly(await asked(api, "PUT", "/v1/clients/acme", json.dumps(definition).encode()))


@pytest.mark.parametrize("filling", FILLINGS)
async def test_long_text_in_a_reports_line_or_a_replay_is_not_repeated(autojump_clock, nursery, filling: str) -> None:
    """Of a line what its fields cannot be; a name that a line does not have is passed over, in a replay it is not."""
    api = await started(nursery)
    long = filling * (IN_A_BODY // len(json.dumps(filling)))
    line = {"kind": "undelivered", "event_id": "e", "client_id": "acme", "endpoint_id": "default", "type": "t"}
    line |= {"url": URL, "accepted_at": "2026-11-21T18:35:00Z", "payload_base64": "MQ==", "attempt_count": 1}
    for hostile in hostile_objects(line, long):
        if hostile.keys() == line.keys():
            body = json.dumps(hostile).encode()
            refused_shortly(await asked(api, "POST", "/v1/resend", body, headers={"content-type": NDJSON}))
    replay = {"since": "2026-11-21T18:35:00Z", "until": None, "statuses": ["exhausted"], "dry_run": True}
    for hostile in hostile_objects(replay, long):
        refused_shortly(await asked(api, "POST", "/v1/clients/acme/replay", json.dumps(hostile).encode()))


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/events"), ("PUT", "/v1/clients/acme")])
async def test_body_that_is_no_json_is_not_repeated(autojump_clock, nursery, method: str, path: str) -> None:
    """Text that never ends, a number, a name without its object."""
    api = await started(nursery)
    for body in (b'"' + b"x" * IN_A_BODY, b"x" * IN_A_BODY, b"\xff" * IN_A_BODY, b'{"' + b"x" * IN_A_BODY + b'": }'):
        refused_shortly(await asked(api, method, path, body))


async def test_long_name_of_a_field_is_answered_in_a_sentence(autojump_clock, nursery) -> None:
    """The pointer is cut and says so."""
    api = await started(nursery)
    answer = await asked(api, "POST", "/v1/events", json.dumps(EVENT | {"n" * 300_000: 1}).encode())
    pointer = f"/{'n' * QUOTED_CHARS_MAX}{CUT_MARK}"
    assert answer.body["errors"] == [{"pointer": pointer, "detail": "is not a field of an event"}]
    assert size_of(answer) < 600


async def test_five_megabytes_of_a_name_are_answered_in_a_sentence(autojump_clock, nursery) -> None:
    """They are no event, and not looked at."""
    api = await started(nursery)
    answer = await asked(api, "POST", "/v1/events", json.dumps(EVENT | {"n" * 5_000_000: 1}).encode())
    assert (answer.status, answer.body["type"]) == (413, "/problems/too-large")
    assert "intake.payload_bytes_max" in answer.body["detail"]
    assert size_of(answer) < 600


async def test_batch_lists_100_errors_and_how_many_more(autojump_clock, nursery) -> None:
    """Each long in itself: the answer's size has a bound whatever the batch."""
    api = await started(nursery)
    bad = [event(type="\x01" * 1000, payload=1) | {"/" * 1000: 1} for _ in range(1000)]
    answer = await asked(api, "POST", "/v1/events/batch", json.dumps(bad).encode())
    assert answer.status == 422
    assert len(answer.body["errors"]) == ERRORS_MAX == 100
    assert answer.body["errors_omitted"] == 1900  # each event has two: its type, and a field that is unknown
    assert answer.body["detail"].endswith("; 1,900 more errors are not listed")
    assert [error["pointer"].split("/")[1] for error in answer.body["errors"]] == [str(n // 2) for n in range(100)]
    assert size_of(answer) <= ERRORS_MAX * REFUSAL_BYTES_MAX


async def test_batch_of_100_errors_leaves_none_out(autojump_clock, nursery) -> None:
    """The limit itself is listed, and nothing is said of more."""
    api = await started(nursery)
    bad = [event(type="") for _ in range(100)]
    answer = await asked(api, "POST", "/v1/events/batch", json.dumps(bad).encode())
    assert [error["pointer"] for error in answer.body["errors"]] == [f"/{number}/type" for number in range(100)]
    assert "errors_omitted" not in answer.body
    assert "more errors" not in answer.body["detail"]


async def test_definition_and_report_list_100_errors_and_how_many_more(autojump_clock, nursery) -> None:
    """As a batch does: 16 endpoints of 100 wrong types, 60 lines of three wrong ids."""
    api = await started(nursery)
    endpoints = [{"id": f"e{number}", "url": URL, "event_types": ["é"] * 100} for number in range(16)]
    answer = await api.put("/v1/clients/acme", {"endpoints": endpoints})
    assert (len(answer.body["errors"]), answer.body["errors_omitted"]) == (100, 1500)
    lines = [{"kind": "undelivered", "type": "t", "payload": 1} for _ in range(60)]
    answer = await api.ndjson("/v1/resend", *lines)
    assert (len(answer.body["errors"]), answer.body["errors_omitted"]) == (100, 80)


async def test_partial_batch_repeats_no_long_client_of_its_path(autojump_clock, nursery) -> None:
    """Which stands in each of its thousand items, and in what is wrong with them."""
    api = await started(nursery)
    events = [{"type": "t", "payload": 1}, {"type": "t", "payload": 1, "client_id": "acme"}] * 500
    path = f"/v1/clients/{'x' * IN_A_HEAD}/events?partial=true"
    answer = await asked(api, "POST", path, json.dumps(events).encode())
    assert answer.status == 202
    assert size_of(answer) <= 1000 * REFUSAL_BYTES_MAX
    assert {item["client_id"] for item in answer.body["events"]} == {"x" * QUOTED_CHARS_MAX + CUT_MARK}


async def test_pointers_are_whole_when_short(autojump_clock, nursery) -> None:
    """RFC 6901's escapes included."""
    api = await started(nursery)
    assert (await api.post("/v1/events", event() | {"a/b~c": 1})).pointers == ["/a~1b~0c"]
    assert (await api.put("/v1/clients/acme", {"url": URL, "a/b~c": 1})).pointers == ["/a~1b~0c"]
    headers = {"url": URL, "headers": {"x y": "1", "n" * 100: "é\n"}}
    assert (await api.put("/v1/clients/acme", {"endpoints": [headers]})).pointers == [
        "/endpoints/0/headers/x y",
        f"/endpoints/0/headers/{'n' * 100}",
    ]
