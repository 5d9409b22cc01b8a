"""The README's table of what each end leaves of what was unsettled: every cell is played, and must be so.

The ends that no test can have (a host, a power cut) are what they do to files: shared memory goes, disks go.
"""

import re
import resource
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.acceptance.harness import (
    NO_RETRY_SOON,
    ROOT,
    WITHOUT_RECORDER,
    Daemon,
    Receiver,
    always,
    hookd,
    read_report,
    report_texts,
    runtime_directory,
    wait_until,
)

pytestmark = pytest.mark.skipif(WITHOUT_RECORDER, reason="the columns say whether the recorder is on")

COLUMNS: Mapping[str, Mapping[str, object]] = {
    "recorder off": {"recorder.directory": ""},
    "recorder on (default)": {},
    "and `recorder.payloads`": {"recorder.payloads": True},
    "and `recovery.enabled`": {"recorder.payloads": True, "recovery.enabled": True},
}
IDS = {"e0", "e1", "e2"}
# One alone has no room in a file that may have room for ids.
PAYLOAD, ROOM_FOR_IDS_BYTES = b'"' + b"x" * 100_000 + b'"', 64 * 1024


class End(NamedTuple):
    signal: signal.Signals
    loses_memory: bool = False  # what stands in shared memory
    loses_disks: bool = False
    finds_no_room: bool = False  # for its report
    has_room_for_ids: bool = False  # and for nothing else


ENDS = {
    "SIGTERM, SIGINT, or a bug": End(signal.SIGTERM),
    "SIGTERM, and its report has room for ids alone": End(signal.SIGTERM, has_room_for_ids=True),
    "SIGTERM, and its report finds no room": End(signal.SIGTERM, finds_no_room=True),
    "SIGKILL, or out of memory": End(signal.SIGKILL),
    "container restarted, its shared memory gone": End(signal.SIGKILL, loses_memory=True),
    "reboot: SIGTERM, then shared memory gone": End(signal.SIGTERM, loses_memory=True),
    "power cut, disks intact": End(signal.SIGKILL, loses_memory=True),
    "pod deleted: SIGTERM, then every file gone": End(signal.SIGTERM, loses_memory=True, loses_disks=True),
    "host lost": End(signal.SIGKILL, loses_memory=True, loses_disks=True),
}


def table() -> dict[str, dict[str, str]]:
    """What the README says, by row and column."""
    text = (ROOT / "README.md").read_text()
    lines = re.search(r"^\| how it ends (\|.*\|)\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert lines is not None
    columns = cells(lines[1])
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in map(cells, lines[2].splitlines())}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_the_rows_and_columns_that_are_played() -> None:
    """No cell is a mere claim."""
    said = table()
    assert list(said) == list(ENDS)
    assert all(list(row) == list(COLUMNS) for row in said.values())


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", ENDS)
def test_end_leaves_what_the_readme_says(tmp_path: Path, row: str, column: str) -> None:
    """Three events that failed once are what was unsettled."""
    settings = {**NO_RETRY_SOON, "drain.timeout": "0s", **COLUMNS[column]}
    end = ENDS[row]
    with Receiver(503) as receiver:
        with Daemon(tmp_path, settings=settings) as daemon, daemon.api as api:
            api.put_client("acme", {"url": receiver.url})
            for event_id in sorted(IDS):
                assert api.post("acme", event_id, PAYLOAD).status == 202
            wait_until(lambda: api.deliveries()["failed"] == len(IDS))
            run_id = api.status()["run_id"]
            if end.finds_no_room:
                daemon.reports.rename(tmp_path / "aside")
                daemon.reports.write_text("")  # else it would be made again
            if end.has_room_for_ids:
                limits = (ROOM_FOR_IDS_BYTES, ROOM_FOR_IDS_BYTES)
                resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limits)
            daemon.signal(end.signal)
            code, log = daemon.wait(10), daemon.stderr
        assert code == exit_code(end, is_reported=bool(list(daemon.reports.glob("shutdown-*"))))
        if end.finds_no_room:
            daemon.reports.unlink()
            (tmp_path / "aside").rename(daemon.reports)
        if end.loses_memory:
            shutil.rmtree(runtime_directory(daemon.reports))
        if end.loses_disks:
            shutil.rmtree(daemon.reports)
        receiver.behaviour = always(200)
        receiver.log.clear()
        with Daemon(tmp_path, settings=settings) as after:
            assert left(after, receiver, run_id, log, lost=end.loses_disks) == table()[row][column]
            assert after.stop() == 0


def exit_code(end: End, *, is_reported: bool) -> int:
    """3 says that a report stands, 1 that none could be written."""
    if end.signal is not signal.SIGTERM:
        return -end.signal
    return 3 if is_reported else 1


def left(after: Daemon, receiver: Receiver, run_id: str, log: str, *, lost: bool) -> str:
    """What the start after it has of the run, in the README's words."""
    with after.api as api:
        recovered = api.status()["events"]["recovered"]
        api.put_client("acme", {"url": receiver.url})
        if recovered:
            wait_until(lambda: set(receiver.ids()) == IDS)
            return "taken back"
        assert not receiver.log
        for path in after.reports.glob(f"*-{run_id}.jsonl"):
            summary, lines = read_report(path)
            assert {line["event_id"] for line in lines} == IDS
            assert summary["balanced"]
            resent = hookd("resend", str(path), "--url", after.url)
            if "admitted" not in resent.stdout:
                assert resent.stdout == f"no-payload: {len(IDS)}\n"
                return "list"
            wait_until(lambda: set(receiver.ids()) == IDS)
            return "report"
        if (after.reports / f"run-{run_id}.open").exists():
            shown = hookd("report", "--reports", str(after.reports))
            assert f"RUN {run_id} ENDED WITHOUT A REPORT" in shown.stderr
            return "counts"
        assert lost
        assert api.status()["previous_run"] is None
    return "log" if f"UNDELIVERED: {len(IDS)} deliveries" in report_texts(log) else "nothing"
