"""Owns the flight recorder's files: where they stand, that this is memory, and that no one else's are touched.

    FOLDER/<run_id>-<number>.segment    the log's segments; the next start reads those that are still there
    FOLDER/<run_id>-<number>.spare      room that is allocated and not in the log

Rules: the folder is our own (edge/own_folder): under another name where somebody else has that one. It is opened once
and reached by its descriptor. What stands in another folder of ours, from when a name was taken, is brought home.
One daemon at a time has its lock. Files with other names, and what is no plain file of ours, are left alone.
There is no fsync: memory outlives the process, and nothing more is wanted.
How segments are written is edge/recorder_segments's.
"""

import errno
import fcntl
import hashlib
import mmap
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hookd.core.record import FORMAT, Counts, Header
from hookd.core.recorder import SEGMENTS_MIN, NoRoom, SegmentRecorder
from hookd.core.recording import Recording
from hookd.core.run import Run
from hookd.core.segment_layout import SegmentLayout
from hookd.core.units import approximate_size
from hookd.edge import own_folder
from hookd.edge.own_folder import PassedOver
from hookd.edge.recorder_segments import Segments

SHARED_MEMORY = "/dev/shm"
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
AUTO = "auto"
# No segment is larger, with payloads of up to 32 MiB. A file that only bears such a name may be of any size.
_READ_BYTES_MAX = 1 << 27
_ELSEWHERE = 'name another recorder.directory, or switch the recorder off with recorder.directory = ""'
_FILE = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,18})\.(segment|spare)")


class CannotRecord(Exception):
    """There is no place for the recorder; the message says why, and what would mend it."""


class InUse(Exception):
    """Another daemon has the folder; the message says what to do."""


class Place(NamedTuple):
    """A folder of ours, `name`, in a directory that may be everyone's."""

    directory: str
    name: str

    def __str__(self) -> str:
        return f"{self.directory}/{self.name}"


def place(
    directory: str,
    *,
    report_directory: str,
    environ: Mapping[str, str],
    dev: bool,
    shared_memory: str = SHARED_MEMORY,
) -> Place:
    """Where `recorder.directory` says. Raises CannotRecord where "auto" finds nothing."""
    if directory != AUTO:
        return Place(os.path.abspath(directory), "hookd-recorder")
    runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    if runtime:
        return Place(os.path.abspath(runtime), "hookd-recorder")
    of = hashlib.blake2b(os.fsencode(os.path.abspath(report_directory)), digest_size=6).hexdigest()
    name = f"hookd-{os.geteuid()}-{of}"
    if os.path.isdir(shared_memory) and os.access(shared_memory, os.W_OK):
        return Place(shared_memory, name)
    if dev:
        return Place(tempfile.gettempdir(), name)
    raise CannotRecord(
        f"{shared_memory} cannot be written; name a memory-backed recorder.directory, or switch it off with "
        'recorder.directory = ""'
    )


def is_memory(fd: int, mountinfo: str | None = None) -> bool:
    """Whether the file stands in memory, as the kernel's list of mounts has it."""
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text()
        except OSError:
            return False
    device = os.fstat(fd).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mounted, _, of = line.partition(" - ")
        if mounted.split()[2] == wanted:
            return of.split()[0] in MEMORY_FILE_SYSTEMS
    return False


def free_bytes(directory: str) -> int | None:
    """What the file system has left; None where it is not there yet."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


def size_bytes(directory: str) -> int | None:
    """What the file system holds in all; None where it is not there yet."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return None
    return found.f_blocks * found.f_frsize


class Found(NamedTuple):
    """What a run left behind."""

    recording: Recording
    written_at: float  # wall: when its newest segment was begun


class RecorderDirectory:
    """The recorder's folder, opened and locked. Raises CannotRecord or InUse.

    `where` is the folder that it became; `passed_over` has those that bear such a name and are not ours.
    """

    def __init__(self, where: Place) -> None:
        self.where = where
        try:
            os.makedirs(where.directory, mode=0o700, exist_ok=True)
            self._parent = os.open(where.directory, os.O_RDONLY | os.O_DIRECTORY)
            found = own_folder.find(self._parent, where.name)
            name = found.ours[0] if found.ours else own_folder.make(self._parent, where.name)
            self._fd = own_folder.opened(self._parent, name)
        except OSError as error:
            raise CannotRecord(f"{where.directory}: {error.strerror}; {_ELSEWHERE}") from error
        self.passed_over: list[PassedOver] = found.passed_over
        self.where = Place(where.directory, name)
        self._lock(self._fd, name)
        for other in found.ours[1:]:
            self._bring_home(other)

    @property
    def is_memory(self) -> bool:
        return is_memory(self._fd)

    def left_behind(self) -> list[Found]:
        """What earlier runs left, oldest first. Each is read whole: at most `recorder.bytes_max`."""
        found = []
        for run_id in sorted({name.run_id for name in _files(self._fd)}):
            segments = sorted(
                (one.number, one.name) for one in _files(self._fd) if one.run_id == run_id and one.kind == "segment"
            )
            recording = Recording(run_id)
            recording.take_segments((number, self._read(name)) for number, name in segments)
            written_at = max((self._written_at(name) for _, name in segments), default=0.0)
            found.append(Found(recording, written_at))
        return sorted(found, key=lambda one: (one.written_at, one.recording.run_id))

    def remove(self, run_id: str) -> None:
        """Removes what a run left, once it is accounted for. The oldest segments go first: the rest would mislead.

        Raises CannotRecord.
        """
        for one in sorted((file for file in _files(self._fd) if file.run_id == run_id), key=lambda file: file.number):
            try:
                self.unlink(one.name)
            except OSError as error:
                detail = f"{self.where}/{one.name} cannot be removed: {error.strerror}"
                raise CannotRecord(f"{detail}; {_ELSEWHERE}") from error

    def recorder(self, run: Run, plan: SegmentLayout, *, payloads: bool) -> SegmentRecorder:
        """This run's. Raises CannotRecord where there is no room for the least of it."""
        identity = Header(
            FORMAT,
            run.run_id,
            0,
            run.version,
            run.host,
            run.pid,
            run.started_at,
            payloads,
            plan.segment_bytes,
            Counts(),
        )
        segments = Segments(self, run.run_id, plan.segment_bytes)
        try:
            return SegmentRecorder(segments, plan, identity)
        except NoRoom:
            segments.discard()
            least = approximate_size(SEGMENTS_MIN * plan.segment_bytes)
            detail = f"{self.where}: no room for its first segments ({least})"
            raise CannotRecord(f"{detail}; make some, {_ELSEWHERE}") from None

    def close(self) -> None:
        """Removes the folder where it is empty."""
        try:
            os.rmdir(self.where.name, dir_fd=self._parent)
        except OSError:
            pass  # something is: another run's recording, or a file that is not ours
        os.close(self._fd)
        os.close(self._parent)

    # For segments

    def create(self, name: str, size: int) -> None:
        """Raises OSError where there is no room, and leaves no file then."""
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._fd)
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            os.unlink(name, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)

    def map(self, name: str, size: int) -> mmap.mmap:
        fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._fd)
        try:
            return mmap.mmap(fd, size)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def unlink(self, name: str) -> None:
        os.unlink(name, dir_fd=self._fd)

    def prove(self, name: str, size: int) -> None:
        """Raises OSError unless the folder, and this file in it, stand where the next start looks for them."""
        if not self._is_at(self._fd, self.where.name):
            raise FileNotFoundError(errno.ENOENT, "the recorder's folder was removed", str(self.where))
        found = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        if found.st_size != size:
            raise OSError(errno.EIO, f"somebody cut it to {found.st_size} bytes", f"{self.where}/{name}")

    # Helpers

    def _lock(self, fd: int, name: str) -> None:
        """Raises InUse."""
        taken = f"{self.where.directory}/{name}: another daemon records there"
        advice = "stop it, or name another recorder.directory"
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{taken}: {advice}") from None
        if not self._is_at(fd, name):  # its owner has removed it in this very moment
            raise InUse(f"{taken}: {advice}")

    def _is_at(self, fd: int, name: str) -> bool:
        try:
            here = os.stat(name, dir_fd=self._parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(here, os.fstat(fd))

    def _bring_home(self, name: str) -> None:
        """Moves what earlier runs left in another folder of ours. Raises CannotRecord or InUse."""
        try:
            other = own_folder.opened(self._parent, name)
            try:
                self._lock(other, name)
                for one in _files(other):
                    os.rename(one.name, one.name, src_dir_fd=other, dst_dir_fd=self._fd)
            finally:
                os.close(other)
            os.rmdir(name, dir_fd=self._parent)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # files of other names are left alone
                raise CannotRecord(f"{self.where.directory}/{name}: {error.strerror}; {_ELSEWHERE}") from error

    def _read(self, name: str) -> bytes:
        """Empty where it cannot be read; it is counted like a file that is no segment."""
        try:
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._fd), "rb") as file:
                return file.read(_READ_BYTES_MAX)
        except OSError:
            return b""

    def _written_at(self, name: str) -> float:
        return os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mtime


class _File(NamedTuple):
    name: str
    run_id: str
    number: int
    kind: str


def _files(fd: int) -> Iterator[_File]:
    """The recorder's, in the folder with this descriptor."""
    with os.scandir(fd) as entries:
        for entry in entries:
            named = _FILE.fullmatch(entry.name)
            if named is None or not entry.is_file(follow_symlinks=False):
                continue
            found = os.stat(entry.name, dir_fd=fd, follow_symlinks=False)
            if found.st_uid == os.geteuid() and str(int(named[2])) == named[2]:
                yield _File(entry.name, named[1], int(named[2]), named[3])
