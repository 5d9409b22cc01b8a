"""The commands where no daemon runs: help, mistakes, configurations, reports, the receiver; and a minute of nothing."""

import json
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.recorded.placeholders import Placeholders
from tests.recorded.program import Daemon, Program, log_lines, wait_until
from tests.recorded.receivers import SECRET
from tests.recorded.recording import command
from tests.recorded.wire import exchange, request_bytes

COMMANDS = ("run", "check", "demo", "status", "explain", "receive", "send", "report", "resend")
GOOD = """
[http]
bind = ["127.0.0.1:8080", "unix:/run/hookd.sock"]
[retry]
schedule = ["1s", "1m", "1h"]
[recorder]
directory = "DIR"
payloads = true
[[clients]]
id = "acme"
[[clients.endpoints]]
url = "https://example.com/hook"
secret_file = "secret"
schedule = ["10s"]
timeout = "30s"
"""
BAD = """
[http]
bind = ["0.0.0.0:8080", "nonsense"]
connections_max = 0
[intkae]
[intake]
payload_bytes_max = 5
body_bytes_max = "5 apples"
payload_bytes = "1KiB"
[retry]
schedule = ["5s", "soon"]
jitter = 2
[[http.tokens]]
name = "a b"
scope = "all"
token = "x"
[[clients]]
id = "acme"
[[clients.endpoints]]
url = "http://example.com/hook"
secret_file = "missing"
[[clients]]
id = "acme"
"""
MINUTE_SECONDS_MAX = 90.0


def bare(program: Program, names: Placeholders) -> dict[str, Any]:
    folder = program.folder
    (folder / "secret").write_text(SECRET)
    (folder / "secret").chmod(0o600)
    files = {
        "good.toml": GOOD.replace("DIR", str(folder / "recorder")),
        "bad.toml": BAD,
        "broken.toml": "[http\n",
        "empty.toml": "",
        "no-report.jsonl": "{}\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "binary.toml").write_bytes(b"a = '\xff'\n")
    (folder / "recorder").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        names.add(f"127.0.0.1:{port}", "127.0.0.1:TAKEN")
        taken_at = f"127.0.0.1:{port}"
        lists = [
            ("--help",), ("-h",), ("--version",), (), ("nonsense",), ("--nonsense",),
            *((name, "--help") for name in COMMANDS),
            ("check", "good.toml"), ("check", "good.toml", "--dev"), ("check", "empty.toml"), ("check", "bad.toml"),
            ("check", "bad.toml", "--dev"), ("check", "broken.toml"), ("check", "binary.toml"), ("check", "none.toml"),
            ("check",),
            ("run", "--config", "bad.toml"), ("run", "--config", "none.toml"), ("run", "--bind", "nonsense"),
            ("run", "--bind", taken_at), ("run", "--bind", "0.0.0.0:0"), ("run", "--client", "nonsense"),
            ("run", "--client", "a=http://example.com/"), ("run", "--client", "a=https://a/", "--client", "a=https://b/"),
            ("run", "--bind", "127.0.0.1:0", "--reports", "secret"),
            ("report",), ("report", "none.jsonl"), ("report", "no-report.jsonl"), ("report", "--reports", "none"),
            ("resend", "none.jsonl"), ("resend", "no-report.jsonl"), ("resend",),
            ("receive", "--first", "2"), ("receive", "--fail", "99"), ("receive", "--delay", "soon"),
            ("receive", "--secret", "!"), ("receive", "--port", str(port)),
            ("explain",), ("send", "acme"), ("status", "--url", "ftp://x"), ("demo", "--act", "none"),
        ]  # fmt: skip
        names.add(f"--port {port}", "--port TAKEN")
        commands = [command(program, names, *arguments) for arguments in lists]
    commands.append(command(program, names, "check", "empty.toml", HOOKD_RETRY__JITER="1", HOOKD_DRAIN__TIMEOUT="x"))
    return {"commands": commands, "receive": [receive(program, names, *more) for more in ((), ("--json",))]}


def receive(program: Program, names: Placeholders, *more: str) -> dict[str, Any]:
    """The receiver, posted to by us: unsigned, signed wrongly, out of time; it fails the first of each id."""
    arguments = ("receive", "--port", "0", "--secret", SECRET, "--fail", "503", "--first", "1", *more)
    out = program.folder / "receive.stdout"
    with out.open("wb") as stdout:
        process = subprocess.Popen(
            program.command(*arguments),
            cwd=program.folder,
            env=program.environment({"PYTHONUNBUFFERED": "1"}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
    assert process.stderr is not None
    try:
        ready, _, _ = select.select([process.stderr], [], [], 30)
        first = process.stderr.readline().decode() if ready else ""
        port = int(first.partition("http://127.0.0.1:")[2].partition("/")[0])
        names.add(f"127.0.0.1:{port}", "127.0.0.1:RECEIVE")
        answers = []
        now = str(int(time.time()))
        signed = [("webhook-id", "w"), ("webhook-timestamp", now), ("webhook-signature", "v1,none")]
        for headers in ([], signed, signed, signed, [("webhook-id", "x"), ("webhook-timestamp", "5"), ("webhook-signature", "v1,a")]):
            given = [("host", f"127.0.0.1:{port}"), ("hookd-event-type", "t"), ("hookd-attempt", "1"), *headers]
            [answer], _ = exchange(port, request_bytes("POST", "/hook", given, b'{"a": 1}'))
            answers.append([answer.status_line, *(name for name, _ in answer.headers)])
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=30)[1].decode()
    finally:
        process.kill()
        process.wait()
    lines = names.text(out.read_text()).split("\n")
    shown = [_receive_line(names, line) for line in lines]
    return {
        "command": names.text(" ".join(["hookd", *arguments])),
        "answers": answers,
        "stdout": shown,
        "stderr": names.text(first + rest).split("\n"),
        "exit code": process.returncode,
    }


def _receive_line(names: Placeholders, line: str) -> str:
    """How old a stamp of 1970 is, and the time of day, are matters of time."""
    return re.sub(r"\b\d{9,} s old", "SECONDS s old", re.sub(r"^\d\d:\d\d:\d\dZ", "CLOCK", line))


class Minute:
    """A daemon that has nothing to do, until it has said its counts."""

    def __init__(self, program: Program, names: Placeholders) -> None:
        self._names = names
        (program.folder / "recorder").mkdir()
        self._daemon = Daemon(program, "minute", RUNTIME_DIRECTORY=str(program.folder / "recorder"))

    def __enter__(self) -> "Minute":
        self._daemon.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        self._daemon.__exit__()

    def over(self, folder: Path) -> dict[str, Any]:
        """The log in the order in which it came."""
        self._names.add(f"127.0.0.1:{self._daemon.port}", "127.0.0.1:HOOKD")
        wait_until(lambda: self._daemon.has_logged("counts"), "counts", seconds=MINUTE_SECONDS_MAX)
        self._daemon.signal(signal.SIGTERM)
        code = self._daemon.wait()
        logged, others = log_lines(self._daemon.stderr)
        counts = [line for line in logged if line["event"] == "counts"]
        logged = [line for line in logged if line not in counts[1:]]  # on a busy machine the others take longer
        return {
            "exit code": code,
            "log": [json.dumps(self._names.value(line), ensure_ascii=False) for line in logged],
            "stderr": [self._names.text(line, spans=True) for line in others],
        }
