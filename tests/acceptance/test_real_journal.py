"""stderr that is a real journal: systemd-journald itself, in mounts of its own, with a rate limit that a run passes."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import NO_RETRY_SOON, Daemon, refusing_url, report_texts, wait_until

JOURNALD = Path("/lib/systemd/systemd-journald")
# Of one unit and one class of priorities in an interval. journald lets through up to six times as many, by the room
# that is left on the file system.
BURST = 20
CLIENTS = 100
NAMESPACE = "hookd-test"
CONFIG = "[Journal]\nStorage=volatile\n"
LIMITED = f"{CONFIG}RateLimitIntervalSec=30s\nRateLimitBurst={BURST}\n"
START = f"""
mount -t tmpfs -o mode=755 hookd-test /run &&
mkdir -p /run/systemd/journald@{NAMESPACE}.conf.d /run/log/journal &&
cp "$1" /run/systemd/journald@{NAMESPACE}.conf.d/limit.conf &&
exec {JOURNALD} {NAMESPACE}
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may give journald mounts of its own"),
    pytest.mark.skipif(
        not JOURNALD.exists() or shutil.which("journalctl") is None or shutil.which("unshare") is None,
        reason="journald, journalctl or unshare is not installed here",
    ),
]


class Journal:
    """A journald of the test's own."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._run = Path(f"/proc/{process.pid}/root/run")
        self.socket = self._run / f"systemd/journal.{NAMESPACE}/stdout"
        self._is_over = lambda: process.poll() is not None

    def is_settled(self) -> bool:
        return self._is_over() or self.socket.exists()

    def stream(self) -> socket.socket:
        """What systemd makes a service's stderr: see systemd.exec(5), and journald's stream protocol for the lines."""
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(self.socket))
        header = ("hookd", "hookd.service", "6", "1", "0", "0", "0")  # its name, unit, priority; and to read `<N>`
        stream.sendall("".join(f"{field}\n" for field in header).encode())
        return stream

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Each as journalctl gives it. A message that is no text, or too long for it, is none here."""
        files = [str(path) for path in self._run.glob("log/journal/*/*.journal")]
        command = ["journalctl", "--no-pager", "--output", "json", "--all"]
        done = subprocess.run(
            [*command, *(f"--file={path}" for path in files), *matches], capture_output=True, timeout=60, check=False
        )
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        return [entry for entry in entries if isinstance(entry.get("MESSAGE"), str)]

    def lines(self, *matches: str) -> list[tuple[int, str]]:
        """The daemon's, with their priorities."""
        entries = self.entries("SYSLOG_IDENTIFIER=hookd", *matches)
        return [(int(entry["PRIORITY"]), entry["MESSAGE"]) for entry in entries]


@contextmanager
def running_journal(directory: Path, config: str) -> Iterator[Journal]:
    file = directory / "limit.conf"
    file.write_text(config)
    command = ["unshare", "--mount", "sh", "-c", START, "sh", str(file)]
    with (directory / "journald").open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        journal = Journal(process)
        wait_until(journal.is_settled, what="journald's socket")
        if process.poll() is not None:
            pytest.skip(f"journald does not run here: {(directory / 'journald').read_text().strip()}")
        yield journal
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize(
    ("config", "events"), [(LIMITED, 2_000), (CONFIG, 15_000)], ids=["of 20 lines", "journald's own limits"]
)
def test_journal_suppresses_attempts_and_keeps_the_whole_report(tmp_path: Path, config: str, events: int) -> None:
    """Events of 100 clients end undelivered. Their lines may be over the limit; of the report nothing is."""
    with running_journal(tmp_path, config) as journal:
        stream = journal.stream()
        found = os.fstat(stream.fileno())
        env = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        settings = {**NO_RETRY_SOON, "drain.timeout": "300ms"}
        with (
            refusing_url() as url,
            Daemon(tmp_path / "run", stderr=stream.fileno(), settings=settings, env=env) as daemon,
        ):
            stream.close()
            with daemon.api as api:
                for number in range(CLIENTS):
                    api.put_client(f"down-{number}", {"url": url})
                    event = {"client_id": f"down-{number}", "type": "t", "payload": {}}
                    assert api.ask("POST", "/v1/events/batch", [event] * (events // CLIENTS)).status == 202
                wait_until(lambda: api.deliveries()["failed"] > 0, what="an attempt")
            assert daemon.stop(30) == 3
        wait_until(
            lambda: any("report.written" in text for _, text in journal.lines("PRIORITY=2")),
            seconds=30,
            what="the end of the report",
        )
        lines = journal.lines()
        written_at = daemon.report()
        written = json.loads(written_at.read_text().splitlines()[0])
    accepted = sum(priority == 6 and '"event.accepted"' in text for priority, text in lines)
    print(f"{accepted} of {events} lines of accepted events are in the journal")
    assert 0 < accepted < (events if config == LIMITED else events + 1)
    report = [text for priority, text in lines if priority == 2]
    assert [json.loads(text)["event"] for text in report] == ["report", "report.text", "report.written"]
    assert written["deliveries"]["undelivered"] == events
    text = report_texts("\n".join(report))
    assert f"UNDELIVERED: {events:,} deliveries" in text
    assert text.endswith(f"{written_at.name}\n")
