"""Answers with a blemish, through the whole daemon: the status line counts, as it does for curl."""

import json
from contextlib import ExitStack
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
