"""stderr that is the journal: each line has its priority, and a rate limit on the rest takes no line of the report."""

import json
import os
from pathlib import Path
from typing import Any

from tests.acceptance.harness import NO_RETRY_SOON, Daemon, refusing_url, report_texts, wait_until

EVENTS = 60
# What journald lets through of one unit in an interval; its own default is 10,000 in 30 s.
BURST = 20
# journald counts emergencies to crit, errors, warnings, notices with infos, and debug each apart.
POOLS = (0, 0, 0, 1, 2, 3, 3, 4)


def let_through(lines: list[bytes]) -> list[bytes]:
    """What journald would keep of these lines, all within one interval, by the bytes that were written."""
    counted = dict.fromkeys(POOLS, 0)
    kept = []
    for line in lines:
        priority, text = (int(line[1:2]), line[3:]) if line[:1] == b"<" and line[2:3] == b">" else (6, line)
        counted[POOLS[priority]] += 1
        if counted[POOLS[priority]] <= BURST:
            kept.append(text)
    return kept


def run(directory: Path, *, is_journal: bool) -> bytes:
    """What a run writes to stderr that leaves `EVENTS` events undelivered."""
    path = directory / "journal"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    found = os.fstat(fd)
    stream = f"{found.st_dev}:{found.st_ino if is_journal else found.st_ino + 1}"
    settings = {**NO_RETRY_SOON, "drain.timeout": "300ms"}
    with (
        refusing_url() as url,
        Daemon(directory, stderr=fd, settings=settings, env={"JOURNAL_STREAM": stream}) as daemon,
    ):
        os.close(fd)
        with daemon.api as api:
            api.put_client("down", {"url": url})
            for number in range(EVENTS):
                assert api.post("down", f"e{number}").status == 202
            wait_until(lambda: api.deliveries()["failed"] > 0, what="an attempt")
        assert daemon.stop() == 3
    return path.read_bytes()


def test_report_comes_through_a_rate_limit_that_the_attempts_used_up(tmp_path: Path) -> None:
    """The limit cuts infos; of the report nothing is missing, and every line has a priority."""
    lines = run(tmp_path, is_journal=True).splitlines()
    assert all(line[:1] == b"<" and line[2:4] == b">{" for line in lines)
    fields: list[dict[str, Any]] = [json.loads(line[3:]) for line in lines]
    priorities = {one["event"]: line[:3].decode() for one, line in zip(fields, lines, strict=True)}
    assert priorities["start.note"] == "<4>"
    assert priorities["event.accepted"] == "<6>"
    assert {priorities[event] for event in ("report", "report.text", "report.written")} == {"<2>"}
    kept = let_through(lines)
    assert sum(b'"event":"event.accepted"' in line for line in kept) < EVENTS
    assert f"UNDELIVERED: {EVENTS} deliveries" in report_texts(b"\n".join(kept).decode())
    assert json.loads(kept[-1])["event"] == "report.written"


def test_stderr_that_is_not_the_journal_has_no_priorities(tmp_path: Path) -> None:
    """Though the variable is set, as for every child of a service: each line is JSON, the notes and the report too."""
    written = run(tmp_path, is_journal=False).decode()
    events = [json.loads(line)["event"] for line in written.splitlines()]
    assert events[0] == "start.note"
    assert events.count("report.text") == 1
    assert f"UNDELIVERED: {EVENTS} deliveries" in report_texts(written)
