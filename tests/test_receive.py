"""`hookd receive`: what it makes of a request, and that nothing a peer sends ends it."""

import fcntl
import json
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hookd.cli.commands.receive import (
    BODY_BYTES_MAX,
    IDS_MAX,
    BadSecret,
    Manners,
    ReceivedAttempt,
    ReceivedRequest,
    Receiver,
    json_line,
    key_of,
    line,
    reason_not_verified,
    says_more_within,
)
from standardwebhooks.webhooks import Webhook

from tests.acceptance.harness import Answer, Api

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
NOW = 1_800_000_000
KEY = key_of(SECRET)
GOOD = Manners()


def signed(body: bytes = b"{}", *, at: int = NOW, secrets: tuple[str, ...] = (SECRET,)) -> dict[str, str]:
    """As the reference library signs, with one signature for each secret."""
    signatures = [Webhook(secret).sign("e1", datetime.fromtimestamp(at, UTC), body.decode()) for secret in secrets]
    return {"webhook-id": "e1", "webhook-timestamp": str(at), "webhook-signature": " ".join(signatures)}


@pytest.mark.parametrize(
    ("change", "now", "reason"),
    [
        ({}, NOW, None),
        ({}, NOW + 300, None),
        ({}, NOW - 300, None),
        ({}, NOW + 301, "webhook-timestamp is 301 s old, more than 300 s"),
        ({}, NOW - 301, "webhook-timestamp is 301 s ahead, more than 300 s"),
        (signed(secrets=(OTHER, SECRET)), NOW, None),  # the middle of a rotation
        (signed(secrets=(OTHER,)), NOW, "the signature does not fit the secret"),
        (signed(secrets=(OTHER, OTHER)), NOW, "none of 2 signatures fits the secret"),
        ({"webhook-id": "e2"}, NOW, "the signature does not fit the secret"),
        ({"webhook-timestamp": str(NOW + 1)}, NOW, "the signature does not fit the secret"),
        ({"webhook-timestamp": "soon"}, NOW, "webhook-timestamp is no number of seconds"),
        ({"webhook-timestamp": "²"}, NOW, "webhook-timestamp is no number of seconds"),
        ({"webhook-signature": "\xff v1,\xff"}, NOW, "none of 2 signatures fits the secret"),
        ({"webhook-signature": "", "webhook-id": ""}, NOW, "no webhook-id, no webhook-signature"),
    ],
)
def test_signature_is_judged_with_a_reason(change: dict[str, str], now: int, reason: str | None) -> None:
    """The reference library's signatures stand, within five minutes; of the others it is said why not."""
    assert reason_not_verified(KEY, signed() | change, b"{}", now=now) == reason


def test_body_that_was_changed_is_not_verified() -> None:
    """Byte for byte."""
    assert reason_not_verified(KEY, signed(b"{}"), b"{ }", now=NOW) == "the signature does not fit the secret"
    assert reason_not_verified(None, signed(b"{}"), b"{}", now=NOW) == "no --secret given"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64", "whsec_ä"])
def test_secret_that_is_none_is_refused(secret: str) -> None:
    """At the start, not at the first request."""
    with pytest.raises(BadSecret):
        key_of(secret)


def test_line_is_harmless_and_cut_to_the_width() -> None:
    """Escape sequences in the payload, a header or bad UTF-8 do not reach the terminal, in either form."""
    body = b'{"a": "\xc2\x9b2J\xe2\x80\xae' + b"x" * 10_000 + b'"}'
    request = ReceivedRequest(
        {"webhook-id": "\x1b]0;boo", "hookd-event-type": "a.b", "hookd-attempt": "2"}, "/h", body, NOW
    )
    shown = line(request, ReceivedAttempt(2, True, "no --secret given", 503), 170)
    assert shown.isprintable()
    assert len(shown) == 170
    assert shown.startswith("08:00:00Z  \\x1b]0;boo  /h  a.b  attempt 2  10,")
    assert "NOT VERIFIED (no --secret given)  -> 503  DUPLICATE (answered 2xx before)  {" in shown
    text = json_line(request, ReceivedAttempt(1, False, None, 200))
    assert text.isprintable()
    assert json.loads(text)["payload"]["a"].startswith("\x9b2J\u202exxx")
    broken = json.loads(json_line(request._replace(body=b"\xff{"), ReceivedAttempt(1, False, None, 200)))
    assert broken["payload"] == "\ufffd{"
    spread = json_line(request._replace(body=b'{\n"a":\n1}'), ReceivedAttempt(1, False, None, 200))
    assert "\n" not in spread
    assert json.loads(spread)["payload"] == {"a": 1}


@contextmanager
def running(manners: Manners = GOOD) -> Iterator[Receiver]:
    receiver = Receiver("127.0.0.1", 0, key=KEY, manners=manners, as_json=True)
    thread = threading.Thread(target=receiver.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        thread.join()
        receiver.server_close()


def post(receiver: Receiver, event_id: str = "e1", body: Any = b"{}", path: str = "/hook") -> Answer:
    with Api(receiver.server_port) as api:
        return api.ask("POST", path, body, {"webhook-id": event_id})


def test_first_requests_of_each_id_fail_and_the_rest_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    """Every event fails twice and is then taken; one that comes again after that is a duplicate."""
    with running(Manners(fail=503, first=2)) as receiver:
        for event_id in ("a", "b"):
            assert [post(receiver, event_id).status for _ in range(4)] == [503, 503, 200, 200]
        summary = receiver.summary()
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [one["duplicate"] for one in lines] == [False, False, False, True] * 2
    assert summary == (
        "8 requests with 2 webhook-ids; 6 came again, 2 of them duplicates (answered 2xx before); 8 not verified"
    )


def test_without_a_number_it_fails_for_ever() -> None:
    """--fail alone."""
    with running(Manners(fail=410)) as receiver:
        assert [post(receiver).status for _ in range(3)] == [410] * 3


def test_answer_is_delayed_and_a_peer_that_hangs_up_frees_the_thread(capsys: pytest.CaptureFixture[str]) -> None:
    """The delay ends with the connection: nothing is answered, nothing counts as taken."""
    with running(Manners(delay_seconds=600.0)) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.server_port)) as peer:
            peer.sendall(b"POST / HTTP/1.1\r\nwebhook-id: e1\r\ncontent-length: 2\r\n\r\n{}")
            peer.shutdown(socket.SHUT_WR)
            assert peer.recv(1000) == b""
        receiver.manners = Manners()
        assert post(receiver).status == 200
    assert [json.loads(text)["duplicate"] for text in capsys.readouterr().out.splitlines()] == [False, False]


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", b"411"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"411"),
        (f"POST / HTTP/1.1\r\ncontent-length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode(), b"413"),
        (b"GET / HTTP/1.1\r\n\r\n", b"501"),
        (b"\x16\x03\x01nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n{}", b""),
    ],
)
def test_peer_that_sends_no_webhook_is_answered_and_forgotten(sent: bytes, answer: bytes) -> None:
    """Bodies are bounded and whole; the next request is served."""
    with running() as receiver:
        with socket.create_connection(("127.0.0.1", receiver.server_port), timeout=20) as peer:
            peer.sendall(sent)
            peer.shutdown(socket.SHUT_WR)
            assert answer in peer.recv(1000)
        assert post(receiver).status == 200
        assert receiver.summary().startswith("1 request with 1 webhook-id;")


def test_ids_are_remembered_up_to_a_number() -> None:
    """The oldest is forgotten first."""
    receiver = Receiver("127.0.0.1", 0, key=KEY, manners=Manners(), as_json=True)
    receiver.server_close()
    for number in range(IDS_MAX + 10):
        receiver.note_answer("/hook", f"e{number}", 200)
    assert receiver.summary().startswith(f"0 requests with {IDS_MAX:,} webhook-ids")


def test_same_id_on_another_path_is_no_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    """An event goes to each endpoint of its client under one id, and two clients may have the same."""
    with running(Manners(fail=503, first=1)) as receiver:
        assert [post(receiver, path=path).status for path in ("/a", "/b", "/a", "/b")] == [503, 503, 200, 200]
        assert post(receiver, path="/a").status == 200
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [one["duplicate"] for one in lines] == [False, False, False, False, True]


def test_file_gets_the_whole_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What was answered stands behind the reason why it is not verified: in 100 columns it was cut off."""
    receiver = Receiver("127.0.0.1", 0, key=None, manners=GOOD, as_json=False)
    receiver.server_close()
    receiver.take(ReceivedRequest({"webhook-id": "e" * 40}, "/hook", b"x" * 100 + b"end", NOW))
    assert capsys.readouterr().out.endswith("xend\n")


def test_long_webhook_id_is_remembered_by_its_digest() -> None:
    """Before: as long as a header may be, 64 KiB, of 100,000 of them. Two long ones are still told apart."""
    receiver = Receiver("127.0.0.1", 0, key=None, manners=GOOD, as_json=True)
    receiver.server_close()
    for number in range(3):
        receiver.note_answer("/hook", "x" * 60_000 + str(number), 200)
    assert receiver.summary().startswith("0 requests with 3 webhook-ids")
    assert max(map(len, receiver._known)) == 64


def test_output_that_nobody_reads_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hookd receive | head -1` ends."""

    def broken(_text: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", broken)
    with running() as receiver:
        assert post(receiver).status == 200
        assert receiver.stopped.is_set()


def test_connection_with_a_high_number_is_served() -> None:
    """Before: over a thousand connections at once, and those beyond had no answer and a traceback each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2048:
        pytest.skip("no descriptor may be that high here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        ours, theirs = socket.socketpair()
        with ours, theirs, socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 1500)) as high:
            assert not says_more_within(high, 0.0)
            theirs.sendall(b"more")
            assert says_more_within(high, 1e9)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
