"""`hookd resend` against daemons and reports as they come: small limits, full clients, conflicts, damaged lines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import NO_RETRY_SOON, Daemon, Receiver, hookd, wait_until

ADMITTED = "admitted"


def line(event_id: str, payload: bytes = b"{}", *, client_id: str = "acme", **more: Any) -> bytes:
    """One of a report; the payload goes in byte for byte."""
    fields = {
        "kind": "undelivered",
        "class": "attempted_failed",
        "event_id": event_id,
        "client_id": client_id,
        "endpoint_id": "default",
        "url": "http://127.0.0.1:9/",
        "type": "order.paid",
        "accepted_at": "2026-11-21T18:35:00.123Z",
        "attempt_count": 1,
        **more,
    }
    return json.dumps(fields).encode()[:-1] + (b', "payload": ' + payload if payload else b"") + b"}\n"


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The first line of a real report."""
    with Daemon(tmp_path_factory.mktemp("summary")) as daemon:
        assert daemon.stop() == 0
        (report,) = daemon.reports.glob("shutdown-*.jsonl")
        return report.read_bytes().splitlines(keepends=True)[0]


class Ended:
    def __init__(self, directory: Path, summary: bytes, lines: bytes, daemon: Daemon, *flags: str) -> None:
        path = directory / "report.jsonl"
        path.write_bytes(summary + lines)
        done = hookd("resend", str(path), "--url", daemon.url, *flags)
        self.code, self.stderr = done.returncode, done.stderr
        counts = (text.rpartition(": ") for text in done.stdout.splitlines())
        self.counts = {word: int(count.replace(",", "")) for word, _, count in counts}
        assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "limits",
    [{"intake.batch_events_max": 7}, {"intake.body_bytes_max": "8KiB", "intake.payload_bytes_max": "4KiB"}],
    ids=["events", "bytes"],
)
def test_pieces_are_as_small_as_the_daemon_takes(tmp_path: Path, summary: bytes, limits: Mapping[str, object]) -> None:
    """413 at every run before; a line that alone is too large is told, and the others go."""
    lines = b"".join(line(f"e{n}", b'"%s"' % (b"x" * 1000)) for n in range(60))
    with Receiver() as receiver, Daemon(tmp_path, settings={**NO_RETRY_SOON, **limits}) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        ended = Ended(tmp_path, summary, lines, daemon)
        assert (ended.code, ended.counts) == (0, {ADMITTED: 60})
        if "intake.body_bytes_max" in limits:
            ended = Ended(tmp_path, summary, line("big", b'"%s"' % (b"x" * 9000)) + line("small"), daemon)
            assert (ended.code, ended.counts) == (3, {"too-large": 1, ADMITTED: 1})
            assert "acme/big" in ended.stderr


def test_client_without_room_is_waited_for_and_the_others_go_on(tmp_path: Path, summary: bytes) -> None:
    """Its budget holds 5 events, its endpoint is slow, and 20 come; those of another client are not behind them."""
    lines = b"".join(line(f"e{n}") for n in range(20)) + b"".join(line(f"b{n}", client_id="beta") for n in range(3))
    limits = {**NO_RETRY_SOON, "intake.client_events_max": 5}
    with Receiver() as receiver, Daemon(tmp_path, settings=limits) as daemon, daemon.api as api:
        for client_id in ("acme", "beta"):
            api.put_client(client_id, {"url": receiver.url})
        ended = Ended(tmp_path, summary, lines, daemon)
        assert (ended.code, ended.counts) == (0, {ADMITTED: 23})
        wait_until(lambda: api.deliveries()["delivered"] == 23, what="23 delivered")


def test_client_without_room_keeps_its_order(tmp_path: Path, summary: bytes) -> None:
    """Its large event finds no room at first, and what would fit does not overtake it, as strict order wants."""
    payloads = {"e1": b"x" * 1000, "e2": b"x" * 3000, "e3": b"x", "e4": b"x"}
    lines = b"".join(line(event_id, b'"%s"' % text) for event_id, text in payloads.items())
    limits = {**NO_RETRY_SOON, "intake.payload_bytes_max": "4KiB", "intake.client_bytes_max": "5KiB"}
    with Receiver() as receiver, Daemon(tmp_path, settings=limits) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url, "order": "strict", "rate": "1/s"})
        api.post("acme", "e0")  # from then on the next waits for a second
        wait_until(lambda: api.deliveries()["delivered"] == 1, what="the first")
        ended = Ended(tmp_path, summary, lines, daemon)
        assert (ended.code, ended.counts) == (0, {ADMITTED: 4})
        wait_until(lambda: api.deliveries()["delivered"] == 5, what="five delivered")
        assert [received.event_id for received in receiver.log] == ["e0", *payloads]


def test_conflicts_are_told_and_hold_nothing_up(tmp_path: Path, summary: bytes) -> None:
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        assert api.post("acme", "e1", b'"another"').status == 202
        again = line("e2", b"1") + line("e2", b"2", endpoint_id="other")
        ended = Ended(tmp_path, summary, line("e1", type="other.type", endpoint_id="default") + again, daemon)
        assert (ended.code, ended.counts) == (3, {"conflict": 1, ADMITTED: 1, "unknown-endpoint": 1})
        assert "acme/e1" in ended.stderr
        api.ask("PUT", "/v1/clients/acme", {"endpoints": [{"id": i, "url": receiver.url} for i in ("default", "b")]})
        ended = Ended(tmp_path, summary, line("e1", endpoint_id="b") + line("e3"), daemon)
        assert (ended.code, ended.counts) == (3, {"conflict": 1, ADMITTED: 1})
        assert "acme/e1" in ended.stderr


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"type": "white space"}, "/0/type"),
        ({"attempt_count": "many"}, "/0/attempt_count"),
        ({"payload_base64": "%"}, "/0/payload_base64"),
        ({"event_id": ""}, "/0/event_id"),
    ],
)
def test_line_with_a_mistake_is_named_and_the_rest_is_sent(
    tmp_path: Path, summary: bytes, fields: dict[str, object], said: str
) -> None:
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        lines = b"".join(line(f"e{n}") for n in range(5)) + line(**{"event_id": "bad", **fields}) + line("e5")
        ended = Ended(tmp_path, summary, lines, daemon)
        assert (ended.code, ended.counts) == (3, {"mistaken": 1, ADMITTED: 6})
        assert said in ended.stderr
        assert not list(tmp_path.rglob("*.claimed-by-*"))


def test_what_nobody_took_is_exit_3_with_what_to_do(tmp_path: Path, summary: bytes) -> None:
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        ended = Ended(tmp_path, summary, line("e1") + line("e2"), daemon)
        assert (ended.code, ended.counts) == (3, {"unknown-client": 2})
        assert "PUT the client" in ended.stderr
        assert "acme" in ended.stderr
        api.put_client("acme", {"url": receiver.url})
        ended = Ended(tmp_path, summary, line("e1", b"") + line("e2", b""), daemon)
        assert (ended.code, ended.counts) == (3, {"no-payload": 2})


def test_exhausted_get_a_whole_schedule(tmp_path: Path, summary: bytes) -> None:
    """Three attempts used, a schedule of two waits: six in all, as a retry gives."""
    with Receiver(500) as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        given_up = line("e1", kind="exhausted", attempt_count=3)
        assert Ended(tmp_path, summary, given_up, daemon, "--exhausted").counts == {ADMITTED: 1}
        assert api.get("/v1/clients/acme/events/e1")["deliveries"][0]["attempts_max"] == 6


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (b'{"kind": "undelivered", "event_id": "cu', "line 3 of"),
        (b"\n", "line 3 of"),
        (b"\r\n", "line 3 of"),
        (b"\xff\n", "line 3 of"),
    ],
    ids=["cut", "blank", "CRLF alone", "no UTF-8"],
)
def test_damaged_line_is_named_and_the_rest_is_sent(tmp_path: Path, summary: bytes, damage: bytes, words: str) -> None:
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        ended = Ended(tmp_path, summary.rstrip() + b"\r\n", line("e1").rstrip() + b"\r\n" + damage, daemon)
        assert ended.counts[ADMITTED] == 1
        assert words in ended.stderr
        assert ended.code == (3 if damage.strip() else 0)


def test_payload_of_a_thousand_levels_is_sent(tmp_path: Path, summary: bytes) -> None:
    deep = b"[" * 1000 + b"]" * 1000
    with Receiver() as receiver, Daemon(tmp_path) as daemon, daemon.api as api:
        api.put_client("acme", {"url": receiver.url})
        ended = Ended(tmp_path, summary, line("e1", deep), daemon)
        assert (ended.code, ended.counts) == (0, {ADMITTED: 1})
        wait_until(lambda: receiver.log, what="it came")
        assert receiver.log[0].body == deep
