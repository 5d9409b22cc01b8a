"""HTTP as an engineer knows it, over real sockets: HEAD, OPTIONS, odd targets, Retry-After, replay after an outage."""

import socket
from collections.abc import Iterator

import pytest

from tests.acceptance.harness import Api, Daemon, Receiver, always, wait_until

SETTINGS = {"retry.schedule": [], "intake.client_events_max": 4}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Receiver]]:
    with Receiver() as receiver, Daemon(tmp_path_factory.mktemp("http"), settings=SETTINGS) as daemon:
        with daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
        yield daemon, receiver
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.stderr


@pytest.fixture
def api(running: tuple[Daemon, Receiver]) -> Iterator[Api]:
    with running[0].api as api:
        yield api


def raw(daemon: Daemon, *requests: str) -> bytes:
    """Everything that one connection answers to these, the last of which closes it."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=10) as peer:
        peer.sendall("".join(requests).encode("latin-1"))
        answer = b""
        while more := peer.recv(65536):
            answer += more
    return answer


@pytest.mark.parametrize(
    "path",
    [
        "/v1/clients",
        "/v1/clients/acme",
        "/v1/events",
        "/livez",
        "/readyz",
        "/problems",
        "/problems/full",
        "/v1/nothing",
    ],
)
def test_head_is_get_without_the_body(running: tuple[Daemon, Receiver], api: Api, path: str) -> None:
    """The same status and headers, the length included; and the connection goes on with the next request."""
    got, head = api.ask("GET", path), api.ask("HEAD", path)
    assert (head.status, head.content) == (got.status, b"")
    different = {"date"}
    assert {name: value for name, value in head.headers.items() if name not in different} == {
        name: value for name, value in got.headers.items() if name not in different
    }
    assert int(head.headers["content-length"]) == len(got.content)
    first = f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    both = raw(running[0], first, last)
    assert both.count(b"HTTP/1.1 ") == 2
    assert both.partition(b"\r\n\r\n")[2].startswith(b"HTTP/1.1 200")


def test_options_is_204_with_allow(api: Api) -> None:
    """And no word to browsers."""
    answer = api.ask("OPTIONS", "/v1/clients/acme")
    assert (answer.status, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PUT"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert api.ask("OPTIONS", "/v1/nothing").status == 404


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/v1/clients/a%2Fb", b"404"),
        ("/v1/clients/%00", b"404"),
        ("/v1/clients/%ff%fe", b"404"),
        ("/v1/clients/..%2f..%2fetc", b"404"),
        ("/v1/clients/../status", b"404"),
        ("//v1/status", b"404"),
        ("/v1/status/", b"404"),
        ("/v1/status?x=1", b"422"),
        ("/v1/events?limit=%ff", b"422"),
        ("/v1/events?limit=1&limit=1", b"422"),
        ("*", b"404"),
    ],
)
def test_odd_target_gets_its_problem(running: tuple[Daemon, Receiver], target: str, status: bytes) -> None:
    """As bytes on the wire: no redirect, no 500."""
    answer = raw(running[0], f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.split(b" ")[1] == status, answer
    assert b"application/problem+json" in answer
    assert b"\r\nlocation:" not in answer.lower()


def test_replay_after_an_outage(running: tuple[Daemon, Receiver]) -> None:
    """What was given up is counted by a dry run, reopened as far as there is room, and arrives under its own id."""
    daemon, receiver = running
    receiver.behaviour = always(500)
    with daemon.api as api:
        for number in range(4):
            assert api.post("acme", f"r{number}").status == 202
        wait_until(lambda: api.deliveries()["exhausted"] == 4, what="all given up")
        receiver.behaviour = always(200)
        path = "/v1/clients/acme/replay"
        asked: list[tuple[dict[str, object], int, int]] = [
            ({"dry_run": True}, 4, 0),
            ({"until": "2001-01-01T00:00:00Z"}, 0, 0),
            ({"since": "2001-01-01T00:00:00Z"}, 4, 4),
        ]
        for body, matched, reopened in asked:
            answer = api.ask("POST", path, body).json
            assert (answer["matched"], answer["reopened"], answer["left"]) == (matched, reopened, 0), body
        wait_until(lambda: api.deliveries()["delivered"] == 4, what="all delivered")
        assert api.deliveries()["exhausted"] == 0
        assert api.get("/v1/events/r0")["deliveries"][0]["attempt_count"] == 2


def test_scrape_says_what_the_system_says_of_the_process(api: Api) -> None:
    """Its restarts and its memory are read off these."""
    samples = dict(line.rsplit(" ", 1) for line in api.ask("GET", "/metrics").content.decode().splitlines())
    assert float(samples["process_resident_memory_bytes"]) > 10_000_000
    assert float(samples["process_start_time_seconds"]) > 1_700_000_000
    assert float(samples["process_open_fds"]) > 2
