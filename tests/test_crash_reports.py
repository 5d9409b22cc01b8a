"""What a start makes of what is left in the recorder's folder and beside the reports, whatever state that is in."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Submission
from hookd.core.ledger import Ledger
from hookd.core.recorder import SegmentRecorder
from hookd.core.report import summarise
from hookd.core.run import Run, Stop
from hookd.core.settings import DEFAULTS, Settings
from hookd.core.sizing import recorder_layout
from hookd.core.timestamps import Moment, rfc3339
from hookd.edge.recorder_files import Place, RecorderDirectory
from hookd.edge.reports import ReportDirectory
from hookd.process.crash_reports import Crashed, write_crash_reports

from tests.edge.test_reports import make_summary
from tests.supervised import ListLog

WALL = 1_800_000_000.0


class Killed:
    """A run whose process is gone: its files, and what it knew."""

    def __init__(
        self,
        folder: RecorderDirectory,
        run_id: str,
        *,
        events: int,
        marked: ReportDirectory | None = None,
        payloads: bool = False,
    ) -> None:
        self.run = Run(run_id, "0.0", "host", 7, WALL)
        self.recorder: SegmentRecorder = folder.recorder(self.run, recorder_layout(DEFAULTS), payloads=payloads)
        self.ledger = Ledger(
            EffectiveSettings(Settings()),
            started=Moment(0.0, WALL),
            on_settled=lambda event: None,
            on_forgotten=lambda event: None,
            recorder=self.recorder,
        )
        if marked is not None:
            marked.open_run(self.run, WALL + 60, {"accepted": 1})
        for n in range(events):
            delivery = Delivery(endpoint_id="d", url="https://x.example/", opened_at=0.0, due_at=0.0)
            now = Moment(float(n), WALL + n)
            self.ledger.open(Submission("acme", "t", b"{}"), f"{run_id}-{n}", (delivery,), now=now)


@pytest.fixture(name="shared_memory")
def _shared_memory() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="hookd-tests-", dir="/dev/shm")
    yield Path(directory)
    shutil.rmtree(directory)


@pytest.fixture(name="folder")
def _folder(shared_memory: Path) -> Iterator[RecorderDirectory]:
    folder = RecorderDirectory(Place(str(shared_memory), "own"))
    yield folder
    folder.close()


@pytest.fixture(name="reports")
def _reports(tmp_path: Path) -> ReportDirectory:
    reports = ReportDirectory(str(tmp_path / "reports"))
    reports.prove_writable()
    return reports


def lines_of(made: Crashed) -> list[str]:
    return [json.loads(line)["event_id"] for line in Path(made.path).read_text().splitlines()[1:]]


def test_command_of_a_crash_report_asks_the_daemon_that_made_it(folder, reports, shared_memory):
    """It is the one that runs when somebody reads it."""
    Killed(folder, "a1", events=1, payloads=True)
    log = ListLog()
    [made] = write_crash_reports(folder, reports, log, url="http://127.0.0.1:8081")
    assert log.texts[0].endswith(f"  hookd resend {made.path} --url http://127.0.0.1:8081\n")


def test_each_run_that_was_killed_gets_its_report_once(folder, reports, shared_memory):
    """Two runs, the older first; then nothing of them is left, and another start makes nothing more."""
    Killed(folder, "a1", events=3, marked=reports)
    Killed(folder, "b2", events=2)
    log = ListLog()
    made = write_crash_reports(folder, reports, log)
    assert {one.summary.run_id: lines_of(one) for one in made} == {
        "a1": ["a1-0", "a1-1", "a1-2"],
        "b2": ["b2-0", "b2-1"],
    }
    assert [one.summary.balanced for one in made] == [True, True]
    assert {one.summary.run_id: one.summary.stopped_at for one in made} == {
        "a1": rfc3339(WALL + 60),  # the marker was written after the last event
        "b2": rfc3339(WALL + 1),
    }
    assert list((shared_memory / "own").iterdir()) == []
    assert reports.open_runs() == []
    assert len(log.texts) == 2
    assert write_crash_reports(folder, reports, log) == []


def test_recorder_of_a_run_with_a_complete_report_is_removed(folder, reports, shared_memory):
    """The process ended between its report and its cleaning up."""
    killed = Killed(folder, "a1", events=3, marked=reports)
    stop = Stop(WALL + 9, "SIGTERM", forced=False, drain_seconds=0.0)
    reports.write(summarise(killed.ledger, killed.run, stop), [])
    assert write_crash_reports(folder, reports, ListLog()) == []
    assert list((shared_memory / "own").iterdir()) == []
    assert reports.open_runs() == []


def test_report_that_cannot_be_written_leaves_the_recorder_for_the_next_start(folder, reports, tmp_path):
    """Something stands where the report would be written; once it is gone the report is made, of all of it."""
    Killed(folder, "a1", events=3)
    in_the_way = tmp_path / "reports" / ".crash-20270115T080002Z-a1.jsonl.tmp"
    in_the_way.mkdir()
    log = ListLog()
    assert write_crash_reports(folder, reports, log) == []
    assert log.of("report.not_written")
    assert "UNDELIVERED: 3" in log.texts[0]
    in_the_way.rmdir()
    (made,) = write_crash_reports(folder, reports, ListLog())
    assert len(lines_of(made)) == 3


def test_half_a_report_of_a_start_that_was_killed_itself_is_made_anew(folder, reports, tmp_path):
    """The name is the same, and a temporary of it is nobody's."""
    Killed(folder, "a1", events=1)
    (tmp_path / "reports" / ".crash-20270115T080000Z-a1.jsonl.tmp").write_text("half")
    (made,) = write_crash_reports(folder, reports, ListLog())
    assert lines_of(made) == ["a1-0"]
    assert os.listdir(tmp_path / "reports") == [Path(made.path).name]


def test_marker_of_a_run_without_recorder_is_said_and_stays(reports):
    """After a lost host nothing but the marker tells of the run; what it counted last is in the log."""
    reports.open_run(Run("a1", "0", "h", 1, WALL), WALL + 120, {"accepted": 42})
    log = ListLog()
    assert write_crash_reports(None, reports, log) == []
    (said,) = log.of("run.ended_without_report")
    assert (said["run_id"], said["counts"]) == ("a1", {"accepted": 42})
    assert [marker.run_id for marker in reports.open_runs()] == ["a1"]


def test_marker_of_a_run_before_the_last_report_is_no_news(reports):
    """It was said at the start after it; in the row of crashes it still counts."""
    reports.open_run(Run("a1", "0", "h", 1, WALL), WALL + 120)
    reports.write(msgspec.structs.replace(make_summary(rfc3339(WALL + 500), "b2")), [])
    reports.open_run(Run("c3", "0", "h", 1, WALL + 900), WALL + 960)
    log = ListLog()
    write_crash_reports(None, reports, log)
    assert [said["run_id"] for said in log.of("run.ended_without_report")] == ["c3"]
    assert {run.run_id for run in reports.past_runs() if run.crashed} == {"a1", "c3"}


@pytest.mark.parametrize("garbage", [b"", b"\0" * 4096, b"garbage" * 1000, bytes(range(256)) * 64])
def test_files_that_only_look_like_segments_are_reported_as_unread(folder, reports, shared_memory, garbage):
    """The start goes on; the report names no event and says what could not be read."""
    (shared_memory / "own" / "a1-0.segment").write_bytes(garbage)
    (made,) = write_crash_reports(folder, reports, ListLog())
    assert (made.summary.balanced, made.summary.recorder.records_missing) == (False, 1)
    assert made.summary.recorder.unread_bytes == len(garbage.rstrip(b"\0"))
    assert lines_of(made) == []


def test_files_that_are_not_ours_are_left_alone(folder, reports, shared_memory, tmp_path):
    """Other names, links, folders, and a number that we do not write so."""
    own = shared_memory / "own"
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (own / "notes.txt").write_text("x")
    (own / "a1-1.segment").symlink_to(victim)
    (own / "a1-2.segment").mkdir()
    (own / "a1-03.segment").write_text("x")
    before = sorted(path.name for path in own.iterdir())
    assert write_crash_reports(folder, reports, ListLog()) == []
    assert sorted(path.name for path in own.iterdir()) == before
    assert victim.read_bytes() == b"precious"


def test_torn_segment_is_told_as_far_as_it_goes(folder, reports, shared_memory):
    """The text says that it is not whole, before anyone counts on it."""
    Killed(folder, "a1", events=10)
    segment = shared_memory / "own" / "a1-0.segment"
    data = bytearray(segment.read_bytes())
    at = data.index(b"a1-7")
    data[at] ^= 1
    segment.write_bytes(data)
    log = ListLog()
    (made,) = write_crash_reports(folder, reports, log)
    assert lines_of(made) == [f"a1-{n}" for n in range(7)]
    assert made.summary.undelivered.outcome_unknown == 7  # what is missing may have been their attempts
    assert "THE RECORDER IS NOT WHOLE" in log.texts[0]
