"""A daemon to measure: its configuration, its process, its memory and, where one can be made, its memory cgroup."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from hookd.cli.configuration import load_configuration
from hookd.core.settings import Settings
from hookd.core.sizing import worst_case_bytes

MIB = 2**20
JSON = "application/json"
BATCH_PATH = "/v1/events/batch"
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))

Overrides = Mapping[str, Mapping[str, object]]

# Every budget as small as it can be: what a shape fills then stands out.
SMALL: Overrides = {
    "http": {"connections_max": 16, "sending_bytes_max": "4MiB"},
    "intake": {
        "payload_bytes_max": "256KiB",
        "body_bytes_max": "1MiB",
        "receiving_bytes_max": "1MiB",
        "unsettled_events_max": 1000,
        "unsettled_bytes_max": "4MiB",
        "client_events_max": 1_000_000,
        "client_bytes_max": "1GiB",
    },
    "registry": {"clients_max": 100},
    "delivery": {"connections_max": 32, "timeout": "1h", "concurrency": 32},
    "retry": {"schedule": ["1h"], "jitter": 0.0, "age_max": "24h"},
    "retention": {
        "delivered_events_max": 1000,
        "delivered_bytes_max": "1MiB",
        "exhausted_events_max": 1000,
        "exhausted_bytes_max": "1MiB",
        "excerpts_bytes_max": "256KiB",
        "settlements_max": 1000,
    },
    "drain": {"timeout": "0s"},
    "recorder": {"directory": ""},
}


def toml(overrides: Overrides) -> str:
    """SMALL, and these over it."""
    sections = {name: {**SMALL.get(name, {}), **overrides.get(name, {})} for name in {**SMALL, **overrides}}
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
        for name, keys in sections.items()
    )


def settings_of(path: Path) -> Settings:
    return load_configuration(str(path), {}, dev=True).settings


def promised_parts(path: Path) -> dict[str, int]:
    """What `hookd check` says of this configuration, part by part."""
    return worst_case_bytes(settings_of(path))


class Daemon:
    """A started one."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port
        self.api = HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """The status, and the answer's JSON."""
        sent = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        self.api.request(method, path, sent, {"content-type": JSON})
        response = self.api.getresponse()
        answer = response.read()
        kind = response.headers.get("content-type", "")
        return response.status, json.loads(answer) if answer and "json" in kind else answer.decode()

    def must(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.ask(method, path, body)
        assert 200 <= status <= 204, (status, answer)
        return answer

    def post(self, events: Iterable[Mapping[str, object]], *, at_once: int = 100) -> None:
        """In batches; one that does not fit is posted again once something has settled."""
        batch: list[Mapping[str, object]] = []
        for event in (*events, None):
            if event is not None:
                batch.append(event)
            if batch and (event is None or len(batch) == at_once):
                while (status := self.ask("POST", BATCH_PATH, batch)[0]) in (429, 503):
                    time.sleep(0.1)
                assert status == 202, status
                batch = []

    def wait_until(self, reached: "Any", *, seconds: float = 600.0) -> None:
        """Until `reached(status)`, asked of /v1/status."""
        end = time.monotonic() + seconds
        while not reached(self.must("GET", "/v1/status")):
            assert time.monotonic() < end, self.must("GET", "/v1/status")
            time.sleep(0.2)

    def metric(self, name: str) -> float:
        lines = self.must("GET", "/metrics").splitlines()
        return float(next(line.rpartition(" ")[2] for line in lines if line.startswith(name)))

    def peak_bytes(self) -> int:
        """The most resident memory that it has had: VmHWM."""
        return _of_status(self.process.pid, "VmHWM")

    def now_bytes(self) -> int:
        return _of_status(self.process.pid, "VmRSS")


def _of_status(pid: int, field: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) * 1024


@contextmanager
def configured(overrides: Overrides) -> Iterator[Path]:
    """A configuration file in a folder of its own."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "hookd.toml"
        path.write_text(toml(overrides))
        yield path


@contextmanager
def daemon(config: Path, *, cgroup: Path | None = None) -> Iterator[Daemon]:
    command = [sys.executable, "-m", "hookd", "run", "--dev", "--config", str(config), "--bind", "127.0.0.1:0"]
    command += ["--reports", str(config.parent)]
    if cgroup is not None:
        command = ["sh", "-c", f'echo 0 > {cgroup}/cgroup.procs && exec "$@"', "sh", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield Daemon(process, int(process.stdout.readline().rpartition(":")[2]))
    finally:
        process.kill()
        process.wait()


class NoCgroup(Exception):
    """Why no memory cgroup can be made here."""


class Cgroup:
    """One of either version, with a limit."""

    def __init__(self, path: Path, *, limit_bytes: int) -> None:
        self.path = path
        self._is_v2 = (path / "memory.max").exists()
        limit = path / ("memory.max" if self._is_v2 else "memory.limit_in_bytes")
        limit.write_text(str(limit_bytes))
        if self._is_v2:
            (path / "memory.swap.max").write_text("0")

    def peak_bytes(self) -> int | None:
        """With shared memory and what the kernel caches of files; None where this kernel does not say."""
        peak = self.path / ("memory.peak" if self._is_v2 else "memory.max_usage_in_bytes")
        return int(peak.read_text()) if peak.exists() else None

    def kills(self) -> int:
        events = self.path / ("memory.events" if self._is_v2 else "memory.oom_control")
        fields = dict(line.split() for line in events.read_text().splitlines())
        return int(fields.get("oom_kill", 0))


@contextmanager
def cgroup(limit_bytes: int) -> Iterator[Cgroup]:
    """A child of the machine's memory cgroup. Raises NoCgroup with the reason."""
    parent = next((one for one in CGROUPS if (one / "cgroup.procs").exists()), None)
    if parent is None:
        raise NoCgroup("no memory cgroup is mounted")
    path = parent / f"hookd-benchmark-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        raise NoCgroup(f"{path} cannot be made: {error.strerror}") from None
    try:
        if not any((path / name).exists() for name in ("memory.max", "memory.limit_in_bytes")):
            raise NoCgroup(f"{parent} does not hand memory on to its children")
        try:
            yield Cgroup(path, limit_bytes=limit_bytes)
        except PermissionError as error:
            raise NoCgroup(f"{path} cannot be limited: {error.strerror}") from None
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """Once its processes have ended."""
    for _ in range(50):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return
