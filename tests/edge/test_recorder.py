"""The recorder's folder is ours and in memory, or it is refused; its room is there before it is needed."""

import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hookd.core import crash, report_text
from hookd.core.budget import Demand
from hookd.core.delivery import Delivery
from hookd.core.effective_settings import EffectiveSettings
from hookd.core.event import Event, Submission
from hookd.core.guarded_recorder import RecorderState
from hookd.core.ledger import Ledger
from hookd.core.record import FORMAT, HEAD_FORM, TAIL_FORM, Counts, Header, Kind
from hookd.core.record_writer import header_record
from hookd.core.recorder import Recorder
from hookd.core.refusal import Full
from hookd.core.report import class_of
from hookd.core.retry import Reason
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS, Settings
from hookd.core.sizing import recorder_layout
from hookd.core.timestamps import Moment
from hookd.edge.recorder_files import CannotRecord, InUse, Place, RecorderDirectory, is_memory, place
from hookd.edge.recorder_segments import Segments

ROOT = Path(__file__).parents[2]
LAYOUT = recorder_layout(DEFAULTS)


@pytest.fixture(name="base")
def _base() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="hookd-tests-", dir="/dev/shm")
    yield Path(directory)
    shutil.rmtree(directory)


def where(base: Path) -> Place:
    return Place(str(base), "own")


def test_folder_is_made_for_its_owner_only_and_goes_when_it_is_empty(base):
    """Mode 0700; left where something stands in it."""
    folder = RecorderDirectory(where(base))
    assert (base / "own").stat().st_mode & 0o777 == 0o700
    folder.close()
    assert not (base / "own").exists()
    folder = RecorderDirectory(where(base))
    (base / "own" / "foreign").write_text("")
    folder.close()
    assert (base / "own" / "foreign").exists()


KINDS_OF_OTHERS = {
    "open": "open to others (mode 750, not 700)",
    "foreign": "belongs to user 12345",
    "link": "a link",
    "file": "no folder",
    "fifo": "no folder",
}


def take_the_name(base: Path, kind: str, tmp_path: Path, name: str = "own") -> None:
    """Somebody else was there first, in a directory that everyone writes."""
    path = base / name
    match kind:
        case "link":
            path.symlink_to(tmp_path)  # somewhere else, also where its target is ours
        case "file":
            path.write_text("")
        case "fifo":
            os.mkfifo(path)
        case _:
            path.mkdir(mode=0o700)
    if kind == "open":
        path.chmod(0o750)  # whoever made it so may have read or written it
    if kind == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(path, 12345, 12345)


@pytest.mark.parametrize("kind", KINDS_OF_OTHERS)
def test_name_that_somebody_else_has_is_passed_over_for_one_that_nobody_can_guess(base, tmp_path, kind):
    """It is no reason not to start. What is passed over is said, and nothing is done to it."""
    take_the_name(base, kind, tmp_path)
    before = os.lstat(base / "own")
    folder = RecorderDirectory(where(base))
    assert folder.passed_over == [("own", KINDS_OF_OTHERS[kind])]
    name = folder.where.name
    assert re.fullmatch("own-[0-9a-f]{16}", name)
    assert (base / name).stat().st_mode & 0o777 == 0o700
    folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False).discard()
    folder.close()
    assert not (base / name).exists()
    after = os.lstat(base / "own")
    assert (after.st_ino, after.st_mode, after.st_uid, after.st_mtime) == (
        before.st_ino,
        before.st_mode,
        before.st_uid,
        before.st_mtime,
    )
    assert list(tmp_path.iterdir()) == []


def test_recording_under_another_name_is_found_by_the_next_start(base, tmp_path):
    """Whether the name is still taken then or free again; what is not ours is passed over each time."""
    take_the_name(base, "file", tmp_path)
    first = RecorderDirectory(where(base))
    first.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
    os.close(first._fd)  # a killed process
    second = RecorderDirectory(where(base))
    assert second.where == first.where
    assert [found.recording.run_id for found in second.left_behind()] == ["r1"]
    os.close(second._fd)
    (base / "own").unlink()
    take_the_name(base, "open", tmp_path, "own-" + "0" * 16)
    third = RecorderDirectory(where(base))
    assert [found.recording.run_id for found in third.left_behind()] == ["r1"]
    assert [one.name for one in third.passed_over] == ["own-" + "0" * 16]
    third.remove("r1")
    third.close()
    fourth = RecorderDirectory(where(base))
    assert fourth.where.name == "own"
    fourth.close()


def test_recordings_in_several_folders_of_ours_are_brought_together(base):
    """A name was taken, then free, then taken: no start may miss what any of them left."""
    for number, name in enumerate(("own", "own-" + "a" * 16, "own-" + "b" * 16)):
        (base / name).mkdir(mode=0o700)
        made = RecorderDirectory(Place(str(base), name))
        made.recorder(Run(f"r{number}", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
        os.close(made._fd)
    folder = RecorderDirectory(where(base))
    assert sorted(found.recording.run_id for found in folder.left_behind()) == ["r0", "r1", "r2"]
    assert all(found.recording.is_whole for found in folder.left_behind())
    assert [path.name for path in base.iterdir()] == ["own"]
    for run_id in ("r0", "r1", "r2"):
        folder.remove(run_id)
    folder.close()


def test_folder_of_ours_that_another_daemon_has_is_in_use_under_whatever_name(base, tmp_path):
    """Passing over what is foreign must not pass over who records in ours."""
    take_the_name(base, "file", tmp_path)
    first = RecorderDirectory(where(base))
    with pytest.raises(InUse, match="another daemon"):
        RecorderDirectory(where(base))
    first.close()


def test_folder_has_one_user_at_a_time(base):
    """The second is told, the first goes on; after the first it is free."""
    first = RecorderDirectory(where(base))
    with pytest.raises(InUse, match="another daemon"):
        RecorderDirectory(where(base))
    first.close()
    RecorderDirectory(where(base)).close()


def test_memory_is_told_from_disk(base, tmp_path):
    """By the device's entry among the mounts; what cannot be told is no memory."""
    folder = RecorderDirectory(where(base))
    assert folder.is_memory
    folder.close()
    fd = os.open(tmp_path, os.O_RDONLY)
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    assert not is_memory(fd)
    assert is_memory(fd, f"1 2 {number} / /x rw - tmpfs tmpfs rw\n")
    assert is_memory(fd, f"1 2 {number} / /x rw shared:1 master:2 - ramfs none rw\n")
    assert not is_memory(fd, f"1 2 {number} / /x rw - ext4 /dev/tmpfs rw\n")
    assert not is_memory(fd, "")
    os.close(fd)


def test_place_is_where_the_setting_says(tmp_path):
    """A folder of ours in the named directory, in systemd's, or in shared memory: one for each report directory."""

    def found(directory: str, reports: str = "reports", **environ: str) -> str:
        return str(place(directory, report_directory=reports, environ=environ, dev=False))

    assert found("/mnt/ram") == "/mnt/ram/hookd-recorder"
    assert found("auto", RUNTIME_DIRECTORY="/run/hookd:/run/other") == "/run/hookd/hookd-recorder"
    assert found("auto").startswith(f"/dev/shm/hookd-{os.geteuid()}-")
    assert found("auto", "a") != found("auto", "b")
    assert found("auto", "a") == found("auto", os.path.abspath("a"))


def test_auto_without_shared_memory_is_refused_but_for_dev():
    """The message says what to set; for development a temporary directory will do."""
    nothing = {"report_directory": "r", "environ": {}, "shared_memory": "/nonexistent"}
    with pytest.raises(CannotRecord, match=r'recorder\.directory = ""'):
        place("auto", dev=False, **nothing)
    assert place("auto", dev=True, **nothing).directory == tempfile.gettempdir()


def test_room_is_allocated_before_it_is_written(base):
    """A segment's pages are there when its file is, so that no later write can fail for want of them."""
    folder = RecorderDirectory(where(base))
    made = folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
    sizes = [path.stat() for path in (base / "own").iterdir()]
    assert {size.st_size for size in sizes} == {LAYOUT.segment_bytes}
    assert all(size.st_blocks * 512 >= LAYOUT.segment_bytes for size in sizes)
    assert all(size.st_mode & 0o777 == 0o600 for size in sizes)
    made.discard()
    folder.close()
    assert not (base / "own").exists()


def test_no_room_for_the_first_segments_is_said_at_the_start(base, monkeypatch):
    """And leaves nothing behind."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    folder = RecorderDirectory(where(base))
    with pytest.raises(CannotRecord, match="no room"):
        folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
    assert list((base / "own").iterdir()) == []
    folder.close()


def test_dropped_segment_is_zero_when_it_is_begun_again(base):
    """What stood in it is no part of what comes."""
    folder = RecorderDirectory(where(base))
    segments = Segments(folder, "r1", 4096)
    assert segments.allocate()
    append = segments.begin(0, b"header0")
    append(b"rec")
    append(b"ord")
    assert segments.allocate()
    segments.begin(1, b"header1")
    segments.drop(0, keep=True)
    segments.begin(2, b"h2")
    content = (base / "own" / "r1-2.segment").read_bytes()
    assert content == b"h2".ljust(4096, b"\0")
    segments.drop(1, keep=False)
    assert sorted(path.name for path in (base / "own").iterdir()) == ["r1-2.segment"]
    segments.discard()
    folder.close()


def test_header_of_another_format_is_nothing_that_we_read(base):
    """A later version's recording is counted, not guessed at."""
    folder = RecorderDirectory(where(base))
    identity = Header(99, "r1", 0, "9", "h", 1, 1.8e9, False, 4096, Counts())
    segments = Segments(folder, "r1", 4096)
    segments.allocate()
    segments.begin(0, header_record(1, identity))
    (found,) = folder.left_behind()
    assert found.recording.header is None
    assert found.recording.unread_bytes > 0
    segments.discard()
    folder.close()


@pytest.mark.parametrize("field", ["pid", "segment_bytes", "accepted"])
def test_header_with_a_number_without_bounds_is_not_read(base, field):
    """A report of it could not be written."""
    folder = RecorderDirectory(where(base))
    segments = Segments(folder, "r1", 8192)
    segments.allocate()
    written = msgspec.json.encode(Header(FORMAT, "r1", 0, "9", "h", 1, 1.8e9, False, 4096, Counts()))
    body = re.sub(rf'"{field}":[0-9]+'.encode(), f'"{field}":'.encode() + b"9" * 4300, written)
    tail = TAIL_FORM.pack(1, Kind.HEADER) + body
    segments.begin(0, HEAD_FORM.pack(len(tail), crc32(tail, len(tail))) + tail)
    (found,) = folder.left_behind()
    assert found.recording.header is None
    segments.discard()
    folder.close()


class Killed(BaseException):
    """The process ends here."""


class Watched(RecorderDirectory):
    """Calls `at` before each step on a file; that may be the process's last."""

    def __init__(self, where: Place, at: Callable[[str, str], None]) -> None:
        super().__init__(where)
        self._at = at

    def rename(self, old: str, new: str) -> None:
        super().rename(old, new)
        self._at("rename", new)

    def unlink(self, name: str) -> None:
        self._at("unlink", name)
        super().unlink(name)


def test_file_has_the_name_of_a_segment_only_once_its_header_stands(base):
    """A kill right behind the naming leaves a segment that can be read."""
    named: list[str] = []

    def read_at(step: str, name: str) -> None:
        if step == "rename" and name.endswith(".segment"):
            named.append(name)
            (found,) = folder.left_behind()
            assert found.recording.header is not None
            assert found.recording.header.segment == int(name.rpartition("-")[2].removesuffix(".segment"))
            assert found.recording.is_whole

    folder = Watched(where(base), read_at)
    recorder = folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
    ledger = ledger_with(recorder)
    while len(named) < 3:
        settle(ledger, admit(ledger))
    recorder.discard()
    folder.close()


def ledger_with(recorder: Recorder) -> Ledger:
    return Ledger(
        EffectiveSettings(Settings()),
        started=Moment(0.0, 1.8e9),
        on_settled=lambda event: None,
        on_forgotten=lambda event: None,
        recorder=recorder,
    )


def admit(ledger: Ledger, event_id: str | None = None) -> Event:
    delivery = Delivery(endpoint_id="d", url="https://x.example/", opened_at=0.0, due_at=0.0)
    event_id = event_id or f"e{ledger.totals().accepted}"
    return ledger.open(Submission("acme", "t", b"{}"), event_id, (delivery,), now=Moment(0.0, 1.8e9))


def settle(ledger: Ledger, event: Event) -> None:
    ledger.give_up(event, event.deliveries[0], Reason.EXPIRED, now=Moment(0.0, 1.8e9))


@pytest.mark.parametrize("by", ["the run's end", "the next start"])
def test_removal_that_is_cut_leaves_nothing_that_is_not_so(base, by):
    """The oldest segment goes first: without a later one it would say that an event is owed which that one settles."""
    nth, is_over = 1, False
    while not is_over:
        step = count(1)
        is_removing = False

        def die(what: str, name: str) -> None:
            if is_removing and what == "unlink" and next(step) == nth:  # noqa: B023
                raise Killed

        folder = Watched(where(base), die)
        recorder = folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False)
        ledger = ledger_with(recorder)
        events = [admit(ledger) for _ in range(4000)]
        for event in events[:500]:
            settle(ledger, event)
        assert len(list((base / "own").glob("*.segment"))) > 1
        is_removing = True
        try:
            recorder.discard() if by == "the run's end" else folder.remove("r1")
            is_over = True
        except Killed:
            pass
        owed = {event.id for event in ledger.unsettled}
        left = folder.left_behind()
        assert all({event.id for event in found.recording.events.values()} <= owed for found in left)
        is_removing = False
        folder.remove("r1")
        folder.close()
        nth += 1
    assert nth > 6


# While it runs


def remove_the_folder(base: Path) -> None:
    shutil.rmtree(base / "own")


def remove_the_segments(base: Path) -> None:
    for path in (base / "own").iterdir():
        path.unlink()


def rename_the_folder(base: Path) -> None:
    (base / "own").rename(base / "other")
    (base / "own").mkdir(mode=0o700)


def cut_the_newest(base: Path) -> None:
    os.truncate(max((base / "own").glob("*.segment")), 0)


@pytest.mark.parametrize("lose", [remove_the_folder, remove_the_segments, rename_the_folder, cut_the_newest])
def test_files_that_somebody_took_away_are_found_missing_before_they_are_needed(base, lose):
    """A mapped file takes records after it was removed: nothing else would tell. It is looked at once a second."""
    folder = RecorderDirectory(where(base))
    ledger = ledger_with(folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False))
    admit(ledger)
    ledger.recorder.prove()
    assert ledger.recorder.failure is None
    lose(base)
    ledger.recorder.prove()
    assert ledger.recorder.state is RecorderState.FAILED
    assert ledger.recorder.failure is not None
    settle(ledger, admit(ledger))
    assert ledger.totals().accepted == 2
    ledger.recorder.discard()
    folder.close()


@pytest.mark.parametrize("lose", [remove_the_folder, remove_the_segments])
def test_recorder_whose_files_are_gone_ends_and_the_ledger_goes_on(base, lose):
    """Without a look, too: a segment that cannot be begun or dropped is the recorder's end, and nobody else's."""
    folder = RecorderDirectory(where(base))
    ledger = ledger_with(folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False))
    lose(base)
    for _ in range(4000):
        settle(ledger, admit(ledger))
    assert ledger.recorder.failure is not None
    assert ledger.port_failures == {"recorder": 1}
    totals = ledger.totals()
    assert (totals.accepted, totals.unsettled_events, totals.is_balanced) == (4000, 0, True)
    ledger.recorder.discard()
    assert ledger.port_failures == {"recorder": 1}  # what is gone is removed
    folder.close()


@pytest.mark.parametrize(("number", "is_full"), [(28, True), (24, True), (5, False), (30, False)])
def test_segment_that_cannot_be_made_is_a_full_recorder_or_none(base, number, is_full):
    """No space, no descriptor: 503 until there is one. A broken or read-only file system: the recorder ends."""

    class Failing(RecorderDirectory):
        fails = False

        def create(self, name: str, size: int) -> None:
            if self.fails:
                raise OSError(number, os.strerror(number))
            super().create(name, size)

    folder = Failing(where(base))
    ledger = ledger_with(folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False))
    folder.fails = True
    row_bytes = ledger.demand(2, ["https://x.example/"]).row_bytes
    demand = Demand(1, 1, row_bytes * 100_000 // 64)
    if is_full:
        with pytest.raises(Full, match="file system"):
            ledger.refuse_if_full("acme", client=Demand(), whole=demand, now=0.0)
        assert ledger.recorder.failure is None
        folder.fails = False
    else:
        ledger.refuse_if_full("acme", client=Demand(), whole=demand, now=0.0)
        assert ledger.recorder.failure == f"OSError: [Errno {number}] {os.strerror(number)}"
    ledger.refuse_if_full("acme", client=Demand(), whole=demand, now=0.0)
    settle(ledger, admit(ledger))
    ledger.recorder.discard()
    folder.close()


def test_segment_that_cannot_be_mapped_breaks_off_what_was_recorded(base):
    """No descriptor for the next segment: what stands is kept for a kill, and says that more came after it."""

    class Failing(RecorderDirectory):
        maps = 0

        def map(self, name: str, size: int) -> mmap.mmap:
            self.maps += 1
            if self.maps == 3:
                raise OSError(24, os.strerror(24))
            return super().map(name, size)

    folder = Failing(where(base))
    ledger = ledger_with(folder.recorder(Run("r1", "0", "h", 1, 1.8e9), LAYOUT, payloads=False))
    events = [admit(ledger) for _ in range(100)]
    while ledger.recorder.failure is None:
        settle(ledger, admit(ledger))
    for event in events:
        settle(ledger, event)
    (found,) = folder.left_behind()
    recording = found.recording
    assert recording.is_broken_off
    assert len(recording.events) >= 100
    assert all(
        class_of(delivery) == "outcome_unknown" for event in recording.events.values() for delivery in event.deliveries
    )
    assert recording.header is not None
    summary = crash.summarise(recording, recording.header, heard_at=0.0)
    assert not summary.balanced
    assert summary.recorder.broken_off is True
    assert "THE RECORDER FAILED BEFORE THE RUN ENDED" in report_text.text(summary, path=None)
    ledger.recorder.discard()
    assert folder.left_behind() == []
    folder.close()


CUT_WHILE_WRITING = """
import os, sys
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS
from hookd.core.sizing import recorder_layout
from hookd.edge.recorder_files import Place, RecorderDirectory
from tests.edge.test_recorder import admit, ledger_with, settle

folder = RecorderDirectory(Place(sys.argv[1], "own"))
run = Run("r1", "0", "h", 1, 1.8e9)
ledger = ledger_with(folder.recorder(run, recorder_layout(DEFAULTS), payloads=False))
for number in range(3000):
    admit(ledger)
os.truncate(os.path.join(sys.argv[1], "own", "r1-1.segment"), 4096)
settle(ledger, admit(ledger))
sys.exit("the file was cut, and the record went somewhere")
"""


def test_segment_that_is_cut_right_before_a_record_is_as_a_kill(base):
    """The limit of mapping: SIGBUS. Who may cut the file may kill the process, too; the next start reads the rest."""
    done = subprocess.run([sys.executable, "-c", CUT_WHILE_WRITING, str(base)], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGBUS
    folder = RecorderDirectory(where(base))
    (found,) = folder.left_behind()
    assert found.recording.unread_bytes
    assert len(found.recording.events) > 1000
    for event in found.recording.events.values():
        assert class_of(event.deliveries[0]) == "outcome_unknown"
    folder.remove("r1")
    folder.close()
