"""Owns the reports' directory: each report's file, whole or not there; which is the newest; and which run has none.

    shutdown-TIME-RUN.jsonl, crash-TIME-RUN.jsonl    a run's report: mode 0600, written to a temporary name, synced,
                                                     renamed, never changed after
    NAME.claimed-by-RUN                              that run has what the report NAME lists as undelivered
    run-RUN.open                                     stands while the run has no report: no event in it, only counts
    .lock                                            one daemon at a time has it

The directory is proved writable at the start, before anything is accepted that a report may have to list.
It is ours alone, or refused: it and its files belong to us or to root, and nobody else may write them. A file is plain
or passed over: no link is followed, and no FIFO is waited for.
A report that lists something undelivered is never deleted until a run has claimed it, however old it is.
"""

import contextlib
import errno
import fcntl
import os
import shlex
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from hookd.core.read_number import ReadNumber
from hookd.core.report import CRASH, Line, Summary
from hookd.core.report_encoding import encoded
from hookd.core.run import Run
from hookd.core.run_history import CRASHES_IN_A_ROW, PastRun
from hookd.core.timestamps import compact, parse_rfc3339, rfc3339
from hookd.flow.ports import Pruned, Unclaimed
from hookd.flow.unclaimed_reports import UnclaimedReports

WRITE_BYTES = 1 << 20
# Read at once of a report that is taken up: about 400 lines, or one with a large payload.
READ_BYTES = 128 * 1024
# More than either takes with 20,000 clients of 16 endpoints. A file of such a name may be anybody's, and of any size.
MARKER_BYTES_MAX = 1 << 20
SUMMARY_BYTES_MAX = 1 << 27
TERMINATION_LOG_BYTES_MAX = 4096  # what Kubernetes keeps
# `is_in_use` holds the lock for a moment, which must not fail a start.
LOCK_SECONDS_MAX = 0.5
LOCK_AGAIN_SECONDS = 0.02
CLAIM = ".claimed-by-"
_ELSEWHERE = "name another folder with --reports, HOOKD_DRAIN__REPORT_DIRECTORY or drain.report_directory"


class CannotWriteReports(Exception):
    """The report directory cannot be made or written; the message names it and the reason."""


class InUse(Exception):
    """Another daemon has the directory; the message says what to do."""


class Marker(msgspec.Struct, frozen=True):
    """What `run-RUN.open` says. `counts` are those of the log's last `counts` line, as of `at`."""

    run_id: str
    version: str
    host: str
    pid: ReadNumber
    started_at: str
    at: str
    counts: dict[str, object] = {}


class ReportDirectory:
    def __init__(self, directory: str) -> None:
        self._directory = Path(directory).absolute()  # the report names a command to paste, from anywhere
        self._written: set[Path] = set()  # by this process
        self._unclaimed = UnclaimedReports(self._summary)

    def prove_writable(self, room_bytes: int = 0) -> None:
        """Makes the directory where it is missing, and a file in it for a moment.

        Raises CannotWriteReports, also where a file of `room_bytes` would find no room.
        """
        try:
            self._make()
            self._judge()
            with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".proof-") as proof:
                proof.write(b"hookd can write its report here\n")
                proof.flush()
            found = os.statvfs(self._directory)
        except OSError as error:
            raise CannotWriteReports(f"{self._directory}: {error.strerror}") from error
        if found.f_blocks and found.f_bavail * found.f_frsize < room_bytes:  # one without a limit has no blocks
            raise CannotWriteReports(f"{self._directory}: a report of what is held now would find no room")

    def lock(self) -> None:
        """Locks the directory while the process lives. Removes what a killed daemon was writing.

        Raises InUse, and CannotWriteReports where `.lock` is no plain file of ours.
        """
        try:
            fd = self._open_plain(self._directory / ".lock", os.O_CREAT)
        except OSError as error:
            raise CannotWriteReports(f"{self._directory}/.lock: {error.strerror}") from error
        deadline = time.monotonic() + LOCK_SECONDS_MAX
        while not _locked(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                os.close(fd)
                raise InUse(f"{self._directory}: another daemon writes its reports there: stop it, or {_ELSEWHERE}")
            time.sleep(LOCK_AGAIN_SECONDS)
        for half in (*self._directory.glob(".*.jsonl.tmp"), *self._directory.glob(".run-*.open.tmp")):
            with contextlib.suppress(OSError):
                half.unlink()

    def path_of(self, summary: Summary) -> Path:
        kind = "crash" if summary.trigger == CRASH else "shutdown"
        return self._directory / f"{kind}-{compact(parse_rfc3339(summary.stopped_at))}-{summary.run_id}.jsonl"

    def of_run(self, run_id: str) -> Path | None:
        """The run's complete report."""
        named = (path for path in self._all() if path.stem.rpartition("-")[2] == run_id)
        return next((path for path in named if self._is_of_run(path, run_id)), None)

    def write(self, summary: Summary, lines: Iterable[Line]) -> str:
        """Returns the path. Raises OSError, and leaves no file then.

        Makes the directory where it was removed. It is not judged again: the file is ours alone wherever it stands,
        and the next start judges before it reads.
        """
        path = self.path_of(summary)
        self._make()
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)  # a start that was killed may have left half of this report
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(fd, "wb", buffering=WRITE_BYTES) as file:
                for line in encoded(summary, lines):
                    file.write(line)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        self._sync_directory()
        self._written.add(path)
        return str(path)

    def newest(self) -> Path | None:
        """The newest complete report, by the time in its name."""
        return max(self._all(), key=lambda path: path.name.partition("-")[2], default=None)

    # Taking reports up

    def unclaimed(self) -> list[Unclaimed]:
        """Those that list something undelivered, oldest first. Raises OSError."""
        claimed = self._claims()
        return self._unclaimed.among(path for path in self._all() if path.name not in claimed)

    def slices(self, path: str) -> Iterator[list[bytes]]:
        """The report's lines after its summary, some at a time. Raises OSError."""
        with open(self._open_plain(path), "rb") as file:
            file.readline()
            while lines := file.readlines(READ_BYTES):
                yield lines

    def claim(self, path: str, run_id: str) -> bool:
        """Notes that the run has what the report lists; False if that was noted before. Raises OSError."""
        try:
            os.close(os.open(f"{path}{CLAIM}{run_id}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        self._sync_directory()
        return True

    def claimed_by(self, path: str) -> str | None:
        """The run that took the report up first."""
        claims = self._claims().get(Path(path).name, [])
        first = min(claims, key=lambda claim: claim.lstat().st_mtime_ns, default=None)
        return None if first is None else first.name.partition(CLAIM)[2]

    # Runs before this one

    def past_runs(self) -> list[PastRun]:
        """Every run of which a report or a marker is there, in no order."""
        reported = [_past_run(summary) for summary in map(self._summary, self._all()) if summary is not None]
        run_ids = {run.run_id for run in reported}
        return reported + [_lost_run(marker) for marker in self.open_runs() if marker.run_id not in run_ids]

    def open_run(self, run: Run, at: float, counts: dict[str, object] | None = None) -> None:
        """Notes that the run has no report yet, and what it last counted. Raises OSError."""
        started_at = rfc3339(run.started_at)
        marker = Marker(run.run_id, run.version, run.host, run.pid, started_at, rfc3339(at), counts or {})
        path = self._marker_path(run.run_id)
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.unlink(missing_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(marker) + b"\n")
        os.rename(temporary, path)

    def close_run(self, run_id: str) -> None:
        """The run has its report. Raises OSError."""
        self._marker_path(run_id).unlink(missing_ok=True)

    def open_runs(self) -> list[Marker]:
        """The runs without a report, the running one too; oldest first. A file that is no marker is ignored."""
        found = []
        for path in self._directory.glob("run-*.open"):
            with contextlib.suppress(OSError, ValueError, RecursionError), open(self._open_plain(path), "rb") as file:
                marker = msgspec.json.decode(file.read(MARKER_BYTES_MAX), type=Marker)
                parse_rfc3339(marker.started_at), parse_rfc3339(marker.at)
                found.append(_with_bounded_counts(marker))
        return sorted(found, key=lambda marker: marker.started_at)

    def is_in_use(self) -> bool:
        """Whether a daemon runs that writes its reports here."""
        try:
            fd = self._open_plain(self._directory / ".lock")
        except OSError:
            return False
        try:
            return not _locked(fd, fcntl.LOCK_SH)
        finally:
            os.close(fd)

    def _marker_path(self, run_id: str) -> Path:
        return self._directory / f"run-{run_id}.open"

    def _all(self) -> list[Path]:
        named = (*self._directory.glob("shutdown-*.jsonl"), *self._directory.glob("crash-*.jsonl"))
        return [path for path in named if _is_plain(path)]

    def write_termination_log(self, path: str, text: str) -> None:
        """As much of the text as a container runtime keeps, whole lines. Raises OSError."""
        written = b""
        for line in text.encode().splitlines(keepends=True):
            if len(written) + len(line) > TERMINATION_LOG_BYTES_MAX:
                break
            written += line
        with open(path, "wb") as file:
            file.write(written)

    def prune(self, kept: int) -> Pruned:
        """Deletes all reports but the newest `kept`, with their claims; and likewise the markers. Raises OSError.

        What this process wrote stays: it may look oldest, where the clock was set back. Where the last run crashed, the
        newest reports stay too: the next start counts the crashes in a row (core/run_history.py).
        """
        reports = sorted(self._all(), key=lambda path: path.name.partition("-")[2], reverse=True)
        has_crashed = bool(reports) and reports[0].name.startswith("crash-")
        spared = self._written | set(reports[: CRASHES_IN_A_ROW * has_crashed])
        claims_of = self._claims()
        deleted = held = 0
        for path in (path for path in reports[kept:] if path not in spared):
            claims = claims_of.get(path.name, [])
            if not claims and self._is_owed(path):
                held += 1
                continue
            for each in (path, *claims):
                each.unlink(missing_ok=True)
            deleted += 1
        markers = self.open_runs()
        for marker in markers[: max(0, len(markers) - max(kept, CRASHES_IN_A_ROW))]:
            self.close_run(marker.run_id)
        return Pruned(deleted, held)

    def _claims(self) -> dict[str, list[Path]]:
        """By the name of the report."""
        found: dict[str, list[Path]] = {}
        for name in os.listdir(self._directory):
            report, separator, _ = name.partition(CLAIM)
            if separator:
                found.setdefault(report, []).append(self._directory / name)
        return found

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Whose they are

    def _judge(self) -> None:
        """Who may write here may have us send anything, signed. Raises CannotWriteReports.

        The folder that it stands in may be anybody's, such as a mounted claim of mode 777: who may write there can
        take this one away, and neither read it nor put a report of theirs in its place.
        """
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise CannotWriteReports(f"{self._directory} is a link; name the folder that it leads to")
        if found.st_uid not in (os.geteuid(), 0):
            raise CannotWriteReports(f"{self._directory} belongs to user {found.st_uid}, not to us")
        if others := _writable_by_others(found):
            raise CannotWriteReports(
                f"{self._directory} can be written by others ({others}): "
                f"chmod go-w {shlex.quote(str(self._directory))}, or name a folder in it "
                f"({self._directory}/hookd), which hookd makes for itself"
            )

    def _open_plain(self, path: str | Path, flags: int = 0) -> int:
        """For reading. Raises OSError at once for what is no plain file, is not ours, or may be somebody else's words.

        Whoever owns the directory may own it too: `hookd report` is run by others as well.
        """
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | flags, 0o600)
        found = os.fstat(fd)
        why = None
        if not stat.S_ISREG(found.st_mode):
            why = "it is no plain file"
        elif found.st_uid not in (os.geteuid(), 0, self._directory.stat().st_uid):
            why = f"it belongs to user {found.st_uid}, not to us"
        elif others := _writable_by_others(found):
            why = f"it can be written by others ({others})"
        if why is not None:
            os.close(fd)
            raise OSError(errno.EPERM, why, str(path))
        return fd

    def _is_owed(self, path: Path) -> bool:
        """Whether it lists something undelivered; one that cannot be read may."""
        summary = self._summary(path)
        return summary is None or bool(summary.deliveries.undelivered)

    def _is_of_run(self, path: Path, run_id: str) -> bool:
        summary = self._summary(path)
        return summary is not None and summary.run_id == run_id

    def _summary(self, path: Path) -> Summary | None:
        """None where it cannot be read."""
        try:
            with open(self._open_plain(path), "rb") as file:
                summary = msgspec.json.decode(file.readline(SUMMARY_BYTES_MAX), type=Summary)
            parse_rfc3339(summary.started_at), parse_rfc3339(summary.stopped_at)
        except (OSError, ValueError, RecursionError):
            return None
        return summary


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # it has gone meanwhile
        return False


def _writable_by_others(found: os.stat_result) -> str:
    """The mode, where others than the owner may write; else empty."""
    return f"mode {stat.S_IMODE(found.st_mode):o}" if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else ""


def _past_run(summary: Summary) -> PastRun:
    times = parse_rfc3339(summary.started_at), parse_rfc3339(summary.stopped_at)
    return PastRun(summary.run_id, *times, summary.trigger == CRASH, summary.deliveries.undelivered)


def _lost_run(marker: Marker) -> PastRun:
    """What it left is not known."""
    return PastRun(marker.run_id, parse_rfc3339(marker.started_at), parse_rfc3339(marker.at), True, None)


def _with_bounded_counts(marker: Marker) -> Marker:
    """They go to the log and to a terminal. A number of 4,300 digits there costs the counts, not the run."""
    try:
        msgspec.convert(marker.counts, type=dict[str, ReadNumber | float | dict[str, ReadNumber]])
    except msgspec.ValidationError:
        return msgspec.structs.replace(marker, counts={})
    return marker


def _locked(fd: int, operation: int) -> bool:
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
