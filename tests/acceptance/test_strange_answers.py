"""Answers with a blemish and connections that went stale, through the whole daemon."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.acceptance.harness import HANG, Daemon, Receiver, wait_until

SETTINGS = {"retry.schedule": ["10m"], "retry.jitter": 0, "drain.timeout": "300ms"}
BLEMISHES = {
    "folded": b"X-Note: this goes on\r\n  on the next line\r\nContent-Length: 2\r\n\r\nok",
    "bare LF": b"X-A: b\nContent-Length: 2\n\nok",
    "two lengths": b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "control byte": b"X-A: \x01\r\nContent-Length: 2\r\n\r\nok",
}


def answer(status_line: bytes, blemish: str) -> bytes:
    end = b"\n" if blemish == "bare LF" else b"\r\n"
    return b"HTTP/1.1 " + status_line + end + BLEMISHES[blemish]


@pytest.mark.parametrize("blemish", BLEMISHES)
def test_410_with_a_blemish_disables_its_endpoint(tmp_path: Path, blemish: str) -> None:
    """At one attempt: what waits is given up as gone, each with a line, and the state is told once; a 200 delivers."""
    with ExitStack() as stack:
        gone = stack.enter_context(Receiver(HANG))
        fine = stack.enter_context(Receiver(lambda _: answer(b"200 OK", blemish)))
        daemon = stack.enter_context(Daemon(tmp_path, settings=SETTINGS))
        api = stack.enter_context(daemon.api)
        api.put_client("gone", {"url": gone.url, "concurrency": 1})
        api.put_client("fine", {"url": fine.url})
        for n in range(5):
            assert api.post("gone", f"e{n}").status == 202
        wait_until(lambda: gone.hanging == 1, what="one in flight, four that wait")
        # The one that hangs is answered 200, the next 410.
        gone.behaviour = lambda _: answer(b"410 Gone", blemish)
        gone.release()
        wait_until(lambda: api.get("/v1/clients/gone")["endpoints"][0]["health"]["state"] == "disabled")
        wait_until(lambda: api.deliveries()["exhausted"] == 4)
        assert api.deliveries()["delivered"] == 1
        assert sum(gone.ids().values()) == 2
        assert {event["deliveries"][0]["reason"] for event in api.listed("&client_id=gone&status=exhausted")} == {
            "gone"
        }
        assert api.post("gone", "later").status == 202
        wait_until(lambda: api.deliveries()["exhausted"] == 5, what="given up without an attempt")
        assert api.post("fine", "e1").status == 202
        wait_until(lambda: api.deliveries()["delivered"] == 2)
        assert daemon.stop() == 0
    lines = [json.loads(line) for line in daemon.stderr.splitlines() if line.startswith("{")]
    assert len([line for line in lines if line["event"] == "endpoint.disabled"]) == 1
    exhausted = [(line["event_id"], line["reason"]) for line in lines if line["event"] == "delivery.exhausted"]
    assert len(exhausted) == len(set(exhausted)) == 5
    assert {reason for _, reason in exhausted} == {"gone"}


@contextmanager
def speaking(*connections: list[bytes]) -> Iterator[str]:
    """A receiver with a script: of each connection what it answers to each request in turn; b"" closes it instead."""

    def request(peer: socket.socket) -> bool:
        data = b""
        while not data.endswith(b"{}"):  # the payload
            if not (more := peer.recv(65536)):
                return False
            data += more
        return True

    def speak(listening: socket.socket) -> None:
        for answers in connections:
            peer, _ = listening.accept()
            with peer:
                for answered in answers:
                    assert request(peer)
                    peer.sendall(answered)

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        listening.settimeout(30)
        spoken = pool.submit(speak, listening)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/hook"
        spoken.result(30)


FINE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize("second", [b"", LATE], ids=["closed", "408"])
def test_attempt_that_posted_twice_says_so_everywhere(tmp_path: Path, second: bytes) -> None:
    """On a kept connection that went stale, or timed out at its peer: one attempt, delivered, shown and counted."""
    with speaking([FINE, second], [FINE]) as url, Daemon(tmp_path, settings=SETTINGS) as daemon, daemon.api as api:
        api.put_client("acme", {"url": url})
        for number, event_id in enumerate(("first", "second"), 1):
            assert api.post("acme", event_id).status == 202
            wait_until(lambda number=number: api.deliveries()["delivered"] == number, what=event_id)
        attempts = {event["id"]: event["deliveries"][0]["attempts"] for event in api.listed()}
        assert {name: [one["reconnected"] for one in found] for name, found in attempts.items()} == {
            "first": [False],
            "second": [True],
        }
        metrics = api.ask("GET", "/metrics").content.decode().splitlines()
        assert "hookd_reconnects_total 1.0" in metrics
        assert daemon.stop() == 0
