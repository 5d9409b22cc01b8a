"""Every stop ends in time, with an account of what is left that agrees with what was posted and received."""

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.harness import (
    BUSY_SECONDS,
    HANG,
    NO_RETRY_SOON,
    Api,
    Books,
    Daemon,
    Receiver,
    environment,
    event_body,
    hookd,
    read_report,
    refusing_url,
    report_texts,
    wait_until,
)

DRAIN_SECONDS = 0.5
PROMISED_SECONDS = DRAIN_SECONDS + 2
SHORT_DRAIN = {**NO_RETRY_SOON, "drain.timeout": f"{DRAIN_SECONDS:g}s"}
LONG_DRAIN = {**NO_RETRY_SOON, "drain.timeout": "60s", "delivery.timeout": "60s"}
EXIT_UNDELIVERED = 3
# Bounds a hang. That the promise of drain.timeout + 2 s is kept is shown once, with 500 events waiting.
STOP_SECONDS_MAX = 30.0


def payload_of(n: int) -> bytes:
    """Every third with line breaks outside strings, every third with one of Unicode's inside."""
    shapes = ('{"n": %d}', '{\r\n  "n": %d,\n "x": [1E400, "Zoë"]\n}', '{"n": %d, "x": "a\u2028b\u0085c"}')
    return (shapes[n % 3] % n).encode()


class Stopped:
    """A daemon that was stopped with 500 events waiting on a hung receiver; fifty were delivered elsewhere, too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.up, self.hung, self.failing, self.gone = Receiver(200), Receiver(HANG), Receiver(500), Receiver(404)
        self.receivers = {
            ("acme", "up"): self.up,
            ("acme", "hung"): self.hung,
            ("beta", "default"): self.failing,
            ("gamma", "default"): self.gone,
        }
        self.books = Books()

    def run(self) -> None:
        up, hung, failing, gone = self.receivers.values()
        with up, hung, failing, gone, Daemon(self.directory, settings=SHORT_DRAIN) as daemon:
            with daemon.api as api:
                register(api, up, hung, failing, gone)
                self._post(api)
                expected = {"opened": 573, "delivered": 50, "failed": 20, "pending": 500, "exhausted": 3}
                wait_until(lambda: expected.items() <= api.deliveries().items(), what=f"{expected}")
                assert self.hung.hanging >= 1
            began = time.monotonic()
            self.exit_code = daemon.stop(PROMISED_SECONDS + BUSY_SECONDS)
            self.stop_seconds = time.monotonic() - began
            self.stderr, self.report = daemon.stderr, daemon.report()
            self.checked = self.books.check(self.directory, self.report, self.receivers)
        self.summary, self.lines = read_report(self.report)

    def _post(self, api: Api) -> None:
        for client_id, event_type, numbers, endpoints in (
            ("acme", "both", range(50), ("up", "hung")),
            ("acme", "one", range(50, 500), ("hung",)),
            ("beta", "one", range(20), ("default",)),
            ("gamma", "one", range(3), ("default",)),
        ):
            items = [(f"e{n}", payload_of(n)) for n in numbers]
            for event_id, payload in items:
                self.books.note(client_id, event_id, payload, endpoints)
            body = b"[" + b",".join(event_body(client_id, *item, event_type) for item in items) + b"]"
            assert api.ask("POST", "/v1/events/batch", body).status == 202


def register(api: Api, up: Receiver, hung: Receiver, failing: Receiver, gone: Receiver) -> None:
    api.put_client("acme", {"id": "up", "url": up.url, "event_types": ["both"]}, {"id": "hung", "url": hung.url})
    api.put_client("beta", {"url": failing.url})
    api.put_client("gamma", {"url": gone.url, "schedule": []})


@pytest.fixture(scope="module")
def stopped() -> Iterator[Stopped]:
    """In a directory of a short name: the text of a report never cuts its path, however narrow."""
    directory = Path(tempfile.mkdtemp(prefix="hk-"))
    run = Stopped(directory)
    run.run()
    yield run
    shutil.rmtree(directory)


def test_sigterm_with_500_waiting_exits_3_in_time_with_a_true_report(stopped: Stopped) -> None:
    """Within drain.timeout + 2 s; what the report says agrees with what was posted and received, byte for byte."""
    assert stopped.exit_code == EXIT_UNDELIVERED, stopped.stderr
    assert DRAIN_SECONDS <= stopped.stop_seconds < PROMISED_SECONDS + BUSY_SECONDS
    assert stopped.checked.returncode == 0, stopped.checked.stdout
    assert stat.S_IMODE(stopped.report.stat().st_mode) == 0o600
    summary, hanging = stopped.summary, stopped.hung.log
    assert (summary["trigger"], summary["forced"], summary["format"]) == ("SIGTERM", False, 1)
    assert summary["events"] == {"accepted": 523, "recovered": 0, "delivered": 0, "exhausted": 3, "undelivered": 520}
    unknown = len(hanging)
    lost = {"never_attempted": 500 - unknown, "attempted_failed": 20, "outcome_unknown": unknown}
    assert summary["undelivered"] == lost
    owed = {(one["client_id"], one["endpoint_id"]): one["undelivered"] for one in summary["clients"]}
    assert owed == {("acme", "hung"): 500, ("beta", "default"): 20}
    assert not list(stopped.report.parent.glob("run-*.open"))
    assert stopped.report.name.endswith(f"-{summary['run_id']}.jsonl")


def test_report_lines_say_what_is_known(stopped: Stopped) -> None:
    """A cut attempt stays listed without an outcome; a failed one has its answer and when it was due again."""
    by_class = {line.get("class"): line for line in stopped.lines}
    unknown, failed, never = (by_class[name] for name in ("outcome_unknown", "attempted_failed", "never_attempted"))
    assert (unknown["attempt_count"], unknown["last_outcome"]["outcome"]) == (1, None)
    assert unknown["last_outcome"]["request_sent"] is True
    assert (failed["attempt_count"], failed["last_outcome"]["status_code"]) == (1, 500)
    assert failed["next_attempt_at"] > failed["accepted_at"]
    assert (never["attempt_count"], never["last_outcome"]) == (0, None)
    assert {line["type"] for line in stopped.lines} == {"both", "one"}
    given_up = [(line["client_id"], line["reason"]) for line in stopped.lines if line["kind"] == "exhausted"]
    assert given_up == [("gamma", "attempts_used")] * 3


@pytest.mark.parametrize("tampered", ["line missing", "line twice", "class", "payload", "totals"])
def test_check_report_finds_a_report_that_is_not_true(stopped: Stopped, tmp_path: Path, tampered: str) -> None:
    """The checker itself is held to what it is there for."""
    summary, *lines = stopped.report.read_bytes().splitlines(keepends=True)
    never = next(i for i, line in enumerate(lines) if b'"never_attempted"' in line and b"payload_base64" not in line)
    match tampered:
        case "line missing":
            del lines[never]
        case "line twice":
            lines.append(lines[never])
        case "class":
            lines[never] = lines[never].replace(b"never_attempted", b"outcome_unknown")
        case "payload":
            lines[never] = lines[never].replace(b'"payload":{', b'"payload":{ ')
        case "totals":
            summary = summary.replace(b'"undelivered":520', b'"undelivered":519')
    report = tmp_path / "report.jsonl"
    report.write_bytes(b"".join([summary, *lines]))
    checked = stopped.books.check(tmp_path, report, stopped.receivers)
    assert checked.returncode == 1, checked.stdout


def test_report_is_shown_in_25_lines_of_100_columns(stopped: Stopped) -> None:
    """On stderr at the stop and by `hookd report`: what, whose, why, whether it is safe, and the command."""
    shown = hookd("report", str(stopped.report))
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert len(lines) <= 25
    assert max(map(len, lines)) <= 100
    for words in (
        "never_attempted",
        "attempted_failed",
        "outcome_unknown",
        "acme/hung",
        "beta/default",
        "safe to send",
    ):
        assert words in shown.stdout
    assert f"hookd resend {stopped.report}" in shown.stdout
    assert shown.stdout == report_texts(stopped.stderr)
    newest = hookd("report", "--json", "--reports", str(stopped.report.parent))
    assert json.loads(newest.stdout) == stopped.summary


def test_resend_delivers_exactly_what_was_left(stopped: Stopped, tmp_path: Path) -> None:
    """To its own endpoints, under its own ids, byte for byte; by client; again it is known; then it is claimed."""
    up, hung, failing, gone = (Receiver(200) for _ in range(4))
    report = str(stopped.report)
    with up, hung, failing, gone, Daemon(tmp_path, settings=NO_RETRY_SOON) as daemon, daemon.api as api:
        register(api, up, hung, failing, gone)
        claim = Path(f"{report}.claimed-by-{api.status()['run_id']}")

        def resend(*flags: str) -> dict[str, int]:
            done = hookd("resend", report, *flags, env=environment(None, HOOKD_URL=daemon.url))
            assert done.returncode == 0, done.stderr
            return {word: int(count.replace(",", "")) for word, count in map(split_count, done.stdout.splitlines())}

        tried = hookd("resend", report, "--dry-run")
        assert (tried.returncode, tried.stdout) == (0, "would be sent: 520\n")
        assert "no daemon was asked" in tried.stderr
        assert api.status()["events"]["accepted"] == 0
        assert resend("--client", "beta") == {"admitted": 20}
        assert not claim.exists()
        assert resend() == {"admitted": 500, "known": 20}
        assert claim.exists()
        assert resend() == {"known": 520}
        assert api.status()["events"]["accepted"] == 520  # and none of those given up
        assert resend("--exhausted") == {"admitted": 3}
        wait_until(lambda: api.deliveries()["delivered"] == 523, what="523 delivered")
        assert api.get("/v1/clients/beta/events/e1")["deliveries"][0]["attempt_count"] == 2  # counted on
        assert daemon.stop() == 0
    assert not up.log
    for client_id, receiver in (("acme", hung), ("beta", failing), ("gamma", gone)):
        left = [line["event_id"] for line in stopped.lines if line["client_id"] == client_id]
        assert receiver.ids() == dict.fromkeys(left, 1)
        assert all(received.body == payload_of(int(received.event_id[1:])) for received in receiver.log)


def split_count(line: str) -> tuple[str, str]:
    word, _, count = line.rpartition(": ")
    return word, count


def test_resend_needs_a_daemon(stopped: Stopped) -> None:
    """69 when none answers, and nothing is claimed."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert hookd("resend", str(stopped.report), "--url", url).returncode == 69


def test_drain_refuses_what_is_new_and_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """New events 503 with Retry-After, known ids 200, reads and /livez work; then the same complete report in < 1 s."""
    books, hung = Books(), Receiver(HANG)
    with hung, Daemon(tmp_path, settings=LONG_DRAIN) as daemon, daemon.api as api:
        api.put_client("acme", {"url": hung.url})
        assert api.ask("GET", "/readyz").status == 200
        for n in range(30):
            books.note("acme", f"e{n}", payload_of(n))
            assert api.post("acme", f"e{n}", payload_of(n)).status == 202
        wait_until(lambda: hung.hanging, what="a hung request")
        signalled = time.monotonic()
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: api.status()["state"] == "draining", what="draining")
        check_refusals(api)
        wait_until(lambda: time.monotonic() > signalled + 0.4, what="longer than the 250 ms of one signal")
        forced = time.monotonic()
        assert daemon.stop(STOP_SECONDS_MAX) == EXIT_UNDELIVERED
        assert time.monotonic() - forced < 1.0 + BUSY_SECONDS  # the drain would last for 60 s
        checked = books.check(tmp_path, daemon.report(), {("acme", "default"): hung})
    assert checked.returncode == 0, checked.stdout
    summary, lines = read_report(daemon.report())
    assert summary["forced"] is True
    assert len(lines) == 30
    assert Counter(line["class"] for line in lines)["outcome_unknown"] == len(hung.log)


def check_refusals(api: Api) -> None:
    batch = b"[" + event_body("acme", "new") + b"]"
    for method, path, body in (
        ("POST", "/v1/events", event_body("acme", "new")),
        ("POST", "/v1/clients/acme/events", event_body("acme", "new")),
        ("POST", "/v1/events/batch", batch),
        ("PUT", "/v1/clients/other", {"url": "http://127.0.0.1:9/"}),
    ):
        refused = api.ask(method, path, body)
        assert (refused.status, refused.slug) == (503, "draining")
        assert int(refused.headers["retry-after"]) >= 1
    assert api.post("acme", "e1", payload_of(1)).status == 200
    assert api.ask("GET", "/livez").status == 200
    assert api.ask("GET", "/readyz").status == 503
    assert api.get("/v1/clients/acme/events/e1")["status"] == "pending"
    assert len(api.listed()) == api.status()["events"]["accepted"] == 30


def test_signals_at_once_are_one(tmp_path: Path) -> None:
    """SIGINT does what SIGTERM does; five others that come with it do not force the stop.

    The daemon is stopped while they are sent, so that they do come together, however busy the machine is.
    """
    books, hung = Books(), Receiver(HANG)
    with hung, Daemon(tmp_path, settings=SHORT_DRAIN) as daemon, daemon.api as api:
        api.put_client("acme", {"url": hung.url})
        books.note("acme", "e1", b"{}")
        assert api.post("acme", "e1").status == 202
        wait_until(lambda: hung.hanging, what="a hung request")
        daemon.signal(signal.SIGSTOP)
        began = time.monotonic()
        daemon.signal(signal.SIGINT)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            daemon.signal(number)
        daemon.signal(signal.SIGCONT)
        assert daemon.wait(STOP_SECONDS_MAX) == EXIT_UNDELIVERED
        assert time.monotonic() - began >= DRAIN_SECONDS
        checked = books.check(tmp_path, daemon.report(), {("acme", "default"): hung})
    assert checked.returncode == 0, checked.stdout
    summary, _ = read_report(daemon.report())
    assert (summary["trigger"], summary["forced"]) == ("SIGINT", False)
    assert summary["drain_seconds"] > 0  # less than the timeout by how late the loop heard of the signal


def test_attempts_that_finish_while_draining_are_delivered(tmp_path: Path) -> None:
    """The drain ends as soon as nothing is left, not at its timeout, and then the exit code is 0."""
    with Receiver(HANG) as slow, Daemon(tmp_path, settings=LONG_DRAIN) as daemon, daemon.api as api:
        api.put_client("acme", {"url": slow.url})
        for n in range(20):
            assert api.post("acme", f"e{n}").status == 202
        wait_until(lambda: slow.hanging, what="a hung request")
        daemon.signal(signal.SIGTERM)
        wait_until(lambda: api.status()["state"] == "draining", what="draining")
        slow.release()
        assert daemon.wait(STOP_SECONDS_MAX) == 0  # the drain would last for 60 s
        summary, lines = read_report(daemon.report())
    assert (summary["events"]["delivered"], lines) == (20, [])
    assert slow.ids() == {f"e{n}": 1 for n in range(20)}


def test_stalled_api_clients_do_not_hold_the_exit(tmp_path: Path) -> None:
    """One with half a request, one that never reads its answers; nothing undelivered: exit 0, and a report."""
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        daemon = stack.enter_context(Daemon(tmp_path, settings=NO_RETRY_SOON))
        api = stack.enter_context(daemon.api)
        api.put_client("acme", {"url": receiver.url})
        bodies = b",".join(event_body("acme", f"e{n}") for n in range(100))
        assert api.ask("POST", "/v1/events/batch", b"[" + bodies + b"]").status == 202
        api.put_client("down", {"url": stack.enter_context(refusing_url()), "schedule": []})
        assert api.post("down", "exhausted").status == 202
        wait_until(lambda: api.deliveries()["exhausted"] == 1, what="one given up")
        wait_until(lambda: api.deliveries()["delivered"] == 100, what="everything delivered")
        half = stack.enter_context(socket.create_connection(("127.0.0.1", daemon.port)))
        half.sendall(b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        half.sendall(b"Content-Length: 100\r\n\r\n{")
        deaf = stack.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", daemon.port))
        deaf.sendall(b"GET /v1/events?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        assert deaf.recv(1)  # it is being answered
        began = time.monotonic()
        assert daemon.stop(STOP_SECONDS_MAX) == 0
        assert time.monotonic() - began < 3.0 + BUSY_SECONDS  # the drain would last for 20 s
        summary, lines = read_report(daemon.report())
    assert (summary["events"]["delivered"], summary["balanced"]) == (100, True)
    assert [(line["kind"], line["reason"]) for line in lines] == [("exhausted", "attempts_used")]


def test_full_stderr_pipe_stops_neither_deliveries_nor_the_exit(tmp_path: Path) -> None:
    """Nobody reads the log: what does not fit is dropped, and the report is written."""
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        with Receiver() as receiver, Daemon(tmp_path, settings=NO_RETRY_SOON, stderr=writing) as daemon:
            with daemon.api as api:
                api.put_client("acme", {"url": receiver.url})
                bodies = b",".join(event_body("acme", f"e{n}") for n in range(150))
                assert api.ask("POST", "/v1/events/batch", b"[" + bodies + b"]").status == 202
                wait_until(lambda: api.deliveries()["delivered"] == 150, what="everything delivered")
            wait_until(lambda: is_full(writing), what="a full pipe")
            assert daemon.stop(8.0) == 0
            summary, _ = read_report(daemon.report())
    finally:
        os.close(reading)
        os.close(writing)
    assert summary["events"]["delivered"] == 150


def is_full(pipe: int) -> bool:
    """Through a description of its own, so that the daemon's end keeps blocking."""
    probe = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        os.write(probe, b"x" * 1024)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False


def test_signal_before_it_listens_ends_it_cleanly(tmp_path: Path) -> None:
    """From the first line of main on a signal is obeyed: exit 0, as soon as the process handles it at all."""
    daemon = Daemon(tmp_path)
    try:
        wait_until(daemon.obeys_signals, what="a handler of SIGTERM")
        assert daemon.stop(10.0) == 0, daemon.stderr
    finally:
        daemon.__exit__(None, None, None)
    assert "Traceback" not in daemon.stderr
    for path in daemon.reports.glob("shutdown-*.jsonl"):
        summary, lines = read_report(path)
        assert (summary["trigger"], summary["balanced"], lines) == ("SIGTERM", True, [])
