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
EVENTS = 2_000
CLIENTS = 100
NAMESPACE = "hookd-test"
CONFIG = f"[Journal]\nStorage=volatile\nRateLimitIntervalSec=30s\nRateLimitBurst={BURST}\n"
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

    def entries(self) -> list[dict[str, Any]]:
        """Each as journalctl gives it. A message that is no text, or too long for it, is none here."""
        files = [str(path) for path in self._run.glob("log/journal/*/*.journal")]
        command = ["journalctl", "--no-pager", "--output", "json", "--all"]
        done = subprocess.run(
            [*command, *(f"--file={path}" for path in files)], capture_output=True, timeout=60, check=False
        )
        entries = [json.loads(line) for line in done.stdout.splitlines()]
        return [entry for entry in entries if isinstance(entry.get("MESSAGE"), str)]

    def lines(self) -> list[tuple[int, str]]:
        """The daemon's, with their priorities."""
        entries = [entry for entry in self.entries() if entry.get("SYSLOG_IDENTIFIER") == "hookd"]
        return [(int(entry["PRIORITY"]), entry["MESSAGE"]) for entry in entries]


@contextmanager
def running_journal(directory: Path) -> Iterator[Journal]:
    config = directory / "limit.conf"
    config.write_text(CONFIG)
    command = ["unshare", "--mount", "sh", "-c", START, "sh", str(config)]
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


def test_journal_suppresses_attempts_and_keeps_the_whole_report(tmp_path: Path) -> None:
    """2,000 events of 100 clients end undelivered: their lines are over the limit, and of the report nothing is."""
    with running_journal(tmp_path) as journal:
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
                    assert api.ask("POST", "/v1/events/batch", [event] * (EVENTS // CLIENTS)).status == 202
                wait_until(lambda: api.deliveries()["failed"] > 0, what="an attempt")
            assert daemon.stop() == 3
        wait_until(lambda: any("report.written" in text for _, text in journal.lines()), what="the end of the report")
        lines = journal.lines()
        written_at = daemon.report()
        written = json.loads(written_at.read_text().splitlines()[0])
    accepted = [text for priority, text in lines if priority == 6 and '"event.accepted"' in text]
    assert 0 < len(accepted) < EVENTS
    report = [text for priority, text in lines if priority == 2]
    assert [json.loads(text)["event"] for text in report] == ["report", "report.text", "report.written"]
    text = report_texts("\n".join(report))
    assert f"UNDELIVERED: {written['deliveries']['undelivered']:,} deliveries" in text
    assert text.endswith(f"{written_at.name}\n")
