"""The recorder's folder is ours and in memory, or it is refused; its room is there before it is needed."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hookd.core.record import FORMAT, HEAD_FORM, TAIL_FORM, Counts, Header, Kind
from hookd.core.record_writer import header_record
from hookd.core.run import Run
from hookd.core.settings import DEFAULTS
from hookd.core.sizing import recorder_layout
from hookd.edge.recorder_files import CannotRecord, InUse, Place, RecorderDirectory, is_memory, place
from hookd.edge.recorder_segments import Segments

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


def test_folder_that_is_open_to_others_is_refused(base):
    """Whoever made it so may have read or written it."""
    (base / "own").mkdir(mode=0o700)
    (base / "own").chmod(0o750)
    with pytest.raises(CannotRecord, match="open to others"):
        RecorderDirectory(where(base))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_folder_of_another_user_is_refused(base):
    """In a directory that everyone writes, somebody else may have been there first."""
    (base / "own").mkdir(mode=0o700)
    os.chown(base / "own", 12345, 12345)
    with pytest.raises(CannotRecord, match="belongs to user 12345"):
        RecorderDirectory(where(base))


@pytest.mark.parametrize("kind", ["link", "file"])
def test_link_or_file_in_place_of_the_folder_is_refused(base, tmp_path, kind):
    """A link would lead somewhere else, also where its target is ours."""
    if kind == "link":
        (base / "own").symlink_to(tmp_path)
    else:
        (base / "own").write_text("")
    with pytest.raises(CannotRecord, match="must be a folder of our own"):
        RecorderDirectory(where(base))


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
