"""What a start makes of what it finds: a run that died of a signal, recordings that are damaged, foreign or huge, a
full tmpfs. It starts, counts what it cannot read, and names nothing that was not so."""

import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import pytest

from tests.acceptance.harness import (
    HANG,
    NO_RETRY_SOON,
    WITHOUT_RECORDER,
    Daemon,
    Receiver,
    at_once,
    environment,
    event_body,
    hookd,
    limited,
    mounted,
    read_report,
    runtime_directory,
    wait_until,
)

pytestmark = pytest.mark.skipif(WITHOUT_RECORDER, reason="the recorder is switched off for this run")

SETTINGS = {**NO_RETRY_SOON, "delivery.timeout": "60s", "drain.timeout": "0s"}
BATCH = 100
EVENTS = {f"e{n}": ("outcome_unknown" if n == 0 else "never_attempted") for n in range(10)}


class Died(NamedTuple):
    reports: Path
    run_id: str

    @property
    def segments(self) -> dict[str, bytes]:
        folder = runtime_directory(self.reports) / "hookd-recorder"
        return {path.name: path.read_bytes() for path in sorted(folder.glob("*.segment"))}


def died_of(number: signal.Signals, directory: Path, **daemon: Any) -> Died:
    """A run that ended so with ten events, one of them in flight."""
    with (
        Receiver(HANG) as hung,
        Daemon(directory, settings=SETTINGS, through=limited("-c 0"), **daemon) as running,
        running.api as api,
    ):
        api.put_client("acme", {"url": hung.url, "concurrency": 1})
        for event_id in EVENTS:
            assert api.post("acme", event_id).status == 202
        wait_until(lambda: hung.hanging == 1)
        run_id = api.status()["run_id"]
        running.signal(number)
        assert running.wait(20) == -number
    return Died(running.reports, run_id)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_process_that_dies_of_a_fault_of_its_own_leaves_a_list(tmp_path: Path, number: signal.Signals) -> None:
    """As after SIGKILL: the next start names every event, by what is known of it."""
    died = died_of(number, tmp_path)
    with Daemon(tmp_path, settings=SETTINGS) as after:
        (path,) = after.reports.glob(f"crash-*-{died.run_id}.jsonl")
        summary, lines = read_report(path)
        assert {line["event_id"]: line["class"] for line in lines} == EVENTS
        assert summary["balanced"] is True
        assert after.stop() == 0


# --- damaged recordings -----------------------------------------------------------------------------------------------


def of_another_version(data: bytes) -> bytes:
    """The header says format 9, and its checksum fits."""
    length, _ = struct.unpack_from("<II", data)
    tail, found = re.subn(rb'"format":\d', b'"format":9', data[8 : 8 + length])
    assert found == 1
    return struct.pack("<II", length, crc32(tail, length)) + tail + data[8 + length :]


def flipped(data: bytes) -> bytes:
    at = data.index(b"e5acme")
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# A segment's bytes to what is found in its place, and how many of the ten events that still names, the first ones.
DAMAGES: Mapping[str, tuple[Callable[[bytes], bytes], int]] = {
    "whole": (lambda data: data, 10),
    "empty": (lambda _: b"", 0),
    "bad magic": (lambda data: b"\xff" * 8 + data[8:], 0),
    "another version": (of_another_version, 0),
    "random bytes": (lambda data: os.urandom(len(data)), 0),
    "truncated in the header": (lambda data: data[:50], 0),
    "truncated in a record": (lambda data: data[: data.index(b"e5acme") + 3], 5),
    "a flipped bit": (flipped, 5),
    "zeros": (lambda data: bytes(len(data)), 0),
    "grown": (lambda data: data + b"more", 10),
}


def test_damaged_recording_is_counted_and_names_what_is_left_of_it(tmp_path: Path) -> None:
    """Whatever the damage, the daemon starts, and what it cannot read is in the report; nothing else is named."""
    died = died_of(signal.SIGKILL, tmp_path / "died")
    ((name, whole),) = died.segments.items()

    def show(damage: str, case: tuple[Callable[[bytes], bytes], int]) -> None:
        change, named = case
        directory = tmp_path / damage
        (directory / "reports").mkdir(parents=True)
        folder = runtime_directory(directory / "reports") / "hookd-recorder"
        folder.mkdir(mode=0o700)
        (folder / name).write_bytes(change(whole))
        summary, lines = report_of_the_next_start(directory, died.run_id)
        assert {line["event_id"] for line in lines} == set(list(EVENTS)[:named])
        is_whole = summary["recorder"] == {"unread_bytes": 0, "records_missing": 0, "events_unrecorded": 0}
        assert is_whole == summary["balanced"] == (damage == "whole")
        if not is_whole:
            assert all(line["class"] == "outcome_unknown" for line in lines)
        assert not folder.exists()

    at_once(DAMAGES, show)


def report_of_the_next_start(directory: Path, run_id: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with Daemon(directory, settings=SETTINGS) as daemon, daemon.api as api:
        (path,) = daemon.reports.glob(f"crash-*-{run_id}.jsonl")
        assert api.status()["events"]["accepted"] == 0
        assert daemon.stop() == 0
    assert "Traceback" not in daemon.stderr
    return read_report(path)


def test_foreign_and_huge_files_are_left_alone_or_counted(tmp_path: Path) -> None:
    """Another program's files stay; a run's of which nothing can be read is reported so; a file of a terabyte that
    has a segment's name costs neither the memory nor the time to read it; a marker that is none is passed over."""
    reports = tmp_path / "reports"
    reports.mkdir()
    folder = runtime_directory(reports) / "hookd-recorder"
    folder.mkdir(mode=0o700)
    with (folder / "a1-0.segment").open("wb") as huge:
        huge.write(b"huge")
        huge.truncate(1 << 40)
    (folder / "b2-0.segment").write_bytes(b"foreign")
    (folder / "b2-1.spare").write_bytes(b"")
    (folder / "notes.txt").write_text("somebody's")
    (reports / "run-c3.open").write_bytes(os.urandom(100))
    with Daemon(tmp_path, settings=SETTINGS, through=limited("-v 2000000")) as daemon:  # 2 GB of addresses
        unread = {
            summary["run_id"]: summary["recorder"]["unread_bytes"]
            for summary, _ in map(read_report, daemon.reports.glob("crash-*.jsonl"))
        }
        assert unread == {"a1": 4, "b2": 7}
        assert daemon.stop() == 0
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


# --- a full tmpfs -----------------------------------------------------------------------------------------------------


def test_full_tmpfs_is_refused_at_the_start_and_one_full_of_leftovers_is_not(tmp_path: Path) -> None:
    """Nothing to record into: 78, before anything is accepted. A killed run's recording gives its room to the next."""
    shared = tmp_path / "shared"
    with mounted(shared, "2m"):
        env = {"RUNTIME_DIRECTORY": str(shared)}
        with Daemon(tmp_path, settings=SETTINGS, env=env) as daemon, daemon.api as api:
            api.put_client("acme", {"url": "http://127.0.0.1:9/"})
            assert api.post("acme", "e1").status == 202
            daemon.kill()
        assert shutil.disk_usage(shared).free < 600_000
        filler = shared / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(shared).free))
        with Daemon(tmp_path, settings=SETTINGS, env=env) as daemon:
            (path,) = daemon.reports.glob("crash-*.jsonl")
            assert [line["event_id"] for line in read_report(path)[1]] == ["e1"]
            assert daemon.stop() == 0
        filler.write_bytes(bytes(1_900_000))
        refused = hookd(
            *("run", "--dev", "--bind", "127.0.0.1:0", "--reports", str(tmp_path / "reports")),
            env=environment(SETTINGS, **env),
        )
        assert refused.returncode == 78
        assert "no room for its first segments (1.5MiB); make some" in refused.stderr
        assert sorted(path.name for path in shared.iterdir()) == ["filler"]


def test_tmpfs_that_fills_up_refuses_before_the_202_and_goes_on(tmp_path: Path) -> None:
    """503 `full` names the recorder's file system; what was answered 202 goes on, and room that comes back is used."""
    shared = tmp_path / "shared"
    with (
        mounted(shared, "3m"),
        Receiver(HANG) as hung,
        Daemon(tmp_path, settings=SETTINGS, env={"RUNTIME_DIRECTORY": str(shared)}) as daemon,
        daemon.api as api,
    ):
        api.put_client("acme", {"url": hung.url})
        filler = shared / "filler"
        filler.write_bytes(bytes(shutil.disk_usage(shared).free))
        accepted = 0
        while (answer := api.ask("POST", "/v1/events/batch", batch(accepted))).status == 202:
            accepted += BATCH
        assert (answer.status, answer.slug) == (503, "full")
        assert "its file system allows no more" in answer.json["detail"]
        filler.unlink()
        assert api.ask("POST", "/v1/events/batch", batch(accepted)).status == 202
        assert daemon.stop() == 3
        _, lines = read_report(daemon.report())
    assert {line["event_id"] for line in lines} == {f"e{n}" for n in range(accepted + BATCH)}
    assert accepted > BATCH


def batch(first: int) -> bytes:
    return b"[" + b",".join(event_body("acme", f"e{first + n}") for n in range(BATCH)) + b"]"
