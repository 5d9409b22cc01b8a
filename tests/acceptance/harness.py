"""The daemon as a child process, receivers on real sockets, and an HTTP client: what the acceptance tests stand on.

Black box: nothing of the daemon is imported. Indentation is the lifetime: everything is a context manager, receivers
outside, daemons inside. Nothing sleeps: `wait_until` waits for a condition, with a bound around it.
"""

import atexit
import base64
import functools
import hashlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
CHECK_REPORT = Path(__file__).with_name("check_report.py")
START_SECONDS_MAX = 20.0
# What a machine that has other things to do may add to a promised time. What would break the promise takes longer: a
# write's deadline of 10 s, a drain's whole timeout of 20 s and more.
BUSY_SECONDS = 5.0
# The whole suite with the flight recorder off: HOOKD_TESTS_RECORDER=off.
WITHOUT_RECORDER = os.environ.get("HOOKD_TESTS_RECORDER") == "off"
# Long enough that no second attempt comes within a test; no jitter, so that bounds can be stated.
NO_RETRY_SOON = {"retry.schedule": ["10m", "10m"], "retry.jitter": 0}


def wait_until(condition: Callable[[], T], *, seconds: float = 10.0, what: str = "") -> T:
    """The condition's first true value; fails once it has not come true for so long."""
    pause, pause_seconds = threading.Event(), 0.005
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what or condition}"
        pause.wait(pause_seconds)
        pause_seconds = min(2 * pause_seconds, 0.05)  # asking is work for the daemon, too
    return value


def at_once(cases: Mapping[str, T], show: Callable[[str, T], None]) -> None:
    """Four cases at a time: what each costs is starting a process, and waiting for it to drain."""
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(show, name, case) for name, case in cases.items()]:
            future.result()


# --- the daemon -------------------------------------------------------------------------------------------------------


def environment(settings: Mapping[str, object] | None = None, **more: str) -> dict[str, str]:
    """Ours without what would configure a daemon; `{"retry.schedule": ["50ms"]}` becomes HOOKD_RETRY__SCHEDULE."""
    # Without its bytecode cache each start would compile the daemon anew.
    ours = (
        "PYTHONDONTWRITEBYTECODE",
        "HOOKD_",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "NOTIFY_SOCKET",
        "JOURNAL_STREAM",
        "LISTEN_",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if WITHOUT_RECORDER:
        kept["HOOKD_RECORDER__DIRECTORY"] = ""
    for key, value in (settings or {}).items():
        text = value if isinstance(value, str) else json.dumps(value)
        kept[f"HOOKD_{key.replace('.', '__').upper()}"] = text
    return {**kept, **more}


@functools.cache
def shared_memory() -> Path:
    """Where the recorders of this test process stand; it goes with the process, whatever was killed."""
    directory = tempfile.mkdtemp(prefix="hookd-tests-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


def runtime_directory(reports: Path) -> Path:
    """What systemd would give to the daemon that writes its reports there."""
    directory = shared_memory() / hashlib.sha256(str(reports).encode()).hexdigest()[:12]
    directory.mkdir(exist_ok=True)
    return directory


def hookd(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    command = [sys.executable, "-m", "hookd", *arguments]
    env = {**(env or environment()), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, input=stdin, capture_output=True, env=env, cwd=cwd, timeout=30, check=False)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def hookd_each(commands: Mapping[str, Sequence[str]], cwd: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Runs several, as many at once as there are processors: starting Python is most of what each costs."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {name: pool.submit(hookd, *arguments, cwd=cwd) for name, arguments in commands.items()}
        return {name: future.result() for name, future in running.items()}


class Daemon:
    """`hookd run` as a child; entering waits for its `listening on` line, leaving kills what is left of it.

    Its stderr goes to a file, so that nobody has to read it, unless `stderr` is a descriptor. `through` is a command
    that becomes the daemon: it gets the daemon's as its arguments. It inherits `pass_fds`.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        settings: Mapping[str, object] | None = None,
        stderr: int | None = None,
        dev: bool = True,
        bind: str | None = "127.0.0.1:0",
        scheme: str = "http",
        through: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.reports = directory / "reports"
        self._log = directory / "stderr"
        command = [*through, sys.executable, "-m", "hookd", "run", "--reports", str(self.reports)]
        command += ["--bind", bind] if bind else []
        command += ["--dev"] * dev + list(arguments)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(settings, **{"RUNTIME_DIRECTORY": str(runtime_directory(self.reports)), **(env or {})}),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log if stderr is None else stderr,
                pass_fds=pass_fds,
            )
        self.port = 0
        self._scheme = scheme

    def __enter__(self) -> Self:
        try:
            line = self.first_line()
            assert line.startswith(f"listening on {self._scheme}://127.0.0.1:"), (
                f"first line {line!r}, stderr {self.stderr}"
            )
            self.port = int(line.rpartition(":")[2])
            assert self.port, line
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _type: type | None, _value: BaseException | None, _traceback: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    @property
    def api(self) -> "Api":
        """A fresh one for each use, or `with` for one connection that is kept."""
        return Api(self.port)

    def first_line(self, seconds: float = START_SECONDS_MAX) -> str:
        """The first line of stdout, without its end; empty if stdout ends before."""
        assert self.process.stdout is not None
        fd, line = self.process.stdout.fileno(), b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([fd], [], [], seconds)
            assert ready, f"nothing on stdout within {seconds:g} s"
            if not (byte := os.read(fd, 1)):
                break
            line += byte
        return line.decode().removesuffix("\n")

    def has_line(self) -> bool:
        """Whether there is something to read on stdout, or its end."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code; fails if it takes longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s; stderr: {self.stderr[-2000:]}") from None

    def stop(self, seconds: float = 10.0) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def obeys_signals(self) -> bool:
        """Whether the process has a handler for SIGTERM yet, as the kernel sees it."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def report(self) -> Path:
        """The one report it wrote."""
        (path,) = self.reports.glob("shutdown-*.jsonl")
        return path


def redirected(redirections: str) -> list[str]:
    """For `through`: the daemon's standard streams are as a shell sets them."""
    return ["sh", "-c", f'exec "$@" {redirections}', "sh"]


def socket_activated(fd: int) -> list[str]:
    """For `through`: the daemon has this listening socket, as systemd hands one over."""
    become = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))"
    )
    return [sys.executable, "-c", f"{become}; os.execvp(sys.argv[2], sys.argv[2:])", str(fd)]


def limited(limits: str) -> list[str]:
    """For `through`: the daemon has such limits, as `ulimit` takes them."""
    return ["sh", "-c", f'ulimit {limits} && exec "$@"', "sh"]


@contextmanager
def mounted(path: Path, size: str = "128k") -> Iterator[None]:
    """A small file system of our own there, to be filled and made read-only."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "hookd-test", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def read_report(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    summary, *lines = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return summary, lines


def report_texts(log: str) -> str:
    """The texts for people among the log's lines of JSON, one after the other; what is no whole line is passed over."""
    texts = []
    for line in log.splitlines():
        with suppress(ValueError):
            fields = json.loads(line)
            if fields["event"] == "report.text":
                texts.append(fields["text"])
    return "".join(texts)


def write_shutdown_report(directory: Path, count: int, url: str) -> Path:
    """As a run of long ago would have left it; clients c0 to c9, of `count` events."""
    now = "2026-11-21T20:00:00.000Z"
    counts = {"accepted": count, "recovered": 0, "delivered": 0, "exhausted": 0, "undelivered": count}
    deliveries = {"opened": count, "delivered": 0, "exhausted": 0, "undelivered": count}
    summary = {"kind": "summary", "format": 1, "run_id": "longago", "version": "0", "host": "h", "pid": 1}
    summary |= {"started_at": now, "stopped_at": now, "trigger": "SIGTERM", "forced": False, "drain_seconds": 0.0}
    summary |= {"events": counts, "deliveries": deliveries, "balanced": True, "exhausted_held": 0}
    summary |= {"undelivered": {"never_attempted": count, "attempted_failed": 0, "outcome_unknown": 0}}
    summary |= {"exhausted_forgotten": 0, "clients": []}
    line = {"kind": "undelivered", "class": "never_attempted", "endpoint_id": "default", "url": url, "type": "t"}
    line |= {"accepted_at": now, "attempt_count": 0, "next_attempt_at": now, "last_outcome": None}
    directory.mkdir()
    path = directory / "shutdown-20261121T200000Z-longago.jsonl"
    with path.open("w") as file:
        for one in (
            summary,
            *({**line, "event_id": f"e{n}", "client_id": f"c{n % 10}", "payload": n} for n in range(count)),
        ):
            file.write(json.dumps(one) + "\n")
    return path


# --- the API ----------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def slug(self) -> str:
        """Of a problem, in the form that the contract asks for."""
        assert self.headers["content-type"].split(";")[0] == "application/problem+json", self
        body = self.json
        assert body["status"] == self.status
        assert body["title"]
        assert body["detail"]
        kind, _, slug = body["type"].rpartition("/")
        assert kind == "/problems"
        return str(slug)


class Api:
    """One connection to the daemon, kept; for one thread."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """`body` is sent as it is if it is bytes or chunks of them, else as JSON."""
        if body is not None and not isinstance(body, bytes | Iterator):
            body = json.dumps(body).encode()
        names = {"content-type": "application/json"} if body is not None else {}
        chunked = isinstance(body, Iterator)
        self._connection.request(method, path, body, {**names, **(headers or {})}, encode_chunked=chunked)
        response = self._connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())

    def get(self, path: str) -> Any:
        answer = self.ask("GET", path)
        assert answer.status == 200, answer
        return answer.json

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.get("/v1/status")
        for total, of in (("accepted", status["events"]), ("opened", status["deliveries"])):
            assert of[total] == of["pending"] + of["failed"] + of["delivered"] + of["exhausted"], status
        return status

    def deliveries(self) -> dict[str, int]:
        deliveries: dict[str, int] = self.status()["deliveries"]
        return deliveries

    def put_client(self, client_id: str, *endpoints: Mapping[str, object]) -> dict[str, str]:
        """Registers it; returns the secrets that were made, by endpoint."""
        answer = self.ask("PUT", f"/v1/clients/{client_id}", {"endpoints": endpoints})
        assert answer.status == 201, answer
        return {one["id"]: one["secret"] for one in answer.json["endpoints"] if "secret" in one}

    def post(self, client_id: str, event_id: str, payload: bytes = b"{}", event_type: str = "order.paid") -> Answer:
        """One event; the payload goes in byte for byte."""
        return self.ask("POST", "/v1/events", event_body(client_id, event_id, payload, event_type))

    def listed(self, query: str = "") -> list[dict[str, Any]]:
        """Every event that the listing has, all pages."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.get(f"/v1/events?limit=1000{query}{cursor}")
            found += page["events"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"


def event_body(client_id: str, event_id: str, payload: bytes = b"{}", event_type: str = "order.paid") -> bytes:
    head = json.dumps({"client_id": client_id, "id": event_id, "type": event_type}).encode()
    return head[:-1] + b', "payload": ' + payload + b"}"


# --- receivers --------------------------------------------------------------------------------------------------------


@dataclass
class Received:
    """One request as it arrived. `number` counts those of the same webhook-id from 1; `status` is what was answered."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    number: int
    at: float
    status: int | None = None

    @property
    def header(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers}

    @property
    def event_id(self) -> str:
        return self.header["webhook-id"]


class _Hang:
    """A behaviour's answer: none, until the receiver is released (then 200) or closed."""


HANG = _Hang()
Behaviour = Callable[[Received], "int | bytes | _Hang"]


def always(answer: int | bytes | _Hang) -> Behaviour:
    return lambda _received: answer


class Receiver:
    """An endpoint on port 0. `behaviour` decides each answer, may be switched, and gives a status or raw bytes."""

    def __init__(self, behaviour: Behaviour | int | _Hang = 200) -> None:
        self.behaviour = behaviour if callable(behaviour) else always(behaviour)
        self.log: list[Received] = []
        self._numbers: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._released, self._released_with = threading.Event(), 200
        self._closing = False
        self._errors: list[BaseException] = []
        self._server = _server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        assert not self._errors, self._errors

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/hook"

    @property
    def hanging(self) -> int:
        return sum(received.status is None for received in list(self.log))

    def release(self, status: int = 200) -> None:
        """Those that hang are answered so, and nothing hangs any more."""
        self._released_with = status
        self._released.set()

    def ids(self) -> Counter[str]:
        return Counter(received.event_id for received in list(self.log))

    def receive(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        with self._lock:
            event_id = handler.headers["webhook-id"] or ""
            self._numbers[event_id] += 1
            at = time.monotonic()
            received = Received(handler.path, handler.headers.items(), body, self._numbers[event_id], at)
            self.log.append(received)
        answer = self.behaviour(received)
        if isinstance(answer, _Hang):
            self._released.wait()
            if self._closing:
                return
            answer = self._released_with
        if isinstance(answer, bytes):
            handler.wfile.write(answer)
            received.status = int(answer.split()[1])
        else:
            handler.wfile.write(f"HTTP/1.1 {answer} X\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok".encode())
            received.status = answer

    def note(self, error: BaseException) -> None:
        if not isinstance(error, OSError):  # the daemon may hang up: that is its right
            self._errors.append(error)


def _server(receiver: Receiver) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 30
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            receiver.receive(self)
            self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class names it so
            """Nobody reads it."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 1024
        daemon_threads = False

        def handle_error(self, request: object, client_address: object) -> None:
            error = sys.exc_info()[1]
            assert error is not None
            receiver.note(error)

    return Server(("127.0.0.1", 0), Handler)


@contextmanager
def refusing_url() -> Iterator[str]:
    """A port that is taken and does not listen: every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}/hook"


# --- the books --------------------------------------------------------------------------------------------------------


class Books:
    """What was posted, to be held against a report by the independent script."""

    def __init__(self) -> None:
        self._posted: list[dict[str, object]] = []

    def note(self, client_id: str, event_id: str, payload: bytes, endpoint_ids: Sequence[str] = ("default",)) -> None:
        for endpoint_id in endpoint_ids:
            self._posted.append(_entry(client_id, endpoint_id, event_id, payload))

    def check(
        self, directory: Path, report: Path, receivers: Mapping[tuple[str, str], Receiver]
    ) -> subprocess.CompletedProcess[str]:
        """Runs check_report.py; the receivers stand under (client, endpoint)."""
        received = [
            _entry(client_id, endpoint_id, one.event_id, one.body, status=one.status)
            for (client_id, endpoint_id), receiver in receivers.items()
            for one in list(receiver.log)
        ]
        files = [_written(directory / "posted.jsonl", self._posted), _written(directory / "received.jsonl", received)]
        command = [sys.executable, str(CHECK_REPORT), str(report), *files]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def _entry(client_id: str, endpoint_id: str, event_id: str, body: bytes, **more: object) -> dict[str, object]:
    body_base64 = base64.b64encode(body).decode()
    return {
        "client_id": client_id,
        "endpoint_id": endpoint_id,
        "event_id": event_id,
        "body_base64": body_base64,
        **more,
    }


def _written(path: Path, entries: Iterable[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return str(path)
