"""A real Redis and `hookd relay` as child processes, and a client of Redis that knows nothing of the relay's.

Nothing here sleeps, and nothing ends a process that it did not start. Without `redis-server` what needs it is skipped.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest

from tests.acceptance.harness import ROOT, START_SECONDS_MAX, Api, environment, wait_until
from tests.acceptance.test_outbox import port_for_good

REDIS = shutil.which("redis-server")
needs_redis = pytest.mark.skipif(REDIS is None, reason="no redis-server here")
STREAM, GROUP = "events", "hookd"


class RedisError(Exception):
    """What Redis says no with."""


class Redis:
    """A connection that speaks RESP2, for one thread."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def __call__(self, *words: object) -> Any:
        return self.each([words])[0]

    def each(self, commands: Iterable[Iterable[object]]) -> list[Any]:
        """All of them in one write; raises the first error."""
        listed = [[str(word).encode() if not isinstance(word, bytes) else word for word in one] for one in commands]
        data = b"".join(
            b"*%d\r\n%b" % (len(one), b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in one)) for one in listed
        )
        self._socket.sendall(data)
        answers = [self._answer() for _ in listed]
        for answer in answers:
            if isinstance(answer, RedisError):
                raise answer
        return answers

    def _answer(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis has gone")
        kind, text = line[:1], line[1:-2]
        if kind == b"-":
            return RedisError(text.decode())
        if kind == b":":
            return int(text)
        if kind == b"$":
            if int(text) < 0:
                return None
            data = self._file.read(int(text) + 2)
            if len(data) != int(text) + 2:
                raise ConnectionError("Redis has gone")
            return data[:-2].decode(errors="replace")
        if kind == b"*":
            return None if int(text) < 0 else [self._answer() for _ in range(int(text))]
        return text.decode(errors="replace")


class RedisServer:
    """On a port of its own, with an append-only file: killed and started again it has what it confirmed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "redis"
        self.folder.mkdir(parents=True)
        self.port = port_for_good()
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        assert REDIS is not None
        command = [REDIS, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "everysec"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, seconds=START_SECONDS_MAX, what="Redis answers")
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ask(self, *words: object) -> Any:
        with Redis(self.port) as redis:
            return redis(*words)

    def add(self, client_id: str, event_ids: Iterable[str], payload: str = "{}", stream: str = STREAM) -> None:
        """Confirmed entries."""
        with Redis(self.port) as redis:
            redis.each([added(client_id, event_id, payload, stream) for event_id in event_ids])

    def pending(self) -> int:
        """Of the group; what no relay has read is not among them."""
        return int(self.ask("XPENDING", STREAM, GROUP)[0])

    def unread(self) -> int:
        """Counted: after a kill Redis may not know its `lag` any more."""
        groups = [dict_of(one) for one in self.ask("XINFO", "GROUPS", STREAM)]
        return len(self.ask("XRANGE", STREAM, f"({groups[0]['last-delivered-id']}" if groups else "-", "+"))

    def is_done(self) -> bool:
        """Everything that was added is read and acknowledged."""
        try:
            return self.unread() == 0 and self.pending() == 0
        except RedisError:
            return False

    def lines(self, name: str) -> list[dict[str, str]]:
        """What stands in `STREAM:exhausted` or `STREAM:refused`."""
        return [dict_of(fields) for _, fields in self.ask("XRANGE", f"{STREAM}:{name}", "-", "+")]

    def posted_again(self) -> int:
        return int(self.ask("HGET", f"{STREAM}:relay:{GROUP}", "posted_again") or 0)

    def _answers(self) -> bool:
        with suppress(OSError, RedisError):
            return bool(self.ask("PING") == "PONG")
        return False


def added(client_id: str, event_id: str, payload: str = "{}", stream: str = STREAM) -> list[str]:
    fields = ["client", client_id, "type", "order.paid", "id", event_id, "payload", payload]
    return ["XADD", stream, "*", *fields]


def dict_of(flat: list[Any]) -> dict[str, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


class Relay:
    """`hookd relay` as a child; entering waits until it listens, leaving kills what is left of it."""

    def __init__(self, folder: Path, redis_url: str, to: str, *arguments: str, name: str = "relay") -> None:
        folder.mkdir(exist_ok=True)
        self._log = folder / f"{name}.stderr"
        self._command = [sys.executable, "-m", "hookd", "relay", "--redis", redis_url, "--stream", STREAM]
        self._command += ["--group", GROUP, "--to", to, "--bind", "127.0.0.1:0", "--takeover", "5s", *arguments]
        self.port = 0
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("listening on http://127.0.0.1:"), f"first line {line!r}, stderr {self.stderr}"
        self.port = int(line.rpartition(":")[2])
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def stderr(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def check_runs(self) -> None:
        """Fails with what it said last, a whole traceback of nested groups with it, where it has ended by itself."""
        code = self.process.poll()
        assert code is None, f"the relay has ended with {code}; the end of {self._log}:\n{self.stderr[-30_000:]}"

    def kill_and_start_again(self) -> None:
        self.check_runs()
        self.kill()
        self.__enter__()

    def stop(self, seconds: float = 5.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def metrics(self) -> dict[str, float]:
        """By name and labels."""
        with Api(self.port) as api:
            answer = api.ask("GET", "/metrics")
        assert answer.status == 200
        lines = [line.rpartition(" ") for line in answer.content.decode().splitlines() if not line.startswith("#")]
        return {name.removeprefix("hookd_relay_"): float(value) for name, _, value in lines}

    def is_ready(self) -> bool:
        with Api(self.port) as api:
            return api.ask("GET", "/readyz").status == 200


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def definitions(folder: Path, urls: Mapping[str, str], **more: object) -> str:
    """A file for `--clients`, whole or not at all; `more` stands in every endpoint."""
    clients = [{"id": name, "endpoints": [{"url": url, "secret": SECRET, **more}]} for name, url in urls.items()]
    new, path = folder / "clients.new", folder / "clients.json"
    new.write_text(json.dumps({"clients": clients}))
    new.replace(path)
    return str(path)


def cpu_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
