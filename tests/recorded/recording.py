"""One daemon's record: every exchange in its order, then how it ended and what it left.

A story asks through this; polls that wait for a condition are made beside it and are not recorded.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Daemon, Program, log_lines, wait_until
from tests.recorded.receivers import Receivers
from tests.recorded.wire import Answer, exchange, request_bytes

JSON = "application/json"
NDJSON = "application/x-ndjson"
SHOWN_MAX = 160
# Refused requests are logged once a second at most: which of them, but the first, is a matter of time.
ONCE = {"request.refused"}
# Once a minute: only a story that waits for it has it.
MINUTELY = {"counts"}
# Their value is how soon things settle, or how long a stop may still take.
HINTS = {"retry-after"}


class Recording:
    def __init__(self, daemon: Daemon, names: Placeholders, receivers: Receivers) -> None:
        self.daemon = daemon
        self.names = names
        self.receivers = receivers
        self.exchanges: list[dict[str, Any]] = []
        self.token: str | None = None
        self._varying: set[str] = set()  # targets whose answers' length varies, which HEAD says too
        names.add(f"127.0.0.1:{daemon.port}", "127.0.0.1:HOOKD")

    # Recorded

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        type: str | None = JSON,  # noqa: A002
        **headers: str,
    ) -> Answer:
        """`body`: bytes as they are, anything else as JSON; `x_name=value` is a header, `host=` replaces ours."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = [("host", given.pop("host", f"127.0.0.1:{self.daemon.port}"))]
        if self.token is not None and "authorization" not in given:
            sent.append(("authorization", f"Bearer {self.token}"))
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body, separators=(",", ":")).encode()
        if body is not None and type is not None:
            sent.append(("content-type", type))
        sent += given.items()
        shown = {"request": f"{method} {target}"}
        if given:
            shown["with"] = ", ".join(f"{name}: {value}" for name, value in given.items())
        if body is not None:
            shown["body"] = body.decode("utf-8", "backslashreplace")
            if type != JSON:
                shown["type"] = str(type)
        answers = self._exchange(shown, request_bytes(method, target, sent, body), is_head=method == "HEAD")
        return answers[0]

    def get(self, target: str, **headers: str) -> Answer:
        return self.ask("GET", target, **headers)

    def post(self, target: str, body: Any = None, **more: Any) -> Answer:
        return self.ask("POST", target, body, **more)

    def put(self, client_id: str, body: Any, query: str = "", **more: Any) -> Answer:
        return self.ask("PUT", f"/v1/clients/{client_id}{query}", body, **more)

    def raw(self, what: str, sent: bytes, *, answers: int = 1) -> list[Answer]:
        """Bytes that no client would send, with `HOST` standing for ours."""
        sent = sent.replace(b"HOST", f"127.0.0.1:{self.daemon.port}".encode())
        return self._exchange({"request": f"(raw) {what}"}, sent, answers=answers)

    def _exchange(self, shown: dict[str, str], sent: bytes, **how: Any) -> list[Answer]:
        answers, closed = exchange(self.daemon.port, sent, **how)
        shown = {name: _clip(self.names.text(value)) for name, value in shown.items()}
        shown["request"] = self.names.target(shown["request"])
        method, _, target = shown["request"].partition(" ")
        described = [self._shown(each, "" if method == "HEAD" else target) for each in answers]
        if method == "HEAD" and target in self._varying:
            described[0]["headers"] = [
                "content-length: LENGTH" if line.startswith("content-length: ") else line
                for line in described[0]["headers"]
            ]
        self.exchanges.append({**shown, "answers": described, "closed": closed})
        return answers

    def _shown(self, answer: Answer, target: str) -> dict[str, Any]:
        content_type = answer.header("content-type") or ""
        body = self.names.body(answer.body, content_type)
        is_same = self._is_fixed(answer.body, body)
        if not is_same:
            self._varying.add(target)
        headers = [f"{name}: {self._value(name, value, is_same)}" for name, value in answer.headers]
        return {"status": answer.status_line, "headers": headers, "body": body}

    def _is_fixed(self, body: bytes, shown: Any) -> bool:
        """Whether nothing of it was replaced: then its length is compared, too."""
        text = body.decode("utf-8", "backslashreplace")
        if isinstance(shown, dict):
            return json.dumps(shown, separators=(",", ":"), ensure_ascii=False) == text
        return shown == text or (isinstance(shown, list) and "\n".join(map(str, shown)) == text)

    def _value(self, name: str, value: str, is_same: bool) -> str:
        name = name.lower()
        if name == "date":
            return "DATE"
        if name in HINTS and value.isdigit():
            return "SECONDS"
        if name == "content-length" and not is_same:
            return "LENGTH"
        return self.names.text(value)

    # Not recorded

    def look(self, target: str) -> Any:
        headers = [("host", f"127.0.0.1:{self.daemon.port}")]
        if self.token is not None:
            headers.append(("authorization", f"Bearer {self.token}"))
        [answer], _ = exchange(self.daemon.port, request_bytes("GET", target, headers, None))
        if answer.status != 200:
            raise LookupError(f"{target}: {answer}")
        return json.loads(answer.body)

    def settle(self, client_id: str, event_id: str, *, attempts: int = 1) -> dict[str, Any]:
        """Until each of its deliveries has had so many attempts, or is settled, and none is in flight."""
        path = f"/v1/clients/{client_id}/events/{event_id}"

        def is_done() -> Any:
            event = self.look(path)
            done = all(
                not one["in_flight"] and (one["status"] in ("delivered", "exhausted") or one["attempt_count"] >= attempts)
                for one in event["deliveries"]
            )
            return event if done else None

        return wait_until(is_done, f"{attempts} attempts of {path}")

    def wait_status(self, condition: Callable[[Any], bool], what: str) -> None:
        wait_until(lambda: condition(self.look("/v1/status")), what)

    # The end

    def ended(self, exit_code: int, reports: Path | None) -> dict[str, Any]:
        logged, others = log_lines(self.daemon.stderr)
        stdout = self.daemon.first_line + self.daemon.later_stdout
        return {
            "exchanges": self.exchanges,
            "exit code": exit_code,
            "stdout": self.names.text(stdout).split("\n"),
            "stderr": [self.names.text(line, spans=True) for line in others],
            "log": logged_shown(logged, self.names),
            "report": [] if reports is None else report_shown(reports, self.names),
        }


def logged_shown(logged: list[dict[str, Any]], names: Placeholders) -> list[str]:
    """Sorted by kind and content; each as the line that it was, so that the order of its fields counts."""
    shown, seen = [], set()
    for line in logged:
        kind = line["event"]
        if kind in MINUTELY or (kind in ONCE and kind in seen):
            continue
        seen.add(kind)
        shown.append((kind, json.dumps(names.value(line), ensure_ascii=False)))
    return [line for _, line in sorted(shown)]


def report_shown(reports: Path, names: Placeholders) -> list[Any]:
    """The newest report of a stop, and any of a crash, line by line, and who may read them; then all names there."""
    newest = max(reports.glob("shutdown-*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    shown: list[Any] = []
    for path in (newest, *sorted(reports.glob("crash-*.jsonl"))):
        shown += [f"{names.text(path.name)}, mode {path.stat().st_mode & 0o777:o}"]
        shown += [names.body(line, JSON) if line else "" for line in path.read_bytes().split(b"\n")]
    return [*shown, sorted(names.text(path.name) for path in reports.iterdir())]


def command(program: Program, names: Placeholders, *arguments: str, spans: bool = False, **more: Any) -> dict[str, Any]:
    """A command's whole outside. JSON on stdout is taken apart."""
    done = program.run(*arguments, **more)
    out, err = done.stdout, done.stderr.decode()
    stdout = names.body(out.rstrip(b"\n"), JSON) if out.startswith(b"{") else names.text(out.decode(), spans=spans).split("\n")
    shown = {"command": names.text(" ".join(["hookd", *arguments])), "exit code": done.returncode, "stdout": stdout}
    if kept := {name: value for name, value in more.items() if name != "stdin"}:
        shown["environment"] = names.value(kept)
    return {**shown, "stderr": names.text(err, spans=spans).split("\n")}


def received(receivers: Receivers, names: Placeholders) -> list[Any]:
    """What the clients got, sorted: which of two endpoints is posted to first is a matter of time."""
    shown = []
    for one in receivers.received:
        head = []
        for line in one.head:
            name, _, value = line.partition(": ")
            match name.lower():
                case "webhook-timestamp":
                    line = f"{name}: UNIX-SECONDS"
                case "webhook-signature":
                    line = f"{name}: {' '.join(part[:3] + 'SIGNATURE' for part in value.split(' '))}"
            head.append(names.text(line))
        body = names.text(one.body.decode("utf-8", "backslashreplace"))
        shown.append({"head": head, "body": body, "signed by the set's secret": one.is_signed})
    return sorted(shown, key=json.dumps)


def _clip(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}… ({len(text)} characters)"

