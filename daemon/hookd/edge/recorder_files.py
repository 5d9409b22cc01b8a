"""Owns the flight recorder's files: where they stand, that this is memory, and that no one else's are touched.

    FOLDER/<run_id>-<number>.segment    the log's segments; the next start reads those that are still there
    FOLDER/<run_id>-<number>.spare      room that is allocated and not in the log

Rules: the folder is our own: mode 0700, our user, no symbolic link. It is opened once and reached by its descriptor.
One daemon at a time has its lock. Files with other names, and what is no plain file of ours, are left alone.
Room is allocated before it is written (posix_fallocate). So a full file system is an error, and no signal later.
There is no fsync: memory outlives the process, and nothing more is wanted.
Segments are mapped, not written: 0.1 to 0.3 us a record, against 2.
"""

import fcntl
import hashlib
import mmap
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from hookd.core.record import FORMAT, Counts, Header
from hookd.core.recorder import SEGMENTS_MIN, NoRoom, SegmentRecorder, Store
from hookd.core.recording import Recording
from hookd.core.run import Run
from hookd.core.segment_layout import SegmentLayout
from hookd.core.units import approximate_size

SHARED_MEMORY = "/dev/shm"
MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
AUTO = "auto"
# No segment is larger, with payloads of up to 32 MiB. A file that only bears such a name may be of any size.
_READ_BYTES_MAX = 1 << 27
_FILE = re.compile(r"([0-9A-Za-z]{1,64})-([0-9]{1,18})\.(segment|spare)")


class CannotRecord(Exception):
    """There is no place for the recorder; the message says why, and what would mend it."""


class InUse(Exception):
    """Another daemon has the folder."""


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


class Found(NamedTuple):
    """What a run left behind."""

    recording: Recording
    written_at: float  # wall: when its newest segment was begun


class RecorderDirectory:
    """The recorder's folder, opened and locked. Raises CannotRecord or InUse."""

    def __init__(self, where: Place) -> None:
        self.where = where
        try:
            os.makedirs(where.directory, mode=0o700, exist_ok=True)
            self._parent = os.open(where.directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise CannotRecord(f"{where.directory}: {error.strerror}") from error
        try:
            self._fd = self._open()
        except OSError as error:
            raise CannotRecord(f"{where}: {error.strerror}; it must be a folder of our own") from error
        self._judge()
        self._lock()

    @property
    def is_memory(self) -> bool:
        return is_memory(self._fd)

    def left_behind(self) -> list[Found]:
        """What earlier runs left, oldest first. Each is read whole: at most `recorder.bytes_max`."""
        found = []
        for run_id in sorted({name.run_id for name in self._files()}):
            segments = sorted(
                (one.number, one.name) for one in self._files() if one.run_id == run_id and one.kind == "segment"
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
        for one in sorted((file for file in self._files() if file.run_id == run_id), key=lambda file: file.number):
            try:
                os.unlink(one.name, dir_fd=self._fd)
            except OSError as error:
                raise CannotRecord(f"{self.where}/{one.name} cannot be removed: {error.strerror}") from error

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
            raise CannotRecord(
                f"{self.where}: no room for its first segments ({least}); make some, name another "
                'recorder.directory, or switch the recorder off with recorder.directory = ""'
            ) from None

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

    # Helpers

    def _open(self) -> int:
        try:
            os.mkdir(self.where.name, 0o700, dir_fd=self._parent)
        except FileExistsError:
            pass  # a run before this one made it, or somebody else did: that is judged next
        return os.open(self.where.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._parent)

    def _judge(self) -> None:
        found = os.fstat(self._fd)
        if found.st_uid != os.geteuid():
            raise CannotRecord(f"{self.where} belongs to user {found.st_uid}, not to us")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise CannotRecord(f"{self.where} is open to others (mode {stat.S_IMODE(found.st_mode):o}, not 700)")

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here = os.stat(self.where.name, dir_fd=self._parent, follow_symlinks=False)
        except (BlockingIOError, FileNotFoundError):  # its owner may have removed it in this very moment
            raise InUse(f"{self.where}: another daemon records there") from None
        if here.st_ino != os.fstat(self._fd).st_ino:
            raise InUse(f"{self.where}: another daemon records there")

    def _files(self) -> Iterator["_File"]:
        with os.scandir(self._fd) as entries:
            for entry in entries:
                named = _FILE.fullmatch(entry.name)
                if named is None or not entry.is_file(follow_symlinks=False):
                    continue
                found = os.stat(entry.name, dir_fd=self._fd, follow_symlinks=False)
                if found.st_uid == os.geteuid() and str(int(named[2])) == named[2]:
                    yield _File(entry.name, named[1], int(named[2]), named[3])

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


class Segments(Store):
    """One run's files in the folder. A file gets the name of a segment last: the name says that it is in the log."""

    def __init__(self, folder: RecorderDirectory, run_id: str, segment_bytes: int) -> None:
        self._folder = folder
        self._run_id = run_id
        self._segment_bytes = segment_bytes
        self._spares: list[str] = []
        self._made = 0
        self._in_log: set[int] = set()
        self._mapped: mmap.mmap | None = None

    def allocate(self) -> bool:
        name = f"{self._run_id}-{self._made}.spare"
        try:
            self._folder.create(name, self._segment_bytes)
        except OSError:
            return False
        self._made += 1
        self._spares.append(name)
        return True

    def begin(self, number: int, header: bytes) -> Callable[[bytes], object]:
        spare = self._spares.pop()
        mapped = self._folder.map(spare, self._segment_bytes)
        mapped[:] = bytes(self._segment_bytes)
        mapped.write(header)
        self._folder.rename(spare, self._name(number))
        self._in_log.add(number)
        if self._mapped is not None:
            self._mapped.close()
        self._mapped = mapped
        return mapped.write  # goes on behind what it wrote before

    def drop(self, number: int, *, keep: bool) -> None:
        self._in_log.remove(number)
        if keep:
            spare = f"{self._run_id}-{self._made}.spare"
            self._made += 1
            self._folder.rename(self._name(number), spare)
            self._spares.append(spare)
        else:
            self._folder.unlink(self._name(number))

    def discard(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None
        for name in (*map(self._name, sorted(self._in_log)), *self._spares):
            self._folder.unlink(name)
        self._in_log.clear()
        self._spares.clear()

    def _name(self, number: int) -> str:
        return f"{self._run_id}-{number}.segment"
