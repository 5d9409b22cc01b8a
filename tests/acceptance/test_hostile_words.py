"""Commands against words that mean harm to a terminal: of a server, a report, a marker, a claim's name, a config.

Whatever they print is printable, line by line; where they print JSON, its readers have the words as they were.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.acceptance.harness import hookd, write_shutdown_report

# Colour, title (OSC), C1's CSI, DEL, Unicode's line ends, bidi.
BOO = "\x1b[31m\x1b]0;boo\x07\x9b2J\x7f\x85\u2028\u2029\u202eoob\u2066\r\nhookd: forged"
NOW = "2026-11-21T20:00:00.000Z"


def problem(status: int) -> tuple[int, Any]:
    return status, {"type": f"/problems/{BOO}", "title": BOO, "status": status, "detail": BOO, "errors": []}


def attempt(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "started_at": NOW,
        "duration_seconds": 0.1,
        "outcome": BOO,
        "status_code": None,
        "request_sent": False,
        "error": BOO,
        "response_excerpt": BOO,
    }


EVENT = {
    "id": BOO,
    "client_id": BOO,
    "type": BOO,
    "status": BOO,
    "unrouted": False,
    "accepted_at": NOW,
    "settled_at": NOW,
    "deliveries": [
        {
            "endpoint_id": BOO,
            "url": BOO,
            "status": "failed",
            "reason": None,
            "in_flight": False,
            "attempt_count": 1,
            "attempts_max": 6,
            "next_attempt_at": NOW,
            "expires_at": None,
            "attempts": [attempt(1)],
        }
    ],
}


@contextmanager
def serving(answers: dict[str, tuple[int, Any]]) -> Iterator[str]:
    """A server that says the same to each path, in JSON, or as it is where it is text; what else is asked, 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, said = answers.get(self.path.partition("?")[0], problem(404))
            body = said.encode() if isinstance(said, str) else json.dumps(said, ensure_ascii=False).encode()
            self.send_response(status)
            self.send_header("content-type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("retry-after", "0")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the base class names it so

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said_by(*arguments: str) -> str:
    """Both streams of a command, which has to end in no traceback, and in printable lines of its own."""
    done = hookd(*arguments)
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    for line in said.replace("\r", "").split("\n"):  # the bar, where there is no terminal, begins anew with CR
        assert line.isprintable(), (arguments, line)
    assert not [line for line in said.splitlines() if line.startswith("hookd: forged")]
    return said


@pytest.fixture(name="report")
def _report(tmp_path: Path) -> Path:
    return write_shutdown_report(tmp_path / "reports", 2, "http://127.0.0.1:9/hook")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 503, 200, 202])
def test_problem_of_a_server_is_shown_harmlessly_by_every_command(report: Path, status: int) -> None:
    """Problem or plain text, whatever the status; `resend` meets it at once, or after it learned of the run."""
    for said in (problem(status), (status, BOO)):
        with serving(
            {
                "/v1/status": said,
                "/v1/clients/acme/events": said,
                "/v1/clients/acme": said,
                "/v1/events/acme": said,
                "/v1/resend": said,
            }
        ) as url:
            for command in (("send", "acme", "t"), ("status",), ("explain", "acme"), ("resend", str(report))):
                assert "boo" in said_by(*command, "--url", url) or status < 400
            said_by("report", "--url", url)


def test_event_of_a_server_is_shown_harmlessly(report: Path) -> None:
    """`send` shows what it follows, `resend` whatever its lines are answered with."""
    answers = {
        "/v1/clients/acme/events": (202, EVENT),
        "/v1/status": (200, {"run_id": "run1", "type": "status"}),
        "/v1/resend": (200, {"lines": [BOO, BOO]}),
    }
    with serving(answers) as url:
        assert "attempt 1: \\x1b[31m\\x1b]0;boo" in said_by("send", "acme", "t", "--url", url)
        shown = hookd("send", "acme", "t", "--json", "--url", url).stdout
        assert shown.rstrip("\n").isprintable()
        assert json.loads(shown) == EVENT
        said = said_by("resend", str(report), "--url", url)
        assert "\\u202eoob" in said
        answers["/v1/resend"] = problem(429)
        answers["/v1/status"] = (200, {"run_id": "../../x", "type": "status"})
        said = said_by("resend", str(report), "--url", url)
        assert "it names no run" in said
    assert [path.name for path in report.parent.parent.rglob("*claimed-by*")] == []


def test_report_marker_and_claim_are_shown_harmlessly(report: Path) -> None:
    """Its summary and lines, the name of a claim, a marker beside it; `--json` gives the words back."""
    summary, *lines = report.read_text().splitlines()
    client = {"client_id": BOO, "endpoint_id": BOO, "undelivered": 2, "oldest_accepted_at": NOW}
    client |= {"failing_since": NOW, "last_error": BOO}
    fields = json.loads(summary) | {"version": BOO, "host": BOO, "trigger": BOO, "clients": [client]}
    lines = [json.dumps(json.loads(line) | {"client_id": BOO, "event_id": BOO}) for line in lines]
    hostile = "\n".join([json.dumps(fields, ensure_ascii=False), *lines, "", f"{BOO[:6]} no JSON", ""])
    report.write_text(hostile)
    (report.parent / f"{report.name}.claimed-by-\x1b[31m\u202erun").write_text("")
    marker = {"run_id": BOO, "version": BOO, "host": BOO, "pid": 1, "started_at": NOW.replace("20:", "21:")}
    marker |= {"at": NOW.replace("20:", "22:"), "counts": {BOO: 1, "in_flight": 2, "events": {"failed": 3}}}
    (report.parent / "run-x.open").write_text(json.dumps(marker, ensure_ascii=False))
    said = said_by("report", "--reports", str(report.parent))
    assert "RUN \\x1b[31m\\x1b]0;boo" in said
    assert "its counts then: 1 \\x1b[31m" in said
    assert ", 2 in flight; events 3 failed\n" in said
    assert "run \\x1b[31m\\u202erun took up" in said
    shown = hookd("report", str(report), "--json").stdout
    assert shown.rstrip("\n").isprintable()
    assert json.loads(shown)["clients"][0]["last_error"] == BOO
    answers = {"/v1/status": (200, {"run_id": "run1"}), "/v1/resend": (200, {"lines": ["unknown-client", "conflict"]})}
    with serving(answers) as url:
        said = said_by("resend", str(report), "--url", url)
    assert "unknown-client (\\x1b[31m" in said
    assert "is cut or no JSON" in said
    assert "is blank" in said


def test_mistake_of_a_configuration_is_shown_harmlessly(tmp_path: Path) -> None:
    """A key, a value and the file's own name."""
    config = tmp_path / "h\x1b[31mookd.toml"
    config.write_text(f"[{json.dumps(BOO)}]\nx = 1\n[drain]\ntimeout = {json.dumps(BOO)}\n")
    for command in (("check", str(config)), ("run", "--config", str(config))):
        assert "timeout" in said_by(*command)
