"""Bad input is refused with the documented problem, admits nothing, and the daemon goes on."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Api, Daemon, Receiver, event_body, wait_until

NDJSON = {"content-type": "application/x-ndjson"}
PAYLOAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 256 * 1024
SETTINGS = {"intake.payload_bytes_max": "64KiB", "intake.body_bytes_max": "256KiB", "intake.batch_events_max": 50}


class Running:
    """One daemon for the whole file, with one client and one event of it."""

    def __init__(self, daemon: Daemon, receiver: Receiver) -> None:
        self.daemon, self.receiver = daemon, receiver

    def accepted(self) -> int:
        with self.daemon.api as api:
            return int(api.status()["events"]["accepted"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("bad-input")
    with Receiver() as receiver, Daemon(directory, settings=SETTINGS) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            assert api.post("acme", "known", b'{"n": 1}').status == 202
        yield Running(daemon, receiver)
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.stderr


@pytest.fixture
def api(running: Running) -> Iterator[Api]:
    """Whatever is refused in a test: nothing was admitted, and the next event is delivered."""
    before = running.accepted()
    with running.daemon.api as api:
        yield api
    assert running.accepted() == before
    event_id = f"after-{before}"
    with running.daemon.api as api:
        assert api.post("acme", event_id).status == 202
    wait_until(lambda: event_id in running.receiver.ids(), what=f"delivery of {event_id}")


def event(**changes: object) -> bytes:
    fields = {"client_id": "acme", "type": "order.paid", "payload": {}, "id": "new", **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


BAD_EVENTS: dict[str, tuple[bytes, int, str, str | None]] = {
    "no JSON": (b"{nonsense", 400, "malformed-json", None),
    "empty body": (b"", 400, "malformed-json", None),
    "cut short": (event()[:-1], 400, "malformed-json", None),
    "something after it": (event() + b"{}", 400, "malformed-json", None),
    "NaN in the payload": (event_body("acme", "new", b'{"n": NaN}'), 400, "malformed-json", None),
    "bad UTF-8 in the payload": (event_body("acme", "new", b'"\xff\xfe"'), 400, "malformed-json", None),
    "bad UTF-8 in the type": (event().replace(b"order", b"\xc3\x28"), 400, "malformed-json", None),
    "cut UTF-8 at a key": (event().replace(b'"type"', b'"typ\xe2\x82"'), 400, "malformed-json", None),
    "surrogate in UTF-8": (event_body("acme", "new", b'"\xed\xa0\x80"'), 400, "malformed-json", None),
    "an array": (b"[]", 422, "invalid-event", None),
    "null": (b"null", 422, "invalid-event", None),
    "type is a number": (event(type=7), 422, "invalid-event", "/type"),
    "id is a number": (event(id=7), 422, "invalid-event", "/id"),
    "client is a list": (event(client_id=["acme"]), 422, "invalid-event", "/client_id"),
    "no type": (event(type=...), 422, "invalid-event", "/type"),
    "no payload": (event(payload=...), 422, "invalid-event", "/payload"),
    "no client": (event(client_id=...), 422, "invalid-event", "/client_id"),
    "unknown field": (event(payloads={}), 422, "invalid-event", "/payloads"),
    "type with a space": (event(type="order paid"), 422, "invalid-event", "/type"),
    "type too long": (event(type="x" * 129), 422, "invalid-event", "/type"),
    "empty id": (event(id=""), 422, "invalid-event", "/id"),
    "id with a dot": (event(id="a.b"), 422, "invalid-event", "/id"),
    "id too long": (event(id="x" * 65), 422, "invalid-event", "/id"),
    "id with a line break": (event(id="a\n"), 422, "invalid-event", "/id"),
    "1,001 levels": (event_body("acme", "new", nested(1001)), 422, "invalid-event", "/payload"),
    "10,001 levels": (event_body("acme", "new", nested(10_001)), 422, "invalid-event", None),
    "10,001 open levels": (event_body("acme", "new", b"[" * 10_001), 422, "invalid-event", None),
    "payload too large": (event(payload="x" * PAYLOAD_BYTES_MAX), 413, "too-large", "/payload"),
    "unknown client": (event(client_id="nobody"), 404, "unknown-client", None),
    "id of another event": (event(id="known", payload={"n": 2}), 409, "id-conflict", None),
}


@pytest.mark.parametrize("name", BAD_EVENTS)
def test_bad_event_is_refused_as_documented(api: Api, name: str) -> None:
    """Singly, and as the second of a batch, which then is refused whole with a pointer to it."""
    body, status, slug, pointer = BAD_EVENTS[name]
    refused = api.ask("POST", "/v1/events", body)
    if name == "10,001 open levels":  # neither closed nor within the depth: either is true
        assert refused.slug in ("invalid-event", "malformed-json")
        return
    assert (refused.status, refused.slug) == (status, slug)
    if pointer is not None:
        assert pointer in [error["pointer"] for error in refused.json["errors"]]
    if slug == "malformed-json" or name in ("null", "an array"):
        return
    batch = api.ask("POST", "/v1/events/batch", b"[" + event_body("acme", "good") + b"," + body + b"]")
    assert (batch.status, batch.slug) == (status, slug)
    if name != "10,001 levels":  # so deep that the items cannot be told apart
        assert any(error["pointer"].startswith("/1") for error in batch.json["errors"]), batch.json
    assert not any(error["pointer"].startswith("/0") for error in batch.json.get("errors", []))


def test_batch_lists_every_bad_item_and_answers_with_the_first(api: Api) -> None:
    """The status is that of the first bad item."""
    items = [event_body("acme", "good"), event(client_id="nobody"), event(type=7), event(id="known", payload=9)]
    for body, headers in ((b"[" + b",".join(items) + b"]", {}), (b"\n".join(items), NDJSON)):
        refused = api.ask("POST", "/v1/events/batch", body, headers)
        assert (refused.status, refused.slug) == (404, "unknown-client")
        assert {error["pointer"].split("/")[1] for error in refused.json["errors"]} == {"1", "2", "3"}


def test_bad_line_of_ndjson_is_malformed(api: Api) -> None:
    """The good line beside it is not admitted."""
    refused = api.ask("POST", "/v1/events/batch", event_body("acme", "good") + b"\n{nonsense\n", NDJSON)
    assert (refused.status, refused.slug) == (400, "malformed-json")
    assert {error["pointer"] for error in refused.json["errors"]} == {"/1"}


@pytest.mark.parametrize(("body", "form"), [(b"[]", {}), (b"", NDJSON), (b"\n \n", NDJSON)])
def test_empty_batch_is_invalid(api: Api, body: bytes, form: dict[str, str]) -> None:
    """An empty batch is a producer's mistake, not a success."""
    refused = api.ask("POST", "/v1/events/batch", body, form)
    assert (refused.status, refused.slug) == (422, "invalid-event")


def test_batch_that_is_no_array_is_invalid(api: Api) -> None:
    """One event has its own route."""
    assert api.ask("POST", "/v1/events/batch", event()).slug == "invalid-event"


def test_batch_of_too_many_is_too_large(api: Api) -> None:
    """51 where 50 are the most."""
    body = b"[" + b",".join(event_body("acme", f"many-{n}") for n in range(51)) + b"]"
    refused = api.ask("POST", "/v1/events/batch", body)
    assert (refused.status, refused.slug) == (413, "too-large")


def test_partial_batch_admits_what_it_can(running: Running) -> None:
    """Always 202; a refused item in its place, with its problem."""
    before = running.accepted()
    with running.daemon.api as api:
        items = [event_body("acme", "partial"), event(client_id="nobody"), event(type=7)]
        answer = api.ask("POST", "/v1/events/batch?partial=true", b"[" + b",".join(items) + b"]")
    assert answer.status == 202
    good, unknown, bad = answer.json["events"]
    assert (good["id"], good["client_id"]) == ("partial", "acme")
    assert (unknown["status"], unknown["problem"]["type"]) == (None, "/problems/unknown-client")
    assert (bad["status"], bad["problem"]["type"]) == (None, "/problems/invalid-event")
    assert running.accepted() == before + 1


def test_1000_levels_are_accepted_and_arrive(running: Running) -> None:
    """The deepest that is taken, and brackets in strings do not count."""
    payloads = {"deep": nested(1000), "text": json.dumps("[" * 2000).encode()}
    with running.daemon.api as api:
        for event_id, payload in payloads.items():
            assert api.post("acme", event_id, payload).status == 202
    wait_until(lambda: payloads.keys() <= running.receiver.ids().keys(), what="both delivered")
    bodies = {received.event_id: received.body for received in running.receiver.log}
    assert {event_id: bodies[event_id] for event_id in payloads} == payloads


def test_lone_surrogate_is_kept_or_refused_as_documented(running: Running) -> None:
    """JSON's grammar has it and I-JSON forbids it: never changed on its way, never a 500."""
    payload = b'{"lone": "\\ud800", "more": "........"}'
    with running.daemon.api as api:
        answer = api.post("acme", "lone", payload)
    if answer.status != 202:
        assert (answer.status, answer.slug) == (400, "malformed-json")
        return
    wait_until(lambda: "lone" in running.receiver.ids(), what="delivery")
    assert payload in [received.body for received in running.receiver.log]


def test_body_too_large_by_content_length_is_refused_before_it_is_sent(running: Running, api: Api) -> None:
    """The announcement is enough: no byte of the body is waited for."""
    head = "POST /v1/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", running.daemon.port), timeout=10) as peer:
        peer.sendall(f"{head}Content-Length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode())
        answer = read_problem(peer)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/too-large" in answer


def test_body_too_large_by_chunks_is_refused(running: Running, api: Api) -> None:
    """Without an announcement it is counted as it comes; the peer is told, whether it has sent all or not."""
    head = "POST /v1/events/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunk = b"8000\r\n" + b" " * 0x8000 + b"\r\n"
    with socket.create_connection(("127.0.0.1", running.daemon.port), timeout=10) as peer:
        peer.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        peer.sendall(chunk * (BODY_BYTES_MAX // 0x8000 + 1))
        answer = read_problem(peer)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"/problems/too-large" in answer


def read_problem(peer: socket.socket) -> bytes:
    """Up to the end of the problem's object, or of the stream."""
    answer = b""
    while not answer.endswith(b"}") and (more := peer.recv(65536)):
        answer += more
    return answer


def test_chunked_body_of_right_size_is_taken(running: Running) -> None:
    """Chunks are as good as a length."""
    body = event_body("acme", "chunked", b'{"in": "chunks"}')
    with running.daemon.api as api:
        assert api.ask("POST", "/v1/events", iter([body[:10], body[10:]])).status == 202


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/x-ndjson", ""])
def test_other_media_types_are_refused(api: Api, media_type: str) -> None:
    """One event is JSON, and says so."""
    refused = api.ask("POST", "/v1/events", event(), {"content-type": media_type})
    assert (refused.status, refused.slug) == (415, "unsupported-media-type")


def test_compressed_and_foreign_charset_bodies_are_refused(api: Api) -> None:
    """The bytes are the payload: nothing is decoded."""
    for headers in ({"content-encoding": "gzip"}, {"content-type": "application/json; charset=latin-1"}):
        assert api.ask("POST", "/v1/events", event(), headers).slug == "unsupported-media-type"


def test_checks_run_in_the_documented_order(api: Api) -> None:
    """Media type before size before shape before client."""
    large = "x" * PAYLOAD_BYTES_MAX
    everything_wrong = event(payload=large, type="a b", client_id="nobody")
    assert api.ask("POST", "/v1/events", everything_wrong, {"content-type": "text/plain"}).status == 415
    assert api.ask("POST", "/v1/events", event(payload=large, client_id="nobody")).slug == "too-large"
    assert api.ask("POST", "/v1/events", event(type="a b", client_id="nobody")).slug == "invalid-event"
    assert api.ask("POST", "/v1/events", event(id="known", client_id="nobody")).slug == "unknown-client"


@pytest.mark.parametrize(
    ("method", "path", "status", "slug"),
    [
        ("GET", "/v1/nothing", 404, "not-found"),
        ("GET", "/v1/events/nothing", 404, "unknown-event"),
        ("GET", "/v1/clients/nobody", 404, "unknown-client"),
        ("GET", "/v1/clients/nobody/events/e", 404, "unknown-client"),
        ("DELETE", "/v1/events", 405, "method-not-allowed"),
        ("GET", "/v1/events?limit=0", 422, "invalid-query"),
        ("GET", "/v1/events?limit=1001", 422, "invalid-query"),
        ("GET", "/v1/events?status=sent", 422, "invalid-query"),
        ("GET", "/v1/events?cursor=!", 422, "invalid-query"),
        ("GET", "/v1/events?colour=red", 422, "invalid-query"),
    ],
)
def test_bad_requests_get_their_problem(api: Api, method: str, path: str, status: int, slug: str) -> None:
    """Routes and queries, too."""
    refused = api.ask(method, path)
    assert (refused.status, refused.slug) == (status, slug)


@pytest.mark.parametrize(
    "client",
    [
        {},
        {"url": "not a url"},
        {"url": "ftp://example.com/"},
        {"url": "https://user:password@example.com/"},
        {"url": "https://example.com/", "endpoints": []},
        {"endpoints": [{"url": "https://a.example/"}, {"url": "https://b.example/"}]},
        {"url": "https://example.com/", "secret": "short"},
        {"url": "https://example.com/", "colour": "red"},
    ],
)
def test_bad_client_is_refused_with_pointers(api: Api, client: dict[str, object]) -> None:
    """422, and nothing of it is registered."""
    refused = api.ask("PUT", "/v1/clients/bad", client)
    assert (refused.status, refused.slug) == (422, "invalid-client")
    assert refused.json["errors"]
    assert api.ask("GET", "/v1/clients/bad").status == 404


def test_foreign_host_and_origin_are_forbidden(api: Api) -> None:
    """Without tokens only this machine gets in, and no web page that it shows."""
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        refused = api.ask("POST", "/v1/events", event(), headers)
        assert (refused.status, refused.slug) == (403, "forbidden")


def test_what_is_no_http_is_answered_and_forgotten(running: Running, api: Api, tmp_path: Path) -> None:
    """Noise on the socket ends that connection only."""
    for noise in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\nnonsense\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", running.daemon.port), timeout=10) as peer:
            peer.sendall(noise)
            peer.shutdown(socket.SHUT_WR)
            try:
                while peer.recv(65536):
                    pass
            except ConnectionResetError:
                pass  # as good an end
