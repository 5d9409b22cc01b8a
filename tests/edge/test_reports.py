"""The report's file is whole or not there, for its owner's eyes only, and its directory is proved at the start."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hookd.core.report import DeliveryCounts, EventCounts, Line, Summary, Undelivered
from hookd.core.run import Run
from hookd.core.timestamps import parse_rfc3339
from hookd.edge.reports import READ_BYTES, TERMINATION_LOG_BYTES_MAX, CannotWriteReports, ReportDirectory
from hookd.flow.report_lines import read_report_lines


def make_summary(stopped_at: str = "2026-11-21T20:00:00.000Z", run_id: str = "run1") -> Summary:
    return Summary(
        run_id=run_id,
        version="0",
        host="h",
        pid=1,
        started_at=stopped_at,
        stopped_at=stopped_at,
        trigger="SIGTERM",
        forced=False,
        drain_seconds=0.0,
        events=EventCounts(0, 0, 0, 0, 0),
        deliveries=DeliveryCounts(0, 0, 0, 0),
        undelivered=Undelivered(0, 0, 0),
        balanced=True,
        exhausted_held=0,
        exhausted_forgotten=0,
        clients=[],
    )


def write_report(
    directory: Path, name: str, *, undelivered: int = 0, claimed: bool = False, summary: Summary | None = None
) -> None:
    counts = DeliveryCounts(undelivered, 0, 0, undelivered)
    summary = msgspec.structs.replace(summary or make_summary(), deliveries=counts)
    (directory / name).write_bytes(msgspec.json.encode(summary) + b"\n")
    if claimed:
        (directory / f"{name}.claimed-by-other").touch()


def test_report_is_written_whole_for_its_owner_only(tmp_path):
    """The file has mode 0600, the contract's name, the summary as its first line, and no temporary stays behind."""
    path = ReportDirectory(str(tmp_path)).write(make_summary(), [])
    assert os.listdir(tmp_path) == ["shutdown-20261121T200000Z-run1.jsonl"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path) as file:
        assert json.loads(file.readline())["kind"] == "summary"


def test_report_is_on_disk_under_its_name_before_anybody_hears_of_it(tmp_path, monkeypatch):
    """Synced whole under its temporary name, renamed, and the directory synced: a host may end at any step."""
    synced: list[tuple[str, bytes | list[str]]] = []
    sync = os.fsync

    def watched(fd: int) -> None:
        sync(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        synced.append((path.name, sorted(os.listdir(path)) if path.is_dir() else path.read_bytes()))

    monkeypatch.setattr(os, "fsync", watched)
    path = Path(ReportDirectory(str(tmp_path)).write(make_summary(), []))
    assert synced == [(f".{path.name}.tmp", path.read_bytes()), (tmp_path.name, [path.name])]
    synced.clear()
    assert ReportDirectory(str(tmp_path)).claim(str(path), "r2")
    assert synced == [(tmp_path.name, [path.name, f"{path.name}.claimed-by-r2"])]


def test_report_that_fails_halfway_leaves_nothing(tmp_path):
    """An error in the middle of the lines is raised, and no half of a report can be taken for a whole one."""

    def broken():
        raise OSError(28, "No space left on device")
        yield

    with pytest.raises(OSError, match="No space left"):
        ReportDirectory(str(tmp_path)).write(make_summary(), broken())
    assert os.listdir(tmp_path) == []


def test_unwritable_directory_is_refused_at_the_start(tmp_path):
    """A directory that cannot be made is refused with its name and the system's reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWriteReports, match=r"file/reports: Not a directory"):
        ReportDirectory(str(tmp_path / "file" / "reports")).prove_writable()


def test_proof_makes_the_directory_and_leaves_it_empty(tmp_path):
    """Proving makes what is missing, for its owner only, and cleans up after itself."""
    ReportDirectory(str(tmp_path / "a" / "b")).prove_writable()
    assert os.listdir(tmp_path / "a" / "b") == []
    assert stat.S_IMODE(os.stat(tmp_path / "a" / "b").st_mode) == 0o700


def test_directory_without_room_for_the_report_is_as_good_as_full(tmp_path):
    """What is free, as the file system has it, against what the report would take."""
    reports = ReportDirectory(str(tmp_path))
    free = os.statvfs(tmp_path)
    reports.prove_writable(free.f_bavail * free.f_frsize // 2)
    with pytest.raises(CannotWriteReports, match="would find no room"):
        reports.prove_writable(2 * free.f_bavail * free.f_frsize)
    assert os.listdir(tmp_path) == []


def test_halves_of_reports_go_once_the_directory_is_ours(tmp_path):
    """Of a daemon that was killed while it wrote; whole ones, and markers, stay."""
    for name in (".shutdown-x-a1.jsonl.tmp", ".run-a1.open.tmp", "shutdown-x-b2.jsonl", "run-a1.open", ".other.tmp"):
        (tmp_path / name).write_text("x")
    ReportDirectory(str(tmp_path)).lock()
    assert sorted(os.listdir(tmp_path)) == [".lock", ".other.tmp", "run-a1.open", "shutdown-x-b2.jsonl"]


def test_files_that_are_no_reports_and_no_markers_end_nothing(tmp_path):
    """Nested deeper than anything is read, a terabyte of nothing, a directory: a report that cannot be read stays."""
    deep = '{"counts": ' + "[" * 100_000 + "]" * 100_000 + "}"
    for name in ("run-a1.open", "shutdown-20260101T000000Z-a1.jsonl"):
        (tmp_path / name).write_text(deep)
    for name in ("run-b2.open", "shutdown-20260102T000000Z-b2.jsonl"):
        with (tmp_path / name).open("wb") as huge:
            huge.truncate(1 << 40)
    (tmp_path / "run-c3.open").mkdir()
    reports = ReportDirectory(str(tmp_path))
    assert reports.open_runs() == []
    assert reports.past_runs() == []
    assert reports.prune(0).held == 2
    assert len(list(tmp_path.glob("shutdown-*"))) == 2


def test_newest_is_by_the_time_in_the_name(tmp_path):
    """Copying files about changes their times; the name does not lie."""
    reports = ReportDirectory(str(tmp_path))
    assert reports.newest() is None
    newest = reports.write(make_summary("2026-11-21T21:00:00.000Z", "a"), [])
    reports.write(make_summary("2026-11-21T20:00:00.000Z", "z"), [])
    assert str(reports.newest()) == newest


def test_pruning_keeps_the_newest_and_whatever_is_owed_to_somebody(tmp_path):
    """By the time in the name, of both kinds; what is claimed or owes nothing goes, with its claims."""
    write_report(tmp_path, "shutdown-20260101T000000Z-a.jsonl", undelivered=1)
    write_report(tmp_path, "crash-20260102T000000Z-b.jsonl", undelivered=1, claimed=True)
    write_report(tmp_path, "shutdown-20260103T000000Z-c.jsonl")
    (tmp_path / "shutdown-20260104T000000Z-d.jsonl").write_text("not a report\n")
    (tmp_path / "notes-20260101.jsonl").write_text("somebody's own\n")
    write_report(tmp_path, "crash-20260105T000000Z-e.jsonl")
    write_report(tmp_path, "shutdown-20260106T000000Z-f.jsonl")
    pruned = ReportDirectory(str(tmp_path)).prune(2)
    assert (pruned.deleted, pruned.held) == (2, 2)
    assert sorted(os.listdir(tmp_path)) == [
        "crash-20260105T000000Z-e.jsonl",
        "notes-20260101.jsonl",
        "shutdown-20260101T000000Z-a.jsonl",
        "shutdown-20260104T000000Z-d.jsonl",
        "shutdown-20260106T000000Z-f.jsonl",
    ]


def test_pruning_takes_every_claim_of_a_report_with_it(tmp_path):
    """A start and a `hookd resend` may have claimed the same one; a claim alone would stand there for ever."""
    write_report(tmp_path, "shutdown-20261121T200000Z-a.jsonl", undelivered=1)
    write_report(tmp_path, "shutdown-20261121T210000Z-b.jsonl")
    for run_id in ("one", "two", "three"):
        (tmp_path / f"shutdown-20261121T200000Z-a.jsonl.claimed-by-{run_id}").touch()
    assert ReportDirectory(str(tmp_path)).prune(1).deleted == 1
    assert os.listdir(tmp_path) == ["shutdown-20261121T210000Z-b.jsonl"]


def test_pruning_spares_what_this_process_wrote(tmp_path):
    """Its clock was set back since the last report, so that its own is the oldest."""
    write_report(tmp_path, "shutdown-20261122T000000Z-later.jsonl")
    reports = ReportDirectory(str(tmp_path))
    reports.write(make_summary("2026-11-21T20:00:00.000Z", "own"), [])
    assert reports.prune(1).deleted == 0
    assert ReportDirectory(str(tmp_path)).prune(1).deleted == 1
    assert os.listdir(tmp_path) == ["shutdown-20261122T000000Z-later.jsonl"]


def test_pruning_spares_the_clean_stop_that_ended_a_row_of_crashes(tmp_path):
    """Without it the crash before it, which is owed to somebody and stays, would count with those after it."""
    write_report(tmp_path, "crash-20260101T000000Z-a.jsonl", undelivered=1)
    write_report(tmp_path, "shutdown-20260102T000000Z-b.jsonl")
    write_report(tmp_path, "crash-20260103T000000Z-c.jsonl")
    assert ReportDirectory(str(tmp_path)).prune(1).deleted == 0


def test_pruning_spares_the_newest_crashes_in_a_row(tmp_path):
    """Claimed or not: without them the next start would not know that runs crash one after the other."""
    for day in range(1, 6):
        write_report(tmp_path, f"crash-2026010{day}T000000Z-r{day}.jsonl", undelivered=1, claimed=True)
    assert ReportDirectory(str(tmp_path)).prune(1).deleted == 2
    assert sorted(path.name[6:14] for path in tmp_path.glob("crash-*.jsonl")) == ["20260103", "20260104", "20260105"]
    write_report(tmp_path, "shutdown-20260106T000000Z-good.jsonl")
    assert ReportDirectory(str(tmp_path)).prune(1).deleted == 3
    assert os.listdir(tmp_path) == ["shutdown-20260106T000000Z-good.jsonl"]


def test_pruning_keeps_the_newest_markers(tmp_path):
    """Of runs that left nothing else; they list nothing that anybody could claim."""
    reports = ReportDirectory(str(tmp_path))
    for hour in range(5):
        reports.open_run(Run(f"r{hour}", "0", "h", 1, 1_800_000_000.0 + 3600 * hour), 1_800_000_000.0 + 3600 * hour)
    reports.prune(3)
    assert [marker.run_id for marker in reports.open_runs()] == ["r2", "r3", "r4"]


def test_termination_log_takes_whole_lines_up_to_4_kib(tmp_path):
    """What a container runtime keeps; what stood there before is gone."""
    path = tmp_path / "log"
    path.write_text("x" * 10_000)
    ReportDirectory(str(tmp_path)).write_termination_log(str(path), f"{'é' * 500}\n" * 10)
    assert path.read_text() == f"{'é' * 500}\n" * 4
    assert path.stat().st_size <= TERMINATION_LOG_BYTES_MAX


def at(hour: int, run_id: str, trigger: str = "SIGTERM") -> Summary:
    return msgspec.structs.replace(make_summary(f"2026-11-21T{hour:02}:00:00.000Z", run_id), trigger=trigger)


def test_unclaimed_are_those_that_owe_something_oldest_first(tmp_path):
    """By when their runs were, whatever their files are called; what cannot be read is among them, and says so."""
    reports = ReportDirectory(str(tmp_path))
    write_report(tmp_path, "shutdown-20261121T230000Z-late.jsonl", undelivered=1, summary=at(23, "late"))
    write_report(tmp_path, "crash-20261121T210000Z-early.jsonl", undelivered=2, summary=at(21, "early", "crash"))
    write_report(tmp_path, "shutdown-20261121T220000Z-clean.jsonl", summary=at(22, "clean"))
    write_report(tmp_path, "shutdown-20261121T200000Z-taken.jsonl", undelivered=1, claimed=True)
    (tmp_path / "shutdown-20261121T190000Z-bad.jsonl").write_text("half a rep")
    found = [(one.run_id, Path(one.path).name.partition("-")[0]) for one in reports.unclaimed()]
    assert found == [(None, "shutdown"), ("early", "crash"), ("late", "shutdown")]


def test_claim_is_made_once_and_says_whose_it_is(tmp_path):
    """Created exclusively, beside the report, for its owner only; the first claim is the one that counts."""
    reports = ReportDirectory(str(tmp_path))
    write_report(tmp_path, "shutdown-20261121T200000Z-a.jsonl", undelivered=1)
    [one] = reports.unclaimed()
    assert reports.claimed_by(one.path) is None
    assert reports.claim(one.path, "run9") is True
    assert reports.claim(one.path, "run9") is False
    assert reports.unclaimed() == []
    assert reports.claimed_by(one.path) == "run9"
    claim = tmp_path / "shutdown-20261121T200000Z-a.jsonl.claimed-by-run9"
    assert stat.S_IMODE(claim.stat().st_mode) == 0o600
    assert claim.stat().st_size == 0


def test_slices_are_the_lines_after_the_summary(tmp_path):
    """In order, none of them cut, however long."""
    lines = [b"%d %s\n" % (n, b"x" * (READ_BYTES if n == 7 else n % 300)) for n in range(3000)]
    path = tmp_path / "shutdown-20261121T200000Z-a.jsonl"
    path.write_bytes(msgspec.json.encode(make_summary()) + b"\n" + b"".join(lines))
    slices = list(ReportDirectory(str(tmp_path)).slices(str(path)))
    assert [line for part in slices for line in part] == lines
    assert len(slices) > 3


def test_past_runs_are_those_of_reports_and_of_markers(tmp_path):
    """A marker without a report is a crash that left no list; one beside its report is nothing of its own."""
    reports = ReportDirectory(str(tmp_path))
    write_report(tmp_path, "shutdown-20261121T200000Z-a.jsonl", undelivered=2, summary=at(20, "a"))
    write_report(tmp_path, "crash-20261121T210000Z-b.jsonl", summary=at(21, "b", "crash"))
    started = parse_rfc3339("2026-11-21T22:00:00Z")
    for run_id in ("b", "c"):
        reports.open_run(Run(run_id, "0", "h", 1, started), started + 60, {"accepted": 3})
    runs = {run.run_id: run for run in reports.past_runs()}
    assert {run_id: (run.ended, run.undelivered) for run_id, run in runs.items()} == {
        "a": ("reported", 2),
        "b": ("crash", 0),
        "c": ("crash", None),
    }
    assert (runs["c"].started_at, runs["c"].ended_at) == (started, started + 60)
    assert len(reports.past_runs()) == 3


def a_line(**fields: Any) -> Line:
    written = {
        "kind": "undelivered",
        "event_id": "e1",
        "client_id": "acme",
        "endpoint_id": "default",
        "url": "https://acme.example/",
        "type": "t",
        "accepted_at": "2026-11-21T20:00:00.000Z",
        "attempt_count": 1,
        "next_attempt_at": None,
        "last_outcome": None,
        "payload": msgspec.Raw(b"{}"),
    }
    return Line(**(written | fields))


def test_field_that_json_cannot_hold_costs_that_field_of_its_line(tmp_path):
    """The report is written all the same, and a start reads each of its lines."""
    lines = [a_line(attempt_count=10**4300), a_line(url="https://\ud800/"), a_line(event_id="e2")]
    summary = msgspec.structs.replace(make_summary(), pid=10**4300)
    path = ReportDirectory(str(tmp_path)).write(summary, lines)
    first, *written = map(json.loads, Path(path).read_bytes().splitlines())
    assert first.keys() == json.loads(msgspec.json.encode(make_summary())).keys() - {"pid"}
    assert [line.get("attempt_count") for line in written] == [None, 1, 1]
    assert [line["url"] for line in written] == ["https://acme.example/", "https://\\ud800/", "https://acme.example/"]
    [read] = ReportDirectory(str(tmp_path)).slices(path)
    assert [line.event_id for line in read_report_lines(read)] == ["e1", "e1", "e2"]


@pytest.mark.parametrize("number", [b"9" * 4300, b"-" + b"9" * 4300, b"9" * 5000, b"9" * 20])
def test_number_without_bounds_is_not_taken_from_a_file(tmp_path, number: bytes):
    """Of a summary it makes the report unreadable; of a marker that can be read its counts are lost."""
    summary = msgspec.json.encode(make_summary()).replace(b'"exhausted_held":0', b'"exhausted_held":' + number)
    (tmp_path / "shutdown-20260101T000000Z-a1.jsonl").write_bytes(summary + b"\n")
    reports = ReportDirectory(str(tmp_path))
    assert reports.past_runs() == []
    reports.open_run(Run("b2", "0", "h", 1, 0.0), 0.0, {"accepted": 345})
    marker = tmp_path / "run-b2.open"
    marker.write_bytes(marker.read_bytes().replace(b"345", number))
    assert [one.counts for one in reports.open_runs()] == ([] if len(number) > 4300 else [{}])


def owing(run_id: str = "run1") -> Summary:
    return msgspec.structs.replace(make_summary(run_id=run_id), deliveries=DeliveryCounts(1, 0, 0, 1))


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777])
def test_directory_that_others_may_write_is_refused(tmp_path, mode):
    """Whoever writes there forges a report, and the next start delivers it with our signature."""
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports").chmod(mode)
    with pytest.raises(CannotWriteReports, match=f"written by others .mode {mode:o}"):
        ReportDirectory(str(tmp_path / "reports")).prove_writable()
    (tmp_path / "reports").chmod(0o755)
    ReportDirectory(str(tmp_path / "reports")).prove_writable()


@pytest.mark.parametrize("mode", [0o777, 0o2775, 0o1777])
def test_folder_in_a_directory_of_everybodys_is_made_and_judged_by_itself(tmp_path, mode):
    """A Kubernetes claim is mounted like that. The refusal names the command, and the folder that helps."""
    claim = tmp_path / "a claim"
    claim.mkdir()
    claim.chmod(mode)
    with pytest.raises(CannotWriteReports) as refused:
        ReportDirectory(str(claim)).prove_writable()
    assert f"chmod go-w '{claim}'" in str(refused.value)
    own = claim / "hookd"
    assert f"({own})" in str(refused.value)
    reports = ReportDirectory(str(own))
    reports.prove_writable()
    reports.lock()
    assert stat.S_IMODE(own.stat().st_mode) & 0o777 == 0o700
    path = reports.write(owing(), [])
    assert [one.path for one in ReportDirectory(str(own)).unclaimed()] == [path]
    own.rename(claim / "taken away")  # by whoever may write the claim
    own.symlink_to(claim / "taken away")
    with pytest.raises(CannotWriteReports, match="is a link"):
        reports.prove_writable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_that_somebody_puts_in_the_place_of_ours_is_refused(tmp_path):
    """Who may write the directory that ours stands in can take it away. What they put there is theirs, and is seen."""
    claim = tmp_path / "claim"
    claim.mkdir()
    claim.chmod(0o777)
    reports = ReportDirectory(str(claim / "hookd"))
    reports.prove_writable()
    (claim / "hookd").rename(claim / "taken away")
    (claim / "hookd").mkdir(mode=0o755)
    write_report(claim / "hookd", "shutdown-20260101T000000Z-forged.jsonl", undelivered=1)
    for forged in (claim / "hookd" / "shutdown-20260101T000000Z-forged.jsonl", claim / "hookd"):
        os.chown(forged, 12345, 12345)
    with pytest.raises(CannotWriteReports, match="belongs to user 12345"):
        reports.prove_writable()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_directory_or_report_of_another_user_is_refused(tmp_path):
    """A forged report is one that cannot be read: it is not taken up, and it tells of no run."""
    reports = ReportDirectory(str(tmp_path))
    path = reports.write(owing(), [])
    os.chown(path, 12345, 12345)
    assert [found.run_id for found in reports.unclaimed()] == [None]
    assert reports.past_runs() == []
    assert reports.of_run("run1") is None
    with pytest.raises(OSError, match="belongs to user 12345"):
        next(reports.slices(path))
    os.chown(tmp_path, 12345, 12345)
    with pytest.raises(CannotWriteReports, match="belongs to user 12345"):
        reports.prove_writable()


def test_report_that_others_may_write_or_that_is_a_link_is_not_taken_up(tmp_path):
    """Its name alone makes no report: the run that it names has none, and keeps its recording."""
    (tmp_path / "d").mkdir()
    reports = ReportDirectory(str(tmp_path / "d"))
    path = Path(reports.write(owing(), []))
    path.chmod(0o622)
    assert [found.run_id for found in reports.unclaimed()] == [None]
    assert reports.of_run("run1") is None
    path.chmod(0o600)
    assert reports.of_run("run1") == path
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert reports.of_run("run1") is None
    assert reports.unclaimed() == []
    assert reports.newest() is None
    reports.prune(0)
    assert (tmp_path / "elsewhere").exists()


def test_directory_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(CannotWriteReports, match="is a link"):
        ReportDirectory(str(tmp_path / "link")).prove_writable()


def test_link_at_a_temporary_name_is_not_written_through(tmp_path):
    """Somebody's file stays as it is; the marker and the report stand as plain files."""
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / ".run-b2.open.tmp").symlink_to(precious)
    reports = ReportDirectory(str(tmp_path / "d"))
    (tmp_path / "d" / f".{reports.path_of(make_summary()).name}.tmp").symlink_to(precious)
    reports.open_run(Run("b2", "0", "h", 1, 0.0), 0.0)
    reports.write(make_summary(), [])
    assert precious.read_text() == "mine"
    assert [marker.run_id for marker in reports.open_runs()] == ["b2"]
    assert not (tmp_path / "d" / "run-b2.open").is_symlink()


ASK = """
import sys
from hookd.edge.reports import CannotWriteReports, ReportDirectory
reports = ReportDirectory(sys.argv[1])
reports.prove_writable()
print(reports.open_runs(), reports.past_runs(), reports.unclaimed(), reports.newest(), reports.of_run("a1"))
print(reports.is_in_use(), reports.prune(0), reports.claimed_by("shutdown-20260101T000000Z-a1.jsonl"))
try:
    reports.lock()
except CannotWriteReports as error:
    print(error)
"""


def test_fifo_named_like_a_lock_a_marker_or_a_report_holds_nothing_up(tmp_path):
    """Nobody waits for who would open its other end: in a process of its own, which must end."""
    for name in (".lock", "run-a1.open", "shutdown-20260101T000000Z-a1.jsonl"):
        os.mkfifo(tmp_path / name)
    asked = subprocess.run(
        [sys.executable, "-c", ASK, str(tmp_path)], capture_output=True, text=True, timeout=30, check=True
    )
    assert asked.stdout.splitlines() == [
        "[] [] [] None None",
        "False Pruned(deleted=0, held=0) None",
        f"{tmp_path}/.lock: it is no plain file",
    ]
