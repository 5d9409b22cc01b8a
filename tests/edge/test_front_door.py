"""The front door over real sockets: what a producer's software sends beside its event, and what it is told."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from hookd.core.bind import parse_bind
from hookd.edge.api import create_app
from hookd.edge.server import Server, bound_sockets

from tests.edge.server.harness import read_all
from tests.flow.harness import Flow

EVENT: dict[str, Any] = {"client_id": "acme", "type": "t", "payload": 1}
CLOSE = {"Connection": "close"}


@asynccontextmanager
async def door(bind: str = "127.0.0.1:0") -> AsyncIterator[tuple[Server, Flow]]:
    """The application on a socket."""
    flow = Flow()
    flow.put()
    server = Server(create_app(flow.services()), bound_sockets([bind]), log=lambda *_, **__: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve)
        yield server, flow
        nursery.cancel_scope.cancel()


async def ask(server: Server, request: bytes) -> tuple[int, dict[str, Any]]:
    url = server.urls[0]
    with trio.fail_after(5):
        stream: trio.SocketStream
        if url.startswith("unix:"):
            stream = await trio.open_unix_socket(url.removeprefix("unix:"))
        else:
            stream = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
        async with stream:
            await stream.send_all(request)
            head, _, body = (await read_all(stream)).partition(b"\r\n\r\n")
    return int(head[9:12]), json.loads(body) if body.startswith(b"{") else {}


def post(
    body: Any = EVENT, path: str = "/v1/events", headers: list[str] | None = None, *, host: str = "localhost"
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(data)}"]
    given = headers or []
    if not any(one.lower().startswith("content-type") for one in given):
        given = ["Content-Type: application/json", *given]
    return "\r\n".join([*lines, *given, "", ""]).encode() + data


@pytest.mark.parametrize("behind", [b"\r\n", b"\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"])
@pytest.mark.parametrize("request_", [post(), post().replace(b"HTTP/1.1", b"HTTP/1.0")], ids=["close", "1.0"])
async def test_event_before_a_stray_line_break_is_admitted_and_its_producer_told(
    request_: bytes, behind: bytes
) -> None:
    """Before: 400, and the event was delivered."""
    async with door() as (server, flow):
        assert (await ask(server, request_ + behind))[0] == 202
        assert len(flow.events()) == 1


# Who asks


@pytest.mark.parametrize("host", ["unix", "localhost", "hookd.example", "", "_", "%2Fvar%2Frun%2Fhookd.sock"])
async def test_any_host_is_answered_on_a_unix_socket(tmp_path: Path, host: str) -> None:
    """No name leads there, so no page can be rebound to it. A foreign Origin still shows one that a proxy lets in."""
    async with door(f"unix:{tmp_path}/s") as (server, _):
        assert (await ask(server, post(host=host)))[0] == 202
        assert (await ask(server, post(host=host, headers=["Origin: http://evil.example"])))[0] == 403
        assert (await ask(server, post(host=host, headers=["Sec-Fetch-Site: cross-site"])))[0] == 403


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        ("/v1/events", "localhost", 202),
        ("/v1/events", "localhost.", 202),
        ("/v1/events", "LOCALHOST.:80", 202),
        ("/v1/events", "unix", 403),
        ("/v1/events", "evil.example", 403),
        ("http://localhost/v1/events", "evil.example", 202),
        ("HTTP://LOCALHOST/v1/events", "localhost", 202),
        ("http://127.0.0.1:9/v1/events", "", 202),
        ("http://evil.example/v1/events", "localhost", 403),
        ("HTTPS://evil.example/v1/events", "localhost", 403),
        ("http://localhost@evil.example/v1/events", "localhost", 403),
        ("http://evil@localhost/v1/events", "localhost", 403),
        ("http://localhost/v1/%3Fevents", "localhost", 404),
        ("http://localhost", "localhost", 405),
        ("http://localhost?limit=1", "localhost", 405),
        ("http://", "localhost", 400),
        ("ftp://localhost/v1/events", "localhost", 400),
    ],
)
async def test_target_wins_over_host(target: str, host: str, status: int) -> None:
    """RFC 9112, section 3.2.2: who judges the one must not route by the other."""
    async with door() as (server, flow):
        assert (await ask(server, post(path=target, host=host)))[0] == status
        assert len(flow.events()) == (status == 202)


async def test_peer_that_calls_itself_unix_is_judged_by_its_host() -> None:
    """The socket says it, no header."""
    async with door() as (server, _):
        for name in ("Remote-Addr", "X-Forwarded-For", "Forwarded"):
            assert (await ask(server, post(host="unix", headers=[f"{name}: unix"])))[0] == 403


@pytest.mark.parametrize("bind", ["LOCALHOST:0", "Localhost:0"])
def test_bind_knows_no_case(bind: str) -> None:
    assert parse_bind(bind).is_loopback
    (one,) = bound_sockets([bind])
    with one:
        assert one.family == socket.AF_INET


# What stands beside the body


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Encoding:", 202),
        ("Content-Encoding: ", 202),
        ("Content-Encoding: identity", 202),
        ("Content-Encoding: Identity, ,", 202),
        ("Content-Encoding: gzip", 415),
        ("Content-Encoding: identity, gzip", 415),
        ("Content-Encoding: identity\r\nContent-Encoding: gzip", 415),
    ],
)
async def test_empty_content_encoding_means_none(header: str, status: int) -> None:
    async with door() as (server, _):
        assert (await ask(server, post(headers=[header])))[0] == status


# Idempotency-Key


@pytest.mark.parametrize("path", ["/v1/events", "/v1/clients/acme/events"])
@pytest.mark.parametrize("key", ["k-1", '"k-1"', "  k-1 "])
async def test_idempotency_key_is_the_events_id(path: str, key: str) -> None:
    """The same twice is one event, and the second time 200; with another payload it is a conflict."""
    async with door() as (server, flow):
        header = [f"Idempotency-Key: {key}"]
        status, event = await ask(server, post(path=path, headers=header))
        assert (status, event["id"]) == (202, "k-1")
        assert (await ask(server, post(path=path, headers=header * 2)))[0] == 200
        assert (await ask(server, post(EVENT | {"id": "k-1"}, path, header)))[0] == 200
        status, problem = await ask(server, post(EVENT | {"payload": 2}, path, header))
        assert (status, problem["type"]) == (409, "/problems/id-conflict")
        assert len(flow.events()) == 1


@pytest.mark.parametrize(
    ("body", "headers", "pointer"),
    [
        (EVENT | {"id": "other"}, ["Idempotency-Key: k"], "/id"),
        (EVENT, ["Idempotency-Key: a", "Idempotency-Key: b"], None),
        (EVENT, ["Idempotency-Key:"], None),
        (EVENT, ["Idempotency-Key: a b"], None),
        (EVENT, ["Idempotency-Key: " + "x" * 65], None),
    ],
)
async def test_idempotency_key_that_cannot_be_the_id_is_422(body: Any, headers: list[str], pointer: str | None) -> None:
    """Both that differ, two, none, and what is no id: nothing is admitted under another one."""
    async with door() as (server, flow):
        status, problem = await ask(server, post(body, headers=headers))
        assert (status, problem["type"]) == (422, "/problems/invalid-event")
        assert "Idempotency-Key" in problem["detail"]
        assert [one["pointer"] for one in problem.get("errors", [])] == ([] if pointer is None else [pointer])
        assert flow.events() == []


@pytest.mark.parametrize("query", ["", "?partial=true"])
async def test_idempotency_key_of_a_batch_is_refused_unless_each_event_has_its_id(query: str) -> None:
    """It would be passed over in silence, and the batch admitted twice."""
    async with door() as (server, flow):
        path, header = f"/v1/events/batch{query}", ["Idempotency-Key: k"]
        status, problem = await ask(server, post([EVENT, EVENT | {"id": "a"}], path, header))
        assert (status, problem["type"]) == (422, "/problems/invalid-event")
        assert flow.events() == []
        assert (await ask(server, post([EVENT | {"id": "b"}, EVENT | {"id": "a"}], path, header)))[0] == 202


# What is wrong with an event


async def test_all_mistakes_of_an_event_are_told_with_suggestions() -> None:
    async with door() as (server, _):
        body = {"client": "acme", "typ": "t", "paylod": 1, "id": "a b"}
        status, problem = await ask(server, post(body))
        assert (status, problem["type"]) == (422, "/problems/invalid-event")
        assert {one["pointer"]: one["detail"] for one in problem["errors"]} == {
            "/client": 'is not a field of an event; did you mean "client_id"?',
            "/typ": 'is not a field of an event; did you mean "type"?',
            "/paylod": 'is not a field of an event; did you mean "payload"?',
            "/client_id": "is required",
            "/type": "is required",
            "/payload": "is required",
            "/id": "must be 1 to 64 of A-Z a-z 0-9 _ -",
        }


async def test_all_mistakes_of_all_events_of_a_batch_are_told() -> None:
    async with door() as (server, _):
        _, problem = await ask(server, post([EVENT, {"type": 1}, {"Type": "t"}], "/v1/events/batch"))
        assert [one["pointer"] for one in problem["errors"]] == [
            "/1/type",
            "/1/client_id",
            "/1/payload",
            "/2/Type",
            "/2/client_id",
            "/2/type",
            "/2/payload",
        ]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ([EVENT], [], 422),
        (b" \n" + json.dumps([EVENT]).encode(), [], 422),
        ([], [], 422),
        (b"[", [], 422),
        (EVENT, ["Content-Type: application/x-ndjson"], 415),
    ],
)
async def test_batch_on_the_route_of_one_event_is_told_where_it_goes(
    body: Any, headers: list[str], status: int
) -> None:
    async with door() as (server, _):
        answered, problem = await ask(server, post(body, headers=headers))
        assert answered == status
        assert "/v1/events/batch" in problem["detail"]
