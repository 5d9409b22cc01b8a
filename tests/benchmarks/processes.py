"""Owns the processes that benchmarks measure, and a connection to them that costs little.

Rules: what is measured runs in a process of its own, on a core of its own where there are two. Its CPU time counts,
user and system, with its children's: on a machine that others use, only that holds. Leaving the context ends it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]
TICKS = os.sysconf("SC_CLK_TCK")
READ_BYTES = 262_144
END_SECONDS = 10.0
# So that no budget is what is measured.
ROOMY = {
    "HOOKD_INTAKE__UNSETTLED_EVENTS_MAX": "2000000",
    "HOOKD_INTAKE__UNSETTLED_BYTES_MAX": "4GiB",
    "HOOKD_INTAKE__CLIENT_EVENTS_MAX": "2000000",
    "HOOKD_INTAKE__CLIENT_BYTES_MAX": "4GiB",
    "HOOKD_RECORDER__BYTES_MAX": "2GiB",
    "HOOKD_DRAIN__TIMEOUT": "0s",
}
HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout client 60s
    timeout server 60s
    timeout connect 5s
    timeout http-keep-alive 60s
frontend sink
    bind fd@{fd}
    http-request return status 200
"""


class Child(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int

    def cpu_seconds(self) -> float:
        """User and system, of the process and of those that it started and that still run."""
        return cpu_seconds(self.process.pid)

    def resident_bytes(self) -> int:
        with open(f"/proc/{self.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        parents.setdefault(int(fields[1]), []).append(int(entry))
        ticks[int(entry)] = sum(map(int, fields[11:15]))  # its own and those of its ended children
    asked, total = [pid], 0
    while asked:
        one = asked.pop()
        total += ticks.get(one, 0)
        asked += parents.get(one, [])
    return total / TICKS


class Keeper:
    """One kept connection, as cheap as a load generator in Python can be. The server ends it after 1,000 requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        self._socket.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(self._buffer) < length:
            self._more()
        content, self._buffer = self._buffer[:length], self._buffer[length:]
        if b"connection: close" in answer.lower():
            self._socket.close()
            self._connect()
        return int(answer[9:12]), content

    def json(self, method: str, path: str, body: object = None, *, status: int = 200) -> Any:
        code, content = self.ask(method, path, b"" if body is None else json.dumps(body).encode())
        assert code == status, (method, path, code, content[:500])
        return json.loads(content) if content else None

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def _more(self) -> None:
        data = self._socket.recv(READ_BYTES)
        assert data, "the server hung up"
        self._buffer += data


@contextmanager
def running(
    command: Sequence[str],
    env: Mapping[str, str],
    *,
    core: int | None = None,
    pass_fds: Sequence[int] = (),
    cwd: Path | None = None,
) -> Iterator[Child]:
    """The first line of its output ends with its port, after a colon."""
    through = [] if core is None else on_core(core)
    process = subprocess.Popen(
        [*through, *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=dict(env),
        pass_fds=pass_fds,
        cwd=cwd,
    )
    try:
        assert process.stdout is not None
        yield Child(process, int(process.stdout.readline().rpartition(":")[2]))
    finally:
        process.kill()
        process.wait(END_SECONDS)
        assert process.stdout is not None
        process.stdout.close()


def on_core(core: int) -> list[str]:
    """What starts a command on that core stands before it; nothing where there is no choice."""
    return ["taskset", "--cpu-list", str(core)] if can_pin() else []


def can_pin() -> bool:
    return shutil.which("taskset") is not None and len(os.sched_getaffinity(0)) > 1


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """This process is on that core, and so is what it starts, unless a command there moves it."""
    before = os.sched_getaffinity(0)
    if can_pin():
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def daemon(
    directory: str,
    settings: Mapping[str, str] = ROOMY,
    *,
    source: Path = ROOT,
    python: str = sys.executable,
    core: int | None = None,
    turns: Path | None = None,
) -> Iterator[Child]:
    """`hookd run` of that checkout; with `turns` of this one, its loop's turns in that file (watched_daemon)."""
    program = ["hookd"] if turns is None else ["tests.benchmarks.watched_daemon", str(turns)]
    command = [python, "-m", *program, "run", "--dev", "--bind", "127.0.0.1:0", "--reports", directory]
    env = {**os.environ, "PYTHONPATH": str(source / "daemon"), **settings}
    with running(command, env, core=core, cwd=source) as found:
        yield found


@contextmanager
def haproxy(config: Callable[[int], str], *, core: int | None = None) -> Iterator[Child]:
    """By the configuration for this listening descriptor. Raises NotInstalled where there is none."""
    require("haproxy")
    with tempfile.TemporaryDirectory() as directory, socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        file = Path(directory) / "haproxy.cfg"
        file.write_text(config(listening.fileno()))
        # haproxy says nothing; its port is known, and open since before it began.
        port = str(listening.getsockname()[1])
        command = ["sh", "-c", 'echo ":$1"; exec haproxy -db -f "$2"', "sh", port, str(file)]
        with running(command, os.environ, core=core, pass_fds=[listening.fileno()]) as found:
            yield found


@contextmanager
def sink(*, core: int | None = None) -> Iterator[int]:
    """The port of a server that answers 200 and costs next to nothing. Raises NotInstalled where there is none."""
    with haproxy(lambda fd: HAPROXY.format(fd=fd), core=core) as found:
        yield found.port


def require(*commands: str) -> None:
    missing = [command for command in commands if shutil.which(command) is None]
    if missing:
        raise NotInstalled(f"{', '.join(missing)} is not installed here")


class NotInstalled(Exception):
    """What the benchmark compares with is not there."""
