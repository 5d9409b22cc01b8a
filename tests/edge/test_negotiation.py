"""What HTTP asks of every route alike, through the application: methods, Accept, query parameters, odd paths."""

import json
import re
from collections.abc import Iterator

import pytest
from hookd.edge.api import create_app
from hookd.edge.api.operations import operation_of
from hookd.edge.api.problem_docs import EXPLANATIONS
from hookd.edge.api.problems import PROBLEMS
from quart import Quart

from tests.edge.test_api import Answer, Api, answer_of, event, refused_as, started
from tests.flow.harness import URL, Flow, now

JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"  # HttpURLConnection's own
ODD_IDS = [
    "a%2Fb",
    "%2E%2E",
    "..",
    ".",
    "%00",
    "%ff",
    "%ed%a0%80",
    "%C3%A9",
    "%0D%0Ax",
    "a%20b",
    "x" * 5000,
    "%",
    "%zz",
]


def routes(app: Quart) -> Iterator[tuple[str, set[str]]]:
    """Every path, with ids of things that are not there, and its methods."""
    for rule in app.url_map.iter_rules():
        yield (
            rule.rule.replace("<client_id>", "acme")
            .replace("<event_id>", "e1")
            .replace("<endpoint_id>", "default")
            .replace("<slug>", "full"),
            set(rule.methods or ()),
        )


async def all_routes() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path, methods in routes(create_app(Flow().services())):
        found.setdefault(path, set()).update(methods)
    for path in ("/v1/events/batch", "/v1/events/lookup"):
        found[path] |= found["/v1/events/e1"]  # an event may have this id
    return found


async def test_options_says_what_each_route_takes(autojump_clock, nursery) -> None:
    """204 with Allow, nothing done, and nothing that would let a web page in."""
    api = await started(nursery)
    paths = await all_routes()
    assert len(paths) > 15
    assert paths["/v1/clients/acme"] == {"DELETE", "GET", "HEAD", "OPTIONS", "PUT"}
    for path, methods in paths.items():
        response = await api.client.open(path, method="OPTIONS")
        assert response.status_code == 204, path
        assert response.headers["allow"] == ", ".join(sorted(methods))
        assert not [name for name, _ in response.headers.items() if name.lower().startswith("access-control")]
        assert await response.get_data() == b""
    assert api.flow.events() == []


async def test_method_not_taken_is_405_with_what_is(autojump_clock, nursery) -> None:
    """On every route, known methods and invented ones; HEAD wherever GET is."""
    api = await started(nursery)
    for path, methods in (await all_routes()).items():
        assert ("HEAD" in methods) == ("GET" in methods), path
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"} - methods:
            answer = refused_as(await api.call(method, path), 405, "method-not-allowed")
            assert answer.headers["allow"] == ", ".join(sorted(methods))
            assert method in answer.body["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/status/",
        "/v1/events/",
        "/v1/clients/acme/",
        "/livez/",
        "//v1/status",
        "/v1//status",
        "/v1/clients//events",
        "/problems/",
        "/v1/../v1/status",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_nothing_redirects(autojump_clock, nursery, method, path) -> None:
    """A slash too many is 404, and says so where it is at the end."""
    api = await started(nursery)
    answer = refused_as(await api.call(method, path), 404, "not-found")
    assert "location" not in answer.headers
    assert ("slash" in answer.body["detail"]) == path.endswith("/")


@pytest.mark.parametrize(
    ("method", "path", "status", "meant"),
    [
        ("POST", "/v1/clients/acme/events/batch", 405, "/v1/events/batch"),
        ("POST", "/v1/clients/acme/events/lookup", 405, "/v1/events/lookup"),
        ("GET", "/v1/clients/acme/events", 405, "GET /v1/events?client_id="),
        ("DELETE", "/v1/clients/acme/events/e1", 405, "/v1/clients/CLIENT/events/ID/cancel"),
        ("POST", "/v1/clients", 405, "PUT /v1/clients/CLIENT"),
        ("PATCH", "/v1/clients/acme/endpoints/default", 404, "PUT /v1/clients/CLIENT"),
        ("GET", "/v1/clients/acme/endpoints", 404, "/v1/clients/CLIENT"),
        ("POST", "/v1/clients/acme/endpoints/default/enable", 404, "resume"),
        ("POST", "/v1/events/e1/retry", 404, "/v1/clients/CLIENT/events/ID/"),
        ("POST", "/v1/replay", 404, "/v1/clients/CLIENT/"),
        ("POST", "/events", 404, "/v1/events"),
        ("POST", "/v1/event", 404, "/v1/events"),
        ("POST", "/V1/Messages", 404, "/v1/events"),
        ("GET", "/v1/client", 404, "/v1/clients"),
        ("GET", "/status", 404, "/v1/status"),
        ("GET", "/healthz", 404, "/livez"),
        ("GET", "/v1/nothing/like/it", 404, "/openapi.json lists"),
    ],
)
async def test_path_that_strangers_try_is_told_what_was_meant(
    autojump_clock, nursery, method, path, status, meant
) -> None:
    """What it names is there."""
    api = await started(nursery)
    answer = refused_as(await api.call(method, path), status, {404: "not-found", 405: "method-not-allowed"}[status])
    said = answer.body["detail"].partition("; ")[2].removeprefix("Allow lists what it takes")
    assert meant in said, answer.body
    named = {one.replace("CLIENT", "acme").replace("ID", "e1") for one in re.findall(r"/[a-zA-Z0-9/.]+", said)}
    there = await all_routes()
    for one in named:
        assert one in there or any(route.startswith(one) for route in there if one.endswith("/")), one


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/v1/clients"), ("PUT", "/v1/events"), ("PUT", "/v1/events/batch")]
)
async def test_path_that_is_right_is_not_told_as_what_was_meant(autojump_clock, nursery, method, path) -> None:
    """It only does not take the method: Allow has what it takes."""
    api = await started(nursery)
    answer = refused_as(await api.call(method, path), 405, "method-not-allowed")
    assert answer.body["detail"].endswith("; Allow lists what it takes")


async def test_path_with_two_slashes_first_is_named_as_it_came(autojump_clock, nursery) -> None:
    """Not as the route that would be there with one."""
    api = await started(nursery)
    answer = refused_as(await api.call("POST", "//v1/events"), 404, "not-found")
    assert "there is no route '//v1/events'" in answer.body["detail"]


@pytest.mark.parametrize("odd", ODD_IDS)
async def test_odd_ids_in_a_path_are_answered(autojump_clock, nursery, odd) -> None:
    """404 for what is read, 422 for what would be registered; never 500, and nothing is there afterwards."""
    api = await started(nursery)
    for path in (f"/v1/clients/{odd}", f"/v1/events/{odd}", f"/v1/clients/acme/events/{odd}", f"/problems/{odd}"):
        answer = await api.get(path)
        assert answer.status == 404, (path, answer)
    for path in (f"/v1/clients/{odd}/replay", f"/v1/clients/{odd}/events"):
        assert (await api.post(path, {"type": "t", "payload": 1} if path.endswith("events") else {})).status == 404
    assert (await api.post(f"/v1/clients/acme/endpoints/{odd}/pause")).status == 404
    assert (await api.delete(f"/v1/clients/{odd}")).status in (404, 405)
    assert (await api.put(f"/v1/clients/{odd}", {"url": "https://a.example/"})).status in (404, 405, 422)
    assert not api.flow.log.of("request.crashed")
    assert len(api.flow.registry) == 1


# Query parameters


async def test_unknown_and_doubled_parameters_are_422_on_every_route(autojump_clock, nursery) -> None:
    """Before anything is done; those a route has are named."""
    api = await started(nursery)
    for path, methods in (await all_routes()).items():
        for method in methods - {"OPTIONS", "HEAD"}:
            answer = refused_as(await api.call(method, f"{path}?colour=red"), 422, "invalid-query")
            assert "colour" in answer.body["detail"]
    for path in ("/v1/events?limit=1&limit=1", "/v1/events?limit=1&limit=2", "/v1/clients?cursor=a&cursor=b"):
        assert "2 times" in refused_as(await api.get(path), 422, "invalid-query").body["detail"]
    twice = await api.post("/v1/events/batch?partial=true&partial=false", [event()])
    refused_as(twice, 422, "invalid-query")
    assert (
        "partial" in refused_as(await api.post("/v1/events/batch?all", [event()]), 422, "invalid-query").body["detail"]
    )
    assert api.flow.events() == []
    assert not api.flow.log.of("client.removed")


async def test_parameters_that_are_not_utf8_or_without_value_are_422(autojump_clock, nursery) -> None:
    """Never 500."""
    api = await started(nursery)
    for query in ("%ff=1", "status=%ff", "type&type", "limit", "partial=true", "=", "=1", "limit=%00", "%00=1"):
        refused_as(await api.get(f"/v1/events?{query}"), 422, "invalid-query")
    assert (await api.get("/v1/events?")).status == 200
    assert (await api.get("/v1/events?&")).status == 200


# Accept


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("", 200),
        ("*/*", 200),
        ("application/json", 200),
        ("APPLICATION/JSON", 200),
        ("application/*", 200),
        ("application/json; charset=utf-8", 200),
        ("application/json;q=0.001", 200),
        ("text/html, application/xhtml+xml, */*;q=0.1", 200),
        ("text/html, application/json;q=0.1", 200),
        ("text/html;q=0, */*", 200),
        (JAVA, 200),
        ("*", 200),
        ("application/json;q=", 200),
        ("application/json;q=x", 200),
        ("application/json;q=-1", 200),
        ("application/json;q=.", 200),
        ("application/json;q=1.5", 200),
        ("application/json;q=nan", 200),
        ("application/json ; Q = 0.5", 200),
        ("*;q=0", 406),
        ("application/json;q=.0", 406),
        ("application/json; q=0.", 406),
        ("application/*;q=0, application/json", 200),
        ("text/html", 406),
        ("text/*", 406),
        ("application/xml", 406),
        ("application/json;q=0", 406),
        ("application/json;q=0, */*", 406),
        ("application/json;q=0.0, application/*;q=1", 406),
        ("application/*;q=0, */*", 406),
        ("*/*;q=0", 406),
    ],
)
async def test_accept_that_leaves_json_out_is_406(autojump_clock, nursery, accept, status) -> None:
    """The most specific range counts, q=0 is no, parameters are passed over."""
    api = await started(nursery)
    headers = {"accept": accept}
    answer = await answer_of(await api.client.open("/v1/status", method="GET", headers=headers))
    assert answer.status == status
    if status == 406:
        refused_as(answer, 406, "not-acceptable")
        assert "application/json" in answer.body["detail"]


async def test_query_or_accept_that_is_too_long_is_refused_before_it_is_taken_apart(autojump_clock, nursery) -> None:
    """On every route that reads: a head's worth of either took 10 ms of everyone's time. A hundred are read."""
    api = await started(nursery)
    for path, methods in (await all_routes()).items():
        if "GET" not in methods:
            continue
        answer = await api.get(f"{path}?{'a=1&' * 4000}")
        assert (answer.status, answer.body["type"]) == (422, "/problems/invalid-query")
        assert "more than 100 parameters" in answer.body["detail"]
        many = {"accept": "a/b," * 3000 + "*/*"}
        answer = await answer_of(await api.client.get(path, headers=many))
        assert (answer.status, answer.body["detail"]) == (406, "Accept has more than 100 ranges")
        some = {"accept": "a/b;q=0.1," * 99 + "*/*"}
        assert (await api.client.get(path, headers=some)).status_code != 406
    refused_as(await api.get(f"/v1/events?{'&' * 100}"), 422, "invalid-query")
    assert (await api.get(f"/v1/events?{'&' * 99}")).status == 200


@pytest.mark.parametrize("accept", ["text/html", "*/*;q=0", "application/json;q=0", ";", "nonsense", JAVA])
async def test_accept_never_refuses_what_changes_something(autojump_clock, nursery, accept: str) -> None:
    """An answer that its caller does not read is no reason to lose an event, a registration or a pause."""
    api = await started(nursery)
    assert (await api.post("/v1/events", event(id="e1"), accept=accept)).status == 202
    assert (await api.post("/v1/events/batch", [event(id="e2")], accept=accept)).status == 202
    assert (await api.post("/v1/clients/acme/events", event(id="e3"), accept=accept)).status == 202
    assert (await api.post("/v1/clients/acme/endpoints/default/pause", accept=accept)).status == 200
    assert (await api.put("/v1/clients/acme", {"url": URL}, accept=accept)).status == 200
    assert (await api.post("/v1/clients/acme/replay", {}, accept=accept)).status == 200
    assert len(api.flow.events()) == 3


async def test_accept_is_never_asked_of_an_error(autojump_clock, nursery) -> None:
    """What is refused for another reason is problem+json whatever Accept says."""
    api = await started(nursery)
    json_only = "application/json"
    refused_as(await api.post("/v1/events", event(client_id="nobody"), accept=json_only), 404, "unknown-client")
    refused_as(await api.call("GET", "/v1/nowhere", accept="text/html"), 404, "not-found")
    refused_as(await api.call("DELETE", "/v1/status", accept="text/html"), 405, "method-not-allowed")


async def test_accept_of_a_text_route_is_text(autojump_clock, nursery) -> None:
    """/livez for a probe that says so, JSON alone is 406; what answers with nothing asks nothing."""
    api = await started(nursery)
    for path in ("/livez", "/readyz", "/problems", "/problems/full"):
        assert (await api.call("GET", path, accept="text/plain")).status == 200
        refused_as(await api.call("GET", path, accept="application/json"), 406, "not-acceptable")
    assert (await api.call("DELETE", "/v1/clients/acme", accept="text/html")).status == 204


# Problems


async def test_every_problem_is_explained(autojump_clock, nursery) -> None:
    """What it means and what to do, as text, for each slug that an answer can name; the list has them all."""
    api = await started(nursery)
    assert set(EXPLANATIONS) == set(PROBLEMS)
    listing = await api.get("/problems")
    assert listing.headers["content-type"] == "text/plain; charset=utf-8"
    for slug, problem in PROBLEMS.items():
        answer = await api.get(f"/problems/{slug}")
        assert answer.status == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        heading, _, text = answer.body.decode().partition("\n\n")
        assert heading == f"{problem.status} {slug}: {problem.title}"
        means, _, do = text.removeprefix("What it means\n").partition("\n\nWhat to do\n")
        assert min(len(means), len(do)) > 30
        assert max(map(len, text.splitlines())) <= 120
        assert f"{problem.status}  /problems/{slug}  " in listing.body.decode()
    refused_as(await api.get("/problems/nothing"), 404, "not-found")


async def test_problems_are_open_to_everyone(autojump_clock, nursery) -> None:
    """Like the probes: they say nothing of anyone's events."""
    api = await started(nursery)
    for view in create_app(Flow().services()).view_functions:
        if view.startswith("problems."):
            assert operation_of(api.client.app.view_functions[view]).scope is None
    for path in ("/problems", "/problems/full", "/livez"):
        assert (await api.call("GET", path, host="hooks.example.com", origin="https://evil.example")).status == 200
    refused_as(await api.call("GET", "/v1/status", host="hooks.example.com"), 403, "forbidden")


# Replay's route


async def exhausted(api: Api, *ids: str) -> None:
    """Events of `acme`, given up as gone; its endpoint is well again."""
    api.flow.sender.script(URL, 410)
    await api.post("/v1/events/batch", [event(id=one) for one in ids])
    await now()
    api.flow.sender.script(URL, 200)
    api.flow.registration.resume("acme", "default")


async def test_replay_answers_what_matched_and_what_was_reopened(autojump_clock, nursery) -> None:
    """A dry run first; {} is everything; both times are optional."""
    api = await started(nursery)
    await exhausted(api, "e1", "e2", "e3")
    path = "/v1/clients/acme/replay"
    dry = await api.post(path, {"dry_run": True, "statuses": ["exhausted"]})
    assert (dry.status, counts(dry)) == (200, (3, 0))
    settled_at = (await api.get("/v1/events/e1")).body["settled_at"]
    late = await api.post(path, {"since": "2999-01-01T00:00:00+02:00"})
    assert counts(late) == (0, 0)
    done = await api.post(path, {"since": settled_at, "until": settled_at, "dry_run": False})
    assert (done.status, counts(done)) == (200, (3, 3))
    assert counts(await api.post(path, {})) == (0, 0)


def counts(replayed: Answer) -> tuple[int, int]:
    return replayed.body["matched"], replayed.body["reopened"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"since": "yesterday"}, "/since"),
        ({"since": "2026-11-21T18:35:00"}, "/since"),
        ({"since": 1}, "/since"),
        ({"until": "2026-13-21T18:35:00Z"}, "/until"),
        ({"since": "2026-11-21T18:35:00Z", "until": "2026-11-21T18:34:59Z"}, "/until"),
        ({"statuses": []}, "/statuses"),
        ({"statuses": "exhausted"}, "/statuses"),
        ({"statuses": ["exhausted", "pending"]}, "/statuses/1"),
        ({"statuses": ["gone"]}, "/statuses/0"),
        ({"statuses": [1]}, "/statuses/0"),
        ({"dry_run": "yes"}, "/dry_run"),
        ({"dryrun": True}, "/dryrun"),
        ([], ""),
        (None, ""),
    ],
)
async def test_replay_of_what_it_cannot_be_is_422_with_pointer(autojump_clock, nursery, body, pointer) -> None:
    """Nothing is reopened; a typing mistake in dry_run above all."""
    api = await started(nursery)
    await exhausted(api, "e1")
    answer = refused_as(
        await api.post("/v1/clients/acme/replay", json.dumps(body).encode(), content_type="application/json"),
        422,
        "invalid-query",
    )
    assert answer.pointers == [pointer]
    assert (await api.get("/v1/events/e1")).body["status"] == "exhausted"


async def test_replay_refuses_like_the_other_routes(autojump_clock, nursery) -> None:
    """No body, no JSON, another media type, an unknown client, draining."""
    api = await started(nursery)
    path = "/v1/clients/acme/replay"
    refused_as(await api.post(path), 415, "unsupported-media-type")
    refused_as(await api.post(path, {}, content_type="text/plain"), 415, "unsupported-media-type")
    for body in (b"{", b'{"since": "\xff"}', b"[" * 5000):
        assert (await api.post(path, body, content_type="application/json")).status in (400, 422)
    refused_as(await api.post("/v1/clients/nobody/replay", {}), 404, "unknown-client")
    api.flow.intake.close()
    assert int(refused_as(await api.post(path, {}), 503, "draining").headers["retry-after"]) == 20
